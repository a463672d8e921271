"""Measure the tokenizer against transformers 4.57's and against sentencepiece alone, on XNLI's 15 validation sets.

    python benchmarks/tokenizer.py --peer-python PEER/bin/python

PEER is an environment with transformers 4.57, torch, sentencepiece and pyarrow. The measurements take turns, so that
whatever else the machine does hits all alike; of the rounds the best counts. The peer is measured by its own script, on
every 15th pair, one call a pair as its class works; ours and sentencepiece on all pairs, and on those where no text
comes twice, since our tokenizer segments equal texts once and a premise of XNLI stands in three pairs.
"""

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet
import sentencepiece

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ernie_m import ErnieMTokenizer  # noqa: E402

Pairs = tuple[list[str], list[str]]

PEER = "transformers 4.57, one call a pair"
SAME = "ours, the peer's pairs in one call"
SINGLE = "ours, the peer's pairs, one call a pair"
OURS = "ours, all pairs in one call"
ALONE = "sentencepiece alone, all pairs"
ALONE_OFF = "sentencepiece alone, all pairs, collector off"
OURS_DISTINCT = "ours, pairs without a text twice"
ALONE_DISTINCT = "sentencepiece alone, pairs without a text twice"


def read_pairs(folder: Path) -> Pairs:
    premises: list[str] = []
    hypotheses: list[str] = []
    files = sorted(folder.glob("*/validation-*.parquet"))
    if len(files) != 15:
        sys.exit(f"{folder} holds {len(files)} validation sets, not 15.")
    for file in files:
        table = pyarrow.parquet.read_table(file, columns=["premise", "hypothesis"]).to_pydict()
        premises += table["premise"]
        hypotheses += table["hypothesis"]
    return premises, hypotheses


def distinct(pairs: Pairs) -> Pairs:
    seen: set[str] = set()
    kept: Pairs = ([], [])
    for premise, hypothesis in zip(*pairs, strict=True):
        if premise != hypothesis and not {premise, hypothesis} & seen:
            seen |= {premise, hypothesis}
            kept[0].append(premise)
            kept[1].append(hypothesis)
    return kept


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    result = work()
    taken = time.perf_counter() - start
    del result
    return taken


def peer_rate(python: str, script: Path) -> float:
    """Return pairs per second as the peer's script measures them."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [python, str(script), "tokenize"], check=True, capture_output=True, text=True, env=environment
    )
    return float(json.loads(done.stdout.splitlines()[-1])["examples_per_second"])


def measure(args: argparse.Namespace) -> dict[str, list[float]]:
    """Return pairs per second of every round."""
    tokenizer = ErnieMTokenizer(
        args.tokenizer / "sentencepiece.bpe.model", args.tokenizer / "vocab.txt", num_threads=args.threads
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(args.tokenizer / "sentencepiece.bpe.model"))
    pairs = read_pairs(args.xnli)
    peers = (pairs[0][::15], pairs[1][::15])
    single = distinct(pairs)
    options = {"truncation": "only_first", "max_length": 256, "return_attention_mask": False}

    def ours(some: Pairs) -> object:
        return tokenizer(*some, **options)["input_ids"]

    def ours_singly(some: Pairs) -> object:
        return [tokenizer(a, b, **options)["input_ids"] for a, b in zip(*some, strict=True)]

    def alone(some: Pairs) -> object:
        return [model.encode(side, out_type=int, num_threads=args.threads) for side in some]

    def alone_off(some: Pairs) -> object:
        gc.disable()
        try:
            return alone(some)
        finally:
            gc.enable()

    ours(single)  # builds the table of pieces, once a process
    work: dict[str, tuple[Callable[[Pairs], object], Pairs]] = {
        ALONE: (alone, pairs),
        OURS: (ours, pairs),
        ALONE_OFF: (alone_off, pairs),
        ALONE_DISTINCT: (alone, single),
        OURS_DISTINCT: (ours, single),
        SAME: (ours, peers),
        SINGLE: (ours_singly, peers),
    }
    rates: dict[str, list[float]] = {name: [] for name in (PEER, *work)}
    for number in range(args.rounds):
        rates[PEER].append(peer_rate(args.peer_python, args.peer_script))
        for name, (task, some) in work.items():
            rates[name].append(len(some[0]) / seconds(lambda task=task, some=some: task(some)))  # type: ignore[misc]
        print(f"round {number + 1} of {args.rounds}", {name: round(rate[-1]) for name, rate in rates.items()})
    return rates


def machine(args: argparse.Namespace) -> dict[str, object]:
    """Return what the figures depend on: processor, threads, versions, load."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    asked = "import transformers, sentencepiece as s; print(transformers.__version__, s.__version__)"
    peer = subprocess.run([args.peer_python, "-c", asked], check=True, capture_output=True, text=True).stdout.split()
    return {
        "processor": model,
        "processors": os.cpu_count(),
        "threads": args.threads,
        "python": platform.python_version(),
        "transformers": version("transformers"),
        "sentencepiece": sentencepiece.__version__,
        "numpy": version("numpy"),
        "peer_transformers": peer[0],
        "peer_sentencepiece": peer[1],
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def report(rates: dict[str, list[float]], about: dict[str, object], rounds: int) -> str:
    """Return the best rate of each measurement as a Markdown table."""
    best = {name: max(rate) for name, rate in rates.items()}
    rows = [f"| {name} | {best[name]:,.0f} | {best[name] / best[PEER]:.1f} |" for name in best]
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items())
    return "\n".join(
        [
            "# Tokenizer",
            "",
            "`python benchmarks/tokenizer.py --peer-python PEER/bin/python`: pairs of XNLI's 15 validation sets per",
            f"second, the best of {rounds} rounds in which the measurements took turns.",
            "",
            "| what | pairs per second | times the peer |",
            "| --- | --- | --- |",
            *rows,
            "",
            f"- {best[OURS] / best[PEER]:.1f} times transformers 4.57's tokenizer on all pairs, "
            f"{best[OURS_DISTINCT] / best[PEER]:.1f} times where no text comes twice.",
            f"- {best[OURS] / best[ALONE]:.0%} of the speed of sentencepiece alone on all pairs (its result is a list "
            "of pieces for each text; ours has the rule applied, special tokens, truncation and pairs), "
            f"{best[OURS] / best[ALONE_OFF]:.0%} of it with the garbage collector off there too, "
            f"{best[OURS_DISTINCT] / best[ALONE_DISTINCT]:.0%} where no text comes twice.",
            "",
            f"Machine: {facts}.",
            "",
        ]
    )


def main() -> None:
    """Measure in turn, and write the table and the rate of every round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = ROOT.parent / "shared"
    parser.add_argument("--peer-python", required=True, help="Python of an environment with transformers 4.57")
    parser.add_argument("--peer-script", type=Path, default=shared / "peers" / "hf_trainer.py")
    parser.add_argument("--xnli", type=Path, default=shared / "data" / "hub" / "facebook" / "xnli")
    parser.add_argument("--tokenizer", type=Path, default=shared / "tokenizer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "tokenizer")
    args = parser.parse_args()

    about = machine(args)
    rates = measure(args)
    text = report(rates, about, args.rounds)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.with_suffix(".md").write_text(text, encoding="utf-8")
    rounded = {name: [round(rate, 1) for rate in rate_of_rounds] for name, rate_of_rounds in rates.items()}
    results = {"machine": about, "pairs_per_second": rounded}
    args.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
