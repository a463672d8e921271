"""Tokenised data on disk: a `datasets.Dataset` for every split and language, keyed by what it depends on."""

import errno
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from lightning.pytorch.utilities import rank_zero_info

from ernie_m.errors import InputError
from ernie_m.files import whole

from .compat import plain_progress
from .data_folders import check_arrow

if TYPE_CHECKING:
    from datasets import Dataset

_FORMAT = 3
# The end mark of Arrow's streaming format; without it a file was cut between two of its messages.
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
# Rows that are hashed at once.
_HASHED = 10_000
logger = logging.getLogger(__name__)


def content_digest(dataset: "Dataset") -> str:
    """The SHA-256 of a data set's rows and features, names of classes among them, wherever and in what chunks they lie.

    The fingerprint that `datasets` gives depends on the path and the time of the file.
    """
    digest = hashlib.sha256(str(dataset.features).encode())
    for table in dataset.with_format("arrow").iter(batch_size=_HASHED):
        for batch in table.combine_chunks().to_batches():
            digest.update(batch.replace_schema_metadata(None).serialize())
    return digest.hexdigest()


def prepared(
    folder: Path,
    key: Mapping[str, Any],
    read: Callable[[], pa.Table | Iterator[pa.Table]],
    encode: Callable[[pa.Table], pa.Table],
    rows_at_once: int,
    what: str,
) -> "Dataset":
    """Opens the encoded rows of a key, reading and encoding them first where they are not there.

    The file appears under its name only when whole, so any number of processes may do this at once.

    Args:
        folder: The cache folder; made if absent.
        key: All that the rows depend on, as JSON can hold it.
        read: Reads the raw rows, all at once or some at a time, so that they never are in memory together.
        encode: Turns some raw rows into encoded ones; may give more or fewer.
        rows_at_once: Raw rows that are encoded at once.
        what: What the rows are, for the progress.

    Returns:
        The rows, memory-mapped; none at all, and in no file, where there are no raw rows.

    Raises:
        InputError: The cache cannot be written.
    """
    from datasets import Dataset

    text = json.dumps({"format": _FORMAT, **key}, sort_keys=True, ensure_ascii=False)
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    path = folder / f"{name}.arrow"
    if path.exists() and (found := _open_whole(path)) is not None:
        return found
    began = time.monotonic()
    with (
        _writing(folder),
        # Where `map` leaves its own unfinished file when the disk is full.
        TemporaryDirectory(dir=folder, prefix=".") as scratch,
        plain_progress(rank_zero_info),
    ):
        raw = _raw_rows(read(), Path(scratch) / "raw.arrow")
        if not len(raw):
            return Dataset.from_dict({})
        with whole(path) as partial:
            raw.map(
                encode,
                batched=True,
                batch_size=rows_at_once,
                writer_batch_size=rows_at_once,
                remove_columns=raw.column_names,
                cache_file_name=str(Path(scratch) / partial.name),
                # Otherwise the tokenizer is pickled and hashed, which takes seconds and depends on its path.
                new_fingerprint=name,
                desc=f"tokenising {what}",
            )
            (Path(scratch) / partial.name).replace(partial)
    rank_zero_info(f"tokenising {what}: {len(raw):,} rows in {time.monotonic() - began:.1f} s")
    return Dataset.from_file(str(path))


def _raw_rows(found: pa.Table | Iterator[pa.Table], path: Path) -> "Dataset":
    """The rows that were read; those that come some at a time are kept in a file."""
    from datasets import Dataset

    if isinstance(found, pa.Table):
        return Dataset(found).with_format("arrow")
    first = next(found, None)
    if first is None:
        return Dataset.from_dict({})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, first.schema) as stream:
        for table in chain([first], found):
            stream.write_table(table)
    return Dataset.from_file(str(path)).with_format("arrow")


def _open_whole(path: Path) -> "Dataset | None":
    """The rows of a cache file, or None (with a warning) where something damaged it."""
    from datasets import Dataset

    try:
        with path.open("rb") as file:
            file.seek(-len(_END), os.SEEK_END)
            if file.read() == _END:
                check_arrow(path)
                return Dataset.from_file(str(path))
        reason: object = "its end mark is missing"
    except (InputError, pa.ArrowException, OSError, ValueError) as error:
        reason = error
    logger.warning("%s is damaged and is made again: %s.", path, reason)
    return None


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        remedy = "Free some space, or name" if error.errno == errno.ENOSPC else "Name"
        raise InputError(
            f"The cache folder {folder} cannot be written to: {error.strerror or error}. {remedy} another folder with"
            " cache_dir."
        ) from error
