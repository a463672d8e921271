"""How a task trains: exact micro-batches, fewer rows at once where memory is short, losses and answers watched."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import Strategy
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from ernie_m.errors import InputError

from . import compat, processes
from .active_vocabulary import put_back
from .compilation import CompileChoice, compile_layers
from .memory import MemoryLimit
from .metrics import ShareOfRight
from .networks import Batch

_NEVER = torch.iinfo(torch.int64).max


class SteppingModule(LightningModule):
    """The half of a task that trains a network; a task says what its loss is.

    The training loader yields one list of micro-batches per optimiser step: this process's share of one global batch.
    All but the last are back-propagated inside `training_step` without synchronisation between processes, the last
    one's loss goes to Lightning, so that gradient clipping, loss scaling and every counter work as documented.
    """

    network: PreTrainedModel
    torch_compile: CompileChoice

    def __init__(self) -> None:
        super().__init__()
        self.train_accuracy = ShareOfRight()
        self._memory_limit = MemoryLimit("data.micro_batch_tokens")
        self._loss_watch: LossWatch | None = None

    def need_whole_batch(self) -> None:
        """Refuse several micro-batches in a step, for a loss that is about all rows of the global batch at once."""
        self._memory_limit.may_split = False

    def loss(self, batch: Batch) -> Tensor:
        """Return a micro-batch's share of the global batch's loss: sum of loss x weight, over `normaliser`. ()."""
        raise NotImplementedError

    def on_fit_start(self) -> None:
        """Compile the layers where that is wanted, and train with dropout even after an evaluation that failed.

        Raises:
            InputError: If `accumulate_grad_batches` is set: the data module's micro-batches already are exact; or
                `torch_compile` is, and nothing can be compiled here.
        """
        self.network.train()
        if self.trainer.accumulate_grad_batches != 1:
            raise InputError(
                f"trainer.accumulate_grad_batches is {self.trainer.accumulate_grad_batches}; leave it at 1 and set the "
                "data's global_batch_size and micro_batch_size, which accumulate exactly"
            )
        compile_layers(self.network, self.torch_compile, self.trainer.strategy.root_device)

    def on_train_start(self) -> None:
        """Start the watch for losses that are not finite, and count the epochs of a continued run."""
        compat.end_finished_epoch(self.trainer)
        self._loss_watch = LossWatch(self.device)

    def training_step(self, batch: list[Batch], batch_idx: int) -> Tensor:
        """Run one global batch: back-propagate all micro-batches but the last, and return the last one's loss.

        A device that runs out of memory takes the step again in smaller micro-batches.

        Args:
            batch: This process's micro-batches.
            batch_idx: Number of the global batch in the epoch.

        Raises:
            InputError: The batch cannot be split as its task or the memory needs it.
        """
        return self._memory_limit.attempt(batch, self._accumulate, self.trainer.global_step, self._may_retry)

    @property
    def _may_retry(self) -> bool:
        """Sharded processes must all run the same number of micro-batches."""
        return not processes.is_sharded(self)

    def _accumulate(self, batch: list[Batch]) -> Tensor:
        self._check_micro_batches(batch)
        # Here and not in Lightning's closure, which clears gradients between this method and the last backward pass.
        for optimizer in self.trainer.optimizers:
            optimizer.zero_grad()
        total: Tensor | float = 0.0
        for micro_batch in batch[:-1]:
            with processes.without_gradient_sync(self.trainer.strategy, self.network):
                loss = self.loss(micro_batch)
                total = total + loss.detach()
                # The strategy's backward scales a float16 loss; autocast is for forward passes alone.
                with torch.autocast(self.device.type, enabled=False):
                    self.trainer.strategy.backward(loss, None)
        loss = self.loss(batch[-1])
        self._note_loss(total + loss.detach())
        return loss

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Keep the gradients of the first micro-batches; `training_step` has cleared those of the step before."""

    def _check_micro_batches(self, batch: list[Batch]) -> None:
        if not self._memory_limit.may_split and len(batch) > 1:
            raise InputError(
                f"{type(self).__name__} needs the whole batch at once and got {len(batch)} micro-batches; set "
                "micro_batch_size to the global batch size over the number of devices, or use a smaller global batch"
            )
        if len(batch) > 1 and getattr(self.trainer.strategy.model, "static_graph", False):
            raise InputError(
                "DDP's static_graph counts backward passes and does not admit several micro-batches in a step; set it "
                "to false in trainer.strategy"
            )

    def _note_loss(self, loss: Tensor) -> None:
        """Log the loss and watch it, without waiting for the device."""
        step = self.trainer.global_step
        if self._loss_watch is not None:
            self._loss_watch.note(loss, step)
        is_parallel = self.trainer.world_size > 1
        if not is_parallel or (step + 1) % self._log_interval == 0:
            # A progress bar reads its values at every refresh, which on a GPU would wait for the step.
            bar = self.device.type == "cpu"
            self.log("train/loss", loss, on_step=True, prog_bar=bar, sync_dist=is_parallel, batch_size=1)

    @property
    def _log_interval(self) -> int:
        interval: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return max(1, interval)

    def on_train_batch_end(self, outputs: Any, batch: list[Batch], batch_idx: int) -> None:
        """Stop within the log interval where a loss was not finite."""
        if self.trainer.global_step % self._log_interval == 0:
            self._check_losses()

    def on_train_epoch_end(self) -> None:
        """Stop before the epoch's checkpoint where a loss was not finite; log how much of it was answered right."""
        self._check_losses()
        if self.train_accuracy.update_called:
            self.log("train/accuracy", self.train_accuracy.compute(), sync_dist=self.trainer.world_size > 1)
            self.train_accuracy.reset()

    def watch_accuracy(self, logits: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Count the right answers of a step of the training, without waiting for the device.

        Args:
            logits: (..., labels)
            labels: -100 for none. (...)
            weights: 0 for what does not count; may be of size 1 along a dimension. (...)
        """
        if self.training:
            self.train_accuracy.update(logits.detach().argmax(dim=-1) == labels, (labels >= 0) & (weights > 0))

    def _check_losses(self) -> None:
        if self._loss_watch is not None:
            self._loss_watch.check(self.trainer.strategy)

    def on_fit_end(self) -> None:
        """Put the rows of the embeddings that were not trained back."""
        put_back(self.network)


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
