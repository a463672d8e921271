"""XNLI: natural language inference in 15 languages (Conneau et al., 2018)."""

from collections.abc import Sequence
from typing import Any, ClassVar

from .sources import files_by_language
from .text_classification import TextClassification

LANGUAGES = ("ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")
LABELS = ("entailment", "neutral", "contradiction")


class XNLI(TextClassification):
    """XNLI from the Hub or from a folder of the Hub's layout, `<language>/<split>-*.parquet`.

    Validation has 2,490 pairs a language, test 5,010, training 392,702 (MultiNLI; machine-translated but for English).
    The batch is that of `TextClassification`; labels are 0 entailment, 1 neutral, 2 contradiction. `languages` holds
    all 15, whichever are used. Licence of the data: CC BY-NC 4.0.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        path: Hub id of the data set, or a folder of its layout.
        train_languages: Languages to train on; several are mixed within batches.
        validation_languages: Languages to validate on.
        test_languages: Languages to test on.
        kwargs: What else `TextClassification` takes.
    """

    known_languages: ClassVar[tuple[str, ...]] = LANGUAGES

    def __init__(
        self,
        tokenizer: str,
        path: str = "facebook/xnli",
        train_languages: Sequence[str] = ("en",),
        validation_languages: Sequence[str] = LANGUAGES,
        test_languages: Sequence[str] = LANGUAGES,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            tokenizer,
            train_files=files_by_language("XNLI", LANGUAGES, "train", train_languages),
            validation_files=files_by_language("XNLI", LANGUAGES, "validation", validation_languages),
            test_files=files_by_language("XNLI", LANGUAGES, "test", test_languages),
            path=path,
            first_column="premise",
            second_column="hypothesis",
            label_column="label",
            label_names=list(LABELS),
            **kwargs,
        )
