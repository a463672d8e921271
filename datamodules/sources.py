"""Finds a data set's files in a folder or on the Hub."""

import re
from collections.abc import Sequence
from glob import escape, glob
from pathlib import Path

from huggingface_hub import snapshot_download

from ernie_m.errors import InputError

# What `path: bundled` stands for, so that a recipe finds the sample wherever the package is installed.
SAMPLES = Path(__file__).resolve().parent / "samples"
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


def find_files(root: str | None, pattern: str, revision: str | None, download: bool) -> tuple[list[Path], str]:
    """The files that a pattern names.

    Args:
        root: A folder, or the id of a data set on the Hub; None where the pattern is a path by itself.
        pattern: A path below `root`; `*`, `?` and `[...]` as in a shell.
        revision: Branch, tag or commit on the Hub; None for its main branch.
        download: Whether to ask the Hub; False to use what another process downloaded.

    Returns:
        The files, sorted, and what to call their source.

    Raises:
        InputError: There are none, or the Hub cannot be reached.
    """
    if root is None:
        path = Path(pattern).expanduser()
        return _matching(Path(), str(path), str(path)), str(path)
    folder = Path(root).expanduser()
    if folder.is_dir():
        return _matching(folder, pattern, str(folder)), str(folder)
    if folder.exists() or not _HUB_ID.fullmatch(root):
        raise InputError(f"path is '{root}', which is neither a folder nor the id of a data set on the Hub.")
    folder = download_folder(root, pattern, revision, download)
    source = f"{root}@{folder.name}"
    return _matching(folder, pattern, source), source


def download_folder(dataset: str, pattern: str, revision: str | None, download: bool) -> Path:
    """The folder of a Hub data set's snapshot with the files that a pattern names.

    Args:
        dataset: The Hub id.
        pattern: The files to have.
        revision: Branch, tag or commit; None for the main branch.
        download: Whether to ask the Hub; False to use what is in its cache.

    Returns:
        The snapshot's folder, named after the commit.

    Raises:
        InputError: The Hub cannot be reached, or has no such data set or revision.
    """
    try:
        return Path(
            snapshot_download(
                dataset,
                repo_type="dataset",
                revision=revision,
                allow_patterns=[pattern],
                local_files_only=not download,
            )
        )
    except Exception as error:  # what the Hub's client raises depends on the HTTP library below it
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"path is '{dataset}', which is no folder here, and the Hub gave nothing: {reason} To work without it,"
            " fetch the data where the Hub can be reached, with hf download"
            f" {dataset} --repo-type dataset --local-dir FOLDER, and set path to that folder."
        ) from error


def _matching(folder: Path, pattern: str, source: str) -> list[Path]:
    literal = folder / pattern
    if literal.is_file():
        return [literal]
    paths = sorted(path for path in map(Path, glob(str(Path(escape(str(folder))) / pattern))) if path.is_file())
    if paths:
        return paths
    message = f"{source}: no file '{pattern}'"
    first, separator, rest = pattern.partition("/")
    if separator and source != pattern:
        siblings = sorted({path.relative_to(folder).parts[0] for path in folder.glob(f"*/{rest}")})
        message += f"; such a file is there for {', '.join(siblings) or 'no language'}, not for {first}"
    raise InputError(f"{message}.")


def files_by_language(data_set: str, known: Sequence[str], split: str, languages: Sequence[str]) -> dict[str, str]:
    """The pattern of each language's files in the Hub's layout, `<language>/<split>-*.parquet`.

    Args:
        data_set: What to call the data set.
        known: The languages that it has.
        split: "train", "validation" or "test".
        languages: The languages that are wanted.

    Raises:
        InputError: A language is unknown or named twice.
    """
    check_languages(data_set, known, split, languages)
    return {language: f"{language}/{split}-*.parquet" for language in languages}


def check_languages(data_set: str, known: Sequence[str], split: str, languages: Sequence[str]) -> None:
    """Sees to it that languages are among the known ones and named once.

    Args:
        data_set: What to call the data set.
        known: The languages that it has.
        split: "train", "validation" or "test".
        languages: The languages that are wanted.

    Raises:
        InputError: A language is unknown or named twice.
    """
    unknown = [language for language in languages if language not in known]
    if unknown:
        raise InputError(f"{split}_languages names '{unknown[0]}'; {data_set} has {', '.join(known)}.")
    if len(set(languages)) != len(languages):
        raise InputError(f"{split}_languages names a language twice: {', '.join(languages)}.")
