"""XNLI: natural language inference in 15 languages (Conneau et al., 2018)."""

from collections.abc import Sequence

from .pair_classification import PairClassification
from .sources import files_by_language

LANGUAGES = ("ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")
LABELS = ("entailment", "neutral", "contradiction")


class XNLI(PairClassification):
    """XNLI from the Hub or from a folder of the Hub's layout, `<language>/<split>-*.parquet`.

    Validation has 2,490 pairs a language, test 5,010, training 392,702 (MultiNLI; machine-translated but for English).
    The batch is that of `PairClassification`; labels are 0 entailment, 1 neutral, 2 contradiction. `languages` holds
    all 15, whichever are used. Licence of the data: CC BY-NC 4.0.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        path: Hub id of the data set, or a folder of its layout.
        revision: Branch, tag or commit on the Hub.
        train_languages: Languages to train on; several are mixed within batches.
        validation_languages: Languages to validate on.
        test_languages: Languages to test on.
        predict_path: CSV, TSV, JSONL or Parquet file with `premise` and `hypothesis` to predict on.
        predict_language: Its language.
        max_length: Tokens after which the longer text of a pair is cut, special tokens included.
        global_batch_size: Examples of one optimiser step, over all devices.
        micro_batch_size: At most so many examples at once on a device; None for no limit.
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
        path: str = "facebook/xnli",
        revision: str | None = None,
        train_languages: Sequence[str] = ("en",),
        validation_languages: Sequence[str] = LANGUAGES,
        test_languages: Sequence[str] = LANGUAGES,
        predict_path: str | None = None,
        predict_language: str = "en",
        max_length: int = 256,
        global_batch_size: int = 32,
        micro_batch_size: int | None = None,
        micro_batch_tokens: int | None = None,
        eval_tokens_per_batch: int = 16384,
        seed: int = 1,
        num_workers: int = 0,
        cache_dir: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__(
            tokenizer,
            train_files=files_by_language("XNLI", LANGUAGES, "train", train_languages),
            validation_files=files_by_language("XNLI", LANGUAGES, "validation", validation_languages),
            test_files=files_by_language("XNLI", LANGUAGES, "test", test_languages),
            path=path,
            revision=revision,
            label_names=list(LABELS),
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
        self.languages = list(LANGUAGES)
        if predict_path is not None:
            self.add_predict(predict_path, predict_language)
