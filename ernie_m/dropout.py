"""Dropout that does not hold the CPU up.

torch draws one Bernoulli number after another on a CPU: on two cores a training step of ERNIE-M base on XNLI spent a
fifth of its time on them. Here one 64-bit draw decides on four elements. Elsewhere torch's own dropout is used.
"""

from typing import Any

import torch
from torch import Tensor, nn

_LEVELS = 2**16


class _Drop(torch.autograd.Function):
    """Keeps a byte for each element between the passes, where products that autograd records would keep four."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return _scaled(values, kept, scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return _scaled(gradient, kept, ctx.scale), None, None


def _scaled(values: Tensor, kept: Tensor, scale: float) -> Tensor:
    # Products in place take two thirds of the time of `torch.where`, and int8 becomes floating point faster than bool.
    # The scale comes last: as a factor in bfloat16 it would be rounded.
    return kept.view(torch.int8).to(values.dtype).mul_(values).mul_(scale)


def dropout(values: Tensor, rate: float, training: bool) -> Tensor:
    """Set elements to 0 at random and scale the others up, so that the expectation stays.

    On a CPU the rate is rounded to a multiple of 2^-16, and the scale is that of the rounded rate.

    Args:
        values: Any shape, floating point.
        rate: Probability of a 0.
        training: Whether to do anything.
    """
    dropped = round(rate * _LEVELS)
    is_eager_cpu = values.device.type == "cpu" and not torch.compiler.is_compiling()
    if not is_eager_cpu or not training or not 0 < dropped < _LEVELS:
        return nn.functional.dropout(values, rate, training)
    count = values.numel()
    draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = draws.view(torch.int16)[:count].view(values.shape) >= dropped - _LEVELS // 2
    found: Tensor = _Drop.apply(values, kept, _LEVELS / (_LEVELS - dropped))
    return found


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` by way of `dropout`."""

    def forward(self, values: Tensor) -> Tensor:
        """Drop elements of `values`, of any shape, while training."""
        return dropout(values, self.p, self.training)
