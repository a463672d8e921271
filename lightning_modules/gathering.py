"""Rows of tensors gathered over processes, with and without gradient."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad


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


def _concatenated(parts: list[Tensor]) -> Tensor:
    """Concatenate rows, filled on the right with -1 up to the widest of all processes."""
    if parts[0].dim() != 2:
        return torch.cat(parts)
    width = torch.tensor(max(part.shape[1] for part in parts), device=parts[0].device)
    if is_distributed():
        dist.all_reduce(width, dist.ReduceOp.MAX)
    return torch.cat([pad(part, (0, int(width) - part.shape[1]), value=-1) for part in parts])


def gather_examples(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Gather the rows of all processes on the CPU: each example once, without fillers, by language and example id.

    Args:
        batches: This process's rows with `language`, `example_ids`, `weights` (0 for a filler) and further columns.
            Columns of two dimensions may be of another width in every batch.

    Returns:
        The columns but `weights`, sorted by language and example id, rows filled with -1 up to their column's widest;
        only an empty `language` where nothing was run.
    """
    if not batches:
        return {"language": torch.empty(0, dtype=torch.int64)}
    own = {key: _concatenated([rows[key] for rows in batches]) for key in batches[0]}
    counts = row_counts(own["example_ids"])
    gathered = {key: gather_rows(values, counts).cpu() for key, values in own.items()}
    real = gathered.pop("weights") > 0
    gathered = {key: values[real] for key, values in gathered.items()}
    keys = torch.stack([gathered["language"], gathered["example_ids"]], dim=1)
    unique, group = torch.unique(keys, dim=0, return_inverse=True)
    first = torch.full((len(unique),), len(keys), dtype=torch.int64)
    first = first.scatter_reduce(0, group, torch.arange(len(keys)), "amin")
    return {key: values[first] for key, values in gathered.items()}
