"""Finds a data set's rows: files in a folder or on the Hub, what `datasets` finds by itself, or what is at hand."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from glob import escape, glob
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from huggingface_hub import snapshot_download

from ernie_m.errors import InputError
from ernie_m.files import check_inside, check_links, check_way, file_name, is_of_snapshot

from .compat import checked_datasets
from .data_folders import (
    ADDRESS,
    METADATA,
    check_arrow,
    check_files,
    check_metadata,
    check_streamed,
    files_within,
)
from .prepared import content_digest
from .tokens import file_digest

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

Parts: TypeAlias = "Sequence[Path | Dataset | IterableDataset]"
"""What rows are read from: files or data sets, one after the other."""

Reference = str | dict[str, str]
"""What a recipe names rows by: a file or pattern, or arguments of `datasets.load_dataset`."""

# What `path: bundled` stands for, so that a recipe finds the sample wherever the package is installed.
SAMPLES = Path(__file__).resolve().parent / "samples"
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
# How the Hub's layout calls the files of a split; `save_to_disk` writes a folder of the split's name.
_HUB_ENDING = "-*.parquet"
_SAVED = "state.json"
_WILD = re.compile(r"[*?[]")
_ADMITTED = ("name", "split", "data_files", "data_dir", "revision")


class Source(NamedTuple):
    """What the rows of one split and language are read from.

    Attributes:
        parts: Files, or data sets, one after the other.
        name: What to call them: a path, or a Hub id with its commit.
        known: What tells their content from other content, where it is read only while it comes.
    """

    parts: "list[Path | Dataset | IterableDataset]"
    name: str
    known: str | None = None

    @property
    def first(self) -> str:
        """What to call the first part."""
        return str(self.parts[0]) if isinstance(self.parts[0], Path) else self.name

    @property
    def formats(self) -> list[str]:
        """How each part is read."""
        return ["".join(part.suffixes) if isinstance(part, Path) else "dataset" for part in self.parts]

    def digest(self) -> str:
        """The SHA-256 of the content, wherever it lies."""
        if self.known is not None:
            return self.known
        digests = [file_digest(part) if isinstance(part, Path) else content_digest(part) for part in self.parts]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def find_source(
    root: str | None,
    reference: "Reference | Dataset",
    revision: str | None,
    download: bool,
    split: str,
    streaming: bool = False,
) -> Source:
    """Finds what a reference names.

    Args:
        root: A folder, or the id of a data set on the Hub; None where the reference is a path by itself.
        reference: A path below `root`, where `*`, `?` and `[...]` are as in a shell, or a folder there that
            `save_to_disk` wrote; arguments of `load_dataset`; or a `datasets.Dataset`.
        revision: Branch, tag or commit on the Hub; None for its main branch.
        download: Whether to ask the Hub; False to use what another process downloaded.
        split: What `load_dataset` is asked for where its arguments do not say.
        streaming: Whether what it finds is read while it comes.

    Raises:
        InputError: There is nothing of that name, or the Hub cannot be reached.
    """
    if isinstance(reference, Mapping):
        return _loaded(root, {"split": str(split), "revision": revision, **reference}, streaming)
    if not isinstance(reference, str):
        return Source([reference], f"a data set of {len(reference)} rows")
    if root is None:
        return _named(Path(reference).expanduser())
    if (folder := _folder(root)) is not None:
        return _inside(_matching(folder, reference, str(folder), folder), lambda _: folder)
    if Path(root).expanduser().exists() or not _HUB_ID.fullmatch(root):
        raise InputError(f"path is '{root}', which is neither a folder nor the id of a data set on the Hub.")
    snapshot = _downloaded(root, [reference], revision, download)
    return _inside(_matching(snapshot, reference, f"{root}@{snapshot.name}", snapshot), lambda _: snapshot)


def _folder(root: str) -> Path | None:
    """The folder that `path` names, to which no link leads; None where it is none."""
    folder = Path(root).expanduser()
    if not folder.is_dir():
        return None
    check_way(folder)
    return folder


def _named(path: Path) -> Source:
    """What a path or pattern by itself names: what `*` stands for is up to the folder that it is in."""
    literal = Path(*takewhile(lambda name: not _WILD.search(name), path.parts))
    if literal == path:
        return _matching(Path(), str(path), str(path))
    check_way(literal)
    # What lies in the current folder itself is the caller's own.
    depth = len(literal.parts) + (literal.resolve() == Path.cwd())
    return _inside(_matching(Path(), str(path), str(path)), lambda found: Path(*found.parts[:depth]))


def _inside(source: Source, folder_of: Callable[[Path], Path]) -> Source:
    """What was found in folders, where no link leads out of them: one within stands for what it leads to."""

    def own(found: Path) -> Path:
        folder = folder_of(found)
        check_inside(found, folder)
        root, target = folder.resolve(), found.resolve()
        is_kept = is_of_snapshot(found) or not target.is_relative_to(root)
        return found if is_kept else folder / target.relative_to(root)

    return source._replace(parts=[own(part) if isinstance(part, Path) else part for part in source.parts])


def _downloaded(dataset: str, patterns: Sequence[str], revision: str | None, download: bool) -> Path:
    """The folder of a Hub data set's snapshot, named after the commit, with the files that patterns name."""
    try:
        folder = snapshot_download(
            dataset,
            repo_type="dataset",
            revision=revision,
            allow_patterns=list(patterns),
            local_files_only=not download,
        )
        # Wherever one keeps the cache: no link leads to it that a stranger made.
        return Path(folder).resolve()
    except Exception as error:  # what the Hub's client raises depends on the HTTP library below it
        raise _unreachable(dataset, error) from error


def _loaded(root: str | None, arguments: dict[str, str | None], streaming: bool) -> Source:
    """What `load_dataset` finds by its own rules: names of configurations, splits, files, folders."""
    if root is None:
        raise InputError(f"{arguments} are arguments of load_dataset; name the data set with path.")
    if unknown := [name for name in arguments if name not in _ADMITTED]:
        raise InputError(f"{root}: '{unknown[0]}' is no argument that finds data; there are {', '.join(_ADMITTED)}.")
    # Addresses would be asked while the builder is made, before it could be seen where its files lie.
    for name, value in arguments.items():
        if ADDRESS.search(str(value)):
            raise InputError(f"{root}: {name} is the address {value}; fetch the file, and name it by its path.")
    if arguments.get("name") is not None:
        file_name(str(arguments["name"]), f"{root}: name")
    folder = _folder(root)
    if is_here := folder is not None:
        asked = place = str(folder.resolve())
        called = root
    elif _REPOSITORY.fullmatch(root):
        folder = _downloaded(root, METADATA, arguments["revision"], download=True)
        # What is read afterwards is of the commit whose metadata are looked at.
        arguments["revision"] = folder.name
        asked, place, called = root, f"hf://datasets/{root}@{folder.name}", f"{root}@{folder.name}"
    else:  # `json` and its like would be readers of any file
        raise InputError(f"path is '{root}', which is neither a folder nor an OWNER/NAME on the Hub.")
    check_metadata(folder)
    shown = [f"{name} {value}" for name, value in arguments.items() if value is not None and name != "revision"]
    said = f"{called} ({', '.join(shown)})"
    split = arguments["split"]
    try:
        found = {name: value for name, value in arguments.items() if name != "split"}
        builder = checked_datasets().load_dataset_builder(asked, **found)
        if builder.name == "cache":
            # Where the Hub is out of reach, `datasets` takes what it prepared here before, of whatever commit.
            if builder.hash != folder.name:
                raise _unreachable(root, InputError(f"only the commit {builder.hash} was prepared here."))
        else:
            names = files_within(builder, place)
            if is_here:
                check_files(builder.name, folder, names)
            elif streaming:
                check_streamed(builder.name, place, names)
            else:
                # The builder takes them out of the same cache.
                fetched = _downloaded(root, [escape(name) for name in names], folder.name, download=True)
                check_files(builder.name, fetched, names)
        if streaming:
            # Known by the files' places and versions, not by their content.
            known = hashlib.sha256(repr((builder.hash, builder.config_id, split)).encode()).hexdigest()
            return Source([builder.as_streaming_dataset(split)], said, known)
        builder.download_and_prepare()
        return Source([builder.as_dataset(split)], said)
    except InputError:
        raise
    except Exception as error:  # the same as in `_downloaded`, and what reading files can raise
        if is_here or isinstance(error, ValueError):
            raise InputError(f"{said}: {_first_line(error)}") from error
        raise _unreachable(root, error) from error


class NotHereError(InputError):
    """Data lie on the Hub, which cannot be asked."""


def _unreachable(dataset: str, error: Exception) -> InputError:
    return NotHereError(
        f"path is '{dataset}', which is no folder here, and the Hub gave nothing: {_first_line(error)} To work without"
        f" it, fetch the data where the Hub can be reached, with hf download {dataset} --repo-type dataset --local-dir"
        " FOLDER, and set path to that folder."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _matching(folder: Path, pattern: str, source: str, root: Path | None = None) -> Source:
    """The file, the folder of `save_to_disk`, out of `root` by no link, or the files that a pattern names."""
    literal = folder / pattern
    if literal.is_file():
        return Source([literal], source)
    for saved in (literal, folder / pattern.removesuffix(_HUB_ENDING)):
        if (saved / _SAVED).is_file():
            if root is not None:
                check_inside(saved, root)
            return Source([_saved_rows(saved)], str(saved))
    paths = sorted(path for path in map(Path, glob(str(Path(escape(str(folder))) / pattern))) if path.is_file())
    if paths:
        return Source([*paths], source)
    message = f"{source}: no file '{pattern}'"
    first, separator, rest = pattern.partition("/")
    if (literal / "dataset_dict.json").is_file():
        message = f"{literal} holds several splits; name one of them, such as {pattern}/train"
    elif separator and source != pattern:
        siblings = sorted({path.relative_to(folder).parts[0] for path in folder.glob(f"*/{rest}")})
        message += f"; such a file is there for {', '.join(siblings) or 'no language'}, not for {first}"
    raise InputError(f"{message}.")


def _saved_rows(folder: Path) -> "Dataset":
    """What `save_to_disk` wrote, from files of the folder alone."""
    check_links(folder)
    try:
        names = [part["filename"] for part in json.loads((folder / _SAVED).read_text(encoding="utf-8"))["_data_files"]]
        if outside := [name for name in names if not (folder / name).resolve().is_relative_to(folder.resolve())]:
            raise InputError(f"{folder / _SAVED} names {outside[0]}, which lies outside of the folder.")
        for name in names:
            check_arrow(folder / name)
        return checked_datasets().Dataset.load_from_disk(folder.resolve())
    except InputError:
        raise
    except Exception as error:  # datasets raises anything for files that it did not write
        raise InputError(f"{folder} cannot be read as what save_to_disk writes: {_first_line(error)}.") from error


def files_by_language(
    data_set: str, known: Sequence[str], split: str, languages: Sequence[str]
) -> dict[str, Reference]:
    """The pattern of each language's files in the Hub's layout, `<language>/<split>-*.parquet`.

    Args:
        data_set: What to call the data set.
        known: The languages that it has.
        split: "train", "validation" or "test".
        languages: The languages that are wanted.

    Raises:
        InputError: A language is unknown or named twice.
    """
    check_languages(data_set, known, f"{split}_languages", languages)
    return {language: f"{language}/{split}{_HUB_ENDING}" for language in languages}


def check_languages(data_set: str, known: Sequence[str] | None, argument: str, languages: Sequence[str]) -> None:
    """Refuses languages that a data set has not.

    Args:
        data_set: What to call the data set.
        known: The languages that it has; None where it may have any.
        argument: The argument that names them.
        languages: The languages that are wanted.

    Raises:
        InputError: A language is unknown or named twice.
    """
    unknown = [language for language in languages if known is not None and language not in known]
    if unknown:
        raise InputError(f"{argument} names '{unknown[0]}'; {data_set} has {', '.join(known or ())}.")
    if len(set(languages)) != len(languages):
        raise InputError(f"{argument} names a language twice: {', '.join(languages)}.")
