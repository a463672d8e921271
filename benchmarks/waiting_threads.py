"""Measure what OpenMP's threads cost while they wait: a training step of one process alone, and of two at once.

    python benchmarks/waiting_threads.py

Between two parallel regions OpenMP's threads spin for a while before they sleep. Two processes that each start as many
threads as there are processors then take the processors from each other's working threads. `GOMP_SPINCOUNT` makes
libgomp's threads, which torch uses, sleep sooner (300,000 turns are its default), `OMP_WAIT_POLICY=passive` at once.
The ways are measured in turns, alone and with two processes at once, which start their steps together; what counts is
the median of the rounds, and the least, which other load disturbs less.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
POLICIES = {
    "default": {},
    "GOMP_SPINCOUNT=3000": {"GOMP_SPINCOUNT": "3000"},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
}
ROWS, LENGTH = 8, 46


def train(seconds: float) -> None:
    """Take steps of a small ERNIE-M for some seconds once a line comes in; print the median milliseconds of one."""
    import torch

    from ernie_m import ErnieMConfig, ErnieMModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1536}
    network = ErnieMModel(ErnieMConfig(vocab_size=10_000, **sizes)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(5, 10_000, (ROWS, LENGTH))

    def step() -> float:
        started = time.perf_counter()
        network(input_ids=ids).last_hidden_state.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        return 1e3 * (time.perf_counter() - started)

    for _ in range(3):
        step()
    print("ready", flush=True)
    sys.stdin.readline()
    ends = time.perf_counter() + seconds
    times = []
    while time.perf_counter() < ends:
        times.append(step())
    print(statistics.median(times), flush=True)


def together(count: int, environment: dict[str, str], seconds: float) -> float:
    """Median milliseconds of a step, mean of some processes that take steps at once."""
    command = [sys.executable, __file__, "--train", "--seconds", str(seconds)]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    children = [
        subprocess.Popen(
            command, env=kept | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
        )
        for _ in range(count)
    ]
    for child in children:
        child.stdout.readline()
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    return statistics.mean([float(child.communicate()[0]) for child in children])


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Time steps under every policy, in one process and in two at once; return medians and least, in milliseconds."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for name, environment in POLICIES.items():
            for count in (1, 2):
                which = f"{count} process{'es at once' if count > 1 else ''}"
                found.setdefault(which, {}).setdefault(name, []).append(together(count, environment, seconds))
    return {
        which: {
            name: {"median": round(statistics.median(times), 1), "least": round(min(times), 1)}
            for name, times in ways.items()
        }
        for which, ways in found.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of steps in every measurement")
    parser.add_argument("--train", action="store_true", help="what is measured")
    options = parser.parse_args()
    if options.train:
        train(options.seconds)
    else:
        result = {
            "milliseconds_of_a_step": measure(options.rounds, options.seconds),
            "rounds": options.rounds,
            "processors": os.cpu_count(),
        }
        (HERE / "results" / "waiting_threads.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(result, indent=1))
