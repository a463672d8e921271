"""The run folder: one obvious file each for settings, versions, results, predictions and the log."""

import contextlib
import itertools
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from itertools import chain
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import pyarrow
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from pyarrow import parquet
from transformers import PreTrainedTokenizerBase

from ernie_m.errors import InputError
from ernie_m.files import check_within, file_name, whole
from ernie_m.names import is_label

from . import __version__
from .base_model import network_facts
from .documents import read_json, write_json, write_yaml
from .preparation import made_plain
from .references import taken
from .registry import asset_root
from .targets import CONFIG, RECORD
from .trust import TOKENIZER

RESULTS = "results.json"
LOG = "log.txt"
FOLDER_VARIABLE = "ERNIE_M_RUN_FOLDER"
PACKAGES = ( "torch", "lightning", "transformers", "datasets", "tokenizers", "sentencepiece", "safetensors",
    "torchmetrics", "jsonargparse", "omegaconf", "numpy", "pyarrow",
)  # fmt: skip
LOGGERS = ("lightning.pytorch", "lightning.fabric", "ernie_m", "ernie_m_recipes", "lightning_modules", "datamodules")
RUN_ALONE = ("ckpt_path", "weights_only", "verbose", "return_predictions", "resume")
_LARGEST_SCORE = 1e12


def new_folder(directory: str, name: str, seed: int, stage: str) -> Path:
    """Name the folder of a new run, `<directory>/<name>/<seed>-<time>`, the same in processes that this one starts.

    Args:
        directory: The folder of all runs.
        name: The run's name.
        seed: Its seed.
        stage: `fit`, or what is done to a checkpoint, which then stands at the end of the name.

    Raises:
        InputError: The name would lead out of the folder of all runs.
    """
    if FOLDER_VARIABLE in os.environ:
        return Path(os.environ[FOLDER_VARIABLE])
    suffix = "" if stage == "fit" else f"-{stage}"
    # What the run itself reads later is then behind no link, wherever one keeps runs.
    root = Path(directory).resolve()
    parts = [file_name(part, "run.name") for part in name.split("/")]
    base = root.joinpath(*parts, f"{seed}-{time.strftime('%Y%m%d-%H%M%S')}{suffix}")
    check_within(base, root, f"run.name {name}")
    folder, number = base, 2
    while folder.exists():
        folder, number = base.with_name(f"{base.name}-{number}"), number + 1
    return folder


def discard_if_unused(folder: Path) -> None:
    """Remove a run folder that holds nothing but an empty log of metrics: the run failed before it began."""
    if folder.is_dir() and not (folder / RECORD).exists():
        shutil.rmtree(folder, ignore_errors=True)
        for parent in list(folder.parents)[:2]:
            with contextlib.suppress(OSError):
                parent.rmdir()


def set_aside_metrics(folder: Path) -> dict[Path, Path]:
    """Rename the metrics of the run's earlier part, which the CSV logger of the next one would delete.

    Returns:
        What the files were called, to what they are called now.
    """
    renamed = {}
    for path in (folder / "metrics.csv", folder / "hparams.yaml"):
        if path.is_file():
            number = next(n for n in itertools.count(1) if not path.with_stem(f"{path.stem}-{n}").exists())
            renamed[path] = path.rename(path.with_stem(f"{path.stem}-{number}"))
    return renamed


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    found = {"ernie-m-recipes": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def commit() -> dict[str, Any] | None:
    """Return the checkout's commit and whether it has changes; None outside a checkout."""
    root = asset_root()
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        return {"id": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def devices(trainer: Trainer) -> dict[str, Any]:
    """Return what a run computes on."""
    names = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {
        "strategy": type(trainer.strategy).__name__,
        "processes": trainer.world_size,
        "nodes": trainer.num_nodes,
        "device": str(trainer.strategy.root_device),
        "gpus": names,
        "cpu": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "host": platform.node(),
    }


def shown_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without what belongs to one call alone."""
    return {key: value for key, value in config.items() if key not in RUN_ALONE}


class Formatter(logging.Formatter):
    """Writes messages without the values of environment variables that settings took."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a message."""
        line: str = taken.hidden(super().format(record))
        return line


class RunRecord(Callback):
    """Writes config.yaml, run.json and log.txt when a run really starts, and results when they are there.

    A training starts when everything that can refuse was asked: its checkpoint is restored. What was logged before is
    kept until then.

    Args:
        folder: The run folder.
        config: The resolved settings.
        facts: What run.json says from the start.
        continued: Whether the folder holds an earlier part of this run.
        keeps_tokenizer: Whether to store the data's tokenizer, which an export takes along.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        facts: Mapping[str, Any],
        continued: bool = False,
        keeps_tokenizer: bool = False,
    ) -> None:
        self.folder = folder
        self.config = config
        self.facts = dict(facts)
        self.continued = continued
        self.keeps_tokenizer = keeps_tokenizer
        self.handler: logging.Handler | None = None
        self.set_aside: dict[Path, Path] = {}
        self.before = MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL, flushOnClose=False)
        self.log_to(self.before)

    def log_to(self, handler: logging.Handler) -> None:
        """Log to a handler."""
        for name in LOGGERS:
            logging.getLogger(name).addHandler(handler)

    def log_no_more_to(self, handler: logging.Handler) -> None:
        """Log to a handler no more, and close it."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)
        handler.close()

    def make_room(self) -> None:
        """Set aside what loggers would delete, until it is clear whether the run begins."""
        if self.continued:
            self.set_aside = set_aside_metrics(self.folder)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the folder with all processes."""
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the record."""
        self.begin(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the record."""
        self.begin(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the record."""
        self.begin(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the record."""
        self.begin(trainer)

    def begin(self, trainer: Trainer) -> None:
        """Write what is known before the first step, once, in the first process."""
        if self.handler is not None or not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.handler = logging.FileHandler(self.folder / LOG, encoding="utf-8")
        self.handler.addFilter(made_plain)
        self.handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self.before.setTarget(self.handler)
        self.before.flush()
        self.log_no_more_to(self.before)
        self.log_to(self.handler)
        # A run that goes on with other settings is described by those; run.json lists what changed.
        if not self.continued or self.facts.get("changes"):
            header = f"{self.facts['recipe']}, resolved. Written by: {self.facts['command']}"
            write_yaml(self.folder / CONFIG, taken.hidden(header), shown_config(self.config))
        tokenizer = getattr(getattr(trainer, "datamodule", None), "tokenizer", None)
        if self.keeps_tokenizer and isinstance(tokenizer, PreTrainedTokenizerBase):
            with whole(self.folder / TOKENIZER) as partial:
                tokenizer.save_pretrained(partial)
                settings = partial / "tokenizer_config.json"
                write_json(settings, taken.hidden(read_json(settings)))
        fingerprints: dict[str, str] = getattr(getattr(trainer, "datamodule", None), "fingerprints", dict)()
        self.note(
            status="running",
            started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            versions=versions(),
            commit=commit(),
            devices=devices(trainer),
            data=fingerprints,
        )
        if not self.continued:
            self.note(network=network_facts(trainer.lightning_module))

    def note(self, **facts: Any) -> None:
        """Add facts to run.json."""
        self.facts.update(facts)
        earlier = read_json(self.folder / RECORD) if self.continued else {}
        if self.continued and not self.facts.get("changes"):
            self.facts["changes"] = earlier.get("changes", [])
        write_json(self.folder / RECORD, taken.hidden({**earlier, **self.facts}))

    def close(self, status: str) -> None:
        """Write how the run ended and stop logging; where it never began, leave everything as it was."""
        if self.handler is None:
            self.log_no_more_to(self.before)
            for path, renamed in self.set_aside.items():
                renamed.replace(path)
            return
        self.note(status=status, ended=time.strftime("%Y-%m-%dT%H:%M:%S%z"))
        self.log_no_more_to(self.handler)
        self.handler = None


def read_results(folder: Path) -> dict[str, Any]:
    """Read results.json; an empty one where there is no file.

    Args:
        folder: A run folder.

    Raises:
        InputError: It is damaged, or its scores are not what `save_results` writes.
    """
    results = read_json(folder / RESULTS)
    confusion, checkpoint = (results.get(name) or {} for name in ("confusion", "checkpoint"))
    if not (
        all(is_scores(results.get(stage) or {}) for stage in ("before", "validate", "test"))
        and isinstance(checkpoint, dict)
        and isinstance(confusion, dict)
        and all(map(_is_confusion, confusion.values()))
    ):
        raise InputError(f"{folder / RESULTS}: its scores are not what a run writes; take another copy")
    return results


def is_scores(content: Any) -> bool:
    """Tell whether something is language to score to number, with the mean of the languages where there are any."""
    return (
        isinstance(content, dict)
        and (not content or "mean" in content)
        and all(isinstance(scores, dict) and all(map(_is_number, scores.values())) for scores in content.values())
        and all(map(is_label, chain(content, *content.values())))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= _LARGEST_SCORE


def _is_confusion(content: Any) -> bool:
    """Tell whether something has labels, and for every language as many rows and columns of numbers."""
    labels, languages = (content.get("labels"), content.get("languages")) if isinstance(content, dict) else (None, None)
    if not isinstance(labels, list) or not labels or not isinstance(languages, dict):
        return False
    lists = [labels, *languages.values()]
    if not all(isinstance(one, list) and len(one) == len(labels) for one in lists):
        return False
    rows = [row for matrix in languages.values() for row in matrix]
    sound = all(isinstance(row, list) and len(row) == len(labels) for row in rows)
    counts = [count for row in rows for count in row] if sound else []
    are_names = all(isinstance(one, str) and is_label(one) for one in (*labels, *languages))
    return sound and are_names and all(map(_is_number, counts))


def save_results(folder: Path, **parts: Any) -> None:
    """Add parts to results.json."""
    write_json(folder / RESULTS, taken.hidden({**read_json(folder / RESULTS), **parts}))


def save_confusion(
    folder: Path, stage: str, labels: Sequence[str], matrices: Mapping[str, Sequence[Sequence[int]]]
) -> None:
    """Add an evaluation's confusion matrices to results.json, under `confusion`.

    Args:
        folder: The run folder.
        stage: `before`, `validate`, `test` or `predict`.
        labels: What rows (right) and columns (taken for) stand for.
        matrices: Language to numbers of examples.
    """
    known = read_json(folder / RESULTS).get("confusion", {})
    save_results(folder, confusion={**known, stage: {"labels": list(labels), "languages": dict(matrices)}})


def save_predictions(folder: Path, stage: str, tables: Mapping[str, pyarrow.Table]) -> None:
    """Write `predictions/<stage>/<language>.parquet` for every language.

    Args:
        folder: The run folder.
        stage: `before`, `validate`, `test` or `predict`.
        tables: Language to predictions.
    """
    for language, table in tables.items():
        save_table(folder / "predictions" / stage / f"{file_name(language, 'language')}.parquet", table)


def save_table(path: Path, table: pyarrow.Table) -> None:
    """Write a Parquet file whole or not at all."""
    with whole(path) as partial:
        parquet.write_table(table, os.path.abspath(partial))


def command_line(stage: str, words: Sequence[str]) -> str:
    """Return the command as it was typed."""
    return shlex.join(["ernie-m", stage, *words]) if words else " ".join(sys.argv)
