"""What data modules share that give a text, or a pair of texts, something to predict."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .divisible import Divisible
from .reading import SourceRows, empty_rows, read_rows, texts_of
from .sources import Parts
from .splits import Split
from .tokens import filling, lengths, ragged

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset


class LabelledTexts(Divisible):
    """Texts, or pairs of texts, from CSV, TSV, JSONL, Parquet or `datasets`' Arrow files.

    A batch holds what `TaskDataModule` says and `input_ids` (batch, length) int64, `attention_mask` (batch, length)
    int64 and the `labels` that the subclass describes. Where the tokenizer tells the texts of a pair apart, as BERT's
    does, also `token_type_ids` (batch, length) int64.

    Args:
        first_column: The first text.
        second_column: The second text; None for single texts.
        group_column: Rows with the same value in this column, such as a document, stay in one split where a file is
            divided.
        args: What `Divisible` takes, as `kwargs`. Of a pair the longer text is cut first.
        kwargs: See `args`.
    """

    # What the rows are, other ones having other labels.
    kind: ClassVar[str] = "texts"
    # What the lists of the labels are padded with; None where a label is one number.
    labels_filling: ClassVar[int | None] = None

    def __init__(
        self,
        *args: Any,
        first_column: str = "premise",
        second_column: str | None = "hypothesis",
        group_column: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.first_column = first_column
        self.second_column = second_column
        self.group_column = group_column

    # What a subclass says.

    @property
    @abstractmethod
    def columns_of_labels(self) -> list[str]:
        """The columns that say what a row's labels are."""

    @abstractmethod
    def read_labels(self, rows: SourceRows, part: "Path | Dataset") -> pa.Array:
        """Reads and checks the labels of some rows.

        Args:
            rows: The rows, with `columns_of_labels` among their columns.
            part: The file or data set that they come from.
        """

    @abstractmethod
    def no_labels(self, count: int) -> pa.Array:
        """What stands for the labels of rows that are predicted on."""

    @abstractmethod
    def strata(self, labels: pa.ChunkedArray) -> NDArray[np.int64]:
        """A number for each row, the same for rows whose proportions a division keeps together."""

    @abstractmethod
    def settings_of_labels(self) -> dict[str, Any]:
        """What `labels` depend on, as JSON can hold it."""

    @abstractmethod
    def summary_of_labels(self, labels: pa.ChunkedArray) -> str:
        """What to say about the labels of a split and language."""

    # What the base asks for.

    def read(self, split: str, language: str, parts: Parts) -> pa.Table:
        """Reads the texts and the labels."""
        return pa.concat_tables([self._read_part(split, part) for part in parts], promote_options="permissive")

    def _read_part(self, split: str, part: "Path | Dataset") -> pa.Table:
        texts = self.text_columns
        labelled = split != Split.PREDICT
        grouped = [self.group_column] if labelled and self._shares and self.group_column is not None else []
        rows = read_rows([part], [*texts, *self.columns_of_labels, *grouped] if labelled else texts)
        columns = {name: texts_of(rows, column) for name, column in zip(("first", "second"), texts, strict=False)}
        if labelled and rows.table.num_rows:
            empty_rows(rows, dict(zip(texts, columns.values(), strict=True)), "they are kept with their labels")
        labels = self.read_labels(rows, part) if labelled else self.no_labels(rows.table.num_rows)
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
        """The part of a file that is divided."""
        return self.part(split, language, lambda: self._division(rows))

    def _division(self, rows: "Dataset") -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """What the subclass says of the labels, and the groups of `group_column`."""
        groups = rows.data.column("group").combine_chunks() if "group" in rows.column_names else None
        numbers = None if groups is None else groups.dictionary_encode().indices.to_numpy()
        return self.strata(rows.data.column("labels")), numbers

    def filling(self, split: str) -> dict[str, int | None]:
        """What the tokenizer gave, and `labels`."""
        return {**filling(self.tokenizer), "labels": self.labels_filling}

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The columns and the labels."""
        settings: dict[str, Any] = {"rows": self.kind, "columns": self.text_columns}
        if split != Split.PREDICT:
            settings |= self.settings_of_labels()
            settings |= {"group_column": self.group_column} if self._shares and self.group_column is not None else {}
        return settings

    def summary(self, rows: "Dataset") -> str:
        """How many rows there are, and what their labels are."""
        # Not `rows.data`, which has those too that are not used.
        labels = rows.select_columns(["labels"]).with_format("arrow")[:].column(0)
        said = self.summary_of_labels(labels)
        return f"{len(labels):,} texts: {said}" if said else ""

    @property
    def text_columns(self) -> list[str]:
        """The columns that hold the texts."""
        return [column for column in (self.first_column, self.second_column) if column is not None]
