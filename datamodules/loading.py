"""The prepared rows of several languages as one, how they become tensors, and the loaders over them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from .batching import EvalBatchSampler, Indices, MicroBatch, TrainBatchSampler, pad

if TYPE_CHECKING:
    from datasets import Dataset


class RowSet:
    """The prepared rows of several languages as one sequence.

    Args:
        parts: The rows of each language.
        language_ids: Each part's index into the data module's `languages`.
        kept: The rows of each part that count, ascending; None for all of them.
    """

    def __init__(
        self,
        parts: Sequence["Dataset"],
        language_ids: Sequence[int],
        kept: Sequence[NDArray[np.int64] | None] | None = None,
    ) -> None:
        from datasets import concatenate_datasets

        self.language_ids = np.asarray(language_ids, dtype=np.int64)
        self._dataset = concatenate_datasets(list(parts)).with_format("arrow")
        starts = np.cumsum([0, *map(len, parts)])
        # Not `select`: to read a column through it looks every row up by itself.
        places = [
            start + (np.arange(len(part)) if rows is None else rows)
            for part, rows, start in zip(parts, kept or [None] * len(parts), starts[:-1], strict=True)
        ]
        self._starts = np.cumsum([0, *map(len, places)])
        self._places = None if self._starts[-1] == starts[-1] else np.concatenate(places)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def part_of(self, indices: Indices) -> NDArray[np.int64]:
        """The part that each row lies in, shape (batch,)."""
        return (np.searchsorted(self._starts, indices, side="right") - 1).astype(np.int64)

    def rows(self, indices: Indices) -> pa.Table:
        """Some rows, in the order asked for."""
        table: pa.Table = self._dataset[indices if self._places is None else self._places[indices]]
        return table

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        names: list[str] = self._dataset.column_names
        return names

    def all_scalars(self, name: str) -> NDArray[Any]:
        """A column of numbers, shape (rows,)."""
        values: NDArray[Any] = self._dataset.data.column(name).to_numpy()
        return values if self._places is None else values[self._places]

    def common(self, micro: MicroBatch) -> dict[str, torch.Tensor]:
        """What every task's batch holds: `example_ids`, `language`, `weights`, and in training `normaliser`."""
        part = self.part_of(micro.indices)
        batch = {
            "example_ids": torch.from_numpy(micro.indices - self._starts[part]),
            "language": torch.from_numpy(self.language_ids[part]),
            "weights": torch.from_numpy(micro.weights),
        }
        if micro.normaliser is not None:
            batch["normaliser"] = torch.tensor(micro.normaliser, dtype=torch.float32)
        return batch


def as_tensors(rows: pa.Table, filling: Mapping[str, int | None]) -> dict[str, torch.Tensor]:
    """Makes tensors of prepared rows, shape (batch,), (batch, length) or (batch, lists, length).

    All are int64, but float32 of columns of fractions.

    Args:
        rows: The rows.
        filling: The columns that a batch holds, and what lists are padded with on the right to the longest; None for a
            column of numbers. Every `input_ids`, whatever stands before that in the name, gets its `attention_mask`.
            Rows of a column of lists of lists all have the same number of these.
    """
    batch = {}
    for name, value in filling.items():
        column = rows.column(name).combine_chunks()
        if value is None:
            kind = np.float32 if pa.types.is_floating(column.type) else np.int64
            batch[name] = torch.from_numpy(column.to_numpy().astype(kind))
            continue
        is_nested = pa.types.is_list(column.type.value_type)
        lists = column.flatten() if is_nested else column
        padded, mask = pad(lists.flatten().to_numpy(), np.diff(lists.offsets.to_numpy()), value)
        shape = (len(column), -1, padded.shape[1]) if is_nested else padded.shape
        batch[name] = padded.view(shape)
        if name.endswith("input_ids"):
            batch[name.replace("input_ids", "attention_mask")] = mask.view(shape)
    return batch


class _Planned(TorchDataset[Any]):
    """Rows addressed by a plan: one micro-batch, or a list of them."""

    def __init__(self, rows: RowSet, filling: Mapping[str, int | None]) -> None:
        self._rows = rows
        self._filling = filling

    def __getitem__(self, plan: MicroBatch | list[MicroBatch]) -> Any:
        return [self._batch(micro) for micro in plan] if isinstance(plan, list) else self._batch(plan)

    def _batch(self, micro: MicroBatch) -> dict[str, torch.Tensor]:
        return self._rows.common(micro) | as_tensors(self._rows.rows(micro.indices), self._filling)


def _as_it_is(item: Any) -> Any:
    return item


class PlannedLoader:
    """A loader whose batches a sampler plans.

    Not a `DataLoader`, which Lightning would take apart to put its own distributed sampler in.

    Args:
        rows: The rows.
        sampler: Plans what to yield.
        filling: The columns of a batch, as `as_tensors` takes it.
        num_workers: Processes that prepare batches.
        pin_memory: Whether to put batches in pinned memory.

    Attributes:
        dataset: The rows; its length is the number of examples.
        plan: The sampler.
    """

    def __init__(
        self,
        rows: RowSet,
        sampler: TrainBatchSampler | EvalBatchSampler,
        filling: Mapping[str, int | None],
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.dataset = rows
        self.plan = sampler
        self._loader: DataLoader[Any] = DataLoader(
            _Planned(rows, filling),
            sampler=sampler,
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=num_workers,
            pin_memory=pin_memory,
        )

    def __len__(self) -> int:
        """Batches of a whole pass."""
        return len(self.plan)

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches that the sampler plans."""
        return iter(self._loader)


class TrainLoader(PlannedLoader):
    """Yields one optimiser step at a time, from where the trainer stands.

    The place is asked for when the first batch is due and not when the iterator is made: Lightning may make it before
    it restores a checkpoint, and worker processes prepare batches that are not used yet.

    Args:
        seek: Sets the sampler to where the trainer stands; called at the start of every pass.
        args: What `PlannedLoader` takes, as `kwargs`.
        kwargs: See `args`.
    """

    def __init__(self, seek: Callable[[], None], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seek = seek

    def __iter__(self) -> Iterator[list[dict[str, torch.Tensor]]]:
        """Yields the micro-batches of each step that is left of the epoch."""
        self._seek()
        yield from self._loader

    def state_dict(self) -> dict[str, int]:
        """Nothing: the data module's state holds the place. That the method exists tells Lightning of the ability."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Takes the nothing that `state_dict` gave."""
