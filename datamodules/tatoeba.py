"""Tatoeba: finding the translations of English sentences in 36 languages (Artetxe and Schwenk, 2019; XTREME)."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from ernie_m.errors import InputError, check_positive

from .parallel_text import ParallelText
from .sources import SAMPLES, Parts, Source, check_languages, find_source
from .splits import Split, splits_of
from .text_files import read_lines

if TYPE_CHECKING:
    from datasets import Dataset

CODES = {
    "af": "afr", "ar": "ara", "bg": "bul", "bn": "ben", "de": "deu", "el": "ell", "es": "spa", "et": "est", "eu": "eus",
    "fa": "pes", "fi": "fin", "fr": "fra", "he": "heb", "hi": "hin", "hu": "hun", "id": "ind", "it": "ita", "ja": "jpn",
    "jv": "jav", "ka": "kat", "kk": "kaz", "ko": "kor", "ml": "mal", "mr": "mar", "nl": "nld", "pt": "por", "ru": "rus",
    "sw": "swh", "ta": "tam", "te": "tel", "th": "tha", "tl": "tgl", "tr": "tur", "ur": "urd", "vi": "vie", "zh": "cmn",
}  # fmt: skip
"""XTREME's 36 languages, and what LASER's files call them."""

LANGUAGES = tuple(CODES)
_HELD_AGAINST_TEST = splits_of("fit")
_SIDES = ("source", "target")


class Tatoeba(ParallelText):
    """Tatoeba's test pairs as XTREME uses them, and pairs from elsewhere to train on.

    The test has at most 1,000 pairs a language. English is the source side, the other language the target side, in
    training too. The batch is that of `ParallelText`. Licence of the test data: CC BY 2.0 FR, tatoeba.org.

    Tatoeba's pairs are part of larger collections. A pair of the training or validation data with a sentence that also
    stands in the test data of one of `test_languages`, on either side, is left out, and a message says how many are.
    Sentences with the same token ids are the same.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        path: The test data: a folder of LASER's files (`tatoeba.<code>-eng.<code>` and `.eng`, a sentence a line, line
            by line translations), or a Hub data set, or folder, of the layout `tatoeba.<code>/validation-*.parquet`
            with `source_sentence` and, in English, `target_sentence`.
        test_languages: Languages to test on.
        train_path: Folder or Hub data set of the pairs to train and validate on, "bundled" for the sample that comes
            with the package; None where the patterns are paths of their own.
        train_revision: Its branch, tag or commit on the Hub.
        train_languages: Languages to train on beside English; none to test alone.
        validation_languages: Languages to validate on.
        train_files: The training files of a language below `train_path`: CSV, TSV, JSONL (also gzipped) or Parquet.
            `{language}` stands for its code, `{pair}` for the two codes in alphabetical order ("de-en", "en-fr"), `*`
            for anything.
        validation_files: The same for validation.
        source_column: Column of the English sentences; None for TSV files without header, whose first column it is.
            `a.b` is the field `b` of objects in column `a`; `{language}` stands for the other language.
        target_column: Column of the other language's, likewise; None together with `source_column`.
        max_train_pairs: At most so many training pairs of a language, evenly spread over its files; None for all.
        kwargs: What else `ParallelText` takes.
    """

    def __init__(
        self,
        tokenizer: str,
        path: str = "google/xtreme",
        *,
        test_languages: Sequence[str] = LANGUAGES,
        train_path: str | None = "Helsinki-NLP/opus-100",
        train_revision: str | None = None,
        train_languages: Sequence[str] = (),
        validation_languages: Sequence[str] = (),
        train_files: str = "{pair}/train-*.parquet",
        validation_files: str = "{pair}/validation-*.parquet",
        source_column: str | None = "translation.en",
        target_column: str | None = "translation.{language}",
        max_train_pairs: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_languages("Tatoeba", LANGUAGES, "test_languages", test_languages)
        check_positive(max_train_pairs=max_train_pairs)
        super().__init__(
            tokenizer,
            train_files=_patterns("train", train_files, train_languages),
            validation_files=_patterns("validation", validation_files, validation_languages),
            test_files={language: f"tatoeba.{CODES[language]}/validation-*.parquet" for language in test_languages},
            path=path,
            source_language="en",
            source_column=source_column,
            target_column=target_column,
            **kwargs,
        )
        self.train_path = str(SAMPLES / "parallel") if train_path == "bundled" else train_path
        self.train_revision = train_revision
        self.max_train_pairs = max_train_pairs
        self._left_out: dict[tuple[str, str], int] = {}

    def files(self, split: str, language: str, download: bool) -> Source:
        """What one split and language is read from; of LASER's files the English one first."""
        reference = self.reference(split, language)
        if split in _HELD_AGAINST_TEST and isinstance(reference, str):
            return find_source(self.train_path, reference, self.train_revision, download, split)
        folder = Path(self.path or "").expanduser()
        if split != Split.TEST or not folder.is_dir() or not isinstance(reference, str):
            return super().files(split, language, download)
        if any(folder.glob("tatoeba.*-eng.*")):
            start = f"tatoeba.{CODES[language]}-eng"
            files = [f"{start}.{side}" for side in ("eng", CODES[language])]
            found = [find_source(self.path, file, None, download, split) for file in files]
            return Source([part for side in found for part in side.parts], str(folder))
        if not any(folder.glob("tatoeba.*")):
            raise InputError(
                f"{folder} holds neither LASER's files (tatoeba.afr-eng.afr, tatoeba.afr-eng.eng and so on, in LASER's"
                " repository under data/tatoeba/v1) nor the Hub's (tatoeba.afr/validation-*.parquet)."
            )
        return super().files(split, language, download)

    def columns(self, split: str, language: str) -> list[str] | None:
        """The columns of the English and of the other side."""
        if split == Split.TEST:
            return ["target_sentence", "source_sentence"]
        return None if split == Split.PREDICT else super().columns(split, language)

    def read(self, split: str, language: str, parts: Parts) -> pa.Table:
        """Reads both sides; of the training data at most `max_train_pairs`.

        Raises:
            InputError: LASER's two files have different numbers of lines, among others.
        """
        files = [part for part in parts if isinstance(part, Path)]
        if split == Split.TEST and files and files[0].suffix != ".parquet":
            return _read_aligned(*files)
        table = super().read(split, language, parts)
        if split == Split.TRAIN and self.max_train_pairs is not None and self.max_train_pairs < table.num_rows:
            table = table.take(np.linspace(0, table.num_rows - 1, self.max_train_pairs).astype(np.int64))
        return table

    def settings(self, split: str, language: str) -> dict[str, object]:
        """The columns, and how many pairs to train on."""
        limit = {"max_train_pairs": self.max_train_pairs} if split == Split.TRAIN else {}
        return super().settings(split, language) | limit

    def kept(self, split: str, language: str, rows: "Dataset") -> NDArray[np.int64] | None:
        """The rows without those that have a sentence of the test data."""
        if split not in _HELD_AGAINST_TEST or not self.split_languages(Split.TEST):
            return None
        in_test = [np.isin(rows.data.column(f"{side}_key").to_numpy(), self._test_keys) for side in _SIDES]
        kept = np.flatnonzero(~np.logical_or(*in_test))
        self._left_out[split, language] = len(rows) - len(kept)
        if not len(kept):
            raise InputError(
                f"all {len(rows):,} {split} pairs of '{language}' have a sentence of the test data; take other pairs,"
                f" or leave {language} out."
            )
        return kept

    @cached_property
    def _test_keys(self) -> NDArray[np.int64]:
        """The keys of all sentences of the test data, on both sides."""
        rows = self.row_set(Split.TEST, self.split_languages(Split.TEST))
        return np.concatenate([rows.all_scalars(f"{side}_key") for side in _SIDES])

    def load(self, split: str, download: bool) -> None:
        """Loads a split, before one that is held against the test the test data, and says how many are left out."""
        if split not in _HELD_AGAINST_TEST or not self.split_languages(Split.TEST):
            super().load(split, download)
            return
        super().load(Split.TEST, download)
        known = set(self._left_out)
        super().load(split, download)
        found = {key[1]: count for key, count in self._left_out.items() if key not in known and count}
        if found:
            rank_zero_info(
                f"{split}: {sum(found.values()):,} pairs are left out, since a sentence of theirs is in the test data: "
                + ", ".join(f"{language} {count:,}" for language, count in found.items())
            )


def _patterns(split: str, template: str, languages: Sequence[str]) -> dict[str, str]:
    check_languages("Tatoeba", None, f"{split}_languages", languages)
    return {
        language: template.replace("{pair}", "-".join(sorted(("en", language)))).replace("{language}", language)
        for language in languages
    }


def _read_aligned(english: Path, other: Path) -> pa.Table:
    """Reads two files of which each line translates that of the other."""
    sides = [list(read_lines(path)) for path in (english, other)]
    if len(sides[0]) != len(sides[1]):
        raise InputError(
            f"{english} has {len(sides[0]):,} lines and {other} {len(sides[1]):,}; each line must translate that of the"
            " other file. Fetch both again."
        )
    return pa.table([pa.array(side, pa.string()) for side in sides], names=["source", "target"])
