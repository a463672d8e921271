"""Markdown of names and texts that a folder gave: whoever renders it sees them as they are, and nothing else."""

import re
from collections.abc import Sequence

from .lines import one_line

# What begins emphasis, code, a link, a cell or a formula. An underscore within a word begins nothing.
_BEGINS = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
# What sites such as GitHub make links of wherever it stands but in code.
_LEADS_AWAY = re.compile(r"://|www\.|@", re.IGNORECASE)
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;"})


def plain(text: object) -> str:
    """Return what is read as a text, in one line; in the letters of code where it would become a link or a mention.

    Args:
        text: Anything that has a text.
    """
    if _LEADS_AWAY.search(str(text)):
        return code(text)
    return _BEGINS.sub(r"\\\g<0>", one_line(str(text))).translate(_ENTITIES)


def code(text: object) -> str:
    """Return what is read as a text in the letters of code.

    Args:
        text: Anything that has a text.
    """
    line = one_line(str(text))
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line}{fence}"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose first column names the row.

    Args:
        titles: Names of the columns.
        rows: The cells.
    """
    lines = [titles, *rows]
    written = ["| " + " | ".join(map(_cell, cells)) + " |" for cells in lines]
    return [written[0], "| --- |" + " ---: |" * (len(titles) - 1), *written[1:]]


def _cell(text: str) -> str:
    # A bar ends a cell even within code.
    written = plain(text)
    return written.replace("|", "\\|") if written.startswith("`") else written
