"""Tatoeba: finding the translations of English sentences in 36 languages (Artetxe and Schwenk, 2019; XTREME)."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from ernie_m.errors import InputError

from .cache import ArrowRows
from .parallel_text import ParallelText
from .reading import read_lines
from .sources import SAMPLES, check_languages, find_files

CODES = {
    "af": "afr", "ar": "ara", "bg": "bul", "bn": "ben", "de": "deu", "el": "ell", "es": "spa", "et": "est", "eu": "eus",
    "fa": "pes", "fi": "fin", "fr": "fra", "he": "heb", "hi": "hin", "hu": "hun", "id": "ind", "it": "ita", "ja": "jpn",
    "jv": "jav", "ka": "kat", "kk": "kaz", "ko": "kor", "ml": "mal", "mr": "mar", "nl": "nld", "pt": "por", "ru": "rus",
    "sw": "swh", "ta": "tam", "te": "tel", "th": "tha", "tl": "tgl", "tr": "tur", "ur": "urd", "vi": "vie", "zh": "cmn",
}  # fmt: skip
"""XTREME's 36 languages, and what LASER's files call them."""

LANGUAGES = tuple(CODES)
_HELD_AGAINST_TEST = ("train", "validation")


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
        revision: Branch, tag or commit of `path` on the Hub.
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
        one_language_per_batch: Whether a training batch holds one language's pairs, which makes the counter-examples
            harder; otherwise languages are mixed.
        predict_path: File of pairs to predict on: TSV without header, or JSONL or Parquet with `source` and `target`.
        predict_language: The language of its targets, one of the others; None for the first.
        max_length: Tokens after which a sentence is cut, special tokens included.
        global_batch_size: Pairs of one optimiser step, over all devices.
        eval_tokens_per_batch: Rows times longest row of an evaluation batch, both sides together.
        seed: With the epoch it fixes the order of the training data.
        num_workers: Processes that prepare training batches.
        cache_dir: Folder of the tokenised data; None for the user's cache folder.
        trust_remote_code: Whether to run tokenizer code that a folder or Hub repository carries.
    """

    def __init__(
        self,
        tokenizer: str,
        path: str = "google/xtreme",
        revision: str | None = None,
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
        one_language_per_batch: bool = False,
        predict_path: str | None = None,
        predict_language: str | None = None,
        max_length: int = 512,
        global_batch_size: int = 32,
        eval_tokens_per_batch: int = 16384,
        seed: int = 1,
        num_workers: int = 0,
        cache_dir: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        check_languages("Tatoeba", LANGUAGES, "test_languages", test_languages)
        if max_train_pairs is not None and max_train_pairs < 1:
            raise InputError(f"max_train_pairs is {max_train_pairs}; it must be at least 1.")
        super().__init__(
            tokenizer,
            train_files=_patterns("train", train_files, train_languages),
            validation_files=_patterns("validation", validation_files, validation_languages),
            test_files={language: f"tatoeba.{CODES[language]}/validation-*.parquet" for language in test_languages},
            path=path,
            revision=revision,
            source_column=source_column,
            target_column=target_column,
            one_language_per_batch=one_language_per_batch,
            predict_path=predict_path,
            predict_language=predict_language,
            max_length=max_length,
            global_batch_size=global_batch_size,
            eval_tokens_per_batch=eval_tokens_per_batch,
            seed=seed,
            num_workers=num_workers,
            cache_dir=cache_dir,
            trust_remote_code=trust_remote_code,
        )
        self.train_path = str(SAMPLES / "parallel") if train_path == "bundled" else train_path
        self.train_revision = train_revision
        self.max_train_pairs = max_train_pairs
        self._left_out: dict[tuple[str, str], int] = {}

    def files(self, split: str, language: str, download: bool) -> tuple[list[Path], str]:
        """The files of one split and language; of LASER's the English one first."""
        if split in _HELD_AGAINST_TEST:
            return find_files(self.train_path, self._files[split][language], self.train_revision, download)
        folder = Path(self.path or "").expanduser()
        if split != "test" or not folder.is_dir():
            return super().files(split, language, download)
        if any(folder.glob("tatoeba.*-eng.*")):
            start = f"tatoeba.{CODES[language]}-eng"
            sides = [find_files(self.path, f"{start}.{side}", None, download)[0] for side in ("eng", CODES[language])]
            return [path for paths in sides for path in paths], str(folder)
        if not any(folder.glob("tatoeba.*")):
            raise InputError(
                f"{folder} holds neither LASER's files (tatoeba.afr-eng.afr, tatoeba.afr-eng.eng and so on, in LASER's"
                " repository under data/tatoeba/v1) nor the Hub's (tatoeba.afr/validation-*.parquet)."
            )
        return super().files(split, language, download)

    def columns(self, split: str, language: str) -> list[str] | None:
        """The columns of the English and of the other side."""
        if split == "test":
            return ["target_sentence", "source_sentence"]
        return None if split == "predict" else super().columns(split, language)

    def read(self, split: str, language: str, paths: list[Path]) -> pa.Table:
        """Reads both sides; of the training data at most `max_train_pairs`.

        Raises:
            InputError: LASER's two files have different numbers of lines, among others.
        """
        if split == "test" and paths[0].suffix != ".parquet":
            return _read_aligned(*paths)
        table = super().read(split, language, paths)
        if split == "train" and self.max_train_pairs is not None and self.max_train_pairs < table.num_rows:
            table = table.take(np.linspace(0, table.num_rows - 1, self.max_train_pairs).astype(np.int64))
        return table

    def settings(self, split: str, language: str) -> dict[str, object]:
        """The columns, and how many pairs to train on."""
        limit = {"max_train_pairs": self.max_train_pairs} if split == "train" else {}
        return super().settings(split, language) | limit

    def chosen(self, split: str, language: str, rows: ArrowRows) -> ArrowRows:
        """The rows without those that have a sentence of the test data."""
        if split not in _HELD_AGAINST_TEST or not self.split_languages("test"):
            return rows
        in_test = [np.isin(rows.scalars(f"{side}_key"), self._test_keys) for side in ("source", "target")]
        kept = np.flatnonzero(~np.logical_or(*in_test))
        self._left_out[split, language] = len(rows) - len(kept)
        if len(rows) and not len(kept):
            raise InputError(
                f"all {len(rows):,} {split} pairs of '{language}' have a sentence of the test data; take other pairs,"
                f" or leave {language} out."
            )
        return ArrowRows(rows.path, kept)

    @cached_property
    def _test_keys(self) -> NDArray[np.int64]:
        """The keys of all sentences of the test data, on both sides."""
        rows = self.row_set("test", self.split_languages("test"))
        return np.concatenate([rows.all_scalars(f"{side}_key") for side in ("source", "target")])

    def _load(self, split: str, download: bool) -> None:
        if split not in _HELD_AGAINST_TEST or not self.split_languages("test"):
            super()._load(split, download)
            return
        super()._load("test", download)
        new = [language for language in self.split_languages(split) if (split, language) not in self._rows]
        super()._load(split, download)
        found = {language: count for language in new if (count := self._left_out[split, language])}
        if found:
            rank_zero_info(
                f"{split}: {sum(found.values()):,} pairs are left out, since a sentence of theirs is in the test data: "
                + ", ".join(f"{language} {count:,}" for language, count in found.items())
            )


def _patterns(split: str, template: str, languages: Sequence[str]) -> dict[str, str]:
    if len(set(languages)) != len(languages):
        raise InputError(f"{split}_languages names a language twice: {', '.join(languages)}.")
    return {
        language: template.replace("{pair}", "-".join(sorted(("en", language)))).replace("{language}", language)
        for language in languages
    }


def _read_aligned(english: Path, other: Path) -> pa.Table:
    """Reads two files of which each line translates that of the other."""
    sides = [read_lines(path) for path in (english, other)]
    if len(sides[0]) != len(sides[1]):
        raise InputError(
            f"{english} has {len(sides[0]):,} lines and {other} {len(sides[1]):,}; each line must translate that of the"
            " other file. Fetch both again."
        )
    return pa.table([pa.array(side, pa.string()) for side in sides], names=["source", "target"])
