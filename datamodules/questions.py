"""Reads questions on contexts, and their answers, from SQuAD's JSON and from rows, and checks them one by one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from lightning.pytorch.utilities import rank_zero_warn

from ernie_m.errors import InputError

from .json_files import read_json
from .opening import suffix_of
from .reading import read_rows, texts_of
from .sources import Parts

if TYPE_CHECKING:
    from datasets import Dataset

OnBadAnswer = Literal["stop", "skip"]

# Questions that are named when something is wrong with several.
_NAMED = 3
_UNANSWERED = "without an answer (as SQuAD 2.0 has them)"
# Characters of a text that a message shows.
_SHOWN = 60


@dataclass(frozen=True)
class Columns:
    """Which columns of rows hold what.

    Attributes:
        id: The question's id; None to number the rows from 0.
        context: The text that holds the answer.
        question: The question.
        answers: All answers, as `datasets` has SQuAD's (lists `text` and `answer_start`) or as SQuAD's JSON has them.
        answer: One answer's text, instead of `answers`.
        answer_start: Its first character in the context, from 0.
    """

    id: str | None = "id"
    context: str = "context"
    question: str = "question"
    answers: str = "answers"
    answer: str | None = None
    answer_start: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        id: Its id.
        text: What is asked.
        context: The text that holds the answer.
        answers: Text and first character of every answer, None where the file does not say where.
        place: Where it stands.
        is_impossible: Whether its file says that the context does not answer it, by `is_impossible` as SQuAD 2.0's
            JSON or by an empty list; None where the file says nothing of answers.
    """

    id: str
    text: str
    context: str
    answers: tuple[tuple[str, int | None], ...]
    place: str
    is_impossible: bool | None = None

    def __str__(self) -> str:
        return f"question {self.id!r} ({self.place})"


def read_questions(parts: Parts, columns: Columns, answered: bool, negatives: bool = False) -> list[Question]:
    """Reads the questions of some files or data sets.

    Args:
        parts: SQuAD's JSON (`.json`), or rows: CSV, TSV, JSONL, Parquet, data sets. Files also with `.gz` after it.
        columns: The columns of rows.
        answered: Whether rows must have the columns of the answers.
        negatives: Whether questions without an answer are meant to have none.

    Raises:
        InputError: A file is broken or has another shape, named with its place.
    """
    questions: list[Question] = []
    for part in parts:
        is_document = isinstance(part, Path) and suffix_of(part) == ".json"
        found = _in_document(part, negatives) if is_document else _in_rows(part, columns, answered, len(questions))
        questions.extend(found)
    return questions


def _in_document(path: Path, negatives: bool) -> Iterator[Question]:
    """Walks through SQuAD's JSON: `data`, `paragraphs`, `context` and `qas`, `id`, `question` and `answers`.

    SQuAD 2.0's `is_impossible` is read where questions may have no answer; its `plausible_answers` never are.
    """
    document = read_json(path)
    for i, article in enumerate(_member(document, "data", list, path, "the document")):
        for j, paragraph in enumerate(_member(article, "paragraphs", list, path, f"data[{i}]")):
            at = f"data[{i}].paragraphs[{j}]"
            context = _member(paragraph, "context", str, path, at)
            for k, qa in enumerate(_member(paragraph, "qas", list, path, at)):
                inside = f"{at}.qas[{k}]"
                question = _member(qa, "question", str, path, inside)
                name = _identifier(_member(qa, "id", (str, int), path, inside), f"{path}, {inside}")
                answers = _answers(qa.get("answers"), f"{path}, {inside}.answers")
                stated = None if qa.get("answers") is None else not answers
                if negatives and "is_impossible" in qa and not isinstance(stated := qa["is_impossible"], bool):
                    raise InputError(f"{path}, {inside}.is_impossible: expected true or false, found {_shown(stated)}.")
                yield Question(name, question, context, answers, f"{path}, {inside}", stated)


def _member(value: Any, key: str, kind: type | tuple[type, ...], path: Path, place: str) -> Any:
    """What an object holds under a key."""
    if not isinstance(value, dict):
        raise InputError(f"{path}, {place}: expected an object with {key!r}, found {_shown(value)}.")
    if key not in value:
        present = ", ".join(map(repr, value)) or "none"
        raise InputError(f"{path}, {place}: no key {key!r}; it has {present}. SQuAD's format needs it.")
    found = value[key]
    if not isinstance(found, kind) or isinstance(found, bool):
        expected = {list: "a list", str: "a text", (str, int): "a text or a whole number"}[kind]
        raise InputError(f"{path}, {place}.{key}: expected {expected}, found {_shown(found)}.")
    return _text(found, f"{path}, {place}.{key}") if isinstance(found, str) else found


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= _SHOWN else text[: _SHOWN - 3] + '...'}"


def _text(value: str, place: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place} has half a surrogate pair, which is no text.") from error
    return value


def _identifier(value: Any, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise InputError(f"{place}: the id is {_shown(value)}; every question needs one, a text or a whole number.")
    return str(value)


def _answers(value: Any, place: str) -> tuple[tuple[str, int | None], ...]:
    """The answers in either layout: a list of objects, or an object of lists."""
    if value is None:
        return ()
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list | None):
            raise InputError(f"{place}: expected lists 'text' and 'answer_start', found {_shown(value)}.")
        if starts is not None and len(starts) != len(texts):
            raise InputError(f"{place}: {len(texts)} texts but {len(starts)} values of 'answer_start'.")
        pairs: list[tuple[Any, Any]] = list(zip(texts, starts or [None] * len(texts), strict=True))
    elif isinstance(value, list):
        for number, answer in enumerate(value):
            if not isinstance(answer, dict) or "text" not in answer:
                raise InputError(f"{place}[{number}]: expected an object with 'text', found {_shown(answer)}.")
        pairs = [(answer["text"], answer.get("answer_start")) for answer in value]
    else:
        raise InputError(f"{place}: expected answers, found {_shown(value)}.")
    return tuple((_answer_text(text, place), _start(start, place)) for text, start in pairs)


def _answer_text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{place}: an answer's text is {_shown(value)}, which is no text.")
    return _text(value, place)


def _start(value: Any, place: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise InputError(f"{place}: an answer_start is {_shown(value)}; it must be a whole number.")
    return value


def _in_rows(part: "Path | Dataset", columns: Columns, answered: bool, first: int) -> Iterator[Question]:
    texts = [columns.question, columns.context]
    names = [columns.id] if columns.id is not None else []
    flat = [columns.answer] if columns.answer is not None else []
    flat += [columns.answer_start] if flat and columns.answer_start is not None else []
    own = flat or [columns.answers]
    rows = read_rows([part], [*names, *texts, *own], optional=() if answered else own)
    asked, contexts = (texts_of(rows, name).to_pylist() for name in texts)
    ids = rows.table.column(columns.id).to_pylist() if columns.id is not None else range(first, first + len(asked))
    found = [rows.table.column(name).to_pylist() for name in own]
    # An empty answer says that there is none, also one that Parquet has as a null; a column of nulls is no column.
    says_all = bool(flat) and any(value is not None for value in found[0])
    for number, (name, question, context) in enumerate(zip(ids, asked, contexts, strict=True)):
        place = rows.where(number)
        values = [column[number] for column in found]
        answers = _flat_answer(values, place) if flat else _answers(values[0], f"{place}, column '{columns.answers}'")
        stated = not answers if says_all or values[0] is not None else None
        yield Question(_identifier(name, place), question, context, answers, place, stated)


def _flat_answer(values: Sequence[Any], place: str) -> tuple[tuple[str, int | None], ...]:
    """The answer of columns of their own; an empty text is none."""
    text, start = values[0], values[1] if len(values) > 1 else None
    if text is None or text == "":
        return ()
    if isinstance(start, str):
        try:
            start = int(start) if start.strip() else None
        except ValueError as error:
            raise InputError(f"{place}: the answer's start is {start!r}; it must be a whole number.") from error
    return ((_answer_text(text, place), _start(start, place)),)


def check_texts(questions: Sequence[Question]) -> None:
    """Refuses questions that cannot be asked or told apart.

    Raises:
        InputError: A question or context is empty, or two questions have the same id.
    """
    places: dict[str, str] = {}
    for question in questions:
        if problem := _emptiness(question):
            raise InputError(f"{question}: {problem}.")
        if question.id in places:
            raise InputError(
                f"the id {question.id!r} stands twice, at {places[question.id]} and at {question.place}; predictions"
                " are kept by id, so every question of a file needs its own."
            )
        places[question.id] = question.place


def _emptiness(question: Question) -> str:
    if not question.text.strip():
        return "the question is empty"
    return "the context is empty" if not question.context.strip() else ""


def check_not_emptied(questions: Sequence[Question]) -> None:
    """Refuses questions to score whose answers were taken out, as XTREME's script does with those of its test files.

    Raises:
        InputError: There are answers, and all of them are empty texts.
    """
    texts = [text for question in questions for text, _ in question.answers]
    if texts and not any(map(str.strip, texts)):
        raise InputError(
            f"{questions[0].place} and all after it have an empty answer, as in the test files that XTREME's script"
            " writes: nothing can be scored by them. Take the files that the data set itself publishes."
        )


def check_impossible(questions: Sequence[Question]) -> None:
    """Refuses questions to score whose answers contradict what their file says of them.

    Raises:
        InputError: `is_impossible` is true where there is an answer, or false where there is none.
    """
    for question in questions:
        if problem := _contradiction(question):
            raise InputError(f"{question} is one {problem}; correct is_impossible, or the answers.")


def _contradiction(question: Question) -> str:
    if question.is_impossible is None or question.is_impossible != bool(question.answers):
        return ""
    return f"{'with' if question.answers else 'without'} an answer, though is_impossible says otherwise"


def trainable(questions: Sequence[Question], on_bad_answer: OnBadAnswer, negatives: bool = False) -> list[int]:
    """Finds the questions that can be trained on: those whose first answer stands where the file says.

    Args:
        questions: All questions of the training data.
        on_bad_answer: Whether to stop, or to go on without the others.
        negatives: Whether those that have no answer, as the file says, can be trained on too.

    Returns:
        Their positions.

    Raises:
        InputError: `on_bad_answer` is "stop" and there are others; they are counted by what is wrong, and some named.
            Or none of them all has an answer.
    """
    good: list[int] = []
    bad: dict[str, list[str]] = {}
    for number, question in enumerate(questions):
        kind, detail = _problem(question, negatives)
        if kind:
            bad.setdefault(kind, []).append(f"{question}{detail}")
        else:
            good.append(number)
    if bad:
        listed = "".join(f"\n  {len(names)} {kind}: " + "; ".join(_some(names)) for kind, names in bad.items())
        message = f"{len(questions) - len(good)} of {len(questions):,} questions cannot be trained on:{listed}"
        if on_bad_answer == "stop":
            remedy = "Correct them, or leave them out with on_bad_answer: skip."
            if _UNANSWERED in bad:
                remedy += " Where the context is not to answer them, train on them with version_2_with_negative: true."
            raise InputError(f"{message}\n{remedy}")
        rank_zero_warn(f"{message}\nThey are left out.")
    if good and not any(questions[number].answers for number in good):
        raise InputError(
            f"{questions[good[0]].place} and all after it have no answer, so there is nothing to learn but to give"
            " none; train on questions with answers too."
        )
    return good


def _some(names: Sequence[str]) -> list[str]:
    return [*names[:_NAMED], *(["..."] if len(names) > _NAMED else [])]


def _problem(question: Question, negatives: bool) -> tuple[str, str]:
    """What keeps a question from being trained on, and what is to be seen there; empty where nothing does."""
    if empty := _emptiness(question):
        return f"where {empty}", ""
    if negatives and (contradiction := _contradiction(question)):
        return contradiction, ""
    if not question.answers:
        if not negatives:
            return _UNANSWERED, ""
        return "" if question.is_impossible else "with neither an answer nor an empty list of them", ""
    text, start = question.answers[0]
    if not text.strip():
        return "whose answer is empty", ""
    if start is None:
        return "whose answer has no answer_start", f": {_shown(text)}"
    found = question.context[start : start + len(text)] if start >= 0 else ""
    if found != text:
        return "whose answer does not stand at its answer_start", f": {_shown(text)} at {start}, where {found!r} stands"
    return "", ""


def as_table(questions: Sequence[Question], numbers: Sequence[int] | None, negatives: bool = False) -> pa.Table:
    """The questions as columns.

    Args:
        questions: All questions.
        numbers: Those to train on, whose answers are known to be right; None for all, to predict.
        negatives: Whether questions without an answer are meant to have none.

    Returns:
        `number` (int32, among all), `id`, `question`, `context`, `answers` (the texts) and, to train, `begin` and
        `end` (int32): the first character of the first answer and the one behind its last, -1 where there is none.
        With `negatives`, the `answers` are null where a file says nothing of them.
    """
    chosen = range(len(questions)) if numbers is None else numbers
    kept = [questions[number] for number in chosen]
    columns = {
        "number": pa.array(chosen, pa.int32()),
        # Not a column of texts, which the vocabulary of a language is taken from.
        "id": pa.array([question.id for question in kept], pa.string()).dictionary_encode(),
        "question": pa.array([question.text for question in kept], pa.string()),
        "context": pa.array([question.context for question in kept], pa.string()),
        "answers": pa.array(
            [
                None if negatives and question.is_impossible is None else [text for text, _ in question.answers]
                for question in kept
            ],
            pa.list_(pa.string()),
        ),
    }
    if numbers is not None:
        firsts = [question.answers[0] if question.answers else None for question in kept]
        columns["begin"] = pa.array([-1 if first is None else first[1] for first in firsts], pa.int32())
        ends = [-1 if first is None else (first[1] or 0) + len(first[0]) for first in firsts]
        columns["end"] = pa.array(ends, pa.int32())
    return pa.table(columns)
