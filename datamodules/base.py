"""What every data module shares: its options, Lightning's hooks, the loaders and the place in the data."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ernie_m.errors import InputError, check_positive
from ernie_m.files import default_cache_dir, file_name

from .batching import EvalBatchSampler, TrainBatchSampler
from .loading import PlannedLoader, RowSet, TrainLoader
from .place import Place
from .sources import Parts, Reference, Source, find_source
from .splits import Split, splits_of
from .store import Store, texts_in
from .tokens import checked_tokenizer, tokenizer_digest

if TYPE_CHECKING:
    from datasets import Dataset


class TaskDataModule(LightningDataModule):
    """The base of all data modules. A subclass says what to read of the files and how to encode it.

    The training loader yields one item per optimiser step: the list of this process's micro-batches, each a dict of
    tensors. Evaluation has one loader per language, which yields one such dict a batch. Every dict holds

    - `example_ids` (batch,) int64: the row's number in its split and language,
    - `language` (batch,) int64: index into `languages`,
    - `weights` (batch,) float32: 1 for an example, 0 for a filler,
    - `normaliser` () float32, in training: the weight of the global batch over the number of processes. A micro-batch's
      loss is sum(loss of an example * weights) / normaliser: added up over micro-batches and averaged over processes,
      its gradient is that of the global batch's mean,

    and what the subclass adds. The trainer's `accumulate_grad_batches` stays 1.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        train_files: Language to training data: a file, a pattern with `*` for several, or a folder that `save_to_disk`
            wrote. For a data set of `path` also arguments of `datasets.load_dataset`, such as
            `{name: de, split: "train[:1000]"}`.
        validation_files: The same for validation.
        test_files: The same for test.
        path: Folder or Hub data set that the files lie in; None where they are paths of their own.
        revision: Branch, tag or commit of a Hub data set.
        predict_path: File to predict on; its labels are not read.
        predict_language: Its language, one of the others; None for the first.
        prefix: What stands before every text, such as "query: " for encoders of the E5 kind, and counts as its part.
        max_length: Tokens of an input at most, special tokens included.
        global_batch_size: Examples of one optimiser step, over all devices.
        micro_batch_size: At most so many examples at once on a device; None for no limit.
        micro_batch_tokens: At most so many tokens at once on a device in training, padding included; None for no limit.
        eval_tokens_per_batch: Rows times longest row of an evaluation batch.
        max_validation_examples: Validate on at most so many texts, sentences, questions or pairs of a language, drawn
            by chance, the same in every run; None for all. Tests have all.
        seed: With the epoch it fixes the order of the training data.
        num_workers: Processes that prepare training batches; evaluation needs none.
        cache_dir: Folder of the tokenised data; None for the user's, `~/.cache/ernie-m-recipes`.
        trust_remote_code: Whether to run tokenizer code that a folder or Hub repository carries.

    Attributes:
        languages: All languages, in the order of `batch["language"]`.
        train_languages: The languages of the training data.
        allow_changes: Set it to resume although the data, their order or the batch size changed.
    """

    prediction_formats: ClassVar[tuple[str, ...]] = ()
    # Languages that `languages` begins with, whichever are used.
    known_languages: ClassVar[tuple[str, ...]] = ()
    # Rows that are tokenised together: enough for a tokenizer's batch path, little enough for memory and for progress.
    rows_at_once: ClassVar[int] = 8192
    # The column of the number of the example that a row is a window of; None where every row is one.
    example_column: ClassVar[str | None] = None
    allow_changes: bool = False
    languages: list[str]
    train_languages: list[str]

    def __init__(
        self,
        tokenizer: str,
        train_files: Mapping[str, Reference] | None = None,
        validation_files: Mapping[str, Reference] | None = None,
        test_files: Mapping[str, Reference] | None = None,
        path: str | None = None,
        revision: str | None = None,
        predict_path: str | None = None,
        predict_language: str | None = None,
        prefix: str = "",
        max_length: int = 256,
        global_batch_size: int = 32,
        micro_batch_size: int | None = None,
        micro_batch_tokens: int | None = None,
        eval_tokens_per_batch: int = 16384,
        max_validation_examples: int | None = None,
        seed: int = 1,
        num_workers: int = 0,
        cache_dir: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__()
        check_positive(
            max_length=max_length,
            global_batch_size=global_batch_size,
            micro_batch_size=micro_batch_size,
            micro_batch_tokens=micro_batch_tokens,
            eval_tokens_per_batch=eval_tokens_per_batch,
            max_validation_examples=max_validation_examples,
        )
        if num_workers < 0 or seed < 0:
            raise InputError(f"num_workers is {num_workers} and seed is {seed}; neither may be negative.")
        self.tokenizer_name = tokenizer
        self.path = path
        self.revision = revision
        self.prefix = prefix
        self.max_length = max_length
        self.global_batch_size = global_batch_size
        self.micro_batch_size = micro_batch_size
        self.micro_batch_tokens = micro_batch_tokens
        self.eval_tokens_per_batch = eval_tokens_per_batch
        self.max_validation_examples = max_validation_examples
        self.seed = seed
        self.num_workers = num_workers
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
        self.trust_remote_code = trust_remote_code
        self._test_follows = self._longest_first = False
        self._store, self._place = Store(), Place()
        self._use({Split.TRAIN: train_files, Split.VALIDATION: validation_files, Split.TEST: test_files})
        if predict_path is not None:
            if not self.languages:
                self.languages = [file_name(predict_language or "und", "predict_language")]
            language = predict_language or [*self.train_languages, *self.languages][0]
            if language not in self.languages:
                raise InputError(f"predict_language is '{language}'; it must be one of {', '.join(self.languages)}.")
            self._files[Split.PREDICT] = {language: predict_path}

    @classmethod
    def from_dataset_dicts(cls, datasets: Mapping[str, Mapping[str, "Dataset"]], *args: Any, **kwargs: Any) -> Self:
        """Makes a data module of data sets that are at hand, instead of files.

        Args:
            datasets: Language to a `datasets.DatasetDict` with the splits "train", "validation" and "test", or some of
                them.
            args: What the class takes, as `kwargs`.
            kwargs: See `args`.
        """
        module = cls(*args, **kwargs)
        splits = (Split.TRAIN, Split.VALIDATION, Split.TEST)
        module._use(
            {split: {name: parts[split] for name, parts in datasets.items() if split in parts} for split in splits}
        )
        return module

    def _use(self, files: Mapping[Split, "Mapping[str, Reference | Dataset] | None"]) -> None:
        self._files = {split: dict(of_language or {}) for split, of_language in files.items()}
        named = [file_name(one, f"{split}_files: a language") for split, found in self._files.items() for one in found]
        self.languages = list(dict.fromkeys([*self.known_languages, *named]))
        self.train_languages = list(self._files[Split.TRAIN])

    # What a subclass says.

    @abstractmethod
    def read(self, split: str, language: str, parts: Parts) -> pa.Table | Iterator[pa.Table]:
        """Reads and checks what `encode` needs of one split and language, at once or some rows at a time."""

    @abstractmethod
    def encode(self, table: pa.Table) -> pa.Table:
        """Tokenises some rows of what `read` returned: `length`, a row's tokens, and the columns of `filling`.

        Where examples do not weigh the same in the loss, `weight` says what each adds to the normaliser.
        """

    @abstractmethod
    def filling(self, split: str) -> dict[str, int | None]:
        """The columns that a batch holds and what their lists are padded with; None for a column of numbers."""

    @abstractmethod
    def settings(self, split: str, language: str) -> dict[str, Any]:
        """What the encoded rows depend on besides data, tokenizer and `max_length`; as JSON can hold it."""

    def summary(self, rows: "Dataset") -> str:
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

    def predictions_as_text(self, tables: Mapping[str, pa.Table], suffix: str) -> str:
        """The content of a file of predictions.

        Args:
            tables: Language to predictions.
            suffix: One of `prediction_formats`.
        """
        raise NotImplementedError

    def may_be_empty(self, split: str, language: str) -> bool:
        """Whether a language may have no rows and be left out; a score without it would be another score."""
        return split == Split.TRAIN

    def kept(self, split: str, language: str, rows: "Dataset") -> NDArray[np.int64] | None:
        """The rows of one split and language that are used, ascending; None for all of them."""
        return None

    def train_sampler(self, rows: RowSet, rank: int, world_size: int, **plan: Any) -> TrainBatchSampler:
        """The sampler of the training data; a subclass may tell it more of the rows by `plan`."""
        if "weight" in rows.columns:
            plan["example_weights"] = rows.all_scalars("weight")
        return TrainBatchSampler(
            rows.all_scalars("length"),
            self.global_batch_size,
            self.micro_batch_size,
            self.seed,
            rank,
            world_size,
            micro_batch_tokens=self.micro_batch_tokens,
            longest_first=self._longest_first,
            **plan,
        )

    # What the others use.

    def announce(self, *, test_follows: bool = False, longest_first: bool = False) -> None:
        """Says, before a trainer fits, what is wanted of the data beyond their options.

        Args:
            test_follows: Read the test data before training too, so that what is wrong with them is known then.
            longest_first: Begin every epoch with the largest micro-batch, to see whether memory suffices.
        """
        self._test_follows, self._longest_first = test_follows, longest_first

    def split_languages(self, split: str) -> list[str]:
        """The languages of a split ("train", "validation", "test" or "predict"), in the order of its loaders."""
        return list(self._files.get(Split(split), ()))

    def eval_languages(self, stage: str) -> list[str]:
        """The language of each loader of a stage ("validate", "test" or "predict"), in order."""
        return self.split_languages(splits_of(stage)[-1])

    def files(self, split: str, language: str, download: bool) -> Source:
        """What the rows of one split and language are read from.

        Args:
            split: The split.
            language: One of its languages.
            download: Whether to ask the Hub; False to use what another process downloaded.
        """
        root = None if split == Split.PREDICT else self.path
        return find_source(root, self.reference(split, language), self.revision, download, split)

    def source(self, split: str, language: str, download: bool) -> Source:
        """What the rows of one split and language come from: `files` of the split, unless another's are divided.

        Args:
            split: The split.
            language: One of its languages.
            download: Whether to ask the Hub; False to use what another process downloaded.
        """
        return self.files(split, language, download)

    def reference(self, split: str, language: str) -> "Reference | Dataset":
        """What names the rows of one split and language: a file, arguments of `load_dataset`, or a data set."""
        return self._files[Split(split)][language]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, loaded at first use.

        Raises:
            InputError: There is none under the name, or it does not admit `max_length`.
        """
        return checked_tokenizer(self.tokenizer_name, self.max_length, self.trust_remote_code, self.prefix)

    @cached_property
    def _tokenizer_digest(self) -> str:
        return tokenizer_digest(self.tokenizer)

    def fingerprints(self) -> dict[str, str]:
        """Which data were used: of each "split/language" the number of rows, their SHA-256 and the source."""
        return self._store.fingerprints()

    def row_set(self, split: str, languages: Sequence[str]) -> RowSet:
        """The tokenised rows of some languages of a split, in their order, after `setup`."""
        return self._store.row_set(split, languages, [self.languages.index(language) for language in languages])

    def token_ids(self) -> NDArray[np.int64]:
        """The token ids that training and validation data use, and the special ones; ascending, shape (ids,)."""
        return self._store.token_ids(self.tokenizer, splits_of(TrainerFn.FITTING))

    def texts(self, language: str) -> Iterator[str]:
        """Yield the texts of one language's training, validation and test data; words one by one.

        Args:
            language: One of the languages of these.

        Raises:
            InputError: It is none of them.
        """
        return texts_in(self, language)

    def load(self, split: str, download: bool) -> None:
        """Reads and tokenises the languages of a split, or opens what was; those without rows are left out if they may.

        Args:
            split: "train", "validation", "test" or "predict".
            download: Whether to ask the Hub; False to use what another process downloaded.

        Raises:
            InputError: There are no data, they cannot be used, or the cache cannot be written.
        """
        for language in self._store.load(self, Split(split), self._tokenizer_digest, download):
            del self._files[Split(split)][language]
        self.train_languages = list(self._files[Split.TRAIN])

    # Lightning's hooks.

    def prepare_data(self) -> None:
        """Downloads and tokenises what the stage needs, in one process of each machine."""
        stage = None if self.trainer is None else self.trainer.state.fn
        for split in self._splits(stage or TrainerFn.FITTING):
            self.load(split, download=True)
        if stage == TrainerFn.FITTING and self._test_follows:
            self.load(Split.TEST, download=True)

    def setup(self, stage: str | None = None) -> None:
        """Opens what a stage ("fit", "validate", "test" or "predict") needs."""
        for split in self._splits(stage or "fit"):
            self.load(split, download=self._world()[1] == 1)

    def train_dataloader(self) -> TrainLoader:
        """One item per optimiser step: the list of this process's micro-batches."""
        trainer = self.trainer
        if trainer is not None and trainer.accumulate_grad_batches != 1:
            raise InputError(
                f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}; leave it at 1 and set"
                " data.micro_batch_size: a step's micro-batches come together here."
            )
        rows = self.row_set(Split.TRAIN, self.train_languages)
        sampler = self._place.sampler = self.train_sampler(rows, *self._world())
        filling = self.filling(Split.TRAIN)
        return TrainLoader(self._seek, rows, sampler, filling, self.num_workers, self._pin_memory())

    def val_dataloader(self) -> list[PlannedLoader]:
        """One loader per language of `eval_languages("validate")`."""
        return self._eval_loaders(Split.VALIDATION)

    def test_dataloader(self) -> list[PlannedLoader]:
        """One loader per language of `eval_languages("test")`."""
        return self._eval_loaders(Split.TEST)

    def predict_dataloader(self) -> list[PlannedLoader]:
        """One loader per language of `eval_languages("predict")`."""
        return self._eval_loaders(Split.PREDICT)

    def state_dict(self) -> dict[str, Any]:
        """The place in the training data, and what data they are."""
        place = {} if self.trainer is None else self._place.state(self.trainer)
        return {**place, "data": self._data_digest()} if place else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Holds the data against those of a run that continues, and keeps the state to hold their order against.

        Args:
            state_dict: What `state_dict` returned, on any number of processes.

        Raises:
            InputError: The data or the tokenizer are others.
        """
        self._place.restored = {name: value for name, value in state_dict.items() if name != "data"}
        fits = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        if fits and state_dict and not self.allow_changes and state_dict.get("data") != self._data_digest():
            raise InputError(
                f"The data, or the tokenizer '{self.tokenizer_name}', are not those of the checkpoint: "
                + ", ".join(f"{name}: {fingerprint}" for name, fingerprint in self.fingerprints().items())
                + ". Resume with what the run began with (run.json in its folder says what that was; sentencepiece's "
                "version belongs to the tokenizer), or add --resume.allow_changes true."
            )

    def _splits(self, stage: str) -> list[Split]:
        """The splits that a stage reads; a training without development data goes without validation."""
        named = self.split_languages(Split.VALIDATION)
        return [split for split in splits_of(stage) if named or stage != "fit" or split != Split.VALIDATION]

    def _world(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _pin_memory(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _seek(self) -> None:
        self._place.seek(self.trainer, self.allow_changes)

    def _data_digest(self) -> str:
        """A digest of what is trained and validated on."""
        return self._store.digest((split, name) for split in splits_of("fit") for name in self.split_languages(split))

    def _eval_loaders(self, split: Split) -> list[PlannedLoader]:
        loaders = []
        for language in self.split_languages(split):
            rows = self.row_set(split, [language])
            sampler = EvalBatchSampler(rows.all_scalars("length"), self.eval_tokens_per_batch, *self._world())
            loaders.append(PlannedLoader(rows, sampler, self.filling(split), pin_memory=self._pin_memory()))
        return loaders
