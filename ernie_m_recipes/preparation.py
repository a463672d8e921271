"""What a command does before it uses the classes that recipes name."""

import importlib
import logging
import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from ernie_m.errors import InputError

from .compat import JsonargparseDeprecationWarning
from .lines import plain

_OURS = ("datamodules", "lightning_modules", "ernie_m", "ernie_m_recipes")
_LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric")
# Lightning calls old names, and finds few batches odd.
_OF_NO_USE = (
    r".*isinstance\(treespec, LeafSpec\)",
    "The number of training batches",
    ".*`weights_only` was not set",
    ".*litlogger",
)
VERBOSE = "ERNIE_M_VERBOSE"
"""The environment variable that `--verbose` sets, for processes that Lightning starts too."""

_format_warning = warnings.formatwarning


def refuse_shadows() -> None:
    """Refuse to run where another project's `datamodules` or `lightning_modules` would be imported for ours.

    Raises:
        InputError: One is shadowed; the message says by what.
    """
    root = Path(__file__).resolve().parents[1]
    for name in ("datamodules", "lightning_modules"):
        spec = find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is None or origin.parents[1] != root:
            raise InputError(
                f"the package {name} is {origin or 'missing'} and not the one beside {Path(__file__).parent}. Run the "
                "script `ernie-m` and not `python -m`, leave that folder, or install ernie-m-recipes into an "
                "environment of its own"
            )


def quieten() -> None:
    """Let the terminal show what this project says, errors and warnings; with `--verbose` what the libraries say too.

    A run's log.txt has what Lightning says either way.
    """
    if os.environ.get(VERBOSE) != "1":
        warnings.filterwarnings("ignore", category=JsonargparseDeprecationWarning)
        for message in _OF_NO_USE:
            warnings.filterwarnings("ignore", message=message)
        set_verbosity_error()  # type: ignore[no-untyped-call]
        for name in _LOGGERS:
            for handler in logging.getLogger(name).handlers:
                handler.addFilter(is_worth_reading)
    for name in _LOGGERS:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(made_plain)
    if warnings.formatwarning is not plain_warning:
        global _format_warning
        _format_warning, warnings.formatwarning = warnings.formatwarning, plain_warning
    if not sys.stderr.isatty():
        disable_progress_bar()  # type: ignore[no-untyped-call]


def is_worth_reading(entry: logging.LogRecord) -> bool:
    """Say whether a message is one of this project's, or a warning."""
    return entry.levelno >= logging.WARNING or Path(entry.pathname).parent.name in _OURS


def made_plain(entry: logging.LogRecord) -> bool:
    """Leave out of a message what controls a terminal: it may quote labels and names of files that are anybody's."""
    entry.msg, entry.args = plain(entry.getMessage()), None
    return True


def plain_warning(message: Any, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """Return a warning as it is shown: one of this project's alone, others with their place in the code.

    Args:
        message: The warning.
        category: Its class.
        filename: The file of code that warns.
        lineno: Its line there.
        line: The code.
    """
    if Path(filename).parent.name in _OURS:
        return plain(f"warning: {message}\n")
    return plain(_format_warning(message, category, filename, lineno, line))


def prepare() -> None:
    """Make our classes known by name, quietly.

    Raises:
        InputError: Another project's package hides one of ours.
    """
    refuse_shadows()
    quieten()
    # Their classes are known to the parser by name alone once they are imported.
    importlib.import_module("datamodules")
    importlib.import_module("lightning_modules")
