"""XQuAD: extractive question answering in 11 languages (Artetxe et al., 2020), trained on SQuAD."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ernie_m.errors import InputError

from .extractive_questions import ExtractiveQuestions
from .sources import Source, check_languages, find_source
from .splits import Split
from .squad import find_squad, find_translated, train_files

# In the order of XTREME's evaluate.py.
LANGUAGES = ("en", "es", "de", "el", "ru", "tr", "ar", "vi", "th", "zh", "hi")


class XQuAD(ExtractiveQuestions):
    """XQuAD from its official files or the Hub, with SQuAD to train on.

    Each language has the same 1,190 questions, translated from SQuAD's development set, and they are the test: there is
    nothing to validate on, since SQuAD's development set holds the English ones; `validation_files` may name other
    questions below `path`, such as MLQA's. They are read from a folder with the
    official JSON, `xquad.de.json`, or with the Hub's Parquet, `XQuAD.de/validation-*.parquet`. The batch is that of
    `ExtractiveQuestions`. `languages` holds all 11, whichever are used. Licence of the data: CC BY-SA 4.0, SQuAD too.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        path: Folder of the official files, or Hub id or folder of the Hub's layout.
        train_path: SQuAD v1.1 to train on: a Hub id, a folder of its layout (`plain_text/train-*.parquet`), or a file
            in SQuAD's JSON.
        train_revision: Branch, tag or commit of `train_path` on the Hub.
        train_languages: The language of `train_path`, and behind it those to be read from `translations_path`.
        translations_path: Folder of XTREME's machine translations of SQuAD, `squad.translate.train.en-de.json`, whose
            answers do not all stand where they say (`on_bad_answer: skip`).
        test_languages: Languages to test on.
        kwargs: What else `ExtractiveQuestions` takes.
    """

    known_languages: ClassVar[tuple[str, ...]] = LANGUAGES

    def __init__(
        self,
        tokenizer: str,
        path: str = "google/xtreme",
        train_path: str = "rajpurkar/squad",
        train_revision: str | None = None,
        train_languages: Sequence[str] = ("en",),
        translations_path: str | None = None,
        test_languages: Sequence[str] = LANGUAGES,
        **kwargs: Any,
    ) -> None:
        check_languages("XQuAD", LANGUAGES, "test_languages", test_languages)
        super().__init__(
            tokenizer,
            train_files=train_files(train_languages, train_path, translations_path),
            test_files={language: f"XQuAD.{language}/validation-*.parquet" for language in test_languages},
            path=path,
            id_column="id",
            context_column="context",
            question_column="question",
            answers_column="answers",
            answer_column=None,
            answer_start_column=None,
            **kwargs,
        )
        self.train_path = train_path
        self.train_revision = train_revision
        self.translations_path = translations_path

    def files(self, split: str, language: str, download: bool) -> Source:
        """What one split and language is read from: SQuAD, the official file, or those of the Hub's layout."""
        reference = self.reference(split, language)
        if split == Split.TRAIN and isinstance(reference, str):
            if reference == self.train_path:
                return find_squad(self.train_path, self.train_revision, download)
            return find_translated(self.translations_path, reference)
        if split != Split.TEST or not isinstance(reference, str):
            return super().files(split, language, download)
        folder, official = Path(self.path or "").expanduser(), f"xquad.{language}.json"
        if (folder / official).is_file():
            return find_source(self.path, official, None, download, split)
        try:
            return super().files(split, language, download)
        except InputError as error:
            if not folder.is_dir():
                raise
            raise InputError(f"{folder} holds no {official}, and {error}") from error
