"""Multiple choice from one's own files or a data set in the Hub's layout: the right one of several texts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ernie_m.errors import InputError

from .divisible import Divisible
from .labels import counted, labels_in
from .reading import SourceRows, empty_rows, read_rows, texts_of
from .sources import Parts
from .splits import Split
from .text_classification import UNLABELLED
from .tokens import filling, lengths, ragged

if TYPE_CHECKING:
    from datasets import Dataset


class AnswerChoices(Divisible):
    """A context with two or more texts of which one goes with it, from CSV, TSV, JSONL, Parquet or Arrow files.

    A batch holds what `TaskDataModule` says and `input_ids` (batch, choices, length) int64, `attention_mask`
    (batch, choices, length) int64 and `labels` (batch,) int64, the place of the right choice, -100 in prediction. Where
    the tokenizer tells the texts of a pair apart, as BERT's does, also `token_type_ids` (batch, choices, length) int64.
    A row costs its choices times the longest of them, and that is what `micro_batch_tokens` and
    `eval_tokens_per_batch` count.

    Each choice is paired with the context. What is asked stands before the choice and not behind the context, whose end
    is what is cut of a long one.

    Args:
        context_column: The text that the choices are about.
        choice_columns: The columns of the choices, two or more, in the order of their numbers.
        label_column: The right choice: a name of `label_names`, whatever its case, or its place from 0 where no name is
            a number.
        label_names: What labels call the choices, in their order, such as [A, B]; None for the names of their columns.
        question_column: The column of what is asked; None where the context alone is to be continued.
        questions: What a value of that column stands for: `{cause: What was the cause of this?}`. None where the column
            holds the question itself.
        args: What `Divisible` takes, as `kwargs`. Of a pair the longer text is cut first.
        kwargs: See `args`.
    """

    def __init__(
        self,
        *args: Any,
        context_column: str = "context",
        choice_columns: Sequence[str] = ("choice1", "choice2"),
        label_column: str = "label",
        label_names: list[str] | None = None,
        question_column: str | None = None,
        questions: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if len(choice_columns) < 2 or len(set(choice_columns)) < len(choice_columns):
            raise InputError(f"choice_columns is {list(choice_columns)}; it must name two or more different columns.")
        names = [name.strip() for name in (choice_columns if label_names is None else label_names)]
        if len(names) != len(choice_columns) or len(set(names)) < len(names):
            raise InputError(
                f"label_names is {names}; it must have a name of its own for each of the {len(choice_columns)} choices."
            )
        if questions is not None and question_column is None:
            raise InputError("questions is set without question_column; name the column, or leave questions out.")
        self.context_column = context_column
        self.choice_columns = list(choice_columns)
        self.label_column = label_column
        self.label_names = names
        self.question_column = question_column
        self.questions: Mapping[str, str] | None = questions

    def read(self, split: str, language: str, parts: Parts) -> pa.Table:
        """Reads the texts, and the labels as numbers, `UNLABELLED` for prediction."""
        labelled = split != Split.PREDICT
        named = {"context": self.context_column, "question": self.question_column}
        columns = {name: column for name, column in named.items() if column is not None}
        columns |= {f"choice_{number}": column for number, column in enumerate(self.choice_columns)}
        # One column may serve twice, as where a choice is the context with its end.
        wanted = dict.fromkeys([*columns.values(), *([self.label_column] if labelled else [])])
        rows = read_rows(parts, list(wanted))
        texts = {name: texts_of(rows, column) for name, column in columns.items()}
        if labelled and rows.table.num_rows:
            empty_rows(rows, {column: texts[name] for name, column in columns.items()}, "they are kept")
        if self.questions is not None:
            texts["question"] = self._asked(rows, texts["question"])
        labels = np.full(rows.table.num_rows, UNLABELLED, dtype=np.int32)
        if labelled:
            # What a file calls its numbers is not asked: a number is a place.
            labels = labels_in(rows, self.label_column, None).numbers(self.label_names)
        return pa.table({**texts, "labels": labels})

    def _asked(self, rows: SourceRows, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """What each value of the column of questions stands for."""
        known = self.questions or {}
        given: list[str] = values.to_pylist()
        for row, value in enumerate(given):
            if value not in known:
                raise InputError(
                    f"{rows.where(row)}: column '{self.question_column}' is {value[:40]!r}; questions has"
                    f" {', '.join(map(repr, known)) or 'none'}. Add it there, or correct the row."
                )
        return pa.chunked_array([pa.array([known[value] for value in given], pa.string())])

    def encode(self, table: pa.Table) -> pa.Table:
        """Tokenises a pair for every choice, the longer text cut first."""
        count = len(self.choice_columns)
        contexts = [self.prefix + text for text in table.column("context").to_pylist() for _ in range(count)]
        choices = [table.column(f"choice_{number}").to_pylist() for number in range(count)]
        asked = table.column("question").to_pylist() if "question" in table.column_names else [""] * len(table)
        seconds = [
            self.prefix + (f"{question} {choice}" if question else choice)
            for question, *of_row in zip(asked, *choices, strict=True)
            for choice in of_row
        ]
        encoded = self.tokenizer(
            contexts, seconds, truncation="longest_first", max_length=self.max_length, return_attention_mask=False
        )
        offsets = np.arange(0, len(seconds) + 1, count, dtype=np.int32)
        columns = {name: ragged(encoded[name]) for name in filling(self.tokenizer)}
        longest = lengths(columns["input_ids"]).to_numpy().reshape(-1, count).max(axis=1)
        nested = {name: pa.ListArray.from_arrays(offsets, lists) for name, lists in columns.items()}
        return pa.table({**nested, "length": longest * np.int32(count), "labels": table.column("labels")})

    def kept(self, split: str, language: str, rows: "Dataset") -> NDArray[np.int64] | None:
        """The part of a file that is divided; the right choices keep their proportions."""
        return self.part(split, language, lambda: (rows.data.column("labels").to_numpy().astype(np.int64), None))

    def filling(self, split: str) -> dict[str, int | None]:
        """What the tokenizer gave, and `labels`."""
        return {**filling(self.tokenizer), "labels": None}

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The columns, what is asked, and the names of the choices."""
        settings: dict[str, Any] = {
            "rows": "choices",
            "columns": [self.context_column, self.question_column, *self.choice_columns],
            "questions": self.questions,
        }
        if split != Split.PREDICT:
            settings |= {"label_column": self.label_column, "label_names": self.label_names}
        return settings

    def summary(self, rows: "Dataset") -> str:
        """How often each choice is the right one."""
        labels = rows.select_columns(["labels"]).with_format("arrow")[:].column(0).to_pylist()
        return "" if UNLABELLED in labels[:1] else f"{len(labels):,} rows: {counted(labels, self.label_names)}"
