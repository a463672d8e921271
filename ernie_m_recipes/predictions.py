"""Writes predictions beside the rows that they were made for, in the format of the file's suffix."""

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow
from pyarrow import parquet

from ernie_m.errors import InputError

from .record import save_table, write_text

FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")
"""Of predictions that stand beside rows; a data module whose files are no rows names its own `prediction_formats`."""

OWN_COLUMNS = ("example_id", "label", "language")
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


def write(source: Path, output: Path, tables: Mapping[str, pyarrow.Table], header: Sequence[str] | None = None) -> int:
    """Write the rows of a file with their predictions, whole or not at all.

    Args:
        source: The file that was predicted on: JSONL, CSV, TSV or Parquet.
        output: The file to write, in the format of its suffix.
        tables: Language to predictions; `example_id` is the row's number in `source`.
        header: The columns of a CSV or TSV file without a header; None where its first line names them.

    Returns:
        The number of rows.

    Raises:
        InputError: The file has a column of a name that predictions need, or not the rows that were predicted on.
    """
    table = pyarrow.concat_tables(tables.values()).sort_by("example_id")
    added = table.drop_columns([name for name in OWN_COLUMNS if name in table.column_names])
    rows = read(source, header)
    if taken := sorted(set(rows.column_names) & set(added.column_names)):
        raise InputError(f"{source}: has a column {taken[0]!r}, which the predictions need; rename it")
    if rows.num_rows != added.num_rows:
        raise InputError(
            f"{source}: has {rows.num_rows} rows but {added.num_rows} were predicted; did it change meanwhile?"
        )
    for name in added.column_names:
        rows = rows.append_column(name, added.column(name))
    if output.suffix == ".parquet":
        save_table(output, rows)
    elif output.suffix == ".jsonl":
        write_text(output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.to_pylist()))
    else:
        write_text(output, separated(rows, "\t" if output.suffix == ".tsv" else ","))
    return int(rows.num_rows)


def separated(rows: pyarrow.Table, delimiter: str) -> str:
    """Return a table as CSV, or as TSV without quotes, tabs and line ends in texts turned into spaces."""
    buffer = io.StringIO()
    if delimiter == "\t":
        for row in [rows.column_names, *(list(row.values()) for row in rows.to_pylist())]:
            buffer.write(delimiter.join(" ".join(str(value).split("\t")).replace("\n", " ") for value in row) + "\n")
    else:
        writer = csv.DictWriter(buffer, rows.column_names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.to_pylist())
    return buffer.getvalue()


def read(path: Path, header: Sequence[str] | None = None) -> pyarrow.Table:
    """Read all columns of a file; those of text files as text or, in JSONL, as they are.

    Args:
        path: JSONL, CSV, TSV (also with `.gz` after it) or Parquet.
        header: The columns of a CSV or TSV file without a header.
    """
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind == ".parquet":
        return parquet.read_table(path)
    with open_text(path) as file:
        if kind == ".jsonl":
            return from_objects([json.loads(line) for line in file if line.strip()])
        is_tsv = kind == ".tsv"
        records = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if is_tsv else csv.reader(file)
        rows = [record for record in records if record]
        names = rows.pop(0) if header is None else header
        return pyarrow.table({name: [row[i] for row in rows] for i, name in enumerate(names)})


def from_objects(objects: list[dict[str, Any]]) -> pyarrow.Table:
    """Make a table of JSON objects; a column of mixed types becomes JSON text."""
    names = list(dict.fromkeys(name for row in objects for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in objects]
        try:
            columns[name] = pyarrow.array(values)
        except pyarrow.ArrowException:
            columns[name] = pyarrow.array([json.dumps(value, ensure_ascii=False) for value in values])
    return pyarrow.table(columns)


def open_text(path: Path) -> IO[str]:
    """Open a text file, compressed or not."""
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")
