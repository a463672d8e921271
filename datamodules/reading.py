"""Reads columns of files, text and Parquet alike, and of data sets, and names the place of what is wrong."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from ernie_m.errors import InputError

from . import text_files
from .compat import checked_datasets
from .data_folders import check_arrow
from .opening import check_is_file, is_packed, suffix_of
from .sources import Parts

if TYPE_CHECKING:
    from datasets import Dataset, Features, IterableDataset

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow")
_TYPED = (".parquet", ".arrow")
_JSON = (".jsonl", ".json")
# Rows of a Parquet file that are taken over at once.
_AT_ONCE = 100_000


@dataclass(frozen=True)
class SourceRows:
    """The columns that were asked for, of one or several files or data sets one after the other.

    Attributes:
        table: The columns, in the order asked for.
        parts: What to call each part, with the number of its rows.
        lines: The line on which each row of a text file ends, one array a part; None for others.
        before: Rows of the first part that come before these.
        origin: Of each row of the table the number of the row of the parts that it was taken of; None where they are
            the same. (rows,)
    """

    table: pa.Table
    parts: tuple[tuple[str, int], ...]
    lines: tuple[NDArray[np.int64] | None, ...]
    before: int = 0
    origin: NDArray[np.int64] | None = None

    def where(self, row: int) -> str:
        """The file and line (otherwise row, from 1) that row number `row` (from 0) comes from."""
        row = row if self.origin is None else int(self.origin[row])
        for (name, count), lines in zip(self.parts, self.lines, strict=True):
            if row < count:
                return f"{name}, row {self.before + row + 1}" if lines is None else f"{name}, line {lines[row]}"
            row -= count
        raise IndexError(row)


def read_rows(parts: Parts, columns: Sequence[str], *, header: bool = True, optional: Sequence[str] = ()) -> SourceRows:
    """Reads columns of rows of one kind.

    Args:
        parts: Files: `.csv` (comma, quoted where needed), `.tsv` (tab, never quoted) or `.jsonl` (an object a line), in
            UTF-8, also with `.gz` after it; `.parquet`, or `.arrow` as `datasets` saves it; or data sets. Empty lines
            are no rows.
        columns: The columns to read, by name. `a.b` is the field `b` of the objects in column `a`, where no column
            itself is called so.
        header: Whether the first line of a CSV or TSV file names the columns. Without it a file must have exactly as
            many columns as are asked for.
        optional: Those of the columns that are null where a part, or an object of a JSONL file, lacks them.

    Returns:
        The rows of all parts, in order.

    Raises:
        InputError: A file is missing, not what its name says, broken or not UTF-8, or lacks a column.
    """
    tables, counts, lines = [], [], []
    for part in parts:
        table, numbers = _read_part(part, columns, header, optional)
        tables.append(table)
        counts.append((_name(part), table.num_rows))
        lines.append(numbers)
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise InputError(
            f"The files {', '.join(map(_name, parts))} have columns of different types: {error}"
        ) from error
    return SourceRows(table, tuple(counts), tuple(lines))


def rows_in_parts(parts: Parts, columns: Sequence[str], header: bool | None, at_once: int) -> Iterator[SourceRows]:
    """Reads columns of rows of one kind, some at a time, so that memory does not grow with the files.

    Args:
        parts: As in `read_rows`, or where one column is asked for also `.txt` (and `.txt.gz`), a text a line; data sets
            that are streamed too.
        columns: As in `read_rows`.
        header: As in `read_rows`; None where the columns are called by their numbers, "1" the first.
        at_once: How many rows.

    Yields:
        The rows, in order.

    Raises:
        InputError: As in `read_rows`.
    """
    for part in parts:
        before = 0
        for table, lines in _tables_in(part, columns, header, at_once):
            yield SourceRows(table, ((_name(part), table.num_rows),), (lines,), before)
            before += table.num_rows


def _tables_in(
    part: "Path | Dataset | IterableDataset", columns: Sequence[str], header: bool | None, at_once: int
) -> Iterator[tuple[pa.Table, NDArray[np.int64] | None]]:
    kind = _kind(part, (*SUFFIXES, ".txt") if len(columns) == 1 else SUFFIXES) if isinstance(part, Path) else ""
    if isinstance(part, Path) and kind == ".txt":
        yield from text_files.lines_in_parts(part, columns[0], at_once)
    elif isinstance(part, Path) and kind in _JSON:
        yield from text_files.read_jsonl(part, columns, (), at_once)
    elif isinstance(part, Path) and kind not in _TYPED:
        yield from text_files.read_separated(part, columns, header, _separator(kind), (), at_once)
    else:
        tables = _typed_tables(part, at_once) if isinstance(part, Path) else part.with_format("arrow").iter(at_once)
        dataset = checked_datasets().Dataset
        yield from ((_columns_of(dataset(table), _name(part), columns, ()), None) for table in tables)


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
    if kind in _JSON:
        return text_files.table_of_objects(path)
    if kind in _TYPED:
        names = list(_features(path))
    else:
        names = list(header) if header is not None else text_files.names_of_columns(path, _separator(kind))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{path}: two columns are called '{twice[0]}'; rename one of them.")
    return _read_part(path, names, header is None, ())[0]


def open_dataset(path: Path) -> "Dataset":
    """Reads a Parquet file, or one in Arrow's streaming format, as `datasets` does: with the names of its classes.

    Raises:
        InputError: It is neither.
    """
    datasets = checked_datasets()
    if suffix_of(path) == ".arrow":
        check_arrow(path)
        try:
            return datasets.Dataset.from_file(os.path.abspath(path))
        except Exception as error:  # datasets raises anything for features that it did not write
            raise _unreadable(path, error) from error
    return datasets.Dataset(pa.concat_tables(_typed_tables(path, _AT_ONCE)))


def _typed_tables(path: Path, at_once: int) -> Iterator[pa.Table]:
    """The rows of a file that `open_dataset` reads, some at a time; an empty table where there are none."""
    datasets = checked_datasets()
    if suffix_of(path) == ".arrow":
        yield from open_dataset(path).with_format("arrow").iter(at_once)
        return
    # Of names without a place, pyarrow and `datasets` take some for addresses.
    place = os.path.abspath(path)
    try:
        if not pq.read_metadata(place).num_rows:
            yield pq.read_schema(place).empty_table()
        else:
            # Streamed: otherwise a copy of the file stays on disk, which is served again for any file of its path and
            # time.
            rows = datasets.load_dataset("parquet", data_files=[escape(place)], split="train", streaming=True)
            yield from rows.with_format("arrow").iter(at_once)
    except Exception as error:  # the same
        raise _unreadable(path, error) from error


def _features(path: Path) -> "Features":
    """The columns of a file that `open_dataset` reads, without its rows."""
    features = checked_datasets().Features
    if suffix_of(path) == ".arrow":
        return open_dataset(path).features
    try:
        return features.from_arrow_schema(pq.read_schema(os.path.abspath(path)))
    except Exception as error:  # as above
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read as {suffix_of(path)[1:].capitalize()}: {error}")


def texts_of(rows: SourceRows, column: str) -> pa.ChunkedArray:
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


def empty_rows(rows: SourceRows, columns: Mapping[str, pa.ChunkedArray], what: str) -> NDArray[np.int64]:
    """Finds the rows of which a text is empty or blank, and says how many there are.

    Args:
        rows: The rows.
        columns: Their texts, by the name of the column.
        what: What is made of such rows, for the message.

    Returns:
        The numbers of those rows, from 0, ascending.
    """
    blank = [pc.equal(pc.utf8_trim_whitespace(texts), "").to_numpy() for texts in columns.values()]
    empty = np.flatnonzero(np.any(blank, axis=0)).astype(np.int64)
    if len(empty):
        named = " or ".join(f"'{name}'" for name in columns)
        rank_zero_warn(f"{rows.where(int(empty[0]))}: {named} is empty, in {len(empty):,} rows from here on; {what}.")
    return empty


def class_names(part: "Path | Dataset", column: str) -> list[str] | None:
    """The names of integer labels, where a data set, or the file that `datasets` wrote, states them.

    Args:
        part: The file or data set.
        column: Its column of labels, or of lists of labels.

    Returns:
        The names in the order of the integers, or None where there are none.
    """
    if isinstance(part, Path) and suffix_of(part) not in _TYPED:
        return None
    feature = (_features(part) if isinstance(part, Path) else part.features).get(column)
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return None if names is None else [str(name) for name in names]


def _name(part: "Path | Dataset") -> str:
    return str(part) if isinstance(part, Path) else "the data set"


def _read_part(
    part: "Path | Dataset", columns: Sequence[str], header: bool, optional: Sequence[str]
) -> tuple[pa.Table, NDArray[np.int64] | None]:
    if not isinstance(part, Path):
        return _columns_of(part, _name(part), columns, optional), None
    kind = _kind(part)
    if kind in _TYPED:
        return _columns_of(open_dataset(part), str(part), columns, optional), None
    if kind in _JSON:
        return next(text_files.read_jsonl(part, columns, optional, None))
    return next(text_files.read_separated(part, columns, header, _separator(kind), optional, None))


def _kind(path: Path, known: Sequence[str] = SUFFIXES) -> str:
    """The format of a file that is there, as its name says: one of those that are known."""
    check_is_file(path)
    kind = suffix_of(path)
    if kind not in known or (is_packed(path) and kind in _TYPED):
        raise InputError(f"{path}: cannot tell its format; the name must end in {', '.join(known)} (or .gz after).")
    return kind


def _separator(kind: str) -> str:
    return "," if kind == ".csv" else "\t"


def _columns_of(dataset: "Dataset", name: str, columns: Sequence[str], optional: Sequence[str]) -> pa.Table:
    """Columns of a data set, and by its dotted name a field within one."""
    own = dataset.column_names
    flat = dataset if set(columns) <= set(own) else dataset.flatten()
    known = list(dict.fromkeys([*own, *flat.column_names]))
    absent = [column for column in optional if column not in known]
    text_files.check_columns(name, [column for column in columns if column not in absent], known)
    arrays = []
    for column in columns:
        if column in absent:
            arrays.append(pa.nulls(len(dataset)))
        else:
            of = dataset if column in own else flat
            arrays.append(of.select_columns([column]).with_format("arrow")[:].column(0))
    table = pa.table(arrays, names=list(columns))
    try:
        table.validate(full=True)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{name} cannot be read: {error}") from error
    return table
