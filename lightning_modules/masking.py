"""Which tokens a pre-training hides, and what from: nothing is drawn but by what it is for.

A draw is a hash of numbers that say what is drawn: the seed, the step, the row, the token. So it is the same on any
number of devices, in any micro-batch and after a resume, and no generator has a state to keep.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .networks import Batch
from .objectives import is_target

BERT = (0.8, 0.1, 0.1)
"""Shares of the chosen tokens that become the mask, become another token, and stay (Devlin et al., 2019)."""

ONLY_MASKS = (1.0, 0.0, 0.0)

# splitmix64's increment and factors (Steele, Lea and Flood, 2014), as signed numbers.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FACTORS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
_LARGEST = torch.iinfo(torch.int64).max
# What is drawn by a row's draw.
_CHOICE, _REPLACEMENT = 100, 101
# The bits of a draw that a float32 holds exactly.
_BITS = 24


def _shifted(values: Tensor, by: int) -> Tensor:
    """Shift to the right and fill with zeros; torch fills with the sign."""
    return (values >> by) & ((1 << (64 - by)) - 1)


def draws(first: Tensor, *others: Tensor | int) -> Tensor:
    """Return the hash of several numbers, broadcast against each other. (...) int64.

    Args:
        first: (...) int64
        others: Further numbers. (...) int64
    """
    state = torch.zeros_like(first)
    for number in (first, *others):
        state = (state ^ number) + _STEP
        for by, factor in _FACTORS:
            state = (state ^ _shifted(state, by)) * factor
        state = state ^ _shifted(state, 31)
    return state


def uniform(values: Tensor) -> Tensor:
    """Return draws as numbers from 0 to below 1. (...) float32.

    Args:
        values: (...) int64
    """
    return _shifted(values, 64 - _BITS).float().div(2**_BITS)


def pick(values: Tensor, count: int) -> Tensor:
    """Return draws as numbers from 0 to below `count`. (...) int64.

    Args:
        values: (...) int64
        count: How many there are to pick from.
    """
    return _shifted(values, 1) % count


def one_of(rows: Tensor, admitted: Tensor, but: Tensor) -> Tensor:
    """Return one of several numbers for each row, each as likely as the others. (batch,) int64.

    Args:
        rows: A draw for each row. (batch,) int64
        admitted: The numbers. (numbers,) int64
        but: The one that a row does not get. (batch, 1) int64
    """
    # The highest draw of those that are admitted.
    found = uniform(draws(rows[:, None], admitted)).masked_fill(admitted == but, -1.0)
    return admitted[found.argmax(dim=1)]


def choose(rows: Tensor, units: Tensor, eligible: Tensor, rate: float) -> Tensor:
    """Choose which tokens are to be predicted: whole units in a drawn order, until the rate is reached.

    A row with n eligible tokens gets round(rate n) of them, one at least; more where the last unit has several tokens.

    Args:
        rows: A draw for each row. (batch,) int64
        units: The number of the unit that each token belongs to: of the token itself, or of its word. (batch, length)
            int64
        eligible: The tokens that may be chosen, either all of a unit or none. (batch, length) bool
        rate: The share to choose, above 0 and at most 1.

    Returns:
        The choice. (batch, length) bool
    """
    keys = _shifted(draws(rows[:, None], units), 1).masked_fill(~eligible, _LARGEST)
    ordered, order = keys.sort(dim=1, stable=True)
    is_first = torch.ones_like(eligible)
    is_first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    places = torch.arange(keys.shape[1], device=keys.device)
    before = (places * is_first).cummax(dim=1).values
    wanted = (eligible.sum(dim=1) * rate).round().clamp(min=1)
    chosen = (before < wanted[:, None]) & (ordered != _LARGEST)
    return torch.zeros_like(eligible).scatter(1, order, chosen)


def hide(
    rows: Tensor, input_ids: Tensor, chosen: Tensor, mask_id: int, ordinary: Tensor, shares: Sequence[float]
) -> Tensor:
    """Replace the chosen tokens, as BERT does: most by the mask, some by another token, some by themselves.

    Args:
        rows: A draw for each row. (batch,) int64
        input_ids: (batch, length) int64
        chosen: The tokens to predict. (batch, length) bool
        mask_id: Id of the mask.
        ordinary: The ids that another token is drawn from. (ids,) int64
        shares: The shares of the mask, of another token, and of the token itself.

    Returns:
        The ids to give to the network. (batch, length) int64
    """
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    kind = uniform(draws(rows[:, None], places, 0))
    masked = chosen & (kind < shares[0])
    replaced = chosen & ~masked & (kind < shares[0] + shares[1])
    others = ordinary[pick(draws(rows[:, None], places, 1), len(ordinary))]
    return torch.where(masked, mask_id, torch.where(replaced, others, input_ids))


class Masker(nn.Module):
    """Hides tokens of rows, of either sentence of a pair the same share.

    Args:
        kinds: What each id of the vocabulary is: 0 a special token, 1 a part of a word, 2 a word's beginning.
            (vocabulary,)
        mask_id: Id of the mask.
        rate: Share of the ordinary tokens to hide.
        whole_words: Whether all tokens of a word are hidden together.
    """

    is_special: Tensor
    begins_word: Tensor
    ordinary: Tensor

    def __init__(self, kinds: Tensor, mask_id: int, rate: float, whole_words: bool) -> None:
        super().__init__()
        self.register_buffer("is_special", kinds == 0, persistent=False)
        self.register_buffer("begins_word", kinds == 2, persistent=False)
        self.register_buffer("ordinary", torch.nonzero(kinds > 0)[:, 0], persistent=False)
        self.mask_id = mask_id
        self.rate = rate
        self.whole_words = whole_words

    def is_ordinary(self, batch: Batch) -> Tensor:
        """Return which tokens are neither special nor padding. (batch, length) bool."""
        return ~self.is_special[batch["input_ids"]] & batch["attention_mask"].bool()

    def forward(
        self, batch: Batch, rows: Tensor, shares: Sequence[float], targets: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return which tokens are to be predicted, bool, and the ids to give instead, int64. Both (batch, length).

        Args:
            batch: `input_ids`, `attention_mask` and `target_start`.
            rows: A draw for each row. (batch,) int64
            shares: As in `hide`.
            targets: Whether tokens of the second sentence are hidden too.
        """
        ids, ordinary, second = batch["input_ids"], self.is_ordinary(batch), is_target(batch)
        units = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        if self.whole_words:
            units = (self.begins_word[ids] | ~ordinary).cumsum(dim=1)
        choice = draws(rows, _CHOICE)
        chosen = choose(choice, units, ordinary & ~second, self.rate)
        if targets:
            chosen = chosen | choose(choice, units, ordinary & second, self.rate)
        return chosen, hide(draws(rows, _REPLACEMENT), ids, chosen, self.mask_id, self.ordinary, shares)
