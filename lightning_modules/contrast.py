"""Vectors of sentences, and the losses that draw those of a pair together and push others apart."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

from .gathering import gather_rows, gather_rows_with_gradient, is_distributed, row_counts

Pooling = Literal["mean", "cls"]
Contrast = Literal["softmax", "hardest_negative"]

# Odd, and far from the small differences between token ids: 2^64 over the golden ratio, as a signed number.
_HASH_FACTOR = -7046029254386353131


def pooled(hidden: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """Return unit vectors of sentences in float32. (batch, width).

    Args:
        hidden: The tokens' vectors. (batch, length, width)
        attention_mask: 1 for a token, 0 for padding. (batch, length) int64
        pooling: "mean" of all tokens, or the vector of the first ("cls").
    """
    if pooling == "cls":
        return normalize(hidden[:, 0].float())
    mask = attention_mask[:, :, None].float()
    return normalize((hidden.float() * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0))


def digest(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Return one number per sentence, equal for equal sentences whatever their padding. (batch,) int64.

    Args:
        input_ids: (batch, length) int64
        attention_mask: (batch, length) int64
    """
    positions = torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device)
    factors = (positions * _HASH_FACTOR) ^ (positions << 17)
    return ((input_ids + 1) * attention_mask * factors).sum(dim=1)


def pair_losses(
    source: Tensor,
    target: Tensor,
    digests: Mapping[str, Tensor],
    weights: Tensor,
    scale: Tensor | float,
    contrast: Contrast = "softmax",
) -> Tensor:
    """Return the loss of each pair of this process against those of all processes, the mean of both directions.

    Fillers are no candidates; nor is a pair with the same source or the same target sentence: its other half is a
    right answer, or as good as one.

    Args:
        source: Unit vectors of the sources. (batch, width)
        target: Unit vectors of the targets. (batch, width)
        digests: "source" and "target" to what `digest` says of the sentences. (batch,) int64
        weights: 0 for a filler. (batch,)
        scale: What cosines are multiplied with.
        contrast: "softmax" (InfoNCE) or "hardest_negative".

    Returns:
        (batch,) float32
    """
    counts = row_counts(source.detach())
    start = sum(counts[: dist.get_rank()]) if is_distributed() else 0
    own = torch.arange(start, start + len(source), device=source.device)
    allowed = (gather_rows(weights, counts) > 0).expand(len(own), -1).clone()
    for values in digests.values():
        allowed &= values[:, None] != gather_rows(values, counts)[None, :]
    allowed[torch.arange(len(own), device=own.device), own] = True
    losses = torch.zeros(len(own), device=own.device)
    # In half precision a cosine over a small temperature has errors of a tenth of a nat.
    with torch.autocast(source.device.type, enabled=False):
        for queries, candidates in ((source, target), (target, source)):
            logits = queries @ gather_rows_with_gradient(candidates, counts).T * scale
            losses = losses + _losses(logits.masked_fill(~allowed, -math.inf), own, contrast) / 2
    return losses


def _losses(logits: Tensor, own: Tensor, contrast: Contrast) -> Tensor:
    """Return every query's loss. (batch,).

    Args:
        logits: Scaled cosines; -inf for what is no candidate. (batch, global)
        own: The column of every query's translation. (batch,) int64
        contrast: Which loss.
    """
    if contrast == "softmax":
        return cross_entropy(logits, own, reduction="none")
    right = logits.gather(1, own[:, None])[:, 0]
    hardest = logits.scatter(1, own[:, None], -math.inf).max(dim=1).values
    # Minus the logarithms of sigmoid(right) and of 1 - sigmoid(hardest).
    return softplus(-right) + softplus(hardest)
