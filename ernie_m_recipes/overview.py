"""The table of all recipes, which `recipes/README.md` holds."""

import re

import yaml

from .card import figures_of
from .registry import Entry, entries
from .settings import CardRow
from .tables import MEAN

_HEAD = """\
# Recipes

Written by `ernie-m ls --markdown`, from the headers of the recipes. Published figures are Baidu's, in percent, the mean
over the languages; none of them has been reproduced here yet.

| recipe | what it does | reproduces | published | hardware |
| --- | --- | --- | ---: | --- |
"""


def facts(entry: Entry) -> dict[str, str]:
    """Return what a recipe's header says, by the word before the colon.

    Args:
        entry: A recipe.
    """
    found: dict[str, str] = {}
    key = ""
    for line in entry.header[1:]:
        if match := re.match(r"([A-Z][a-z]+): +(.*)", line):
            key, found[match[1]] = match[1], match[2]
        elif key:
            found[key] += f" {line}"
    return {name: text.strip() for name, text in found.items()}


def published(entry: Entry) -> str:
    """Return the card's mean for the row that a recipe names; nothing where there is none.

    Args:
        entry: A recipe.
    """
    figures = figures_of(CardRow(**yaml.safe_load(entry.text)["run"].get("card") or {}))
    return " / ".join(f"{value:.1f}" for value in figures[MEAN].values()) if figures else ""


def markdown() -> str:
    """Return the table, one line per recipe with the command that runs it."""
    lines = []
    for entry in entries("recipe"):
        header = facts(entry)
        cells = [f"`{entry.name}`", entry.description, header["Reproduces"], published(entry), header["Hardware"]]
        lines.append("| " + " | ".join(cells) + " |\n")
    commands = "".join(f"$ {facts(entry)['Run']}\n" for entry in entries("recipe"))
    return _HEAD + "".join(lines) + f"\n```console\n{commands}```\n"
