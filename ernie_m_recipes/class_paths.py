"""Classes by their dotted path, as recipes, checkpoints and settings name them."""

import importlib
from collections.abc import Mapping
from typing import Any

from ernie_m.errors import InputError


def class_at(path: str) -> Any:
    """Import a class of settings that were admitted (`trust.py`).

    Args:
        path: Module and name, such as `datamodules.XNLI`.

    Raises:
        InputError: There is no such module, or it has no such class.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"class_path {path}: there is no such class ({error})") from error


def instance_of(content: Mapping[str, Any]) -> Any:
    """Build what a part of a recipe describes.

    Args:
        content: A `class_path`, and its `init_args` where it has arguments.

    Raises:
        InputError: There is no such class, or it refuses an argument.
    """
    found = class_at(content["class_path"])
    try:
        return found(**(content.get("init_args") or {}))
    except TypeError as error:
        raise InputError(f"class_path {content['class_path']}: {error}") from error
