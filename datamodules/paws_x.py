"""PAWS-X: paraphrase identification in 7 languages (Yang et al., 2019)."""

from collections.abc import Sequence
from typing import Any, ClassVar

from .sources import files_by_language
from .text_classification import TextClassification

LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "zh")
LABELS = ("not_paraphrase", "paraphrase")


class PAWSX(TextClassification):
    """PAWS-X from the Hub or from a folder of the Hub's layout, `<language>/<split>-*.parquet`.

    Validation and test have 2,000 pairs a language, training 49,401 (PAWS-Wiki; machine-translated but for English).
    The batch is that of `TextClassification`; labels are 0 not_paraphrase, 1 paraphrase. `languages` holds all 7,
    whichever are used. Licence of the data: free for any purpose, Google LLC asks to be named as the source.

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
        path: str = "google-research-datasets/paws-x",
        train_languages: Sequence[str] = ("en",),
        validation_languages: Sequence[str] = LANGUAGES,
        test_languages: Sequence[str] = LANGUAGES,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            tokenizer,
            train_files=files_by_language("PAWS-X", LANGUAGES, "train", train_languages),
            validation_files=files_by_language("PAWS-X", LANGUAGES, "validation", validation_languages),
            test_files=files_by_language("PAWS-X", LANGUAGES, "test", test_languages),
            path=path,
            first_column="sentence1",
            second_column="sentence2",
            label_column="label",
            label_names=list(LABELS),
            **kwargs,
        )
