"""Reads texts with prompts and the spans that these ask for, PaddleNLP's format for UIE, and checks them one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ernie_m.errors import InputError

from .json_files import objects_in
from .opening import located, suffix_of
from .reading import read_rows
from .sources import Parts

if TYPE_CHECKING:
    from datasets import Dataset

_JSON = (".jsonl", ".json")
_KEYS = ("text", "start", "end")
# Characters of a text that a message shows.
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class PromptedRow:
    """One row.

    Attributes:
        content: The text.
        prompt: What is asked for.
        spans: Of what the prompt asks for the first character and the one behind the last, ascending, each once.
        place: Where the row stands.
    """

    content: str
    prompt: str
    spans: tuple[tuple[int, int], ...]
    place: str


def read_prompted(parts: Parts, content: str, prompt: str, results: str | None) -> list[PromptedRow]:
    """Reads the rows of some files or data sets.

    Args:
        parts: JSON lines, JSON arrays, Parquet, or data sets.
        content: The column of the texts.
        prompt: The column of the prompts.
        results: The column of the results, lists of objects with `text`, `start` and `end`; None to read none.

    Raises:
        InputError: A file is broken, lacks a column, or a text, offset or prompt cannot be; named with its place.
    """
    names = [content, prompt, *([results] if results is not None else [])]
    return [
        _checked(dict(zip(("content", "prompt", "results"), names, strict=False)), values, place)
        for part in parts
        for place, values in (_in_json(part, names) if _is_json(part) else _in_table(part, names))
    ]


def _is_json(part: "Path | Dataset") -> bool:
    return isinstance(part, Path) and suffix_of(part) in _JSON


def _in_json(path: "Path | Dataset", names: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    """The values of every object; not by way of a table, which has no place for values of several types."""
    assert isinstance(path, Path)
    with located(path):
        for line, record in objects_in(path):
            if absent := [name for name in names if name not in record]:
                present = ", ".join(map(repr, record)) or "none"
                raise InputError(f"{path}, line {line}: no column '{absent[0]}'; it has {present}.")
            yield f"{path}, line {line}", [record[name] for name in names]


def _in_table(part: "Path | Dataset", names: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    rows = read_rows([part], names)
    columns = [rows.table.column(name).to_pylist() for name in names]
    for number, values in enumerate(zip(*columns, strict=True)):
        yield rows.where(number), list(values)


def _checked(columns: dict[str, str], values: Sequence[Any], place: str) -> PromptedRow:
    texts = []
    for name, value in zip(("content", "prompt"), values, strict=False):
        if not isinstance(value, str):
            raise InputError(f"{place}: column '{columns[name]}' is {_shown(value)}, which is no text.")
        if not value.strip():
            raise InputError(f"{place}: column '{columns[name]}' is empty; remove the row or give it a text.")
        texts.append(value)
    spans = _spans(values[2], texts[0], f"{place}, column '{columns['results']}'") if len(values) > 2 else ()
    return PromptedRow(texts[0], texts[1], spans, place)


def _spans(value: Any, content: str, place: str) -> tuple[tuple[int, int], ...]:
    """The offsets of results that stand where they say."""
    if not isinstance(value, list):
        raise InputError(
            f"{place} is {_shown(value)}; it must be a list of objects with text, start and end, [] where there is"
            " nothing to find."
        )
    found = set()
    for number, result in enumerate(value):
        at = f"{place}[{number}]"
        if not isinstance(result, dict) or any(result.get(key) is None for key in _KEYS):
            raise InputError(f"{at} is {_shown(result)}; it must be an object with text, start and end.")
        text, start, end = (result[key] for key in _KEYS)
        if not isinstance(text, str) or any(type(offset) is not int for offset in (start, end)):
            raise InputError(f"{at} is {_shown(result)}; text must be a text, start and end whole numbers.")
        if start < 0:
            raise InputError(
                f"{at}: start is {start}. Offsets that count back into the prompt, as PaddleNLP writes them for"
                " classification, are not read; give such data to a classifier (custom/text_classification)."
            )
        if not start < end <= len(content):
            raise InputError(
                f"{at}: {start} to {end} is no part of the content, which has {len(content)} characters. They are"
                " counted from 0, and end is the one behind the last."
            )
        if content[start:end] != text:
            raise InputError(
                f"{at}: text is {_shown(text)}, but from {start} to {end} stands {content[start:end][:_SHOWN]!r}."
                " Correct the offsets: they count characters, not bytes."
            )
        if not text.strip():
            raise InputError(f"{at}: text is blank, which no token stands for; remove the result.")
        found.add((start, end))
    return tuple(sorted(found))


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= _SHOWN else text[: _SHOWN - 3] + '...'}"


def as_columns(rows: Sequence[PromptedRow]) -> pa.Table:
    """The rows as `number` (int32), `content`, `prompt`, and `begins` and `ends` (lists of int32)."""
    offsets = pa.list_(pa.int32())
    return pa.table(
        {
            "number": pa.array(range(len(rows)), pa.int32()),
            "content": pa.array([row.content for row in rows], pa.string()),
            "prompt": pa.array([row.prompt for row in rows], pa.string()),
            "begins": pa.array([[begin for begin, _ in row.spans] for row in rows], offsets),
            "ends": pa.array([[end for _, end in row.spans] for row in rows], offsets),
        }
    )
