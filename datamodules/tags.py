"""What the tags of words mean: parts of spans in the usual schemes, which all become IOB2, or one label for each word.

Tags of spans are O, and a letter and a hyphen before a type: B and I (IOB1, IOB2), with E and S (BIOES) or L and U
(BILOU). Tags of which none looks like that label each word by itself, as parts of speech do. A word is not labelled,
so neither trained nor scored, where its tag is `_`, as CoNLL-U writes it, or -100, as transformers does.
"""

import re
from collections.abc import Callable, Iterable, Sequence

from ernie_m.errors import InputError

WordPlace = Callable[[int], str]
"""Says where the n-th word of a sentence stands."""

NOT_LABELLED = "_"
"""The tag of a word that has none."""

SPELLED_NOT_LABELLED = (NOT_LABELLED, "-100")
"""How files write it."""

_OF_SPAN = re.compile(r"[BIESLU]-.+")
# The letters of a span's only word, and of its last.
_BEGIN, _END = "BSU", "ESLU"
_SCHEMES = "O, or B-, I-, E-, S-, L- or U- before a type (IOB, BIOES and BILOU)"


def is_of_span(tag: str) -> bool:
    """Whether a tag has a letter before a type, as those of spans have."""
    return _OF_SPAN.fullmatch(tag) is not None


def are_spans(names: Iterable[str]) -> bool:
    """Whether labels are those of spans: one of them is a span's."""
    return any(map(is_of_span, names))


def to_iob2(tags: Sequence[str]) -> list[str]:
    """Tags of spans as IOB2, in which every span begins with B- and goes on with I-.

    A tag that continues no span of its type begins one: what IOB1 means by it, and what the conlleval script makes of
    it in the other schemes. Words that are not labelled do not end a span.

    Args:
        tags: "O", `NOT_LABELLED`, or a letter of any scheme with a type.
    """
    converted = []
    # The type of the span that a next tag may continue.
    current: str | None = None
    for tag in tags:
        if tag == NOT_LABELLED:
            converted.append(tag)
        elif tag == "O":
            converted.append(tag)
            current = None
        else:
            letter, kind = tag[0], tag[2:]
            begins = letter in _BEGIN or kind != current
            converted.append(f"{'B' if begins else 'I'}-{kind}")
            current = None if letter in _END else kind
    return converted


def check_tags(tags: Sequence[str], place: WordPlace) -> None:
    """Refuses what is no tag of spans.

    Args:
        tags: The tags of a sentence.
        place: Says where each stands.
    """
    for position, tag in enumerate(tags):
        if tag not in ("O", NOT_LABELLED) and not is_of_span(tag):
            raise InputError(f"{place(position)}: {tag!r} is no tag; tags are {_SCHEMES}.")


def check_one_kind(places: dict[str, str], counts: dict[str, int]) -> None:
    """Refuses tags of which some are those of spans and others label a word by itself.

    Args:
        places: Where each tag first stands.
        counts: How often each does.
    """
    spans = {tag for tag in places if is_of_span(tag)}
    others = places.keys() - spans - {"O"}
    if spans and others:
        fewer = min(spans, others, key=lambda tags: sum(counts[tag] for tag in tags))
        odd, usual = (
            next(tag for tag in places if tag in tags) for tags in (fewer, others if fewer is spans else spans)
        )
        raise InputError(
            f"{places[odd]}: {odd!r} is no tag of the kind that {usual!r} is ({places[usual]}). Tags of spans are"
            f" {_SCHEMES}; labels of single words have none of these before a hyphen."
        )


def labels_of_tags(names: Sequence[str]) -> list[str]:
    """The labels that a network tells apart, of the names of tags.

    Args:
        names: Names in the order of their numbers, of one kind.

    Returns:
        Names of single words as they are; those of spans as they are where they are IOB2's, else O, and B- and I- with
        every type.

    Raises:
        InputError: They are of both kinds, or one of them is missing.
    """
    found = [name for name in names if name not in SPELLED_NOT_LABELLED]
    if len(set(found)) < len(found) or not set(found) - {"O", ""} or "" in found:
        raise InputError(f"label_names is {list(names)}; it must hold every label once, such as [O, B-PER, I-PER].")
    if not are_spans(found):
        return found
    spans = [name for name in found if is_of_span(name)]
    kinds = list(dict.fromkeys(name[2:] for name in spans))
    labels = ["O", *(f"{letter}-{kind}" for kind in kinds for letter in "BI")]
    has_letters_of_others = any(name[0] not in "BI" for name in spans)
    if set(found) - {*spans, "O"} or "O" not in found or not (has_letters_of_others or set(found) == set(labels)):
        raise InputError(
            f"label_names is {list(names)}; it must hold O once, and B- and I- with every type, as in [O, B-PER,"
            " I-PER], or the tags of BIOES or BILOU; labels of single words have no such letters."
        )
    return labels if has_letters_of_others else found
