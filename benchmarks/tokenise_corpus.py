"""Measure how long a data module takes to read, tokenise and cache 200,000 real pairs; project it to XNLI's 15 sets.

    python benchmarks/tokenise_corpus.py --shared ../shared

The pairs are all that there are of XNLI in the folder, one language after the other, shuffled within each file and
again from the beginning until there are enough: equal texts are far apart, so that none is tokenised only once for it.
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
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from datamodules import TextClassification  # noqa: E402
from datamodules.xnli import LABELS  # noqa: E402

# 15 languages of 392,702 pairs.
WHOLE = 15 * 392_702


def main() -> None:
    """Tokenise and cache the pairs, and write what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with tokenizer/ and data/hub/")
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "tokenise_corpus.json")
    args = parser.parse_args()
    load = round(os.getloadavg()[0], 2)
    files = sorted((args.shared / "data/hub/facebook/xnli").glob("*/*.parquet"))
    shuffle = np.random.default_rng(0).permutation
    parts = [pq.read_table(file) for file in files]
    table = pa.concat_tables([part.take(shuffle(part.num_rows)) for part in parts], promote_options="permissive")
    distinct = table.num_rows
    table = pa.concat_tables([table] * (-(-args.pairs // distinct))).slice(0, args.pairs)
    found = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "pairs.parquet")
            pq.write_table(table, path)
            data = TextClassification(
                str(args.shared / "tokenizer"),
                {"en": path},
                {"en": path},
                label_names=list(LABELS),
                cache_dir=str(Path(folder) / "cache"),
            )
            # Loading the tokenizer takes seconds however much there is to tokenise.
            assert data.tokenizer is not None
            started = time.perf_counter()
            data.prepare_data()
            found.append(time.perf_counter() - started)
    seconds = statistics.median(found)
    result = {
        "command": f"python benchmarks/tokenise_corpus.py {' '.join(sys.argv[1:])}",
        "pairs": args.pairs,
        "distinct_pairs": min(distinct, args.pairs),
        "seconds": [round(one, 2) for one in found],
        "median_pairs_per_second": round(args.pairs / seconds),
        "projected_seconds_for_5890530_pairs": round(WHOLE * seconds / args.pairs),
        "processors": os.cpu_count(),
        "load_average_before": load,
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
