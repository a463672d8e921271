"""What transformers calls an encoding: one row's tokens with their characters, words and sequences.

transformers reads offsets and word ids from `BatchEncoding.encodings`, which its own tokenizers fill with objects of
the Rust library `tokenizers`. `Encoding` has the same attributes and methods; `Encodings` makes them when asked.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from .segmentation import NO_WORD, Span
from .truncation import RowWindows


@dataclass(slots=True)
class Encoding:
    """One row of the output. All lists have one entry a token.

    Attributes:
        ids: Token ids, with special tokens and padding.
        tokens: The tokens of `ids`.
        offsets: Begin and end of each token in its text (in its word, where words were given); (0, 0) for special
            tokens and padding.
        word_ids: Index of the word of each token; None for special tokens and padding.
        sequence_ids: 0 for the first text, 1 for the second; None for special tokens and padding.
        type_ids: Token types.
        attention_mask: 0 for padding.
        special_tokens_mask: 1 for special tokens that the row's format added, and padding.
        n_sequences: 1, or 2 for a pair.
        overflowing: Always empty: windows that overflow are rows of their own.
    """

    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    word_ids: list[int | None]
    sequence_ids: list[int | None]
    type_ids: list[int]
    attention_mask: list[int]
    special_tokens_mask: list[int]
    n_sequences: int
    overflowing: list["Encoding"] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def words(self) -> list[int | None]:
        """The word ids, under the name that older callers use."""
        return self.word_ids

    def token_to_sequence(self, token_index: int) -> int | None:
        """Return which text a token is from."""
        return self.sequence_ids[token_index] if token_index < len(self) else None

    def token_to_word(self, token_index: int) -> int | None:
        """Return the word of a token."""
        return self.word_ids[token_index] if token_index < len(self) else None

    def token_to_chars(self, token_index: int) -> tuple[int, int] | None:
        """Return the characters of a token; None for special tokens and padding."""
        return self.offsets[token_index] if self.token_to_sequence(token_index) is not None else None

    def word_to_tokens(self, word_index: int, sequence_index: int = 0) -> tuple[int, int] | None:
        """Return the first token of a word and the one behind its last; None where the word has no token."""
        where = [
            index
            for index in range(len(self))
            if self.word_ids[index] == word_index and self.sequence_ids[index] == sequence_index
        ]
        return (where[0], where[-1] + 1) if where else None

    def word_to_chars(self, word_index: int, sequence_index: int = 0) -> tuple[int, int] | None:
        """Return the characters of a word; None where the word has no token."""
        tokens = self.word_to_tokens(word_index, sequence_index)
        return (self.offsets[tokens[0]][0], self.offsets[tokens[1] - 1][1]) if tokens else None

    def char_to_token(self, char_pos: int, sequence_index: int = 0) -> int | None:
        """Return the first token that covers a character; None where none does."""
        for index, (begin, end) in enumerate(self.offsets):
            if begin <= char_pos < end and self.sequence_ids[index] == sequence_index:
                return index
        return None

    def char_to_word(self, char_pos: int, sequence_index: int = 0) -> int | None:
        """Return the word that a character is in; None where no token covers it."""
        token = self.char_to_token(char_pos, sequence_index)
        return None if token is None else self.word_ids[token]


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows are put together: `[CLS] A [SEP]`, or `[CLS] A [SEP] [SEP] B [SEP]`.

    Attributes:
        cls: Id that opens a row.
        sep: Id that closes a text.
        separators: How many of `sep` stand between two texts.
        special: False to leave all of them out.
    """

    cls: int
    sep: int
    separators: int
    special: bool

    def count(self, pair: bool) -> int:
        """Return the number of special tokens of a row."""
        return (2 + pair * self.separators) * self.special

    def ids(self, first: list[int], second: list[int] | None) -> list[int]:
        """Return a row's ids."""
        return self.join([self.cls], [self.sep], first, second)

    def join(self, opening: list[Any], closing: list[Any], first: list[Any], second: list[Any] | None) -> list[Any]:
        """Put anything that is kept per token in the row's order.

        Args:
            opening: What stands for the opening token, as a list of one.
            closing: What stands for a separator, as a list of one.
            first: One entry a token of the first text.
            second: The same for the second text, if any.
        """
        if not self.special:
            return first + (second or [])
        if second is None:
            return opening + first + closing
        return opening + first + closing * self.separators + second + closing

    def type_ids(self, first: int, second: int | None) -> list[int]:
        """Return token types for texts of these lengths: the first separator of a pair is of type 1 already."""
        if second is None:
            return [0] * (first + self.count(pair=False))
        head = first + self.special
        return [0] * head + [1] * (first + second + self.count(pair=True) - head)


@dataclass(frozen=True, slots=True)
class Padding:
    """Padding of a batch to one width; a width of 0 leaves rows as they are."""

    width: int
    left: bool

    def apply(self, row: list[Any], value: Any) -> list[Any]:
        """Return `row`, filled with `value` up to the width."""
        missing = self.width - len(row)
        if missing <= 0:
            return row
        return [value] * missing + row if self.left else row + [value] * missing


@dataclass(slots=True)
class Encodings(Sequence[Encoding]):
    """The encodings of a batch, each made when it is first asked for.

    Attributes:
        size: Number of rows.
        spans: Gives the spans of a sample's texts.
        tokens: Gives the tokens of ids.
        layout: How rows are put together.
        padding: How rows are padded.
        pad: Id and type of the padding.
        samples: The sample of each row, where that is not the row's own number.
        windows: What is kept of the texts, by row; rows that are not in it were not cut.
    """

    size: int
    spans: Callable[[int], tuple[list[Span], list[Span] | None]]
    tokens: Callable[[list[int]], list[str]]
    layout: Layout
    padding: Padding
    pad: tuple[int, int]
    samples: Sequence[int] | None
    windows: Mapping[int, RowWindows]
    _made: dict[int, Encoding] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.size

    def __reduce__(self) -> Any:
        # What travels between processes is the encodings, not the tokenizer that could make them.
        return list, (list(self),)

    @overload
    def __getitem__(self, index: int) -> Encoding: ...

    @overload
    def __getitem__(self, index: slice) -> list[Encoding]: ...

    def __getitem__(self, index: int | slice) -> Encoding | list[Encoding]:
        if isinstance(index, slice):
            return [self[number] for number in range(self.size)[index]]
        number = range(self.size)[index]
        if number not in self._made:
            self._made[number] = self._make(number)
        return self._made[number]

    def __iter__(self) -> Iterator[Encoding]:
        return (self[number] for number in range(self.size))

    def _make(self, row: int) -> Encoding:
        first, second = self.spans(row if self.samples is None else self.samples[row])
        if row in self.windows:
            (begin, end), other = self.windows[row]
            first = first[begin:end]
            second = second[slice(*other)] if second is not None and other is not None else second

        def place(of: Callable[[Span, int], Any], special: Any, padding: Any) -> list[Any]:
            texts = [
                None if spans is None else [of(span, n) for span in spans] for n, spans in enumerate([first, second])
            ]
            joined = self.layout.join([special], [special], texts[0] or [], texts[1])
            return self.padding.apply(joined, padding)

        plain = self.layout.ids([span.id for span in first], None if second is None else [span.id for span in second])
        ids = self.padding.apply(plain, self.pad[0])
        types = self.layout.type_ids(len(first), None if second is None else len(second))
        return Encoding(
            ids=ids,
            tokens=self.tokens(ids),
            offsets=place(lambda span, _: (span.begin, span.end), (0, 0), (0, 0)),
            word_ids=place(lambda span, _: None if span.word == NO_WORD else span.word, None, None),
            sequence_ids=place(lambda _, number: number, None, None),
            type_ids=self.padding.apply(types, self.pad[1]),
            attention_mask=self.padding.apply([1] * len(plain), 0),
            special_tokens_mask=place(lambda *_: 0, 1, 1),
            n_sequences=1 if second is None else 2,
        )
