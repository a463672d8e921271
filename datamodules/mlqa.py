"""MLQA: extractive question answering in 7 languages (Lewis et al., 2020), trained on SQuAD."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from ernie_m.errors import InputError

from .extractive_questions import ExtractiveQuestions
from .sources import Source, check_languages, find_source
from .splits import Split
from .squad import find_squad, find_translated, train_files

# In the order of the model card.
LANGUAGES = ("en", "es", "de", "ar", "hi", "vi", "zh")
PAIRS = (*LANGUAGES, *(f"{context}-{asked}" for context in LANGUAGES for asked in LANGUAGES if context != asked))


class MLQA(ExtractiveQuestions):
    """MLQA from its official files or the Hub, with SQuAD to train on.

    A language such as "de" stands for German questions on German contexts, "de-en" for English questions on German
    contexts: 49 pairs in all, each with a development and a test set (English: 1,148 and 11,590 questions). They are
    read from a folder with the official JSON, `test/test-context-de-question-en.json`, or with the Hub's Parquet,
    `MLQA.de.en/test-*.parquet`. The batch is that of `ExtractiveQuestions`. `languages` holds all 49, whichever are
    used. Licence of the data: CC BY-SA 3.0 (MLQA), CC BY-SA 4.0 (SQuAD).

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        path: Folder of the official files, or Hub id or folder of the Hub's layout. `facebook/mlqa` itself is a
            script, which no current `datasets` runs; `google/xtreme` holds the same questions.
        train_path: SQuAD v1.1 to train on: a Hub id, a folder of its layout (`plain_text/train-*.parquet`), or a file
            in SQuAD's JSON.
        train_revision: Branch, tag or commit of `train_path` on the Hub.
        train_languages: The language of `train_path`, and behind it those to be read from `translations_path`.
        translations_path: Folder of XTREME's machine translations of SQuAD, `squad.translate.train.en-de.json`, whose
            answers do not all stand where they say (`on_bad_answer: skip`).
        validation_languages: Languages to validate on, always in the development sets.
        test_languages: Languages to test on.
        test_split: The sets to test on: "test", or "dev" where those are all there is.
        kwargs: What else `ExtractiveQuestions` takes.
    """

    known_languages: ClassVar[tuple[str, ...]] = PAIRS

    def __init__(
        self,
        tokenizer: str,
        path: str = "google/xtreme",
        train_path: str = "rajpurkar/squad",
        train_revision: str | None = None,
        train_languages: Sequence[str] = ("en",),
        translations_path: str | None = None,
        validation_languages: Sequence[str] = ("en",),
        test_languages: Sequence[str] = LANGUAGES,
        test_split: Literal["test", "dev"] = "test",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            tokenizer,
            train_files=train_files(train_languages, train_path, translations_path),
            validation_files={pair: pair for pair in _checked("validation", validation_languages)},
            test_files={pair: pair for pair in _checked("test", test_languages)},
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
        self.test_split = test_split

    def files(self, split: str, language: str, download: bool) -> Source:
        """What one split and language is read from: SQuAD, the official file, or those of the Hub's layout."""
        reference = self.reference(split, language)
        if split == Split.PREDICT or not isinstance(reference, str):
            return super().files(split, language, download)
        if split == Split.TRAIN:
            if reference == self.train_path:
                return find_squad(self.train_path, self.train_revision, download)
            return find_translated(self.translations_path, reference)
        context, _, asked = language.partition("-")
        asked = asked or context
        of_split = "dev" if split == Split.VALIDATION else self.test_split
        folder = Path(self.path or "").expanduser()
        if (folder / "dev").is_dir() or (folder / "test").is_dir():
            pattern = f"{of_split}/{of_split}-context-{context}-question-{asked}.json"
        else:
            pattern = f"MLQA.{context}.{asked}/{'validation' if of_split == 'dev' else 'test'}-*.parquet"
        try:
            return find_source(self.path, pattern, self.revision, download, split)
        except InputError as error:
            if of_split == "test" and (folder / "dev").is_dir() and not (folder / "test").is_dir():
                raise InputError(f"{error} The development sets are there: set test_split to dev.") from error
            raise


def _checked(split: str, languages: Sequence[str]) -> Sequence[str]:
    for language in languages:
        if language not in PAIRS:
            context, _, asked = language.partition("-")
            hint = f"write '{context}'" if context == asked else "a pair is context-question, such as de-en"
            raise InputError(
                f"{split}_languages names '{language}'; MLQA has {', '.join(LANGUAGES)} and pairs of them; {hint}."
            )
    check_languages("MLQA", PAIRS, f"{split}_languages", languages)
    return languages
