"""Cuts sentences of words into windows that fit a network, each word predicted in exactly one of them."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

# The share of a window that shows words of its neighbours: context, not predicted there.
_CONTEXT_SHARE = 8


@dataclass(frozen=True)
class WordWindow:
    """A part of a sentence, as positions of words.

    Attributes:
        begin: The first word that is shown.
        end: The one behind the last that is shown.
        first: The first word that is predicted.
        last: The one behind the last that is predicted.
    """

    begin: int
    end: int
    first: int
    last: int


def windows(counts: Sequence[int], room: int) -> Iterator[WordWindow]:
    """Cuts a sentence so that every word is predicted in exactly one window, with context on both sides.

    Args:
        counts: The tokens of each word, none more than `room`.
        room: The tokens of a window.

    Yields:
        The windows in order. An eighth of a window on either side shows words that a neighbour predicts, less where a
        word is so long that it leaves less room.
    """
    starts = [0, *accumulate(counts)]
    if starts[-1] <= room:
        yield WordWindow(0, len(counts), 0, len(counts))
        return
    context = room // _CONTEXT_SHARE
    first = 0
    while first < len(counts):
        # The earliest word that leaves the context, and the first predicted word, within their room.
        begin = bisect_left(starts, max(starts[first] - context, starts[first + 1] - room), hi=first)
        end = bisect_right(starts, starts[begin] + room) - 1
        last = len(counts) if end == len(counts) else max(first + 1, bisect_right(starts, starts[end] - context) - 1)
        yield WordWindow(begin, end, first, last)
        first = last
