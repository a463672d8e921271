"""TyDiQA-GoldP: extractive question answering in 9 languages, asked in each (Clark et al., 2020; XTREME)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ernie_m.errors import InputError

from .extractive_questions import ExtractiveQuestions
from .questions import Question
from .sources import Parts, Source, check_languages, find_source
from .splits import Split
from .squad import find_translated

NAMES = {
    "en": "english", "ar": "arabic", "bn": "bengali", "fi": "finnish", "id": "indonesian", "ko": "korean",
    "ru": "russian", "sw": "swahili", "te": "telugu",
}  # fmt: skip
"""The languages in the order of XTREME's evaluate.py, and what ids begin with."""

LANGUAGES = tuple(NAMES)
# Official files of a split, the most complete first: all languages in one, one each, and what XTREME's script makes.
_OFFICIAL = {
    "train": (
        "tydiqa-goldp-v1.1-train.json",
        "tydiqa.goldp.{language}.train.json",
        "tydiqa-goldp-v1.1-train/tydiqa.goldp.{language}.train.json",
    ),
    "test": (
        "tydiqa-goldp-v1.1-dev.json",
        "tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-{name}.json",
        "tydiqa-goldp-v1.1-dev/tydiqa.goldp.{language}.dev.json",
    ),
}
_TRANSLATED = "tydiqa.translate.train.en-{}.json"
_HUB = {"train": "tydiqa/train-*.parquet", "test": "tydiqa/validation-*.parquet"}


class TyDiQA(ExtractiveQuestions):
    """TyDiQA's gold passages from the official files or the Hub.

    Training has 49,881 questions, 3,696 of them English; the 5,077 of the development set are the test, as in XTREME,
    so that there is nothing to validate on; `validation_files` may name other questions below `path`.

    All languages lie in one file, where the language is what an id begins with (`arabic-...`), or in files of their
    own: a question whose id begins with another language's name is left out. They are read from a folder with the
    official JSON (`tydiqa-goldp-v1.1-train.json`, `tydiqa-goldp-v1.1-dev.json` or
    `tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-arabic.json`, also `tydiqa.goldp.ar.train.json` as XTREME names it), or with
    the Hub's Parquet (`tydiqa/validation-*.parquet`). The batch is that of `ExtractiveQuestions`. `languages` holds all
    9, whichever are used. Licence of the data: Apache 2.0.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        path: Folder of the official files, or Hub id or folder of the Hub's layout.
        train_languages: Languages to train on; several are mixed within batches.
        translations_path: Folder of XTREME's machine translations of the English training questions,
            `tydiqa.translate.train.en-ar.json`, which the other languages are then trained on instead of their own;
            not all of its answers stand where they say (`on_bad_answer: skip`).
        test_languages: Languages to test on.
        kwargs: What else `ExtractiveQuestions` takes.
    """

    known_languages: ClassVar[tuple[str, ...]] = LANGUAGES

    def __init__(
        self,
        tokenizer: str,
        path: str = "google/xtreme",
        train_languages: Sequence[str] = ("en",),
        translations_path: str | None = None,
        test_languages: Sequence[str] = LANGUAGES,
        **kwargs: Any,
    ) -> None:
        check_languages("TyDiQA", LANGUAGES, "train_languages", train_languages)
        check_languages("TyDiQA", LANGUAGES, "test_languages", test_languages)
        super().__init__(
            tokenizer,
            train_files={
                language: _HUB["train"]
                if language == "en" or translations_path is None
                else _TRANSLATED.format(language)
                for language in train_languages
            },
            test_files=dict.fromkeys(test_languages, _HUB["test"]),
            path=path,
            id_column="id",
            context_column="context",
            question_column="question",
            answers_column="answers",
            answer_column=None,
            answer_start_column=None,
            **kwargs,
        )
        self.translations_path = translations_path

    def files(self, split: str, language: str, download: bool) -> Source:
        """What one split and language is read from: an official file, or those of the Hub's layout."""
        reference = self.reference(split, language)
        if split not in _OFFICIAL or not isinstance(reference, str):
            return super().files(split, language, download)
        if self._is_translated(split, language):
            return find_translated(self.translations_path, reference)
        folder = Path(self.path or "").expanduser()
        official = [file.format(language=language, name=NAMES[language]) for file in _OFFICIAL[Split(split)]]
        for file in official:
            if (folder / file).is_file():
                return find_source(self.path, file, None, download, split)
        try:
            return super().files(split, language, download)
        except InputError as error:
            if not folder.is_dir():
                raise
            raise InputError(f"{folder} holds none of {', '.join(official)}, and {error}") from error

    def _is_translated(self, split: str, language: str) -> bool:
        return split == Split.TRAIN and language != "en" and self.translations_path is not None

    def questions_of(self, split: str, language: str, parts: Parts) -> list[Question]:
        """Reads the questions of one language; those of a file that a recipe or a command names are all taken."""
        found = super().questions_of(split, language, parts)
        # A translated question keeps its id.
        if split not in _OFFICIAL or self._is_translated(split, language):
            return found
        others = {name for name in NAMES.values() if name != NAMES[language]}
        return [question for question in found if question.id.partition("-")[0] not in others]

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The settings of questions, and which language is taken of a file that has several."""
        return super().settings(split, language) | {"language": language}
