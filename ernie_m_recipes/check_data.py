"""What `ernie-m check` finds in the data that a recipe names: it reads them as `fit` does, and tokenises some rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute as pc
from numpy.typing import NDArray

from ernie_m.errors import InputError

from .compat import without_the_hub

_MOST_ROWS = 20_000


def look(data: Any, is_packaged: bool) -> Iterator[tuple[str, bool]]:
    """Read every split and language that is here.

    Args:
        data: The data module, as the recipe makes it.
        is_packaged: Whether the recipe is one of this package, whose files may still have to be named.

    Yields:
        A line about each, and whether it is a problem.
    """
    from datamodules import TaskDataModule
    from datamodules.sources import NotHereError

    if not isinstance(data, TaskDataModule):
        yield f"data: not looked at, since a {type(data).__name__} says nothing of its files", False
        return
    tokenizer = _absence_of_tokenizer(data)
    for split in ("train", "validation", "test"):
        for language in data.split_languages(split):
            try:
                yield f"{split}/{language}: {_found(data, split, language, tokenizer)}", False
            except NotHereError as error:
                yield f"{split}/{language}: not looked at: {_first(error)}", False
            except InputError as error:
                verdict = "not looked at: " if is_packaged else ""
                yield f"{split}/{language}: {verdict}{_first(error)}", not is_packaged


def _absence_of_tokenizer(data: Any) -> str | None:
    """Load the tokenizer where it is here; else say what is not."""
    try:
        with without_the_hub():
            _ = data.tokenizer
    except InputError as error:
        is_here = Path(data.tokenizer_name).expanduser().exists()
        return _first(error) if is_here else f"the tokenizer of {data.tokenizer_name} is not here yet"
    return None


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]


def _lengths(encoded: Any) -> NDArray[np.int64]:
    """Return the tokens of every row; of its longest choice where it has several, all of which `length` counts."""
    lengths = encoded.data.column("length")
    ids = encoded.data.column("input_ids") if "input_ids" in encoded.column_names else None
    if ids is not None and pyarrow.types.is_list(ids.type.value_type):
        lengths = pc.divide(lengths, pc.list_value_length(ids))
    tokens: NDArray[np.int64] = lengths.to_numpy()
    return tokens


def _found(data: Any, split: str, language: str, tokenizer: str | None) -> str:
    """Say how many rows there are, what `fit` says of them, and how long they are."""
    source = data.source(split, language, download=False)
    read = data.read(split, language, source.parts)
    is_part = not isinstance(read, pyarrow.Table)
    rows = next(iter(read), None) if is_part else read
    if rows is None or not rows.num_rows:
        raise InputError(f"{source.name}: the {split} split of '{language}' is empty")
    said = f"{'the first ' if is_part else ''}{rows.num_rows:,} rows of {source.name}"
    if tokenizer is not None:
        return f"{said}; not tokenised: {tokenizer}"
    if rows.num_rows > _MOST_ROWS:
        rows = rows.take(np.linspace(0, rows.num_rows - 1, _MOST_ROWS).astype(int))
        said += f", of which {_MOST_ROWS:,}"
    from datasets import Dataset

    encoded = Dataset(data.encode(rows))
    kept = data.kept(split, language, encoded)
    summary = data.summary(encoded if kept is None else encoded.select(kept))
    lengths = _lengths(encoded)
    if kept is not None:
        said, lengths = f"{len(kept):,} of {said}", lengths[kept]
    full = int((lengths >= data.max_length).sum())
    middle, most = np.percentile(lengths, [50, 95]).astype(int)
    return (
        f"{said}: {f'{summary}; ' if summary else ''}{middle} tokens in the middle, 95 % up to {most}, longest "
        f"{lengths.max()}" + (f"; {full / len(lengths):.1%} fill max_length and may be cut" if full else "")
    )
