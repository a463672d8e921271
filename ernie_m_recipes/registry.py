"""Finds the recipes and fragments that travel with the package.

Nothing is registered by hand: every YAML file under `recipes/` is a recipe, every one under `configs/` a fragment, and
its name is its path there without the suffix. This module imports nothing heavy, so that `ernie-m ls` answers at once.
"""

import difflib
import fnmatch
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".yaml"
_SUFFIXES = (SUFFIX, ".yml", ".json")


class UnknownNameError(LookupError):
    """No file, recipe or fragment has this name; the message lists the closest ones."""


@dataclass(frozen=True)
class Entry:
    """A recipe or fragment.

    Attributes:
        name: Its path under `recipes/` or `configs/`, without the suffix: what `--config` takes.
        path: The YAML file.
        kind: `recipe` (a complete run) or `fragment` (laid over a recipe with a second `--config`).
    """

    name: str
    path: Path
    kind: str

    @property
    def text(self) -> str:
        """The file's content."""
        return self.path.read_text(encoding="utf-8")

    @property
    def header(self) -> list[str]:
        """The lines of the leading comment, without their comment signs."""
        lines = []
        for line in self.text.splitlines():
            if not line.startswith("#"):
                break
            lines.append(line.removeprefix("#").strip())
        return lines

    @property
    def description(self) -> str:
        """The first line of the leading comment."""
        return self.header[0] if self.header else ""

    def fits(self, recipe: str) -> bool:
        """Say whether this fragment is meant to be laid over a recipe.

        A header line `With: xnli/*, quickstart` names the recipes; without one the fragment goes with all of them.

        Args:
            recipe: A recipe's name.
        """
        for line in self.header:
            found = re.match(r"With: (.*)", line)
            if found:
                return any(fnmatch.fnmatch(recipe, pattern.strip()) for pattern in found[1].split(","))
        return True


def asset_root() -> Path:
    """Return the folder that holds `recipes/` and `configs/`: beside this file in a wheel, else the checkout."""
    packaged = Path(__file__).resolve().parent / "_assets"
    return packaged if (packaged / "recipes").is_dir() else Path(__file__).resolve().parents[1]


def entries(kind: str | None = None) -> list[Entry]:
    """List what is there, sorted by kind (recipes first) and name.

    Args:
        kind: `recipe` or `fragment`; None for both.
    """
    found = []
    for this_kind, folder in (("recipe", "recipes"), ("fragment", "configs")):
        if kind not in (None, this_kind):
            continue
        root = asset_root() / folder
        paths = sorted(root.rglob(f"*{SUFFIX}"))
        found += [Entry(path.relative_to(root).with_suffix("").as_posix(), path, this_kind) for path in paths]
    return found


def find(name: str) -> Entry:
    """Return the recipe or fragment of this name.

    Args:
        name: As `ernie-m ls` prints it; the suffix `.yaml` may be there.

    Raises:
        UnknownNameError: There is none; the message lists the closest names.
    """
    known = {entry.name: entry for entry in entries()}
    wanted = name.removesuffix(SUFFIX)
    if wanted in known:
        return known[wanted]
    raise UnknownNameError(
        f"there is no recipe or fragment {name!r}{did_you_mean(wanted, known)}. `ernie-m ls` lists them all"
    )


def resolve_config(name: str) -> Path:
    """Return the file that a `--config` argument means.

    A packaged recipe's or fragment's name is that one, whatever lies in the current folder; a file is named by a
    suffix, or with a folder such as `./` before it.

    Args:
        name: A path, or a name as `ernie-m ls` prints it.

    Raises:
        UnknownNameError: It is neither.
    """
    path = Path(name)
    if path.is_file() and (path.suffix in _SUFFIXES or name.startswith((".", os.sep, "~"))):
        return path
    try:
        return find(name).path
    except UnknownNameError as error:
        if path.is_file():
            return path
        if path.suffix in _SUFFIXES:
            raise UnknownNameError(f"--config {name}: there is no such file, and {error}") from None
        raise UnknownNameError(f"--config {name}: {error}") from None


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return `; did you mean a, b or c?` for the names closest to a mistyped one, or nothing.

    Args:
        wrong: What was typed.
        known: The valid names.
    """
    names = sorted(set(known))
    last = {name.rsplit("/", 1)[-1]: name for name in names}
    close = difflib.get_close_matches(wrong, names, n=3, cutoff=0.6)
    close += [last[name] for name in difflib.get_close_matches(wrong, last, n=3, cutoff=0.6) if last[name] not in close]
    if not close:
        return ""
    shown = close[:3]
    listed = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
    return f"; did you mean {listed}?"
