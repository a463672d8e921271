"""Files and folders that are there whole or not at all."""

import errno
import os
import platform
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError

OF_LOGGERS = ("wandb", "mlruns")
"""Folders of a run whose content, though not they themselves, may be links to anywhere."""

# Far below what file systems allow, so that what is put before and behind still fits.
_LONGEST_NAME = 100
_NO_PART_OF_A_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029/\\]")


def default_cache_dir() -> Path:
    """Returns `$XDG_CACHE_HOME/ernie-m-recipes`, or `~/.cache/ernie-m-recipes`: what can be made again lies there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ernie-m-recipes"


def file_name(name: str, what: str) -> str:
    """Returns a name that may become a file's or folder's, as it is; every name that a user or a file gives goes here.

    Args:
        name: The name.
        what: What has it, for the message.

    Raises:
        InputError: It is empty, hidden or too long, or would lead elsewhere: it holds a separator or a control
            character.
    """
    if not isinstance(name, str):
        raise InputError(f"{what} is {name!r}, which is no text; write it between quotes")
    if not name or name.startswith(".") or _NO_PART_OF_A_NAME.search(name):
        raise InputError(
            f"{what} is {name!r}, which cannot be the name of a file: give it letters, digits, - and _, without "
            "separators, and no dot at the start"
        )
    if len(name.encode()) > _LONGEST_NAME:
        raise InputError(f"{what} has {len(name.encode())} bytes ({name[:40]!r}...); {_LONGEST_NAME} are the most")
    return name


def check_links(folder: Path) -> None:
    """Refuses a folder that leads out of itself: what is read of it, and copied with it, would be another's.

    The Hub's cache keeps the files of a snapshot elsewhere in the repository's own folder, which is admitted.

    Args:
        folder: A folder that may come from a stranger.

    Raises:
        InputError: It is a link itself, has a link out of it, something that is neither file nor folder, or a folder
            that cannot be listed; the message names it.
    """
    check_way(folder)
    homes = [root := _resolved(folder)]
    if root.parent.name == "snapshots" and root.parents[1].name.startswith("models--"):
        homes.append(root.parents[1] / "blobs")
    for path in _content(folder):
        if path.is_symlink() and not any(_resolved(path).is_relative_to(home) for home in homes):
            raise InputError(
                f"{path} is a link out of {folder}; what it leads to would be taken along. Put a copy there"
            )
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is neither a file nor a folder; remove it")


def check_way(path: Path) -> None:
    """Refuses a file or folder whose name, or that of a folder above, is a link out of where it lies.

    What lies in the current folder itself is the caller's own. Of a place that is not below the current folder its own
    name and its folder's are looked at: what lies above is where the caller keeps things. The files of a snapshot in
    the Hub's cache may be links. Whatever opens files that may be a stranger's asks here first.

    Args:
        path: What was named, within what may come from a stranger.

    Raises:
        InputError: It is; the message names what it leads to. Or its name has `::`, which libraries take for an
            address.
    """
    place, here = Path(os.path.abspath(path)), Path(os.path.abspath(Path.cwd()))
    if "::" in str(place):
        raise InputError(f"{path}: '::' in a path stands for something else in the libraries that read it; rename it")
    below = len(place.relative_to(here).parts) if place.is_relative_to(here) else 2
    for link in [place, *place.parents][:below]:
        if not link.is_symlink() or (home := _resolved(link.parent)) == Path.cwd():
            continue
        if not (target := _resolved(link)).is_relative_to(home) and not is_of_snapshot(link):
            raise InputError(f"{link} is a link to {target}; name that, or put a copy there")


def check_within(place: Path, folder: Path, what: str) -> None:
    """Refuses a place to write to that a folder or its settings choose, where it lies outside of the folder.

    Args:
        place: The file or folder, which need not be there yet.
        folder: What it has to lie in, after links are resolved.
        what: What chose it, for the message.

    Raises:
        InputError: It does; the message names where it lies.
    """
    if not (target := _resolved(place)).is_relative_to(_resolved(folder)):
        raise InputError(f"{what}: {place} lies at {target}, outside of {folder}; remove the link")


def check_inside(path: Path, folder: Path) -> None:
    """Refuses a file of a folder from which a link leads out of the folder: it would be read for the folder's own.

    The Hub's cache keeps the files of a snapshot elsewhere in the repository's own folder, which is admitted.

    Args:
        path: The file; one that is named as another folder's, by `..` say, is what was meant.
        folder: What it was looked for in.

    Raises:
        InputError: It does.
    """
    root, found = _resolved(folder), _resolved(path)
    is_named_there = Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))
    if is_named_there and not found.is_relative_to(root) and not is_of_snapshot(path, root):
        raise InputError(f"{path} leads to {found} by a link, out of {folder}; name that, or put a copy there")


def is_of_snapshot(path: Path, folder: Path | None = None) -> bool:
    """Tells whether a file is one of a snapshot in the Hub's cache, which are links to the repository's own blobs.

    Args:
        path: The file.
        folder: What it was looked for in, without links: a part of that repository, or what the repository lies in.
    """
    place = Path(os.path.abspath(path))
    snapshots = next((parent for parent in place.parents if parent.name == "snapshots"), None)
    if snapshots is None or not _resolved(path).is_relative_to(_resolved(snapshots.parent) / "blobs"):
        return False
    repository = _resolved(snapshots.parent)
    return folder is None or folder.is_relative_to(repository) or repository.is_relative_to(folder)


def _resolved(path: Path) -> Path:
    """Where a path leads, without links."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        # Python before 3.13 raises the latter.
        raise InputError(f"{path} is a link that leads to itself, or nowhere; remove it") from error


def _content(folder: Path) -> Iterator[Path]:
    """What lies in a folder and below, links not followed."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be listed ({error.strerror}), so that what it holds is unknown")

    for place, folders, files in os.walk(folder, onerror=refuse):
        yield from (Path(place, name) for name in (*folders, *files))
        if Path(place) == folder:
            # What loggers keep there, links of their own among it, is neither read, copied nor written to.
            folders[:] = [name for name in folders if name not in OF_LOGGERS]


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Lets a file or folder appear under its name when all of it is written, so that no reader ever sees half of it.

    Any number of processes may write the same target at once; the last one stays. What a process left behind that was
    killed meanwhile, the next one to write the same target on the same machine removes.

    Args:
        target: The file or folder; one that is there is replaced. Its folder is made if absent.

    Yields:
        A path beside the target to write to. It takes the target's name when the block ends well; whatever went wrong,
        it is gone afterwards and the target is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in _abandoned(target):
        _remove(path)
    partial = _beside(target)
    try:
        yield partial
        _take_place(partial, target)
    finally:
        _remove(partial)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all, in UTF-8, with lines that end as they do in the text."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def _beside(target: Path) -> Path:
    """A name that nobody else has, and that says who writes there."""
    return target.with_name(f".{target.name}-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.partial")


def _machine() -> str:
    """What process ids mean something on: a host, or a container of its own."""
    try:
        container = os.readlink("/proc/self/ns/pid")
    except OSError:
        container = ""
    return f"{zlib.crc32(f'{platform.node()} {container}'.encode()):08x}"


def _abandoned(target: Path) -> list[Path]:
    """What processes that are no more have left beside a target."""
    pattern = re.compile(rf"\.{re.escape(target.name)}-{_machine()}-(\d+)-[0-9a-f]{{8}}\.partial")
    found = ((path, pattern.fullmatch(path.name)) for path in target.parent.iterdir())
    return [path for path, match in found if match and not _is_alive(int(match[1]))]


def _is_alive(process: int) -> bool:
    try:
        # Signal 0 reaches nobody: it asks whether there is somebody. Windows takes it for Ctrl-C.
        if os.name == "posix":
            os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Somebody else's.
        return True
    return True


def _take_place(partial: Path, target: Path) -> None:
    """Give a target its new content; a folder takes the place of an empty one alone, so a full one goes aside first."""
    while True:
        try:
            partial.replace(target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        aside = _beside(target)
        # Another process may have moved it first.
        with suppress(FileNotFoundError):
            target.rename(aside)
        _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()
