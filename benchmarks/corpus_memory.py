"""Memory that preparing a corpus of text takes, and drawing batches from it, by the size of the corpus.

    python benchmarks/corpus_memory.py [--megabytes 50 200 800] --output benchmarks/results/corpus_memory.json

The text is the bundled sample's English side with a number before each line, in one file. A process of its own reads,
tokenises and packs it, and draws 200 batches; meanwhile its anonymous memory (`RssAnon`) is looked at ten times a
second: pages of the corpus and of the rows on disk, which the system takes back when it needs them, are no part of it.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BATCHES = 200


def write_corpus(path: Path, megabytes: int) -> None:
    """Write a file of at least so many megabytes, no two lines of it the same."""
    sample = ROOT / "datamodules" / "samples" / "parallel" / "train" / "en-de.tsv.gz"
    with gzip.open(sample, "rt", encoding="utf-8") as source:
        lines = [line.partition("\t")[0] for line in source]
    with path.open("w", encoding="utf-8") as file:
        for number, line in enumerate(cycle(lines)):
            file.write(f"{number} {line}\n")
            if number % 10_000 == 0 and file.tell() >= megabytes * 1_000_000:
                return


def use(path: Path, cache: Path) -> None:
    """Prepare the corpus and draw batches; print rows and seconds."""
    from datamodules import Multilingual

    started = time.perf_counter()
    tokenizer = str(ROOT / "datamodules" / "samples" / "tokenizer")
    data = Multilingual(tokenizer, train_files={"en": str(path)}, max_length=256, cache_dir=str(cache))
    data.load("train", download=False)
    prepared = time.perf_counter()
    batches = sum(len(step) for step in islice(data.train_dataloader(), BATCHES))
    rows = len(data.row_set("train", ["en"]))
    seconds = {"prepare": round(prepared - started, 1), "draw": round(time.perf_counter() - prepared, 1)}
    print(json.dumps({"rows": rows, "batches": batches, "seconds": seconds}))


def anonymous(pid: int) -> int:
    """Bytes of a process's memory that no file is behind."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def measured(megabytes: int) -> dict[str, Any]:
    """Prepare a corpus in a process of its own, and watch its memory."""
    with tempfile.TemporaryDirectory() as folder:
        path, cache = Path(folder) / "corpus.txt", Path(folder) / "cache"
        write_corpus(path, megabytes)
        command = [sys.executable, __file__, "--use", str(path), str(cache)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak = 0
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(0.1)
        if process.returncode:
            raise SystemExit(process.returncode)
        assert process.stdout is not None
        kept = sum(file.stat().st_size for file in cache.rglob("*.arrow"))
        return {
            "corpus_bytes": path.stat().st_size,
            "kept_bytes": kept,
            "peak_anonymous_bytes": peak,
            **json.loads(process.stdout.read().splitlines()[-1]),
        }


def main() -> None:
    """Measure each size and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[50, 200, 800])
    parser.add_argument("--output", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--use", type=Path, nargs=2, metavar=("CORPUS", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.use:
        use(*options.use)
        return
    rows = []
    for megabytes in options.megabytes:
        rows.append(measured(megabytes))
        row = rows[-1]
        print(
            f"corpus {row['corpus_bytes'] / 1e6:6.0f} MB  rows {row['rows']:9,}  "
            f"peak {row['peak_anonymous_bytes'] / 1e6:6.0f} MB  {row['seconds']}",
            flush=True,
        )
    first, last = rows[0], rows[-1]
    more = last["peak_anonymous_bytes"] - first["peak_anonymous_bytes"]
    print(f"{more / max(1, last['rows'] - first['rows']):.0f} bytes for each further row")
    if options.output:
        report = {"command": "python benchmarks/corpus_memory.py", "sizes": rows}
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
