"""The place of a training in its data, by the optimiser steps that Lightning counted, which a checkpoint restores."""

from typing import Any

from lightning.pytorch import Trainer

from .batching import TrainBatchSampler


class Place:
    """Tells a sampler where to go on.

    Attributes:
        sampler: The sampler of the training data, once there is one.
        restored: What `state` gave in the run that is continued; nothing in a new one.
    """

    def __init__(self) -> None:
        self.sampler: TrainBatchSampler | None = None
        self.restored: dict[str, Any] = {}

    def state(self, trainer: Trainer) -> dict[str, Any]:
        """The epoch and the steps of it that were made, and what the order depends on; nothing before a training."""
        return {} if self.sampler is None else {**self.sampler.state_dict(), **self._reached(self.sampler, trainer)}

    def seek(self, trainer: Trainer | None, allow_changes: bool) -> None:
        """Sets the sampler to the steps that were made.

        Args:
            trainer: The trainer; None to begin where the sampler stands.
            allow_changes: Whether to go on although the order of the data is another.

        Raises:
            InputError: It is another.
        """
        if trainer is None or self.sampler is None:
            return
        if self.restored and not allow_changes:
            self.sampler.load_state_dict(self.restored)
        reached = self._reached(self.sampler, trainer)
        # Overfitting on a few batches means the same ones in every epoch.
        overfit = getattr(trainer, "overfit_batches", 0)
        self.sampler.set_epoch(0 if overfit else reached["epoch"], reached["consumed"])

    @staticmethod
    def _reached(sampler: TrainBatchSampler, trainer: Trainer) -> dict[str, int]:
        """The epoch and its steps, `limit_train_batches` considered."""
        limit = trainer.limit_train_batches
        steps = min(len(sampler), limit) if isinstance(limit, int) else int(len(sampler) * limit)
        epoch, consumed = divmod(trainer.global_step, max(1, steps))
        return {"epoch": epoch, "consumed": consumed}
