"""The tokenised rows of a data module: found or made, and kept by split and language."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ernie_m.errors import InputError

from .loading import RowSet
from .prepared import content_digest, prepared
from .shares import drawn
from .sources import Source
from .splits import Split

if TYPE_CHECKING:
    from datasets import Dataset

    from .base import TaskDataModule

_REMEDIES = {
    Split.PREDICT: "name a file with --input, or with predict_path",
    Split.TEST: "name some with test_files or test_languages, or train without a test: --run.test_after_fit false",
}


@dataclass(frozen=True)
class LoadedRows:
    """The tokenised rows of one split and language.

    Attributes:
        dataset: The rows.
        kept: Those that are used, ascending; None for all of them.
        fingerprint: What they are, for people: their number, the data's SHA-256 and source.
    """

    dataset: "Dataset"
    kept: NDArray[np.int64] | None
    fingerprint: str


class Store:
    """What was loaded, by split and language."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, str], LoadedRows] = {}
        self._digests: dict[tuple[str, str], str] = {}

    def load(self, data: "TaskDataModule", split: Split, tokenizer: str, download: bool) -> list[str]:
        """Reads and tokenises all languages of a split, or opens what was tokenised before.

        Args:
            data: Says what to read, and how to encode it.
            split: The split.
            tokenizer: The digest of its tokenizer.
            download: Whether to ask the Hub; False to use what another process downloaded.

        Returns:
            The languages that have no rows, where some may.

        Raises:
            InputError: There are no data, they cannot be used, or the cache cannot be written.
        """
        languages = data.split_languages(split)
        if not languages:
            remedy = _REMEDIES.get(split, f"name some with {split}_files or {split}_languages")
            raise InputError(f"There are no data for '{split}'; {remedy}.")
        # All sources are looked for first, so that a mistake in the last language does not cost tokenising the others.
        found = {}
        for language in languages:
            if (split, language) not in self._loaded:
                try:
                    found[language] = data.source(split, language, download)
                except InputError as error:
                    raise InputError(f"{split} data of '{language}': {error}") from error
        empty = [
            language for language, source in found.items() if not self._load(data, split, language, source, tokenizer)
        ]
        wanted = empty if len(empty) == len(languages) else [one for one in empty if not data.may_be_empty(split, one)]
        if wanted:
            raise InputError(f"{found[wanted[0]].name}: the {split} split of '{wanted[0]}' is empty.")
        for language in empty:
            rank_zero_warn(f"{found[language].name}: the {split} split of '{language}' is empty; it is left out.")
        return empty

    def _load(self, data: "TaskDataModule", split: Split, language: str, source: Source, tokenizer: str) -> bool:
        """Loads one language; False where it has no rows."""
        digest = source.digest()
        dataset = prepared(
            data.cache_dir,
            {
                "data": [digest, source.formats],
                "tokenizer": tokenizer,
                "max_length": data.max_length,
                "prefix": data.prefix,
                "settings": data.settings(split, language),
            },
            read=lambda: data.read(split, language, source.parts),
            encode=data.encode,
            rows_at_once=data.rows_at_once,
            what=f"{split}/{language}",
        )
        if not len(dataset):
            return False
        kept = data.kept(split, language, dataset)
        if split == Split.VALIDATION and data.max_validation_examples is not None:
            examples = None if data.example_column is None else dataset.data.column(data.example_column).to_numpy()
            kept = drawn(len(dataset), kept, examples, data.max_validation_examples)
        fingerprint = f"{len(dataset if kept is None else kept)} rows, sha256 {digest}, {source.name}"
        if summary := data.summary(dataset if kept is None else dataset.select(kept)):
            rank_zero_info(f"{split}/{language}: {summary}")
            fingerprint += f" ({summary})"
        self._loaded[split, language] = LoadedRows(dataset, kept, fingerprint)
        return True

    def row_set(self, split: str, languages: Sequence[str], language_ids: Sequence[int]) -> RowSet:
        """The rows of some languages as one sequence.

        Args:
            split: The split.
            languages: Some of its languages.
            language_ids: What a batch calls each.

        Raises:
            RuntimeError: A language was not loaded.
        """
        for language in languages:
            if (split, language) not in self._loaded:
                raise RuntimeError(f"setup() has not loaded {split}/{language} yet")
        parts = [self._loaded[split, language] for language in languages]
        return RowSet([part.dataset for part in parts], language_ids, [part.kept for part in parts])

    def fingerprints(self) -> dict[str, str]:
        """What was loaded, by "split/language"."""
        return {f"{split}/{language}": rows.fingerprint for (split, language), rows in self._loaded.items()}

    def token_ids(self, tokenizer: PreTrainedTokenizerBase, splits: Iterable[str]) -> NDArray[np.int64]:
        """The token ids in the rows of some splits, and the special ones; ascending, shape (ids,).

        Args:
            tokenizer: The tokenizer.
            splits: The splits; rows that are not used count too.
        """
        used = np.zeros(len(tokenizer), dtype=bool)
        used[tokenizer.all_special_ids] = True
        for rows in (rows.dataset for (split, _), rows in self._loaded.items() if split in splits):
            for column in rows.column_names:
                if column.endswith("input_ids"):
                    for chunk in rows.data.column(column).chunks:
                        used[pc.list_flatten(chunk, recursive=True).to_numpy()] = True
        return np.flatnonzero(used)

    def digest(self, keys: Iterable[tuple[str, str]]) -> str:
        """A digest of what the tokenizer made of some data, wherever they lie.

        Args:
            keys: Splits and languages.
        """
        found = []
        for key in keys:
            if key not in self._digests:
                rows = self._loaded[key]
                used = "" if rows.kept is None else hashlib.sha256(rows.kept.tobytes()).hexdigest()
                self._digests[key] = f"{content_digest(rows.dataset)} {used}"
            found.append(self._digests[key])
        return hashlib.sha256(repr(found).encode()).hexdigest()


def labelled_sources(data: "TaskDataModule") -> tuple[Split, dict[str, Source]]:
    """The first split of a data module that has data with labels, and the source of each of its languages.

    Raises:
        InputError: There is none to find label names in.
    """
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        if languages := data.split_languages(split):
            return split, {language: data.source(split, language, download=True) for language in languages}
    raise InputError("label_names is not set and no data have labels to take them from; name the labels.")


def texts_in(data: "TaskDataModule", language: str) -> Iterator[str]:
    """Yields what `TaskDataModule.texts` says."""
    splits = [split for split in (Split.TRAIN, Split.VALIDATION, Split.TEST) if language in data.split_languages(split)]
    if not splits:
        known = ", ".join(dict.fromkeys(name for split in Split for name in data.split_languages(split)))
        raise InputError(f"there are no data in '{language}'; the languages of the data are {known}.")
    yield from [data.prefix] if data.prefix else []
    for split in splits:
        source = data.source(split, language, download=True)
        # Settings of a folder may name any, whose tokens then say something about it.
        rank_zero_info(f"{language}: texts of {source.name}")
        found = data.read(split, language, source.parts)
        tables = [found] if isinstance(found, pa.Table) else found
        for column in (column for table in tables for column in table.columns):
            values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
            if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
                yield from (value.as_py() for value in values)
