"""Which tokens of a text or pair a row keeps, and the windows that overflow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import add

from transformers.tokenization_utils_base import TruncationStrategy

from .errors import InputError

TextWindow = tuple[int, int]
RowWindows = tuple[TextWindow, TextWindow | None]


@dataclass(frozen=True, slots=True)
class Truncation:
    """How rows are cut.

    Attributes:
        strategy: Which text gives way.
        max_length: Longest row with its special tokens; None for no limit.
        stride: Tokens that neighbouring windows share.
        overflow: Whether what does not fit makes rows of its own.
        left: Cut at the beginning of texts instead of at their end.
    """

    strategy: TruncationStrategy
    max_length: int | None
    stride: int
    overflow: bool
    left: bool

    def plan(
        self, first: Sequence[list[int]], second: Sequence[list[int] | None] | None, special: tuple[int, int]
    ) -> tuple[list[int] | None, dict[int, RowWindows]]:
        """Decide for a batch.

        Args:
            first: Ids of the first texts.
            second: Ids of the second texts, if any.
            special: Number of special tokens of a row with one text, and with two.

        Returns:
            The sample of each row, None where each sample is one row; and by row, what is kept of its texts, for rows
            that were cut.

        Raises:
            InputError: The strategy cannot make a row short enough.
        """
        limit = self.max_length
        if limit is None or self.strategy == TruncationStrategy.DO_NOT_TRUNCATE:
            return (list(range(len(first))) if self.overflow else None), {}
        if not self.overflow and max(_lengths(first, second), default=0) + special[second is not None] <= limit:
            return None, {}
        samples: list[int] = []
        windows: dict[int, RowWindows] = {}
        for index, ids in enumerate(first):
            other = None if second is None else second[index]
            extra = special[other is not None]
            excess = len(ids) + (0 if other is None else len(other)) + extra - limit
            if excess > 0:
                if limit < extra:
                    raise InputError(f"max_length={limit} has no room for the {extra} special tokens of a row.")
                found = self._windows(len(ids), None if other is None else len(other), excess)
                if self.overflow:
                    windows.update(enumerate(found, start=len(samples)))
                    samples += [index] * (len(found) - 1)
                else:
                    windows[index] = found[0]
            if self.overflow:
                samples.append(index)
        return (samples if self.overflow else None), windows

    def _windows(self, first: int, second: int | None, excess: int) -> list[RowWindows]:
        kept, other = kept_lengths(first, second, excess, self.strategy)
        if not self.overflow:
            return [(self._end(first, kept), None if second is None or other is None else self._end(second, other))]
        firsts = slide(first, kept, self.stride, self.left)
        if second is None or other is None:
            return [(window, None) for window in firsts]
        # The order of the library `tokenizers`: what is not overflow first, then the first text's, then the second's.
        main, *others = firsts
        seconds = slide(second, other, self.stride, self.left)
        overflow = [(window, behind) for window in others for behind in seconds]
        return [(main, seconds[0]), *overflow, *((main, behind) for behind in seconds[1:])]

    def _end(self, length: int, kept: int) -> TextWindow:
        return (length - kept, length) if self.left else (0, kept)


def _lengths(first: Sequence[list[int]], second: Sequence[list[int] | None] | None) -> Iterable[int]:
    lengths = map(len, first)
    return lengths if second is None else map(add, lengths, map(len, [ids or () for ids in second]))


def kept_lengths(first: int, second: int | None, excess: int, strategy: TruncationStrategy) -> tuple[int, int | None]:
    """Return how many tokens of each text stay when `excess` have to go.

    `longest_first` takes from the longer text until both are equal, then from both in turn, the second first; this is
    the rule of transformers' Python tokenizers, closed form.

    Raises:
        InputError: The strategy cannot remove as many.
    """
    if strategy == TruncationStrategy.ONLY_SECOND and second is None:
        raise InputError("truncation='only_second' needs a second text. Give pairs, or use truncation='only_first'.")
    if strategy == TruncationStrategy.LONGEST_FIRST and second is not None:
        level = min(abs(first - second), excess)
        rest = excess - level
        from_first = (level if first > second else 0) + rest // 2
        return first - from_first, second - (excess - from_first)
    is_second = strategy == TruncationStrategy.ONLY_SECOND
    length = (second or 0) if is_second else first
    may_empty = strategy == TruncationStrategy.LONGEST_FIRST
    if length < excess + (not may_empty):
        name = "second" if is_second else "first"
        # transformers' zero-shot pipeline looks for the words "too short".
        raise InputError(
            f"Truncation error: the {name} text is too short: {excess} tokens have to go and it has {length}. Use "
            "truncation='longest_first' or a larger max_length."
        )
    return (first, length - excess) if is_second else (length - excess, second)


def slide(length: int, width: int, stride: int, left: bool) -> list[TextWindow]:
    """Return the windows of `width` tokens that cover a text of `length`, neighbours sharing `stride` tokens.

    Args:
        length: Tokens of the text.
        width: Tokens of a window.
        stride: Tokens that neighbours share.
        left: Start at the end of the text, as truncation on the left side does.

    Raises:
        InputError: The stride leaves nothing new in a window.
    """
    if length <= width:
        return [(0, length)]
    if not 0 <= stride < width:
        raise InputError(f"stride={stride} has to be from 0 to {width - 1}: a window has room for {width} tokens.")
    step = width - stride
    begins = range(0, length - width + step, step)
    if left:
        return [(max(0, length - width - begin), length - begin) for begin in begins]
    return [(begin, min(begin + width, length)) for begin in begins]
