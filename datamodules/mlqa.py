"""MLQA: extractive question answering in 7 languages (Lewis et al., 2020), trained on SQuAD."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ernie_m.errors import InputError

from .question_answering import QuestionAnswering
from .questions import OnBadAnswer
from .sources import find_files

# In the order of the model card.
LANGUAGES = ("en", "es", "de", "ar", "hi", "vi", "zh")
PAIRS = (*LANGUAGES, *(f"{context}-{asked}" for context in LANGUAGES for asked in LANGUAGES if context != asked))


class MLQA(QuestionAnswering):
    """MLQA from its official files or the Hub, with SQuAD to train on.

    A language such as "de" stands for German questions on German contexts, "de-en" for English questions on German
    contexts: 49 pairs in all, each with a development and a test set (English: 1,148 and 11,590 questions). They are
    read from a folder with the official JSON, `test/test-context-de-question-en.json`, or with the Hub's Parquet,
    `MLQA.de.en/test-*.parquet`. The batch is that of `QuestionAnswering`. `languages` holds all 49, whichever are used.
    Licence of the data: CC BY-SA 3.0 (MLQA), CC BY-SA 4.0 (SQuAD).

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        path: Folder of the official files, or Hub id or folder of the Hub's layout. `facebook/mlqa` itself is a
            script, which no current `datasets` runs; `google/xtreme` holds the same questions.
        revision: Branch, tag or commit on the Hub.
        train_path: SQuAD v1.1 to train on: a Hub id, a folder of its layout (`plain_text/train-*.parquet`), or a file
            in SQuAD's JSON.
        train_revision: Branch, tag or commit of `train_path` on the Hub.
        train_languages: The language of `train_path`, one.
        validation_languages: Languages to validate on, always in the development sets.
        test_languages: Languages to test on.
        test_split: The sets to test on: "test", or "dev" where those are all there is.
        on_bad_answer: Whether training stops ("stop") where an answer does not stand at its offset or a question has
            none, or goes on without such questions and says how many and which ("skip").
        predict_path: File to predict on, in SQuAD's JSON or rows with `id`, `context` and `question`.
        predict_language: Its language.
        max_length: Tokens of a window, special tokens included.
        max_query_length: Tokens after which a question is cut.
        doc_stride: Tokens of the context from the start of one window to the start of the next, as in BERT's and
            Baidu's code. transformers' `stride` is what two windows share instead.
        single_separator: One separator between question and context where ERNIE-M has two, as in Baidu's code for
            reading comprehension; other tokenizers keep their format.
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
        path: str = "google/xtreme",
        revision: str | None = None,
        train_path: str = "rajpurkar/squad",
        train_revision: str | None = None,
        train_languages: Sequence[str] = ("en",),
        validation_languages: Sequence[str] = ("en",),
        test_languages: Sequence[str] = LANGUAGES,
        test_split: Literal["test", "dev"] = "test",
        on_bad_answer: OnBadAnswer = "stop",
        predict_path: str | None = None,
        predict_language: str = "en",
        max_length: int = 384,
        max_query_length: int = 64,
        doc_stride: int = 128,
        single_separator: bool = False,
        global_batch_size: int = 32,
        micro_batch_size: int | None = None,
        micro_batch_tokens: int | None = None,
        eval_tokens_per_batch: int = 16384,
        seed: int = 1,
        num_workers: int = 0,
        cache_dir: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if len(train_languages) != 1:
            raise InputError(f"train_languages is {list(train_languages)}; train_path is in one language.")
        super().__init__(
            tokenizer,
            train_files={train_languages[0]: train_path},
            validation_files={pair: pair for pair in _checked("validation", validation_languages)},
            test_files={pair: pair for pair in _checked("test", test_languages)},
            path=path,
            revision=revision,
            on_bad_answer=on_bad_answer,
            max_length=max_length,
            max_query_length=max_query_length,
            doc_stride=doc_stride,
            single_separator=single_separator,
            global_batch_size=global_batch_size,
            micro_batch_size=micro_batch_size,
            micro_batch_tokens=micro_batch_tokens,
            eval_tokens_per_batch=eval_tokens_per_batch,
            seed=seed,
            num_workers=num_workers,
            cache_dir=cache_dir,
            trust_remote_code=trust_remote_code,
        )
        self.train_path = train_path
        self.train_revision = train_revision
        self.test_split = test_split
        self.languages = list(dict.fromkeys([*PAIRS, *train_languages]))
        if predict_path is not None:
            self.add_predict(predict_path, predict_language)

    def files(self, split: str, language: str, download: bool) -> tuple[list[Path], str]:
        """The files of one split and language.

        Args:
            split: "train", "validation", "test" or "predict".
            language: One of its languages.
            download: Whether to ask the Hub; False to use what another process downloaded.

        Returns:
            The files, and what to call their source: a path, or a Hub id with its commit.
        """
        if split == "predict":
            return super().files(split, language, download)
        if split == "train":
            if Path(self.train_path).expanduser().is_file():
                return find_files(None, self.train_path, None, download)
            return find_files(self.train_path, "plain_text/train-*.parquet", self.train_revision, download)
        context, _, asked = language.partition("-")
        asked = asked or context
        of_split = "dev" if split == "validation" else self.test_split
        folder = Path(self.path or "").expanduser()
        if (folder / "dev").is_dir() or (folder / "test").is_dir():
            pattern = f"{of_split}/{of_split}-context-{context}-question-{asked}.json"
        else:
            pattern = f"MLQA.{context}.{asked}/{'validation' if of_split == 'dev' else 'test'}-*.parquet"
        try:
            return find_files(self.path, pattern, self.revision, download)
        except InputError as error:
            if of_split == "test" and (folder / "dev").is_dir() and not (folder / "test").is_dir():
                raise InputError(f"{error} The development sets are there: set test_split to dev.") from error
            raise


def _checked(split: str, languages: Sequence[str]) -> Sequence[str]:
    for language in languages:
        if language not in PAIRS:
            context, _, asked = language.partition("-")
            hint = f"write '{context}'" if context == asked else "a pair is context-question, such as de-en"
            raise InputError(
                f"{split}_languages names '{language}'; MLQA has {', '.join(LANGUAGES)} and pairs of them; {hint}."
            )
    if len(set(languages)) != len(languages):
        raise InputError(f"{split}_languages names a language twice: {', '.join(languages)}.")
    return languages
