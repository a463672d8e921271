"""What a file of torch before 1.6 lists, held against what it holds.

Such a file is no archive: pickles, then the bytes of those storages that the last pickle names. A storage that is
listed and not named would be memory of this process as it is.
"""

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

from .errors import InputError

# Magic number, protocol and system, before the tensors.
_HEADERS = 3
_NUMBER_BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
}  # fmt: skip


class _Inert:
    """Stands for every class and function that the file names, and for what they would make; does nothing."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __call__(self, *_: Any) -> "_Inert":
        return _Inert()

    def __setstate__(self, state: Any) -> None:
        """Take no state."""


class _Listing(pickle._Unpickler):
    """Notes the storages that are listed. In Python, since the one in C makes room for any number that a file states.

    Attributes:
        listed: Key of a storage to its numbers, and the bytes of each.
    """

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.listed: dict[str, tuple[int, int]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class: nothing is imported."""
        return OrderedDict if (module, name) == ("collections", "OrderedDict") else _Inert(name)

    def persistent_load(self, saved: Any) -> _Inert:
        """Note a storage.

        Raises:
            ValueError: It is not what torch writes, or a part of another one.
        """
        kind, made_of, key, _, count, view = saved
        size = _NUMBER_BYTES[made_of.name.removesuffix("Storage")]
        if kind != "storage" or view is not None or type(key) is not str or type(count) is not int or count < 0:
            raise ValueError(f"a storage is listed as {str(saved)[:100]}")
        if self.listed.setdefault(key, (count, size)) != (count, size):
            raise ValueError(f"storage {key[:40]!r} is listed twice, differently")
        return _Inert()


def check_storages(path: Path) -> None:
    """Refuses a file whose storages are not those that it holds the bytes of, each once.

    Args:
        path: A file that `torch.load` reads and that is no archive.

    Raises:
        InputError: They are not, or it is another kind of file.
    """
    try:
        with path.open("rb") as file:
            for _ in range(_HEADERS):
                _Listing(file).load()
            tensors = _Listing(file)
            tensors.load()
            keys = _Listing(file).load()
            if sorted(keys) != sorted(tensors.listed):
                raise ValueError("it does not hold the tensors that it lists, each once")
            for key in keys:
                count, size = tensors.listed[key]
                if struct.unpack("<q", file.read(8)) != (count,):
                    raise ValueError(f"storage {key[:40]!r} is not as large as listed")
                file.seek(count * size, 1)
            if file.tell() > path.stat().st_size:
                raise ValueError("it ends early")
    except Exception as error:  # what unpickling raises for what is none, of no common class
        raise InputError(
            f"{path}: not a whole file of torch's ({str(error)[:200]}); the file is damaged or cut short, fetch or copy"
            " it again, or take the checkpoint's safetensors file"
        ) from error
