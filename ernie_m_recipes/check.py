"""`ernie-m check`: parses recipes with their fragments, tests their rules and reads their data, without training."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ernie_m.errors import InputError

from .check_data import look
from .class_paths import instance_of
from .cli import RecipeCLI
from .lines import plain
from .preparation import prepare
from .record import shown_config
from .registry import Entry, entries, find, resolve_config
from .rules import CUSTOMARY, NECESSARY, Rule, Settings
from .targets import parse


def classes(settings: Settings) -> Iterator[str]:
    """The data and the model accept their arguments; neither reads or builds anything when it is made."""
    for part in ("data", "model"):
        try:
            instance_of(settings[part])
        except InputError as error:
            yield f"{part}: {error}"


RULES: tuple[Rule, ...] = (*NECESSARY, *CUSTOMARY, classes)


@cache
def parser() -> RecipeCLI:
    """Return a command whose parser serves for all recipes."""
    return RecipeCLI(parse("fit", ["--config", entries("recipe")[0].name]), build=False)


@cache
def resolved(name: str) -> dict[str, Any]:
    """Return all settings of a packaged recipe, as the config.yaml of a run without options holds them.

    They are parsed once and shared: not to be changed.

    Args:
        name: Its name.
    """
    parser().settings_of(parse("fit", ["--config", name]))
    return shown_config(parser().written())


def problems(configs: Sequence[Path], trusted: Sequence[str] = ()) -> list[str]:
    """Parse a recipe with what is laid over it and return everything that is wrong.

    Args:
        configs: The recipe's file, then those of fragments.
        trusted: Classes and modules that they may name beside those that every recipe may.
    """
    words = [part for path in configs for part in ("--config", str(path))]
    words += ["--trust-classes", ",".join(trusted)] if trusted else []
    try:
        settings = parser().settings_of(parse("fit", words))
    except InputError as error:
        return [str(error)]
    return [problem for rule in RULES for problem in rule(settings)]


def check_recipe(
    name: str, path: Path, fragments: Sequence[Entry], trusted: Sequence[str] = ()
) -> tuple[int, list[str]]:
    """Check one recipe alone and with each fragment that goes with it.

    Args:
        name: What to call it.
        path: Its file.
        fragments: All fragments.
        trusted: As in `problems`.

    Returns:
        How many combinations were checked, and what is wrong, each with the combination's name.
    """
    alone = problems([path], trusted)
    found = [f"{name}: {problem}" for problem in alone]
    fitting = [fragment for fragment in fragments if fragment.fits(name)]
    for fragment in fitting:
        new = [problem for problem in problems([path, fragment.path], trusted) if problem not in alone]
        found += [f"{name} with {fragment.name}: {problem}" for problem in new]
    return 1 + len(fitting), found


def data_of(path: Path, trusted: Sequence[str]) -> Any:
    """Return the data module of a recipe in which nothing is wrong.

    Args:
        path: Its file.
        trusted: As in `problems`.
    """
    words = ["--config", str(path), *(["--trust-classes", ",".join(trusted)] if trusted else [])]
    return instance_of(parser().settings_of(parse("fit", words))["data"])


def main(names: Sequence[str], trusted: Sequence[str] = ()) -> int:
    """Check recipes, print every problem, and return the exit code.

    Args:
        names: Names or files of recipes; all packaged recipes where there are none.
        trusted: As in `problems`.
    """
    prepare()
    if names:
        recipes = [(name, resolve_config(name)) for name in names]
        for name, path in recipes:
            if path != Path(name) and find(name).kind == "fragment":
                raise InputError(f"{name} is a fragment: it is checked with the recipes that it is laid over")
    else:
        recipes = [(entry.name, entry.path) for entry in entries("recipe")]
    fragments = entries("fragment")
    packaged = {entry.path for entry in entries("recipe")}
    width = max(len(name) for name, _ in recipes)
    total, wrong = 0, 0
    for name, path in recipes:
        count, found = check_recipe(name, path, fragments, trusted)
        seen = list(look(data_of(path, trusted), path in packaged)) if names and not found else []
        found += [line for line, is_wrong in seen if is_wrong]
        total, wrong = total + count, wrong + len(found)
        fine = f"fine, alone and with {count - 1} fragments"
        print(plain(f"{name:{width}}  {fine if not found else f'{len(found)} problems'}"), flush=True)
        for line in (*found, *(line for line, is_wrong in seen if not is_wrong)):
            print(plain(f"  {line}"), flush=True)
    print(f"{len(recipes)} recipes, {total} combinations, {wrong} problems")
    if not names:
        print("their data were not looked at; name a recipe for that")
    return 2 if wrong else 0
