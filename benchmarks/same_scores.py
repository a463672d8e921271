"""Train a small network on real text with every switch for speed on, and with all of them off, over several seeds.

    python benchmarks/same_scores.py --shared ../shared

The task is to tell the language of a sentence, the hypotheses of XNLI's 15 validation sets. Each pair of runs has one
seed, the same data and the same network (random weights, dropout 0.1); the switches are those of `our_side.py`.
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

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning.pytorch import Trainer, seed_everything
from our_side import SWITCHES, Pairs, Task, use_fast_dropout, use_first_token

from datamodules import TaskDataModule

HERE = Path(__file__).resolve().parent
SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}


def write_texts(xnli: Path, folder: Path) -> dict[str, str]:
    """Write the sentences to train on and those to validate on, 1,660 and 330 of each language."""
    parts: dict[str, list[pa.Table]] = {"train": [], "validation": []}
    for file in sorted(xnli.glob("*/validation-*.parquet")):
        texts = pq.read_table(file, columns=["hypothesis"]).rename_columns(["text"])
        labelled = texts.append_column("label", pa.array([file.parent.name] * len(texts)))
        parts["train"].append(labelled.slice(0, 1660))
        parts["validation"].append(labelled.slice(len(texts) - 330))
    files = {}
    for split, tables in parts.items():
        files[split] = str(folder / f"{split}.parquet")
        pq.write_table(pa.concat_tables(tables), files[split])
    return files


def train(tokenizer: str, files: dict[str, str], seed: int, on: bool, steps: int, folder: str) -> dict[str, Any]:
    """One training; the accuracy on the development sentences in percent, and the seconds of its steps."""
    seed_everything(seed, verbose=False)
    use_fast_dropout(on)
    use_first_token(on)
    Pairs.like_length = Task.fused = on
    data = Pairs(
        tokenizer,
        train_files={"all": files["train"]},
        validation_files={"all": files["validation"]},
        first_column="text",
        second_column=None,
        global_batch_size=32,
        micro_batch_tokens=512 if on else None,
        max_length=128,
        seed=seed,
        cache_dir=folder,
    )
    data.prepare_data()
    data.setup("fit")
    Pairs.ids = TaskDataModule.token_ids(data)
    module = Task(
        tokenizer,
        label_names=data.label_names,
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
    accuracy = trainer.validate(module, datamodule=data, verbose=False)[0]["val/all/accuracy"]
    return {"accuracy": round(100 * accuracy, 2), "seconds": round(seconds, 1)}


def main() -> None:
    """Train with all switches on and off, once a seed, and write the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with tokenizer/ and data/hub/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "same_scores.json")
    args = parser.parse_args()
    shared = args.shared.resolve()
    runs: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = write_texts(shared / "data/hub/facebook/xnli", Path(folder))
        for seed in args.seeds:
            runs[seed] = {
                name: train(str(shared / "tokenizer"), files, seed, name == "on", args.steps, folder)
                for name in ("on", "off")
            }
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
