"""CoNLL-2002 and 2003: named entities in English, German, Spanish and Dutch (Tjong Kim Sang, 2002 and 2003)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ernie_m.errors import InputError

from .sources import check_languages, find_files
from .token_labels import LabelledTokens, TokenLabels

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
        label_tokens: "first": each word's first token is labelled; "all": all its tokens, B- on the first alone, as in
            Baidu's code.
        predict_path: Column file, JSONL, Parquet or CSV to predict on.
        predict_language: Its language.
        max_length: Tokens of a window at most, special tokens included.
        global_batch_size: Windows of one optimiser step, over all devices.
        micro_batch_size: At most so many windows at once on a device; None for no limit.
        micro_batch_tokens: At most so many tokens at once on a device in training, padding included; None for no limit.
        eval_tokens_per_batch: Rows times longest row of an evaluation batch.
        seed: With the epoch it fixes the order of the training data.
        num_workers: Processes that prepare training batches.
        cache_dir: Folder of the tokenised data; None for the user's cache folder.
        trust_remote_code: Whether to run tokenizer code that a folder or Hub repository carries.
    """

    def __init__(
        self,
        tokenizer: str,
        paths: dict[str, str | None],
        revision: str | None = "refs/convert/parquet",
        train_languages: Sequence[str] = ("en",),
        validation_languages: Sequence[str] = ("en",),
        test_languages: Sequence[str] = LANGUAGES,
        label_tokens: LabelledTokens = "first",
        predict_path: str | None = None,
        predict_language: str = "en",
        max_length: int = 512,
        global_batch_size: int = 8,
        micro_batch_size: int | None = None,
        micro_batch_tokens: int | None = None,
        eval_tokens_per_batch: int = 16384,
        seed: int = 1,
        num_workers: int = 0,
        cache_dir: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        check_languages("CoNLL", LANGUAGES, "paths", list(paths))
        super().__init__(
            tokenizer,
            train_files=_files("train", train_languages),
            validation_files=_files("validation", validation_languages),
            test_files=_files("test", test_languages),
            revision=revision,
            label_names=list(LABELS),
            label_tokens=label_tokens,
            max_length=max_length,
            global_batch_size=global_batch_size,
            micro_batch_size=micro_batch_size,
            micro_batch_tokens=micro_batch_tokens,
            eval_tokens_per_batch=eval_tokens_per_batch,
            seed=seed,
            num_workers=num_workers,
            cache_dir=cache_dir,
            trust_remote_code=trust_remote_code,
        )
        self.paths: Mapping[str, str | None] = paths
        self.languages = list(LANGUAGES)
        if predict_path is not None:
            self.add_predict(predict_path, predict_language)

    def files(self, split: str, language: str, download: bool) -> tuple[list[Path], str]:
        """The files of one split and language: the official ones, else those of the Hub's layout."""
        if split == "predict":
            return super().files(split, language, download)
        root = self.paths.get(language)
        if root is None:
            reason = "it is licensed and not on the Hub" if language == "de" else "no folder or Hub data set is named"
            prefix = _PREFIXES[language]
            raise InputError(
                f"{reason}: set data.paths.{language} to the folder that holds {prefix}.train, {prefix}.testa and"
                f" {prefix}.testb, or leave {language} out of the languages."
            )
        official = self._files[split][language]
        if (Path(root).expanduser() / official).is_file():
            return find_files(root, official, self.revision, download)
        folder = _HUB_FOLDERS.get(language, language)
        try:
            return find_files(root, f"{folder}/{split}/*.parquet", self.revision, download)
        except InputError as error:
            raise InputError(f"{root} holds no {official}, and {error}") from error


def _files(split: str, languages: Sequence[str]) -> dict[str, str]:
    """The official file of each language."""
    check_languages("CoNLL", LANGUAGES, f"{split}_languages", languages)
    return {language: f"{_PREFIXES[language]}.{_ENDINGS[split]}" for language in languages}
