"""`ernie-m estimate`: the memory and the time that a recipe needs on the devices at hand, from a few measured steps."""

import resource
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from ernie_m.errors import InputError

from .callbacks import clock
from .checkpoints import CheckpointThatCounts
from .cli import RecipeCLI, is_first_process, prepare
from .targets import parse

DEFAULT_STEPS = 10
# The first steps allocate memory and choose kernels.
WARM_UP = 2


class Stopwatch(Callback):
    """Seconds and tokens of some training steps after the first ones, and of the validation that follows them.

    Args:
        steps: Training steps to measure.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.seconds = {"train": 0.0, "validation": 0.0}
        self.tokens = {"train": 0, "validation": 0}
        self.measured = 0
        self.started = 0.0

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Wait for the device and start."""
        wait(trainer)
        self.started = time.perf_counter()

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Wait for the device and start."""
        wait(trainer)
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step; stop after the last one that is wanted, or where the data end."""
        wait(trainer)
        if batch_idx >= WARM_UP or trainer.num_training_batches <= WARM_UP:
            self.seconds["train"] += time.perf_counter() - self.started
            self.tokens["train"] += sum(map(tokens_of, batch))
            self.measured += 1
        if self.measured >= self.steps:
            trainer.should_stop = True

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count a batch."""
        wait(trainer)
        self.seconds["validation"] += time.perf_counter() - self.started
        self.tokens["validation"] += tokens_of(batch)


def wait(trainer: Trainer) -> None:
    """Wait until the device has done what it was given."""
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize()


def tokens_of(batch: dict[str, Any]) -> int:
    """Return the tokens of a batch without padding."""
    return sum(int(values.sum()) for name, values in batch.items() if name.endswith("attention_mask"))


def peak_memory(trainer: Trainer) -> float:
    """Return the most memory that one device had in use so far, in GiB; on the CPU that of the process."""
    if trainer.strategy.root_device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def validations(trainer: Trainer, steps: int, steps_per_epoch: int) -> int:
    """Return how often a whole training validates.

    Args:
        trainer: Its `val_check_interval` is in steps, or a share of an epoch.
        steps: Steps of the whole training.
        steps_per_epoch: Steps of an epoch.
    """
    interval = trainer.val_check_interval
    every: float = interval if isinstance(interval, int) else max(1.0, interval * steps_per_epoch)
    return int(steps / every)


def lines_of(cli: RecipeCLI, watch: Stopwatch) -> Iterator[str]:
    """Yield what there is to say after the measured steps."""
    trainer, data = cli.trainer, cli.datamodule
    settings = cli.config["fit"]
    devices = trainer.world_size
    steps = int(trainer.estimated_stepping_batches)
    per_epoch = int(trainer.num_training_batches)
    tokens = {split: 0 for split in ("train", "validation", "test")}
    examples = dict(tokens)
    data.setup("test")
    for split in tokens:
        languages = data.split_languages(split)
        if languages:
            row_set = data.row_set(split, languages)
            examples[split], tokens[split] = len(row_set), int(np.sum(data.lengths(row_set)))
    rate = {split: watch.tokens[split] / max(watch.seconds[split], 1e-9) * devices for split in watch.tokens}
    share = steps / max(1, per_epoch)
    seconds = {"train": share * tokens["train"] / rate["train"]}
    for split in ("validation", "test"):
        seconds[split] = tokens[split] / rate["validation"] if rate["validation"] else 0.0
    count = validations(trainer, steps, per_epoch)
    tested = seconds["test"] if settings.run.test_after_fit else 0.0
    name = settings.run.name
    yield f"{name} on {devices} x {trainer.strategy.root_device.type}, precision {trainer.precision}"
    yield f"memory      {peak_memory(trainer):.1f} GiB at most{' in the process' if devices == 1 else ' on a device'}"
    millions = sum(parameter.numel() for parameter in cli.model.parameters()) / 1e6
    rows = len(cli.model.network.get_input_embeddings().weight)
    yield f"            for {millions:.0f} million parameters in training, {rows:,} embedding rows among them"
    per_second = rate["train"] * examples["train"] / max(1, tokens["train"])
    yield (
        f"training    {clock(seconds['train'])}: {steps:,} steps ({share:.1f} epochs), "
        f"{per_second:.1f} examples/s, {rate['train']:,.0f} tokens/s"
    )
    yield f"validation  {clock(count * seconds['validation'])}: {count} times {examples['validation']:,} examples"
    if settings.run.test_after_fit:
        yield f"test        {clock(tested)}: {examples['test']:,} examples"
    total = seconds["train"] + count * seconds["validation"] + tested
    yield f"together    {clock(total)}, from {watch.measured} measured steps"


def main(arguments: Sequence[str]) -> int:
    """Run a few steps of a recipe, write nothing, and print what the whole of it needs.

    Args:
        arguments: The words after `ernie-m estimate`: what `fit` takes, and `--steps N`.

    Raises:
        InputError: `--steps` is no number above 0, or a run is to be continued.
    """
    prepare()
    words = list(arguments)
    steps = DEFAULT_STEPS
    if "--steps" in words:
        place = words.index("--steps")
        value = words[place + 1] if place + 1 < len(words) else ""
        if not value.isdecimal() or int(value) < 1:
            raise InputError(f"--steps is {value!r}; give a number of steps to measure, 1 or more")
        steps = int(value)
        del words[place : place + 2]
    call = parse("fit", words)
    if call.run is not None or any(word.startswith("--ckpt_path") for word in call.arguments):
        raise InputError("estimate takes a recipe, not a run or checkpoint to continue")
    call.is_rehearsal = True
    call.arguments += ["--trainer.limit_val_batches=2", "--trainer.num_sanity_val_steps=0"]
    cli = RecipeCLI(call, words)
    watch = Stopwatch(steps)
    trainer: Any = cli.trainer
    kept = [callback for callback in trainer.callbacks if not isinstance(callback, CheckpointThatCounts)]
    trainer.callbacks = [*kept, watch]
    report: list[str] = []
    # While the trainer still has its optimiser and the embedding its rows.
    watch.on_train_end = lambda *_: report.extend(lines_of(cli, watch))  # type: ignore[method-assign]
    trainer.fit(cli.model, datamodule=cli.datamodule)
    if is_first_process():
        print("\n".join(report))
    return 0
