"""Reads columns of CSV, TSV, JSONL and Parquet files, or plain lines, and names the file and line of what is wrong."""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ernie_m.errors import InputError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".arrow")
_TYPED = (".parquet", ".arrow")


@dataclass(frozen=True)
class Rows:
    """The columns that were asked for, of one or several files one after the other.

    Attributes:
        table: The columns, in the order asked for.
        files: Where they come from, with the number of rows of each.
        lines: The line on which each row of a text file ends, one array a file; None for Parquet.
    """

    table: pa.Table
    files: tuple[tuple[Path, int], ...]
    lines: tuple[NDArray[np.int64] | None, ...]

    def where(self, row: int) -> str:
        """The file and line (Parquet: row, from 1) that row number `row` (from 0) comes from."""
        for (path, count), lines in zip(self.files, self.lines, strict=True):
            if row < count:
                return f"{path}, row {row + 1}" if lines is None else f"{path}, line {lines[row]}"
            row -= count
        raise IndexError(row)


def read_rows(
    paths: Sequence[Path], columns: Sequence[str], *, header: bool = True, optional: Sequence[str] = ()
) -> Rows:
    """Reads columns of files of one kind of row.

    Args:
        paths: `.csv` (comma, quoted where needed), `.tsv` (tab, never quoted) or `.jsonl` (an object a line), in UTF-8,
            also with `.gz` after it; `.parquet`, or `.arrow` as `datasets` saves it. Empty lines are no rows.
        columns: The columns to read, by name. `a.b` is the field `b` of the objects in column `a`, where no column
            itself is called so.
        header: Whether the first line of a CSV or TSV file names the columns. Without it a file must have exactly as
            many columns as are asked for.
        optional: Those of the columns that are null where a file, or an object of a JSONL file, lacks them.

    Returns:
        The rows of all files, in order.

    Raises:
        InputError: A file is missing, not what its name says, broken or not UTF-8, or lacks a column.
    """
    tables, counts, lines = [], [], []
    for path in paths:
        table, numbers = _read_file(path, columns, header, optional)
        tables.append(table)
        counts.append((path, table.num_rows))
        lines.append(numbers)
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise InputError(f"The files {', '.join(map(str, paths))} have columns of different types: {error}") from error
    return Rows(table, tuple(counts), tuple(lines))


def read_whole(path: Path, header: Sequence[str] | None = None) -> pa.Table:
    """Reads all columns of a file, whatever they hold, in the file's order.

    Args:
        path: A file as `read_rows` takes it.
        header: The columns of a CSV or TSV file without a header; None where its first line names them.

    Returns:
        The rows that `read_rows` returns. Columns of CSV and TSV are text. In JSONL a key that an object lacks is null,
        and a column whose values have no type in common is the JSON text of each.

    Raises:
        InputError: The file is missing, not what its name says, broken or not UTF-8, or two columns have one name.
    """
    kind = _kind(path)
    if kind == ".jsonl":
        with _located(path):
            return _table_of(path, list(_objects(path)))
    if kind in _TYPED:
        names = list(_schema(path).names)
    elif header is not None:
        names = list(header)
    else:
        with _located(path):
            names = next(_records(path, _separator(kind)), (0, []))[1]
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise InputError(f"{path}: two columns are called '{twice[0]}'; rename one of them.")
    return _read_file(path, names, header is None, ())[0]


def texts_of(rows: Rows, column: str) -> pa.ChunkedArray:
    """A column as text.

    Args:
        rows: The rows.
        column: Its name.

    Returns:
        The column as Arrow strings, none of them null.

    Raises:
        InputError: The column holds something else than text, or a null, named with its place.
    """
    values = rows.table.column(column)
    if not rows.table.num_rows:
        return pa.chunked_array([], type=pa.string())
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_null(values.type):
        raise InputError(f"{rows.where(0)}: column '{column}' is null; every row needs a text there.")
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise InputError(
            f"{rows.where(0)}: column '{column}' holds {values.type}, not text: {values[0].as_py()!r}."
            " Name a column of text."
        )
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy())[0])
        raise InputError(f"{rows.where(row)}: column '{column}' is null; remove the row or give it a text.")
    return values


def read_lines(path: Path) -> list[str]:
    """Reads a text file in which every line is a text, an empty one too.

    Args:
        path: A file in UTF-8, with or without a byte order mark; lines end in a line feed, or a carriage return and
            one, and the last one may end without.

    Returns:
        The lines without their ends.

    Raises:
        InputError: The file cannot be read or is not UTF-8.
    """
    with _located(path), _open_text(path) as file:
        return [line.removesuffix("\n").removesuffix("\r") for line in file]


def read_json(path: Path) -> Any:
    """Reads a JSON document.

    Args:
        path: A file in UTF-8, compressed where its name ends in `.gz`.

    Raises:
        InputError: The file is missing, broken, not UTF-8, or says something twice.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist." if not path.exists() else f"{path} is not a file.")

    def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
            raise InputError(f"{path}: the key {twice!r} stands twice in one object; one of the values would be lost.")
        return found

    with _located(path), _open_text(path) as file:
        text = file.read()
    try:
        return json.loads(text, object_pairs_hook=without_repetition)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}.") from error
    except (RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not valid JSON: {error}.") from error


def _read_file(
    path: Path, columns: Sequence[str], header: bool, optional: Sequence[str]
) -> tuple[pa.Table, NDArray[np.int64] | None]:
    kind = _kind(path)
    if kind in _TYPED:
        return _read_arrow(path, columns, optional), None
    with _located(path):
        if kind == ".jsonl":
            values, lines = _read_jsonl(path, columns, optional)
        else:
            values, lines = _read_separated(path, columns, header, _separator(kind), optional)
    try:
        arrays = [pa.array(column) for column in values]
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise _mixed(path, columns, values, lines) from error
    return pa.table(arrays, names=list(columns)), np.asarray(lines, dtype=np.int64)


def _kind(path: Path) -> str:
    """The format of a file that is there, as its name says: one of `SUFFIXES`."""
    if not path.is_file():
        raise InputError(f"{path} does not exist." if not path.exists() else f"{path} is not a file.")
    is_packed = path.suffix == ".gz"
    kind = path.with_suffix("").suffix if is_packed else path.suffix
    if kind not in SUFFIXES or (is_packed and kind in _TYPED):
        raise InputError(f"{path}: cannot tell its format; the name must end in {', '.join(SUFFIXES)} (or .gz after).")
    return kind


def _separator(kind: str) -> str:
    return "," if kind == ".csv" else "\t"


def _read_arrow(path: Path, columns: Sequence[str], optional: Sequence[str]) -> pa.Table:
    schema = _schema(path)
    known = list(_dotted(schema))
    absent = [column for column in optional if column not in known]
    present = [column for column in columns if column not in absent]
    _check_columns(f"{path}", present, known)
    places = [_place(list(schema), column) for column in present]
    own = list(dict.fromkeys(top for top, *_ in places))
    try:
        if path.suffix == ".arrow":
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
                table = stream.read_all()
        else:
            table = pq.read_table(path, columns=own, partitioning=None)
        found = [pc.struct_field(table.column(top), rest) if rest else table.column(top) for top, *rest in places]
        found += [pa.nulls(table.num_rows)] * len(absent)
        table = pa.table(found, names=[*present, *absent]).select(list(columns))
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as {path.suffix[1:].capitalize()}: {error}") from error
    return table


def _place(fields: Sequence[pa.Field], name: str) -> list[str]:
    """The names on the way to a column or, by its dotted name, to a field within one; none where there is none."""
    if any(field.name == name for field in fields):
        return [name]
    for field in fields:
        if pa.types.is_struct(field.type) and name.startswith(f"{field.name}."):
            rest = _place(list(field.type), name[len(field.name) + 1 :])
            if rest:
                return [field.name, *rest]
    return []


def _dotted(fields: Iterable[pa.Field]) -> Iterator[str]:
    """The names of columns, and of those fields that columns of objects have."""
    for field in fields:
        yield field.name
        if pa.types.is_struct(field.type):
            yield from (f"{field.name}.{name}" for name in _dotted(field.type))


def _schema(path: Path) -> pa.Schema:
    try:
        if path.suffix == ".parquet":
            return pq.read_schema(path)
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            return stream.schema
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as {path.suffix[1:].capitalize()}: {error}") from error


def _records(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The number of its last line and the fields of every record."""
    if separator == "\t":
        with _open_text(path, newline="\n") as file:
            for number, line in enumerate(file, start=1):
                text = line.rstrip("\r\n")
                if text:
                    yield number, text.split("\t")
        return
    # A field may be as long as the text is; the default limit is 131,072 characters.
    csv.field_size_limit(sys.maxsize)
    with _open_text(path, newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            for record in reader:
                if record:
                    yield reader.line_num, record
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: not valid CSV: {error}.") from error


def _read_separated(
    path: Path, columns: Sequence[str], header: bool, separator: str, optional: Sequence[str]
) -> tuple[list[list[Any]], list[int]]:
    records = _records(path, separator)
    names = next(records, (0, []))[1] if header else list(columns)
    _check_columns(f"{path}", [column for column in columns if column not in optional], names)
    places = [names.index(column) if column in names else None for column in columns]
    values: list[list[Any]] = [[] for _ in columns]
    lines: list[int] = []
    for line, record in records:
        if len(record) != len(names):
            raise InputError(
                f"{path}, line {line}: {len(record)} fields where {len(names)} are expected ({', '.join(names)})."
            )
        for column, place in zip(values, places, strict=True):
            column.append(None if place is None else record[place])
        lines.append(line)
    return values, lines


def _read_jsonl(path: Path, columns: Sequence[str], optional: Sequence[str]) -> tuple[list[list[Any]], list[int]]:
    values: list[list[Any]] = [[] for _ in columns]
    lines: list[int] = []
    for number, record in _objects(path):
        try:
            for column, name in zip(values, columns, strict=True):
                column.append(_value(record, name, optional=name in optional))
        except KeyError as error:
            raise _absent(f"{path}, line {number}", error.args[0], _keys(record)) from None
        lines.append(number)
    return values, lines


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of every line that is not empty, and the JSON object on it."""
    with _open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}, line {number}: not valid JSON: {error}.") from error
            if not isinstance(record, dict):
                raise InputError(f"{path}, line {number}: expected a JSON object, found {type(record).__name__}.")
            yield number, record


def _table_of(path: Path, objects: Sequence[tuple[int, Mapping[str, Any]]]) -> pa.Table:
    """JSON objects as a table of all their keys."""
    columns = {}
    for name in dict.fromkeys(name for _, record in objects for name in record):
        values = [record.get(name) for _, record in objects]
        try:
            columns[name] = _array(values)
        except (pa.ArrowException, UnicodeEncodeError) as error:
            raise _mixed(path, [name], [values], [number for number, _ in objects]) from error
    return pa.table(columns)


def _array(values: Sequence[Any]) -> pa.Array:
    """JSON values as a column, or where their types do not go together as a column of their JSON texts."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values])


def _check_columns(place: str, columns: Sequence[str], present: Iterable[str]) -> None:
    present = list(present)
    missing = [column for column in columns if column not in present]
    if missing:
        raise _absent(place, missing[0], present)


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
    """Says which value differs in type from those before it, or cannot be written as UTF-8."""
    for name, column in zip(columns, values, strict=True):
        kind: type | None = None
        for value, line in zip(column, lines, strict=True):
            if value is None:
                continue
            if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
                return InputError(f"{path}, line {line}: column '{name}' has half a surrogate pair, which is no text.")
            if kind is not None and type(value) is not kind:
                return InputError(
                    f"{path}, line {line}: column '{name}' is {value!r} ({type(value).__name__}); the rows before have"
                    f" {kind.__name__}."
                )
            kind = type(value)
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                return InputError(f"{path}, line {line}: column '{name}' is {value}, which does not fit 64 bits.")
    return InputError(f"{path}: the columns {', '.join(columns)} hold values that are neither text nor numbers.")


@contextmanager
def _located(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a text file is read into an error that names the place."""
    try:
        yield
    except UnicodeDecodeError as error:
        line, byte, bad = _first_undecodable(path)
        raise InputError(
            f"{path}, line {line}, byte {byte}: 0x{bad:02x} is not UTF-8 ({error.reason}). Convert the file to UTF-8."
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is not a whole gzip file: {error}.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def _first_undecodable(path: Path) -> tuple[int, int, int]:
    """Line (from 1), byte offset in the (unpacked) file (from 0) and value of the first byte that is not UTF-8."""
    before = 0
    with _open_binary(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return number, before + error.start, line[error.start]
            before += len(line)
    raise AssertionError(f"{path} changed while it was read")


def _open_binary(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def _open_text(path: Path, newline: str = "\n") -> IO[str]:
    # utf-8-sig drops the byte order mark that spreadsheet programs write.
    return io.TextIOWrapper(_open_binary(path), encoding="utf-8-sig", newline=newline)


def class_names(path: Path, column: str) -> list[str] | None:
    """The names of a Parquet or Arrow file's integer labels, where `datasets` wrote them into its schema.

    Args:
        path: The file.
        column: Its column of labels, or of lists of labels.

    Returns:
        The names in the order of the integers, or None where there are none.
    """
    if path.suffix not in (".parquet", ".arrow"):
        return None
    metadata: Mapping[bytes, bytes] = _schema(path).metadata or {}
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        names = feature.get("feature", feature)["names"]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return [str(name) for name in names]
