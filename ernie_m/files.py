"""Files and folders that are there whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Lets a file or folder appear under its name when all of it is written, so that no reader ever sees half of it.

    Any number of processes may write the same target at once; the last one stays.

    Args:
        target: The file or folder; one that is there is replaced. Its folder is made if absent.

    Yields:
        A path beside the target to write to. It takes the target's name when the block ends well; whatever went wrong,
        it is gone afterwards and the target is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}-{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        yield partial
        if partial.is_dir() and target.is_dir():
            # A folder takes the place of an empty one alone.
            shutil.rmtree(target)
        partial.replace(target)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all, in UTF-8."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
