"""What is chosen on development data after training: a temperature, and a threshold for each label. Pure functions."""

import math
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from ernie_m.errors import InputError

TEMPERATURES = (0.05, 20.0)
"""The lowest and the highest temperature that are tried."""

_HALVINGS = 50


def best_temperature(probabilities: Tensor, labels: Tensor) -> float:
    """Return the temperature that gives the labels the highest likelihood (Guo et al. 2017, arXiv 1706.04599).

    Args:
        probabilities: At temperature 1. (examples, labels)
        labels: The right label of each, from 0. (examples,) int64

    Returns:
        What logits are divided by, within `TEMPERATURES`.
    """
    logits = _logits(probabilities.double())
    right = logits.gather(1, labels[:, None]).mean()
    low, high = (1 / bound for bound in reversed(TEMPERATURES))
    # The mean loss is convex in 1 / temperature: its slope rises, and is 0 at the best one.
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        slope = ((middle * logits).softmax(dim=-1) * logits).sum(dim=-1).mean() - right
        low, high = (middle, high) if slope < 0 else (low, middle)
    return 1 / math.sqrt(low * high)


def at_temperature(probabilities: Tensor, temperature: float) -> Tensor:
    """Return probabilities at another temperature than 1.

    Args:
        probabilities: At temperature 1. (examples, labels)
        temperature: What logits are divided by.
    """
    return probabilities if temperature == 1 else (_logits(probabilities) / temperature).softmax(dim=-1)


def _logits(probabilities: Tensor) -> Tensor:
    """Logits of probabilities, but for what is the same for all labels of an example."""
    return probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()


def best_thresholds(probabilities: Tensor, labels: Tensor) -> list[float]:
    """Return for every label the threshold that gives it the highest F1.

    Args:
        probabilities: (examples, labels)
        labels: 1 for each label that an example has, otherwise 0. (examples, labels)

    Returns:
        Thresholds, half-way between two probabilities; of several that are as good the highest. 0.5 where no example
        has the label.
    """
    thresholds = []
    for own, right in zip(probabilities.double().T, labels.T, strict=True):
        if not bool(right.any()):
            thresholds.append(0.5)
            continue
        order = own.argsort(descending=True)
        ranked, found = own[order], right[order].cumsum(0).double()
        f1 = 2 * found / (torch.arange(1, len(own) + 1) + right.sum())
        # Examples of the same probability are taken together.
        f1[:-1][ranked[:-1] == ranked[1:]] = 0
        last = int(f1.argmax())
        below = ranked[last + 1] if last + 1 < len(ranked) else torch.zeros(())
        thresholds.append(float((ranked[last] + below) / 2))
    return thresholds


def kept_number(config: PreTrainedConfig, name: str, low: float, high: float, default: float) -> float:
    """Return a number that calibration left in a network's configuration, which may be a stranger's.

    Args:
        config: The configuration.
        name: The field.
        low: The least that it can be.
        high: The most.
        default: What it is where there is no such field.

    Raises:
        InputError: It is no such number.
    """
    return check_number(getattr(config, name, default), f"{name} in a network's configuration", low, high)


def check_number(value: Any, name: str, low: float, high: float) -> float:
    """Return a number within bounds.

    Args:
        value: What was found.
        name: What it is, for the message.
        low: The least that it can be.
        high: The most.

    Raises:
        InputError: It is no number, or not within them.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name} is {str(value)[:100]!r}; it is a number from {low:g} to {high:g}")
    return float(value)
