"""UDPOS: parts of speech in 33 languages (Universal Dependencies, Nivre et al., 2020; XTREME)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ernie_m.errors import InputError

from .sources import Source, check_languages, find_source
from .splits import Split
from .token_labels import TokenLabels

NAMES = {
    "af": "Afrikaans", "ar": "Arabic", "bg": "Bulgarian", "de": "German", "el": "Greek", "en": "English",
    "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese",
    "kk": "Kazakh", "ko": "Korean", "mr": "Marathi", "nl": "Dutch", "pt": "Portuguese", "ru": "Russian", "ta": "Tamil",
    "te": "Telugu", "th": "Thai", "tl": "Tagalog", "tr": "Turkish", "ur": "Urdu", "vi": "Vietnamese", "yo": "Yoruba",
    "zh": "Chinese",
}  # fmt: skip
"""XTREME's 33 languages, and what the Hub's folders call them."""

LANGUAGES = tuple(NAMES)
LABELS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM",
    "VERB", "X",
)  # fmt: skip
_ENDINGS = {"train": "train", "validation": "dev", "test": "test"}
# The splits that UD 2.5, which XTREME took, does not have.
_LACKING: dict[str, tuple[str, ...]] = {"train": ("th", "tl", "yo"), "validation": ("kk", "th", "tl", "yo")}
# Treebanks that are published without their words, which must be bought: every word is `_`.
_WITHOUT_WORDS = ("ar_nyuad-", "en_esl-", "en_gumreddit-", "fr_ftb-", "ja_bccwj")


class UDPOS(TokenLabels):
    """Universal parts of speech from the Hub or from Universal Dependencies' own files.

    A folder holds the Hub's Parquet (`udpos.German/test-*.parquet`), or treebanks as they are published, in folders of
    their own (`UD_German-PUD/de_pud-ud-test.conllu`) or all in one; a language has all of its treebanks, one after the
    other, but those that come without words. Words are the syntactic ones: "zum" is "zu" and "dem".

    Both differ from what XTREME's script makes: it puts such words together again. The Hub's copy moreover took
    every treebank whose name has the language's in it, so that its Greek is mostly Ancient Greek, and its Chinese,
    French, German and Russian have Classical Chinese, Old French, Swiss German and Old Russian among them.

    The batch is that of `TokenLabels`; labels are numbered as in `LABELS`. `languages` holds XTREME's 33, whichever are
    used. Licence of the data: each treebank has its own, most of them CC BY-SA, some CC BY-NC-SA.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        path: Hub id of the data set, a folder of its layout, or one of treebanks.
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
            tags_column="pos_tags",
            label_names=list(LABELS),
            **kwargs,
        )

    def files(self, split: str, language: str, download: bool) -> Source:
        """What one split and language is read from: its treebanks, else the files of the Hub's layout."""
        if split == Split.PREDICT or not isinstance(self.reference(split, language), str):
            return super().files(split, language, download)
        folder, treebank = Path(self.path or "").expanduser(), f"{language}_*-ud-{_ENDINGS[Split(split)]}.conllu"
        for pattern in (f"UD_*/{treebank}", treebank):
            if any(folder.glob(pattern)):
                found = find_source(self.path, pattern, None, download, split)
                parts = [part for part in found.parts if isinstance(part, Path)]
                if kept := [part for part in parts if not part.name.startswith(_WITHOUT_WORDS)]:
                    return found._replace(parts=[*kept])
        try:
            return super().files(split, language, download)
        except InputError as error:
            if not folder.is_dir():
                raise
            raise InputError(f"{folder} holds no treebank with words ({treebank}), and {error}") from error


def _files(split: str, languages: Sequence[str]) -> dict[str, str]:
    """The files of each language in the Hub's layout."""
    known = [language for language in LANGUAGES if language not in _LACKING.get(split, ())]
    check_languages(f"UDPOS's {split} split", known, f"{split}_languages", languages)
    return {language: f"udpos.{NAMES[language]}/{split}-*.parquet" for language in languages}
