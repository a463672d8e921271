"""Parses CSV, TSV, JSON and plain lines into columns, and names the file and line of what is wrong.

`datasets`' own builders do not do: a short row of CSV becomes empty texts, dates in JSON become timestamps, lines are
split at characters within a text, and errors name neither file nor line.
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ernie_m.errors import InputError

from .json_files import objects_in
from .opening import located, open_text

# Cells of a table for each that has a value.
_MOST_EMPTY = 100


def read_lines(path: Path) -> Iterator[str]:
    """Reads a text file in which every line is a text, an empty one too.

    Args:
        path: A file in UTF-8, with or without a byte order mark; lines end in a line feed, or a carriage return and
            one, and the last one may end without.

    Yields:
        The lines without their ends.

    Raises:
        InputError: The file cannot be read or is not UTF-8.
    """
    with located(path), open_text(path) as file:
        for line in file:
            yield line.removesuffix("\n").removesuffix("\r")


def _records(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The number of its last line and the fields of every record."""
    if separator == "\t":
        with open_text(path, newline="\n") as file:
            for number, line in enumerate(file, start=1):
                text = line.rstrip("\r\n")
                if text:
                    yield number, text.split("\t")
        return
    # A field may be as long as the text is; the default limit is 131,072 characters.
    csv.field_size_limit(sys.maxsize)
    with open_text(path, newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            for record in reader:
                if record:
                    yield reader.line_num, record
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: not valid CSV: {error}.") from error


def names_of_columns(path: Path, separator: str) -> list[str]:
    """The fields of the first line of a CSV or TSV file; none of an empty one."""
    with located(path):
        return next(_records(path, separator), (0, []))[1]


def read_separated(
    path: Path,
    columns: Sequence[str],
    header: bool | None,
    separator: str,
    optional: Sequence[str],
    at_once: int | None,
) -> Iterator[tuple[pa.Table, NDArray[np.int64]]]:
    """Reads columns of a CSV or TSV file as text.

    Args:
        path: The file.
        columns: The columns to read.
        header: Whether the first line names them; False where there must be exactly these, None where they are called
            "1", "2" and so on.
        separator: A comma, for fields that are quoted where needed, or a tab, for fields that never are.
        optional: Those of the columns that are null where the file lacks them.
        at_once: Rows of a part; None for the whole file in one.

    Yields:
        The columns, and the line on which each row ends.

    Raises:
        InputError: The file is broken or lacks a column.
    """
    part = _Part(path, columns)
    with located(path):
        records = _records(path, separator)
        names = next(records, (0, []))[1] if header else list(columns)
        if header is None:
            first = next(records, (0, list(columns)))
            names = [str(number) for number in range(1, len(first[1]) + 1)]
            records = chain([first] if first[0] else [], records)
        check_columns(f"{path}", [column for column in columns if column not in optional], names)
        at = {name: place for place, name in reversed(list(enumerate(names)))}
        places = [at.get(column) for column in columns]
        for line, record in records:
            if len(record) != len(names):
                raise InputError(
                    f"{path}, line {line}: {len(record)} fields where {len(names)} are expected ({', '.join(names)})."
                )
            part.add(line, [None if place is None else record[place] for place in places])
            if len(part.lines) == at_once:
                yield part.taken()
    yield part.taken()


def read_jsonl(
    path: Path, columns: Sequence[str], optional: Sequence[str], at_once: int | None
) -> Iterator[tuple[pa.Table, NDArray[np.int64]]]:
    """Reads keys of the objects of a JSONL file, their values as they are.

    Args:
        path: The file.
        columns: The keys to read; `a.b` is the key `b` of the object under `a`.
        optional: Those that are null where an object lacks them.
        at_once: Rows of a part; None for the whole file in one.

    Yields:
        The columns, and the line of each row.

    Raises:
        InputError: The file is broken, an object lacks a key, or the values of a key are of several types.
    """
    part = _Part(path, columns)
    with located(path):
        for number, record in objects_in(path):
            try:
                part.add(number, [_value(record, name, optional=name in optional) for name in columns])
            except KeyError as error:
                raise _absent(f"{path}, line {number}", error.args[0], _keys(record)) from None
            if len(part.lines) == at_once:
                yield part.taken()
    yield part.taken()


def lines_in_parts(path: Path, column: str, at_once: int) -> Iterator[tuple[pa.Table, NDArray[np.int64]]]:
    """Reads a text file in which every line is a text, as `read_lines`.

    Args:
        path: The file, compressed where its name ends in `.gz`.
        column: What to call the texts.
        at_once: Lines of a part.

    Yields:
        The texts, and the line of each.

    Raises:
        InputError: The file cannot be read or is not UTF-8.
    """
    part = _Part(path, [column])
    for number, line in enumerate(read_lines(path), start=1):
        part.add(number, [line])
        if len(part.lines) == at_once:
            yield part.taken()
    yield part.taken()


class _Part:
    """Rows of a file that become a table together."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.columns = list(columns)
        self._empty()

    def _empty(self) -> None:
        self.lines: list[int] = []
        self._values: list[list[Any]] = [[] for _ in self.columns]

    def add(self, line: int, row: Sequence[Any]) -> None:
        for column, value in zip(self._values, row, strict=True):
            column.append(value)
        self.lines.append(line)

    def taken(self) -> tuple[pa.Table, NDArray[np.int64]]:
        """The rows so far, with the line of each; the next part begins."""
        try:
            arrays = [pa.array(column) for column in self._values]
        except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
            raise _mixed(self.path, self.columns, self._values, self.lines) from error
        lines = np.asarray(self.lines, dtype=np.int64)
        self._empty()
        return pa.table(arrays, names=self.columns), lines


def table_of_objects(path: Path) -> pa.Table:
    """Reads a JSONL file as a table of all keys of its objects; null where an object lacks one.

    Raises:
        InputError: The file is broken.
    """
    with located(path):
        found = list(objects_in(path))
    names, filled = dict.fromkeys(name for _, record in found for name in record), sum(len(one) for _, one in found)
    if len(names) * len(found) > _MOST_EMPTY * (filled + 1000):
        raise InputError(
            f"{path}: {len(names):,} different keys, of which no object has more than few; give all the same."
        )
    columns = {}
    for name in names:
        values = [record.get(name) for _, record in found]
        try:
            columns[name] = _array(values)
        except (pa.ArrowException, UnicodeEncodeError) as error:
            raise _mixed(path, [name], [values], [number for number, _ in found]) from error
    return pa.table(columns)


def _array(values: Sequence[Any]) -> pa.Array:
    """JSON values as a column, or where their types do not go together as a column of their JSON texts."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values])


def is_counting(text: str) -> bool:
    """Whether a text is a number that may count something: of digits, and not so many that Python refuses them."""
    return text.isascii() and text.isdecimal() and len(text) < 20


def check_columns(place: str, columns: Sequence[str], present: Iterable[str]) -> None:
    """Refuses columns that are not there.

    Args:
        place: Where they are wanted.
        columns: Those that are wanted.
        present: Those that are there.
    """
    known = dict.fromkeys(present)
    missing = [column for column in columns if column not in known]
    if missing:
        raise _absent(place, missing[0], known)


def _absent(place: str, column: str, present: Iterable[str]) -> InputError:
    return InputError(f"{place}: no column '{column}'; it has {', '.join(map(repr, present)) or 'none'}.")


def _value(record: Mapping[str, Any], name: str, optional: bool = False) -> Any:
    """The value of a key or, by its dotted name, of a key of an object within; None within a null."""
    if name in record:
        return record[name]
    for key, value in record.items():
        if name.startswith(f"{key}."):
            if value is None:
                return None
            if isinstance(value, dict):
                with suppress(KeyError):
                    return _value(value, name[len(key) + 1 :])
    if optional:
        return None
    raise KeyError(name)


def _keys(record: Mapping[str, Any]) -> Iterator[str]:
    """The keys of an object and of the objects within."""
    for key, value in record.items():
        yield key
        if isinstance(value, dict):
            yield from (f"{key}.{name}" for name in _keys(value))


def _mixed(path: Path, columns: Sequence[str], values: list[list[Any]], lines: list[int]) -> InputError:
    """Says which value differs in type from those before it."""
    for name, column in zip(columns, values, strict=True):
        kind: type | None = None
        for value, line in zip(column, lines, strict=True):
            if value is None:
                continue
            if kind is not None and type(value) is not kind:
                return InputError(
                    f"{path}, line {line}: column '{name}' is {value!r} ({type(value).__name__}); the rows before have"
                    f" {kind.__name__}."
                )
            kind = type(value)
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                return InputError(f"{path}, line {line}: column '{name}' is {value}, which does not fit 64 bits.")
    return InputError(f"{path}: the columns {', '.join(columns)} hold values that are neither text nor numbers.")
