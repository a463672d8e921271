"""Opens files to read, packed ones too, but none that unpacks without measure."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ernie_m.errors import InputError
from ernie_m.files import check_way

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""What a file in UTF-16 begins with."""

_MOST_UNPACKED = 100
_ALWAYS_UNPACKED = 2**24
"""Bytes that gzip may make of one, far more than of any text, and bytes that it may make of every file."""


def check_is_file(path: Path) -> None:
    """Refuses a path where no file is, or what the system only shows as one: its processes' variables, for example.

    Raises:
        InputError: It is such a path, or a link in it leads elsewhere.
    """
    check_way(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist." if not path.exists() else f"{path} is not a file.")
    if path.resolve().parts[1:2] in (("proc",), ("sys",)):
        raise InputError(f"{path} is no file of data, but what the system shows of itself.")


def is_packed(path: Path) -> bool:
    """Whether a file is one of gzip's, by its name."""
    return path.suffix.lower() == ".gz"


def suffix_of(path: Path) -> str:
    """What the name of a file says of its format, in small letters: `.csv` also of `A.CSV.gz`."""
    return (path.with_suffix("") if is_packed(path) else path).suffix.lower()


def open_binary(path: Path) -> IO[bytes]:
    """Opens a file, unpacked where its name ends in `.gz`.

    Raises:
        InputError: It is none, as `check_is_file` says.
    """
    check_is_file(path)
    return io.BufferedReader(_Unpacked(path)) if is_packed(path) else path.open("rb")


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


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a text file is read into an error that names the place."""
    try:
        yield
    except UnicodeDecodeError as error:
        with open_binary(path) as file:
            if file.read(2) in UTF16:
                raise InputError(f"{path} is UTF-16, as spreadsheet programs write it; save it as UTF-8.") from error
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
    with open_binary(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return number, before + error.start, line[error.start]
            before += len(line)
    raise AssertionError(f"{path} changed while it was read")
