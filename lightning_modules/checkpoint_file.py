"""Reading a Lightning checkpoint file without executing anything in it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ernie_m.errors import InputError
from ernie_m.files import check_way
from ernie_m.stored_tensors import check_archive

CONFIG_KEY = "network_config"
"""The key of a Lightning checkpoint under which the network's configuration stands, as JSON."""

MOST_VALUES = 1_000_000
"""Far more than the state of any optimiser has."""

# What nothing counts to; the state of a generator of random numbers has as many bits.
_LARGEST = 2**128
_COUNTS = ("ready", "started", "processed", "completed", "_batches_that_stepped")
_KINDS: dict[str, type] = {
    "state_dict": dict, "hyper_parameters": dict, "loops": dict, "callbacks": dict, "optimizer_states": list,
    "lr_schedulers": list, "epoch": int, "global_step": int, "pytorch-lightning_version": str, CONFIG_KEY: str,
}  # fmt: skip


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint file, memory-mapped, without executing anything in it.

    Args:
        path: A `.ckpt` file.

    Raises:
        InputError: If there is none, it is damaged or something else, or a link leads elsewhere.
    """
    check_way(path)
    if path.is_file():
        check_archive(path)
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"there is no checkpoint {path}") from error
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError for a broken file
        raise InputError(
            f"{path} is not a checkpoint that can be read without running code from it: {str(error).strip()[:300]}"
        ) from error
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path} holds a {type(checkpoint).__name__}, not a Lightning checkpoint")
    for key, kind in _KINDS.items():
        content = checkpoint.get(key, kind())
        parts = content.items() if key == "state_dict" and isinstance(content, dict) else ()
        if not isinstance(content, kind) or not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in parts):
            raise InputError(f"{path} is damaged: {key} is not what Lightning keeps there")
    _check_extent(checkpoint, path)
    if not _has_counts(checkpoint.get("loops", {})):
        raise InputError(f"{path} is damaged: loops is not what Lightning keeps there")
    return checkpoint


def _has_counts(loops: dict[Any, Any]) -> bool:
    """Tell whether what counts steps and epochs, in loops within loops, are numbers from 0."""
    counts = [value for key, value in loops.items() if key in _COUNTS]
    inner = [value for value in loops.values() if isinstance(value, dict)]
    return all(type(count) is int and count >= 0 for count in counts) and all(map(_has_counts, inner))


def _check_extent(checkpoint: dict[str, Any], path: Path) -> None:
    """Refuse numbers without measure, which training leaves none of.

    And lists that hold each other so often that whoever looks at all of them, to print one, never ends.
    """
    count, left = 0, [*checkpoint.values()]
    while left:
        value = left.pop()
        count += 1
        if count + len(left) > MOST_VALUES:
            raise InputError(f"{path} is damaged: it has more than {MOST_VALUES:,} values beside its tensors")
        if type(value) is int and abs(value) > _LARGEST:
            raise InputError(f"{path} is damaged: a number in it has {len(f'{value:x}')} hexadecimal digits")
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list | tuple | set):
            left.extend(value)
