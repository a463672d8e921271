"""XCOPA: which of two sentences is the cause or the effect of a third, in 11 languages (Ponti et al., 2020)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from .answer_choices import AnswerChoices
from .sources import Source, check_languages, files_by_language, find_source
from .splits import Split

LANGUAGES = ("et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh")
QUESTIONS = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}
_ENGLISH = "en"
_VALIDATION = {_ENGLISH: "copa/validation/*.parquet"}
_OFFICIAL = {Split.TRAIN: "train", Split.VALIDATION: "val", Split.TEST: "test"}


class XCOPA(AnswerChoices):
    """XCOPA from its official files or the Hub, with the English COPA to train on.

    Validation has 100 rows a language, test 500; COPA has 400 to train on and 100 to validate on. They are read from
    the Hub's Parquet, `it/test-*.parquet`, or from a folder with the official JSONL, `it/test.it.jsonl` or
    `test.it.jsonl`. The batch is that of `AnswerChoices`, with two choices; the question, English in all languages,
    stands before each. `languages` holds English and all 11, whichever are used. Licence of the data: CC BY 4.0
    (XCOPA), BSD 2-clause (COPA).

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        path: Hub id of the data set, or a folder of its layout or of the official files.
        english_path: SuperGLUE, whose part COPA is, on the Hub or as a folder of its layout, `copa/train/*.parquet`; or
            a folder with COPA's `train.jsonl` and `val.jsonl`.
        english_revision: Branch, tag or commit of `english_path` on the Hub.
        train_languages: Languages to train on: English alone has such data.
        validation_languages: Languages to validate on, English among them.
        test_languages: Languages to test on; COPA's own test has no labels.
        kwargs: What else `AnswerChoices` takes.
    """

    known_languages: ClassVar[tuple[str, ...]] = (_ENGLISH, *LANGUAGES)

    def __init__(
        self,
        tokenizer: str,
        path: str = "cambridgeltl/xcopa",
        english_path: str = "aps/super_glue",
        english_revision: str | None = "refs/convert/parquet",
        train_languages: Sequence[str] = (_ENGLISH,),
        validation_languages: Sequence[str] = (_ENGLISH,),
        test_languages: Sequence[str] = LANGUAGES,
        **kwargs: Any,
    ) -> None:
        check_languages("COPA", (_ENGLISH,), "train_languages", train_languages)
        validation = files_by_language("XCOPA", self.known_languages, "validation", validation_languages)
        super().__init__(
            tokenizer,
            train_files=dict.fromkeys(train_languages, "copa/train/*.parquet"),
            validation_files={language: _VALIDATION.get(language, of_hub) for language, of_hub in validation.items()},
            test_files=files_by_language("XCOPA", LANGUAGES, "test", test_languages),
            path=path,
            context_column="premise",
            choice_columns=["choice1", "choice2"],
            label_column="label",
            label_names=None,
            question_column="question",
            questions=QUESTIONS,
            **kwargs,
        )
        self.english_path = english_path
        self.english_revision = english_revision

    def files(self, split: str, language: str, download: bool) -> Source:
        """What one split and language is read from: COPA, the official file, or those of the Hub's layout."""
        if split == Split.PREDICT or not isinstance(self.reference(split, language), str):
            return super().files(split, language, download)
        is_english = language == _ENGLISH
        root, revision = (self.english_path, self.english_revision) if is_english else (self.path, self.revision)
        name = _OFFICIAL[Split(split)]
        of_language = [f"{language}/{name}.{language}.jsonl", f"{name}.{language}.jsonl"]
        folder = Path(root or "").expanduser()
        official = [file for file in ([f"{name}.jsonl"] if is_english else of_language) if (folder / file).is_file()]
        pattern = official[0] if official else self.reference(split, language)
        return find_source(root, pattern, revision, download, split)
