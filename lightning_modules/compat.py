"""What this package uses of libraries beyond their documented interface, in one place."""

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.optim import AdamW


def end_finished_epoch(trainer: Trainer) -> None:
    """Count the epochs of a run that continues at the end of one rightly.

    With `max_steps` set, Lightning ends the finished epoch once more, and with `max_epochs` stops one early.

    Args:
        trainer: A trainer that begins to train.
    """
    if trainer.fit_loop.restarted_on_epoch_end:
        epochs: Any = trainer.fit_loop.epoch_progress
        epochs.current.processed, epochs.total.processed = epochs.current.started - 1, epochs.total.started - 1


def unscale_before_clipping(optimizer: AdamW) -> None:
    """Have float16 gradients unscaled before they are clipped, as for any other optimiser.

    A fused step could unscale them itself, and Lightning therefore refuses to clip them.

    Args:
        optimizer: A fused one.
    """
    optimizer._step_supports_amp_scaling = False


def compile_whole_layers(graphs: int) -> None:
    """Keep the compiler from cutting layers where DDP's buckets begin, and from giving up on further shapes.

    Args:
        graphs: How many graphs of one layer there may be, beyond which layers run uncompiled.
    """
    config = torch._dynamo.config
    config.optimize_ddp = False
    config.recompile_limit = max(graphs, config.recompile_limit)
