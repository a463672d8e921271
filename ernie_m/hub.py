"""The folders that names stand for: one that is here, or a repository on the Hub, of which one commit is fetched."""

import re
from functools import cache
from pathlib import Path

from huggingface_hub import snapshot_download

from .errors import InputError
from .files import check_links

Patterns = tuple[str, ...]

WEIGHTS: tuple[Patterns, ...] = (
    ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"),
)
"""The files of weights that transformers loads, by kind; of the first kind that a repository has, all are fetched."""

# Configurations, tokenizers, their code and the card. What lies in folders below is other programs'.
_SMALL = ("*.json", "*.txt", "*.model", "*.codes", "*.py", "*.jinja", "README.md")
_BELOW = "*/*"
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def folder_of(name: str, weights: tuple[Patterns, ...] = ()) -> Path:
    """Returns the folder behind a name, whose links do not lead out of it.

    Of a repository that is the folder of one commit in the Hub's cache, the same one in all of the process.

    Args:
        name: A folder, which may begin with `~`, or a Hub id.
        weights: Kinds of weights that are wanted of a repository, as `WEIGHTS`; none for its small files alone.

    Raises:
        InputError: There is no such folder and the Hub does not give it, or it has links that lead out of it.
    """
    folder = Path(name).expanduser() if name.startswith("~") else Path(name)
    if not folder.is_dir():
        if folder.exists():
            raise InputError(f"{folder}: is a file; give the folder that holds it and its config.json")
        if not _HUB_ID.fullmatch(name):
            raise InputError(f"{name}: no such folder")
        folder = _fetched(name, weights)
    check_links(folder)
    return folder


@cache
def _fetched(repository: str, weights: tuple[Patterns, ...]) -> Path:
    if not weights:
        return _snapshot(repository, _SMALL, None)
    # Of the commit whose small files were looked at, whatever its branch has become meanwhile.
    folder = _fetched(repository, ())
    for patterns in weights:
        folder = _snapshot(repository, patterns, folder.name)
        if any(found for pattern in patterns for found in folder.glob(pattern)):
            break
    return folder


def _snapshot(repository: str, patterns: Patterns, commit: str | None) -> Path:
    try:
        return Path(
            snapshot_download(repository, revision=commit, allow_patterns=list(patterns), ignore_patterns=[_BELOW])
        )
    except Exception as error:  # what the Hub's client raises depends on the HTTP library below it
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"{repository}: no such folder here, and the Hub did not give it ({reason}); check the name, or download "
            "the repository elsewhere and give its folder. With HF_HUB_OFFLINE=1 only what the Hub's cache holds is "
            "there"
        ) from error
