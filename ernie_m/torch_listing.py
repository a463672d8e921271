"""What a file of torch's lists, gone through without making anything of it, and held against what the file has.

`torch.save` writes a pickle that lists tensors by the storages that they lie in, and the bytes of the storages; before
torch 1.6 one after the other, since then as parts of an archive. torch's own reader without code (`weights_only`) makes
tensors of whatever size a list asks for, filled with the memory of this process where the file has no bytes for them.
Here a list may hold plain values, and tensors that lie within storages, and nothing else.
"""

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from pickletools import opcodes
from typing import IO, Any, ClassVar

from .errors import InputError

_MOST_AXES = 32
# Magic number, protocol and system, before the list of a file that is no archive.
_HEADERS = 3
_NUMBER_BYTES = {
    f"torch.{name}Storage": size
    for name, size in {
        "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1,
        "Bool": 1,
    }.items()
}  # fmt: skip
# Of what torch.save writes by default; those are left out that call, make or name things in other ways.
_OPCODES = (
    "PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND",
    "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT",
    "GLOBAL", "REDUCE", "BUILD", "BINPERSID",
)  # fmt: skip
_ORDERED_DICT, _TENSOR, _PARAMETER = (
    "collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter",
)  # fmt: skip
# Names of numbers' types stand for nothing but themselves.
_TYPES = {
    f"torch.{name}" for name in ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "bool")
}


@dataclass(frozen=True)
class _Named:
    """Stands for what the list names; it is never looked up."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """Numbers that the file holds."""

    count: int


class _Tensor:
    """Stands for a tensor that lies within its storage."""


class _Listing(pickle._Unpickler):
    """Goes through a list. In Python, since pickle in C makes room for any number that a file states.

    Attributes:
        storages: Key of a storage to its numbers, and the bytes of each.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]]
    stack: list[Any]

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, tuple[int, int]] = {}

    def find_class(self, module: str, name: str) -> _Named:
        """Return what stands for a name.

        Raises:
            ValueError: torch writes no such name for tensors and plain values.
        """
        full = f"{module}.{name}"
        if full not in (_ORDERED_DICT, _TENSOR, _PARAMETER, *_NUMBER_BYTES, *_TYPES):
            raise ValueError(f"it names {full[:80]!r}, which is neither a tensor nor a plain value")
        return _Named(full)

    def persistent_load(self, saved: Any) -> _Storage:
        """Note a storage.

        Raises:
            ValueError: It is not what torch writes, or a part of another one.
        """
        kind, made_of, key, _, count, *view = saved
        if kind != "storage" or view not in ([], [None]) or type(key) is not str or type(count) is not int or count < 0:
            raise ValueError(f"a storage is listed as {str(saved)[:100]}")
        entry = (count, _NUMBER_BYTES[made_of.name])
        if self.storages.setdefault(key, entry) != entry:
            raise ValueError(f"the storage {key[:40]!r} is listed twice, differently")
        return _Storage(count)

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _made(self.stack[-1], arguments)

    def _build(self) -> None:
        state = self.stack.pop()
        # What torch keeps there of versions. Others would stand in place of methods.
        if not isinstance(state, dict) or set(state) - {"_metadata"} or not isinstance(self.stack[-1], OrderedDict):
            raise ValueError(f"it sets the state of a {type(self.stack[-1]).__name__}")


_KNOWN = {opcode.code.encode("latin-1")[0]: opcode.name for opcode in opcodes}
_Listing.dispatch = {
    code: {"REDUCE": _Listing._reduce, "BUILD": _Listing._build}.get(_KNOWN[code], function)
    for code, function in pickle._Unpickler.dispatch.items()
    if _KNOWN[code] in _OPCODES
}


def _made(called: Any, arguments: Any) -> Any:
    """What stands for the result of a call."""
    if called == _Named(_ORDERED_DICT):
        return OrderedDict(*arguments)
    if called == _Named(_PARAMETER) and isinstance(arguments[0], _Tensor):
        return arguments[0]
    if called != _Named(_TENSOR):
        raise ValueError(f"it calls {str(called)[:80]}")
    storage, offset, size, stride = arguments[:4]
    numbers = (offset, *size, *stride)
    is_sound = isinstance(storage, _Storage) and len(size) == len(stride) <= _MOST_AXES
    if not is_sound or not all(type(one) is int for one in numbers):
        raise ValueError(f"a tensor is listed as {str(arguments)[:100]}")
    last = offset + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
    # A number that counts several times would let few bytes stand for any memory.
    if min(numbers) < 0 or (prod(size) and last >= storage.count) or prod(size) > storage.count:
        raise ValueError(f"a tensor of {prod(size):,} numbers does not lie within the {storage.count:,} of its storage")
    return _Tensor()


def listed_storages(file: IO[bytes]) -> Mapping[str, tuple[int, int]]:
    """Go through the list of an archive.

    Args:
        file: The pickle.

    Returns:
        Key of a storage to its numbers, and the bytes of each.

    Raises:
        ValueError: It is no such list.
    """
    listing = _Listing(file)
    _loaded(listing)
    return listing.storages


def _loaded(listing: _Listing) -> Any:
    try:
        return listing.load()
    except Exception as error:  # what unpickling raises for what is none, of no common class
        raise ValueError(str(error) or type(error).__name__) from error


def check_old_file(path: Path) -> None:
    """Refuses a file from before torch 1.6 whose storages are not those that it holds the bytes of, each once.

    Args:
        path: A file that `torch.load` reads and that is no archive.

    Raises:
        InputError: They are not, it lists other things than tensors and plain values, or is another kind of file.
    """
    try:
        with path.open("rb") as file:
            for _ in range(_HEADERS):
                _loaded(_Listing(file))
            listed = listed_storages(file)
            keys = _loaded(_Listing(file))
            if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(listed):
                raise ValueError("it does not hold the tensors that it lists, each once")
            for key in keys:
                count, size = listed[key]
                if struct.unpack("<q", file.read(8)) != (count,):
                    raise ValueError(f"the storage {key[:40]!r} is not as large as listed")
                file.seek(count * size, 1)
            if file.tell() > path.stat().st_size:
                raise ValueError("it ends early")
    except (ValueError, LookupError, TypeError, struct.error, OSError) as error:
        raise InputError(
            f"{path}: not a whole file of torch's ({str(error)[:200]}); the file is damaged or cut short, fetch or copy"
            " it again, or take the checkpoint's safetensors file"
        ) from error
