"""The cached rows of several languages as one, and the loaders over them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from .batching import EvalBatchSampler, Indices, MicroBatch, TrainBatchSampler
from .cache import ArrowRows

Batch = dict[str, torch.Tensor]
Collate = Callable[["RowSet", MicroBatch], Batch]


class RowSet:
    """The cached rows of several languages as one sequence.

    Args:
        parts: The rows of each language.
        language_ids: Each part's index into the data module's `languages`.
    """

    def __init__(self, parts: Sequence[ArrowRows], language_ids: Sequence[int]) -> None:
        self.parts = list(parts)
        self.language_ids = np.asarray(language_ids, dtype=np.int64)
        self._starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def part_of(self, indices: Indices) -> NDArray[np.int64]:
        """The part that each row lies in, shape (batch,)."""
        return (np.searchsorted(self._starts, indices, side="right") - 1).astype(np.int64)

    def lists(self, column: str, indices: Indices) -> list[NDArray[Any]]:
        """The lists of a column for some rows."""
        part = self.part_of(indices)
        places = indices - self._starts[part]
        lists: list[Any] = [None] * len(indices)
        for p in np.unique(part).tolist():
            chosen = np.flatnonzero(part == p)
            for i, row in zip(chosen.tolist(), self.parts[p].lists_at(column, places[chosen]), strict=True):
                lists[i] = row
        return lists

    def scalars(self, column: str, indices: Indices) -> torch.Tensor:
        """The numbers of a column for some rows, int64, shape (batch,)."""
        part = self.part_of(indices)
        places = indices - self._starts[part]
        values = np.empty(len(indices), dtype=np.int64)
        for p in np.unique(part).tolist():
            values[part == p] = self.parts[p].scalars(column)[places[part == p]]
        return torch.from_numpy(values)

    def all_scalars(self, column: str) -> NDArray[Any]:
        """A column of numbers of all rows, shape (rows,)."""
        return np.concatenate([part.scalars(column) for part in self.parts])

    def lengths(self, column: str) -> NDArray[np.int64]:
        """The length of every row's list, shape (rows,)."""
        return np.concatenate([part.lengths(column) for part in self.parts])

    def common(self, micro: MicroBatch) -> Batch:
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


class _Planned(Dataset[Any]):
    """Rows addressed by a plan: one micro-batch, or a list of them."""

    def __init__(self, rows: RowSet, collate: Collate) -> None:
        self._rows = rows
        self._collate = collate

    def __getitem__(self, plan: MicroBatch | list[MicroBatch]) -> Batch | list[Batch]:
        if isinstance(plan, MicroBatch):
            return self._collate(self._rows, plan)
        return [self._collate(self._rows, micro) for micro in plan]


def _as_it_is(item: Any) -> Any:
    return item


class PlannedLoader:
    """A loader whose batches a sampler plans.

    Not a `DataLoader`, which Lightning would take apart to put its own distributed sampler in.

    Args:
        rows: The rows.
        sampler: Plans what to yield.
        collate: Makes a batch; must be picklable where there are workers.
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
        collate: Collate,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.dataset = rows
        self.plan = sampler
        self._loader: DataLoader[Any] = DataLoader(
            _Planned(rows, collate),
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
        rows: The rows.
        sampler: Plans the steps.
        collate: Makes a micro-batch.
        seek: Sets the sampler to where the trainer stands; called at the start of every pass.
        num_workers: Processes that prepare batches.
        pin_memory: Whether to put batches in pinned memory.
    """

    def __init__(
        self,
        rows: RowSet,
        sampler: TrainBatchSampler,
        collate: Collate,
        seek: Callable[[TrainBatchSampler], None],
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(rows, sampler, collate, num_workers, pin_memory)
        self._sampler = sampler
        self._seek = seek

    def __iter__(self) -> Iterator[list[Batch]]:
        """Yields the micro-batches of each step that is left of the epoch."""
        self._seek(self._sampler)
        yield from self._loader

    def state_dict(self) -> dict[str, int]:
        """Nothing: the data module's state holds the place. That the method exists tells Lightning of the ability."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Takes the nothing that `state_dict` gave."""
