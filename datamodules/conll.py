"""CoNLL-2002 and 2003: named entities in English, German, Spanish and Dutch (Tjong Kim Sang, 2002 and 2003)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ernie_m.errors import InputError

from .sources import Source, check_languages, find_source
from .splits import Split
from .token_labels import TokenLabels

LANGUAGES = ("en", "de", "es", "nl")
LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
_PREFIXES = {"en": "eng", "de": "deu", "es": "esp", "nl": "ned"}
_ENDINGS = {"train": "train", "validation": "testa", "test": "testb"}
# Where a data set on the Hub consists of a loading script, this branch holds what the script gave, as Parquet.
_HUB_FOLDERS = {"en": "conll2003", "es": "es", "nl": "nl"}


class CoNLL(TokenLabels):
    """CoNLL's named entities from the official column files or from the Hub.

    A language's folder holds the official files (`eng.train`, `eng.testa`, `eng.testb`, and so with `deu`, `esp` and
    `ned`) or the Hub's (`es/train/0000.parquet`). English, Spanish and Dutch lie on the Hub; German is licensed: it is
    made from the ECI corpus as https://www.clips.uantwerpen.be/conll2003/ner/ says, and its folder must be named.

    The batch is that of `TokenLabels`. `languages` holds all 4, whichever are used. Licence of the data: research only.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        paths: Language to the folder or Hub data set that its files lie in; null where it is not used.
        revision: Branch, tag or commit on the Hub.
        train_languages: Languages to train on; several are mixed within batches.
        validation_languages: Languages to validate on.
        test_languages: Languages to test on.
        kwargs: What else `TokenLabels` takes.
    """

    known_languages: ClassVar[tuple[str, ...]] = LANGUAGES

    def __init__(
        self,
        tokenizer: str,
        paths: dict[str, str | None],
        revision: str | None = "refs/convert/parquet",
        train_languages: Sequence[str] = ("en",),
        validation_languages: Sequence[str] = ("en",),
        test_languages: Sequence[str] = LANGUAGES,
        **kwargs: Any,
    ) -> None:
        check_languages("CoNLL", LANGUAGES, "paths", list(paths))
        super().__init__(
            tokenizer,
            train_files=_files("train", train_languages),
            validation_files=_files("validation", validation_languages),
            test_files=_files("test", test_languages),
            path=None,
            revision=revision,
            tokens_column="tokens",
            tags_column="ner_tags",
            label_names=list(LABELS),
            **kwargs,
        )
        self.paths: Mapping[str, str | None] = paths

    def files(self, split: str, language: str, download: bool) -> Source:
        """What one split and language is read from: the official file, else those of the Hub's layout."""
        official = self.reference(split, language)
        if split == Split.PREDICT or not isinstance(official, str):
            return super().files(split, language, download)
        root = self.paths.get(language)
        if root is None:
            reason = "it is licensed and not on the Hub" if language == "de" else "no folder or Hub data set is named"
            prefix = _PREFIXES[language]
            raise InputError(
                f"{reason}: set data.paths.{language} to the folder that holds {prefix}.train, {prefix}.testa and"
                f" {prefix}.testb, or leave {language} out of the languages."
            )
        if (Path(root).expanduser() / official).is_file():
            return find_source(root, official, self.revision, download, split)
        folder = _HUB_FOLDERS.get(language, language)
        try:
            return find_source(root, f"{folder}/{split}/*.parquet", self.revision, download, split)
        except InputError as error:
            raise InputError(f"{root} holds no {official}, and {error}") from error


def _files(split: str, languages: Sequence[str]) -> dict[str, str]:
    """The official file of each language."""
    check_languages("CoNLL", LANGUAGES, f"{split}_languages", languages)
    return {language: f"{_PREFIXES[language]}.{_ENDINGS[split]}" for language in languages}
