"""What this package uses of libraries beyond their documented interface, in one place."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# Seconds between two lines of progress, as in a run's own.
_EVERY = 20.0
_ARROW_TYPES = (
    "null", "bool", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
    "float32", "float64", "date32", "date64", "binary", "large_binary", "binary_view", "string", "large_string",
    "string_view", "utf8", "large_utf8",
)  # fmt: skip


@cache
def checked_datasets() -> Any:
    """`datasets`, for which the schema of a file names types of Arrow alone.

    Of itself it calls whatever of pyarrow bears the name, and that starts programs and writes files too.
    """
    import datasets
    from datasets.features import features

    by_name = features.string_to_arrow

    def checked(name: str) -> Any:
        if name.isidentifier() and name not in _ARROW_TYPES:
            raise ValueError(f"its columns have the type {name[:100]!r}, which is none of Arrow's")
        return by_name(name)

    features.string_to_arrow = checked
    return datasets


def streamed_packing(path: str) -> str | None:
    """How `datasets` takes a file to be packed that it reads while it comes: by its name, else by its first bytes.

    Args:
        path: The file, as it is called on the Hub.
    """
    from datasets.utils.file_utils import _get_extraction_protocol

    return _get_extraction_protocol(path)  # type: ignore[no-any-return]


@contextmanager
def plain_progress(say: Callable[[str], None]) -> Iterator[None]:
    """Shows what `Dataset.map` did so far in lines now and then where the output is no terminal, instead of a bar.

    Args:
        say: Takes a line.
    """
    if sys.stderr.isatty():
        yield
        return
    from datasets import arrow_dataset

    bar = arrow_dataset.hf_tqdm

    class Lines(bar):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs, file=io.StringIO(), mininterval=_EVERY, maxinterval=_EVERY)

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            done = self.format_dict
            if 0 < done["n"] < done["total"]:
                rate = done["n"] / max(done["elapsed"], 1e-9)
                left = self.format_interval((done["total"] - done["n"]) / rate)
                say(f"{self.desc}: {done['n']:,} of {done['total']:,} rows, {rate:,.0f} rows/s, {left} left")

    arrow_dataset.hf_tqdm = Lines
    try:
        yield
    finally:
        arrow_dataset.hf_tqdm = bar
