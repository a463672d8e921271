"""Reads sentences of words with their tags: from column files, and from rows that hold a sentence each."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from ernie_m.errors import InputError

from .columns import ColumnFile, read_columns
from .opening import suffix_of
from .reading import SourceRows, class_names, read_rows
from .sources import Parts
from .tags import NOT_LABELLED, SPELLED_NOT_LABELLED, WordPlace
from .text_files import is_counting

if TYPE_CHECKING:
    from datasets import Dataset

# Suffixes of files with a sentence in a row; all others are column files.
_ROW_FILES = (".parquet", ".arrow", ".jsonl", ".json", ".csv")
_CONLLU = ".conllu"
# Columns of CoNLL-U, https://universaldependencies.org/format.html, that label words.
_CONLLU_COLUMNS = {"upos": 3, "xpos": 4, "deprel": 7}
_CONLLU_WIDTH = 10


def read_sentences(
    parts: Parts, columns: Sequence[str], kinds: Sequence[str] | None
) -> Iterator[tuple[list[str], list[str], WordPlace]]:
    """Reads files and data sets one after the other.

    Args:
        parts: Column files, files with a sentence in a row, or data sets.
        columns: In rows, the column of the words and, where the tags are to be read, theirs; in CoNLL-U, where the
            second is none of `xpos` and `deprel`, tags are `upos`.
        kinds: The names of tags that are numbers, where neither file nor data set states them.

    Yields:
        The words and tags of every sentence, by name, and what says where its n-th word stands.

    Raises:
        InputError: A file is broken, or holds what is no tag.
    """
    tagged = len(columns) > 1
    for part in parts:
        if is_conllu(part):
            yield from _words_of(part, columns[1:])
            continue
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


def is_conllu(part: "Path | Dataset") -> TypeGuard[Path]:
    """Whether a file is one of Universal Dependencies."""
    return isinstance(part, Path) and suffix_of(part) == _CONLLU


def _words_of(path: Path, tags_column: Sequence[str]) -> Iterator[tuple[list[str], list[str], WordPlace]]:
    """Reads CoNLL-U: words by their syntax, which is what has tags; neither ranges (1-2) nor empty nodes (1.1)."""
    file = read_columns(path)
    chosen = [_CONLLU_COLUMNS.get(name.lower(), _CONLLU_COLUMNS["upos"]) for name in tags_column]
    if file.sentences and len(file.sentences[0][0]) != _CONLLU_WIDTH:
        raise InputError(
            f"{path}, line {file.lines[0][0]}: {len(file.sentences[0][0])} columns; CoNLL-U has {_CONLLU_WIDTH}."
        )
    for sentence, all_lines in zip(file.sentences, file.lines, strict=True):
        pairs = zip(sentence, all_lines, strict=True)
        found = [(columns, line) for columns, line in pairs if is_counting(columns[0])]
        place = partial(_line_of, path, [line for _, line in found])
        tags = _named([columns[column] for columns, _ in found for column in chosen], None, place)
        yield [columns[1] for columns, _ in found], tags, place


def _sentences_of(file: ColumnFile, tagged: bool) -> Iterator[tuple[list[str], list[str], WordPlace]]:
    if tagged and file.sentences and len(file.sentences[0][0]) < 2:
        raise InputError(
            f"{file.path}, line {file.lines[0][0]}: one column, {file.sentences[0][0][0]!r}, where a word and its tag"
            " are expected."
        )
    for sentence, lines in zip(file.sentences, file.lines, strict=True):
        place = partial(_line_of, file.path, lines)
        tags = _named([columns[-1] for columns in sentence], None, place) if tagged else []
        yield [columns[0] for columns in sentence], tags, place


def _line_of(path: Path, lines: Sequence[int], word: int) -> str:
    return f"{path}, line {lines[word]}"


def _sentence_in_row(
    rows: SourceRows, number: int, columns: Sequence[str], kinds: Sequence[str] | None
) -> tuple[list[str], list[str], WordPlace]:
    found = [list_in(rows, number, column) for column in columns]
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


def list_in(rows: SourceRows, number: int, column: str) -> list[Any]:
    """A list of words or tags, or the parts of a text between its blanks.

    Raises:
        InputError: It is neither.
    """
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
        if not isinstance(tag, str | int) or isinstance(tag, bool) or tag == "":
            kind = "empty" if tag == "" else "null" if tag is None else f"{tag}, neither a name nor a number"
            raise InputError(
                f"{place(position)}: the tag is {kind}; a word that has no label has the tag {NOT_LABELLED} or -100."
            )
        text = str(tag).strip()
        if kinds is not None and text not in kinds and is_counting(text) and int(text) < len(kinds):
            text = kinds[int(text)]
        elif isinstance(tag, int) and kinds is None and text not in SPELLED_NOT_LABELLED:
            raise InputError(
                f"{place(position)}: the tag {tag} is a number, and the file does not name it; set label_names."
            )
        names.append(NOT_LABELLED if text in SPELLED_NOT_LABELLED else text)
    return names
