"""Batches of texts and pairs in fixed proportion, of languages whose sizes count less than they differ."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ernie_m.errors import InputError

from .batching import Indices, TrainBatchSampler


class MixtureSampler(TrainBatchSampler):
    """Plans batches whose rows come from several languages, as texts and as pairs.

    Every batch has the same number of pairs. A language with n of the N rows of its kind is drawn with a probability in
    proportion to (n / N) ** alpha (Conneau and Lample, 2019). Each goes through its rows in a new order again and
    again: an epoch has as many rows as the data, those of some languages several times, of others a part, and the next
    epoch goes on where they stopped. Within an epoch the order is drawn, so that a row of a small language may come
    twice in a batch.

    Args:
        lengths: Tokens of each row, shape (rows,).
        args: What `TrainBatchSampler` takes, as `kwargs`.
        part_of: The language that each row is of, numbers from 0, ascending, shape (rows,).
        is_pair: Whether the rows of each language are pairs.
        pair_share: Share of pairs in a batch, where there are both kinds.
        alpha: 1 for the languages' own proportions, 0 for equal ones.
        kwargs: See `args`.

    Raises:
        InputError: A batch has no room for one of the kinds.
    """

    def __init__(
        self,
        lengths: ArrayLike,
        *args: Any,
        part_of: NDArray[np.int64],
        is_pair: Sequence[bool],
        pair_share: float,
        alpha: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(lengths, *args, **kwargs)
        self._starts = np.searchsorted(part_of, np.arange(len(is_pair) + 1))
        sizes = np.diff(self._starts)
        kinds = [[part for part in range(len(is_pair)) if is_pair[part] == kind] for kind in (False, True)]
        share = pair_share if all(kinds) else float(bool(kinds[1]))
        pairs = round(self.global_batch_size * share)
        self._of_kind = list(zip(kinds, (self.global_batch_size - pairs, pairs), strict=True))
        if any(parts and not count for parts, count in self._of_kind):
            raise InputError(
                f"A batch of {self.global_batch_size} rows with a pair_share of {pair_share} has {pairs} pairs: texts"
                " and pairs both need a row. Raise global_batch_size or change pair_share."
            )
        self._quotas = np.zeros(len(is_pair), dtype=np.int64)
        for parts, count in self._of_kind:
            if parts:
                self._quotas[parts] = _in_proportion(count * len(self), sizes[parts].astype(float) ** alpha)

    def __len__(self) -> int:
        """Global batches of one epoch: all of them full."""
        return max(1, len(self.lengths) // self.global_batch_size)

    def state_dict(self) -> dict[str, int]:
        """The position, and what an order depends on: how often each language is drawn, too."""
        plan = int.from_bytes(self._quotas.tobytes()) % (2**61 - 1)
        return super().state_dict() | {"plan": plan}

    def batches_of(self, epoch: int, rng: np.random.Generator) -> list[Indices]:
        """The rows of every batch of an epoch."""
        found: list[list[Indices]] = []
        for parts, count in self._of_kind:
            if count:
                rows = np.concatenate([self._drawn(part, epoch) for part in parts])
                own = self.like_length(rng.permutation(rows), rng, count)
                found.append([own[i] for i in rng.permutation(len(own))])
        joined = [np.concatenate(together) for together in zip(*found, strict=True)]
        return [batch[np.argsort(self.lengths[batch], kind="stable")] for batch in joined]

    def _drawn(self, part: int, epoch: int) -> Indices:
        """The rows of a language that an epoch gets, from the endless succession of its passes."""
        start, end = self._starts[part : part + 2].tolist()
        size, quota = end - start, int(self._quotas[part])
        passes = range(epoch * quota // size, ((epoch + 1) * quota - 1) // size + 1) if quota else range(0)
        orders = [np.random.default_rng((self.seed, part, number)).permutation(size) for number in passes]
        rows = np.concatenate([np.empty(0, dtype=np.int64), *orders])
        first = epoch * quota - (passes.start * size if quota else 0)
        drawn: Indices = start + rows[first : first + quota]
        return drawn


def _in_proportion(total: int, weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers in proportion to weights, with a given sum: what rounding leaves goes to the largest remainders."""
    exact = total * weights / weights.sum()
    shares: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    rest = total - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:rest]] += 1
    return shares
