"""Our side of `speed.py`: what the peer's script does, by the classes that the recipes name; prints one JSON line.

    python benchmarks/our_side.py train --batches 8 --without active_vocabulary
    python benchmarks/our_side.py evaluate --batches 78

It runs on the CPU. The pairs are those of the peer's script: the first of XNLI's English training set, or every 15th
of the 15 validation sets. With `active_vocabulary` the embedding rows are those that `xnli/transfer_base` has on these
data (the whole English training and validation sets; with `--all-languages` all 15 validation sets), not those of the
few pairs timed. Without `first_token` the last layer computes all tokens; without `fast_dropout` torch's own draws the
numbers, for the attention as well, which stays materialised as in SDPA.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning.pytorch import Callback, Trainer
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import ernie_m  # noqa: E402
import ernie_m.dropout  # noqa: E402
import ernie_m.modeling  # noqa: E402
from datamodules import TextClassification  # noqa: E402
from datamodules.batching import TrainBatchSampler  # noqa: E402
from datamodules.loading import RowSet  # noqa: E402
from datamodules.xnli import LABELS  # noqa: E402
from ernie_m import ErnieMConfig, load_tokenizer  # noqa: E402
from ernie_m_recipes.devices import keep_freed_memory  # noqa: E402
from lightning_modules import SequenceClassification  # noqa: E402

SWITCHES = ("active_vocabulary", "like_length", "first_token", "fast_dropout", "fused", "kept_memory", "split_batches")
TURN = "turn"
FAST_DROPOUT = ernie_m.dropout.dropout
MAY_ASK_FROM_ONE = ernie_m.ErnieMModel._may_ask_from_one


class Pairs(TextClassification):
    """The pairs that are timed, with the token ids that the whole data set uses."""

    ids = np.zeros(0, dtype=np.int64)
    like_length = True

    def token_ids(self) -> NDArray[np.int64]:
        return self.ids

    def train_sampler(self, rows: RowSet, rank: int, world_size: int, **plan: Any) -> TrainBatchSampler:
        return super().train_sampler(rows, rank, world_size, pool_batches=100 if self.like_length else 1, **plan)


class Task(SequenceClassification):
    """The task, with the fused optimiser as a switch."""

    fused = True

    def configure_optimizers(self) -> Any:
        configured = super().configure_optimizers()
        for group in configured["optimizer"].param_groups:
            group["fused"] = self.fused
        return configured


class Clock(Callback):
    """Seconds from the first batch to the last; preparing data and building the network are not in it.

    Args:
        in_turns: Whether to say `turn` and wait for a line from outside before every training step, and before every
            tenth batch of an evaluation, so that several processes can be measured in turns. Waiting does not count.
    """

    def __init__(self, in_turns: bool) -> None:
        self.in_turns = in_turns
        self.started = self.waited = self.seconds = 0.0

    def wait(self) -> None:
        if self.in_turns:
            before = time.perf_counter()
            print(TURN, flush=True)
            sys.stdin.readline()
            self.waited += time.perf_counter() - before

    def start(self, *_: Any) -> None:
        self.started = time.perf_counter()

    def stop(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self.started - self.waited

    def on_train_batch_start(self, *_: Any) -> None:
        self.wait()

    def on_validation_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int, *_: Any) -> None:
        if batch_idx % 10 == 0:
            self.wait()

    on_train_start = on_validation_start = start
    on_train_end = on_validation_end = stop


def use_fast_dropout(fast: bool) -> None:
    """Let the networks draw the numbers of dropout with this package's function, or with torch's own."""
    ernie_m.modeling.apply_dropout = ernie_m.dropout.dropout = FAST_DROPOUT if fast else torch.nn.functional.dropout


def use_first_token(alone: bool) -> None:
    """Let the last layer of classifiers compute the first token alone, or all of them."""
    ernie_m.ErnieMModel._may_ask_from_one = MAY_ASK_FROM_ONE if alone else lambda *_: False


def tables(xnli: Path, mode: str, pairs: int) -> dict[str, pa.Table]:
    """The peer's pairs by language."""
    if mode == "train":
        return {"en": pq.read_table(xnli / "en" / "train-00000-of-00001.parquet").slice(0, pairs)}
    found, offset = {}, 0
    for file in sorted(xnli.glob("*/validation-*.parquet")):
        table = pq.read_table(file)
        rows = np.arange(-offset % 15, table.num_rows, 15)
        offset += table.num_rows
        rows = rows[: max(0, pairs - sum(map(len, found.values())))]
        if len(rows):
            found[file.parent.name] = table.take(rows)
    return found


def ids_in_use(xnli: Path, tokenizer_folder: Path, validation: str) -> NDArray[np.int64]:
    tokenizer = load_tokenizer(str(tokenizer_folder))
    used = np.zeros(len(tokenizer), dtype=bool)
    used[tokenizer.all_special_ids] = True
    for file in [*xnli.glob("en/train-*.parquet"), *xnli.glob(f"{validation}/validation-*.parquet")]:
        for column in pq.read_table(file, columns=["premise", "hypothesis"]).columns:
            for ids in tokenizer(column.to_pylist(), add_special_tokens=False)["input_ids"]:
                used[ids] = True
    return np.flatnonzero(used)


def floating_point_operations(config: ErnieMConfig, lengths: NDArray[np.int64], training: bool) -> float:
    """Multiplications and additions of the matrix products over real tokens; a backward pass counts twice.

    They are those of the architecture, as model FLOP/s are usually counted: all tokens in all layers, also those of the
    last layer that a classifier leaves out (7 %).
    """
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    tokens, squares = float(lengths.sum()), float((lengths.astype(np.float64) ** 2).sum())
    forward = layers * (2 * tokens * (4 * hidden**2 + 2 * hidden * inner) + 4 * squares * hidden)
    return forward * (3 if training else 1)


def pairs_of(args: argparse.Namespace, switch: dict[str, bool], folder: str) -> tuple[Pairs, list[str]]:
    """The data module of the pairs that are timed, and their languages."""
    files = {}
    for language, table in tables(args.xnli, args.mode, args.batches * args.batch_size).items():
        files[language] = str(Path(folder) / f"{language}.parquet")
        pq.write_table(table, files[language])
    if args.mode == "train":
        Pairs.ids = ids_in_use(args.xnli, args.tokenizer, "*" if args.all_languages else "en")
    Pairs.like_length = switch["like_length"]
    data = Pairs(
        str(args.tokenizer),
        train_files=files,
        validation_files=files,
        label_names=list(LABELS),
        global_batch_size=args.batch_size,
        micro_batch_tokens=args.micro_batch_tokens if switch["split_batches"] else None,
        eval_tokens_per_batch=args.eval_tokens,
        cache_dir=folder,
    )
    return data, list(files)


def trainer_of(args: argparse.Namespace, clock: Clock, folder: str) -> Trainer:
    """A trainer that does nothing but the steps that are timed."""
    return Trainer(
        accelerator="cpu",
        devices=1,
        precision=args.precision,
        max_steps=args.batches,
        gradient_clip_val=1.0,
        limit_val_batches=0 if args.mode == "train" else None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[clock],
    )


def padding_share(batches: list[Any], lengths: NDArray[Any]) -> float:
    """The share of padding in all tokens, from the rows of each batch and the tokens of each row."""
    positions = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return 1 - sum(int(lengths[batch].sum()) for batch in batches) / positions


def main() -> None:
    """Take the steps that were asked for and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["train", "evaluate"])
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--size", choices=["base", "large"], default="base")
    parser.add_argument("--micro-batch-tokens", type=int, default=1024)
    parser.add_argument("--eval-tokens", type=int, default=1024)
    parser.add_argument("--all-languages", action="store_true")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--in-turns", action="store_true")
    parser.add_argument("--without", nargs="*", default=[], choices=SWITCHES)
    parser.add_argument("--xnli", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    args = parser.parse_args()

    config = ErnieMConfig.base() if args.size == "base" else ErnieMConfig.large()
    fields = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    switch = {name: name not in args.without for name in SWITCHES}
    if switch["kept_memory"]:
        keep_freed_memory()
    use_fast_dropout(switch["fast_dropout"])
    use_first_token(switch["first_token"])
    Task.fused = switch["fused"]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        data, languages = pairs_of(args, switch, folder)
        module = Task(
            str(args.tokenizer),
            label_names=list(LABELS),
            from_scratch={name: getattr(config, name) for name in fields},
            active_vocabulary=switch["active_vocabulary"],
        )
        clock = Clock(args.in_turns)
        trainer = trainer_of(args, clock, folder)
        if args.mode == "train":
            trainer.fit(module, datamodule=data)
        else:
            trainer.validate(module, datamodule=data, verbose=False)
        loader = data.train_dataloader() if args.mode == "train" else data.val_dataloader()[0]
        sampler: Any = loader.plan
        splits = [("train", "en")] if args.mode == "train" else [("validation", language) for language in languages]
        lengths = np.concatenate([data.row_set(split, [language]).all_scalars("length") for split, language in splits])
        steps = [sampler.share(batch) for batch in sampler.global_batches(0)] if args.mode == "train" else [sampler]
        padding = padding_share([micro.indices for step in steps for micro in step], sampler.lengths)

    print(
        json.dumps(
            {
                "mode": args.mode,
                "precision": args.precision,
                "without": args.without,
                "examples": len(lengths),
                "seconds": round(clock.seconds, 3),
                "examples_per_second": round(len(lengths) / clock.seconds, 2),
                "tokens_per_second": round(float(lengths.sum()) / clock.seconds, 1),
                "gflops": round(
                    floating_point_operations(config, lengths, args.mode == "train") / clock.seconds / 1e9, 1
                ),
                "padding": round(padding, 4),
                "embedding_rows": len(Pairs.ids) if switch["active_vocabulary"] and len(Pairs.ids) else 250_002,
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
