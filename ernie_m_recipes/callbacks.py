"""What the command adds to every run: seeds per step, plain progress, changed settings that take effect."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities.types import STEP_OUTPUT

from .tables import shown


class StepSeed(Callback):
    """Seeds dropout anew at each optimiser step from the run's seed, the step and the process.

    A run that is continued draws the same noise as one that was never stopped, whatever was drawn in between.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the generators of every device."""
        entropy = [abs(self.seed), trainer.global_step, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1)))


class TakeChanges(Callback):
    """Lets settings that were changed on purpose take effect in a continued run.

    A restored optimiser brings its old learning rates and weight decay back, and a restored schedule its old length.
    This puts the values of the present settings in their place and keeps the moments and the step count.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the restored hyperparameters."""
        fresh: Any = pl_module.configure_optimizers()
        optimizer = fresh["optimizer"] if isinstance(fresh, dict) else fresh
        restored = trainer.optimizers[0]
        for group, new in zip(restored.param_groups, optimizer.param_groups, strict=True):
            group.update({key: value for key, value in new.items() if key != "params"})
        if isinstance(fresh, dict) and "lr_scheduler" in fresh:
            configured = fresh["lr_scheduler"]
            scheduler = configured["scheduler"] if isinstance(configured, dict) else configured
            present: Any = trainer.lr_scheduler_configs[0].scheduler
            present.base_lrs, present.lr_lambdas = scheduler.base_lrs, scheduler.lr_lambdas
            for group, base, factor in zip(restored.param_groups, present.base_lrs, present.lr_lambdas, strict=True):
                group["lr"] = base * factor(present.last_epoch)


class PlainProgress(ProgressBar):
    """One line of progress now and then, for output that goes to a file or a pipe.

    Args:
        every_seconds: At least so long between two lines.
    """

    def __init__(self, every_seconds: float = 20.0) -> None:
        super().__init__()
        self.every_seconds = every_seconds
        self.enabled = True
        self.started = self.printed = self.evaluation_started = 0.0
        self.first_step = 0
        self.evaluated = 0

    def disable(self) -> None:
        """Print nothing: Lightning calls this in all processes but the first."""
        self.enabled = False

    def enable(self) -> None:
        """Print again."""
        self.enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self.started = self.printed = time.monotonic()
        self.first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Print the step, the rate and the time left."""
        total = trainer.estimated_stepping_batches
        if not self.is_due() and trainer.global_step != total:
            return
        done = trainer.global_step - self.first_step
        metrics = self.get_metrics(trainer, pl_module)
        said = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, (int, float)))
        pace = self.pace(done, total - self.first_step, self.started, "steps")
        self.say(f"step {trainer.global_step} of {total:g}: {said or 'training'}, {pace}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the means over the languages."""
        if not trainer.sanity_checking:
            logged = {name: float(value) for name, value in trainer.callback_metrics.items() if name.count("/") == 1}
            names = shown(name.removeprefix("val/") for name in logged if name.startswith("val/"))
            said = ", ".join(f"val/{name} {logged[f'val/{name}']:.4f}" for name in names)
            self.say(f"step {trainer.global_step}: {said or 'validated'}")
            # The rate is that of the training.
            self.started += time.monotonic() - self.evaluation_started

    def begin_evaluation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of an evaluation."""
        self.evaluation_started = self.printed = time.monotonic()
        self.evaluated = 0

    on_validation_start = on_test_start = on_predict_start = begin_evaluation

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Print how far a validation is."""
        if not trainer.sanity_checking:
            self.count("validated", trainer.num_val_batches)

    def on_test_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Print how far a test is."""
        self.count("tested", trainer.num_test_batches)

    def on_predict_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Print how far a prediction is."""
        self.count("predicted", trainer.num_predict_batches)

    def count(self, done: str, batches: Sequence[int | float]) -> None:
        """Count a batch of an evaluation and print the batches of all languages, the rate and the time left.

        Args:
            done: What was done to it.
            batches: How many there are in each loader.
        """
        self.evaluated += 1
        if self.is_due():
            total = sum(batches)
            pace = self.pace(self.evaluated, total, self.evaluation_started, "batches")
            self.say(f"{done} batch {self.evaluated} of {total:g}, {pace}")

    def is_due(self) -> bool:
        """Say whether the last line is long enough ago, and take the time of this one."""
        now = time.monotonic()
        if now - self.printed < self.every_seconds:
            return False
        self.printed = now
        return True

    def pace(self, done: int, total: float, started: float, unit: str) -> str:
        """Return the rate, and the time left where it is known."""
        rate = done / max(time.monotonic() - started, 1e-9)
        left = f", {clock((total - done) / rate)} left" if rate > 0 and total != float("inf") else ""
        return f"{rate:.2f} {unit}/s{left}"

    def say(self, line: str) -> None:
        """Print a line at once."""
        if self.enabled:
            print(line, file=sys.stdout, flush=True)


def clock(seconds: float) -> str:
    """Return a time span such as `2:05` or `1:02:05`."""
    minutes, second = divmod(max(round(seconds), 0), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
