"""Cuts questions with their contexts into windows that fit a network, and keeps where each token stands in the text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ernie_m.errors import InputError

from .tokens import prefix_ids

NO_TEXT = -1
"""The place of a token that stands for no character of the context: special tokens, the question, white space."""


@dataclass(frozen=True)
class ContextWindow:
    """A question with a part of its context, as a network reads it.

    Attributes:
        question: The question's number.
        input_ids: The tokens.
        token_type_ids: Their types.
        begins: The first character of the context that each token stands for, else `NO_TEXT`.
        ends: The character behind its last, else `NO_TEXT`.
        start: In training, the token that the answer starts with; 0 where the window does not hold the whole answer.
        end: The token that it ends with, alike.
        spans: Of each span of the context that starts or ends in the window, the tokens that it starts and ends with;
            `NO_TEXT` for one in another window.
    """

    question: int
    input_ids: list[int]
    token_type_ids: list[int]
    begins: list[int]
    ends: list[int]
    start: int = 0
    end: int = 0
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class _Layout:
    """What stands around and between the two texts of a pair, the prefix of each too: ids and types."""

    ids: tuple[list[int], list[int], list[int]]
    types: tuple[list[int], list[int], list[int]]

    @property
    def special(self) -> int:
        return sum(map(len, self.ids))

    def join(self, question: list[int], context: list[int]) -> tuple[list[int], list[int]]:
        """The ids and types of a pair."""
        opening, between, closing = self.ids
        first, middle, last = self.types
        types = [*first, *[0] * len(question), *middle, *[self._type_of_context] * len(context), *last]
        return [*opening, *question, *between, *context, *closing], types

    @property
    def _type_of_context(self) -> int:
        return self.types[2][-1]


class Windows:
    """Makes windows in the format that a tokenizer gives to pairs.

    Args:
        tokenizer: A tokenizer that knows offsets.
        max_length: Tokens of a window, special tokens included.
        max_query_length: Tokens after which a question is cut.
        doc_stride: Tokens of the context from the start of one window to the start of the next, as in BERT's and
            Baidu's code; transformers' `stride` is what neighbours share instead.
        prefix: What stands before the question and before the context.

    Raises:
        InputError: The tokenizer knows no offsets, or the lengths leave no room for a context.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        max_query_length: int,
        doc_stride: int,
        prefix: str = "",
    ) -> None:
        name = tokenizer.name_or_path
        if not tokenizer.is_fast:
            raise InputError(
                f"The tokenizer '{name}' ({type(tokenizer).__name__}) does not say which characters its tokens stand"
                " for, so answers cannot be cut from the text with it. Use another backbone."
            )
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.max_query_length = max_query_length
        self.doc_stride = doc_stride
        self._layout = _layout(tokenizer, prefix)
        room = max_length - max_query_length - self._layout.special
        if room < 1:
            raise InputError(
                f"max_length is {max_length}: a question of max_query_length {max_query_length} tokens and"
                f" {self._layout.special} around and between the texts leave no room for a context. Raise max_length,"
                " or lower max_query_length."
            )

    def cut(
        self,
        questions: Sequence[str],
        contexts: Sequence[str],
        answers: Sequence[tuple[int, int]] | None = None,
        spans: Sequence[Sequence[tuple[int, int]]] | None = None,
    ) -> Iterator[ContextWindow]:
        """Cuts pairs; every question gives one window at least, the first at the start of its context.

        Args:
            questions: The questions.
            contexts: The context of each.
            answers: In training, the first character of each answer and the one behind its last, `NO_TEXT` both where
                a question has none.
            spans: The same of any number of spans of each context.

        Yields:
            The windows, by question and place in the context.
        """
        asked = self.tokenizer(list(questions), add_special_tokens=False, verbose=False)["input_ids"]
        # Five questions share a context in SQuAD.
        known = {text: None for text in contexts}
        encoded = self.tokenizer(
            list(known),
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        places = {text: row for row, text in enumerate(known)}
        offsets = [_within_words(text, encoded["offset_mapping"][row]) for text, row in places.items()]
        for number, (question, text) in enumerate(zip(asked, contexts, strict=True)):
            row = places[text]
            ids, (begins, ends) = encoded["input_ids"][row], offsets[row]
            answer = None if answers is None else _tokens_of(begins, ends, *answers[number])
            found = [_tokens_of(begins, ends, *span) for span in (spans[number] if spans is not None else ())]
            tokens = [span for span in found if span is not None]
            yield from self._of_one(number, question[: self.max_query_length], ids, begins, ends, answer, tokens)

    def _of_one(
        self,
        number: int,
        question: list[int],
        context: list[int],
        begins: NDArray[np.int64],
        ends: NDArray[np.int64],
        answer: tuple[int, int] | None,
        spans: Sequence[tuple[int, int]],
    ) -> Iterator[ContextWindow]:
        layout = self._layout
        head = len(layout.ids[0]) + len(question) + len(layout.ids[1])
        tail = len(layout.ids[2])
        room = self.max_length - head - tail
        start = 0
        while True:
            stop = min(start + room, len(context))
            ids, types = layout.join(question, context[start:stop])
            around = ([NO_TEXT] * head, [NO_TEXT] * tail)
            held = answer is not None and start <= answer[0] and answer[1] < stop
            first, last = (answer[0] - start + head, answer[1] - start + head) if held and answer else (0, 0)
            placed = [
                tuple(token - start + head if start <= token < stop else NO_TEXT for token in span) for span in spans
            ]
            yield ContextWindow(
                number,
                ids,
                types,
                [*around[0], *begins[start:stop].tolist(), *around[1]],
                [*around[0], *ends[start:stop].tolist(), *around[1]],
                first,
                last,
                tuple((begin, end) for begin, end in placed if (begin, end) != (NO_TEXT, NO_TEXT)),
            )
            if stop == len(context):
                return
            start += min(self.doc_stride, room)


def _layout(tokenizer: PreTrainedTokenizerBase, prefix: str) -> _Layout:
    """Takes a pair apart that the tokenizer put together, and puts the prefix before each text."""
    encoded = tokenizer("a", "b", return_token_type_ids=True)
    texts = encoded.sequence_ids(0)
    ids, types = encoded["input_ids"], encoded["token_type_ids"]
    first = [place for place, text in enumerate(texts) if text == 0]
    second = [place for place, text in enumerate(texts) if text == 1]
    cuts = [(0, first[0]), (first[-1] + 1, second[0]), (second[-1] + 1, len(ids))]
    opening, between, closing = (ids[begin:end] for begin, end in cuts)
    first_types, between_types, last_types = (types[begin:end] for begin, end in cuts)
    before = prefix_ids(tokenizer, prefix)
    return _Layout(
        ([*opening, *before], [*between, *before], closing),
        (
            [*first_types, *[types[first[0]]] * len(before)],
            [*between_types, *[types[second[0]]] * len(before)],
            last_types,
        ),
    )


def _within_words(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The characters of every token without white space around them, which some tokenizers count to a token."""
    places: NDArray[Any] = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    begins, ends = places[:, 0].copy(), places[:, 1].copy()
    if not text:
        return begins, ends
    is_space = np.fromiter(map(str.isspace, text), dtype=bool, count=len(text))
    # The next character that is no white space at or behind every place, and the place behind the last one before it.
    solid = np.flatnonzero(~is_space)
    following = np.append(solid, len(text))[np.searchsorted(solid, begins)]
    preceding = np.append(-1, solid)[np.searchsorted(solid, ends)] + 1
    empty = following >= preceding
    return np.where(empty, NO_TEXT, following), np.where(empty, NO_TEXT, preceding)


def _tokens_of(begins: NDArray[np.int64], ends: NDArray[np.int64], begin: int, end: int) -> tuple[int, int] | None:
    """The first and the last token that stand for a character of the answer; None where no token does."""
    inside = np.flatnonzero((begins != NO_TEXT) & (begins < end) & (ends > begin))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None
