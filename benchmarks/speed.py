"""Measure training and evaluation of ERNIE-M base on XNLI against transformers 4.57's under its Trainer.

    python benchmarks/speed.py --peer-python PEER/bin/python --shared ../shared

PEER is an environment with transformers 4.57, accelerate, torch, sentencepiece and pyarrow. In every round our side
(`our_side.py`), the peer's own script, and our side again are measured one after the other, on the same pairs, the
machine's matrix product between our steps; what counts is the median over the rounds. Padding counts neither as tokens
nor as operations. With --ablation every switch of ours is turned off alone: a process with all of them on and one
without it take their steps in turns.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
PEER, PEER_DEFAULT, OURS, OURS_AGAIN = "peer", "peer in float32", "ours", "ours again"
TURN = "turn"
ON, OFF = "on", "off"


def matrix_product_limit(precision: str, seconds: float = 1.0) -> float:
    """Operations per second, in 10^9, of the largest product of a layer for a batch of XNLI's mean length."""
    dtype = torch.bfloat16 if precision.startswith("bf16") else torch.float32
    left, right = torch.randn(1472, 768, dtype=dtype), torch.randn(768, 3072, dtype=dtype)
    out = torch.mm(left, right)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        torch.mm(left, right, out=out)
        count += 1
    return 2 * 1472 * 768 * 3072 * count / (time.perf_counter() - started) / 1e9


def note_limit(limits: list[float], precision: str) -> None:
    limits.append(matrix_product_limit(precision))


def last_line(command: list[Any]) -> dict[str, Any]:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=HERE)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def in_turns(commands: list[list[Any]], between: Callable[[], None] = lambda: None) -> list[dict[str, Any]]:
    """Run processes of `our_side.py` step by step, one step of each after the other, and return their results.

    A machine whose speed changes from one second to the next changes it for all of them alike.
    """
    with tempfile.TemporaryFile("w+") as errors:
        processes = [
            subprocess.Popen(
                [*map(str, command), "--in-turns"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=HERE,
            )
            for command in commands
        ]
        said = [line_of(process, errors) for process in processes]
        while TURN in said:
            for number, process in enumerate(processes):
                if said[number] == TURN:
                    between()
                    print("go", file=process.stdin, flush=True)
                    said[number] = line_of(process, errors)
        return [json.loads(line) for line in said]


def line_of(process: Any, errors: Any) -> str:
    for line in process.stdout:
        if line.startswith((TURN, "{")):
            return str(line.strip())
    errors.seek(0)
    sys.exit(errors.read()[-3000:])


def median(rounds: list[dict[str, Any]], name: str, value: str) -> float:
    return statistics.median(one[name][value] for one in rounds)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """What every round found, by kind of work: side to values; under "ablation" switch to on and off to values."""
    ours = [sys.executable, HERE / "our_side.py"]
    is_half = args.precision.startswith("bf16")
    peer_options = ["--cpu", "--bf16"] if is_half else ["--cpu"]
    our_options = ["--precision", args.precision]
    our_options += ["--xnli", args.shared / "data/hub/facebook/xnli", "--tokenizer", args.shared / "tokenizer"]
    peer = [args.peer_python, args.shared / "peers" / "hf_trainer.py"]
    found: dict[str, Any] = {}
    for mode, batches in (("train", args.train_batches), ("evaluate", args.evaluate_batches)):
        found[mode] = []
        for number in range(args.rounds):
            limits: list[float] = []
            command = [*ours, mode, "--batches", batches, *our_options]
            one: dict[str, Any] = {}
            for side in (OURS, PEER, OURS_AGAIN):
                if side == PEER:
                    one[side] = last_line([*peer, mode, "--batches", batches, *peer_options])
                else:
                    (one[side],) = in_turns([command], partial(note_limit, limits, args.precision))
            if is_half:
                one[PEER_DEFAULT] = last_line([*peer, mode, "--batches", batches, "--cpu"])
            for value in ("examples_per_second", "tokens_per_second", "gflops"):
                one[OURS][value] = statistics.harmonic_mean([one[side][value] for side in (OURS, OURS_AGAIN)])
            one["limit"] = {"gflops": statistics.mean(limits), "each": [round(limit, 1) for limit in limits]}
            one["share"] = {"of_limit": one[OURS]["gflops"] / one["limit"]["gflops"]}
            found[mode].append(one)
            print(mode, "round", number + 1, one, flush=True)
    found["ablation"] = []
    for number in range(args.ablation):
        one = {}
        for switch in SWITCHES:
            command = [*ours, "train", "--batches", args.train_batches, *our_options]
            one[switch] = dict(zip((ON, OFF), in_turns([command, [*command, "--without", switch]]), strict=True))
        found["ablation"].append(one)
        print("ablation round", number + 1, one, flush=True)
    return found


SWITCHES = ("active_vocabulary", "like_length", "first_token", "fast_dropout", "fused", "kept_memory", "split_batches")


def report(found: dict[str, Any], precision: str, machine: str) -> str:
    """The tables of what `measure` returned, in Markdown."""
    lines = ["# Training and evaluation", "", f"`python benchmarks/speed.py {' '.join(sys.argv[1:])}`", ""]
    lines += [
        f"ERNIE-M base, XNLI, precision {precision}, medians over the rounds; padding counts neither as tokens nor as "
        "operations. Operations are the architecture's, as model FLOP/s are counted: all of the last layer, of which "
        "we compute the first token alone.",
        "",
    ]
    lines += [
        "| work | side | examples/s | tokens/s | peak memory, MiB | times the peer | share of the product limit |"
    ]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    for mode in ("train", "evaluate"):
        rounds = found[mode]
        for side in (side for side in (PEER, PEER_DEFAULT, OURS) if side in rounds[0]):
            values = [
                median(rounds, side, name) for name in ("examples_per_second", "tokens_per_second", "peak_rss_mib")
            ]
            share = f"{median(rounds, 'share', 'of_limit'):.0%}" if side == OURS else ""
            times = statistics.median(one[side]["tokens_per_second"] / one[PEER]["tokens_per_second"] for one in rounds)
            lines += [
                f"| {mode} | {side} | {values[0]:.2f} | {values[1]:.0f} | {values[2]:,.0f} | {times:.2f} | {share} |"
            ]
    memory = median(found["train"], OURS, "peak_rss_mib") / median(found["train"], PEER, "peak_rss_mib")
    first = found["train"][0][OURS]
    lines += ["", f"- Peak memory of training: {memory:.2f} of the peer's."]
    lines += [
        f"- {first['examples']} pairs; {first['embedding_rows']:,} of 250,002 embedding rows in use; "
        f"padding {first['padding']:.1%}."
    ]
    if found["ablation"]:
        lines += [
            "",
            "Training with each switch off alone, step by step in turns with a run with all of them on (medians):",
            "",
            "| switch | examples/s on | off | times faster | peak memory on, MiB | off | padding on | off |",
        ]
        lines += ["| --- " + "| ---: " * 7 + "|"]
        for switch in SWITCHES:
            pairs = [one[switch] for one in found["ablation"]]
            speed, memory, padding = (
                [median(pairs, side, name) for side in (ON, OFF)]
                for name in ("examples_per_second", "peak_rss_mib", "padding")
            )
            faster = statistics.median(
                pair[ON]["examples_per_second"] / pair[OFF]["examples_per_second"] for pair in pairs
            )
            lines += [
                f"| {switch} | {speed[0]:.2f} | {speed[1]:.2f} | {faster:.2f} | {memory[0]:,.0f} | {memory[1]:,.0f} "
                f"| {padding[0]:.1%} | {padding[1]:.1%} |"
            ]
    return "\n".join([*lines, "", f"Machine: {machine}."]) + "\n"


def main() -> None:
    """Measure both sides in rounds, and write every round and the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--shared", type=Path, required=True, help="folder with peers/, tokenizer/ and data/hub/")
    parser.add_argument("--train-batches", type=int, default=12)
    parser.add_argument("--evaluate-batches", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ablation", type=int, default=0, help="rounds of the ablation")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "speed")
    args = parser.parse_args()
    args.shared = args.shared.resolve()
    names = ("torch", "transformers", "lightning")
    machine = ", ".join(
        [
            f"{os.cpu_count()} processors, {platform.processor() or platform.machine()}",
            f"python {platform.python_version()}",
        ]
        + [f"{name} {version(name)}" for name in names]
        + [f"load average before {os.getloadavg()[0]:.2f}"]
    )
    found = measure(args)
    args.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = report(found, args.precision, machine)
    args.output.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
