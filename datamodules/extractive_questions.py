"""Extractive question answering from one's own files, SQuAD's JSON or a data set in the Hub's layout."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from transformers import PreTrainedTokenizerBase

from ernie_m import load_tokenizer
from ernie_m.errors import InputError, check_positive

from .divisible import Divisible
from .questions import (
    Columns,
    OnBadAnswer,
    Question,
    as_table,
    check_impossible,
    check_not_emptied,
    check_texts,
    read_questions,
    trainable,
)
from .shares import numbered
from .sources import Parts
from .splits import Split, splits_of
from .tokens import filling, lengths, ragged
from .windows import NO_TEXT, Windows

if TYPE_CHECKING:
    from datasets import Dataset


# Columns of predictions that say nothing beyond the file that was predicted on.
_NOT_WRITTEN = ("example_id", "references")


class ExtractiveQuestions(Divisible):
    """Questions whose answers stand in a context, from SQuAD's JSON, CSV, TSV, JSONL or Parquet.

    A row is a window: a question with as much of its context as fits; the windows of a long context overlap. A batch
    holds what `TaskDataModule` says and

    - `input_ids`, `attention_mask` (batch, length) int64, and `token_type_ids` where the tokenizer tells the texts of
      a pair apart, as BERT's does,
    - `question` (batch,) int64: the question's number in its file,
    - in training `start_positions`, `end_positions` (batch,) int64: the first and last token of the answer, 0 where
      the window does not hold it or there is none,
    - otherwise `offsets_begin`, `offsets_end` (batch, length) int64: the characters of the context that a token stands
      for, -1 for tokens that no answer starts or ends with.

    Files of several splits and languages are named by language: "en", or "de-en" for German contexts with English
    questions. XQuAD and TyDiQA-GoldP have SQuAD's JSON too. Ids must be different within a file that is predicted on.

    Args:
        id_column: Of rows, the column of the ids; None to number the rows from 0.
        context_column: The column of the contexts.
        question_column: The column of the questions.
        answers_column: The column of all answers, with lists `text` and `answer_start` as `datasets` has them.
        answer_column: Instead of that, the column of one answer's text.
        answer_start_column: With it, the column of its first character in the context, from 0; needed in training.
        on_bad_answer: Whether training stops ("stop") where an answer does not stand at its offset or a question has
            none, or goes on without such questions and says how many and which ("skip").
        version_2_with_negative: Whether the context may not answer a question, as in SQuAD 2.0: `is_impossible` in its
            JSON, elsewhere an empty list of answers or, in `answer_column`, an empty text. Such questions are then
            trained on and scored; the task has the same option. Called as in transformers' scripts.
        max_query_length: Tokens after which a question is cut.
        doc_stride: Tokens of the context from the start of one window to the start of the next, as in BERT's and
            Baidu's code. transformers' `stride` is what two windows share instead.
        single_separator: One separator between question and context where ERNIE-M has two, as in Baidu's code for
            reading comprehension; other tokenizers keep their format.
        args: What `Divisible` takes, as `kwargs`: all questions on a context stay in one part. `max_length` and the
            sizes of batches are those of windows.
        kwargs: See `args`.
    """

    prediction_formats: ClassVar[tuple[str, ...]] = (".json", ".jsonl")
    example_column: ClassVar[str | None] = "question"
    # A long context has a hundred windows.
    rows_at_once: ClassVar[int] = 256

    def __init__(
        self,
        *args: Any,
        id_column: str | None = "id",
        context_column: str = "context",
        question_column: str = "question",
        answers_column: str = "answers",
        answer_column: str | None = None,
        answer_start_column: str | None = None,
        on_bad_answer: OnBadAnswer = "stop",
        version_2_with_negative: bool = False,
        max_query_length: int = 64,
        doc_stride: int = 128,
        single_separator: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_positive(max_query_length=max_query_length, doc_stride=doc_stride)
        if max_query_length >= self.max_length:
            raise InputError(f"max_query_length is {max_query_length}; it must be below max_length, {self.max_length}.")
        if answer_start_column is not None and answer_column is None:
            raise InputError("answer_start_column is set without answer_column; name both, or neither.")
        self.columns = Columns(
            id_column, context_column, question_column, answers_column, answer_column, answer_start_column
        )
        self.on_bad_answer: OnBadAnswer = on_bad_answer
        self.version_2_with_negative = version_2_with_negative
        self.max_query_length = max_query_length
        self.doc_stride = doc_stride
        self.single_separator = single_separator
        self._references: dict[tuple[str, str], pa.Table] = {}

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
        return Windows(self.tokenizer, self.max_length, self.max_query_length, self.doc_stride, self.prefix)

    def read(self, split: str, language: str, parts: Parts) -> pa.Table:
        """Reads the questions; those to train on with the place of their first answer."""
        negatives = self.version_2_with_negative
        questions = self.questions_of(split, language, parts)
        part = self.part(
            split,
            language,
            lambda: (numbered(bool(one.answers) for one in questions), numbered(one.context for one in questions)),
        )
        if part is not None:
            questions = [questions[number] for number in part]
        numbers = trainable(questions, self.on_bad_answer, negatives) if split == Split.TRAIN else None
        if numbers is None:
            check_texts(questions)
        if split in (Split.VALIDATION, Split.TEST):
            check_not_emptied(questions)
            if negatives:
                check_impossible(questions)
        if split != Split.PREDICT and questions and not any(question.answers for question in questions):
            self._tell_unanswered(split, questions)
        table = as_table(questions, numbers, negatives)
        return table.append_column("questions", pa.array([len(questions)] * len(table), pa.int32()))

    def questions_of(self, split: str, language: str, parts: Parts) -> list[Question]:
        """Reads the questions of one split and language; a subclass may leave some of a file's out."""
        negatives = self.version_2_with_negative
        return read_questions(parts, self.columns, answered=split == Split.TRAIN, negatives=negatives)

    def _tell_unanswered(self, split: str, questions: Sequence[Question]) -> None:
        """Says, before anything is computed, that there will be no score; a checkpoint is chosen by one."""
        message = f"{questions[0].place} and all after it have no answer"
        if self.version_2_with_negative and any(question.is_impossible for question in questions):
            if split == Split.VALIDATION:
                rank_zero_warn(f"{message}, as the file says: a threshold that is chosen on them lets no answer pass.")
            return
        message += (
            "; SQuAD's JSON has them under 'answers', rows in a column that answers_column or answer_column names"
        )
        if split == Split.VALIDATION:
            raise InputError(f"{message}. Validation needs them.")
        rank_zero_warn(f"{message}: they are answered, and not scored.")

    def encode(self, table: pa.Table) -> pa.Table:
        """Cuts questions and contexts into windows; `questions` says how many the file has."""
        rows = {name: table.column(name).to_pylist() for name in table.column_names if name != "answers"}
        answers = list(zip(rows["begin"], rows["end"], strict=True)) if "begin" in rows else None
        windows = list(self._windows.cut(rows["question"], rows["context"], answers))
        of = [window.question for window in windows]
        columns = {
            "question": pa.array([rows["number"][number] for number in of], pa.int32()),
            "questions": pa.array([rows["questions"][number] for number in of], pa.int32()),
            "input_ids": ragged([window.input_ids for window in windows]),
        }
        columns["length"] = lengths(columns["input_ids"])
        if self.version_2_with_negative:
            is_impossible = [right == [] for right in table.column("answers").to_pylist()]
            columns["is_impossible"] = pa.array([is_impossible[number] for number in of], pa.bool_())
        if "token_type_ids" in filling(self.tokenizer):
            columns["token_type_ids"] = ragged([window.token_type_ids for window in windows])
        if answers is None:
            columns["offsets_begin"] = ragged([window.begins for window in windows])
            columns["offsets_end"] = ragged([window.ends for window in windows])
        else:
            columns["start_positions"] = pa.array([window.start for window in windows], pa.int32())
            columns["end_positions"] = pa.array([window.end for window in windows], pa.int32())
        return pa.table(columns)

    def filling(self, split: str) -> dict[str, int | None]:
        """The question's number, the tokens, and their places or the answer's."""
        places = dict.fromkeys(("offsets_begin", "offsets_end"), NO_TEXT)
        answer = dict.fromkeys(("start_positions", "end_positions"))
        return {"question": None, **filling(self.tokenizer), **(answer if split == Split.TRAIN else places)}

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The columns, how windows are cut, and what becomes of bad answers."""
        columns = self.columns
        settings: dict[str, Any] = {
            "rows": "windows",
            "columns": [columns.id, columns.context, columns.question],
            "max_query_length": self.max_query_length,
            "doc_stride": self.doc_stride,
            # Rows that were read to be tested on may lack the answers that validation needs.
            "split": str(split),
        }
        if split in splits_of("fit"):
            settings["answers"] = [columns.answers, columns.answer, columns.answer_start]
        if split == Split.TRAIN:
            settings["on_bad_answer"] = self.on_bad_answer
        if self.version_2_with_negative:
            settings["version_2_with_negative"] = True
        return settings | self.settings_of_part(split, language)

    def summary(self, rows: "Dataset") -> str:
        """The questions and windows, and what of them cannot be trained on."""
        of, total = rows.data.column("question"), rows.data.column("questions")[0].as_py()
        kept = len(of.unique())
        said = f"{kept:,} questions in {len(rows):,} windows"
        if kept < total:
            said += f"; {total - kept:,} of {total:,} questions are left out (on_bad_answer: {self.on_bad_answer})"
        unanswered = 0
        if "is_impossible" in rows.column_names:
            unanswered = len(of.filter(rows.data.column("is_impossible")).unique())
            said += f"; {unanswered:,} of {kept:,} questions have no answer"
        if "start_positions" in rows.column_names:
            is_held = rows.data.column("start_positions").to_numpy() > 0
            unheld = kept - unanswered - len(of.filter(pa.array(is_held)).unique())
            if unheld:
                said += f"; no window holds the whole answer of {unheld:,}"
        return said

    def references(self, stage: str, language: str) -> pa.Table:
        """The questions of one language, in the order of `question`.

        Args:
            stage: "validate", "test" or "predict".
            language: One of `eval_languages(stage)`.

        Returns:
            `id`, `question`, `context` (strings) and `answers` (the texts of all answers, empty where there are none;
            with `version_2_with_negative` null where the file says nothing of them).
        """
        split = splits_of(stage)[-1]
        if (split, language) not in self._references:
            table = self.read(split, language, self.source(split, language, download=False).parts)
            self._references[split, language] = table.select(["id", "question", "context", "answers"])
        return self._references[split, language]

    def predictions_as_text(self, tables: Mapping[str, pa.Table], suffix: str) -> str:
        """The official prediction JSON, id to answer and "" for none, or all that is known of each, as JSONL.

        Args:
            tables: Language to predictions, with `id` and `prediction`.
            suffix: ".json", or ".jsonl" for scores and further answers too.
        """
        if suffix == ".jsonl":
            known = (
                table.drop_columns([name for name in _NOT_WRITTEN if name in table.column_names])
                for table in tables.values()
            )
            return "".join(json.dumps(row, ensure_ascii=False) + "\n" for table in known for row in table.to_pylist())
        found = {
            row["id"]: row["prediction"]
            for table in tables.values()
            for row in table.select(["id", "prediction"]).to_pylist()
        }
        return json.dumps(found, ensure_ascii=False, indent=1) + "\n"
