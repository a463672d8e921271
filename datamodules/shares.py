"""Divides the rows of one file into training, validation and test data, and draws some of them."""

from collections.abc import Hashable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ernie_m.errors import InputError

from .splits import Split


def checked_shares(validation_share: float, test_share: float) -> dict[Split, float]:
    """The shares that are not 0, test first.

    Raises:
        InputError: They leave no training data, or are none.
    """
    if min(validation_share, test_share) < 0 or not validation_share + test_share < 1:
        raise InputError(
            f"validation_share is {validation_share} and test_share {test_share}; they are shares of the training file,"
            " from 0, and below 1 together."
        )
    shares = {Split.TEST: test_share, Split.VALIDATION: validation_share}
    return {split: share for split, share in shares.items() if share}


def numbered(values: Iterable[Hashable]) -> NDArray[np.int64]:
    """Numbers values from 0 in the order in which they come, equal ones alike.

    Args:
        values: The values.

    Returns:
        A number for each, int64 (values,).
    """
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)


def divided(
    labels: NDArray[np.int64], groups: NDArray[np.int64] | None, shares: Mapping[Split, float], seed: int
) -> dict[Split, NDArray[np.int64]]:
    """Divides rows so that every part has its share of every label, and no group stands in two.

    The groups of a label (that of most of a group's rows) are shuffled and laid end to end; a group belongs to the part
    that its middle falls into. So a label with few rows stays in the training data.

    Args:
        labels: The label of each row.
        groups: A number for each row, the same for rows that belong together; None where each is by itself.
        shares: Split to share, of what is not training data.
        seed: Of the shuffling.

    Returns:
        Split to row numbers, ascending; the rest are training data.
    """
    number_of = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(number_of)
    label_of = labels
    if groups is not None:
        # The most frequent label of each group: the last of its pairs, sorted by count.
        pairs, counts = np.unique(np.stack([number_of, labels]), axis=1, return_counts=True)
        pairs = pairs[:, np.argsort(counts, kind="stable")]
        label_of = np.zeros(len(sizes), dtype=np.int64)
        # Of several values for one place numpy keeps the last.
        label_of[pairs[0]] = pairs[1]
    part_of = np.full(len(sizes), -1)
    generator = np.random.default_rng(seed)
    for label in np.unique(label_of):
        members = generator.permutation(np.flatnonzero(label_of == label))
        ends = np.cumsum(sizes[members])
        middles = ends - sizes[members] / 2
        reached = 0.0
        for part, share in enumerate(shares.values()):
            chosen = (middles > reached * ends[-1]) & (middles <= (reached + share) * ends[-1])
            part_of[members[chosen]] = part
            reached += share
    return {split: np.flatnonzero(part_of[number_of] == part) for part, split in enumerate(shares)}


def drawn(
    rows: int, kept: NDArray[np.int64] | None, examples: NDArray[np.integer] | None, most: int
) -> NDArray[np.int64] | None:
    """Draws some of the examples by chance, always the same ones.

    Args:
        rows: How many rows there are.
        kept: Those of them to draw from, ascending; None for all.
        examples: The number of the example that each row is a window of; None where every row is one.
        most: How many examples to draw at most.

    Returns:
        The rows of those examples, ascending; None for all rows.
    """
    chosen = np.arange(rows) if kept is None else kept
    numbers = chosen if examples is None else examples[chosen]
    distinct = np.unique(numbers)
    if len(distinct) <= most:
        return kept
    found = np.random.default_rng(0).choice(distinct, most, replace=False)
    return chosen[np.isin(numbers, found)]
