"""Tokenised data on disk: Arrow files, memory-mapped, written once and never half."""

import errno
import hashlib
import json
import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sentencepiece
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ernie_m.errors import InputError

_FORMAT = 1
# What a saved tokenizer says about where it came from.
_PLACES = ("name_or_path", "is_local", "local_files_only")
_METADATA = b"ernie_m_recipes"
logger = logging.getLogger(__name__)


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/ernie-m-recipes`, or `~/.cache/ernie-m-recipes`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ernie-m-recipes"


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of what a tokenizer does: the content of its files, wherever it was loaded from.

    sentencepiece's version is part of it, since versions break ties between segmentations differently.
    """
    digest = hashlib.sha256(f"{type(tokenizer).__name__} sentencepiece {sentencepiece.__version__}".encode())
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for path in sorted(Path(folder).rglob("*")):
            if path.name == "tokenizer_config.json":
                settings = json.loads(path.read_text(encoding="utf-8"))
                settings = {name: value for name, value in settings.items() if name not in _PLACES}
                digest.update(json.dumps(settings, sort_keys=True).encode())
            elif path.is_file():
                digest.update(f"{path.name} {file_digest(path)}".encode())
    return digest.hexdigest()


class ArrowRows:
    """The rows of an Arrow file, read where they lie on disk.

    A list column is kept as its flat values, so that a row costs one slice. It pickles as its path, which is what a
    worker process of a data loader gets.

    Args:
        path: An Arrow file in the streaming format, as `datasets` writes it.
        kept: The rows of it that count, ascending; None for all.
    """

    def __init__(self, path: Path, kept: NDArray[np.int64] | None = None) -> None:
        self.path = path
        self.kept = kept
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            self._table = stream.read_all()
        self._lists: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {}
        self._scalars: dict[str, NDArray[Any]] = {}
        self._starts = np.zeros(1, dtype=np.int64)
        for name in self._table.column_names:
            column = self._table.column(name)
            if pa.types.is_list(column.type):
                self._lists[name] = [(chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in column.chunks]
                sizes = [len(chunk) for chunk in column.chunks]
                self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            else:
                self._scalars[name] = column.to_numpy()

    def __len__(self) -> int:
        return int(self._table.num_rows) if self.kept is None else len(self.kept)

    def __reduce__(self) -> tuple[type["ArrowRows"], tuple[Path, NDArray[np.int64] | None]]:
        return ArrowRows, (self.path, self.kept)

    @property
    def metadata(self) -> dict[str, Any]:
        """What was noted when the file was written."""
        noted: dict[str, Any] = json.loads((self._table.schema.metadata or {}).get(_METADATA, b"{}"))
        return noted

    def digest(self) -> str:
        """What the rows are: what was noted of the file, and which of its rows count."""
        kept = "" if self.kept is None else hashlib.sha256(self.kept.tobytes()).hexdigest()
        return f"{json.dumps(self.metadata, sort_keys=True)} {kept}"

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._table.column_names)

    def values(self, column: str) -> list[NDArray[Any]]:
        """What all lists of a column hold, end to end, in one array or several; those of rows left out too."""
        return [values for _, values in self._lists[column]]

    def lengths(self, column: str) -> NDArray[np.int64]:
        """The length of every row's list, shape (rows,)."""
        if not self._lists[column]:
            return np.zeros(0, dtype=np.int64)
        lengths = np.concatenate([np.diff(offsets) for offsets, _ in self._lists[column]]).astype(np.int64)
        return lengths if self.kept is None else lengths[self.kept]

    def scalars(self, column: str) -> NDArray[Any]:
        """A column of numbers, shape (rows,)."""
        return self._scalars[column] if self.kept is None else self._scalars[column][self.kept]

    def lists_at(self, column: str, rows: NDArray[np.int64]) -> list[NDArray[Any]]:
        """The lists of some rows; views, not to be written to."""
        rows = rows if self.kept is None else self.kept[rows]
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        places = rows - self._starts[chunks]
        data = self._lists[column]
        found = []
        for chunk, place in zip(chunks.tolist(), places.tolist(), strict=True):
            offsets, values = data[chunk]
            found.append(values[offsets[place] : offsets[place + 1]])
        return found


def open_or_build(
    folder: Path, key: Mapping[str, Any], schema: pa.Schema, build: Callable[[], Iterable[pa.RecordBatch]]
) -> ArrowRows:
    """Opens the cached rows of a key, writing them first where they are not there.

    The file appears under its name only when whole, so any number of processes may do this at once.

    Args:
        folder: The cache folder; made if absent.
        key: All that the rows depend on besides their columns, as JSON can hold it.
        schema: The schema of the rows.
        build: Makes the rows.

    Returns:
        The rows, memory-mapped.

    Raises:
        InputError: The cache cannot be written.
    """
    text = json.dumps({"format": _FORMAT, "columns": schema.names, **key}, sort_keys=True, ensure_ascii=False)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.arrow"
    if path.exists():
        rows = _open_whole(path)
        if rows is not None:
            return rows
    _write(path, schema.with_metadata({_METADATA: text.encode()}), build())
    return ArrowRows(path)


def _open_whole(path: Path) -> ArrowRows | None:
    """The rows of a cache file, or None (with a warning) where something damaged it."""
    try:
        rows = ArrowRows(path)
        with path.open("rb") as file:
            file.seek(-8, os.SEEK_END)
            # The end mark of Arrow's streaming format; without it the file was cut between two of its messages.
            if file.read() == b"\xff\xff\xff\xff\x00\x00\x00\x00":
                return rows
        reason: object = "its end mark is missing"
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = error
    logger.warning("%s is damaged and is made again: %s.", path, reason)
    return None


def _write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    temporary = path.with_name(f".{path.stem}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with _writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
                for batch in batches:
                    stream.write_batch(batch)
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "Free some space, or name" if error.errno == errno.ENOSPC else "Name"
        raise InputError(
            f"The cache folder {folder} cannot be written to: {error.strerror or error}. {remedy} another folder with"
            " cache_dir."
        ) from error


def ragged(rows: Sequence[Sequence[int]]) -> pa.ListArray:
    """Lists of ids as an Arrow array of int32 lists.

    Four times as fast as `pa.array`, which looks at the type of every number.

    Args:
        rows: The ids of each row.
    """
    offsets = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum(np.fromiter(map(len, rows), dtype=np.int32, count=len(rows)), out=offsets[1:])
    values = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(offsets[-1]))
    return pa.ListArray.from_arrays(offsets, values)
