"""Extractive question answering from one's own files, SQuAD's JSON or a data set in the Hub's layout."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import ArrayLike
from transformers import PreTrainedTokenizerBase

from ernie_m import load_tokenizer
from ernie_m.errors import InputError

from .base import TaskDataModule
from .batching import MicroBatch, pad
from .cache import ArrowRows, ragged
from .loading import Batch, RowSet
from .questions import Columns, OnBadAnswer, Question, as_table, check_texts, read_questions, trainable
from .windows import NO_TEXT, Windows


class QuestionAnswering(TaskDataModule):
    """Questions whose answers stand in a context, from SQuAD's JSON, CSV, TSV, JSONL or Parquet.

    A row is a window: a question with as much of its context as fits; the windows of a long context overlap. A batch
    holds what `TaskDataModule` says and

    - `input_ids`, `attention_mask` (batch, length) int64, and `token_type_ids` where the tokenizer tells the texts of
      a pair apart, as BERT's does,
    - `question` (batch,) int64: the question's number in its file,
    - in training `start_positions`, `end_positions` (batch,) int64: the first and last token of the answer, 0 where
      the window does not hold it,
    - otherwise `offsets_begin`, `offsets_end` (batch, length) int64: the characters of the context that a token stands
      for, -1 for tokens that no answer starts or ends with.

    Files of several splits and languages are named by language: "en", or "de-en" for German contexts with English
    questions. XQuAD and TyDiQA-GoldP have SQuAD's JSON too. Ids must be different within a file that is predicted on.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        train_files: Language to training file; a pattern with `*` stands for several.
        validation_files: The same for validation.
        test_files: The same for test.
        path: Folder or Hub data set that the files lie in; None where they are paths of their own.
        revision: Branch, tag or commit of a Hub data set.
        id_column: Of rows, the column of the ids; None to number the rows from 0.
        context_column: The column of the contexts.
        question_column: The column of the questions.
        answers_column: The column of all answers, with lists `text` and `answer_start` as `datasets` has them.
        answer_column: Instead of that, the column of one answer's text.
        answer_start_column: With it, the column of its first character in the context, from 0; needed in training.
        on_bad_answer: Whether training stops ("stop") where an answer does not stand at its offset or a question has
            none, or goes on without such questions and says how many and which ("skip").
        predict_path: File to predict on; only its ids, questions and contexts are read.
        predict_language: Its language, one of the others; None for the first.
        max_length: Tokens of a window, special tokens included.
        max_query_length: Tokens after which a question is cut.
        doc_stride: Tokens of the context from the start of one window to the start of the next, as in BERT's and
            Baidu's code. transformers' `stride` is what two windows share instead.
        single_separator: One separator between question and context where ERNIE-M has two, as in Baidu's code for
            reading comprehension; other tokenizers keep their format.
        global_batch_size: Windows of one optimiser step, over all devices.
        micro_batch_size: At most so many windows at once on a device; None for no limit.
        micro_batch_tokens: At most so many tokens at once on a device in training, padding included; None for no limit.
        eval_tokens_per_batch: Rows times longest row of an evaluation batch.
        seed: With the epoch it fixes the order of the training data.
        num_workers: Processes that prepare training batches.
        cache_dir: Folder of the tokenised data; None for the user's cache folder.
        trust_remote_code: Whether to run tokenizer code that a folder or Hub repository carries.
    """

    prediction_formats: ClassVar[tuple[str, ...]] = (".json",)
    # A long context has a hundred windows.
    rows_at_once: ClassVar[int] = 256

    def __init__(
        self,
        tokenizer: str,
        train_files: dict[str, str] | None = None,
        validation_files: dict[str, str] | None = None,
        test_files: dict[str, str] | None = None,
        path: str | None = None,
        revision: str | None = None,
        id_column: str | None = "id",
        context_column: str = "context",
        question_column: str = "question",
        answers_column: str = "answers",
        answer_column: str | None = None,
        answer_start_column: str | None = None,
        on_bad_answer: OnBadAnswer = "stop",
        predict_path: str | None = None,
        predict_language: str | None = None,
        max_length: int = 384,
        max_query_length: int = 64,
        doc_stride: int = 128,
        single_separator: bool = False,
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
        for name, size in (("max_query_length", max_query_length), ("doc_stride", doc_stride)):
            if size < 1:
                raise InputError(f"{name} is {size}; it must be at least 1.")
        if max_query_length >= max_length:
            raise InputError(f"max_query_length is {max_query_length}; it must be below max_length, {max_length}.")
        if answer_start_column is not None and answer_column is None:
            raise InputError("answer_start_column is set without answer_column; name both, or neither.")
        self.columns = Columns(
            id_column, context_column, question_column, answers_column, answer_column, answer_start_column
        )
        self.on_bad_answer: OnBadAnswer = on_bad_answer
        self.max_query_length = max_query_length
        self.doc_stride = doc_stride
        self.single_separator = single_separator
        self._references: dict[tuple[str, str], pa.Table] = {}
        if predict_path is not None:
            self.add_predict(predict_path, predict_language)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, loaded at first use, with the separators that the windows have."""
        tokenizer = super().tokenizer
        if not self.single_separator:
            return tokenizer
        if not hasattr(tokenizer, "pair_separators"):
            rank_zero_info(
                f"single_separator: the tokenizer '{self.tokenizer_name}' ({type(tokenizer).__name__}) keeps its own"
                " format of pairs."
            )
            return tokenizer
        return load_tokenizer(self.tokenizer_name, self.trust_remote_code, pair_separators=1)

    @cached_property
    def _windows(self) -> Windows:
        return Windows(self.tokenizer, self.max_length, self.max_query_length, self.doc_stride)

    def read(self, split: str, language: str, paths: list[Path]) -> pa.Table:
        """Reads the questions; those to train on with the place of their first answer."""
        questions = read_questions(paths, self.columns, answered=split == "train")
        numbers = trainable(questions, self.on_bad_answer) if split == "train" else None
        if numbers is None:
            check_texts(questions)
        if split != "predict" and questions and not any(question.answers for question in questions):
            self._tell_unanswered(split, questions[0])
        table = as_table(questions, numbers)
        return table.append_column("questions", pa.array([len(questions)] * len(table), pa.int32()))

    def _tell_unanswered(self, split: str, first: Question) -> None:
        """Says, before anything is computed, that there will be no score; a checkpoint is chosen by one."""
        message = (
            f"{first.place} and all after it have no answer; SQuAD's JSON has them under 'answers', rows in a column"
        )
        message += " that answers_column or answer_column names"
        if split == "validation":
            raise InputError(f"{message}. Validation needs them.")
        rank_zero_warn(f"{message}: they are answered, and not scored.")

    def encode(self, table: pa.Table) -> pa.RecordBatch:
        """Cuts questions and contexts into windows."""
        rows = {name: table.column(name).to_pylist() for name in table.column_names if name != "answers"}
        answers = list(zip(rows["begin"], rows["end"], strict=True)) if "begin" in rows else None
        windows = list(self._windows.cut(rows["question"], rows["context"], answers))
        of = [window.question for window in windows]
        columns = {
            "question": pa.array([rows["number"][number] for number in of], pa.int32()),
            "questions": pa.array([rows["questions"][number] for number in of], pa.int32()),
            "input_ids": ragged([window.input_ids for window in windows]),
        }
        if self._has_types:
            columns["token_type_ids"] = ragged([window.token_type_ids for window in windows])
        if answers is None:
            columns["offsets_begin"] = ragged([window.begins for window in windows])
            columns["offsets_end"] = ragged([window.ends for window in windows])
        else:
            columns["start_position"] = pa.array([window.start for window in windows], pa.int32())
            columns["end_position"] = pa.array([window.end for window in windows], pa.int32())
        return pa.record_batch(columns)

    def schema(self, split: str) -> pa.Schema:
        """`question`, `questions` (how many the file has), the tokens, and their places or the answer's."""
        lists = ["input_ids", *(["token_type_ids"] if self._has_types else [])]
        lists += [] if split == "train" else ["offsets_begin", "offsets_end"]
        numbers = ["start_position", "end_position"] if split == "train" else []
        return pa.schema(
            [("question", pa.int32()), ("questions", pa.int32())]
            + [(name, pa.list_(pa.int32())) for name in lists]
            + [(name, pa.int32()) for name in numbers]
        )

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The columns, how windows are cut, and what becomes of bad answers."""
        columns = self.columns
        settings: dict[str, Any] = {
            "rows": "windows",
            "columns": [columns.id, columns.context, columns.question],
            "max_query_length": self.max_query_length,
            "doc_stride": self.doc_stride,
        }
        # Rows that were read to be tested on may lack the answers that validation needs.
        if split in ("train", "validation"):
            settings["answers"] = [columns.answers, columns.answer, columns.answer_start]
        if split == "train":
            settings["on_bad_answer"] = self.on_bad_answer
        return settings

    def lengths(self, rows: RowSet) -> ArrayLike:
        """The tokens of every window."""
        return rows.lengths("input_ids")

    def collator(self, split: str) -> "WindowCollator":
        """Pads what the tokenizer gave."""
        padding = {"input_ids": self.pad_id}
        if self._has_types:
            padding["token_type_ids"] = self.tokenizer.pad_token_type_id
        return WindowCollator(padding, training=split == "train")

    def summary(self, rows: ArrowRows) -> str:
        """The questions and windows, and what of them cannot be trained on."""
        if not len(rows):
            return ""
        of, total = rows.scalars("question"), int(rows.scalars("questions")[0])
        kept = len(np.unique(of))
        said = f"{kept:,} questions in {len(rows):,} windows"
        if kept < total:
            said += f"; {total - kept:,} of {total:,} questions are left out (on_bad_answer: {self.on_bad_answer})"
        if "start_position" in rows.columns:
            unheld = kept - len(np.unique(of[rows.scalars("start_position") > 0]))
            if unheld:
                said += f"; no window holds the whole answer of {unheld:,}"
        return said

    def references(self, stage: str, language: str) -> pa.Table:
        """The questions of one language, in the order of `question`.

        Args:
            stage: "validate", "test" or "predict".
            language: One of `eval_languages(stage)`.

        Returns:
            `id`, `question`, `context` (strings) and `answers` (the texts of all answers, empty where there are none).
        """
        split = "validation" if stage == "validate" else stage
        if (split, language) not in self._references:
            paths, _ = self.files(split, language, download=False)
            self._references[split, language] = self.read(split, language, paths).select(
                ["id", "question", "context", "answers"]
            )
        return self._references[split, language]

    def predictions_as_text(self, tables: Mapping[str, pa.Table]) -> str:
        """The official prediction JSON: id to answer.

        Args:
            tables: Language to predictions, with `id` and `prediction`.
        """
        found = {
            row["id"]: row["prediction"]
            for table in tables.values()
            for row in table.select(["id", "prediction"]).to_pylist()
        }
        return json.dumps(found, ensure_ascii=False, indent=1) + "\n"

    @property
    def _has_types(self) -> bool:
        return "token_type_ids" in self.tokenizer.model_input_names


class WindowCollator:
    """Makes a batch of `QuestionAnswering`.

    Args:
        padding: What to pad with, of `input_ids` and of every other list of the tokenizer's.
        training: Whether the rows have the answer's position, instead of the tokens' places in the text.
    """

    def __init__(self, padding: Mapping[str, int], training: bool) -> None:
        self.padding = dict(padding)
        self.training = training

    def __call__(self, rows: RowSet, micro: MicroBatch) -> Batch:
        """Pads the windows of one micro-batch."""
        batch = rows.common(micro)
        batch["question"] = rows.scalars("question", micro.indices)
        for name, value in self.padding.items():
            batch[name], batch["attention_mask"] = pad(rows.lists(name, micro.indices), value)
        if self.training:
            for name in ("start_position", "end_position"):
                batch[f"{name}s"] = rows.scalars(name, micro.indices)
        else:
            for name in ("offsets_begin", "offsets_end"):
                batch[name] = self._places(rows, name, micro)
        return batch

    def _places(self, rows: RowSet, name: str, micro: MicroBatch) -> torch.Tensor:
        return pad(rows.lists(name, micro.indices), NO_TEXT)[0]
