"""Labels for the words of a sentence, such as named entities and parts of speech, from one's own files or data sets."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from ernie_m.errors import InputError
from ernie_m.names import check_label

from .divisible import Divisible
from .labels import counted, position, say_case, united, warn_of_odd
from .reading import class_names
from .sentences import holds_rows, read_sentences
from .sources import Parts
from .splits import Split
from .store import labelled_sources
from .tags import NOT_LABELLED, are_spans, check_one_kind, check_tags, is_of_span, labels_of_tags, to_iob2
from .tokens import filling, lengths, prefix_ids, ragged
from .unlabelled import Sentence, as_columns, as_jsonl, check_names_free, sentences_to_label
from .word_windows import WordWindow, windows

if TYPE_CHECKING:
    from datasets import Dataset

IGNORED = -100
NO_WORD = -1
# The piece that stands for a blank.
_BLANK = "\u2581"

LabelledTokens = Literal["first", "all"]


class TokenLabels(Divisible):
    """Sentences whose words have a label, from column files, Parquet, JSONL or CSV.

    Column files are those of CoNLL-2002 and 2003 and of PAN-X: a word first and its tag last on each line, an empty
    line between sentences; `.conllu` files are those of Universal Dependencies. In the others a row is a sentence, with
    a column of words and one of tags: lists, or in CSV texts separated by spaces. Tags of spans (IOB, BIOES, BILOU) are
    read as the conlleval script does (an I- that follows no tag of its type begins an entity), and IOB2 from then on;
    others label each word by itself. Words whose tag is `_` or -100 are not labelled.

    Words are tokenised one by one; one that has no tokens becomes the unknown token, and where the first is a blank
    alone, as sentencepiece puts it before words of Chinese, it is left out. A sentence longer than
    `max_length` becomes several windows that overlap, and each of its words is predicted in exactly one of them.

    A batch holds what `TaskDataModule` says, a row being a window, and

    - `input_ids`, `attention_mask` (batch, length) int64,
    - `labels` (batch, length) int64: indices into `label_names`, -100 for tokens that have none,
    - `words` (batch, length) int64: on the first token of each word that the window predicts, the word's number in its
      sentence; -1 on all other tokens,
    - `sentence` (batch,) int64: the sentence's number in its file,
    - `normaliser`, in training: the labelled tokens of the global batch over the number of processes.

    Args:
        tokens_column: The words, in files with a sentence in a row.
        tags_column: Their tags, by name, or as numbers that a Parquet file or `label_names` has the names of. In
            `.conllu` files "xpos" or "deprel"; anything else is "upos".
        text_column: To predict on rows that have no words: texts, which are split into words by `split_words`.
        label_names: The names of tags in the order of their numbers. None for those that a Parquet file states, else
            all that occur in the training data, sorted.
        label_tokens: "first": each word's first token is labelled; "all": all its tokens, B- on the first alone, as in
            Baidu's code.
        args: What `Divisible` takes, as `kwargs`; `max_length` and the sizes of batches are those of windows.
        kwargs: See `args`.
    """

    prediction_formats: ClassVar[tuple[str, ...]] = (".conll", ".txt", ".jsonl")
    example_column: ClassVar[str | None] = "sentence"

    def __init__(
        self,
        *args: Any,
        tokens_column: str = "tokens",
        tags_column: str = "ner_tags",
        text_column: str = "text",
        label_names: list[str] | None = None,
        label_tokens: LabelledTokens = "first",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.tokens_column = tokens_column
        self.tags_column = tags_column
        self.text_column = text_column
        if label_names is not None:
            labels_of_tags(label_names)
        self._given_names = label_names
        self.label_tokens: LabelledTokens = label_tokens

    @cached_property
    def tag_names(self) -> list[str]:
        """The names of tags, in the order of their numbers. Where they were not given, the data are read for them."""
        return self._given_names or self._find_tag_names()

    @cached_property
    def label_names(self) -> list[str]:
        """What a network tells apart, in the order of its numbers: of spans, IOB2."""
        return labels_of_tags(self.tag_names)

    def read(self, split: str, language: str, parts: Parts) -> pa.Table:
        """Reads the words and, except for prediction, the labels as numbers."""
        columns: dict[str, pa.Array] = {}
        if split == Split.PREDICT:
            words = [sentence.words for part in parts for sentence in self._to_label(part)]
        else:
            words, labels = self._labelled(parts, f"{split}/{language}")
            columns["labels"] = pa.array(labels, type=pa.list_(pa.int32()))
        numbers = pa.array(range(len(words)), type=pa.int32())
        return pa.table({"sentence": numbers, "words": pa.array(words, type=pa.list_(pa.string())), **columns})

    def encode(self, table: pa.Table) -> pa.Table:
        """Tokenises word by word, and cuts long sentences into windows; `weight` counts labelled tokens."""
        sentences: list[list[str]] = table.column("words").to_pylist()
        tokens_of = self._tokenised(word for sentence in sentences for word in sentence)
        labels = table.column("labels").to_pylist() if "labels" in table.column_names else None
        columns: dict[str, list[Any]] = {name: [] for name in ("sentence", "input_ids", "words", "labels")}
        cut = 0
        for row, number in enumerate(table.column("sentence").to_pylist()):
            tokens = [tokens_of[word] for word in sentences[row]]
            cut += sum(len(ids) > self._room for ids in tokens)
            tokens = [ids[: self._room] for ids in tokens]
            for window in windows([len(ids) for ids in tokens], self._room):
                found = self._row(tokens, None if labels is None else labels[row], window)
                for name, values in found.items():
                    columns[name].append(values)
                columns["sentence"].append(number)
        if cut:
            rank_zero_warn(
                f"{cut} words have more tokens than fit into max_length {self.max_length}; their further tokens are"
                " left out, their labels are not."
            )
        lists = {name: ragged(columns[name]) for name in ("input_ids", "words", "labels")}
        weights = [sum(label != IGNORED for label in targets) for targets in columns["labels"]]
        return pa.table(
            {
                "sentence": pa.array(columns["sentence"], pa.int32()),
                **lists,
                "length": lengths(lists["input_ids"]),
                "weight": pa.array(weights, pa.int32()),
            }
        )

    def filling(self, split: str) -> dict[str, int | None]:
        """Each window's sentence, ids, first tokens of words, and labels."""
        ids = {"input_ids": filling(self.tokenizer)["input_ids"]}
        return {**ids, "words": NO_WORD, "labels": IGNORED, "sentence": None}

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The columns and the labels."""
        columns = [*self._columns(tagged=True), self.text_column]
        settings: dict[str, Any] = {"rows": "token labels", "columns": columns, "blank_pieces": False}
        if split != Split.PREDICT:
            settings |= {"tag_names": self.tag_names, "label_tokens": self.label_tokens}
        return settings

    def summary(self, rows: "Dataset") -> str:
        """Sentences, words and, where there are labels, the entities of each type, or the words with each label."""
        column = {name: rows.data.column(name).combine_chunks() for name in ("sentence", "words", "labels")}
        sentences = len(column["sentence"].unique())
        first = column["words"].flatten().to_numpy() != NO_WORD
        text = f"{sentences:,} sentences, {int(first.sum()):,} words"
        if len(rows) > sentences:
            text += f", {len(rows):,} windows"
        labels = column["labels"].flatten().to_numpy()[first]
        if (labels == IGNORED).all():
            return text
        if unlabelled := int((labels == IGNORED).sum()):
            text += f", {unlabelled:,} of them not labelled"
        if not self._spans:
            return f"{text}: {counted(labels.tolist(), self.label_names)}"
        names = [self.label_names[label] for label in labels.tolist() if label != IGNORED]
        entities = Counter(name.removeprefix("B-") for name in names if name.startswith("B-"))
        listed = ", ".join(f"{kind} {count:,}" for kind, count in sorted(entities.items()))
        return f"{text}, {entities.total():,} entities: {listed or 'none'}"

    def kept(self, split: str, language: str, rows: "Dataset") -> NDArray[np.int64] | None:
        """The part of a file that is divided."""
        return self.part(split, language, lambda: self._division(rows))

    def _division(self, rows: "Dataset") -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Of each window the rarest label in its sentence; the sentence."""
        labels = rows.data.column("labels").combine_chunks()
        values, window = labels.flatten().to_numpy(), labels.value_parent_indices().to_numpy()
        values, window = values[values != IGNORED], window[values != IGNORED]
        counts = np.bincount(values, minlength=len(self.label_names))
        sentences, place = np.unique(rows.data.column("sentence").to_numpy(), return_inverse=True)
        rarest = np.full(len(sentences), len(self.label_names), dtype=np.int64)
        np.minimum.at(rarest, place[window], np.argsort(np.argsort(counts, kind="stable"))[values])
        return rarest[place], place.astype(np.int64)

    def check_output(self, suffix: str) -> None:
        """Refuses rows that have a column which predictions in JSONL need."""
        if suffix == ".jsonl":
            for part in self._predicted():
                check_names_free(part)

    def predictions_as_text(self, tables: Mapping[str, pa.Table], suffix: str) -> str:
        """In JSONL the rows with words, labels and entities; else columns: those of the file, or words, and labels."""
        (language,) = self.split_languages(Split.PREDICT)
        found = tables[language]
        predictions = dict(
            zip(found.column("example_id").to_pylist(), found.column("predictions").to_pylist(), strict=True)
        )
        texts = []
        number = 0
        for part in self._predicted():
            sentences = list(self._to_label(part))
            # A sentence without words has no prediction.
            tags = [predictions.get(number + place, []) for place in range(len(sentences))]
            number += len(sentences)
            is_jsonl = suffix == ".jsonl"
            texts.append(as_jsonl(part, sentences, tags, self._spans) if is_jsonl else as_columns(sentences, tags))
        return "".join(texts)

    # The rest.

    @cached_property
    def _spans(self) -> bool:
        return are_spans(self.label_names)

    def _meaning(self, tag: str) -> str:
        """A tag as the labels spell it, where they have it in another case; else the tag."""
        letter, kind = (tag[:2], tag[2:]) if self._spans and is_of_span(tag) else ("", tag)
        if kind in ("O", NOT_LABELLED):
            return tag
        found = position(f"B-{kind}" if letter else kind, self.label_names)
        return tag if found < 0 else f"{letter}{self.label_names[found][len(letter) :]}"

    def _columns(self, tagged: bool) -> list[str]:
        return [self.tokens_column, self.tags_column] if tagged else [self.tokens_column]

    def _predicted(self) -> "list[Path | Dataset]":
        (language,) = self.split_languages(Split.PREDICT)
        return self.files(Split.PREDICT, language, download=False).parts

    def _to_label(self, part: "Path | Dataset") -> Iterator[Sentence]:
        return sentences_to_label(part, self.tokens_column, self.text_column)

    def _labelled(self, parts: Parts, name: str) -> tuple[list[list[str]], list[NDArray[np.int32]]]:
        """The words of sentences, and the numbers of their labels."""
        words: list[list[str]] = []
        labels: list[NDArray[np.int32]] = []
        numbers = {NOT_LABELLED: IGNORED, **{name: number for number, name in enumerate(self.label_names)}}
        # What each tag of the files means: itself, or a name of another case.
        meant: dict[str, str] = {}
        for sentence, tags, place in read_sentences(parts, self._columns(tagged=True), self.tag_names):
            words.append(sentence)
            meant |= {tag: self._meaning(tag) for tag in tags if tag not in meant}
            named = [meant[tag] for tag in tags]
            if self._spans:
                check_tags(named, place)
                named = to_iob2(named)
            if unknown := [word for word, name in enumerate(named) if name not in numbers]:
                raise InputError(
                    f"{place(unknown[0])}: unknown tag {tags[unknown[0]]!r}; known are {', '.join(self.label_names)}."
                )
            labels.append(np.asarray([numbers[name] for name in named], dtype=np.int32))
        say_case(meant.items(), name)
        return words, labels

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """What stands before the words, the prefix too, and behind them."""
        empty: list[int] = list(self.tokenizer("")["input_ids"])
        return [*empty[:1], *prefix_ids(self.tokenizer, self.prefix)], empty[1:]

    @cached_property
    def _room(self) -> int:
        """The tokens of words that fit into a window."""
        return self.max_length - sum(map(len, self._frame))

    def _tokenised(self, words: Iterable[str]) -> dict[str, list[int]]:
        """The ids of every word by itself; the unknown token where it has none."""
        distinct = list(dict.fromkeys(words))
        if not distinct:
            return {}
        ids = self.tokenizer(distinct, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        unknown = self.tokenizer.unk_token_id
        blank = self.tokenizer.convert_tokens_to_ids(_BLANK)
        # Before a word that running text has no blank before, sentencepiece's own stands for nothing, and its label
        # would be the word's: of most Chinese words.
        ids = [found[1:] if len(found) > 1 and found[0] == blank != unknown else found for found in ids]
        return {word: list(found) or [unknown] for word, found in zip(distinct, ids, strict=True)}

    def _row(
        self, tokens: Sequence[Sequence[int]], labels: Sequence[int] | None, window: WordWindow
    ) -> dict[str, list[int]]:
        opening, closing = self._frame
        ids, first, targets = list(opening), [NO_WORD] * len(opening), [IGNORED] * len(opening)
        for word in range(window.begin, window.end):
            count = len(tokens[word])
            ids += tokens[word]
            is_own = window.first <= word < window.last
            first += [word if is_own else NO_WORD] + [NO_WORD] * (count - 1)
            if labels is None or not is_own:
                targets += [IGNORED] * count
            else:
                is_continued = self.label_tokens == "all" and labels[word] != IGNORED
                rest = self._continued[labels[word]] if is_continued else IGNORED
                targets += [labels[word], *[rest] * (count - 1)]
        return {
            "input_ids": ids + closing,
            "words": first + [NO_WORD] * len(closing),
            "labels": targets + [IGNORED] * len(closing),
        }

    @cached_property
    def _continued(self) -> list[int]:
        """The label of a word's further tokens for each label of its first: I- behind B-."""
        names = self.label_names
        if not self._spans:
            return list(range(len(names)))
        return [names.index("I-" + name[2:]) if name.startswith("B-") else i for i, name in enumerate(names)]

    def _find_tag_names(self) -> list[str]:
        split, sources = labelled_sources(self)
        parts = [part for source in sources.values() for part in source.parts]
        stated = [class_names(part, self.tags_column) for part in parts if holds_rows(part)]
        if names := united(names for names in stated if names is not None):
            return names
        words, spans = ({language: Counter[str]() for language in sources} for _ in range(2))
        places: dict[str, str] = {}
        for language, source in sources.items():
            for _, tags, place in read_sentences(source.parts, self._columns(tagged=True), None):
                words[language].update(tag for tag in tags if tag != NOT_LABELLED)
                begun = to_iob2([tag for tag in tags if tag == "O" or is_of_span(tag)])
                spans[language].update(tag[2:] for tag in begun if tag.startswith("B-"))
                for word, tag in enumerate(tags):
                    if tag not in places and tag != NOT_LABELLED:
                        check_label(tag, partial(place, word))
                        places[tag] = place(word)
        if not places.keys() - {"O"}:
            raise InputError(
                f"{next(iter(sources.values())).first}: the {split} data have no tag but O; name the labels with"
                " label_names."
            )
        check_one_kind(places, sum(words.values(), Counter()))
        if not are_spans(places):
            warn_of_odd(words, places)
            if "O" in places:
                rank_zero_warn(
                    f"{places['O']}: tags are O and labels without B- and I-, so that each word is labelled and scored"
                    " by itself. Where they are names of several words, write B- before the label of the first and I-"
                    " before the others."
                )
            return sorted(places)
        first = {tag[2:]: places[tag] for tag in reversed(places) if tag != "O"}
        warn_of_odd(spans, first)
        return ["O", *(f"{letter}-{kind}" for kind in sorted(first) for letter in "BI")]
