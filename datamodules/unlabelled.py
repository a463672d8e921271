"""Sentences whose words are to be labelled: column files, lists of words, or texts, which are split into words here."""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_info

from ernie_m.errors import InputError

from .columns import read_columns
from .opening import suffix_of
from .reading import read_rows, read_whole
from .sentences import holds_rows, is_conllu, list_in, read_sentences
from .tags import to_iob2
from .text_files import read_lines

if TYPE_CHECKING:
    from datasets import Dataset

PREDICTED = ("words", "prediction", "entities")
"""What a line of JSONL has beside the row."""

# What a word of a column file cannot hold; TSV has blanks for it too.
_BREAKS = re.compile(r"[\t\r\n]+")
# Scripts that put no blanks between words: kana, Han, Thai and Lao, Myanmar, Khmer.
_WITHOUT_BLANKS = (
    *((0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F), (0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF)),
    *((0xF900, 0xFAFF), (0x20000, 0x3FFFF), (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),
)
# Kinds of characters: s blank, w letter, c one of a script without blanks, d digit, m mark, i within words, k within
# numbers, p any other.
_WORD = re.compile(r"cm*|[wdm]+(?:(?:i|(?<=d)k(?=d))[wdm]+)*|[^s]")
_WITHIN_WORDS, _WITHIN_NUMBERS = "'’-‐._·", ",:"


class Sentence(NamedTuple):
    """A sentence to predict on.

    Attributes:
        words: Its words.
        begins: The character of `text` that each begins with.
        text: The text; of words that were given, all of them with blanks between.
        columns: What stands in a column file, for each word; None elsewhere.
        separator: What stands between columns.
        is_split: Whether the words were found here.
    """

    words: list[str]
    begins: list[int]
    text: str
    columns: list[list[str]] | None = None
    separator: str = "\t"
    is_split: bool = False


def sentences_to_label(part: "Path | Dataset", tokens_column: str, text_column: str) -> Iterator[Sentence]:
    """Reads what words are to be labelled in.

    Rows have a column of words, or one of texts. A `.txt` file without a tab and without an empty line has a text on
    each line; with one it is a column file, as all files of other names are.

    Args:
        part: A file or data set.
        tokens_column: In rows, the column of words.
        text_column: In rows without it, that of texts.

    Raises:
        InputError: It is broken, or has neither column.
    """
    if is_conllu(part):
        for words, _, _ in read_sentences([part], [tokens_column], None):
            yield _of_words(words)
    elif holds_rows(part):
        columns = list(dict.fromkeys([tokens_column, text_column]))
        rows = read_rows([part], columns, optional=columns)
        for number in range(rows.table.num_rows):
            words, text = (rows.table.column(name)[number].as_py() for name in (tokens_column, text_column))
            if words is not None:
                yield _of_words(list_in(rows, number, tokens_column))
            elif isinstance(text, str):
                yield _of_text(text)
            else:
                raise InputError(
                    f"{rows.where(number)}: neither words in column '{tokens_column}' nor a text in '{text_column}'."
                )
    elif isinstance(part, Path) and _has_texts(part):
        rank_zero_info(f"{part}: no tab and no empty line, so that each line is a text, which is split into words.")
        yield from map(_of_text, read_lines(part))
    elif isinstance(part, Path):
        file = read_columns(part)
        for sentence in file.sentences:
            yield _of_words([row[0] for row in sentence])._replace(columns=sentence, separator=file.separator)


def split_words(text: str) -> list[tuple[int, int]]:
    """Finds the words of a text.

    A word is a run of letters, digits and their marks, with apostrophes, hyphens and dots between two of them, and in
    numbers commas and colons; a single character of a script that is written without blanks between words; or any other
    character that is no blank.

        >>> text = "Anna's in 東京, 1,5 km."
        >>> [text[begin:end] for begin, end in split_words(text)]
        ["Anna's", 'in', '東', '京', ',', '1,5', 'km', '.']

    Returns:
        The first character of each, and that behind its last.
    """
    return [match.span() for match in _WORD.finditer("".join(map(_kind, text)))]


def _kind(character: str) -> str:
    code = ord(character)
    category = unicodedata.category(character)
    if category[0] == "M":
        return "m"
    if category[0] == "L" and any(first <= code <= last for first, last in _WITHOUT_BLANKS):
        return "c"
    if category[0] in "LN":
        return "d" if category == "Nd" else "w"
    if category[0] in "ZC":
        return "s"
    return "i" if character in _WITHIN_WORDS else "k" if character in _WITHIN_NUMBERS else "p"


def _of_words(words: Sequence[str]) -> Sentence:
    begins = [0]
    for word in words:
        begins.append(begins[-1] + len(word) + 1)
    return Sentence(list(words), begins[:-1], " ".join(words))


def _of_text(text: str) -> Sentence:
    spans = split_words(text)
    return Sentence([text[begin:end] for begin, end in spans], [begin for begin, _ in spans], text, is_split=True)


def _has_texts(path: Path) -> bool:
    return suffix_of(path) == ".txt" and all("\t" not in line and line.strip() for line in read_lines(path))


def check_names_free(part: "Path | Dataset") -> None:
    """Refuses rows that have a column which `as_jsonl` adds.

    Raises:
        InputError: They have one.
    """
    if isinstance(part, Path) and not holds_rows(part):
        return
    present = read_whole(part).column_names if isinstance(part, Path) else part.column_names
    if taken := [name for name in PREDICTED if name in present]:
        raise InputError(f"{part}: has a column {taken[0]!r}, which the predictions need; rename it.")


def as_jsonl(part: "Path | Dataset", sentences: Sequence[Sentence], tags: Sequence[Sequence[str]], spans: bool) -> str:
    """The rows of a file or data set, a line each, with `PREDICTED`: labels of words, and where they are spans these.

    Args:
        part: What was predicted on. Where it has no rows, a row is `text` where words were found, else `tokens`.
        sentences: Its sentences.
        tags: The predicted label of every word of each.
        spans: Whether labels are those of IOB2.
    """
    if not isinstance(part, Path):
        rows: list[Any] = part.with_format(None).to_list()
    elif holds_rows(part):
        rows = read_whole(part).to_pylist()
    else:
        rows = [{"text": one.text} if one.is_split else {"tokens": one.words} for one in sentences]
    lines = []
    for row, sentence, predicted in zip(rows, sentences, tags, strict=True):
        found: dict[str, Any] = {"words": sentence.words} if sentence.is_split else {}
        found |= {"prediction": list(predicted)}
        found |= {"entities": entities_in(sentence, predicted)} if spans else {}
        lines.append(json.dumps(row | found, ensure_ascii=False, default=str))
    return "".join(f"{line}\n" for line in lines)


def entities_in(sentence: Sentence, tags: Sequence[str]) -> list[dict[str, Any]]:
    """The spans that tags hold: `type`, `text`, and `begin` and `end`, characters of the sentence's text.

    Args:
        sentence: The sentence.
        tags: The label of each word.
    """
    found: list[dict[str, Any]] = []
    for tag, begin, word in zip(to_iob2(tags), sentence.begins, sentence.words, strict=True):
        if tag.startswith("B-"):
            found.append({"type": tag[2:], "text": "", "begin": begin, "end": 0})
        if tag != "O":
            found[-1]["end"] = begin + len(word)
            found[-1]["text"] = sentence.text[found[-1]["begin"] : found[-1]["end"]]
    return found


def as_columns(sentences: Sequence[Sentence], tags: Sequence[Sequence[str]]) -> str:
    """The columns of a column file, or the words of other sentences, with the labels behind; a word a line.

    Args:
        sentences: The sentences. One without words leaves an empty line.
        tags: The predicted label of every word of each.
    """
    lines: list[str] = []
    for sentence, predicted in zip(sentences, tags, strict=True):
        columns = sentence.columns or [[_BREAKS.sub(" ", word).strip(" ") or "_"] for word in sentence.words]
        lines += [sentence.separator.join([*row, tag]) for row, tag in zip(columns, predicted, strict=True)]
        lines.append("")
    return "".join(f"{line}\n" for line in lines)
