"""Writes predictions beside the rows that they were made for, in the format of the file's suffix."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pyarrow
from pyarrow import parquet

from ernie_m.errors import InputError
from ernie_m.files import write_text

from .lines import as_cell
from .record import save_table

FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")
"""Of predictions that stand beside rows; a data module whose files are no rows names its own `prediction_formats`."""

OWN_COLUMNS = ("example_id", "label", "labels", "language")
"""Columns of a table of predictions that say nothing about a row that has no label."""


def check_output(path: Path, formats: Sequence[str]) -> None:
    """Refuse, before any work is done, a file that could not be written.

    Args:
        path: What `--output` names.
        formats: The suffixes that the task's predictions can be written with.

    Raises:
        InputError: Its format is unknown, or its folder does not exist.
    """
    if path.suffix not in formats:
        raise InputError(f"--output {path}: unknown format {path.suffix!r}; the name must end in {', '.join(formats)}")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--output {path}: there is no folder {path.absolute().parent}; make it first")


def read(source: Path, output: Path, added: Sequence[str] = (), header: Sequence[str] | None = None) -> pyarrow.Table:
    """Read the rows that predictions are to stand beside, and refuse, before any work is done, what they cannot join.

    Args:
        source: The file to predict on, as the data modules read it.
        output: The file to write.
        added: The columns that the predictions add.
        header: The columns of a CSV or TSV file without a header; None where its first line names them.

    Returns:
        All columns of the file.

    Raises:
        InputError: The file cannot be read, has a column of a name that predictions need, or one that the output's
            format cannot hold.
    """
    # Not at the top: the command first makes sure that this package is ours.
    from datamodules.reading import read_whole

    rows = read_whole(source, header)
    refuse_taken(source, rows, added)
    for name in rows.column_names:
        column = rows.select([name])
        try:
            if output.suffix == ".parquet":
                parquet.write_table(column.slice(0, 0), pyarrow.BufferOutputStream())
            else:
                as_text(column, output.suffix)
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{source}: column {name!r} ({column.schema.field(0).type}) cannot be written to {output}: {error}. "
                "Leave the column out, or name another format"
            ) from error
    return rows


def refuse_taken(place: Path, rows: pyarrow.Table, added: Sequence[str]) -> None:
    """Refuse rows that have a column which predictions need.

    Args:
        place: The file to name.
        rows: Its rows.
        added: The columns that the predictions add.

    Raises:
        InputError: They have one.
    """
    if taken := [name for name in added if name in rows.column_names]:
        raise InputError(f"{place}: has a column {taken[0]!r}, which the predictions need; rename it")


def write(source: Path, rows: pyarrow.Table, output: Path, tables: Mapping[str, pyarrow.Table]) -> int:
    """Write the rows of a file with their predictions, whole or not at all.

    Args:
        source: The file that was predicted on.
        rows: What `read` returned of it.
        output: The file to write, in the format of its suffix.
        tables: Language to predictions; `example_id` is the row's number in `source`.

    Returns:
        The number of rows.

    Raises:
        InputError: The file has a column of a name that predictions need, or not the rows that were predicted on.
    """
    table = pyarrow.concat_tables(tables.values()).sort_by("example_id")
    added = table.drop_columns([name for name in OWN_COLUMNS if name in table.column_names])
    refuse_taken(source, rows, added.column_names)
    if rows.num_rows != added.num_rows:
        raise InputError(
            f"{source}: has {rows.num_rows} rows but {added.num_rows} were predicted; did it change meanwhile?"
        )
    for name in added.column_names:
        column = added.column(name)
        # The texts of a network, names of its labels among them, are anybody's; those of the rows are the user's.
        is_for_cells = output.suffix in (".csv", ".tsv")
        if is_for_cells and pyarrow.types.is_string(column.type):
            column = pyarrow.array(
                [None if text is None else as_cell(text) for text in column.to_pylist()], column.type
            )
        rows = rows.append_column(as_cell(name) if is_for_cells else name, column)
    if output.suffix == ".parquet":
        save_table(output, rows)
    else:
        write_text(output, as_text(rows, output.suffix))
    return int(rows.num_rows)


def as_text(rows: pyarrow.Table, suffix: str) -> str:
    """Return a table as JSONL, CSV or TSV.

    Dates and times are ISO 8601. In CSV and TSV a null is an empty field, a list or an object its JSON; TSV has no
    quotes, and a tab or a line end within a text becomes a space.

    Args:
        rows: The table.
        suffix: The format.

    Raises:
        TypeError: A value is bytes, or of another type that has no text.
    """
    if suffix == ".jsonl":
        return "".join(f"{json.dumps(row, ensure_ascii=False, default=text_of)}\n" for row in rows.to_pylist())
    records = [rows.column_names, *([field(value) for value in row.values()] for row in rows.to_pylist())]
    return "".join(map(tsv_line if suffix == ".tsv" else csv_line, records))


def tsv_line(record: Sequence[str]) -> str:
    """Return a line of TSV, with a space for every tab and line end within a field."""
    return "\t".join(re.sub(r"\r?\n|[\t\r]", " ", text) for text in record) + "\n"


def csv_line(record: Sequence[str]) -> str:
    """Return a line of CSV."""
    # A carriage return within a field is quoted only where lines end in one, but for the latest Pythons.
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(record)
    return buffer.getvalue().removesuffix("\r\n") + "\n"


def field(value: object) -> str:
    """Return what stands in a field of CSV or TSV for a value."""
    if value is None:
        return ""
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=text_of)
    return str(value) if isinstance(value, (str, int, float)) else text_of(value)


def text_of(value: object) -> str:
    """Return the text of a value that JSON has no type for.

    Args:
        value: A date, a time, a span of time, a decimal number or a UUID.

    Raises:
        TypeError: It is something else.
    """
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (timedelta, Decimal, UUID)):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no text there")
