"""Opens files to read, packed ones too, but none that unpacks without measure."""

import gzip
import io
from pathlib import Path
from typing import IO, Any

from ernie_m.errors import InputError

_MOST_UNPACKED = 100
_ALWAYS_UNPACKED = 2**24
"""Bytes that gzip may make of one, far more than of any text, and bytes that it may make of every file."""


def check_is_file(path: Path) -> None:
    """Refuses a path where no file is."""
    if not path.is_file():
        raise InputError(f"{path} does not exist." if not path.exists() else f"{path} is not a file.")


def open_binary(path: Path) -> IO[bytes]:
    """Opens a file, unpacked where its name ends in `.gz`."""
    return io.BufferedReader(_Unpacked(path)) if path.suffix == ".gz" else path.open("rb")


def check_unpacks(path: Path) -> None:
    """Reads a gzip file to its end, for those that something else will unpack.

    Raises:
        InputError: It unpacks to so much that it can only be there to fill the memory or disk.
    """
    with io.BufferedReader(_Unpacked(path)) as file:
        while file.read(_ALWAYS_UNPACKED):
            pass


class _Unpacked(io.RawIOBase):
    """What gzip makes of a file, unless it is so much that the file can only be there to fill the memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = gzip.GzipFile(path)
        self._left = max(_ALWAYS_UNPACKED, _MOST_UNPACKED * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read1(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise InputError(
                f"{self._path} unpacks to more than {_MOST_UNPACKED} times its size, which no text does. Unpack it"
                " yourself where you trust it."
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def open_text(path: Path, newline: str = "\n") -> IO[str]:
    """Opens a text file in UTF-8, with or without a byte order mark, unpacked where its name ends in `.gz`."""
    # utf-8-sig drops the byte order mark that spreadsheet programs write.
    return io.TextIOWrapper(open_binary(path), encoding="utf-8-sig", newline=newline)
