"""Texts of a folder in one line: nothing here needs torch."""

import re

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: str) -> str:
    """Return a text with a blank for what ends a line or controls a terminal."""
    return _CONTROLS.sub(" ", text)
