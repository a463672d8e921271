"""Text of many languages, and pairs of translations, to pre-train on."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray

from ernie_m.errors import InputError, check_positive

from .base import TaskDataModule
from .batching import TrainBatchSampler
from .loading import RowSet
from .mixture import MixtureSampler
from .packing import SPECIAL, fitting, packed, plain_ids, token_kinds
from .reading import rows_in_parts, texts_of
from .sources import SAMPLES, Parts, Reference, Source, find_source
from .splits import Split
from .tokens import filling, lengths, ragged

if TYPE_CHECKING:
    from datasets import Dataset


# Something to read: no blanks, controls or characters without width alone.
_TEXT = r"[\pL\pM\pN\pP\pS]"


class Multilingual(TaskDataModule):
    """Texts and pairs of translations, from plain text, CSV, TSV, JSONL (also gzipped), Parquet, Arrow or the Hub.

    A batch holds what `TaskDataModule` says, `input_ids` and `attention_mask` (batch, length) int64, and `target_start`
    (batch,) int64: the place of the first token behind the separator that closes a pair's first sentence, the row's
    length where it is one text. `languages` are those of texts ("de") and of pairs ("en-de"). An example's weight in
    `normaliser` is its number of ordinary tokens.

    Every line of a file is a text. Texts are packed: a row holds as many successive lines as fit, each closed by a
    separator; a line longer than a row is spread over several. A pair longer than a row is cut to its first sentences,
    equally many on both sides; how many pairs that were is said when they are loaded. Lines without text are skipped,
    and counted.

    What is read lies in files on the disk and never in memory as a whole; an epoch's order takes some tens of bytes a
    row.

    Args:
        path: Folder or Hub data set that the files lie in, or "bundled" for the sample that comes with the package;
            None where they are paths of their own.
        train_files: Language to texts: files, patterns or folders, or arguments of `load_dataset`, as in all data
            modules; a file whose name ends in `.txt` or `.txt.gz` has a text on each line.
        validation_files: The same for validation.
        test_files: The same for test.
        pairs_path: Folder or Hub data set that the files of pairs lie in; that of `path` where null.
        train_pairs: "en-de" to pairs of English and German: TSV without header, or files with the columns named below.
        validation_pairs: The same for validation.
        test_pairs: The same for test.
        held_out: Share of the training texts and pairs to validate on instead, for languages that have no data for
            that. Which they are is told by a hash of the text, the source of a pair: the same text never is in both.
        text_column: Column of the texts, in files that have columns: its name, or in CSV and TSV files without header
            its number, from 1. Where languages differ, language to column.
        source_column: Column of the first sentences of pairs; None for TSV files without header, whose first column it
            is. `a.b` is the field `b` of objects in column `a`; `{source}` and `{target}` stand for the languages.
        target_column: Column of the second sentences, likewise; None together with `source_column`.
        max_lines: At most so many lines of a language's training data are used, its first ones; all where null.
        pack: Whether a row holds several lines.
        pair_share: Share of pairs in a training batch, where there are texts too.
        alpha: How much a language's size counts: it is drawn in proportion to its rows to the power of `alpha`. 0.5 is
            XLM's (Conneau and Lample, 2019), 0.3 XLM-R's.
        streaming: Read data sets of the Hub while they come, without keeping their own files.
        args: What `TaskDataModule` takes, as `kwargs`. `prefix` stands before every line, and before both sentences.
        kwargs: See `args`.
    """

    # Lines may be whole articles.
    rows_at_once = 1024

    def __init__(
        self,
        *args: Any,
        path: str | None = None,
        train_files: Mapping[str, Reference] | None = None,
        validation_files: Mapping[str, Reference] | None = None,
        test_files: Mapping[str, Reference] | None = None,
        pairs_path: str | None = None,
        train_pairs: Mapping[str, Reference] | None = None,
        validation_pairs: Mapping[str, Reference] | None = None,
        test_pairs: Mapping[str, Reference] | None = None,
        held_out: float = 0.0,
        text_column: str | int | dict[str, str | int] = "text",
        source_column: str | None = None,
        target_column: str | None = None,
        max_lines: int | None = None,
        pack: bool = True,
        pair_share: float = 0.5,
        alpha: float = 0.5,
        streaming: bool = False,
        **kwargs: Any,
    ) -> None:
        self.held_out = held_out
        if kwargs.get("predict_path") is not None:
            raise InputError(
                "A pre-training predicts no file. Its export completes texts in transformers' fill-mask pipeline, and"
                " tasks are fine-tuned from it, as --model.backbone."
            )
        super().__init__(  # type: ignore[misc]
            *args,
            path=str(SAMPLES / "parallel") if path == "bundled" else path,
            train_files=_joined("train", train_files, train_pairs),
            validation_files=_joined("validation", validation_files, validation_pairs),
            test_files=_joined("test", test_files, test_pairs),
            predict_language=None,
            **kwargs,
        )
        for name, value in (("held_out", held_out), ("pair_share", pair_share), ("alpha", alpha)):
            if not 0 <= value <= 1 or (value == 1 and name != "alpha"):
                raise InputError(f"{name} is {value}; it must lie between 0 and 1.")
        if (source_column is None) != (target_column is None):
            raise InputError(
                f"source_column is {source_column!r} and target_column is {target_column!r}; name both, or neither for"
                " TSV files without a header."
            )
        check_positive(max_lines=max_lines)
        if isinstance(text_column, Mapping) and (
            lacks := [name for name in train_files or () if name not in text_column]
        ):
            raise InputError(f"text_column names no column for '{lacks[0]}': {dict(text_column)}.")
        self.max_lines = max_lines
        self.pairs_path = str(SAMPLES / "parallel") if pairs_path == "bundled" else pairs_path
        self.text_column = text_column
        self.source_column = source_column
        self.target_column = target_column
        self.pack = pack
        self.pair_share = pair_share
        self.alpha = alpha
        self.streaming = streaming

    def _use(self, files: Mapping[Split, "Mapping[str, Reference | Dataset] | None"]) -> None:
        train, validation = files.get(Split.TRAIN) or {}, files.get(Split.VALIDATION) or {}
        self._held_out = {name for name in train if self.held_out and name not in validation}
        held_out = {name: train[name] for name in train if name in self._held_out}
        super()._use({**files, Split.VALIDATION: {**validation, **held_out}})

    # What the task asks.

    @cached_property
    def mask_token_id(self) -> int:
        """The id of the mask.

        Raises:
            InputError: The tokenizer has none, or none that opens a row or separates sentences.
        """
        ids = {name: getattr(self.tokenizer, f"{name}_token_id") for name in ("mask", "cls", "sep")}
        if lacks := [name for name, value in ids.items() if not isinstance(value, int)]:
            raise InputError(f"The tokenizer '{self.tokenizer_name}' has no {lacks[0]} token; pre-training needs one.")
        return int(ids["mask"])

    @cached_property
    def pair_separators(self) -> int:
        """How many separators stand between the sentences of a pair."""
        return self.tokenizer.num_special_tokens_to_add(pair=True) - 2

    def token_kinds(self) -> NDArray[np.int8]:
        """What each id of the vocabulary is: 0 a special token, 1 a part of a word, 2 a word's beginning."""
        return self._token_kinds

    @cached_property
    def _token_kinds(self) -> NDArray[np.int8]:
        return token_kinds(self.tokenizer)

    # What the base asks.

    def files(self, split: str, language: str, download: bool) -> Source:
        """What the rows of one split and language are read from; held-out rows from the training data."""
        found = Split.TRAIN if language in self._held_out else Split(split)
        reference = self.reference(split, language)
        root = self.pairs_path if self.pairs_path is not None and is_pair(language) else self.path
        return find_source(root, reference, self.revision, download, found, streaming=self.streaming)

    def may_be_empty(self, split: str, language: str) -> bool:
        """Whether a language may have no rows: of few texts none may be held out."""
        return super().may_be_empty(split, language) or (split == Split.VALIDATION and language in self._held_out)

    def columns(self, language: str) -> tuple[list[str], bool | None]:
        """The columns to read, and whether the first line names them; None where they are numbers."""
        if not is_pair(language):
            found = self.text_column[language] if isinstance(self.text_column, Mapping) else self.text_column
            # A number that is typed on the command line is text.
            return [str(found)], None if str(found).isdecimal() else True
        if self.source_column is None or self.target_column is None:
            return ["source", "target"], False
        source, target = language.split("-")
        pattern = (self.source_column, self.target_column)
        return [name.replace("{source}", source).replace("{target}", target) for name in pattern], True

    def read(self, split: str, language: str, parts: Parts) -> Iterator[pa.Table]:
        """Reads the texts, or both sides of the pairs, that are in the split."""
        columns, header = self.columns(language)
        names = ["source", "target"] if is_pair(language) else ["text"]
        held_out = language in self._held_out
        limit = self._limit(split, language)
        empty = taken = seen = kept = 0
        for rows in rows_in_parts(parts, columns, header, self.rows_at_once):
            # Parts of a file may have them in either kind of Arrow's strings.
            table = pa.table([texts_of(rows, column).cast(pa.large_string()) for column in columns], names=names)
            found = [pc.match_substring_regex(column, _TEXT) for column in table.columns]
            has_text = found[0] if len(found) == 1 else pc.and_(*found)
            empty += table.num_rows - pc.sum(has_text).as_py() if table.num_rows else 0
            table = table.filter(has_text)
            if limit is not None:
                table = table.slice(0, limit - taken)
                taken += table.num_rows
            seen += table.num_rows
            if held_out:
                table = table.filter(pa.array(self._is_in(split, table.column(0))))
            kept += table.num_rows
            yield table
            if taken == limit:
                break
        if held_out and split == Split.TRAIN and seen and not kept:
            rank_zero_warn(f"{language}: all {seen:,} texts are held out for validation")
        if empty:
            rank_zero_info(f"{split}/{language}: {empty:,} lines without text are skipped")

    def _limit(self, split: str, language: str) -> int | None:
        """How many lines are used; None for all."""
        return self.max_lines if split == Split.TRAIN or language in self._held_out else None

    def _is_in(self, split: str, texts: pa.ChunkedArray) -> NDArray[np.bool_]:
        hashes = (int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) for text in texts.to_pylist())
        held_out = np.fromiter(hashes, dtype=np.uint64, count=len(texts)) < self.held_out * 2.0**64
        return held_out if split == Split.VALIDATION else ~held_out

    def encode(self, table: pa.Table) -> pa.Table:
        """Tokenises and packs lines, or joins pairs, of which `cut` tells those that were longer than a row."""
        rows, starts, cut = self._pairs(table) if table.num_columns == 2 else self._texts(table)
        ids = ragged(rows)
        is_ordinary = self._token_kinds[ids.values.to_numpy()] != SPECIAL
        weights = np.add.reduceat(is_ordinary, ids.offsets.to_numpy()[:-1], dtype=np.int32)
        return pa.table(
            {
                "input_ids": ids,
                "length": lengths(ids),
                "target_start": pa.array(starts, pa.int32()),
                "weight": pa.array(weights, pa.int32()),
                "cut": pa.array(cut, pa.bool_()),
            }
        )

    def _texts(self, table: pa.Table) -> tuple[list[list[int]], list[int], list[bool]]:
        """Rows of lines, their lengths, and that none is cut."""
        lines = plain_ids(self.tokenizer, [self.prefix + text for text in table.column("text").to_pylist()])
        special = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        together = [lines] if self.pack else [[line] for line in lines]
        rows = [row for some in together for row in packed(some, *special, self.max_length)]
        return rows, [len(row) for row in rows], [False] * len(rows)

    def _pairs(self, table: pa.Table) -> tuple[list[list[int]], list[int], list[bool]]:
        """Rows of pairs, where the second sentence of each begins, and whether it was cut."""
        texts = [[self.prefix + text for text in table.column(name).to_pylist()] for name in ("source", "target")]
        ids = [plain_ids(self.tokenizer, side) for side in texts]
        room = self.max_length - self.pair_separators - 2
        cut = [len(first) + len(second) > room for first, second in zip(*ids, strict=True)]
        for row in np.flatnonzero(cut).tolist():
            ids[0][row], ids[1][row] = fitting(self.tokenizer, texts[0][row], texts[1][row], room)
        cls, sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        between = [sep] * self.pair_separators
        rows = [[cls, *first, *between, *second, sep] for first, second in zip(*ids, strict=True)]
        return rows, [len(first) + 2 for first in ids[0]], cut

    def filling(self, split: str) -> dict[str, int | None]:
        """The ids, and where the second sentence begins."""
        return {"input_ids": filling(self.tokenizer)["input_ids"], "target_start": None}

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The columns, the packing and what is held out."""
        held_out = [split, self.held_out] if language in self._held_out else None
        return {
            "rows": "multilingual",
            "columns": self.columns(language),
            "pack": self.pack,
            "held_out": held_out,
            "max_lines": self._limit(split, language),
        }

    def summary(self, rows: "Dataset") -> str:
        """How many pairs were cut."""
        cut = pc.sum(rows.data.column("cut")).as_py()
        return (
            f"{cut:,} of {len(rows):,} pairs were longer than max_length {self.max_length} and are cut" if cut else ""
        )

    def train_sampler(self, rows: RowSet, rank: int, world_size: int, **plan: Any) -> TrainBatchSampler:
        """Mixes texts and pairs, and languages."""
        return MixtureSampler(
            rows.all_scalars("length"),
            self.global_batch_size,
            self.micro_batch_size,
            self.seed,
            rank,
            world_size,
            micro_batch_tokens=self.micro_batch_tokens,
            longest_first=self._longest_first,
            example_weights=rows.all_scalars("weight"),
            part_of=rows.part_of(np.arange(len(rows))),
            is_pair=[is_pair(language) for language in self.train_languages],
            pair_share=self.pair_share,
            alpha=self.alpha,
            **plan,
        )


def is_pair(language: str) -> bool:
    """Whether a language is a pair of two: "en-de"."""
    return "-" in language


def _joined(
    split: str, texts: Mapping[str, Reference] | None, pairs: Mapping[str, Reference] | None
) -> dict[str, Reference]:
    """Texts and pairs as one, refused where a name is not of its kind."""
    if wrong := next((name for name in texts or () if is_pair(name)), None):
        raise InputError(
            f"{split}_files names '{wrong}'; a language of texts has no '-' (write '{wrong.replace('-', '_')}'), and"
            f" pairs of translations are named by {split}_pairs."
        )
    if wrong := next((name for name in pairs or () if len(name.split("-")) != 2 or not all(name.split("-"))), None):
        raise InputError(f"{split}_pairs names '{wrong}'; a pair is two languages with a '-' between, such as 'en-de'.")
    return {**(texts or {}), **(pairs or {})}
