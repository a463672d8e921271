"""Which examples make up which batch, for every data module.

A training batch is planned globally: the examples of one optimiser step are fixed by the data, the seed and the epoch
alone, and are then dealt out to the processes and their micro-batches. So the gradient, the number of steps and the
order of the data do not depend on the number of devices, and a run may be resumed on another number of them.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

from ernie_m.errors import InputError, check_positive

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The rows that one process sends through the network at once.

    Attributes:
        indices: Rows, shape (batch,).
        weights: 1 for an example, 0 for a filler that keeps the processes in step, shape (batch,).
        normaliser: What the summed loss is divided by: the weight of the whole global batch over the number of
            processes. None for evaluation.
    """

    indices: Indices
    weights: NDArray[np.float32]
    normaliser: float | None = None


class TrainBatchSampler(Sampler[list[MicroBatch]]):
    """Plans the global batches of training, in batches of like length.

    The examples are shuffled, dealt into pools of about `pool_batches` batches, sorted by length within a pool and cut
    into batches, and the batches are shuffled. Every batch holds exactly `global_batch_size` examples but for what
    remains (one batch; one per group where `groups` is given), which comes last; which examples remain changes
    every epoch.

    One item of the sampler is one optimiser step: this process's micro-batches of one global batch. All processes have
    the same number of micro-batches, which sharded training needs.

    Args:
        lengths: Tokens of each example, shape (examples,).
        global_batch_size: Examples of one optimiser step, over all processes.
        micro_batch_size: At most so many examples at once in a process; None for no limit.
        micro_batch_tokens: At most so many examples at once that their number times the longest of them stays within
            it, one at least; None for no limit.
        seed: Together with the epoch it fixes the order.
        rank: This process.
        world_size: Number of processes.
        example_weights: What each example adds to the normaliser (for instance the number of tokens that its loss
            sums over), shape (examples,); None for 1 each.
        groups: Examples of different groups never share a batch, shape (examples,); None for no groups.
        keys: Examples that have the same key in the same column do not share a batch where that can be avoided, shape
            (examples,) or (examples, columns); None for no such rule.
        pool_batches: Batches in a pool. More means less padding and less chance in who meets whom.
        longest_first: Begin every epoch with the batch that has the largest micro-batch.

    Raises:
        InputError: There are no examples, or a size is not positive.
    """

    def __init__(
        self,
        lengths: ArrayLike,
        global_batch_size: int,
        micro_batch_size: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        *,
        micro_batch_tokens: int | None = None,
        example_weights: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        keys: ArrayLike | None = None,
        pool_batches: int = 100,
        longest_first: bool = False,
    ) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        if len(self.lengths) == 0:
            raise InputError("There are no examples to train on.")
        check_positive(
            global_batch_size=global_batch_size,
            micro_batch_size=micro_batch_size,
            micro_batch_tokens=micro_batch_tokens,
            pool_batches=pool_batches,
        )
        if not 0 <= rank < world_size:
            raise InputError(f"rank is {rank}; with world_size {world_size} it must be 0 to {world_size - 1}.")
        self.global_batch_size = global_batch_size
        self.micro_batch_size = micro_batch_size
        self.micro_batch_tokens = micro_batch_tokens
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.pool_batches = pool_batches
        self.longest_first = longest_first
        self.example_weights = None if example_weights is None else np.asarray(example_weights, dtype=np.float64)
        self._members = _members(groups, len(self.lengths))
        self._keys = None if keys is None else _distinct_by_column(keys, len(self.lengths))
        self.epoch = 0
        self.consumed = 0

    def __len__(self) -> int:
        """Global batches of one epoch, the same for every epoch and process."""
        return sum(-(-len(members) // self.global_batch_size) for members in self._members)

    def set_epoch(self, epoch: int, consumed: int = 0) -> None:
        """Chooses where the next iteration starts: the epoch and the global batches of it that were used already."""
        self.epoch = epoch
        self.consumed = consumed

    def state_dict(self) -> dict[str, int]:
        """The position, and what an order depends on besides the data. It holds no rank and no micro-batch size."""
        return {
            "epoch": self.epoch,
            "consumed": self.consumed,
            "examples": len(self.lengths),
            "global_batch_size": self.global_batch_size,
            "seed": self.seed,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues where `state` was taken.

        Args:
            state: What `state_dict` returned, on any number of processes.

        Raises:
            InputError: The state is that of another order (other examples, batch size or seed).
        """
        own = self.state_dict()
        if not all(isinstance(state.get(name), int) for name in own):
            raise InputError(f"The checkpoint is damaged: the place in the data is {state}; it needs {', '.join(own)}.")
        differing = [name for name in own if name not in ("epoch", "consumed") and state[name] != own[name]]
        if differing:
            listed = ", ".join(f"{name} was {state[name]} and is {own[name]}" for name in differing)
            raise InputError(f"Cannot continue in the middle of the data: {listed}. Resume with the former values.")
        self.set_epoch(state["epoch"], state["consumed"])

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        """Yields this process's micro-batches of each global batch that is left of the epoch."""
        remaining = self.global_batches(self.epoch)[self.consumed :]
        return (self.share(batch) for batch in remaining)

    def global_batches(self, epoch: int) -> list[Indices]:
        """The rows of every global batch of an epoch, the same on every process, shorter rows first in each."""
        rng = np.random.default_rng((self.seed, epoch))
        batches = self.batches_of(epoch, rng)
        order: list[int] = rng.permutation(len(batches)).tolist()
        order.sort(key=lambda i: len(batches[i]) < self.global_batch_size)
        if self.longest_first:
            longest = max(order, key=lambda i: max(len(part) * part[-1] for part in self._planned_lengths(batches[i])))
            order.remove(longest)
            order.insert(0, longest)
        return [batches[i] for i in order]

    def batches_of(self, epoch: int, rng: np.random.Generator) -> list[Indices]:
        """The rows of every global batch of an epoch, whose order is drawn afterwards; shorter rows first in each."""
        batches: list[Indices] = []
        for members in self._members:
            group = self.like_length(rng.permutation(members), rng, self.global_batch_size)
            if self._keys is not None:
                group = _separate(group, self._keys, self.lengths)
            batches += group
        return batches

    def like_length(self, shuffled: Indices, rng: np.random.Generator, batch_size: int) -> list[Indices]:
        """Cuts shuffled rows into batches of like length, one of them short where the size does not divide."""
        full, rest = divmod(len(shuffled), batch_size)
        sizes = np.full(full + (rest > 0), batch_size)
        if rest:
            sizes[rng.integers(len(sizes))] = rest
        pools = max(1, round(len(sizes) / self.pool_batches))
        batch_of_position = np.repeat(np.arange(len(sizes)), sizes)
        pool_of_position = batch_of_position * pools // len(sizes)
        order = np.lexsort((self.lengths[shuffled], pool_of_position))
        return np.split(shuffled[order], np.cumsum(sizes)[:-1])

    def share(self, batch: Indices) -> list[MicroBatch]:
        """This process's micro-batches of a global batch: every `world_size`-th row, so that loads are alike.

        There are as few of them as the limits allow, the largest of them as small as that number allows.

        Args:
            batch: The rows of the global batch, shorter rows first.
        """
        weight = len(batch) if self.example_weights is None else float(self.example_weights[batch].sum())
        # A batch whose every target is ignored has a loss of 0, which may be divided by anything but 0.
        normaliser = weight / self.world_size or 1.0
        cuts = np.cumsum([len(part) for part in self._planned_lengths(batch)])[:-1]
        return [
            MicroBatch(rows, np.ones(len(rows), dtype=np.float32), normaliser)
            if len(rows)
            else MicroBatch(batch[:1], np.zeros(1, dtype=np.float32), normaliser)
            for rows in np.split(batch[self.rank :: self.world_size], cuts)
        ]

    def _planned_lengths(self, batch: Indices) -> list[list[int]]:
        """The lengths of the rows of each micro-batch, one plan for all processes.

        They get neighbouring rows; the longest of each set of neighbours counts.
        """
        starts = np.arange(0, len(batch), self.world_size)
        longest: list[int] = np.maximum.reduceat(np.maximum(self.lengths[batch], 1), starts).tolist()
        at_once = min(len(longest), self.micro_batch_size or len(longest))
        tokens = min(at_once * longest[-1], self.micro_batch_tokens or at_once * longest[-1])
        return _even_parts(longest, at_once, tokens)


class EvalBatchSampler(Sampler[MicroBatch]):
    """Plans the batches of evaluation: a budget of tokens, the longest first, each example once over all processes.

    The longest batch comes first, so that a device that is too small fails at once. Processes take turns; those that
    run out get one row of weight 0, so that all run the same number of batches.

    Args:
        lengths: Tokens of each example, shape (examples,).
        tokens_per_batch: Rows times longest row of a batch, padding included; a longer row makes a batch by itself.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(self, lengths: ArrayLike, tokens_per_batch: int, rank: int = 0, world_size: int = 1) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        check_positive(tokens_per_batch=tokens_per_batch)
        order = np.argsort(-self.lengths, kind="stable")
        batches: list[Indices] = []
        start = 0
        while start < len(order):
            longest = max(1, int(self.lengths[order[start]]))
            count = max(1, tokens_per_batch // longest)
            batches.append(order[start : start + count])
            start += count
        self._batches = batches[rank::world_size]
        self._fillers = -(-len(batches) // world_size) - len(self._batches)
        self._filler = order[-1:]

    def __len__(self) -> int:
        """Batches of this process, the same on every process."""
        return len(self._batches) + self._fillers

    def __iter__(self) -> Iterator[MicroBatch]:
        """Yields this process's batches, fillers last."""
        for rows in self._batches:
            yield MicroBatch(rows, np.ones(len(rows), dtype=np.float32))
        for _ in range(self._fillers):
            yield MicroBatch(self._filler, np.zeros(1, dtype=np.float32))


def pad(values: NDArray[Any], lengths: NDArray[np.integer[Any]], value: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pads rows on the right to the longest.

    Args:
        values: The rows end to end, shape (elements,).
        lengths: The elements of each row, shape (batch,).
        value: What to pad with.

    Returns:
        The rows and their mask (1 on a row's own elements, 0 on padding), both int64, shape (batch, length).
    """
    mask = np.arange(lengths.max()) < lengths[:, None]
    padded = np.full(mask.shape, value, dtype=np.int64)
    padded[mask] = values
    return torch.from_numpy(padded), torch.from_numpy(mask.astype(np.int64))


def _parts(lengths: list[int], rows: int, tokens: int) -> list[list[int]]:
    """Cut ascending lengths into as few parts as the limits allow; a longer row is a part by itself."""
    parts = []
    end = len(lengths)
    while end > 0:
        start = max(0, end - max(1, min(rows, tokens // lengths[end - 1])))
        parts.append(lengths[start:end])
        end = start
    return parts[::-1]


def _even_parts(lengths: list[int], rows: int, tokens: int) -> list[list[int]]:
    """The same number of parts, the largest of them as small as that number allows."""
    fewest = len(_parts(lengths, rows, tokens))
    least = bisect_left(range(tokens), -fewest, key=lambda limit: -len(_parts(lengths, rows, limit)))
    return _parts(lengths, rows, least)


def _members(groups: ArrayLike | None, examples: int) -> list[Indices]:
    if groups is None:
        return [np.arange(examples, dtype=np.int64)]
    values = np.asarray(groups)
    return [np.flatnonzero(values == group) for group in np.unique(values)]


def _distinct_by_column(keys: ArrayLike, examples: int) -> NDArray[np.int64]:
    table = np.asarray(keys, dtype=np.int64).reshape(examples, -1)
    return table * table.shape[1] + np.arange(table.shape[1])


def _separate(batches: list[Indices], keys: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[Indices]:
    """Swaps rows between batches so that no two rows of one batch share a key; the sizes stay.

    Neighbours are tried first, since their lengths are alike. A row for which no batch has room for its keys stays.
    """
    held: list[dict[int, int]] = []
    for batch in batches:
        values, counts = np.unique(keys[batch], return_counts=True)
        held.append(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    for here, batch in enumerate(batches):
        if max(held[here].values()) == 1:
            continue
        for place, row in enumerate(batch):
            if any(held[here][key] > 1 for key in keys[row].tolist()):
                _swap(here, place, batches, held, keys)
    return [batch[np.argsort(lengths[batch], kind="stable")] for batch in batches]


def _swap(here: int, place: int, batches: list[Indices], held: list[dict[int, int]], keys: NDArray[np.int64]) -> None:
    """Exchanges one row with the first of a near batch such that neither meets its own keys where it goes."""
    row_keys: list[int] = keys[batches[here][place]].tolist()
    for there in _outward(here, len(batches)):
        if any(key in held[there] for key in row_keys):
            continue
        for other_place, other in enumerate(batches[there]):
            other_keys: list[int] = keys[other].tolist()
            if any(key in held[here] for key in other_keys):
                continue
            for giver, taker, moved in ((here, there, row_keys), (there, here, other_keys)):
                for key in moved:
                    held[giver][key] -= 1
                    if not held[giver][key]:
                        del held[giver][key]
                    held[taker][key] = held[taker].get(key, 0) + 1
            batches[there][other_place], batches[here][place] = batches[here][place], other
            return


def _outward(centre: int, count: int) -> Iterator[int]:
    """The other positions, the nearest first."""
    for distance in range(1, count):
        if centre + distance < count:
            yield centre + distance
        if centre >= distance:
            yield centre - distance
