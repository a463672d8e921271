"""Sentence pairs, for retrieval and contrastive training."""

from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from ernie_m.errors import InputError

from .base import TaskDataModule
from .batching import MicroBatch, TrainBatchSampler, pad
from .cache import ragged
from .loading import Batch, RowSet
from .reading import read_rows, texts_of
from .sources import SAMPLES


class ParallelText(TaskDataModule):
    """Sentences with their translations, one file per language.

    A batch holds what `TaskDataModule` says, `source_input_ids` and `source_attention_mask` (batch, source length)
    int64, `target_input_ids` and `target_attention_mask` (batch, target length) int64. Row i of the targets translates
    row i of the sources. `language` is that of the targets.

    In training a sentence does not occur twice in a batch, on either side, where the data allow it: the other sentences
    of a batch serve as counter-examples, and its own translation must not be one. A process gets its share of a global
    batch whole, since a contrastive loss needs all of it at once.

    Args:
        tokenizer: Short name, folder or Hub id of the tokenizer.
        train_files: Language of the targets to training file; a pattern with `*` stands for several.
        validation_files: The same for validation.
        test_files: The same for test.
        path: Folder or Hub data set that the files lie in, or "bundled" for the sample that comes with the package;
            None where they are paths of their own.
        revision: Branch, tag or commit of a Hub data set.
        source_language: The language of the sources.
        source_column: Column of the sources; None for TSV files without header, whose first column it is. `a.b` is the
            field `b` of objects in column `a`; `{language}` stands for the language of the file.
        target_column: Column of the targets, likewise; None together with `source_column`.
        one_language_per_batch: Whether a training batch holds one language's pairs, which makes the counter-examples
            harder; otherwise languages are mixed.
        predict_path: File of pairs to predict on.
        predict_language: The language of its targets, one of the others; None for the first.
        max_length: Tokens after which a sentence is cut, special tokens included.
        global_batch_size: Pairs of one optimiser step, over all devices.
        eval_tokens_per_batch: Rows times longest row of an evaluation batch, both sides together.
        seed: With the epoch it fixes the order of the training data.
        num_workers: Processes that prepare training batches.
        cache_dir: Folder of the tokenised data; None for the user's cache folder.
        trust_remote_code: Whether to run tokenizer code that a folder or Hub repository carries.
    """

    def __init__(
        self,
        tokenizer: str,
        train_files: dict[str, str] | None = None,
        validation_files: dict[str, str] | None = None,
        test_files: dict[str, str] | None = None,
        path: str | None = None,
        revision: str | None = None,
        source_language: str = "en",
        source_column: str | None = None,
        target_column: str | None = None,
        one_language_per_batch: bool = False,
        predict_path: str | None = None,
        predict_language: str | None = None,
        max_length: int = 256,
        global_batch_size: int = 32,
        eval_tokens_per_batch: int = 16384,
        seed: int = 1,
        num_workers: int = 0,
        cache_dir: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__(
            {"train": train_files or {}, "validation": validation_files or {}, "test": test_files or {}},
            str(SAMPLES / "parallel") if path == "bundled" else path,
            revision,
            tokenizer,
            max_length,
            global_batch_size,
            None,
            None,
            eval_tokens_per_batch,
            seed,
            num_workers,
            cache_dir,
            trust_remote_code,
        )
        if (source_column is None) != (target_column is None):
            raise InputError(
                f"source_column is {source_column!r} and target_column is {target_column!r}; name both, or neither for"
                " TSV files without a header."
            )
        self.source_language = source_language
        self.source_column = source_column
        self.target_column = target_column
        self.one_language_per_batch = one_language_per_batch
        if predict_path is not None:
            self.add_predict(predict_path, predict_language)

    def columns(self, split: str, language: str) -> list[str] | None:
        """The columns of both sides in the files of a split and language; None where nothing names them."""
        if self.source_column is None or self.target_column is None:
            return None
        return [name.replace("{language}", language) for name in (self.source_column, self.target_column)]

    def predict_columns(self) -> list[str] | None:
        """Both sides, where the recipe names no columns."""
        (language,) = self.split_languages("predict")
        return ["source", "target"] if self.columns("predict", language) is None else None

    def read(self, split: str, language: str, paths: list[Path]) -> pa.Table:
        """Reads both sides."""
        columns = self.columns(split, language)
        names = columns or ["source", "target"]
        rows = read_rows(paths, names, header=columns is not None)
        return pa.table([texts_of(rows, name) for name in names], names=["source", "target"])

    def encode(self, table: pa.Table) -> pa.RecordBatch:
        """Tokenises both sides."""
        columns: dict[str, pa.Array] = {}
        for side in ("source", "target"):
            texts = table.column(side).to_pylist()
            ids = self.tokenizer(texts, truncation=True, max_length=self.max_length, return_attention_mask=False)
            columns[f"{side}_input_ids"] = ragged(ids["input_ids"])
            columns[f"{side}_key"] = pa.array(map(_key, ids["input_ids"]), type=pa.int64())
        return pa.record_batch(columns)

    def schema(self, split: str) -> pa.Schema:
        """The ids of both sides, and for each sentence a number that is the same where its ids are."""
        fields = []
        for side in ("source", "target"):
            fields += [(f"{side}_input_ids", pa.list_(pa.int32())), (f"{side}_key", pa.int64())]
        return pa.schema(fields)

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The columns."""
        return {"rows": "parallel", "columns": self.columns(split, language)}

    def lengths(self, rows: RowSet) -> ArrayLike:
        """The tokens of every pair, both sides together."""
        return rows.lengths("source_input_ids") + rows.lengths("target_input_ids")

    def train_sampler(self, rows: RowSet, rank: int, world_size: int) -> TrainBatchSampler:
        """Keeps equal sentences apart, and languages where asked to."""
        keys = [np.unique(rows.all_scalars(f"{side}_key"), return_inverse=True)[1] for side in ("source", "target")]
        return TrainBatchSampler(
            self.lengths(rows),
            self.global_batch_size,
            None,
            self.seed,
            rank,
            world_size,
            groups=rows.part_of(np.arange(len(rows))) if self.one_language_per_batch else None,
            keys=np.stack(keys, axis=1),
        )

    def collator(self, split: str) -> "PairedCollator":
        """Pads both sides."""
        return PairedCollator(self.pad_id)


class PairedCollator:
    """Makes a batch of `ParallelText`.

    Args:
        pad_id: The padding token.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: RowSet, micro: MicroBatch) -> Batch:
        """Pads the rows of one micro-batch, each side to its own longest."""
        batch = rows.common(micro)
        for side in ("source", "target"):
            ids, mask = pad(rows.lists(f"{side}_input_ids", micro.indices), self.pad_id)
            batch |= {f"{side}_input_ids": ids, f"{side}_attention_mask": mask}
        return batch


def _key(ids: list[int]) -> int:
    """The same number for the same ids: texts that the network cannot tell apart are one sentence."""
    return int.from_bytes(blake2b(np.asarray(ids, dtype=np.int32).tobytes(), digest_size=8).digest(), signed=True)
