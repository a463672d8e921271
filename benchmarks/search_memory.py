"""Extra memory and time of the exact search for nearest neighbours, with faiss and without it.

Searches 100,000 sentence vectors of width 1,024 among as many others, each way in a process of its own, and reads from
the kernel how far the process's resident memory rose above what the vectors themselves take:

    python benchmarks/search_memory.py --output benchmarks/results/search_memory.json
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

LIMIT = 2e9
SENTENCES, WIDTH, SAMPLE = 100_000, 1024, 200


def resident(entry: str) -> int:
    """Return this process's resident bytes: now (`VmRSS`) or at most so far (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))


def search(way: str) -> dict[str, object]:
    """Search once; return the extra memory, the seconds and how many of some answers equal brute force in float64."""
    import torch

    from lightning_modules import neighbours

    if way == "blocks":
        neighbours._WORTH_AN_INDEX = math.inf
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(SENTENCES, WIDTH, generator=generator)
    candidates = torch.randn(SENTENCES, WIDTH, generator=generator)
    neighbours.nearest_neighbours(queries[:5000], candidates[:5000])
    # Sets the high-water mark back to what is resident now.
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before, start = resident("VmRSS"), time.perf_counter()
    found = neighbours.nearest_neighbours(queries, candidates)
    seconds, extra = time.perf_counter() - start, resident("VmHWM") - before
    unit = torch.nn.functional.normalize(candidates.double())
    exact = (torch.nn.functional.normalize(queries[:SAMPLE].double()) @ unit.T).argmax(dim=1)
    return {
        "way": way,
        "vectors_bytes": 2 * SENTENCES * WIDTH * 4,
        "extra_bytes": extra,
        "seconds": round(seconds, 1),
        "equal_to_float64": f"{int((found.index[:SAMPLE] == exact).sum())} of {SAMPLE}",
    }


def main() -> None:
    """Search both ways and print what each took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--way", choices=("blocks", "faiss"), help="only search this way and print the figures as JSON")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(search(options.way)))
        return
    rows = []
    for way in ("blocks", "faiss"):
        command = [sys.executable, __file__, "--way", way]
        rows.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
        row = rows[-1]
        print(
            f"{way:6}  vectors {row['vectors_bytes'] / 1e9:.2f} GB  extra {row['extra_bytes'] / 1e9:.2f} GB  "
            f"{row['seconds']:.0f} s  as in float64: {row['equal_to_float64']}",
            flush=True,
        )
    report = {
        "command": "python benchmarks/search_memory.py",
        "sentences": SENTENCES,
        "width": WIDTH,
        "limit_bytes": LIMIT,
        "searches": rows,
        "versions": {name: version(name) for name in ("torch", "faiss-cpu", "numpy")},
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
