"""Rows of tensors gathered over processes, with and without gradient."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Tell whether more than one process takes part."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def row_counts(rows: Tensor) -> list[int]:
    """Return every process's number of rows, in the order of the ranks.

    Args:
        rows: This process's rows. (rows, ...)
    """
    if not is_distributed():
        return [len(rows)]
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, own)
    return [int(count) for count in counts]


def gather_rows(rows: Tensor, counts: list[int] | None = None) -> Tensor:
    """Concatenate the rows of all processes in the order of the ranks; they may have different numbers of rows.

    Args:
        rows: This process's rows, of the same width and type everywhere. (rows, ...)
        counts: The numbers of rows, from `row_counts`, where they are known already.

    Returns:
        The rows of all processes, on every process. (all rows, ...)
    """
    if not is_distributed():
        return rows
    counts = counts or row_counts(rows)
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


class _GatherWithGradient(torch.autograd.Function):
    """`gather_rows` whose gradient is the sum of all processes' gradients of this process's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        return gather_rows(rows, counts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        rank = dist.get_rank()
        start = sum(ctx.counts[:rank])
        return gradient[start : start + ctx.counts[rank]], None


def gather_rows_with_gradient(rows: Tensor, counts: list[int]) -> Tensor:
    """Concatenate the rows of all processes so that a loss over all of them reaches every process's network.

    Where each process's loss is its share times the number of processes, and gradients are averaged over processes (as
    DDP and FSDP do), the result is the gradient of the mean loss over the global batch.

    Args:
        rows: This process's rows. (rows, ...)
        counts: The numbers of rows, from `row_counts`.

    Returns:
        The rows of all processes. (all rows, ...)
    """
    if not is_distributed():
        return rows
    gathered: Tensor = _GatherWithGradient.apply(rows, counts)  # type: ignore[no-untyped-call]
    return gathered
