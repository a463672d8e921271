"""What a device does that runs out of memory in training: the same step again, in smaller micro-batches."""

import logging

import torch
from torch import Tensor

from ernie_m.errors import InputError

Batch = dict[str, Tensor]
logger = logging.getLogger("lightning.pytorch")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a device, or the CPU's allocator, had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)


class MemoryLimit:
    """How many tokens this process sends through the network at once, learnt from running out of memory.

    A micro-batch is split by rows. Its loss is a sum over rows, so that the gradient of the global batch stays.
    """

    def __init__(self) -> None:
        self._tokens: int | None = None

    def split(self, batch: list[Batch]) -> list[Batch]:
        """Return micro-batches within the limit, the longest first: only the last waits for other processes.

        Args:
            batch: Micro-batches, shorter rows first.
        """
        return [part for micro_batch in reversed(batch) for part in self._parts(micro_batch)]

    def _parts(self, batch: Batch) -> list[Batch]:
        rows, length = batch["input_ids"].shape if "input_ids" in batch else (0, 0)
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
            batch: The micro-batches of the step that failed.
            step: The optimiser step.

        Raises:
            InputError: The largest micro-batch is a single example, or one that cannot be split.
        """
        largest = max(batch, key=lambda part: part["input_ids"].numel() if "input_ids" in part else 0)
        rows, length = largest["input_ids"].shape if "input_ids" in largest else (1, 0)
        if rows == 1:
            raise InputError(
                f"out of memory at step {step} with {f'one example of {length} tokens' if length else 'a batch'} that "
                "cannot be split; set model.gradient_checkpointing to true, or lower data.max_length or, for a "
                "contrastive loss, data.global_batch_size"
            )
        self._tokens = rows * length // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logger.warning(
            "out of memory at step %d with %d examples of %d tokens at once: the step is taken again, from here on in "
            "micro-batches of at most %d tokens; the global batch stays. To start so: --data.micro_batch_tokens %d",
            step,
            rows,
            length,
            self._tokens,
            self._tokens,
        )
