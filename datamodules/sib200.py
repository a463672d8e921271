"""SIB-200: topics of sentences in 205 languages (Adelani et al., 2023), parallel from language to language."""

from collections.abc import Sequence
from typing import Any

from .sources import SAMPLES, Reference, check_languages
from .splits import Split
from .text_classification import TextClassification

CODES = {
    "ar": "arb_Arab", "bg": "bul_Cyrl", "de": "deu_Latn", "el": "ell_Grek", "en": "eng_Latn", "es": "spa_Latn",
    "fi": "fin_Latn", "fr": "fra_Latn", "hi": "hin_Deva", "id": "ind_Latn", "ja": "jpn_Jpan", "ko": "kor_Hang",
    "nl": "nld_Latn", "ru": "rus_Cyrl", "sw": "swh_Latn", "ta": "tam_Taml", "th": "tha_Thai", "tr": "tur_Latn",
    "ur": "urd_Arab", "vi": "vie_Latn", "zh": "zho_Hans",
}  # fmt: skip
"""Short names of some languages, and what the data set calls them."""

LABELS = ("entertainment", "geography", "health", "politics", "science/technology", "sports", "travel")
BUNDLED = tuple(language for language in CODES if language != "nl")
"""The languages of the sample that comes with the package."""


class SIB200(TextClassification):
    """SIB-200 from the Hub or from a folder of the Hub's layout, `eng_Latn/train/*.parquet`.

    Training has 701 sentences a language, validation 99, test 204: those of FLORES-200, so that every language has the
    same. The batch is that of `TextClassification`; labels are numbered as in `LABELS`. Licence of the data: CC BY-SA
    4.0.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        path: Hub id of the data set, or a folder of its layout; "bundled" for the sample that comes with the package:
            training and validation in English, test in the 20 languages of `BUNDLED`.
        revision: Branch, tag or commit on the Hub.
        train_languages: Languages to train on, by their names in `CODES` or in the data set, such as "fao_Latn".
        validation_languages: Languages to validate on.
        test_languages: Languages to test on.
        kwargs: What else `TextClassification` takes.
    """

    def __init__(
        self,
        tokenizer: str,
        path: str = "Davlan/sib200",
        revision: str | None = "refs/convert/parquet",
        train_languages: Sequence[str] = ("en",),
        validation_languages: Sequence[str] = ("en",),
        test_languages: Sequence[str] = BUNDLED,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            tokenizer,
            train_files=_files(Split.TRAIN, train_languages),
            validation_files=_files(Split.VALIDATION, validation_languages),
            test_files=_files(Split.TEST, test_languages),
            path=str(SAMPLES / "sib200") if path == "bundled" else path,
            revision=revision,
            first_column="text",
            second_column=None,
            label_column="category",
            label_names=list(LABELS),
            **kwargs,
        )


def _files(split: Split, languages: Sequence[str]) -> dict[str, Reference]:
    check_languages("SIB-200", None, f"{split}_languages", languages)
    return {language: f"{CODES.get(language, language)}/{split}/*.parquet" for language in languages}
