"""Texts of a stranger's as a terminal and a spreadsheet should see them: nothing here needs torch."""

import re

# A sign that begins a formula, in what may be a cell: not every program separates cells as the file does.
_FORMULA = re.compile(
    r"(?:^|(?<=[;|\t\r\n]))(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20].)(?!\s*[+-]?\d+(?:\.\d+)?\s*(?:$|[;|\t\r\n]))",
    re.DOTALL,
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")


def one_line(text: str) -> str:
    """Return a text with a blank for what ends a line or controls a terminal."""
    return _CONTROLS.sub(" ", text)


def plain(text: str) -> str:
    """Return a text of several lines with a blank for what controls a terminal."""
    return "\n".join(map(one_line, text.split("\n")))


def as_cell(text: str) -> str:
    """Return a text that spreadsheet programs take for no formula, whole or in parts (OWASP, CSV injection)."""
    return _FORMULA.sub("'", text)
