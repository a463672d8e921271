"""Labels for the words of a sentence, as named entities have, from one's own files or a data set's."""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import ArrayLike, NDArray

from ernie_m.errors import InputError

from .base import TaskDataModule
from .batching import MicroBatch, TrainBatchSampler, pad
from .cache import ArrowRows, ragged
from .columns import ColumnFile, read_columns
from .loading import Batch, RowSet
from .reading import Rows, class_names, read_rows

IGNORED = -100
NO_WORD = -1
# Suffixes of files with a sentence in a row; all others are column files.
_ROW_FILES = (".parquet", ".arrow", ".jsonl", ".csv")
# The share of a window that shows words of its neighbours: context, not predicted there.
_CONTEXT_SHARE = 8

_TAG = re.compile(r"O|[BI]-.+")

Place = Callable[[int], str]
"""Says where the n-th word of a sentence stands."""

LabelledTokens = Literal["first", "all"]


class TokenLabels(TaskDataModule):
    """Sentences whose words have a label, from column files, Parquet, JSONL or CSV.

    Column files are those of CoNLL-2002 and 2003 and of PAN-X: a word first and its tag last on each line, an empty
    line between sentences. In the others a row is a sentence, with a column of words and one of tags: lists, or in CSV
    texts separated by spaces. Tags are IOB1 or IOB2, read as the conlleval script does (an I- that follows no tag of
    its type begins an entity), and IOB2 from then on.

    Words are tokenised one by one; one that has no tokens becomes the unknown token. A sentence longer than
    `max_length` becomes several windows that overlap, and each of its words is predicted in exactly one of them.

    A batch holds what `TaskDataModule` says, a row being a window, and

    - `input_ids`, `attention_mask` (batch, length) int64,
    - `labels` (batch, length) int64: indices into `label_names`, -100 for tokens that have none,
    - `words` (batch, length) int64: on the first token of each word that the window predicts, the word's number in its
      sentence; -1 on all other tokens,
    - `sentence` (batch,) int64: the sentence's number in its file,
    - `normaliser`, in training: the labelled tokens of the global batch over the number of processes.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        train_files: Language to training file; a pattern with `*` stands for several.
        validation_files: The same for validation.
        test_files: The same for test.
        path: Folder or Hub data set that the files lie in; None where they are paths of their own.
        revision: Branch, tag or commit of a Hub data set.
        tokens_column: The words, in files with a sentence in a row.
        tags_column: Their tags, by name, or as numbers that a Parquet file or `label_names` has the names of.
        label_names: The labels in order: "O", and "B-" and "I-" with every type. None for those that a Parquet file
            states, else all that occur in the training data, sorted.
        label_tokens: "first": each word's first token is labelled; "all": all its tokens, B- on the first alone, as in
            Baidu's code.
        predict_path: File to predict on; only its words are read.
        predict_language: Its language, one of the others; None for the first.
        max_length: Tokens of a window at most, special tokens included.
        global_batch_size: Windows of one optimiser step, over all devices.
        micro_batch_size: At most so many windows at once on a device; None for no limit.
        micro_batch_tokens: At most so many tokens at once on a device in training, padding included; None for no limit.
        eval_tokens_per_batch: Rows times longest row of an evaluation batch.
        seed: With the epoch it fixes the order of the training data.
        num_workers: Processes that prepare training batches.
        cache_dir: Folder of the tokenised data; None for the user's cache folder.
        trust_remote_code: Whether to run tokenizer code that a folder or Hub repository carries.
    """

    prediction_formats: ClassVar[tuple[str, ...]] = (".conll", ".txt")

    def __init__(
        self,
        tokenizer: str,
        train_files: dict[str, str] | None = None,
        validation_files: dict[str, str] | None = None,
        test_files: dict[str, str] | None = None,
        path: str | None = None,
        revision: str | None = None,
        tokens_column: str = "tokens",
        tags_column: str = "ner_tags",
        label_names: list[str] | None = None,
        label_tokens: LabelledTokens = "first",
        predict_path: str | None = None,
        predict_language: str | None = None,
        max_length: int = 256,
        global_batch_size: int = 32,
        micro_batch_size: int | None = None,
        micro_batch_tokens: int | None = None,
        eval_tokens_per_batch: int = 16384,
        seed: int = 1,
        num_workers: int = 0,
        cache_dir: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__(
            {"train": train_files or {}, "validation": validation_files or {}, "test": test_files or {}},
            path,
            revision,
            tokenizer,
            max_length,
            global_batch_size,
            micro_batch_size,
            micro_batch_tokens,
            eval_tokens_per_batch,
            seed,
            num_workers,
            cache_dir,
            trust_remote_code,
        )
        self.tokens_column = tokens_column
        self.tags_column = tags_column
        self._label_names = None if label_names is None else _checked_labels(label_names)
        self.label_tokens: LabelledTokens = label_tokens
        if predict_path is not None:
            self.add_predict(predict_path, predict_language)

    @property
    def label_names(self) -> list[str]:
        """The labels, in the order of their numbers. Where they were not given, the data are read for them."""
        if self._label_names is None:
            self._label_names = self._find_label_names()
        return self._label_names

    def read(self, split: str, language: str, paths: list[Path]) -> pa.Table:
        """Reads the words and, except for prediction, the labels as numbers."""
        words: list[list[str]] = []
        labels: list[NDArray[np.int32]] = []
        numbers = {name: number for number, name in enumerate(self.label_names)} if split != "predict" else {}
        for sentence, tags, place in self._sentences(paths, tagged=split != "predict"):
            words.append(sentence)
            if split != "predict":
                known = [numbers.get(tag, -1) for tag in to_iob2(tags)]
                if -1 in known:
                    position = known.index(-1)
                    raise InputError(
                        f"{place(position)}: unknown tag {tags[position]!r}; known are {', '.join(self.label_names)}."
                    )
                labels.append(np.asarray(known, dtype=np.int32))
        columns = {
            "sentence": pa.array(range(len(words)), type=pa.int32()),
            "words": pa.array(words, type=pa.list_(pa.string())),
        }
        if split != "predict":
            columns["labels"] = pa.array(labels, type=pa.list_(pa.int32()))
        return pa.table(columns)

    def encode(self, table: pa.Table) -> pa.RecordBatch:
        """Tokenises word by word, and cuts long sentences into windows."""
        sentences: list[list[str]] = table.column("words").to_pylist()
        tokens_of = self._tokenised(word for sentence in sentences for word in sentence)
        labels = table.column("labels").to_pylist() if "labels" in table.column_names else None
        columns: dict[str, list[Any]] = {name: [] for name in self._row_columns(labels is not None)}
        cut = 0
        for position, number in enumerate(table.column("sentence").to_pylist()):
            tokens = [tokens_of[word] for word in sentences[position]]
            cut += sum(len(ids) > self._room for ids in tokens)
            tokens = [ids[: self._room] for ids in tokens]
            for window in windows([len(ids) for ids in tokens], self._room):
                row = self._row(tokens, None if labels is None else labels[position], window)
                for name, values in row.items():
                    columns[name].append(values)
                columns["sentence"].append(number)
        if cut:
            rank_zero_warn(
                f"{cut} words have more tokens than fit into max_length {self.max_length}; their further tokens are"
                " left out, their labels are not."
            )
        return pa.record_batch(
            {
                name: pa.array(values, type=pa.int32()) if name == "sentence" else ragged(values)
                for name, values in columns.items()
            }
        )

    def schema(self, split: str) -> pa.Schema:
        """Each window's sentence, ids, first tokens of words and, except for prediction, labels."""
        lists = pa.list_(pa.int32())
        return pa.schema(
            [(name, pa.int32() if name == "sentence" else lists) for name in self._row_columns(split != "predict")]
        )

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The columns and the labels."""
        settings: dict[str, Any] = {"rows": "token labels", "columns": [self.tokens_column, self.tags_column]}
        if split != "predict":
            settings |= {"label_names": self.label_names, "label_tokens": self.label_tokens}
        return settings

    def lengths(self, rows: RowSet) -> ArrayLike:
        """The tokens of every window."""
        return rows.lengths("input_ids")

    def train_sampler(self, rows: RowSet, rank: int, world_size: int) -> TrainBatchSampler:
        """Counts labelled tokens, over which the loss is a mean."""
        lists = rows.lists("labels", np.arange(len(rows)))
        return TrainBatchSampler(
            self.lengths(rows),
            self.global_batch_size,
            self.micro_batch_size,
            self.seed,
            rank,
            world_size,
            micro_batch_tokens=self.micro_batch_tokens,
            example_weights=[int((labels != IGNORED).sum()) for labels in lists],
        )

    def collator(self, split: str) -> "TokenCollator":
        """Pads windows."""
        return TokenCollator(self.pad_id, labelled=split != "predict")

    def summary(self, rows: ArrowRows) -> str:
        """Sentences, words and, where there are labels, the entities of each type."""
        counted = len(np.unique(rows.scalars("sentence")))
        first = np.concatenate([np.zeros(0, dtype=np.int32), *rows.values("words")]) != NO_WORD
        text = f"{counted:,} sentences, {int(first.sum()):,} words"
        if len(rows) > counted:
            text += f", {len(rows):,} windows"
        if "labels" not in rows.columns:
            return text
        labels = np.concatenate([np.zeros(0, dtype=np.int32), *rows.values("labels")])[first]
        names = [self.label_names[label] for label in labels.tolist()]
        entities = Counter(name.removeprefix("B-") for name in names if name.startswith("B-"))
        listed = ", ".join(f"{kind} {count:,}" for kind, count in sorted(entities.items()))
        return f"{text}, {entities.total():,} entities: {listed or 'none'}"

    def predictions_as_text(self, tables: Mapping[str, pa.Table]) -> str:
        """The columns of the file that was predicted on, or its words where a sentence was a row, and the tags."""
        (language,) = self.split_languages("predict")
        predictions = iter(tables[language].sort_by("example_id").column("predictions").to_pylist())
        lines: list[str] = []
        for path in self.files("predict", language, download=False)[0]:
            separator, sentences = self._columns_of(path)
            for sentence in sentences:
                tags = next(predictions)
                lines += [separator.join([*columns, tag]) for columns, tag in zip(sentence, tags, strict=True)]
                lines.append("")
        return "".join(f"{line}\n" for line in lines)

    # The rest.

    def _row_columns(self, labelled: bool) -> list[str]:
        return ["sentence", "input_ids", "words", *(["labels"] if labelled else [])]

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and behind a text."""
        empty: list[int] = list(self.tokenizer("")["input_ids"])
        return empty[:1], empty[1:]

    @cached_property
    def _room(self) -> int:
        """The tokens of words that fit into a window."""
        return self.max_length - self.tokenizer.num_special_tokens_to_add(pair=False)

    def _tokenised(self, words: Iterable[str]) -> dict[str, list[int]]:
        """The ids of every word by itself; the unknown token where it has none."""
        distinct = list(dict.fromkeys(words))
        if not distinct:
            return {}
        ids = self.tokenizer(distinct, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        unknown = self.tokenizer.unk_token_id
        return {word: list(found) or [unknown] for word, found in zip(distinct, ids, strict=True)}

    def _row(
        self, tokens: Sequence[Sequence[int]], labels: Sequence[int] | None, window: "Window"
    ) -> dict[str, list[int]]:
        opening, closing = self._frame
        ids, first, targets = list(opening), [NO_WORD] * len(opening), [IGNORED] * len(opening)
        for word in range(window.begin, window.end):
            count = len(tokens[word])
            ids += tokens[word]
            is_own = window.first <= word < window.last
            first += [word if is_own else NO_WORD] + [NO_WORD] * (count - 1)
            if labels is not None:
                rest = self._continued[labels[word]] if self.label_tokens == "all" else IGNORED
                targets += [labels[word], *[rest] * (count - 1)] if is_own else [IGNORED] * count
        row = {"input_ids": ids + closing, "words": first + [NO_WORD] * len(closing)}
        if labels is not None:
            row["labels"] = targets + [IGNORED] * len(closing)
        return row

    @cached_property
    def _continued(self) -> list[int]:
        """The label of a word's further tokens for each label of its first: I- behind B-."""
        names = self.label_names
        return [names.index("I-" + name[2:]) if name.startswith("B-") else i for i, name in enumerate(names)]

    def _sentences(self, paths: Sequence[Path], tagged: bool) -> Iterator[tuple[list[str], list[str], Place]]:
        """The words and tags of every sentence, and what says where its n-th word stands."""
        for path in paths:
            if not is_row_file(path):
                yield from _sentences_of(read_columns(path), tagged)
                continue
            names = [self.tokens_column, self.tags_column] if tagged else [self.tokens_column]
            rows = read_rows([path], names)
            kinds = (class_names(path, self.tags_column) or self._label_names) if tagged else None
            for number in range(rows.table.num_rows):
                yield _sentence_in_row(rows, number, names, kinds)

    def _columns_of(self, path: Path) -> tuple[str, list[list[list[str]]]]:
        """What separates columns, and the columns of every word of every sentence."""
        if is_row_file(path):
            return "\t", [[[word] for word in words] for words, _, _ in self._sentences([path], tagged=False)]
        file = read_columns(path)
        return file.separator, file.sentences

    def _find_label_names(self) -> list[str]:
        split = next((split for split in ("train", "validation", "test") if self._files[split]), None)
        if split is None:
            raise InputError("label_names is not set and no data have tags to take them from; name the labels.")
        paths = [path for language in self._files[split] for path in self.files(split, language, download=True)[0]]
        stated = class_names(paths[0], self.tags_column) if is_row_file(paths[0]) else None
        if stated is not None:
            return _checked_labels(stated)
        tags = {tag for _, found, _ in self._sentences(paths, tagged=True) for tag in found}
        kinds = sorted({tag[2:] for tag in tags if tag != "O"})
        if not kinds:
            raise InputError(f"{paths[0]}: the {split} data have no tag but O; name the labels with label_names.")
        return ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]


class TokenCollator:
    """Makes a batch of `TokenLabels`.

    Args:
        pad_id: The padding token.
        labelled: Whether the rows have labels.
    """

    def __init__(self, pad_id: int, labelled: bool) -> None:
        self.pad_id = pad_id
        self.labelled = labelled

    def __call__(self, rows: RowSet, micro: MicroBatch) -> Batch:
        """Pads the windows of one micro-batch."""
        batch = rows.common(micro)
        batch["input_ids"], batch["attention_mask"] = pad(rows.lists("input_ids", micro.indices), self.pad_id)
        batch["words"], _ = pad(rows.lists("words", micro.indices), NO_WORD)
        if self.labelled:
            batch["labels"], _ = pad(rows.lists("labels", micro.indices), IGNORED)
        else:
            batch["labels"] = torch.full_like(batch["words"], IGNORED)
        batch["sentence"] = rows.scalars("sentence", micro.indices)
        return batch


@dataclass(frozen=True)
class Window:
    """A part of a sentence, as positions of words.

    Attributes:
        begin: The first word that is shown.
        end: The one behind the last that is shown.
        first: The first word that is predicted.
        last: The one behind the last that is predicted.
    """

    begin: int
    end: int
    first: int
    last: int


def windows(counts: Sequence[int], room: int) -> Iterator[Window]:
    """Cuts a sentence so that every word is predicted in exactly one window, with context on both sides.

    Args:
        counts: The tokens of each word, none more than `room`.
        room: The tokens of a window.

    Yields:
        The windows in order. An eighth of a window on either side shows words that a neighbour predicts, less where a
        word is so long that it leaves less room.
    """
    starts = [0, *accumulate(counts)]
    if starts[-1] <= room:
        yield Window(0, len(counts), 0, len(counts))
        return
    context = room // _CONTEXT_SHARE
    first = 0
    while first < len(counts):
        # The earliest word that leaves the context, and the first predicted word, within their room.
        begin = bisect_left(starts, max(starts[first] - context, starts[first + 1] - room), hi=first)
        end = bisect_right(starts, starts[begin] + room) - 1
        last = len(counts) if end == len(counts) else max(first + 1, bisect_right(starts, starts[end] - context) - 1)
        yield Window(begin, end, first, last)
        first = last


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


def is_row_file(path: Path) -> bool:
    """Whether a file has a sentence in a row; all others are column files."""
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    if suffix == ".json":
        raise InputError(f"{path}: a JSON document; give JSONL (an object a line), Parquet, CSV or a column file.")
    return suffix in _ROW_FILES


def _sentences_of(file: ColumnFile, tagged: bool) -> Iterator[tuple[list[str], list[str], Place]]:
    if tagged and file.sentences and len(file.sentences[0][0]) < 2:
        raise InputError(
            f"{file.path}, line {file.lines[0][0]}: one column, {file.sentences[0][0][0]!r}, where a word and its tag"
            " are expected."
        )
    for sentence, lines in zip(file.sentences, file.lines, strict=True):
        place = partial(_line_of, file.path, lines)
        tags = [columns[-1] for columns in sentence] if tagged else []
        _check_tags(tags, place)
        yield [columns[0] for columns in sentence], tags, place


def _line_of(path: Path, lines: Sequence[int], word: int) -> str:
    return f"{path}, line {lines[word]}"


def _sentence_in_row(
    rows: Rows, number: int, columns: Sequence[str], kinds: Sequence[str] | None
) -> tuple[list[str], list[str], Place]:
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


def _as_list(rows: Rows, number: int, column: str) -> list[Any]:
    value = rows.table.column(column)[number].as_py()
    if isinstance(value, str):
        return [part for part in value.split(" ") if part]
    if not isinstance(value, list):
        raise InputError(
            f"{rows.where(number)}: column '{column}' is {value!r}; it must be a list, or a text separated by spaces."
        )
    return value


def _named(tags: Sequence[Any], kinds: Sequence[str] | None, place: Place) -> list[str]:
    """Tags by name, also those that are numbers."""
    names = []
    for position, tag in enumerate(tags):
        if kinds is not None and isinstance(tag, str) and tag.isascii() and tag.isdecimal():
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
    _check_tags(names, place)
    return names


def _check_tags(tags: Sequence[str], place: Place) -> None:
    for position, tag in enumerate(tags):
        if not _TAG.fullmatch(tag):
            raise InputError(
                f"{place(position)}: {tag!r} is no tag; tags are O, or B- or I- before a type (IOB1 and IOB2)."
            )


def _checked_labels(names: Sequence[str]) -> list[str]:
    """The labels, where they are those of IOB2."""
    kinds = {name[2:] for name in names if name != "O"}
    expected = {"O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")}
    if not kinds or set(names) != expected or len(names) != len(expected):
        raise InputError(
            f"label_names is {list(names)}; it must hold O once, and B- and I- with every type, as in"
            " [O, B-PER, I-PER]."
        )
    return list(names)
