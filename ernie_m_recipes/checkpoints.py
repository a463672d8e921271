"""Checkpoints: when they are written, which one counts, and that each is whole."""

import logging
import math
import os
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from ernie_m.errors import InputError
from ernie_m.files import whole
from lightning_modules.checkpoint_file import read_checkpoint

from .record import is_scores
from .targets import BEST, LAST

logger = logging.getLogger(__name__)


def is_trial(trainer: Trainer) -> bool:
    """Say whether a run is a `fast_dev_run`, which keeps nothing."""
    return bool(getattr(trainer, "fast_dev_run", False))


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it, so that the target is whole at every moment.

    Lightning's own writer goes through the system's temporary folder, which often lies on another file system: the last
    step is then a copy that an interruption or a full disk cuts short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What `Trainer.save_checkpoint` collected.
            path: The target.
            storage_options: Not used.

        Raises:
            InputError: The disk is full; the checkpoint before is still there.
        """
        target = Path(path)
        try:
            with whole(target) as partial, partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "write" not in str(error):
                raise
            raise InputError(
                f"{target}: the checkpoint cannot be written: {str(error).splitlines()[0]}. Free space or set another "
                "--run.directory; the checkpoints written before are whole"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint as any other of this project is read, whoever found it: Lightning has ways of its own.

        Args:
            path: The checkpoint.
            map_location: Not used: tensors stay in the file until they are copied.
            weights_only: Not used: always true.

        Raises:
            InputError: There is none, it is damaged, or holds more than tensors and plain values.
        """
        return read_checkpoint(Path(path))


def validations(trainer: Trainer, steps: int, steps_per_epoch: int) -> int:
    """Return how often a whole training validates.

    Args:
        trainer: Its `val_check_interval` is in steps, or a share of an epoch.
        steps: Steps of the whole training.
        steps_per_epoch: Steps of an epoch.
    """
    interval, every_epochs = trainer.val_check_interval, trainer.check_val_every_n_epoch
    every: float = interval if isinstance(interval, int) else max(1.0, interval * steps_per_epoch)
    return int(steps / every / (every_epochs or 1))


class CheckpointThatCounts(Checkpoint):
    """Keeps `best.ckpt`, the weights at the best validation, and `last.ckpt`, everything needed to continue.

    Which of the two is tested and exported is part of a recipe, since published XNLI figures differ by points over it.

    Args:
        monitor: The validation score that chooses, such as `val/en/accuracy` (development data of the training language
            alone: true zero-shot transfer) or `val/accuracy` (the mean over all languages: their development data then
            help to choose). None: the last step counts.
        mode: `max` where more is better, `min` where less is.
    """

    def __init__(self, monitor: str | None = None, mode: Literal["max", "min"] = "max") -> None:
        self.monitor = monitor
        self.mode = mode
        self.folder = Path()
        self.best_value: float | None = None
        self.best_step: int | None = None
        self.saved_step = -1
        self.history: list[dict[str, Any]] = []

    @property
    def rule(self) -> str:
        """What chooses the checkpoint, in words."""
        if self.monitor is None:
            return "the last step"
        return f"{'highest' if self.mode == 'max' else 'lowest'} {self.monitor}"

    @property
    def chosen(self) -> Path:
        """The checkpoint that counts, relative to the run folder."""
        return LAST if self.monitor is None or self.best_step is None else BEST

    @property
    def chosen_step(self) -> int:
        """The optimiser step that the checkpoint that counts was taken at."""
        return self.saved_step if self.chosen == LAST or self.best_step is None else self.best_step

    def describe(self) -> dict[str, Any]:
        """Return what run.json and results.json say about the checkpoint that counts."""
        value = None if self.chosen == LAST else self.best_value
        rule = self.rule if self.monitor is None or self.chosen != LAST else "the last step, as nothing was validated"
        return {"path": self.chosen.as_posix(), "rule": rule, "step": self.chosen_step, "value": value}

    def validation_results(self) -> dict[str, dict[str, float]] | None:
        """Return the validation results at the checkpoint that counts; None where it was not validated."""
        return next((entry["results"] for entry in self.history if entry["step"] == self.chosen_step), None)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the folder with all processes."""
        self.folder = Path(trainer.strategy.broadcast(str(trainer.default_root_dir)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so where no validation is going to choose."""
        steps, per_epoch = trainer.estimated_stepping_batches, trainer.num_training_batches
        if self.monitor is None or steps == float("inf") or per_epoch == float("inf") or is_trial(trainer):
            return
        if not validations(trainer, int(steps), int(per_epoch)):
            rank_zero_warn(
                f"none of the {steps:g} steps is validated, so that {self.monitor} chooses nothing and the last step "
                f"counts: trainer.val_check_interval is {trainer.val_check_interval}, check_val_every_n_epoch "
                f"{trainer.check_val_every_n_epoch}, in epochs of {per_epoch:g} steps. Lower them, or train for longer"
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare with the best so far and save."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or is_trial(trainer):
            return
        results = getattr(pl_module, "results", None)
        if results:
            self.history.append({"step": trainer.global_step, "results": results})
        if self.monitor is not None:
            value = self.monitored(trainer)
            better = self.best_value is None or (
                value > self.best_value if self.mode == "max" else value < self.best_value
            )
            logger.info(
                "step %d: %s %.4f%s", trainer.global_step, self.monitor, value, ", the best so far" if better else ""
            )
            if trainer.strategy.broadcast(better):
                self.best_value, self.best_step = value, trainer.global_step
                trainer.save_checkpoint(self.folder / BEST, weights_only=True)
        self.save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step where no validation has."""
        if not is_trial(trainer) and self.saved_step != trainer.global_step:
            self.save_last(trainer)

    def save_last(self, trainer: Trainer) -> None:
        """Save everything needed to continue."""
        self.saved_step = trainer.global_step
        trainer.save_checkpoint(self.folder / LAST)

    def monitored(self, trainer: Trainer) -> float:
        """Return the value of the monitored score.

        Args:
            trainer: The trainer, just after a validation.

        Raises:
            InputError: There is no such score, or it is not a number.
        """
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            raise InputError(
                f"checkpoint.monitor: there is no score {self.monitor!r}; the validation gave "
                + ", ".join(sorted(metrics))
            )
        value = float(metrics[self.monitor])
        if math.isnan(value):
            raise InputError(f"checkpoint.monitor: {self.monitor} is not a number at step {trainer.global_step}")
        return value

    def state_dict(self) -> dict[str, Any]:
        """Return what a continued run needs to know."""
        return {
            "monitor": self.monitor,
            "mode": self.mode,
            "best_value": self.best_value,
            "best_step": self.best_step,
            "saved_step": self.saved_step,
            "history": self.history,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state; the best only where the same score chose it and its file is in this folder.

        Raises:
            InputError: It is not what `state_dict` returned.
        """
        numbers = [state_dict.get(key) for key in ("best_value", "best_step", "saved_step")]
        history = state_dict.get("history")
        if (
            not all(isinstance(number, int | float | None) for number in numbers)
            or not isinstance(history, list)
            or not all(isinstance(entry, dict) and {"step", "results"} <= entry.keys() for entry in history)
            or not all(is_scores(entry["results"]) for entry in history)
            or not {"monitor", "mode"} <= state_dict.keys()
        ):
            raise InputError("the checkpoint is damaged: what it says of the best one is not what was written")
        self.history = list(state_dict["history"])
        self.saved_step = state_dict["saved_step"] if (self.folder / LAST).exists() else -1
        same_score = (state_dict["monitor"], state_dict["mode"]) == (self.monitor, self.mode)
        if same_score and (self.folder / BEST).exists():
            self.best_value, self.best_step = state_dict["best_value"], state_dict["best_step"]
