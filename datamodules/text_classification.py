"""Classification of texts and of pairs of texts from one's own files or a data set in the Hub's layout."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ernie_m.errors import InputError

from .base import TaskDataModule
from .reading import SourceRows, class_names, read_rows, texts_of
from .sources import Parts
from .splits import Split
from .store import labelled_sources
from .text_files import is_counting
from .tokens import filling, lengths, ragged

UNLABELLED = -100
# Numbers of labels without names go up to here; more are no labels.
_MOST_NUMBERED = 1000


class TextClassification(TaskDataModule):
    """Texts, or pairs of texts, with a label, from CSV, TSV, JSONL, Parquet or `datasets`' Arrow files.

    A batch holds what `TaskDataModule` says and `input_ids` (batch, length) int64, `attention_mask` (batch, length)
    int64 and `labels` (batch,) int64, -100 in prediction. Where the tokenizer tells the texts of a pair apart, as
    BERT's does, also `token_type_ids` (batch, length) int64.

    Args:
        first_column: The first text.
        second_column: The second text; None to classify single texts.
        label_column: The label, a name of `label_names` or its position.
        label_names: The labels in order. None for those that a Parquet file states, else all that occur in the
            training data, sorted.
        args: What `TaskDataModule` takes, as `kwargs`. Of a pair the longer text is cut first.
        kwargs: See `args`.
    """

    def __init__(
        self,
        *args: Any,
        first_column: str = "premise",
        second_column: str | None = "hypothesis",
        label_column: str = "label",
        label_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.first_column = first_column
        self.second_column = second_column
        self.label_column = label_column
        self._given_labels = None if label_names is None else _checked_names(label_names)

    @cached_property
    def label_names(self) -> list[str]:
        """The labels, in the order of their numbers. Where they were not given, the data are read for them."""
        return self._given_labels or self._find_label_names()

    def read(self, split: str, language: str, parts: Parts) -> pa.Table:
        """Reads the texts and the labels as numbers, `UNLABELLED` for prediction."""
        texts = self._text_columns()
        labelled = split != Split.PREDICT
        rows = read_rows(parts, [*texts, self.label_column] if labelled else texts)
        columns = {name: texts_of(rows, column) for name, column in zip(("first", "second"), texts, strict=False)}
        labels = self._labels(rows) if labelled else np.full(rows.table.num_rows, UNLABELLED, dtype=np.int32)
        return pa.table({**columns, "labels": labels})

    def encode(self, table: pa.Table) -> pa.Table:
        """Tokenises texts or pairs, the longer text cut first."""
        names = [name for name in ("first", "second") if name in table.column_names]
        texts = [[self.prefix + text for text in table.column(name).to_pylist()] for name in names]
        encoded = self.tokenizer(
            *texts, truncation="longest_first", max_length=self.max_length, return_attention_mask=False
        )
        columns = {name: ragged(encoded[name]) for name in filling(self.tokenizer)}
        return pa.table({**columns, "length": lengths(columns["input_ids"]), "labels": table.column("labels")})

    def filling(self, split: str) -> dict[str, int | None]:
        """What the tokenizer gave, and `labels`."""
        return {**filling(self.tokenizer), "labels": None}

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The columns and the labels."""
        settings: dict[str, Any] = {"rows": "texts", "columns": self._text_columns()}
        if split != Split.PREDICT:
            settings |= {"label_column": self.label_column, "label_names": self.label_names}
        return settings

    def _text_columns(self) -> list[str]:
        return [column for column in (self.first_column, self.second_column) if column is not None]

    def _find_label_names(self) -> list[str]:
        split, sources = labelled_sources(self)
        parts = [part for source in sources for part in source.parts]
        stated = class_names(parts[0], self.label_column)
        if stated is not None:
            return _checked_names(stated)
        rows = read_rows(parts, [*self._text_columns(), self.label_column])
        name = sources[0].first
        if not rows.table.num_rows:
            raise InputError(f"{name}: the {split} split is empty.")
        values = pc.unique(self._label_column(rows)).to_pylist()
        if not all(isinstance(value, int | str) and not isinstance(value, bool) for value in values):
            raise InputError(
                f"{name}: column '{self.label_column}' holds {values[:3]}, but labels are names or numbers from 0."
            )
        if not all(isinstance(value, int) or is_counting(value) for value in values):
            return _checked_names(sorted(map(str, values)))
        numbers = [int(value) for value in values]
        if min(numbers, default=0) < 0 or max(numbers, default=0) >= _MOST_NUMBERED:
            raise InputError(
                f"{name}: column '{self.label_column}' holds numbers from {min(numbers)} to {max(numbers)}, which do"
                " not count labels from 0. Name the labels with label_names."
            )
        return _checked_names([str(number) for number in range(max(numbers, default=0) + 1)])

    def _label_column(self, rows: SourceRows) -> pa.ChunkedArray:
        column = rows.table.column(self.label_column)
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            raise InputError(f"{rows.where(0)}: column '{self.label_column}' holds {column.type}, not labels.")
        return column

    def _labels(self, rows: SourceRows) -> NDArray[np.int32]:
        """The labels as positions in `label_names`.

        Raises:
            InputError: A label is none of them, named with its place.
        """
        column = self._label_column(rows)
        encoded = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.chunk(0)
        numbers = [_position(value, self.label_names) for value in encoded.dictionary.to_pylist()]
        labels: NDArray[np.int32] = np.asarray(numbers, dtype=np.int32)[encoded.indices.to_numpy()]
        unknown = np.flatnonzero(labels < 0)
        if len(unknown):
            row = int(unknown[0])
            raise InputError(
                f"{rows.where(row)}: unknown label {column[row].as_py()!r} in column '{self.label_column}'; known are"
                f" {', '.join(self.label_names)} and their numbers 0 to {len(self.label_names) - 1}."
            )
        return labels


def _checked_names(names: Sequence[str]) -> list[str]:
    if len(set(names)) != len(names) or len(names) < 2:
        raise InputError(f"label_names is {list(names)}; it must hold two or more different names.")
    return list(names)


def _position(value: Any, names: Sequence[str]) -> int:
    """A label's position in `names`, by name or by number; -1 where it is neither."""
    if isinstance(value, str):
        if value in names:
            return names.index(value)
        value = int(value) if is_counting(value) else -1
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names)
    return value if known else -1
