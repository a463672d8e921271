"""PAN-X: named entities of Wikipedia in 40 languages (WikiANN: Pan et al., 2017; Rahimi et al., 2019; XTREME)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ernie_m.errors import InputError

from .sources import Source, check_languages, find_source
from .splits import Split
from .token_labels import TokenLabels

# In the order of XTREME's evaluate.py.
LANGUAGES = (
    "ar", "he", "vi", "id", "jv", "ms", "tl", "eu", "ml", "ta", "te", "af", "nl", "en", "de", "el", "bn", "hi", "mr",
    "ur", "fa", "fr", "it", "pt", "es", "bg", "ru", "ja", "ka", "ko", "th", "sw", "yo", "my", "zh", "kk", "tr", "et",
    "fi", "hu",
)  # fmt: skip
LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
_OFFICIAL = {"train": "train", "validation": "dev", "test": "test"}


class PANX(TokenLabels):
    """PAN-X from the Hub or from its column files.

    A folder holds the Hub's Parquet (`PAN-X.de/test-*.parquet`), the column files as they were published
    (`de/train`, `de/dev`, `de/test`, with the language before each word, which is removed), or those that XTREME's
    script makes of them (`train-de.tsv`, `dev-de.tsv`; its `test-de.tsv` has lost the tags and is refused). English has
    20,000 sentences to train on, 10,000 to validate and 10,000 to test on, small languages 100 each.

    The batch is that of `TokenLabels`. `languages` holds XTREME's 40, whichever are used. Licence of the data: none
    of its own is known; the text is Wikipedia's, CC BY-SA.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        path: Hub id of the data set, or a folder of one of its layouts.
        train_languages: Languages to train on; several are mixed within batches.
        validation_languages: Languages to validate on.
        test_languages: Languages to test on.
        kwargs: What else `TokenLabels` takes.
    """

    known_languages: ClassVar[tuple[str, ...]] = LANGUAGES

    def __init__(
        self,
        tokenizer: str,
        path: str = "google/xtreme",
        train_languages: Sequence[str] = ("en",),
        validation_languages: Sequence[str] = ("en",),
        test_languages: Sequence[str] = LANGUAGES,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            tokenizer,
            train_files=_files("train", train_languages),
            validation_files=_files("validation", validation_languages),
            test_files=_files("test", test_languages),
            path=path,
            tokens_column="tokens",
            tags_column="ner_tags",
            label_names=list(LABELS),
            **kwargs,
        )

    def files(self, split: str, language: str, download: bool) -> Source:
        """What one split and language is read from: a column file, else those of the Hub's layout."""
        if split == Split.PREDICT or not isinstance(self.reference(split, language), str):
            return super().files(split, language, download)
        folder, ending = Path(self.path or "").expanduser(), _OFFICIAL[Split(split)]
        official = (f"{language}/{ending}", f"{ending}-{language}.tsv")
        for file in official:
            if (folder / file).is_file():
                return find_source(self.path, file, None, download, split)
        try:
            return super().files(split, language, download)
        except InputError as error:
            if not folder.is_dir():
                raise
            raise InputError(f"{folder} holds neither {official[0]} nor {official[1]}, and {error}") from error


def _files(split: str, languages: Sequence[str]) -> dict[str, str]:
    """The files of each language in the Hub's layout."""
    check_languages("PAN-X", LANGUAGES, f"{split}_languages", languages)
    return {language: f"PAN-X.{language}/{split}-*.parquet" for language in languages}
