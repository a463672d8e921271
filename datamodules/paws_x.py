"""PAWS-X: paraphrase identification in 7 languages (Yang et al., 2019)."""

from collections.abc import Sequence

from .pair_classification import PairClassification
from .sources import files_by_language

LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "zh")
LABELS = ("not_paraphrase", "paraphrase")


class PAWSX(PairClassification):
    """PAWS-X from the Hub or from a folder of the Hub's layout, `<language>/<split>-*.parquet`.

    Validation and test have 2,000 pairs a language, training 49,401 (PAWS-Wiki; machine-translated but for English).
    The batch is that of `PairClassification`; labels are 0 not_paraphrase, 1 paraphrase. `languages` holds all 7,
    whichever are used. Licence of the data: free for any purpose, Google LLC asks to be named as the source.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        path: Hub id of the data set, or a folder of its layout.
        revision: Branch, tag or commit on the Hub.
        train_languages: Languages to train on; several are mixed within batches.
        validation_languages: Languages to validate on.
        test_languages: Languages to test on.
        predict_path: CSV, TSV, JSONL or Parquet file with `sentence1` and `sentence2` to predict on.
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
        path: str = "google-research-datasets/paws-x",
        revision: str | None = None,
        train_languages: Sequence[str] = ("en",),
        validation_languages: Sequence[str] = LANGUAGES,
        test_languages: Sequence[str] = LANGUAGES,
        predict_path: str | None = None,
        predict_language: str = "en",
        max_length: int = 128,
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
            train_files=files_by_language("PAWS-X", LANGUAGES, "train", train_languages),
            validation_files=files_by_language("PAWS-X", LANGUAGES, "validation", validation_languages),
            test_files=files_by_language("PAWS-X", LANGUAGES, "test", test_languages),
            path=path,
            revision=revision,
            first_column="sentence1",
            second_column="sentence2",
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
