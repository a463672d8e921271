"""Tensors that stay in their file until they are written to another one.

A conversion moves gigabytes; here a tensor is its place in a file, read in pieces, so that memory never holds the file.
"""

import contextlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from .errors import InputError
from .torch_listing import check_old_file, listed_storages

CHUNK_BYTES = 16 * 2**20
# bfloat16, which numpy lacks, travels as the integers of its bits.
NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8"}
_TORCH_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
# What torch writes into an archive.
_PARTS = re.compile(
    r"[^/]+/(?:data\.pkl|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id|data/[0-9]+)"
)
_LARGEST_PICKLE = 16 * 2**20
_FETCH_AGAIN = "the file is damaged or cut short, fetch or copy it again"
_TAKE_OTHERS = "the file is damaged, or holds more than tensors: save the state_dict() alone, or take safetensors"


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file.

    Args:
        where: The file and the key, for messages.
        dtype: The name safetensors gives the type, such as "F32".
        shape: The sizes of its axes.
        chunks: Gives the bytes in pieces, row by row and little-endian.
    """

    where: str
    dtype: str
    shape: tuple[int, ...]
    chunks: Callable[[], Iterator[bytes]]

    @property
    def nbytes(self) -> int:
        """The size in bytes; only for the types of `NUMPY_TYPES`."""
        return prod(self.shape) * np.dtype(NUMPY_TYPES[self.dtype]).itemsize

    def read(self) -> NDArray[Any]:
        """Return the whole tensor, bfloat16 as unsigned integers of the same bits.

        Raises:
            InputError: If the file holds more or fewer bytes than the shape needs.
        """
        data = b"".join(self.chunks())
        if len(data) != self.nbytes:
            raise InputError(f"{self.where}: {len(data)} bytes for shape {self.shape} of {self.dtype}; {_FETCH_AGAIN}")
        return np.frombuffer(data, dtype=NUMPY_TYPES[self.dtype]).reshape(self.shape)

    def transposed(self) -> "StoredTensor":
        """Return the 2-D tensor with its axes exchanged."""
        return replace(self, shape=self.shape[::-1], chunks=lambda: iter((self.read().T.tobytes(),)))

    def plus_row(self, other: "StoredTensor") -> "StoredTensor":
        """Return the 2-D tensor with the first row of `other` added to each row, rounded once to this tensor's type."""
        return replace(self, chunks=lambda: iter((_add_row(self, other),)))


def _add_row(matrix: StoredTensor, other: StoredTensor) -> bytes:
    total = (_as_torch(matrix).double() + _as_torch(other).double()[:1]).to(_torch_type(matrix.dtype))
    return total.view(torch.uint8).numpy().tobytes()


def _torch_type(name: str) -> torch.dtype:
    return next(dtype for dtype, known in _TORCH_TYPES.items() if known == name)


def _as_torch(tensor: StoredTensor) -> torch.Tensor:
    return torch.from_numpy(tensor.read().copy()).view(_torch_type(tensor.dtype))


def file_span(path: Path, offset: int, length: int) -> Iterator[bytes]:
    """Yield `length` bytes of a file from `offset` on, in pieces.

    Raises:
        InputError: If the file ends before.
    """
    with path.open("rb") as file:
        file.seek(offset)
        while length:
            piece = file.read(min(length, CHUNK_BYTES))
            if not piece:
                raise InputError(f"{path}: ends {length} bytes early; {_FETCH_AGAIN}")
            length -= len(piece)
            yield piece


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of a safetensors file without reading their values.

    Raises:
        InputError: If the file is not whole or is another thing.
    """
    try:
        # The library's own checks of header, offsets and size; what follows can then rely on them.
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error}); {_FETCH_AGAIN}") from error
    with path.open("rb") as file:
        (header_length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(header_length))
    header.pop("__metadata__", None)
    return {key: _safetensors_entry(path, key, entry, 8 + header_length) for key, entry in header.items()}


def is_torchs(path: Path) -> bool:
    """Tell whether a safetensors file is torch's, as transformers writes them; PaddleNLP calls its own numpy's.

    Raises:
        InputError: If the file is not whole or is another thing.
    """
    read_safetensors(path)
    with safe_open(path, framework="np") as file:
        return (file.metadata() or {}).get("format") == "pt"


def _safetensors_entry(path: Path, key: str, entry: Mapping[str, Any], start: int) -> StoredTensor:
    begin, end = entry["data_offsets"]
    return StoredTensor(
        f"{path}, {key}", entry["dtype"], tuple(entry["shape"]), lambda: file_span(path, start + begin, end - begin)
    )


def check_archive(path: Path) -> None:
    """Refuses an archive of torch's that unpacks to more than the file has; `torch.save` packs nothing.

    Args:
        path: A file that may be such an archive.

    Raises:
        InputError: A part of it is packed, its list holds more than tensors and plain values, or is far larger than
            that of any network, it has not the bytes of a tensor, or it cannot be read.
    """
    if not _is_archive(path):
        check_old_file(path)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            _check_parts(path, archive)
    except InputError:
        raise
    except Exception as error:  # zipfile raises anything from BadZipFile to RuntimeError for what it cannot read
        raise InputError(f"{path}: not a readable archive ({error}); {_FETCH_AGAIN}") from error


def _is_archive(path: Path) -> bool:
    """Tell as torch does, by the first bytes: zipfile also finds an archive behind something else."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _check_parts(path: Path, archive: zipfile.ZipFile) -> None:
    parts = {part.filename.partition("/")[2]: part for part in archive.infolist()}
    for part in archive.infolist():
        if not _PARTS.fullmatch(part.filename):
            raise InputError(f"{path}: {part.filename[:80]!r} in it is no part that torch writes; {_FETCH_AGAIN}")
        if part.compress_type != zipfile.ZIP_STORED:
            raise InputError(f"{path}: {part.filename[:80]} in it is packed, which torch does not do; {_FETCH_AGAIN}")
    if (listing := parts.get("data.pkl")) is None or len(parts) < len(archive.infolist()):
        raise InputError(f"{path}: not an archive as torch writes it; {_FETCH_AGAIN}")
    if listing.file_size > _LARGEST_PICKLE:
        raise InputError(f"{path}: its list of tensors has {listing.file_size:,} bytes; {_FETCH_AGAIN}")
    # An archive may have several tables of contents, and torch goes by another one than zipfile.
    reader = torch._C.PyTorchFileReader(str(path))
    theirs = {name: reader.get_record_offset(name) for name in reader.get_all_records()}  # type: ignore[attr-defined]
    if theirs != {name: _begin(path, part) for name, part in parts.items()}:
        raise InputError(f"{path}: an archive that can be read in two ways; {_FETCH_AGAIN}")
    try:
        storages = listed_storages(io.BytesIO(archive.read(listing)))
    except ValueError as error:
        raise InputError(f"{path}: its list of tensors cannot be read: {str(error)[:200]}; {_TAKE_OTHERS}") from error
    held = {name.removeprefix("data/"): part.file_size for name, part in parts.items()}
    for key, (count, size) in storages.items():
        if held.get(key) != count * size:
            raise InputError(f"{path}: has not the {count * size:,} bytes of its storage {key[:40]!r}; {_FETCH_AGAIN}")


def _begin(path: Path, part: zipfile.ZipInfo) -> int:
    """Where the content of a part begins: behind its header, its name and what is added to that."""
    with path.open("rb") as file:
        file.seek(part.header_offset)
        name, added = struct.unpack("<26x2H", file.read(30))
    return part.header_offset + 30 + int(name) + int(added)


def read_torch(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of a file that `torch.save` wrote, with `weights_only=True`.

    Their values stay in the file, but for files older than torch 1.6, which are no archives.

    Raises:
        InputError: If it is not whole, holds anything but tensors, or would run code.
    """
    check_archive(path)
    try:
        with FakeTensorMode() if _is_archive(path) else contextlib.nullcontext():
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises what its pickle and archive readers raise, of no common class
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path}: torch cannot load it with weights_only=True ({reason}); the file is damaged, or holds more than "
            "weights: fetch it again, or take the checkpoint's safetensors file"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: holds more than one dict of tensors; save the model's state_dict() alone")
    _check_values(path, state)
    if any(_offset(value) is None for value in state.values()):
        # Mapped, a storage ends with the file, whatever size it states.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_archive(path))
    return {str(key): _torch_entry(path, str(key), value) for key, value in state.items()}


def _check_values(path: Path, state: Mapping[Any, torch.Tensor]) -> None:
    """Refuse tensors without values of their own: a storage may stand for any number of them."""
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    # Tied weights stand there twice.
    if total > 2 * path.stat().st_size:
        raise InputError(f"{path}: tensors of {total:,} bytes, far more than the file has; {_FETCH_AGAIN}")


def _offset(tensor: torch.Tensor) -> int | None:
    """Return where in its file a tensor loaded without values begins; None where it cannot be read from there."""
    if not isinstance(tensor, FakeTensor):
        return 0
    start: int | None = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
    if start is None or not tensor.is_contiguous():
        return None
    return start + int(tensor.storage_offset()) * tensor.element_size()


def _torch_entry(path: Path, key: str, tensor: torch.Tensor) -> StoredTensor:
    where = f"{path}, {key}"
    start = _offset(tensor)
    if not isinstance(tensor, FakeTensor) or start is None:
        return _in_memory(where, tensor)
    length = tensor.numel() * tensor.element_size()
    return StoredTensor(where, _type_name(tensor), tuple(tensor.shape), lambda: file_span(path, start, length))


def _type_name(tensor: torch.Tensor) -> str:
    return _TORCH_TYPES.get(tensor.dtype, str(tensor.dtype))


def _in_memory(where: str, tensor: torch.Tensor) -> StoredTensor:
    def chunks() -> Iterator[bytes]:
        flat = tensor.contiguous().view(-1)
        step = CHUNK_BYTES // flat.element_size()
        for start in range(0, len(flat), step):
            yield flat[start : start + step].view(torch.uint8).numpy().tobytes()

    return StoredTensor(where, _type_name(tensor), tuple(tensor.shape), chunks)


def same_values(left: StoredTensor, right: StoredTensor) -> bool:
    """Tell whether two tensors have the same type, shape and bits."""
    if (left.dtype, left.shape) != (right.dtype, right.shape):
        return False
    # Both come in pieces of the same length, since one file format holds both.
    return all(a == b for a, b in zip(left.chunks(), right.chunks(), strict=True))


def write_safetensors(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Write a safetensors file piece by piece, marked as PyTorch's, with at most one tensor in memory.

    The layout is that of https://github.com/huggingface/safetensors#format: the header's length, the header as JSON
    padded to 8 bytes, the values.

    Raises:
        InputError: If a source turns out to hold other than the bytes that its shape needs.
    """
    # Wide types first, as the library does, keeps every tensor aligned.
    ordered = sorted(tensors.items(), key=lambda item: (-np.dtype(NUMPY_TYPES[item[1].dtype]).itemsize, item[0]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in ordered:
        end = offset + tensor.nbytes
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (offset, end)}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for _, tensor in ordered:
            written = sum(file.write(piece) for piece in tensor.chunks())
            if written != tensor.nbytes:
                raise InputError(
                    f"{tensor.where}: {written} bytes for shape {tensor.shape} of {tensor.dtype}; {_FETCH_AGAIN}"
                )
