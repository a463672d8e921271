"""From what a caller passes to samples, and from samples to the rows that he gets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from transformers.utils.generic import PaddingStrategy

from .encoding import Encodings, Layout
from .errors import InputError
from .segmentation import check_text
from .truncation import RowWindows


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one call.

    Attributes:
        first: The first texts: strings, lists of words, or lists of ids.
        second: The second texts, None for a sample without; None altogether where no sample has one.
        batched: Whether the caller gave several.
    """

    first: list[Any]
    second: list[Any] | None
    batched: bool


def is_ids(item: Any) -> bool:
    """Whether a text is given as ids."""
    return isinstance(item, list | tuple) and len(item) > 0 and isinstance(item[0], Integral)


def arrange(text: Any, pair: Any, words: bool) -> Samples:
    """Sort out what `__call__` accepts: one text or many, alone or in pairs, as strings, words or ids.

    Args:
        text: A text or several; a batch may hold pairs.
        pair: The second text or texts.
        words: Whether each text is a list of words.

    Raises:
        InputError: Neither, or the two differ in number.
    """
    text, pair = _as_list(text), _as_list(pair)
    if isinstance(text, str) or is_ids(text) or (words and not _holds_lists(text)):
        if words and isinstance(text, str):
            raise InputError(f"is_split_into_words=True needs a list of words; got the string {text!r:.80}.")
        if pair is not None and not words and not isinstance(pair, str) and not is_ids(pair):
            raise InputError(f"One text with several second texts ({len(pair)}). Give as many first texts.")
        return Samples([text], None if pair is None else [pair], batched=False)
    if not isinstance(text, list):
        raise InputError(
            f"A text is a string, a list of words or a list of ids; got {type(text).__name__}: {text!r:.80}."
        )
    if pair is not None:
        if not isinstance(pair, list) or len(pair) != len(text):
            given = f"{len(pair)}" if isinstance(pair, list) else f"one {type(pair).__name__}"
            raise InputError(f"{len(text)} first texts but {given} for the second. Give two lists of the same length.")
        _refuse_none(text, "first text")
        _refuse_none(pair, "second text")
        return Samples(list(text), list(pair), batched=True)
    if set(map(type, text)) <= {str}:
        return Samples(list(text), None, batched=True)
    _refuse_none(text, "text")
    sides = [_sides(item, number, words) for number, item in enumerate(text)]
    seconds = [second for _, second in sides]
    return Samples(
        [first for first, _ in sides], seconds if any(s is not None for s in seconds) else None, batched=True
    )


def _refuse_none(texts: list[Any], role: str) -> None:
    if None in texts:
        check_text(None, f"{role} {texts.index(None)} of {len(texts)}")


def _as_list(value: Any) -> Any:
    if value is None or isinstance(value, str | list):
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(value) if isinstance(value, Sequence) and not isinstance(value, bytes) else value


def _holds_lists(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], list | tuple)


def _sides(item: Any, number: int, words: bool) -> tuple[Any, Any]:
    """Return the two texts of a batch's item; of words, only a tuple is a pair."""
    if isinstance(item, str) or is_ids(item) or (words and not isinstance(item, tuple)):
        return item, None
    if isinstance(item, list | tuple) and len(item) == 2 and (not words or _holds_lists(list(item))):
        return item[0], item[1]
    if isinstance(item, list | tuple) and len(item) == 1:
        return item[0], None
    if words and isinstance(item, tuple):
        return list(item), None
    if isinstance(item, list | tuple):
        raise InputError(
            f"Item {number} of the batch is a list of {len(item)}: {item!r:.80}. A text is a string, a pair has two; "
            "for lists of words set is_split_into_words=True."
        )
    return item, None


@dataclass(frozen=True, slots=True)
class TokenRows:
    """The rows of a batch before padding.

    Attributes:
        first: Ids of the first texts.
        second: Ids of the second texts.
        samples: The sample of each row, None where each sample is one row.
        windows: What is kept of the texts, by row, for rows that were cut.
        layout: How rows are put together.
    """

    first: list[list[int]]
    second: list[list[int] | None] | None
    samples: list[int] | None
    windows: Mapping[int, RowWindows]
    layout: Layout

    def ids(self) -> list[list[int]]:
        """Return the ids of each row."""
        if self.samples is None and not self.windows and self.layout.special:
            plain = self._plain_ids()
            if plain is not None:
                return plain
        return [self.layout.ids(first, second) for first, second in self._texts()]

    def _plain_ids(self) -> list[list[int]] | None:
        """The same for the common case: one list display a row, without a call."""
        cls, sep = self.layout.cls, self.layout.sep
        if self.second is None:
            return [[cls, *first, sep] for first in self.first]
        if self.layout.separators == 2 and None not in self.second:
            pairs = zip(self.first, self.second, strict=True)
            return [[cls, *first, sep, sep, *second, sep] for first, second in pairs]  # type: ignore[misc]
        return None

    def type_ids(self) -> list[list[int]]:
        """Return the token types of each row."""
        return [self.layout.type_ids(len(a), None if b is None else len(b)) for a, b in self._texts()]

    def special_masks(self) -> list[list[int]]:
        """Return 1 for the special tokens of each row's format, 0 for others."""
        return [self.layout.join([1], [1], [0] * len(a), None if b is None else [0] * len(b)) for a, b in self._texts()]

    def _texts(self) -> Iterable[tuple[list[int], list[int] | None]]:
        count = len(self.first) if self.samples is None else len(self.samples)
        for row in range(count):
            sample = row if self.samples is None else self.samples[row]
            first, second = self.first[sample], None if self.second is None else self.second[sample]
            if row in self.windows:
                (begin, end), other = self.windows[row]
                first = first[begin:end]
                second = second[slice(*other)] if second is not None and other is not None else second
            yield first, second


@dataclass(frozen=True, slots=True)
class Returns:
    """Which outputs a caller wants."""

    token_type_ids: bool
    attention_mask: bool
    special_tokens_mask: bool
    offsets_mapping: bool
    length: bool

    @classmethod
    def take(cls, arguments: dict[str, Any], defaults: Sequence[str]) -> "Returns":
        """Take the arguments `return_...` out of a call's; `defaults` are the outputs where nothing is said."""

        def wanted(name: str) -> bool:
            value = arguments.pop(f"return_{name}", None)
            return name in defaults if value is None else bool(value)

        names = ("token_type_ids", "attention_mask", "special_tokens_mask", "offsets_mapping", "length")
        return cls(*map(wanted, names))

    def collect(self, input_ids: list[list[int]], rows: TokenRows, encodings: Encodings) -> dict[str, Any]:
        """Return the outputs, padded.

        Args:
            input_ids: The ids of each row, before padding.
            rows: The rows that they are from.
            encodings: Gives offsets, samples and the padding.
        """
        pad, fill = encodings.pad, encodings.padding.apply
        padded = [fill(ids, pad[0]) for ids in input_ids] if encodings.padding.width else input_ids
        data: dict[str, Any] = {"input_ids": padded}
        if self.token_type_ids:
            data["token_type_ids"] = [fill(types, pad[1]) for types in rows.type_ids()]
        if self.attention_mask:
            data["attention_mask"] = [fill([1] * len(ids), 0) for ids in input_ids]
        if self.special_tokens_mask:
            data["special_tokens_mask"] = [fill(mask, 1) for mask in rows.special_masks()]
        if self.offsets_mapping:
            data["offset_mapping"] = [encoding.offsets for encoding in encodings]
        if self.length:
            data["length"] = [len(ids) for ids in data["input_ids"]]
        if rows.samples is not None:
            data["overflow_to_sample_mapping"] = rows.samples
        return data


def padded_width(strategy: PaddingStrategy, longest: int, limit: int | None, multiple: int | None) -> int:
    """Return the width that rows are padded to; 0 where they are not.

    Args:
        strategy: Pad to the longest row, to `limit`, or not.
        longest: Tokens of the longest row.
        limit: The caller's `max_length`.
        multiple: Round the width up to a multiple of this.
    """
    if strategy == PaddingStrategy.DO_NOT_PAD:
        return 0
    width = longest if strategy == PaddingStrategy.LONGEST or limit is None else limit
    return -(-width // multiple) * multiple if multiple else width
