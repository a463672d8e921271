"""Reads JSON documents, and the objects of JSON Lines and of JSON arrays, each with its line."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ernie_m.errors import InputError

from .opening import located, open_text, suffix_of

DEEPEST = 50
"""Objects and lists that may hold each other in a row: a column takes memory by the square of it."""

# JSON's escape of a half of a surrogate pair; with its other half it is a character.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_BLANKS = re.compile(r"[ \t\r\n]*")


def read_json(path: Path) -> Any:
    """Reads a JSON document.

    Args:
        path: A file in UTF-8, compressed where its name ends in `.gz`.

    Raises:
        InputError: The file is missing, broken, not UTF-8, or says something twice.
    """

    def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise InputError(f"{path}: the key {twice!r} stands twice in one object; one of the values would be lost.")
        return found

    with located(path), open_text(path) as file:
        text = file.read()
    try:
        return json.loads(text, object_pairs_hook=without_repetition)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}.") from error
    except (RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not valid JSON: {error}.") from error


def objects_in(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Reads the objects of a file: one on every line that is not empty, or in a `.json` file also all in one array.

    Args:
        path: The file, compressed where its name ends in `.gz`.

    Yields:
        The line that each begins on, and the object.

    Raises:
        InputError: The file is not valid JSON, or holds something else than objects.
    """
    may_be_array = suffix_of(path) == ".json"
    with open_text(path) as file:
        before = ""
        for number, line in enumerate(file, start=1):
            if not line.strip():
                before += line if may_be_array else ""
                continue
            if may_be_array and line.lstrip().startswith("["):
                yield from _elements(path, before + line + file.read())
                return
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                kind = " (an object on each line, or an array of objects, is read)" if may_be_array else ""
                raise InputError(f"{path}, line {number}: not valid JSON{kind}: {error}.") from error
            may_be_array = False
            yield number, _checked(path, number, record, line)


def _elements(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The elements of an array, with the lines that they begin on."""
    decoder = json.JSONDecoder()
    position = _after_blanks(text, text.index("[") + 1)
    line, counted = 1, 0
    goes_on = not text.startswith("]", position)
    while goes_on:
        line, counted = line + text.count("\n", counted, position), position
        try:
            record, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {line}: not valid JSON: {error}.") from error
        yield line, _checked(path, line, record, text[position:end])
        position = _after_blanks(text, end)
        if goes_on := text.startswith(",", position):
            position = _after_blanks(text, position + 1)
    if text[position:].rstrip() != "]":
        raise InputError(f"{path}, line {line}: not valid JSON: expected a comma or the end of the array behind this.")


def _after_blanks(text: str, position: int) -> int:
    found = _BLANKS.match(text, position)
    return found.end() if found else position


def _checked(path: Path, number: int, record: Any, text: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise InputError(f"{path}, line {number}: expected a JSON object, found {type(record).__name__}.")
    if _HALF.search(text) and not _is_text(record):
        raise InputError(f"{path}, line {number}: holds half a surrogate pair, which is no text.")
    if text.count("{") + text.count("[") > DEEPEST and _depth(record) > DEEPEST:
        raise InputError(f"{path}, line {number}: nested more than {DEEPEST} deep.")
    return record


def _is_text(value: Any) -> bool:
    """Whether all texts and names within a JSON value can be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _depth(value: Any) -> int:
    """How many objects and lists hold each other at most."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth
