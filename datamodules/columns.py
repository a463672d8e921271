"""Reads column files: a word and its tag on each line, an empty line between sentences."""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from ernie_m.errors import InputError

from .opening import UTF16, located, open_binary

_DOCUMENT_START = "-DOCSTART-"
# WikiANN writes each word with its language before it: "en:Sioux", "zh-classical:...".
_LANGUAGE_PREFIX = re.compile(r"[a-z]{2,}(-[a-z]+)*:")


@dataclass(frozen=True)
class ColumnFile:
    """The sentences of a column file.

    Attributes:
        path: The file.
        sentences: The columns of every word of every sentence, the word first.
        lines: The line of every word, counted from 1.
        separator: What stands between columns: a tab or a space.
        encoding: What the file's text is encoded in.
    """

    path: Path
    sentences: list[list[list[str]]]
    lines: list[list[int]]
    separator: str
    encoding: str


def read_columns(path: Path) -> ColumnFile:
    """Reads the column files of CoNLL-2002 and 2003, of PAN-X (WikiANN), and others of their kind.

    Columns are separated by a tab, or by spaces in a file without tabs. Any number of empty lines ends a sentence, and
    so does a line that begins with `-DOCSTART-`, which is no word. A line that begins with `#` before a sentence, and
    has not as many columns as words have, is a comment, as CoNLL-U and MultiCoNER have them. Where every word of a file
    has the same language before it, as in WikiANN's `en:Sioux`, that is removed.

    Args:
        path: The file, also gzipped (`.gz`), in UTF-8, or in ISO-8859-1 as CoNLL's Spanish, Dutch and German files are.

    Raises:
        InputError: The file is missing or broken, is damaged UTF-8, or a line has not as many columns as the others.
    """
    with located(path), open_binary(path) as file:
        content = file.read()
    text, encoding = _decoded(path, content)
    # Not str.splitlines: U+0085 and U+2028 are characters here.
    raw_lines = text.split("\n")
    # Comments may have tabs where words have none.
    body = [line for line in raw_lines if _is_word(line) and not line.startswith("#")] or raw_lines
    separator = "\t" if any("\t" in line for line in body) else " "
    width = _width(raw_lines, separator)
    comments = 0
    sentences: list[list[list[str]]] = [[]]
    lines: list[list[int]] = [[]]
    for number, raw in enumerate(raw_lines, start=1):
        line = raw.rstrip("\r")
        if "\r" in line:
            raise InputError(f"{path}, line {number}: a carriage return within the line; end lines with a line feed.")
        columns = _split(line, separator)
        if not columns or columns[0] == _DOCUMENT_START:
            if sentences[-1]:
                sentences.append([])
                lines.append([])
            continue
        if len(columns) != width and columns[0].startswith("#") and not sentences[-1]:
            comments += 1
            continue
        if len(columns) != width:
            raise InputError(
                f"{path}, line {number}: {len(columns)} columns where the lines before have {width}:"
                f" {separator.join(columns)!r}. Give every word the same columns, the word first and its tag last."
            )
        sentences[-1].append(columns)
        lines[-1].append(number)
    if not sentences[-1]:
        del sentences[-1], lines[-1]
    if comments:
        rank_zero_info(f"{path}: {comments:,} lines that begin with # are comments, and no words.")
    _remove_language([columns for sentence in sentences for columns in sentence])
    return ColumnFile(path, sentences, lines, separator, encoding)


def _width(lines: list[str], separator: str) -> int:
    """The columns of the first word that is no comment; of the first word where all begin with #."""
    words = (
        columns for line in lines if (columns := _split(line.rstrip("\r"), separator)) and columns[0] != _DOCUMENT_START
    )
    first: int | None = None
    for columns in words:
        first = first or len(columns)
        if not columns[0].startswith("#"):
            return len(columns)
    return first or 0


def _split(line: str, separator: str) -> list[str]:
    """The columns of a line, none of an empty one; a no-break space is part of a word."""
    if not _is_word(line):
        return []
    if separator == "\t":
        return [column.strip(" ") for column in line.split("\t")]
    return [column for column in line.split(" ") if column]


def _is_word(line: str) -> bool:
    return bool(line.strip(" \t\r"))


def _remove_language(words: list[list[str]]) -> None:
    match = _LANGUAGE_PREFIX.match(words[0][0]) if words else None
    if match and all(columns[0].startswith(match[0]) for columns in words):
        for columns in words:
            columns[0] = columns[0].removeprefix(match[0])


def _decoded(path: Path, content: bytes) -> tuple[str, str]:
    """The text and its encoding.

    Not every file that is not UTF-8 is ISO-8859-1: where some characters are good UTF-8, the others are damaged.
    """
    if content.startswith(UTF16):
        raise InputError(f"{path} is UTF-16; save it as UTF-8.")
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        lenient = content.decode("utf-8", "surrogateescape")
        if any(character > "\x7f" and not "\udc80" <= character <= "\udcff" for character in lenient):
            line = content.count(b"\n", 0, error.start) + 1
            raise InputError(
                f"{path}, line {line}, byte {error.start}: 0x{content[error.start]:02x} is not UTF-8 ({error.reason}),"
                " though other characters are. Mend the line, or convert the whole file to UTF-8."
            ) from error
        rank_zero_warn(f"{path} is not UTF-8 and is read as ISO-8859-1; convert it where it is something else.")
        return content.decode("iso-8859-1"), "iso-8859-1"
