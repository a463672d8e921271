"""Texts of a stranger's as a terminal and a spreadsheet should see them: nothing here needs torch."""

import re

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: str) -> str:
    """Return a text with a blank for what ends a line or controls a terminal."""
    return _CONTROLS.sub(" ", text)


def plain(text: str) -> str:
    """Return a text of several lines with a blank for what controls a terminal."""
    return "\n".join(map(one_line, text.split("\n")))


def as_cell(text: str) -> str:
    """Return a text that spreadsheet programs take for no formula (OWASP, CSV injection)."""
    is_formula = len(text) > 1 and text.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text
