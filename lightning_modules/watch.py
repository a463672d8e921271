"""The watch for losses that are not finite."""

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from ernie_m.errors import InputError

_NEVER = torch.iinfo(torch.int64).max


class LossWatch:
    """Remembers the first step at which the loss was not finite, on the device and without waiting for it.

    Args:
        device: Where the losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self._first_bad_step = torch.full((), _NEVER, device=device)

    def note(self, loss: Tensor, step: int) -> None:
        """Take in one step's loss. ().

        Args:
            loss: The loss, detached.
            step: The optimiser step, ascending from call to call.
        """
        reached = self._first_bad_step.clamp(max=step)
        self._first_bad_step = torch.where(torch.isfinite(loss), self._first_bad_step, reached)

    def check(self, strategy: Strategy) -> None:
        """Wait for the device, and stop where a loss of any process was not finite.

        Args:
            strategy: What the processes have in common.

        Raises:
            InputError: One was not; the message names the step.
        """
        step = int(strategy.reduce(self._first_bad_step.clone(), reduce_op="min"))
        if step != _NEVER:
            raise InputError(
                f"the training loss is not finite at step {step}. Lower learning_rate or raise warmup_ratio; set "
                "trainer.gradient_clip_val; with 16-mixed try bf16-mixed or 32-true; then look at that step's data"
            )
