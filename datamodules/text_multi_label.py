"""Any number of labels for every text or pair of texts, such as the emotions in it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ernie_m.errors import InputError

from .labelled_texts import LabelledTexts
from .labels import LabelColumn, counted, labels_in, names_of
from .reading import SourceRows, class_names, read_rows
from .store import labelled_sources
from .text_classification import UNLABELLED, checked_names

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

_TRUTHS = {"1": 1, "0": 0, "true": 1, "false": 0, "1.0": 1, "0.0": 0, "yes": 1, "no": 0}


class TextMultiLabel(LabelledTexts):
    """Texts, or pairs of texts, with any number of labels, from CSV, TSV, JSONL, Parquet or `datasets`' Arrow files.

    A batch holds what `LabelledTexts` says; `labels` are (batch, labels) int64, 1 for each that the text has and 0 for
    the others, -100 in prediction.

    Args:
        label_column: The labels: a list, or a text with `label_separator` between them; empty for none. Each is what a
            label of `TextClassification` is.
        label_columns: Instead of it a column for each label, which is called as the column is and has 1 or 0, true or
            false, yes or no.
        label_separator: What stands between the labels of a text.
        label_names: The labels in order. None for `label_columns`, else those that Parquet files state, else all that
            occur in the training data, sorted, or whole numbers from the smallest to the largest.
        args: What `LabelledTexts` takes, as `kwargs`.
        kwargs: See `args`.
    """

    kind: ClassVar[str] = "texts with labels"
    labels_filling: ClassVar[int | None] = UNLABELLED

    def __init__(
        self,
        *args: Any,
        label_column: str = "labels",
        label_columns: list[str] | None = None,
        label_separator: str = ",",
        label_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not label_separator:
            raise InputError("label_separator is empty; it stands between the labels of a text.")
        self.label_column = label_column
        self.label_columns = label_columns
        self.label_separator = label_separator
        self._given_labels = None if label_names is None else checked_names(label_names, fewest=1)
        if label_columns is not None:
            self._given_labels = self._given_labels or checked_names(label_columns, fewest=1)
            if len(self._given_labels) != len(label_columns):
                raise InputError(
                    f"label_names is {label_names} and label_columns {label_columns}; they must be as many, or leave"
                    " label_names out."
                )

    @cached_property
    def label_names(self) -> list[str]:
        """The labels, in the order of their numbers. Where they were not given, the data are read for them."""
        return self._given_labels or self._find_label_names()

    @property
    def columns_of_labels(self) -> list[str]:
        """The column of the labels, or those of all labels."""
        return [self.label_column] if self.label_columns is None else self.label_columns

    def read_labels(self, rows: SourceRows, part: "Path | Dataset") -> pa.Array:
        """Reads 1 or 0 for each label of each row."""
        count = rows.table.num_rows
        if self.label_columns is not None:
            values = np.stack([_truths(rows, column) for column in self.label_columns], axis=1)
        else:
            labels = self._column(rows, part)
            values = np.zeros((count, len(self.label_names)), dtype=np.int8)
            values[labels.rows.origin, labels.numbers(self.label_names)] = 1
        return _lists(values)

    def no_labels(self, count: int) -> pa.Array:
        """`UNLABELLED` for every row."""
        return _lists(np.full((count, 1), UNLABELLED, dtype=np.int8))

    def strata(self, labels: pa.ChunkedArray) -> NDArray[np.int64]:
        """The rarest label that a row has, so that of each the parts have their share."""
        values = self._values(labels)
        rarity = np.argsort(np.argsort(values.sum(axis=0), kind="stable"))
        ranks = np.where(values == 1, rarity, values.shape[1])
        rarest: NDArray[np.int64] = ranks.min(axis=1, initial=values.shape[1]).astype(np.int64)
        return rarest

    def settings_of_labels(self) -> dict[str, Any]:
        """The columns and the names."""
        return {
            "label_columns": self.columns_of_labels,
            "label_separator": None if self.label_columns is not None else self.label_separator,
            "label_names": self.label_names,
        }

    def summary_of_labels(self, labels: pa.ChunkedArray) -> str:
        """How many rows have each label, and how many none."""
        values = self._values(labels)
        if values.size and values[0, 0] == UNLABELLED:
            return ""
        none = int((values.sum(axis=1) == 0).sum())
        said = counted(np.nonzero(values)[1].tolist(), self.label_names)
        return said + (f", without any {none:,}" if none else "")

    @staticmethod
    def _values(labels: pa.ChunkedArray) -> NDArray[np.int8]:
        """The labels of rows, (rows, labels)."""
        flat: NDArray[np.int8] = pc.list_flatten(labels).to_numpy()
        return flat.reshape(len(labels), flat.size // max(1, len(labels)))

    def _column(self, rows: SourceRows, part: "Path | Dataset") -> LabelColumn:
        """Every label of every row, one after the other."""
        column = rows.table.column(self.label_column).combine_chunks()
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise InputError(
                f"{rows.where(row)}: column '{self.label_column}' is null; a row without labels has an empty list, or"
                " an empty text."
            )
        kind = column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            column = pc.split_pattern(column, self.label_separator)
        elif not pa.types.is_list(kind) and not pa.types.is_large_list(kind):
            raise InputError(
                f"{rows.parts[0][0]}: column '{self.label_column}' holds {kind}; labels are a list, or a text with"
                f" {self.label_separator!r} between them (label_separator). For a column a label name label_columns."
            )
        flat, origin = pc.list_flatten(column), pc.list_parent_indices(column).to_numpy().astype(np.int64)
        if pa.types.is_null(flat.type):
            flat = flat.cast(pa.string())
        if pa.types.is_string(flat.type) or pa.types.is_large_string(flat.type):
            flat = pc.utf8_trim_whitespace(flat)
            # What is left between separators, or of an empty text.
            given = pc.fill_null(pc.not_equal(flat, ""), True).to_numpy(zero_copy_only=False)
            flat, origin = flat.filter(pa.array(given)), origin[given]
        labels = replace(rows, table=pa.table({self.label_column: flat}), origin=origin)
        return labels_in(labels, self.label_column, class_names(part, self.label_column))

    def _find_label_names(self) -> list[str]:
        split, sources = labelled_sources(self)
        columns = [*self.text_columns, self.label_column]
        found = {
            language: [
                (self._column(read_rows([part], columns), part), class_names(part, self.label_column))
                for part in source.parts
            ]
            for language, source in sources.items()
        }
        if not any(len(labels.indices) for pairs in found.values() for labels, _ in pairs):
            raise InputError(f"{next(iter(sources.values())).first}: no row of the {split} split has a label.")
        return checked_names(names_of(found), fewest=1)


def _lists(values: NDArray[np.int8]) -> pa.Array:
    """Rows of as many numbers as lists. (rows, labels)."""
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, values.reshape(-1))


def _truths(rows: SourceRows, column: str) -> NDArray[np.int8]:
    """A column of 1 and 0, true and false, or yes and no."""
    found = labels_in(rows, column, None)
    known = [_TRUTHS.get(text.lower(), -1) for text in found.texts]
    values: NDArray[np.int8] = np.asarray(known, dtype=np.int8)[found.indices]
    wrong: Sequence[int] = np.flatnonzero(values < 0).tolist()
    if wrong:
        raise InputError(
            f"{rows.where(wrong[0])}: {found.values[found.indices[wrong[0]]]!r} in column '{column}'; a column of a"
            " label has 1 or 0, true or false, yes or no."
        )
    return values
