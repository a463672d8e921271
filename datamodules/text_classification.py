"""Classification of texts and of pairs of texts from one's own files or a data set in the Hub's layout."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ernie_m.errors import InputError

from .labelled_texts import LabelledTexts
from .labels import counted, labels_in, names_of
from .reading import SourceRows, class_names, read_rows
from .splits import Split
from .store import labelled_sources

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

UNLABELLED = -100


class TextClassification(LabelledTexts):
    """Texts, or pairs of texts, with a label, from CSV, TSV, JSONL, Parquet or `datasets`' Arrow files.

    A batch holds what `LabelledTexts` says; `labels` are (batch,) int64, -100 in prediction.

    Args:
        label_column: The label: a name of `label_names`, whatever its case, or a name's position where no name is a
            number. Numbers that a file itself names mean those names.
        label_names: The labels in order. None for those that Parquet files state, else all that occur in the training
            data, sorted, or whole numbers from the smallest to the largest.
        args: What `LabelledTexts` takes, as `kwargs`.
        kwargs: See `args`.
    """

    def __init__(
        self, *args: Any, label_column: str = "label", label_names: list[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.label_column = label_column
        self._given_labels = None if label_names is None else checked_names(label_names)

    @cached_property
    def label_names(self) -> list[str]:
        """The labels, in the order of their numbers. Where they were not given, the data are read for them."""
        return self._given_labels or self._find_label_names()

    @property
    def label_counts(self) -> dict[str, int]:
        """How many rows of the training data have each label, after `setup`."""
        found = self.row_set(Split.TRAIN, self.train_languages).all_scalars("labels")
        counts = np.bincount(found, minlength=len(self.label_names)).tolist()
        return dict(zip(self.label_names, counts, strict=True))

    @property
    def columns_of_labels(self) -> list[str]:
        """The column of the label."""
        return [self.label_column]

    def read_labels(self, rows: SourceRows, part: "Path | Dataset") -> pa.Array:
        """Reads the labels as numbers."""
        stated = class_names(part, self.label_column)
        return pa.array(labels_in(rows, self.label_column, stated).numbers(self.label_names))

    def no_labels(self, count: int) -> pa.Array:
        """`UNLABELLED` for every row."""
        return pa.array(np.full(count, UNLABELLED, dtype=np.int32))

    def strata(self, labels: pa.ChunkedArray) -> NDArray[np.int64]:
        """The labels."""
        numbers: NDArray[np.int64] = labels.to_numpy()
        return numbers

    def settings_of_labels(self) -> dict[str, Any]:
        """The column and the names."""
        return {"label_column": self.label_column, "label_names": self.label_names}

    def summary_of_labels(self, labels: pa.ChunkedArray) -> str:
        """How many rows have each label."""
        numbers = labels.to_pylist()
        return "" if UNLABELLED in numbers[:1] else counted(numbers, self.label_names)

    def _find_label_names(self) -> list[str]:
        split, sources = labelled_sources(self)
        # The texts too, so that a column that is missing is what is said first.
        columns = [*self.text_columns, self.label_column]
        found = {
            language: [
                (labels_in(read_rows([part], columns), self.label_column, stated), stated)
                for part in source.parts
                for stated in [class_names(part, self.label_column)]
            ]
            for language, source in sources.items()
        }
        if not any(len(labels.indices) for pairs in found.values() for labels, _ in pairs):
            raise InputError(f"{next(iter(sources.values())).first}: the {split} split is empty.")
        return checked_names(names_of(found))


def checked_names(given: Sequence[str], fewest: int = 2) -> list[str]:
    """Label names without the blanks around them.

    Args:
        given: The names.
        fewest: How many there must be.

    Raises:
        InputError: There are fewer, or two are the same.
    """
    names = [name.strip() for name in given]
    if len(set(names)) != len(names) or len(names) < fewest:
        few = "two or more different names" if fewest == 2 else "one or more names, all different"
        raise InputError(f"label_names is {list(names)}; it must hold {few}.")
    return names
