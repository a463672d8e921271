"""What a device does that runs out of memory: the same rows again, fewer at once."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from ernie_m.errors import InputError

from .networks import Batch

T = TypeVar("T")
logger = logging.getLogger("lightning.pytorch")

_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    # Libraries and kernels that allocate beside PyTorch's own allocator.
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a device, or the CPU's allocator, had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or any(message in str(error) for message in _MESSAGES)


class MemoryLimit:
    """How many tokens this process sends through the network at once, learnt from running out of memory.

    A batch is split by rows. In training its loss is a sum over rows, so that the gradient of the global batch stays.

    Args:
        option: The option of the command that sets the limit from the start.

    Attributes:
        may_split: Whether the task admits parts of a batch.
    """

    def __init__(self, option: str) -> None:
        self.option = option
        self.may_split = True
        self._tokens: int | None = None

    def attempt(self, batch: list[Batch], run: Callable[[list[Batch]], T], step: int, may_retry: bool) -> T:
        """Run a batch, again in smaller parts where it does not fit, and return what `run` returned.

        Args:
            batch: Micro-batches, shorter rows first.
            run: Takes the parts.
            step: The optimiser step.
            may_retry: Whether this process may run other parts than the others do.

        Raises:
            InputError: As in `shrink`.
        """
        while True:
            parts = self.split(batch)
            try:
                return run(parts)
            except RuntimeError as error:
                if not may_retry or not is_out_of_memory(error):
                    raise
            # Not in the except clause, where the error keeps the failed pass's tensors.
            self.shrink(parts, step)

    def split(self, batch: list[Batch]) -> list[Batch]:
        """Return micro-batches within the limit, the longest first: only the last waits for other processes.

        Args:
            batch: Micro-batches, shorter rows first.
        """
        return [part for micro_batch in reversed(batch) for part in self._parts(micro_batch)]

    def _parts(self, batch: Batch) -> list[Batch]:
        rows, length = _extent(batch)
        if self._tokens is None or rows * length <= self._tokens:
            return [batch]
        if odd := [key for key, values in batch.items() if values.ndim and len(values) != rows]:
            raise InputError(
                f"out of memory, and the batch cannot be split by rows because of {', '.join(odd)}; set "
                "data.micro_batch_size"
            )
        at_once = max(1, self._tokens // length)
        return [
            {key: values[start : start + at_once] if values.ndim else values for key, values in batch.items()}
            for start in range(0, rows, at_once)
        ]

    def shrink(self, batch: list[Batch], step: int) -> None:
        """Halve the limit after running out of memory, and say so.

        Args:
            batch: The parts that were run one after the other.
            step: The optimiser step.

        Raises:
            InputError: The largest part is a single example, or one that cannot be split.
        """
        rows, length = max(map(_extent, batch), key=lambda extent: extent[0] * extent[1])
        if rows == 1 or not self.may_split:
            raise InputError(
                f"out of memory at step {step} with {rows if rows > 1 else 'one'} example{'s' * (rows > 1)} of "
                f"{length} tokens that cannot be split; set model.gradient_checkpointing to true, or lower "
                f"data.max_length{'' if self.may_split else ' or data.global_batch_size'}"
            )
        self._tokens = rows * length // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logger.warning(
            "out of memory at step %d with %d examples of %d tokens at once: they are taken again, from here on at "
            "most %d tokens at once; the global batch and the scores stay. To start so: --%s %d",
            step,
            rows,
            length,
            self._tokens,
            self.option,
            self._tokens,
        )


def _extent(batch: Batch) -> tuple[int, int]:
    """The rows of a batch, and the tokens of each with padding, of all its texts where there are several."""
    shapes = [values.shape for key, values in batch.items() if key.endswith("input_ids")]
    return int(shapes[0][0]), sum(shape[1:].numel() for shape in shapes)
