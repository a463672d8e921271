"""Sentence pairs, for retrieval and contrastive training."""

from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ernie_m.errors import InputError

from .batching import TrainBatchSampler
from .divisible import Divisible
from .loading import RowSet
from .reading import empty_rows, read_rows, texts_of
from .shares import numbered
from .sources import SAMPLES, Parts
from .splits import Split
from .tokens import filling, lengths, ragged


class ParallelText(Divisible):
    """Sentences with their translations, one file per language.

    A batch holds what `TaskDataModule` says, `source_input_ids` and `source_attention_mask` (batch, source length)
    int64, `target_input_ids` and `target_attention_mask` (batch, target length) int64. Row i of the targets translates
    row i of the sources. `language` is that of the targets.

    In training a sentence does not occur twice in a batch, on either side, where the data allow it: the other sentences
    of a batch serve as counter-examples, and its own translation must not be one. A process gets its share of a global
    batch whole, since a contrastive loss needs all of it at once.

    Args:
        path: Folder or Hub data set that the files lie in, or "bundled" for the sample that comes with the package;
            None where they are paths of their own.
        source_language: The language of the sources.
        source_column: Column of the sources; None for TSV files without header, whose first column it is. `a.b` is the
            field `b` of objects in column `a`; `{language}` stands for the language of the file.
        target_column: Column of the targets, likewise; None together with `source_column`.
        one_language_per_batch: Whether a training batch holds one language's pairs, which makes the counter-examples
            harder; otherwise languages are mixed.
        args: What `Divisible` takes, as `kwargs`: equal sources stay in one part. Languages are those of the targets.
        kwargs: See `args`.
    """

    def __init__(
        self,
        *args: Any,
        path: str | None = None,
        source_language: str = "en",
        source_column: str | None = None,
        target_column: str | None = None,
        one_language_per_batch: bool = False,
        **kwargs: Any,
    ) -> None:
        # The arguments that are left to `args` come before these.
        super().__init__(
            *args,
            path=str(SAMPLES / "parallel") if path == "bundled" else path,
            micro_batch_size=None,
            micro_batch_tokens=None,
            **kwargs,
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

    def columns(self, split: str, language: str) -> list[str] | None:
        """The columns of both sides in the files of a split and language; None where nothing names them."""
        if self.source_column is None or self.target_column is None:
            return None
        return [name.replace("{language}", language) for name in (self.source_column, self.target_column)]

    def predict_columns(self) -> list[str] | None:
        """Both sides, where the recipe names no columns."""
        (language,) = self.split_languages("predict")
        return ["source", "target"] if self.columns("predict", language) is None else None

    def read(self, split: str, language: str, parts: Parts) -> pa.Table:
        """Reads both sides."""
        columns = self.columns(split, language)
        names = columns or ["source", "target"]
        rows = read_rows(parts, names, header=columns is not None)
        texts = {name: texts_of(rows, name) for name in names}
        table = pa.table(list(texts.values()), names=["source", "target"])
        part = self.part(
            split,
            language,
            lambda: (np.zeros(table.num_rows, np.int64), numbered(table.column("source").to_pylist())),
        )
        kept = np.arange(table.num_rows) if part is None else part
        if split == Split.TRAIN and table.num_rows:
            kept = np.setdiff1d(kept, empty_rows(rows, texts, "these pairs are left out"))
        return table if len(kept) == table.num_rows else table.take(kept)

    def encode(self, table: pa.Table) -> pa.Table:
        """Tokenises both sides, `length` being their sum; `<side>_key` is the same number where the ids are."""
        columns: dict[str, pa.Array] = {}
        for side in ("source", "target"):
            texts = [self.prefix + text for text in table.column(side).to_pylist()]
            ids = self.tokenizer(texts, truncation=True, max_length=self.max_length, return_attention_mask=False)
            columns[f"{side}_input_ids"] = ragged(ids["input_ids"])
            columns[f"{side}_key"] = pa.array(map(_key, ids["input_ids"]), type=pa.int64())
        both = [lengths(columns[f"{side}_input_ids"]) for side in ("source", "target")]
        return pa.table({**columns, "length": pc.add(*both)})

    def filling(self, split: str) -> dict[str, int | None]:
        """The ids of both sides."""
        pad_id = filling(self.tokenizer)["input_ids"]
        return {"source_input_ids": pad_id, "target_input_ids": pad_id}

    def settings(self, split: str, language: str) -> dict[str, Any]:
        """The columns."""
        columns = self.columns(split, language)
        return {"rows": "parallel", "columns": columns, **self.settings_of_part(split, language)}

    def train_sampler(self, rows: RowSet, rank: int, world_size: int, **plan: Any) -> TrainBatchSampler:
        """Keeps equal sentences apart, and languages where asked to."""
        keys = [np.unique(rows.all_scalars(f"{side}_key"), return_inverse=True)[1] for side in ("source", "target")]
        if self.one_language_per_batch:
            plan["groups"] = rows.part_of(np.arange(len(rows)))
        return super().train_sampler(rows, rank, world_size, keys=np.stack(keys, axis=1), **plan)


def _key(ids: list[int]) -> int:
    """The same number for the same ids: texts that the network cannot tell apart are one sentence."""
    return int.from_bytes(blake2b(np.asarray(ids, dtype=np.int32).tobytes(), digest_size=8).digest(), signed=True)
