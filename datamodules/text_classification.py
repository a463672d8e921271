"""Classification of texts and of pairs of texts from one's own files or a data set in the Hub's layout."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ernie_m.errors import InputError

from .base import TaskDataModule
from .labels import counted, labels_in, names_of
from .reading import class_names, empty_rows, read_rows, texts_of
from .shares import checked_shares, divided
from .sources import Parts
from .splits import Split
from .store import labelled_sources
from .tokens import filling, lengths, ragged

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

    from .sources import Reference

UNLABELLED = -100


class TextClassification(TaskDataModule):
    """Texts, or pairs of texts, with a label, from CSV, TSV, JSONL, Parquet or `datasets`' Arrow files.

    A batch holds what `TaskDataModule` says and `input_ids` (batch, length) int64, `attention_mask` (batch, length)
    int64 and `labels` (batch,) int64, -100 in prediction. Where the tokenizer tells the texts of a pair apart, as
    BERT's does, also `token_type_ids` (batch, length) int64.

    Args:
        first_column: The first text.
        second_column: The second text; None to classify single texts.
        label_column: The label: a name of `label_names`, whatever its case, or a name's position where no name is a
            number. Numbers that a file itself names mean those names.
        label_names: The labels in order. None for those that Parquet files state, else all that occur in the training
            data, sorted, or whole numbers from the smallest to the largest.
        validation_share: Share of a language's training file that is validation data, where it has no file of that
            split. The labels keep their proportions; what a row belongs to depends on `split_seed` alone.
        test_share: The same for the test.
        group_column: Rows with the same value in this column, such as a document, stay in one split.
        split_seed: Of that division; the same for runs of several seeds, so that they can be compared.
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
        validation_share: float = 0.0,
        test_share: float = 0.0,
        group_column: str | None = None,
        split_seed: int = 1,
        **kwargs: Any,
    ) -> None:
        # Needed as soon as files are.
        self._shares = checked_shares(validation_share, test_share)
        super().__init__(*args, **kwargs)
        self.group_column = group_column
        self.split_seed = split_seed
        self.first_column = first_column
        self.second_column = second_column
        self.label_column = label_column
        self._given_labels = None if label_names is None else _checked_names(label_names)

    def _use(self, files: Mapping[Split, "Mapping[str, Reference | Dataset] | None"]) -> None:
        train = files.get(Split.TRAIN) or {}
        self._divided = {
            split: {name: train[name] for name in train if name not in (files.get(split) or {})}
            for split in self._shares
        }
        super()._use({**files, **{split: {**(files.get(split) or {}), **own} for split, own in self._divided.items()}})

    @cached_property
    def label_names(self) -> list[str]:
        """The labels, in the order of their numbers. Where they were not given, the data are read for them."""
        return self._given_labels or self._find_label_names()

    def read(self, split: str, language: str, parts: Parts) -> pa.Table:
        """Reads the texts and the labels as numbers, `UNLABELLED` for prediction."""
        return pa.concat_tables([self._read_part(split, part) for part in parts], promote_options="permissive")

    def _read_part(self, split: str, part: "Path | Dataset") -> pa.Table:
        texts = self._text_columns()
        labelled = split != Split.PREDICT
        grouped = [self.group_column] if labelled and self._shares and self.group_column is not None else []
        rows = read_rows([part], [*texts, self.label_column, *grouped] if labelled else texts)
        columns = {name: texts_of(rows, column) for name, column in zip(("first", "second"), texts, strict=False)}
        if labelled and rows.table.num_rows:
            empty_rows(rows, dict(zip(texts, columns.values(), strict=True)), "they are kept with their labels")
        if labelled:
            labels = labels_in(rows, self.label_column, class_names(part, self.label_column)).numbers(self.label_names)
        else:
            labels = np.full(rows.table.num_rows, UNLABELLED, dtype=np.int32)
        if grouped:
            columns["group"] = texts_of(rows, *grouped)
        return pa.table({**columns, "labels": labels})

    def encode(self, table: pa.Table) -> pa.Table:
        """Tokenises texts or pairs, the longer text cut first."""
        names = [name for name in ("first", "second") if name in table.column_names]
        texts = [[self.prefix + text for text in table.column(name).to_pylist()] for name in names]
        encoded = self.tokenizer(
            *texts, truncation="longest_first", max_length=self.max_length, return_attention_mask=False
        )
        columns = {name: ragged(encoded[name]) for name in filling(self.tokenizer)}
        more = {name: table.column(name) for name in ("group", "labels") if name in table.column_names}
        return pa.table({**columns, "length": lengths(columns["input_ids"]), **more})

    def kept(self, split: str, language: str, rows: "Dataset") -> NDArray[np.int64] | None:
        """What the split has of a file that is divided."""
        shares = {part: share for part, share in self._shares.items() if language in self._divided[part]}
        if split not in (Split.TRAIN, *shares) or not shares:
            return None
        labels = rows.data.column("labels").to_numpy()
        groups = rows.data.column("group") if "group" in rows.column_names else None
        numbers = None if groups is None else groups.combine_chunks().dictionary_encode().indices.to_numpy()
        found = divided(labels, numbers, shares, self.split_seed)
        if split in found:
            return found[Split(split)]
        return np.setdiff1d(np.arange(len(labels)), np.concatenate(list(found.values())))

    def filling(self, split: str) -> dict[str, int | None]:
        """What the tokenizer gave, and `labels`."""
        return {**filling(self.tokenizer), "labels": None}

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The columns and the labels."""
        settings: dict[str, Any] = {"rows": "texts", "columns": self._text_columns()}
        if split != Split.PREDICT:
            settings |= {"label_column": self.label_column, "label_names": self.label_names}
            settings |= {"group_column": self.group_column} if self._shares and self.group_column is not None else {}
        return settings

    def summary(self, rows: "Dataset") -> str:
        """How many rows have each label."""
        # Not `rows.data`, which has those too that are not used.
        labels = rows.select_columns(["labels"]).with_format("arrow")[:].column(0).to_pylist()
        return "" if UNLABELLED in labels[:1] else f"{len(labels):,} texts: {counted(labels, self.label_names)}"

    def _text_columns(self) -> list[str]:
        return [column for column in (self.first_column, self.second_column) if column is not None]

    def _find_label_names(self) -> list[str]:
        split, sources = labelled_sources(self)
        # The texts too, so that a column that is missing is what is said first.
        columns = [*self._text_columns(), self.label_column]
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
        return _checked_names(names_of(found))


def _checked_names(given: Sequence[str]) -> list[str]:
    names = [name.strip() for name in given]
    if len(set(names)) != len(names) or len(names) < 2:
        raise InputError(f"label_names is {list(names)}; it must hold two or more different names.")
    return names
