"""Classification of text pairs from one's own files or a data set in the Hub's layout."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import ArrayLike, NDArray

from ernie_m.errors import InputError

from .base import TaskDataModule
from .batching import MicroBatch, pad
from .cache import ragged
from .loading import Batch, RowSet
from .reading import Rows, class_names, read_rows, texts_of

UNLABELLED = -100
# Numbers of labels without names go up to here; more are no labels.
_MOST_NUMBERED = 1000


class PairClassification(TaskDataModule):
    """Pairs of texts with a label, from CSV, TSV, JSONL, Parquet or `datasets`' Arrow files.

    A batch holds what `TaskDataModule` says and `input_ids` (batch, length) int64, `attention_mask` (batch, length)
    int64 and `labels` (batch,) int64, -100 in prediction. Where the tokenizer tells the texts of a pair apart, as
    BERT's does, also `token_type_ids` (batch, length) int64.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        train_files: Language to training file; a pattern with `*` stands for several.
        validation_files: The same for validation.
        test_files: The same for test.
        path: Folder or Hub data set that the files lie in; None where they are paths of their own.
        revision: Branch, tag or commit of a Hub data set.
        first_column: The first text.
        second_column: The second text; None to classify single texts.
        label_column: The label, a name of `label_names` or its position.
        label_names: The labels in order. None for those that a Parquet file states, else all that occur in the
            training data, sorted.
        predict_path: File to predict on; only its texts are read.
        predict_language: Its language, one of the others; None for the first.
        max_length: Tokens after which the longer text of a pair is cut, special tokens included.
        global_batch_size: Examples of one optimiser step, over all devices.
        micro_batch_size: At most so many examples at once on a device; None for no limit.
        micro_batch_tokens: At most so many tokens at once on a device in training, padding included; None for no limit.
        eval_tokens_per_batch: Rows times longest row of an evaluation batch.
        seed: With the epoch it fixes the order of the training data.
        num_workers: Processes that prepare training batches.
        cache_dir: Folder of the tokenised data; None for the user's cache folder.
        trust_remote_code: Whether to run tokenizer code that a folder or Hub repository carries.
    """

    def __init__(
        self,
        tokenizer: str,
        train_files: dict[str, str] | None = None,
        validation_files: dict[str, str] | None = None,
        test_files: dict[str, str] | None = None,
        path: str | None = None,
        revision: str | None = None,
        first_column: str = "premise",
        second_column: str | None = "hypothesis",
        label_column: str = "label",
        label_names: list[str] | None = None,
        predict_path: str | None = None,
        predict_language: str | None = None,
        max_length: int = 256,
        global_batch_size: int = 32,
        micro_batch_size: int | None = None,
        micro_batch_tokens: int | None = None,
        eval_tokens_per_batch: int = 16384,
        seed: int = 1,
        num_workers: int = 0,
        cache_dir: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__(
            {"train": train_files or {}, "validation": validation_files or {}, "test": test_files or {}},
            path,
            revision,
            tokenizer,
            max_length,
            global_batch_size,
            micro_batch_size,
            micro_batch_tokens,
            eval_tokens_per_batch,
            seed,
            num_workers,
            cache_dir,
            trust_remote_code,
        )
        self.first_column = first_column
        self.second_column = second_column
        self.label_column = label_column
        self._label_names = None if label_names is None else _checked_names(label_names)
        if predict_path is not None:
            self.add_predict(predict_path, predict_language)

    @property
    def label_names(self) -> list[str]:
        """The labels, in the order of their numbers. Where they were not given, the data are read for them."""
        if self._label_names is None:
            self._label_names = self._find_label_names()
        return self._label_names

    def read(self, split: str, language: str, paths: list[Path]) -> pa.Table:
        """Reads the texts and, except for prediction, the labels as numbers."""
        texts = self._text_columns()
        labelled = split != "predict"
        rows = read_rows(paths, [*texts, self.label_column] if labelled else texts)
        columns = [texts_of(rows, column) for column in texts]
        names = ["first", "second"][: len(columns)]
        if labelled:
            columns.append(pa.array(self._labels(rows)))
            names.append("label")
        return pa.table(columns, names=names)

    def encode(self, table: pa.Table) -> pa.RecordBatch:
        """Tokenises pairs, the longer text cut first."""
        texts = [table.column(name).to_pylist() for name in ("first", "second") if name in table.column_names]
        encoded = self.tokenizer(
            *texts, truncation="longest_first", max_length=self.max_length, return_attention_mask=False
        )
        columns = {name: ragged(encoded[name]) for name in self._token_columns}
        if "label" in table.column_names:
            columns["label"] = table.column("label").combine_chunks()
        return pa.record_batch(columns)

    def schema(self, split: str) -> pa.Schema:
        """`input_ids`, with some tokenizers `token_type_ids`, and, except for prediction, `label`."""
        fields = [(name, pa.list_(pa.int32())) for name in self._token_columns]
        return pa.schema(fields if split == "predict" else [*fields, ("label", pa.int32())])

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The columns and the labels."""
        settings: dict[str, Any] = {"rows": "texts", "columns": [self.first_column, self.second_column]}
        if split != "predict":
            settings |= {"label_column": self.label_column, "label_names": self.label_names}
        return settings

    def lengths(self, rows: RowSet) -> ArrayLike:
        """The tokens of every pair."""
        return rows.lengths("input_ids")

    def collator(self, split: str) -> "PairCollator":
        """Pads what the tokenizer gave."""
        padding = {"input_ids": self.pad_id, "token_type_ids": self.tokenizer.pad_token_type_id}
        return PairCollator({name: padding[name] for name in self._token_columns}, labelled=split != "predict")

    @property
    def _token_columns(self) -> list[str]:
        return [name for name in ("input_ids", "token_type_ids") if name in self.tokenizer.model_input_names]

    def _text_columns(self) -> list[str]:
        return [column for column in (self.first_column, self.second_column) if column is not None]

    def _find_label_names(self) -> list[str]:
        split = next((split for split in ("train", "validation", "test") if self._files[split]), None)
        if split is None:
            raise InputError("label_names is not set and no data have labels to take them from; name the labels.")
        paths = [path for language in self._files[split] for path in self.files(split, language, download=True)[0]]
        stated = class_names(paths[0], self.label_column)
        if stated is not None:
            return _checked_names(stated)
        rows = read_rows(paths, [*self._text_columns(), self.label_column])
        if not rows.table.num_rows:
            raise InputError(f"{paths[0]}: the {split} split is empty.")
        values = pc.unique(self._label_column(rows)).to_pylist()
        if not all(isinstance(value, int | str) and not isinstance(value, bool) for value in values):
            raise InputError(
                f"{paths[0]}: column '{self.label_column}' holds {values[:3]}, but labels are names or numbers from 0."
            )
        if not all(isinstance(value, int) or value.isdecimal() for value in values):
            return _checked_names(sorted(map(str, values)))
        numbers = [int(value) for value in values]
        if min(numbers, default=0) < 0 or max(numbers, default=0) >= _MOST_NUMBERED:
            raise InputError(
                f"{paths[0]}: column '{self.label_column}' holds numbers from {min(numbers)} to {max(numbers)}, which"
                " do not count labels from 0. Name the labels with label_names."
            )
        return _checked_names([str(number) for number in range(max(numbers, default=0) + 1)])

    def _label_column(self, rows: Rows) -> pa.ChunkedArray:
        column = rows.table.column(self.label_column)
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            raise InputError(f"{rows.where(0)}: column '{self.label_column}' holds {column.type}, not labels.")
        return column

    def _labels(self, rows: Rows) -> NDArray[np.int32]:
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


class PairCollator:
    """Makes a batch of `PairClassification`.

    Args:
        padding: What to pad with, of `input_ids` and of every other list that the rows have.
        labelled: Whether the rows have labels.
    """

    def __init__(self, padding: Mapping[str, int], labelled: bool) -> None:
        self.padding = dict(padding)
        self.labelled = labelled

    def __call__(self, rows: RowSet, micro: MicroBatch) -> Batch:
        """Pads the rows of one micro-batch."""
        batch = rows.common(micro)
        for name, value in self.padding.items():
            batch[name], batch["attention_mask"] = pad(rows.lists(name, micro.indices), value)
        unlabelled = torch.full((len(micro.indices),), UNLABELLED, dtype=torch.int64)
        batch["labels"] = rows.scalars("label", micro.indices) if self.labelled else unlabelled
        return batch


def _checked_names(names: Sequence[str]) -> list[str]:
    if len(set(names)) != len(names) or len(names) < 2:
        raise InputError(f"label_names is {list(names)}; it must hold two or more different names.")
    return list(names)


def _position(value: Any, names: Sequence[str]) -> int:
    """A label's position in `names`, by name or by number; -1 where it is neither."""
    if isinstance(value, str):
        if value in names:
            return names.index(value)
        value = int(value) if value.isascii() and value.isdecimal() else -1
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names)
    return value if known else -1
