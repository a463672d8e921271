"""What every data module shares: its arguments, the tokenised cache, the loaders and the place in the data."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import ArrayLike, NDArray
from transformers import PreTrainedTokenizerBase

from ernie_m import load_tokenizer
from ernie_m.errors import InputError

from .batching import EvalBatchSampler, TrainBatchSampler
from .cache import ArrowRows, default_cache_dir, file_digest, open_or_build, tokenizer_digest
from .loading import Collate, PlannedLoader, RowSet, TrainLoader
from .progress import in_chunks
from .sources import find_files

# The length of the networks here. A tokenizer that states no length has a huge placeholder instead.
_LONGEST = 512
_PLACEHOLDER = 1_000_000
_SPLITS = {
    TrainerFn.FITTING: ("train", "validation"),
    TrainerFn.VALIDATING: ("validation",),
    TrainerFn.TESTING: ("test",),
    TrainerFn.PREDICTING: ("predict",),
}
_SPLIT_OF_STAGE = {"validate": "validation", "test": "test", "predict": "predict"}
_SPLITS_OF_STAGE = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}


class TaskDataModule(LightningDataModule):
    """The base of all data modules. A subclass says what to read of the files and how to encode it.

    The training loader yields one item per optimiser step: the list of this process's micro-batches, each a dict of
    tensors. Evaluation has one loader per language, which yields one such dict a batch. Every dict holds

    - `example_ids` (batch,) int64: the row's number in its split and language,
    - `language` (batch,) int64: index into `languages`,
    - `weights` (batch,) float32: 1 for an example, 0 for a filler,
    - `normaliser` () float32, in training: the weight of the global batch over the number of processes. The loss of a
      micro-batch is sum(loss of an example * weights) / normaliser; added up over micro-batches and averaged over
      processes, its gradient is that of the global batch's mean,

    and what the subclass adds. The trainer's `accumulate_grad_batches` stays 1.

    Args:
        files: The files of each split ("train", "validation", "test") and language; a pattern stands for several.
        path: Folder or Hub data set that the files lie in; None where they are paths of their own.
        revision: Branch, tag or commit of a Hub data set.
        tokenizer: Short name, folder or Hub id of the tokenizer.
        max_length: Tokens after which an input is cut, special tokens included.
        global_batch_size: Examples of one optimiser step, over all devices.
        micro_batch_size: At most so many examples at once on a device; None for no limit.
        micro_batch_tokens: At most so many tokens at once on a device in training, padding included; None for no limit.
        eval_tokens_per_batch: Rows times longest row of an evaluation batch.
        seed: With the epoch it fixes the order of the training data.
        num_workers: Processes that prepare training batches; evaluation needs none.
        cache_dir: Folder of the tokenised data; None for `$XDG_CACHE_HOME/ernie-m-recipes` or
            `~/.cache/ernie-m-recipes`.
        trust_remote_code: Whether to run tokenizer code that a folder or Hub repository carries.

    Attributes:
        languages: All languages, in the order of `batch["language"]`.
        train_languages: The languages of the training data.
        allow_changes: Set it to resume although the data, their order or the batch size changed.
        test_follows: Set it to read the test data before training too, so that what is wrong with them is known then.
        longest_first: Set it to begin every epoch with the largest micro-batch, to see whether memory suffices.
    """

    prediction_formats: ClassVar[tuple[str, ...]] = ()
    # Rows that are tokenised together: enough for a tokenizer's batch path, little enough for memory and for progress.
    rows_at_once: ClassVar[int] = 8192
    allow_changes: bool = False
    test_follows: bool = False
    longest_first: bool = False

    def __init__(
        self,
        files: Mapping[str, Mapping[str, str]],
        path: str | None,
        revision: str | None,
        tokenizer: str,
        max_length: int,
        global_batch_size: int,
        micro_batch_size: int | None,
        micro_batch_tokens: int | None,
        eval_tokens_per_batch: int,
        seed: int,
        num_workers: int,
        cache_dir: str | None,
        trust_remote_code: bool,
    ) -> None:
        super().__init__()
        sizes = {
            "max_length": max_length,
            "global_batch_size": global_batch_size,
            "micro_batch_size": micro_batch_size,
            "micro_batch_tokens": micro_batch_tokens,
            "eval_tokens_per_batch": eval_tokens_per_batch,
        }
        for name, size in sizes.items():
            if size is not None and size < 1:
                raise InputError(f"{name} is {size}; it must be at least 1.")
        if num_workers < 0 or seed < 0:
            raise InputError(f"num_workers is {num_workers} and seed is {seed}; neither may be negative.")
        self._files = {split: dict(of_language) for split, of_language in files.items()}
        self.languages = list(dict.fromkeys(language for of_language in files.values() for language in of_language))
        self.train_languages = list(files["train"])
        self.path = path
        self.revision = revision
        self.tokenizer_name = tokenizer
        self.max_length = max_length
        self.global_batch_size = global_batch_size
        self.micro_batch_size = micro_batch_size
        self.micro_batch_tokens = micro_batch_tokens
        self.eval_tokens_per_batch = eval_tokens_per_batch
        self.seed = seed
        self.num_workers = num_workers
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
        self.trust_remote_code = trust_remote_code
        self._rows: dict[tuple[str, str], ArrowRows] = {}
        self._fingerprints: dict[str, str] = {}
        self._sampler: TrainBatchSampler | None = None
        self._restored: dict[str, Any] = {}

    # What a subclass says.

    @abstractmethod
    def read(self, split: str, language: str, paths: list[Path]) -> pa.Table:
        """Reads and checks what `encode` needs of the files of one split and language."""

    @abstractmethod
    def encode(self, table: pa.Table) -> pa.RecordBatch:
        """Tokenises some rows of what `read` returned, into the columns of `schema`."""

    @abstractmethod
    def schema(self, split: str) -> pa.Schema:
        """The columns of the cached rows."""

    @abstractmethod
    def settings(self, split: str, language: str) -> dict[str, Any]:
        """What the cached rows depend on besides files, tokenizer and `max_length`; as JSON can hold it."""

    @abstractmethod
    def lengths(self, rows: RowSet) -> ArrayLike:
        """The tokens of every row, shape (rows,)."""

    @abstractmethod
    def collator(self, split: str) -> Collate:
        """What makes a batch."""

    def summary(self, rows: ArrowRows) -> str:
        """What to say about the rows of a split and language when they are loaded; nothing unless a subclass does."""
        return ""

    def references(self, stage: str, language: str) -> pa.Table:
        """The texts that predictions of one language are scored against, for tasks whose batch cannot hold them.

        Args:
            stage: "validate", "test" or "predict".
            language: One of `eval_languages(stage)`.
        """
        raise NotImplementedError

    def predict_columns(self) -> list[str] | None:
        """The columns of a CSV or TSV file to predict on that has no header; None where its first line names them."""
        return None

    def predictions_as_text(self, tables: Mapping[str, pa.Table]) -> str:
        """The content of a file of predictions, in one of `prediction_formats`.

        Args:
            tables: Language to predictions.
        """
        raise NotImplementedError

    def chosen(self, split: str, language: str, rows: ArrowRows) -> ArrowRows:
        """The rows of one split and language that are used; a subclass may leave some out."""
        return rows

    def train_sampler(self, rows: RowSet, rank: int, world_size: int) -> TrainBatchSampler:
        """The sampler of the training data; a subclass may plan otherwise."""
        return TrainBatchSampler(
            self.lengths(rows),
            self.global_batch_size,
            self.micro_batch_size,
            self.seed,
            rank,
            world_size,
            micro_batch_tokens=self.micro_batch_tokens,
        )

    # What the others use.

    def add_predict(self, predict_path: str, language: str | None) -> None:
        """Names the file to predict on.

        Args:
            predict_path: The file.
            language: Its language, one of `languages`; None for the first of them.

        Raises:
            InputError: The language is none of them.
        """
        if not self.languages:
            self.languages = [language or "und"]
        language = language or self.languages[0]
        if language not in self.languages:
            raise InputError(f"predict_language is '{language}'; it must be one of {', '.join(self.languages)}.")
        self._files["predict"] = {language: predict_path}

    def split_languages(self, split: str) -> list[str]:
        """The languages of a split ("train", "validation", "test" or "predict"), in the order of its loaders."""
        return list(self._files.get(split, ()))

    def files(self, split: str, language: str, download: bool) -> tuple[list[Path], str]:
        """The files of one split and language.

        Args:
            split: "train", "validation", "test" or "predict".
            language: One of its languages.
            download: Whether to ask the Hub; False to use what another process downloaded.

        Returns:
            The files, and what to call their source: a path, or a Hub id with its commit.
        """
        root = None if split == "predict" else self.path
        return find_files(root, self._files[split][language], self.revision, download)

    def eval_languages(self, stage: str) -> list[str]:
        """The language of each evaluation loader, in order.

        Args:
            stage: "validate", "test" or "predict".
        """
        return self.split_languages(_SPLIT_OF_STAGE[stage])

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, loaded at first use.

        Raises:
            InputError: There is none under the name, or `max_length` is more than it allows.
        """
        name = self.tokenizer_name
        tokenizer = load_tokenizer(name, self.trust_remote_code)
        limit = tokenizer.model_max_length if tokenizer.model_max_length < _PLACEHOLDER else _LONGEST
        if self.max_length > limit:
            raise InputError(f"max_length is {self.max_length}; '{name}' allows at most {limit} tokens.")
        fewest = tokenizer.num_special_tokens_to_add(pair=True) + 2
        if self.max_length < fewest:
            raise InputError(f"max_length is {self.max_length}; two texts with their special tokens take {fewest}.")
        return tokenizer

    @property
    def pad_id(self) -> int:
        """The tokenizer's padding token."""
        pad_id = self.tokenizer.pad_token_id
        if not isinstance(pad_id, int):
            raise InputError(f"The tokenizer '{self.tokenizer_name}' has no padding token.")
        return pad_id

    def fingerprints(self) -> dict[str, str]:
        """Which data were used: of each "split/language" the number of rows, the files' SHA-256 and the source."""
        return dict(self._fingerprints)

    def row_set(self, split: str, languages: Sequence[str]) -> RowSet:
        """The tokenised rows of some languages, in their order, after `setup`.

        Args:
            split: "train", "validation", "test" or "predict".
            languages: Some of its languages.
        """
        for language in languages:
            if (split, language) not in self._rows:
                raise RuntimeError(f"setup() has not loaded {split}/{language} yet")
        return RowSet(
            [self._rows[split, language] for language in languages],
            [self.languages.index(language) for language in languages],
        )

    def token_ids(self) -> NDArray[np.int64]:
        """The token ids that training and validation data use, and the special ones; ascending, shape (ids,)."""
        used = np.zeros(len(self.tokenizer), dtype=bool)
        used[self.tokenizer.all_special_ids] = True
        for rows in (rows for (split, _), rows in self._rows.items() if split in _SPLITS[TrainerFn.FITTING]):
            for column in rows.columns:
                if column.endswith("input_ids"):
                    for values in rows.values(column):
                        used[values] = True
        return np.flatnonzero(used)

    def texts(self, language: str) -> Iterator[str]:
        """Yield the texts of one language's training, validation and test data; words one by one.

        Args:
            language: One of the languages of these.

        Raises:
            InputError: It is none of them.
        """
        splits = [split for split, of_language in self._files.items() if language in of_language]
        if not splits:
            known = dict.fromkeys(language for of_language in self._files.values() for language in of_language)
            raise InputError(f"there are no data in '{language}'; the languages of the data are {', '.join(known)}.")
        for split in splits:
            if split == "predict":
                continue
            for column in self.read(split, language, self.files(split, language, download=True)[0]).columns:
                values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
                if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
                    yield from (value.as_py() for value in values)

    # Lightning's hooks.

    def prepare_data(self) -> None:
        """Downloads and tokenises what the stage needs, in one process of each machine."""
        trainer = self.trainer
        state = trainer.state.fn if trainer is not None else None
        for split in _SPLITS[state] if state in _SPLITS else _SPLITS_OF_STAGE["fit"]:
            self._load(split, download=True)
        if state == TrainerFn.FITTING and self.test_follows:
            self._load("test", download=True)

    def setup(self, stage: str | None = None) -> None:
        """Opens what the stage needs.

        Args:
            stage: "fit", "validate", "test" or "predict".
        """
        for split in ("predict",) if stage == "predict" else _SPLITS_OF_STAGE[stage or "fit"]:
            self._load(split, download=self._world()[1] == 1)

    def train_dataloader(self) -> TrainLoader:
        """One item per optimiser step: the list of this process's micro-batches."""
        trainer = self.trainer
        if trainer is not None and trainer.accumulate_grad_batches != 1:
            raise InputError(
                f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}; leave it at 1 and set"
                " data.micro_batch_size: a step's micro-batches come together here."
            )
        rows = self.row_set("train", self.train_languages)
        self._sampler = self.train_sampler(rows, *self._world())
        self._sampler.longest_first = self.longest_first
        return TrainLoader(
            rows, self._sampler, self.collator("train"), self._seek, self.num_workers, self._pin_memory()
        )

    def val_dataloader(self) -> list[PlannedLoader]:
        """One loader per language of `eval_languages("validate")`."""
        return self._eval_loaders("validation")

    def test_dataloader(self) -> list[PlannedLoader]:
        """One loader per language of `eval_languages("test")`."""
        return self._eval_loaders("test")

    def predict_dataloader(self) -> list[PlannedLoader]:
        """One loader per language of `eval_languages("predict")`."""
        return self._eval_loaders("predict")

    def state_dict(self) -> dict[str, Any]:
        """The place in the training data by the optimiser steps that Lightning counted, and what data they are."""
        if self._sampler is None or self.trainer is None:
            return {}
        epoch, consumed = divmod(self.trainer.global_step, self._steps_per_epoch(self._sampler))
        return {**self._sampler.state_dict(), "epoch": epoch, "consumed": consumed, "data": self._data_digest()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Holds the data against those of a run that continues, and keeps the state to hold their order against.

        Args:
            state_dict: What `state_dict` returned, on any number of processes.

        Raises:
            InputError: The data or the tokenizer are others.
        """
        self._restored = dict(state_dict)
        fits = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        if fits and self._restored and not self.allow_changes and self._restored["data"] != self._data_digest():
            raise InputError(
                f"The data, or the tokenizer '{self.tokenizer_name}', are not those of the checkpoint: "
                + ", ".join(f"{name}: {fingerprint}" for name, fingerprint in self._fingerprints.items())
                + ". Resume with what the run began with (run.json in its folder says what that was; sentencepiece's "
                "version belongs to the tokenizer), or add --resume.allow_changes true."
            )

    # The rest.

    def _world(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _pin_memory(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _steps_per_epoch(self, sampler: TrainBatchSampler) -> int:
        """The steps that Lightning runs in an epoch, `limit_train_batches` considered."""
        limit = 1.0 if self.trainer is None else self.trainer.limit_train_batches
        steps = min(len(sampler), limit) if isinstance(limit, int) else int(len(sampler) * limit)
        return max(1, steps)

    def _seek(self, sampler: TrainBatchSampler) -> None:
        """Sets the sampler to the optimiser steps that Lightning counted, which a checkpoint restores."""
        if self.trainer is None:
            return
        if self._restored and not self.allow_changes:
            sampler.load_state_dict({k: v for k, v in self._restored.items() if k != "data"})
        epoch, consumed = divmod(self.trainer.global_step, self._steps_per_epoch(sampler))
        # Overfitting on a few batches means the same ones in every epoch.
        overfit = getattr(self.trainer, "overfit_batches", 0)
        sampler.set_epoch(0 if overfit else epoch, consumed)

    def _data_digest(self) -> str:
        """A digest of what is trained and validated on, as the tokenizer gives it, wherever it lies."""
        keys = [
            self._rows[split, language].digest()
            for split in _SPLITS[TrainerFn.FITTING]
            for language in self.split_languages(split)
        ]
        return hashlib.sha256(repr(keys).encode()).hexdigest()

    def _eval_loaders(self, split: str) -> list[PlannedLoader]:
        loaders = []
        for language in self.split_languages(split):
            rows = self.row_set(split, [language])
            sampler = EvalBatchSampler(self.lengths(rows), self.eval_tokens_per_batch, *self._world())
            loaders.append(PlannedLoader(rows, sampler, self.collator(split), pin_memory=self._pin_memory()))
        return loaders

    @cached_property
    def _tokenizer_digest(self) -> str:
        return tokenizer_digest(self.tokenizer)

    def _load(self, split: str, download: bool) -> None:
        languages = self.split_languages(split)
        if not languages:
            remedy = f"name some with {split}_files or {split}_languages"
            if split == "predict":
                remedy = "name a file with --input, or with predict_path"
            elif split == "test":
                remedy += ", or train without a test: --run.test_after_fit false"
            raise InputError(f"There are no data for '{split}'; {remedy}.")
        # All files are looked for first, so that a mistake in the last language does not cost tokenising the others.
        found = {}
        for language in languages:
            if (split, language) not in self._rows:
                try:
                    found[language] = self.files(split, language, download)
                except InputError as error:
                    raise InputError(f"{split} data of '{language}': {error}") from error
        for language, (paths, source) in found.items():
            self._load_language(split, language, paths, source)
        self._check_empty(split, {language: source for language, (_, source) in found.items()})

    def _check_empty(self, split: str, sources: Mapping[str, str]) -> None:
        """Leaves languages without rows out of a training on several; a score without one would be another score."""
        empty = [language for language in sources if len(self._rows[split, language]) == 0]
        if empty and (split != "train" or len(empty) == len(self.train_languages)):
            raise InputError(f"{sources[empty[0]]}: the {split} split of '{empty[0]}' is empty.")
        for language in empty:
            rank_zero_warn(f"{sources[language]}: the {split} split of '{language}' is empty; it is left out.")
            del self._files[split][language], self._rows[split, language], self._fingerprints[f"{split}/{language}"]
            self.train_languages.remove(language)

    def _load_language(self, split: str, language: str, paths: list[Path], source: str) -> None:
        digests = [file_digest(path) for path in paths]
        key = {
            "files": [[digest, *path.suffixes] for digest, path in zip(digests, paths, strict=True)],
            "tokenizer": self._tokenizer_digest,
            "max_length": self.max_length,
            "settings": self.settings(split, language),
        }
        rows = open_or_build(
            self.cache_dir,
            key,
            self.schema(split),
            lambda: self._encoded(split, language, self.read(split, language, paths)),
        )
        rows = self._rows[split, language] = self.chosen(split, language, rows)
        digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
        fingerprint = f"{len(rows)} rows, sha256 {digest}, {source}"
        if summary := self.summary(rows):
            rank_zero_info(f"{split}/{language}: {summary}")
            fingerprint += f" ({summary})"
        self._fingerprints[f"{split}/{language}"] = fingerprint

    def _encoded(self, split: str, language: str, table: pa.Table) -> Iterator[pa.RecordBatch]:
        for start, count in in_chunks(f"tokenising {split}/{language}", table.num_rows, self.rows_at_once):
            yield self.encode(table.slice(start, count))
