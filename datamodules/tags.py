"""Tags of words: "O", and "B-" or "I-" with a type (IOB1 and IOB2)."""

import re
from collections.abc import Callable, Sequence

from ernie_m.errors import InputError

WordPlace = Callable[[int], str]
"""Says where the n-th word of a sentence stands."""

_TAG = re.compile(r"O|[BI]-.+")


def to_iob2(tags: Sequence[str]) -> list[str]:
    """IOB1 or IOB2 tags as IOB2, in which every entity begins with B-.

    An I- that follows another type or none begins an entity: what IOB1 means by it, and what the conlleval script makes
    of it in IOB2.

    Args:
        tags: "O", and "B-" or "I-" with a type.
    """
    converted = []
    before = "O"
    for tag in tags:
        continues = tag.startswith("I-") and before[2:] == tag[2:]
        converted.append(tag if tag == "O" or continues else f"B-{tag[2:]}")
        before = tag
    return converted


def check_tags(tags: Sequence[str], place: WordPlace) -> None:
    """Refuses what is no tag.

    Args:
        tags: The tags of a sentence.
        place: Says where each stands.
    """
    for position, tag in enumerate(tags):
        if not _TAG.fullmatch(tag):
            raise InputError(
                f"{place(position)}: {tag!r} is no tag; tags are O, or B- or I- before a type (IOB1 and IOB2)."
            )


def checked_labels(names: Sequence[str]) -> list[str]:
    """The labels, where they are those of IOB2.

    Raises:
        InputError: They are not.
    """
    kinds = {name[2:] for name in names if name != "O"}
    expected = {"O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")}
    if not kinds or set(names) != expected or len(names) != len(expected):
        raise InputError(
            f"label_names is {list(names)}; it must hold O once, and B- and I- with every type, as in"
            " [O, B-PER, I-PER]."
        )
    return list(names)
