"""Lines and pairs of lines as rows of token ids: short ones packed, long ones cut, and nothing lost unsaid."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

# Scripts that put no blanks between words: each of their tokens is one.
_WITHOUT_BLANKS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
_BLANKS = "▁Ġ"
_GOES_ON = "##"
# Ends of sentences, with what may close a quotation after them: where blanks stand between words a blank must follow,
# which it does in no number, address or date.
_CLOSING = r"""["'”’»)\]」』）]*"""
_ENDING = "[.!?…।॥։؟۔]"
# From the first of several ends alone, and none given back: a line of dots is otherwise read again from each of them.
_SENTENCE = re.compile(rf"(?<!{_ENDING}){_ENDING}++{_CLOSING}+(?:\s++|$)|[。！？｡]++{_CLOSING}+\s*+")

SPECIAL, WITHIN, BEGINS = range(3)
"""What a token can be: special, a part of a word, a word's beginning."""


def token_kinds(tokenizer: PreTrainedTokenizerBase) -> NDArray[np.int8]:
    """What each id of a tokenizer is: `SPECIAL`, `WITHIN` or `BEGINS`, shape (vocabulary,).

    A token begins a word where a blank stands before it ("▁" of sentencepiece, "Ġ" of byte-level tokenizers), where it
    does not go on ("##" of WordPiece), or where it is no letter, or of a script without blanks.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    marks_within = any(token.startswith(_GOES_ON) for token in tokens)
    kind = _kind_of_wordpiece if marks_within else _kind
    kinds = np.fromiter(map(kind, tokens), dtype=np.int8, count=len(tokens))
    kinds[tokenizer.all_special_ids] = SPECIAL
    return kinds


def _kind_of_wordpiece(token: str) -> int:
    return WITHIN if token.startswith(_GOES_ON) else BEGINS


def _kind(token: str) -> int:
    first = token[:1]
    if not first or first in _BLANKS or unicodedata.category(first)[0] not in "LM":
        return BEGINS
    return BEGINS if unicodedata.name(first, "").startswith(_WITHOUT_BLANKS) else WITHIN


def plain_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """The ids of texts of any length, without special ones: such tokens that stand in a text are text."""
    encoded = tokenizer(
        texts, add_special_tokens=False, return_attention_mask=False, split_special_tokens=True, verbose=False
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def packed(lines: Iterable[list[int]], cls: int, sep: int, longest: int) -> Iterator[list[int]]:
    """Rows of lines, each row as many successive ones as it has room for: `[CLS] line [SEP] line [SEP]`.

    A separator closes every line, as in the data of RoBERTa and XLM-R (fairseq's `complete` blocks). A line that is
    longer than a row is spread over several.

    Args:
        lines: The ids of each line, without special ones.
        cls: The id that opens a row.
        sep: The id that closes a line.
        longest: Ids of a row at most, special ones included.
    """
    row = [cls]
    for line in lines:
        for start in range(0, len(line), longest - 2):
            part = line[start : start + longest - 2]
            if len(row) + len(part) + 1 > longest:
                yield row
                row = [cls]
            row += [*part, sep]
    if len(row) > 1:
        yield row


def sentence_ends(text: str) -> list[int]:
    """Where the sentences of a text end, in characters from 0, the last one's end left out."""
    return [found.end() for found in _SENTENCE.finditer(text) if found.end() < len(text)]


def fitting(tokenizer: PreTrainedTokenizerBase, source: str, target: str, longest: int) -> tuple[list[int], list[int]]:
    """The ids of a pair that is too long: as many first sentences as fit of both, of both equally many.

    Where not even the first sentences fit, or there is one alone, the longer side is cut token by token.

    Args:
        tokenizer: The tokenizer.
        source: A text.
        target: Its translation.
        longest: Ids of both together at most, without special ones.
    """

    def ids(count: int) -> list[list[int]]:
        return plain_ids(tokenizer, [text[: own[count - 1]] for text, own in zip(texts, ends, strict=True)])

    texts = (source, target)
    ends = [sentence_ends(text) for text in texts]
    counts = range(1, min(map(len, ends)) + 1)
    if count := bisect_right(counts, longest, key=lambda count: sum(map(len, ids(count)))):
        first, second = ids(count)
        return first, second
    first, second = plain_ids(tokenizer, [source, target])
    # The shorter side keeps up to half of the room, the longer one gets the rest.
    fewer = min(len(first), len(second), longest // 2)
    keeps = (longest - fewer, fewer) if len(first) >= len(second) else (fewer, longest - fewer)
    return first[: keeps[0]], second[: keeps[1]]
