"""A reader for Paddle's `.pdparams` pickles that can do nothing but find arrays.

Python's own unpickler calls what a file names. This one has no call to make: a handful of names are known as symbols,
an array is noted as its place in the file, everything else is refused with its name. Array values stay in the file.

The opcodes are those of Python's `pickletools`; the pickled form of an array is `numpy.ndarray.__reduce__`'s.
"""

import codecs
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from pickletools import opcodes
from typing import IO, Any

import numpy as np

from .errors import InputError
from .stored_tensors import StoredTensor, file_span

# paddle.save puts the table of its internal parameter names beside the tensors.
NAME_TABLE = "StructuredToParameterName@@"
# Paddle stores bfloat16 as unsigned 16-bit integers.
_TYPES = {"f4": "F32", "f2": "F16", "u2": "BF16", "i8": "I64"}
# Shorter strings are kept at once: they are names, types and the values of tiny arrays.
_SHORT = 4096
# A state dict holds pairs of arrays, whose states hold shapes; deeper values could break whoever goes through them.
_DEEPEST = 10
_MOST_AXES = 32
_OPCODE_NAMES = {opcode.code.encode("latin-1"): opcode.name for opcode in opcodes}
_TRUSTED_ONLY = "only arrays are read from a .pdparams file, so it was not loaded; do not open it with Paddle either"
_FETCH_AGAIN = "the file is damaged or cut short, fetch or copy it again"


@dataclass(frozen=True)
class _Symbol:
    """A name that may stand in the file; it is never looked up."""

    name: str


_RECONSTRUCT = _Symbol("numpy.core.multiarray._reconstruct")
_NDARRAY = _Symbol("numpy.ndarray")
_DTYPE = _Symbol("numpy.dtype")
_ENCODE = _Symbol("_codecs.encode")
_TUPLE = _Symbol("builtins.tuple")
_ORDERED_DICT = _Symbol("collections.OrderedDict")
_SYMBOLS = {
    "numpy.core.multiarray._reconstruct": _RECONSTRUCT,
    "numpy._core.multiarray._reconstruct": _RECONSTRUCT,
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _DTYPE,
    "_codecs.encode": _ENCODE,
    "builtins.tuple": _TUPLE,
    "__builtin__.tuple": _TUPLE,
    "collections.OrderedDict": _ORDERED_DICT,
}


@dataclass(frozen=True)
class _Span:
    """A long string of the file; `text` if it is UTF-8, which protocol 2 uses for bytes too."""

    offset: int
    length: int
    text: bool


@dataclass(frozen=True)
class _Latin1:
    """Bytes that protocol 2 wrote as text: each character stands for one byte."""

    text: "_Span | str"


@dataclass
class _DType:
    name: str
    byte_order: str = "<"


@dataclass
class _Array:
    shape: tuple[int, ...] = ()
    dtype: _DType | None = None
    column_major: bool = False
    values: Any = None


class _Mark:
    pass


class _Tuple(tuple[Any, ...]):
    """A tuple that knows how deep its values nest."""

    depth = 1


class _List(list[Any]):
    """A list that knows it too."""

    depth = 1


class _Dict(dict[str, Any]):
    """A dict that knows it too."""

    depth = 1


def read_pdparams(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of a file that `paddle.save` wrote from a state dict, without reading their values.

    Takes pickle protocols 2 to 4, arrays by themselves and Paddle's pairs of name and array.

    Args:
        path: The `.pdparams` file.

    Returns:
        The tensors by key, in the file's order, without Paddle's table of internal names.

    Raises:
        InputError: If the file is cut short, is no pickle, names or does anything that arrays do not need, or holds
            anything but arrays.
    """
    with path.open("rb") as file:
        content = _Machine(path, file).run()
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {_kind(content)}, not a state dict; save the model's state_dict()")
    found = {key: _tensor(path, key, value) for key, value in content.items() if not _is_name_table(path, key, value)}
    # Any number of keys may stand for one array; tied weights are two.
    if (total := sum(tensor.nbytes for tensor in found.values())) > 2 * path.stat().st_size:
        raise InputError(f"{path}: tensors of {total:,} bytes, far more than the file has; fetch it again")
    return found


def _is_name_table(path: Path, key: object, value: object) -> bool:
    if key != NAME_TABLE:
        return False
    if not isinstance(value, dict) or not all(isinstance(name, str) for pair in value.items() for name in pair):
        raise InputError(f"{path}, {NAME_TABLE}: {_kind(value)}, where paddle.save writes a table of names")
    return True


def _tensor(path: Path, key: str, value: object) -> StoredTensor:
    where = f"{path}, {key}"
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        value = value[1]
    if not isinstance(value, _Array) or value.dtype is None:
        raise InputError(f"{where}: holds {_kind(value)} where an array belongs; save the model's state_dict() alone")
    dtype = _TYPES.get(value.dtype.name)
    if dtype is None:
        raise InputError(
            f"{where}: numbers of numpy type {value.dtype.name!r}; float32, float16 and bfloat16 are taken, "
            "cast the tensor in Paddle and save again"
        )
    chunks = _value_reader(path, where, value.values)
    if value.column_major or value.dtype.byte_order == ">":
        chunks = partial(_reordered, where, value, chunks)
    tensor = StoredTensor(where, dtype, value.shape, chunks)
    stated = value.values.length if isinstance(value.values, _Span) else None
    if stated is not None and stated != tensor.nbytes:
        raise InputError(f"{where}: {stated} bytes for shape {value.shape} of {dtype}; {_FETCH_AGAIN}")
    return tensor


def _kind(value: object) -> str:
    if isinstance(value, _Symbol):
        return f"the name {value.name}"
    names = {
        _Array: "array", _Span: "string", _Latin1: "bytes", _DType: "dtype", _Tuple: "tuple", _List: "list",
        _Dict: "dict",
    }  # fmt: skip
    name = names.get(type(value), type(value).__name__)
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _value_reader(path: Path, where: str, values: object) -> Callable[[], Iterator[bytes]]:
    if isinstance(values, _Span) and not values.text:
        return partial(file_span, path, values.offset, values.length)
    if isinstance(values, _Latin1):
        return partial(_latin1, path, where, values.text)
    if isinstance(values, bytes):
        return lambda: iter((values,))
    if isinstance(values, str):  # Python 2 wrote bytes and text alike
        return lambda: iter((values.encode("latin-1"),))
    raise InputError(f"{where}: the array's values are no string; {_TRUSTED_ONLY}")


def _latin1(path: Path, where: str, text: _Span | str) -> Iterator[bytes]:
    pieces = iter((text.encode(),)) if isinstance(text, str) else file_span(path, text.offset, text.length)
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in pieces:
            yield decoder.decode(piece).encode("latin-1")
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise InputError(f"{where}: the array's values are not bytes written as text; {_FETCH_AGAIN}") from error


def _reordered(where: str, array: _Array, chunks: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    assert array.dtype is not None
    stored = np.dtype(array.dtype.byte_order + array.dtype.name)
    data = b"".join(chunks())
    if len(data) != prod(array.shape) * stored.itemsize:
        raise InputError(f"{where}: {len(data)} bytes for shape {array.shape}; {_FETCH_AGAIN}")
    values = np.frombuffer(data, stored).reshape(array.shape, order="F" if array.column_major else "C")
    yield np.ascontiguousarray(values, stored.newbyteorder("<")).tobytes()


class _Machine:
    """Runs the part of the pickle language that state dicts of arrays are written in."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        self.file = file
        self.size = path.stat().st_size
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Carry out the pickle's instructions and return what it holds."""
        while True:
            at = self.file.tell()
            code = self.file.read(1)
            if code == b".":
                return self._result()
            if not code:
                raise InputError(f"{self.path}: ends at byte {at} before the pickle does; {_FETCH_AGAIN}")
            try:
                _OPERATIONS[code](self)
            except KeyError:
                name = _OPCODE_NAMES.get(code)
                seen = f"the pickle instruction {name}" if name else f"the byte {code!r}"
                raise InputError(f"{self.path}: {seen} at byte {at}; {_TRUSTED_ONLY}") from None
            except (IndexError, TypeError, ValueError, AttributeError, struct.error) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(f"{self.path}: no valid pickle at byte {at}; {_FETCH_AGAIN}") from error

    def _result(self) -> Any:
        left = self.size - self.file.tell()
        if left or len(self.stack) != 1:
            raise InputError(f"{self.path}: {left} bytes follow the end of the pickle; {_FETCH_AGAIN}")
        return self.stack[0]

    def take(self, count: int) -> bytes:
        if count < 0 or count > self.size - self.file.tell():
            raise InputError(f"{self.path}: ends {count - self.size + self.file.tell()} bytes early; {_FETCH_AGAIN}")
        return self.file.read(count)

    def number(self, layout: str) -> int:
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def hold(self, container: _Tuple | _List | _Dict, items: Iterable[Any]) -> None:
        """Note that a container holds some more values."""
        container.depth = max(container.depth, 1 + max((getattr(item, "depth", 0) for item in items), default=0))
        if container.depth > _DEEPEST:
            raise InputError(
                f"{self.path}: values hold each other more than {_DEEPEST} deep; save the model's state_dict()"
            )

    def pop_to_mark(self) -> list[Any]:
        start = len(self.stack) - 1
        while not isinstance(self.stack[start], _Mark):
            start -= 1
            if start < 0:
                raise IndexError("no mark")
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items

    def protocol(self) -> None:
        version = self.number("<B")
        if not 2 <= version <= 4:
            raise InputError(f"{self.path}: pickle protocol {version}; 2 to 4 are taken, save it again with protocol=4")

    def string(self, layout: str, text: bool) -> None:
        length = self.number(layout)
        if length <= _SHORT:
            data = self.take(length)
            self.push(data.decode() if text else data)
            return
        start = self.file.tell()
        if length > self.size - start:
            raise InputError(f"{self.path}: ends {length - self.size + start} bytes early; {_FETCH_AGAIN}")
        self.file.seek(length, 1)
        self.push(_Span(start, length, text))

    def old_string(self, layout: str) -> None:
        self.string(layout, text=False)
        if isinstance(self.stack[-1], bytes):
            self.push(self.stack.pop().decode("latin-1"))

    def long(self) -> None:
        self.push(int.from_bytes(self.take(self.number("<B")), "little", signed=True))

    def memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def put(self, layout: str) -> None:
        self.memo[self.number(layout)] = self.stack[-1]

    def get(self, layout: str) -> None:
        number = self.number(layout)
        if number not in self.memo:
            raise ValueError("unknown memo")
        found = self.memo[number]
        if isinstance(found, _List | _Dict):
            # Were it filled from two places, it could come to hold itself, or more than those around it know of.
            raise InputError(f"{self.path}: {_kind(found)} stands in two places; save the model's state_dict()")
        self.push(found)

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError("stack")
        items = self.stack[-count:]
        del self.stack[-count:]
        self.push_tuple(items)

    def push_tuple(self, items: list[Any]) -> None:
        container = _Tuple(items)
        self.hold(container, items)
        self.push(container)

    def set_items(self) -> None:
        items = self.pop_to_mark()
        self._update(items)

    def set_item(self) -> None:
        items = [self.stack[-2], self.stack[-1]]
        del self.stack[-2:]
        self._update(items)

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, _Dict):
            raise TypeError("not a dict")
        self.hold(target, items[1::2])
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                # Others could take forever to compare.
                raise InputError(f"{self.path}: a key is {_kind(key)}, not a name; save the model's state_dict()")
            if key in target:
                raise InputError(f"{self.path}: the key {key} stands there twice; save the model's state_dict() again")
            target[key] = value

    def append(self) -> None:
        self._extend([self.stack.pop()])

    def appends(self) -> None:
        self._extend(self.pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, _List):
            raise TypeError("not a list")
        self.hold(target, items)
        target.extend(items)

    def global_lines(self) -> None:
        module, name = (self.file.readline(512).decode().rstrip("\n") for _ in range(2))
        self._symbol(module, name)

    def global_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._symbol(module, name)

    def _symbol(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("not a name")
        symbol = _SYMBOLS.get(f"{module}.{name}")
        if symbol is None:
            raise InputError(f"{self.path}: asks for {module}.{name} at byte {self.file.tell()}; {_TRUSTED_ONLY}")
        self.push(symbol)

    def reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        self.push(self._known_call(called, arguments))

    def _known_call(self, called: object, arguments: Any) -> Any:
        match called, arguments:
            case _Symbol() as symbol, (first, *_) if symbol is _RECONSTRUCT and first is _NDARRAY:
                return _Array()
            case _Symbol() as symbol, (str() as name, *_) if symbol is _DTYPE:
                return _DType(name)
            case _Symbol() as symbol, (_Span() | str() as text, "latin1") if symbol is _ENCODE:
                return _Latin1(text)
            case _Symbol() as symbol, (tuple() as items,) if symbol is _TUPLE:
                return items
            case _Symbol() as symbol, () if symbol is _ORDERED_DICT:
                return _Dict()
        raise InputError(f"{self.path}: calls {_kind(called)} at byte {self.file.tell()}; {_TRUSTED_ONLY}")

    def build(self) -> None:
        """Give the array or type below the state above it: its sizes, type and values, or its order of bytes."""
        state, target = self.stack.pop(), self.stack[-1]
        match target, state:
            case _Array(), (int(), tuple() as shape, _DType() as dtype, bool() as column_major, values):
                if len(shape) > _MOST_AXES or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
                    raise ValueError("shape")
                # An array of objects holds a list, and is refused by its type.
                values = values if isinstance(values, _Span | _Latin1 | bytes | str) else None
                target.shape, target.dtype, target.column_major, target.values = shape, dtype, column_major, values
            case _DType(), (int(), str() as byte_order, *_):
                target.byte_order = byte_order
            case _:
                raise InputError(f"{self.path}: sets the state of {_kind(target)}; {_TRUSTED_ONLY}")


_OPERATIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": _Machine.protocol,
    b"\x95": lambda m: m.take(8),  # the length of a frame, a hint for buffering
    b"(": lambda m: m.push(_Mark()),
    b"0": lambda m: m.stack.pop(),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"J": lambda m: m.push(m.number("<i")),
    b"\x8a": _Machine.long,
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    b"X": lambda m: m.string("<I", text=True),
    b"\x8c": lambda m: m.string("<B", text=True),
    b"\x8d": lambda m: m.string("<Q", text=True),
    b"B": lambda m: m.string("<I", text=False),
    b"C": lambda m: m.string("<B", text=False),
    b"\x8e": lambda m: m.string("<Q", text=False),
    b"T": lambda m: m.old_string("<i"),
    b"U": lambda m: m.old_string("<B"),
    b"}": lambda m: m.push(_Dict()),
    b"u": _Machine.set_items,
    b"s": _Machine.set_item,
    b"]": lambda m: m.push(_List()),
    b"a": _Machine.append,
    b"e": _Machine.appends,
    b")": lambda m: m.push_tuple([]),
    b"t": lambda m: m.push_tuple(m.pop_to_mark()),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"q": lambda m: m.put("<B"),
    b"r": lambda m: m.put("<I"),
    b"\x94": _Machine.memoize,
    b"h": lambda m: m.get("<B"),
    b"j": lambda m: m.get("<I"),
    b"c": _Machine.global_lines,
    b"\x93": _Machine.global_stack,
    b"R": _Machine.reduce,
    b"b": _Machine.build,
}
