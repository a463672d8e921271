"""Information extraction by prompt, UIE-M's task: in a text all that a prompt asks for, from one's own files."""

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from ernie_m.errors import InputError, check_positive

from .divisible import Divisible
from .prompted_rows import as_columns, read_prompted
from .shares import numbered
from .sources import Parts
from .splits import Split, splits_of
from .tokens import filling, lengths, ragged
from .windows import NO_TEXT, ContextWindow, Windows

if TYPE_CHECKING:
    from datasets import Dataset


class PromptedSpans(Divisible):
    """Texts with a prompt ("person", "price of the room") and the parts that it asks for, from JSON or Parquet.

    The format is PaddleNLP's for UIE, an object on each line: `content`, `prompt`, and `result_list` with the `text` of
    each result, its first character `start` and the one behind its last, `end`, counted in the content from 0. An empty
    list is an example of nothing to find.

    Prompt and content are a pair of texts. A row of a batch is a window: a prompt with as much of its content as fits;
    the windows of a long content overlap. (PaddleNLP cuts contents by characters, between results.) A batch holds what
    `TaskDataModule` says and

    - `input_ids`, `attention_mask` (batch, length) int64, and `token_type_ids` where the tokenizer tells the texts of
      a pair apart, as BERT's does,
    - `row` (batch,) int64: the row's number in its file,
    - in training `start_positions`, `end_positions` (batch, length) int64: 1 for the tokens that a result starts, and
      ends, with, 0 for all others. What of a result lies in another window is marked there,
    - otherwise `offsets_begin`, `offsets_end` (batch, length) int64: the characters of the content that a token stands
      for, -1 for tokens that no result starts or ends with.

    Args:
        content_column: The column of the texts.
        prompt_column: The column of the prompts.
        results_column: The column of the results; not read in prediction.
        max_prompt_length: Tokens after which a prompt is cut.
        doc_stride: Tokens of the content from the start of one window to the start of the next.
        args: What `Divisible` takes, as `kwargs`: all prompts of a content stay in one part. `max_length` and the
            sizes of batches are those of windows.
        kwargs: See `args`.
    """

    # A long content has a hundred windows.
    rows_at_once: ClassVar[int] = 256

    def __init__(
        self,
        *args: Any,
        content_column: str = "content",
        prompt_column: str = "prompt",
        results_column: str = "result_list",
        max_prompt_length: int = 64,
        doc_stride: int = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_positive(max_prompt_length=max_prompt_length, doc_stride=doc_stride)
        if max_prompt_length >= self.max_length:
            raise InputError(
                f"max_prompt_length is {max_prompt_length}; it must be below max_length, {self.max_length}."
            )
        self.content_column = content_column
        self.prompt_column = prompt_column
        self.results_column = results_column
        self.max_prompt_length = max_prompt_length
        self.doc_stride = doc_stride
        self._references: dict[tuple[str, str], pa.Table] = {}

    @cached_property
    def _windows(self) -> Windows:
        return Windows(self.tokenizer, self.max_length, self.max_prompt_length, self.doc_stride, self.prefix)

    def read(self, split: str, language: str, parts: Parts) -> pa.Table:
        """Reads texts, prompts and the characters of the results; none of these for prediction."""
        results = None if split == Split.PREDICT else self.results_column
        rows = read_prompted(parts, self.content_column, self.prompt_column, results)
        part = self.part(
            split, language, lambda: (numbered(bool(row.spans) for row in rows), numbered(row.content for row in rows))
        )
        return as_columns(rows if part is None else [rows[number] for number in part])

    def encode(self, table: pa.Table) -> pa.Table:
        """Cuts prompts and contents into windows; `weight` counts the tokens that the loss is the mean over."""
        rows = {name: table.column(name).to_pylist() for name in table.column_names}
        spans = [list(zip(*both, strict=True)) for both in zip(rows["begins"], rows["ends"], strict=True)]
        windows = list(self._windows.cut(rows["prompt"], rows["content"], spans=spans))
        columns = {
            "row": pa.array([rows["number"][window.question] for window in windows], pa.int32()),
            "input_ids": ragged([window.input_ids for window in windows]),
            "start_positions": ragged([_marked(window, 0) for window in windows]),
            "end_positions": ragged([_marked(window, 1) for window in windows]),
            "offsets_begin": ragged([window.begins for window in windows]),
            "offsets_end": ragged([window.ends for window in windows]),
        }
        columns["length"] = columns["weight"] = lengths(columns["input_ids"])
        if "token_type_ids" in filling(self.tokenizer):
            columns["token_type_ids"] = ragged([window.token_type_ids for window in windows])
        exact = [set[tuple[int, int]]() for _ in spans]
        for window in windows:
            exact[window.question] |= {
                (window.begins[first], window.ends[last])
                for first, last in window.spans
                if NO_TEXT not in (first, last)
            }
        # Of a row, on its first window alone.
        is_first = np.diff([window.question for window in windows], prepend=-1) > 0
        for name, counts in (
            ("results", [len(own) for own in spans]),
            ("inexact", [len(set(own) - found) for own, found in zip(spans, exact, strict=True)]),
        ):
            of_windows = np.zeros(len(windows), dtype=np.int32)
            of_windows[is_first] = counts
            columns[name] = pa.array(of_windows)
        return pa.table(columns)

    def filling(self, split: str) -> dict[str, int | None]:
        """The row's number, the tokens, and what starts and ends with them or where they stand."""
        names = ("start_positions", "end_positions") if split == Split.TRAIN else ("offsets_begin", "offsets_end")
        return {"row": None, **filling(self.tokenizer), **dict.fromkeys(names, 0 if split == Split.TRAIN else NO_TEXT)}

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The columns, and how windows are cut."""
        return {
            "rows": "prompted",
            "columns": [self.content_column, self.prompt_column],
            "results": None if split == Split.PREDICT else self.results_column,
            "max_prompt_length": self.max_prompt_length,
            "doc_stride": self.doc_stride,
            **self.settings_of_part(split, language),
        }

    def summary(self, rows: "Dataset") -> str:
        """The prompts, results and windows, and how many results cannot be found exactly."""
        results, inexact = (int(rows.data.column(name).to_numpy().sum()) for name in ("results", "inexact"))
        count = len(rows.data.column("row").unique())
        said = f"{count:,} prompts with {results:,} results in {len(rows):,} windows"
        if inexact:
            said += f"; {inexact:,} results begin or end within a token, or fit no window: none of these can be found"
        return said

    def references(self, stage: str, language: str) -> pa.Table:
        """The rows of one language, in the order of `row`.

        Args:
            stage: "validate", "test" or "predict".
            language: One of `eval_languages(stage)`.

        Returns:
            `content` and `prompt` (strings), `begins` and `ends` (lists of int32, empty in prediction).
        """
        split = splits_of(stage)[-1]
        if (split, language) not in self._references:
            table = self.read(split, language, self.source(split, language, download=False).parts)
            self._references[split, language] = table.select(["content", "prompt", "begins", "ends"])
        return self._references[split, language]


def _marked(window: ContextWindow, side: int) -> list[int]:
    """1 for the tokens that spans start with (side 0) or end with (side 1), 0 for the others."""
    marks = [0] * len(window.input_ids)
    for span in window.spans:
        if span[side] != NO_TEXT:
            marks[span[side]] = 1
    return marks
