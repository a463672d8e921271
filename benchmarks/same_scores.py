"""Train a small network on XNLI with every switch for speed on, and with all of them off, over several seeds.

    python benchmarks/same_scores.py --shared ../shared

Each pair of runs has one seed, the same data and the same network (random weights, dropout 0.1); the switches are
those of `our_side.py`. What is compared is the accuracy on the English development pairs. By chance alone an accuracy
on 2,490 pairs has a standard error of about 1 point.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from our_side import SWITCHES, Pairs, Task, ids_in_use, use_fast_dropout

from datamodules.xnli import LABELS

HERE = Path(__file__).resolve().parent
SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}


def train(shared: Path, seed: int, on: bool, steps: int, folder: str) -> dict[str, Any]:
    """One training; the accuracy on the development pairs in percent and the seconds of its steps."""
    seed_everything(seed, verbose=False)
    use_fast_dropout(on)
    Pairs.like_length = Task.fused = on
    xnli, tokenizer = shared / "data/hub/facebook/xnli", str(shared / "tokenizer")
    data = Pairs(
        tokenizer,
        train_files={"en": str(xnli / "en/train-00000-of-00001.parquet")},
        validation_files={"en": str(xnli / "en/validation-00000-of-00001.parquet")},
        label_names=list(LABELS),
        global_batch_size=32,
        micro_batch_tokens=1024 if on else None,
        max_length=128,
        seed=seed,
        cache_dir=folder,
    )
    module = Task(
        tokenizer,
        list(LABELS),
        from_scratch=SIZES,
        learning_rate=1e-3,
        layer_decay=1.0,
        active_vocabulary=on,
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    started = time.perf_counter()
    trainer.fit(module, datamodule=data)
    seconds = time.perf_counter() - started
    trainer.limit_val_batches = 1.0
    accuracy = trainer.validate(module, datamodule=data, verbose=False)[0]["val/en/accuracy"]
    return {"accuracy": round(100 * accuracy, 2), "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with tokenizer/ and data/hub/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "same_scores.json")
    args = parser.parse_args()
    shared = args.shared.resolve()
    Pairs.ids = ids_in_use(shared / "data/hub/facebook/xnli", shared / "tokenizer", "en")
    runs: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds:
            runs[seed] = {name: train(shared, seed, name == "on", args.steps, folder) for name in ("on", "off")}
            print(seed, runs[seed], flush=True)
    values = {name: [run[name]["accuracy"] for run in runs.values()] for name in ("on", "off")}
    result = {
        "command": f"python benchmarks/same_scores.py {' '.join(sys.argv[1:])}",
        "switches": [name for name in SWITCHES if name != "kept_memory"],
        "runs_by_seed": runs,
        "mean_accuracy": {name: round(statistics.mean(found), 2) for name, found in values.items()},
        "standard_deviation": {
            name: round(statistics.stdev(found), 2) for name, found in values.items() if len(found) > 1
        },
        "processors": os.cpu_count(),
        "torch": torch.__version__,
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
