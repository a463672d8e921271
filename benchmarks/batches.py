"""Measure what batches of like length save in padding, and how fast a data module prepares batches, on real pairs.

    python benchmarks/batches.py --shared ../shared

The pairs are XNLI's English training pairs in the folder, in batches of 32 as `xnli/transfer_base` has them. A loader
that is slower than the device starves it: 393,000 pairs, 5 times in 8 minutes, are 4,100 examples a second.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from our_side import padding_share

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from datamodules import XNLI  # noqa: E402

EPOCHS = 3


def examples_per_second(data: XNLI, workers: int) -> float:
    """Over the second half of an epoch: starting the workers takes seconds, once an epoch."""
    data.num_workers = workers
    loader = data.train_dataloader()
    count, started = 0, 0.0
    for number, step in enumerate(loader):
        if number == len(loader) // 2:
            started = time.perf_counter()
        elif started:
            count += sum(len(micro["example_ids"]) for micro in step)
    return count / (time.perf_counter() - started)


def main() -> None:
    """Measure padding and the making of batches, and write both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with tokenizer/ and data/hub/")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "batches.json")
    args = parser.parse_args()
    load = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as folder:
        data = XNLI(
            str(args.shared / "tokenizer"),
            path=str(args.shared / "data/hub/facebook/xnli"),
            validation_languages=["en"],
            micro_batch_tokens=4096,
            cache_dir=folder,
        )
        data.prepare_data()
        sampler = data.train_dataloader().plan
        lengths, batches = sampler.lengths, len(sampler)
        shuffled = [
            np.array_split(np.random.default_rng(epoch).permutation(len(lengths)), batches) for epoch in range(EPOCHS)
        ]
        planned = [sampler.global_batches(epoch) for epoch in range(EPOCHS)]
        split = [[micro.indices for batch in epoch for micro in sampler.share(batch)] for epoch in planned]
        padding = {
            "shuffled": [padding_share(epoch, lengths) for epoch in shuffled],
            "like_length": [padding_share(epoch, lengths) for epoch in planned],
            "like_length_and_micro_batches_of_4096_tokens": [padding_share(epoch, lengths) for epoch in split],
        }
        speed = {workers: [examples_per_second(data, workers) for _ in range(3)] for workers in (0, 2)}
    result = {
        "command": f"python benchmarks/batches.py {' '.join(sys.argv[1:])}",
        "pairs": len(lengths),
        "mean_tokens": round(float(lengths.mean()), 1),
        "padding_at_batch_32": {name: [round(value, 4) for value in found] for name, found in padding.items()},
        "examples_per_second_by_workers": {
            workers: round(statistics.median(found)) for workers, found in speed.items()
        },
        "processors": os.cpu_count(),
        "load_average_before": load,
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
