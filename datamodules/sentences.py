"""Reads sentences of words with their tags: from column files, and from rows that hold a sentence each."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ernie_m.errors import InputError

from .columns import ColumnFile, read_columns
from .opening import suffix_of
from .reading import SourceRows, class_names, read_rows
from .sources import Parts
from .text_files import is_counting

if TYPE_CHECKING:
    from datasets import Dataset

WordPlace = Callable[[int], str]
"""Says where the n-th word of a sentence stands."""

# Suffixes of files with a sentence in a row; all others are column files.
_ROW_FILES = (".parquet", ".arrow", ".jsonl", ".json", ".csv")
_TAG = re.compile(r"O|[BI]-.+")


def read_sentences(
    parts: Parts, columns: Sequence[str], kinds: Sequence[str] | None
) -> Iterator[tuple[list[str], list[str], WordPlace]]:
    """Reads files and data sets one after the other.

    Args:
        parts: Column files, files with a sentence in a row, or data sets.
        columns: In rows, the column of the words and, where the tags are to be read, theirs.
        kinds: The names of tags that are numbers, where neither file nor data set states them.

    Yields:
        The words and tags of every sentence, and what says where its n-th word stands.

    Raises:
        InputError: A file is broken, or holds what is no tag.
    """
    tagged = len(columns) > 1
    for part in parts:
        if not holds_rows(part):
            yield from _sentences_of(read_columns(part), tagged)
            continue
        rows = read_rows([part], columns)
        names = (class_names(part, columns[1]) or kinds) if tagged else None
        for number in range(rows.table.num_rows):
            yield _sentence_in_row(rows, number, columns, names)


def holds_rows(part: "Path | Dataset") -> bool:
    """Whether a file has a sentence in a row, as data sets have; all others are column files."""
    if not isinstance(part, Path):
        return True
    return suffix_of(part) in _ROW_FILES


def _sentences_of(file: ColumnFile, tagged: bool) -> Iterator[tuple[list[str], list[str], WordPlace]]:
    if tagged and file.sentences and len(file.sentences[0][0]) < 2:
        raise InputError(
            f"{file.path}, line {file.lines[0][0]}: one column, {file.sentences[0][0][0]!r}, where a word and its tag"
            " are expected."
        )
    for sentence, lines in zip(file.sentences, file.lines, strict=True):
        place = partial(_line_of, file.path, lines)
        tags = [columns[-1] for columns in sentence] if tagged else []
        check_tags(tags, place)
        yield [columns[0] for columns in sentence], tags, place


def _line_of(path: Path, lines: Sequence[int], word: int) -> str:
    return f"{path}, line {lines[word]}"


def _sentence_in_row(
    rows: SourceRows, number: int, columns: Sequence[str], kinds: Sequence[str] | None
) -> tuple[list[str], list[str], WordPlace]:
    found = [_as_list(rows, number, column) for column in columns]
    words, tags = found[0], found[1] if len(found) > 1 else []
    if any(not isinstance(word, str) for word in words):
        raise InputError(f"{rows.where(number)}: column '{columns[0]}' holds {words[:5]!r}, not a list of words.")
    if len(columns) > 1 and len(words) != len(tags):
        raise InputError(
            f"{rows.where(number)}: {len(words)} words in '{columns[0]}', {len(tags)} tags in '{columns[1]}'."
        )
    place = partial(_word_of, rows.where(number))
    return words, _named(tags, kinds, place), place


def _word_of(row: str, word: int) -> str:
    return f"{row}, word {word + 1}"


def _as_list(rows: SourceRows, number: int, column: str) -> list[Any]:
    value = rows.table.column(column)[number].as_py()
    if isinstance(value, str):
        return [part for part in value.split(" ") if part]
    if not isinstance(value, list):
        raise InputError(
            f"{rows.where(number)}: column '{column}' is {value!r}; it must be a list, or a text separated by spaces."
        )
    return value


def _named(tags: Sequence[Any], kinds: Sequence[str] | None, place: WordPlace) -> list[str]:
    """Tags by name, also those that are numbers."""
    names = []
    for position, tag in enumerate(tags):
        if kinds is not None and isinstance(tag, str) and is_counting(tag):
            tag = int(tag)
        if isinstance(tag, bool):
            raise InputError(f"{place(position)}: the tag is {tag}, neither a name nor a number.")
        if isinstance(tag, int) and kinds is None:
            raise InputError(
                f"{place(position)}: the tag {tag} is a number, and the file does not name it; set label_names."
            )
        if isinstance(tag, int) and kinds is not None and 0 <= tag < len(kinds):
            names.append(kinds[tag])
        else:
            names.append(str(tag))
    check_tags(names, place)
    return names


def to_iob2(tags: Sequence[str]) -> list[str]:
    """IOB1 or IOB2 tags as IOB2, in which every entity begins with B-.

    An I- that follows another type or none begins an entity: what IOB1 means by it, and what the conlleval script makes
    of it in IOB2.

    Args:
        tags: "O", and "B-" or "I-" with a type.
    """
    converted = []
    before = "O"
    for tag in tags:
        continues = tag.startswith("I-") and before[2:] == tag[2:]
        converted.append(tag if tag == "O" or continues else f"B-{tag[2:]}")
        before = tag
    return converted


def check_tags(tags: Sequence[str], place: WordPlace) -> None:
    """Refuses what is no tag.

    Args:
        tags: The tags of a sentence.
        place: Says where each stands.
    """
    for position, tag in enumerate(tags):
        if not _TAG.fullmatch(tag):
            raise InputError(
                f"{place(position)}: {tag!r} is no tag; tags are O, or B- or I- before a type (IOB1 and IOB2)."
            )


def checked_labels(names: Sequence[str]) -> list[str]:
    """The labels, where they are those of IOB2.

    Raises:
        InputError: They are not.
    """
    kinds = {name[2:] for name in names if name != "O"}
    expected = {"O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")}
    if not kinds or set(names) != expected or len(names) != len(expected):
        raise InputError(
            f"label_names is {list(names)}; it must hold O once, and B- and I- with every type, as in"
            " [O, B-PER, I-PER]."
        )
    return list(names)
