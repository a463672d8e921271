"""Names of labels, which anybody may have given: they become settings, weights, and words in tables and terminals."""

import re
from collections.abc import Callable

from .errors import InputError

_LONGEST = 200
# What controls terminals, ends lines, or turns the direction of what follows.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def is_label(text: str) -> bool:
    """Tells whether a text can be seen as it is, and is not too long for a name."""
    return len(text) <= _LONGEST and not _UNSEEN.search(text)


def check_label(text: str, place: Callable[[], str]) -> None:
    """Refuses what is no label.

    Args:
        text: What stands for a label.
        place: Says where it stands.

    Raises:
        InputError: It is very long, or has characters that cannot be seen.
    """
    if not is_label(text):
        raise InputError(
            f"{place()}: {text[:40]!r} is no label: labels have at most {_LONGEST} characters that can be seen. Is it"
            " the right column?"
        )
