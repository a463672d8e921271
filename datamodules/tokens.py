"""Tokenizers as data modules use them: checked, known by what they do, and what their rows are padded with."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import sentencepiece
from transformers import PreTrainedTokenizerBase

from ernie_m import load_tokenizer
from ernie_m.errors import InputError

from .opening import check_is_file

# The length of the networks here. A tokenizer that states no length has a huge placeholder instead.
_LONGEST = 512
_PLACEHOLDER = 1_000_000
# What a saved tokenizer says about where it came from.
_PLACES = ("name_or_path", "is_local", "local_files_only")


def checked_tokenizer(name: str, max_length: int, trust_remote_code: bool, prefix: str = "") -> PreTrainedTokenizerBase:
    """Loads a tokenizer.

    Args:
        name: Short name, folder or Hub id.
        max_length: Tokens of an input at most, special tokens included.
        trust_remote_code: Whether to run code that the folder or repository carries.
        prefix: What stands before every text.

    Raises:
        InputError: There is none under the name, or it does not admit `max_length`.
    """
    tokenizer = load_tokenizer(name, trust_remote_code)
    limit = tokenizer.model_max_length if tokenizer.model_max_length < _PLACEHOLDER else _LONGEST
    if max_length > limit:
        raise InputError(f"max_length is {max_length}; '{name}' allows at most {limit} tokens.")
    fewest = tokenizer.num_special_tokens_to_add(pair=True) + 2 * (1 + len(prefix_ids(tokenizer, prefix)))
    if max_length < fewest:
        before = f" and {prefix!r} before each" if prefix else ""
        raise InputError(f"max_length is {max_length}; two texts with their special tokens{before} take {fewest}.")
    return tokenizer


def prefix_ids(tokenizer: PreTrainedTokenizerBase, prefix: str) -> list[int]:
    """The ids of what stands before every text, for texts that are tokenised by themselves."""
    return list(tokenizer(prefix, add_special_tokens=False)["input_ids"]) if prefix else []


def filling(tokenizer: PreTrainedTokenizerBase) -> dict[str, int | None]:
    """What a tokenizer's lists are padded with: `input_ids`, and `token_type_ids` where it has them.

    Raises:
        InputError: It has no padding token.
    """
    pad_id = tokenizer.pad_token_id
    if not isinstance(pad_id, int):
        raise InputError(f"The tokenizer '{tokenizer.name_or_path}' has no padding token.")
    values = {"input_ids": pad_id, "token_type_ids": tokenizer.pad_token_type_id}
    return {name: value for name, value in values.items() if name in tokenizer.model_input_names}


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Raises:
        InputError: It is none, as `check_is_file` says.
    """
    check_is_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of what a tokenizer does: the content of its files, wherever it was loaded from.

    sentencepiece's version is part of it, since versions break ties between segmentations differently.

    Raises:
        InputError: Its settings are such that it cannot be saved.
    """
    digest = hashlib.sha256(f"{type(tokenizer).__name__} sentencepiece {sentencepiece.__version__}".encode())
    with tempfile.TemporaryDirectory() as folder:
        try:
            tokenizer.save_pretrained(folder)
        except Exception as error:  # what the settings in a stranger's folder make of it
            raise InputError(f"The tokenizer '{tokenizer.name_or_path}' cannot be saved: {error}") from error
        for path in sorted(Path(folder).rglob("*")):
            if path.name == "tokenizer_config.json":
                settings = json.loads(path.read_text(encoding="utf-8"))
                settings = {name: value for name, value in settings.items() if name not in _PLACES}
                digest.update(json.dumps(settings, sort_keys=True).encode())
            elif path.is_file():
                digest.update(f"{path.name} {file_digest(path)}".encode())
    return digest.hexdigest()


def ragged(rows: Sequence[Sequence[int]]) -> pa.ListArray:
    """Lists of ids as an Arrow array of int32 lists.

    Four times as fast as `pa.array`, which looks at the type of every number.

    Args:
        rows: The ids of each row.
    """
    offsets = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum(np.fromiter(map(len, rows), dtype=np.int32, count=len(rows)), out=offsets[1:])
    values = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(offsets[-1]))
    return pa.ListArray.from_arrays(offsets, values)


def lengths(lists: pa.ListArray) -> pa.Int32Array:
    """How many ids each list of `ragged` holds."""
    return pa.array(np.diff(lists.offsets.to_numpy()), pa.int32())
