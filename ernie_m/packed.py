"""Checkpoints in blocks of 4 bits, small enough to travel with the package, and the whole folders made of them.

A block is 32 neighbours in a row of a matrix: whole numbers from -8 to 7 that share a factor in float16, two numbers a
byte, those of the first half of the block in the low bits. llama.cpp calls this Q4_0. Vectors, matrices whose width is
no multiple of 32 and the embeddings of positions, which are few, stay float32.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from .errors import InputError
from .files import whole

BLOCK = 32
BLOCKS, FACTORS = ".blocks", ".factors"
WEIGHTS = "model.safetensors"
PACKED_WEIGHTS = "packed.safetensors"

_EXACT = "position_embeddings.weight"
# What the number with the largest magnitude in a block may become; the best of them is taken.
_PEAKS = (-8.0, -7.75, -7.5, -7.25, 7.0, -7.0, 6.75, -6.75)


def pack(weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
    """Return tensors in blocks of 4 bits.

    Weights that were unpacked from such blocks come back as the same blocks, so that packing loses nothing twice.

    Args:
        weights: Name to float32 tensor.

    Returns:
        For each matrix that is packed `name.blocks`, uint8 (rows, width / 2), and `name.factors`, float16
        (rows, width / 32); all others as they are.
    """
    packed: dict[str, NDArray[Any]] = {}
    for name, values in weights.items():
        if values.ndim != 2 or values.shape[1] % BLOCK or name.endswith(_EXACT):
            packed[name] = values
            continue
        numbers, factors = _quantised(values.reshape(-1, BLOCK))
        low, high = numbers[:, : BLOCK // 2], numbers[:, BLOCK // 2 :]
        packed[name + BLOCKS] = (low | high << 4).reshape(len(values), -1)
        packed[name + FACTORS] = factors.reshape(len(values), -1)
    return packed


def _quantised(blocks: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """The numbers plus 8, uint8 (blocks, 32), and the factors, float16 (blocks,), with the least squared error."""
    peaks = np.take_along_axis(blocks, np.abs(blocks).argmax(1, keepdims=True), 1)
    numbers = np.zeros(blocks.shape, dtype=np.uint8)
    factors = np.zeros(len(blocks), dtype=np.float16)
    least = np.full(len(blocks), np.inf)
    for peak in _PEAKS:
        factor = (peaks / peak).astype(np.float16)
        divisor = np.where(factor == 0, 1, factor).astype(np.float32)
        found = np.clip(np.rint(blocks / divisor), -8, 7)
        error = np.square(found * factor.astype(np.float32) - blocks).sum(1)
        better = error < least
        numbers[better], factors[better], least[better] = found[better] + 8, factor[better, 0], error[better]
    return numbers, factors


def unpack(packed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Return the float32 tensors of what `pack` returned.

    Args:
        packed: Name to tensor.
    """
    weights: dict[str, NDArray[np.float32]] = {}
    for name, values in packed.items():
        if name.endswith(FACTORS):
            continue
        if not name.endswith(BLOCKS):
            weights[name] = values.astype(np.float32)
            continue
        stem = name.removesuffix(BLOCKS)
        pairs = values.reshape(-1, BLOCK // 2)
        numbers = np.concatenate([pairs & 15, pairs >> 4], axis=1).astype(np.float32) - 8
        factors = packed[stem + FACTORS].reshape(-1, 1).astype(np.float32)
        weights[stem] = (numbers * factors).reshape(len(values), -1)
    return weights


def write_packed(source: Path, target: Path) -> None:
    """Write a checkpoint's files with packed weights.

    Args:
        source: A folder with config.json, a tokenizer's files and model.safetensors in float32.
        target: The folder to write them to; other files there stay.
    """
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(WEIGHTS), dirs_exist_ok=True)
    save_file(pack(load_file(source / WEIGHTS)), target / PACKED_WEIGHTS)


def digest(folder: Path) -> str:
    """Return the SHA-256 of a folder's files and their names, in hexadecimal; cards and scripts count for nothing."""
    found = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix not in (".md", ".py"):
            content = path.read_bytes()
            found.update(json.dumps([path.name, len(content)]).encode() + content)
    return found.hexdigest()


def unpacked(source: Path, expected: str, target: Path) -> Path:
    """Return a folder that `from_pretrained` loads, made of a packed one when it is first asked for.

    Args:
        source: What `write_packed` wrote.
        expected: Its digest.
        target: The folder to make; one that is there is what was made before.

    Raises:
        InputError: The packed folder is not what was packed, or the other cannot be written.
    """
    if target.is_dir():
        return target
    try:
        found = digest(source)
        if found != expected:
            raise InputError(
                f"{source} is damaged: its files have the digest {found[:16]}..., not {expected[:16]}...; install the "
                "package anew"
            )
        with whole(target) as partial:
            shutil.copytree(source, partial, ignore=shutil.ignore_patterns(PACKED_WEIGHTS, "*.py", "__pycache__"))
            save_file(unpack(load_file(source / PACKED_WEIGHTS)), partial / WEIGHTS, metadata={"format": "pt"})
    except OSError as error:
        raise InputError(
            f"{source} cannot be unpacked into {target}: {error}. XDG_CACHE_HOME names another place"
        ) from error
    return target
