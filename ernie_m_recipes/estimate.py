"""`ernie-m estimate`: the memory and the time that a recipe needs on the devices at hand, from a few measured steps."""

import resource
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from ernie_m.errors import InputError

from .callbacks import PlainProgress, clock
from .checkpoints import CheckpointThatCounts, validations
from .cli import RecipeCLI, is_first_process
from .preparation import prepare
from .targets import parse

DEFAULT_STEPS = 10
# Steps that are not timed; the first of them has the longest batch, which decides on the memory.
WARM_UP = 2


class Stopwatch(Callback):
    """Seconds and tokens of some training steps after the first ones, and of the validation that follows them.

    A batch counts from the end of the one before, so that waiting for data is in it. The first ones of either kind
    are left out: they allocate memory, choose kernels and may compile.

    Args:
        steps: Training steps to measure.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.seconds = {"train": 0.0, "validation": 0.0}
        self.tokens = {"train": 0, "validation": 0}
        self.measured = 0
        self.validated = 0
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step; stop after the last one that is wanted, or where the data end."""
        seconds = self.lap(trainer)
        if batch_idx >= WARM_UP or trainer.num_training_batches <= WARM_UP:
            self.seconds["train"] += seconds
            self.tokens["train"] += sum(map(tokens_of, batch))
            self.measured += 1
        if self.measured >= self.steps:
            trainer.should_stop = True

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count a batch."""
        seconds = self.lap(trainer)
        self.validated += 1
        if self.validated > 1 or sum(trainer.num_val_batches) == 1:
            self.seconds["validation"] += seconds
            self.tokens["validation"] += tokens_of(batch)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.lap(trainer)

    on_validation_start = on_validation_end = on_train_epoch_start

    def lap(self, trainer: Trainer) -> float:
        """Wait for the device; return the seconds since the last call."""
        wait(trainer)
        before, self.started = self.started, time.perf_counter()
        return self.started - before


def wait(trainer: Trainer) -> None:
    """Wait until the device has done what it was given."""
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize()


def tokens_of(batch: dict[str, Any]) -> int:
    """Return the tokens of a batch without padding."""
    return sum(int(values.sum()) for name, values in batch.items() if name.endswith("attention_mask"))


def peak_memory(trainer: Trainer) -> str:
    """Return the most memory in use so far: of a GPU, or of the process on a CPU."""
    if trainer.strategy.root_device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most on a device"
    # In KiB, but on macOS in bytes.
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:.1f} GiB at most in a process"


def size_of(data: Any, split: str) -> tuple[int, int]:
    """Return how many examples and tokens a loaded split has."""
    rows = data.row_set(split, data.split_languages(split))
    return len(rows), int(np.sum(rows.all_scalars("length")))


def lines_of(cli: RecipeCLI, watch: Stopwatch) -> Iterator[str]:
    """Yield what there is to say after the measured steps."""
    trainer, data = cli.trainer, cli.datamodule
    settings = cli.config["fit"]
    steps, per_epoch = int(trainer.estimated_stepping_batches), int(trainer.num_training_batches)
    rate = {part: watch.tokens[part] / max(watch.seconds[part], 1e-9) * trainer.world_size for part in watch.tokens}
    examples, tokens = size_of(data, "train")
    per_second = rate["train"] * examples / tokens
    total = training = steps * data.global_batch_size / per_second
    kind = trainer.strategy.root_device.type
    yield f"{settings.run.name} on {trainer.world_size} x {kind}, precision {trainer.precision}"
    yield f"memory      {peak_memory(trainer)}"
    millions = sum(parameter.numel() for parameter in cli.model.parameters()) / 1e6
    rows = len(cli.model.network.get_input_embeddings().weight)
    yield f"            for {millions:.0f} million parameters in training, {rows:,} embedding rows among them"
    yield (
        f"training    {clock(training)}: {steps:,} steps ({steps / max(1, per_epoch):.1f} epochs), "
        f"{per_second:.1f} examples/s, {rate['train']:,.0f} tokens/s"
    )
    if rate["validation"]:
        # Before the training is scored what comes after it.
        count = validations(trainer, steps, per_epoch)
        count += settings.run.evaluate_before_fit and not settings.run.test_after_fit
        examples, tokens = size_of(data, "validation")
        total += count * tokens / rate["validation"]
        yield f"validation  {clock(count * tokens / rate['validation'])}: {count} times {examples:,} examples"
    if settings.run.test_after_fit and rate["validation"]:
        try:
            data.setup("test")
        except InputError as error:
            yield f"test        not counted: {error}"
        else:
            examples, tokens = size_of(data, "test")
            count = 1 + settings.run.evaluate_before_fit
            total += count * tokens / rate["validation"]
            often = f"{count} times " if count > 1 else ""
            yield f"test        {clock(count * tokens / rate['validation'])}: {often}{examples:,} examples"
    yield f"together    {clock(total)}, from {watch.measured} measured steps"


def main(arguments: Sequence[str]) -> int:
    """Run a few steps of a recipe, keep nothing but the tokenised data, and print what the whole of it needs.

    Args:
        arguments: The words after `ernie-m estimate`: what `fit` takes, and `--steps N`.

    Raises:
        InputError: `--steps` is no number above 0, or a run is to be continued.
    """
    prepare()
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--steps=") else [word])]
    steps = DEFAULT_STEPS
    if "--steps" in words:
        place = words.index("--steps")
        value = words[place + 1] if place + 1 < len(words) else ""
        if not value.isdecimal() or int(value) < 1:
            raise InputError(f"--steps is {value!r}; give a number of steps to measure, 1 or more")
        steps = int(value)
        del words[place : place + 2]
    if {"-h", "--help"} & set(words):
        print(
            f"ernie-m estimate takes --steps N (how many to measure, {DEFAULT_STEPS} by default) and what fit takes:\n"
        )
    call = parse("fit", words)
    if call.run is not None or any(word.startswith("--ckpt_path") for word in call.arguments):
        raise InputError("estimate takes a recipe, not a run or checkpoint to continue")
    call.is_rehearsal = True
    call.arguments += ["--trainer.limit_val_batches=2", "--trainer.num_sanity_val_steps=0"]
    call.arguments += ["--trainer.enable_model_summary=false"]
    cli = RecipeCLI(call, words)
    cli.datamodule.announce(longest_first=True)
    watch = Stopwatch(steps)
    trainer: Any = cli.trainer
    unwanted = (CheckpointThatCounts, PlainProgress)
    kept = [callback for callback in trainer.callbacks if not isinstance(callback, unwanted)]
    trainer.callbacks = [*kept, watch]
    report: list[str] = []
    # While the trainer still has its optimiser and the embedding its rows.
    watch.on_train_end = lambda *_: report.extend(lines_of(cli, watch) if is_first_process() else [])  # type: ignore
    with warnings.catch_warnings():
        # After a few steps every network is at chance.
        warnings.filterwarnings("ignore", message="this run collapsed|on the development data")
        trainer.fit(cli.model, datamodule=cli.datamodule)
    print("\n".join(report), end="\n" if report else "")
    return 0
