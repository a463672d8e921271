"""From text to ids: sentencepiece's pieces, cut again by one of the three rules that ERNIE-M code has used.

`hf` is the rule of transformers' former ErnieMTokenizer (the published PyTorch checkpoints were fine-tuned with it),
`paddle` PaddleNLP's, `raw` the plain pieces of Baidu's own fine-tuning code. `hf` and `paddle` cut every piece at CJK
characters, punctuation and the edges of numbers. What a piece becomes depends on the piece alone, but for the lone
"▁", so a table holds the ids of every piece and a batch is translated by array operations.
"""

import re
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sentencepiece

from .errors import InputError

SPACE = "▁"
NO_WORD = -1
RULES = ("hf", "paddle", "raw")
# Texts per call of sentencepiece: its result is still in the processor's cache when the table is applied to it.
CHUNK = 4096
# Below this many texts, array operations and threads cost more than they save.
FEW = 24
_SEPARATE = frozenset(",;:.?!~，；：。？！《》【】")

Cuts = tuple[tuple[int, int], ...]


class Span(NamedTuple):
    """One token with its place in the text."""

    id: int
    begin: int
    end: int
    word: int


@lru_cache(maxsize=65536)
def cut(piece: str) -> Cuts:
    """Cut one piece at CJK characters, punctuation and the edges of numbers.

    A "▁" before a cut is dropped: "▁9" becomes "9". This is `_tokenize` of transformers 4.57's ErnieMTokenizer, whose
    numbers are whatever `str.isdigit` accepts.

    Returns:
        Begin and end of each part.
    """
    parts: list[tuple[int, int]] = []
    last = 0

    def flush(until: int) -> None:
        if until > last and piece[last:until] != SPACE:
            parts.append((last, until))

    for index, character in enumerate(piece):
        if character == SPACE:
            continue
        if "\u4e00" <= character <= "\u9fff" or character in _SEPARATE:
            flush(index)
            parts.append((index, index + 1))
            last = index + 1
        elif index > 0 and character.isdigit() != piece[index - 1].isdigit():
            flush(index)
            last = index
    if last < len(piece):
        parts.append((last, len(piece)))
    return tuple(parts)


def _cutting_characters(pieces: Iterable[str]) -> re.Pattern[str]:
    """Return what finds a character at which `cut` may cut: most pieces hold none, and are whole."""
    characters = set().union(*pieces)
    cutting = [c for c in characters if "\u4e00" <= c <= "\u9fff" or c in _SEPARATE or c.isdigit()]
    return re.compile(f"[{re.escape(''.join(cutting))}]" if cutting else "(?!)")


class PieceTable:
    """What each sentencepiece piece becomes, as arrays.

    Args:
        model: The sentencepiece model.
        vocabulary: Token to id.
        unknown_id: Id of tokens that are not in the vocabulary.
        rule: One of `RULES`.
    """

    def __init__(
        self, model: sentencepiece.SentencePieceProcessor, vocabulary: dict[str, int], unknown_id: int, rule: str
    ) -> None:
        pieces: list[str] = model.IdToPiece(list(range(model.GetPieceSize())))
        is_cut = _cutting_characters(pieces).search
        identifiers: list[int] = []
        sizes: list[int] = []
        for piece in pieces:
            if rule == "raw" or piece == SPACE or not is_cut(piece):
                identifiers.append(vocabulary.get(piece, unknown_id))
                sizes.append(1)
            else:
                parts = cut(piece)
                identifiers.extend(vocabulary.get(piece[begin:end], unknown_id) for begin, end in parts)
                sizes.append(len(parts))
        self._ids = np.array(identifiers, dtype=np.int32)
        self._sizes = np.array(sizes, dtype=np.int64)
        self._begins = np.cumsum(self._sizes) - self._sizes
        self._opens_word = np.array([piece.startswith(SPACE) for piece in pieces])
        self._rule = rule
        self._unknown = model.unk_id()
        space = model.PieceToId(SPACE)
        self._space = -1 if space == self._unknown else space

    def translate(
        self, pieces: npt.NDArray[np.int32], counts: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Turn the piece ids of several texts into token ids.

        Args:
            pieces: Piece ids of all texts, one after the other.
            counts: Number of pieces of each text.

        Returns:
            Token ids of all texts, and where each text's end is among them.
        """
        sizes = self._sizes[pieces]
        ends = np.cumsum(counts)
        if self._rule != "raw":
            self._mark_lone_spaces(pieces, ends, sizes)
        token_ends = np.cumsum(sizes)
        total = int(token_ends[-1]) if len(token_ends) else 0
        sources = np.repeat(self._begins[pieces] - (token_ends - sizes), sizes)
        sources += np.arange(total)
        return self._ids[sources], np.concatenate([[0], token_ends])[ends]

    def _mark_lone_spaces(
        self, pieces: npt.NDArray[np.int32], ends: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
    ) -> None:
        lone = np.flatnonzero(pieces == self._space)
        sizes[lone] = 0
        if self._rule == "hf" and len(lone):
            is_first = np.zeros(len(pieces) + 1, dtype=bool)
            is_first[0] = True
            is_first[ends] = True
            following = pieces[np.minimum(lone + 1, len(pieces) - 1)]
            # `is_first[lone + 1]`: nothing of this text follows.
            sizes[lone] = ~is_first[lone] & ~is_first[lone + 1] & ~self._opens_word[following]

    def texts_with_unknown(self, pieces: npt.NDArray[np.int32], counts: npt.NDArray[np.int64]) -> list[int]:
        """Return which texts hold a piece that the model does not know: the table cannot cut those."""
        where = np.flatnonzero(pieces == self._unknown)
        texts: list[int] = np.unique(np.searchsorted(np.cumsum(counts), where, side="right")).tolist()
        return texts


class Segmenter:
    """Text to ids, tokens or spans by one rule.

    Args:
        model: The sentencepiece model.
        vocabulary: Token to id.
        unknown_id: Id of tokens that are not in the vocabulary.
        rule: One of `RULES`.
        place: The model's file, for messages.
    """

    def __init__(
        self,
        model: sentencepiece.SentencePieceProcessor,
        vocabulary: dict[str, int],
        unknown_id: int,
        rule: str,
        place: str,
    ) -> None:
        self.model = model
        self._place = place
        self._vocabulary = vocabulary
        self._unknown_id = unknown_id
        self._rule = rule
        self._lazy_table: PieceTable | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lazy_table": None}

    @property
    def _table(self) -> PieceTable:
        if self._lazy_table is None:
            self._lazy_table = PieceTable(self.model, self._vocabulary, self._unknown_id, self._rule)
        return self._lazy_table

    def ids(self, texts: list[str], threads: int) -> list[list[int]]:
        """Return the ids of each text, without special tokens.

        Raises:
            InputError: A text holds half of a surrogate pair, or the model makes of it what is no text.
        """
        if len(texts) < FEW:
            return [self._from_surface(self._encode(text, str)) for text in texts]
        rows: list[list[int]] = []
        for start in range(0, len(texts), CHUNK):
            rows += self._chunk(texts[start : start + CHUNK], threads)
        return rows

    def _chunk(self, texts: list[str], threads: int) -> list[list[int]]:
        nested = self._encode(texts, int, threads)
        counts = np.fromiter(map(len, nested), np.int64, len(nested))
        # Three quarters of the time of np.fromiter.
        packed = struct.pack(f"={counts.sum()}i", *chain.from_iterable(nested))
        pieces = np.frombuffer(packed, np.int32)
        ids, ends = self._table.translate(pieces, counts)
        values = ids.tolist()
        rows = [values[begin:end] for begin, end in pairwise([0, *ends.tolist()])]
        unknown = self._table.texts_with_unknown(pieces, counts)
        if unknown:
            surfaces = self._encode([texts[index] for index in unknown], str, threads)
            for index, surface in zip(unknown, surfaces, strict=True):
                rows[index] = self._from_surface(surface)
        return rows

    def tokens(self, text: str) -> list[str]:
        """Return the tokens of a text, also those that have no id."""
        return list(self._tokens(self._encode(text, str)))

    def spans(self, text: str) -> list[Span]:
        """Return the tokens of a text with the characters and the word that they stand for.

        A token made from part of a character ("ﬁ", "½") spans the whole character; what normalisation removed belongs
        to the token before it. A lone "▁" opens a word and has the place of that word's first character, as in
        transformers' XLM-R tokenizer. A word is what stands between spaces.
        """
        pieces = self._encode(text, str)
        normalised, origins = self.model.Normalize(text, with_offsets=True)
        words = np.cumsum(np.frombuffer(normalised.encode("utf-32-le"), np.uint32) == ord(SPACE)).tolist()
        words = [word - normalised.startswith(SPACE) for word in words]
        spans: list[Span] = []
        position = 0
        for index, piece in enumerate(pieces):
            for begin, end in self._cuts(pieces, index):
                first, last = position + begin, position + end
                if normalised[first] == SPACE and end - begin > 1:
                    first += 1
                elif normalised[first] == SPACE and last < len(normalised):
                    first, last = last, last + 1
                after = last
                while after < len(normalised) and origins[after] == origins[last - 1]:
                    after += 1
                spans.append(Span(self._id(piece[begin:end]), origins[first], origins[after], words[first]))
            position += len(piece)
        return spans

    def _encode(self, texts: str | list[str], kind: type[int] | type[str], threads: int | None = None) -> Any:
        try:
            return self.model.Encode(texts, out_type=kind, num_threads=threads)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self._place}: its normalisation turns a text into bytes that are not UTF-8 ({error.reason}); take "
                "sentencepiece.bpe.model of the checkpoint again"
            ) from error
        except (UnicodeEncodeError, RuntimeError, TypeError):
            # Which of them half a surrogate pair raises depends on sentencepiece's version.
            for text in [texts] if isinstance(texts, str) else texts:
                check_text(text, "A text")
            raise

    def _from_surface(self, pieces: Sequence[str]) -> list[int]:
        unknown, get = self._unknown_id, self._vocabulary.get
        return [get(token, unknown) for token in self._tokens(pieces)]

    def _id(self, token: str) -> int:
        return self._vocabulary.get(token, self._unknown_id)

    def _cuts(self, pieces: Sequence[str], index: int) -> Cuts:
        piece = pieces[index]
        if self._rule == "raw":
            return ((0, len(piece)),)
        if piece == SPACE:
            last = index + 1 == len(pieces)
            kept = self._rule == "hf" and index > 0 and not last and not pieces[index + 1].startswith(SPACE)
            return ((0, 1),) if kept else ()
        return cut(piece)

    def _tokens(self, pieces: Sequence[str]) -> Iterable[str]:
        for index, piece in enumerate(pieces):
            for begin, end in self._cuts(pieces, index):
                yield piece[begin:end]


def check_text(text: Any, where: str) -> None:
    """Refuse what is not text.

    Raises:
        InputError: Not a string, or one that holds half of a surrogate pair and so has no UTF-8 form.
    """
    if not isinstance(text, str):
        raise InputError(
            f"{where} is {text!r:.80} of type {type(text).__name__}, not a string. Leave rows without text out, or "
            "give an empty string."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where} holds half of a surrogate pair, {text[error.start]!r} at character {error.start} of "
            f"{text[max(0, error.start - 20) : error.start + 20]!r}: it is no Unicode text. Read the file "
            "as UTF-8 with errors='replace', or join the pair with "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16')."
        ) from error
