"""What every task shares: building the network, the optimiser, exact micro-batches, and gathering of predictions."""

from pathlib import Path
from typing import Any, ClassVar, Self

import pyarrow as pa
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import MeanMetric
from transformers import PreTrainedConfig, PreTrainedModel

from ernie_m.errors import InputError

from . import networks, parallel
from .active_vocabulary import ActiveEmbedding, follow, put_back, shrink_to_active, token_ids_in_use
from .collapse import DevelopmentRecord
from .compilation import CompileChoice, compile_layers
from .expected import expected_examples
from .memory import MemoryLimit
from .metrics import COUNTS, LanguageScores, ScoresByLanguage
from .optimization import DecayVariant, Schedule, build_optimizer, build_scheduler, parameter_groups
from .watch import LossWatch

Batch = dict[str, Tensor]

_PREFIX = {"validate": "val", "test": "test"}
_NOT_LOGGED = (*COUNTS, "chance")


class TaskModule(LightningModule):
    """A network, its optimiser and its scores; subclasses add the loss and the predictions of one task.

    The training loader yields one list of micro-batches per optimiser step: this process's share of one global batch.
    All but the last are back-propagated inside `training_step` without synchronisation between processes, the last
    one's loss goes to Lightning, so that gradient clipping, loss scaling and every counter work as documented.

    After an evaluation every process holds

    - `tables`: language to a `pyarrow.Table` with one row per example, `example_id` ascending;
    - `confusion`, of a classifier of sentences: language to how often each label (row) was taken for each (column);
    - `results`: language to its scores (the task's `headline`, `accuracy` or `f1`, before others; `examples`; `chance`:
      what guessing gives), and `mean` over the languages. Logged as `val/<language>/accuracy` and `val/accuracy`,
      `test/...` alike.

    Args:
        backbone: Short name ("ernie-m-base"), folder, or Hub id of an ERNIE-M, XLM-R, InfoXLM, mBERT or XLM. One that
            was fine-tuned for the task keeps its head; labels are matched by name.
        from_scratch: Fields of an ERNIE-M configuration: train that network from random weights; of `backbone` the
            tokenizer alone is read.
        init_from: A `.ckpt` or an exported folder whose weights replace the backbone's; nothing else is taken from it.
        learning_rate: Learning rate of the head, at the end of the warm-up.
        layer_decay: Factor of the learning rate from one layer to the one below; 1 for none.
        decay_variant: "baidu" or "paddlenlp": whose rule for the embeddings' LayerNorm (1, or decayed as the
            embeddings) and for weight decay (times the undecayed learning rate, or the layer's own).
        weight_decay: Decoupled weight decay; biases and LayerNorms have none.
        adam_betas: Decay rates of Adam's two moments.
        adam_eps: Adam's epsilon.
        warmup_ratio: Share of all steps in which the learning rate rises from 0.
        schedule: "linear" (then linearly to 0) or "baidu" (BERT's: jumps down at the end of the warm-up).
        active_vocabulary: Train only the rows of the word embeddings that the data use, which changes time and memory
            but not the result.
        gradient_checkpointing: Compute activations again in the backward pass: less memory, about a third more time.
        attn_implementation: "auto", "sdpa", "eager", "flash_attention_2" or another of transformers' attentions.
        torch_compile: Compile the encoder's layers for training; "auto": on GPUs where the compiler works.
        trust_remote_code: Run code that the backbone's folder carries.
    """

    network: PreTrainedModel
    headline: ClassVar[str] = "accuracy"
    max_micro_batches: ClassVar[int | None] = None

    def __init__(
        self,
        backbone: str,
        from_scratch: dict[str, Any] | None = None,
        init_from: str | None = None,
        learning_rate: float = 5e-5,
        layer_decay: float = 0.8,
        decay_variant: DecayVariant = "baidu",
        weight_decay: float = 0.0,
        adam_betas: tuple[float, float] = (0.9, 0.999),
        adam_eps: float = 1e-6,
        warmup_ratio: float = 0.1,
        schedule: Schedule = "linear",
        active_vocabulary: bool = False,
        gradient_checkpointing: bool = False,
        attn_implementation: str = "auto",
        torch_compile: CompileChoice = False,
        trust_remote_code: bool = False,
        # No option: what `load_from_checkpoint` found. jsonargparse leaves names that begin so alone.
        _network_config: PreTrainedConfig | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["_network_config"])
        self.backbone = backbone
        self.from_scratch = from_scratch
        self.init_from = init_from
        self.learning_rate = learning_rate
        self.layer_decay = layer_decay
        self.decay_variant: DecayVariant = decay_variant
        self.weight_decay = weight_decay
        self.adam_betas = adam_betas
        self.adam_eps = adam_eps
        self.warmup_ratio = warmup_ratio
        self.schedule: Schedule = schedule
        self.active_vocabulary = active_vocabulary
        self.gradient_checkpointing = gradient_checkpointing
        self.attn_implementation = attn_implementation
        self.torch_compile: CompileChoice = torch_compile
        self.trust_remote_code = trust_remote_code
        self.languages: list[str] = []
        self._network_config = _network_config
        self.announce()
        self.tables: dict[str, pa.Table] = {}
        self.results: LanguageScores = {}
        self.predictions = ScoresByLanguage(self.score)
        self.confusion: dict[str, list[list[int]]] = {}
        self.train_accuracy = MeanMetric(nan_strategy="disable")
        self._token_ids: Tensor | None = None
        self._language_ids: Tensor | None = None
        self._memory_limit = MemoryLimit("data.micro_batch_tokens", may_split=self.max_micro_batches is None)
        self._eval_limit = MemoryLimit("data.eval_tokens_per_batch")
        self._random_parameters: list[str] = []
        self._stage = "validate"
        self._record = DevelopmentRecord()
        self._loss_watch: LossWatch | None = None

    # What a task defines

    def build_network(self, restored: PreTrainedConfig | None) -> tuple[PreTrainedModel, list[str]]:
        """Return the task's network and the names of its parameters that are random.

        Args:
            restored: Configuration from the checkpoint whose weights are loaded next; None to load the backbone's.
        """
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """Return a micro-batch's share of the global batch's loss: sum of loss x weight, over `normaliser`. ()."""
        raise NotImplementedError

    def predict_rows(self, batch: Batch) -> Batch:
        """Return what one batch adds to the tables: tensors with one row per example. (batch, ...)."""
        raise NotImplementedError

    def score(self, rows: Batch, missing: int) -> tuple[pa.Table, dict[str, float]]:
        """Make one language's table and its scores, none where there are no references.

        Args:
            rows: What `predict_rows` returned, each example once, sorted by example id.
            missing: How many examples of the language got no prediction; they count as wrong.
        """
        raise NotImplementedError

    def head_path(self, config: PreTrainedConfig) -> str | None:
        """Return the dotted path of the layer that no backbone has, only a network fine-tuned for this task.

        Args:
            config: The network's configuration.

        Returns:
            The path; None where the task needs no such layer.
        """
        return None

    @property
    def prediction_columns(self) -> list[str]:
        """The columns of `tables` that stand beside the rows of a file that was predicted on; none where unknown."""
        return []

    def language_of(self, rows: Batch) -> str:
        """Return the language of one language's rows, as `score` gets them; its index where it has no name."""
        index = int(rows["language"][0])
        return self.languages[index] if index < len(self.languages) else str(index)

    def references(self, rows: Batch) -> pa.Table:
        """Return what the data module keeps for scoring one language, where it does: texts, that is.

        Args:
            rows: The language's rows, as `score` gets them.
        """
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        table: pa.Table = datamodule.references(self._stage, self.language_of(rows))
        return table

    def finish_network(self, network: PreTrainedModel) -> None:
        """Prepare what follows from the built network; called before it is sharded or moved."""

    # Building

    def announce(self, *, restore_from: str | Path | None = None, training_follows: bool = False) -> None:
        """Say, before a trainer runs, what it is going to do with this module.

        Args:
            restore_from: The checkpoint that it is about to load: the network is then built from it without the
                backbone. (Lightning tells a module of its checkpoint only after the network is built.)
            training_follows: Whether an evaluation stands before training: a head that is random is then scored, not
                refused.
        """
        self.restore_from, self.training_follows = restore_from, training_follows

    @property
    def source(self) -> networks.Source:
        """Where the network comes from."""
        return networks.Source(self.backbone, self.from_scratch, self.attn_implementation, self.trust_remote_code)

    def setup(self, stage: str) -> None:
        """Read what the data module says of its data: the languages of `batch["language"]`, and the token ids in use.

        Args:
            stage: "fit", "validate", "test" or "predict".

        Raises:
            InputError: `active_vocabulary` is set, and data or strategy do not admit it.
        """
        languages = getattr(getattr(self.trainer, "datamodule", None), "languages", None)
        if languages is not None:
            self.languages = list(languages)
        self._token_ids = token_ids_in_use(self.trainer) if stage == "fit" and self.active_vocabulary else None

    def configure_model(self) -> None:
        """Build the network, once; under `ModelParallelStrategy` sharded by layer with FSDP2."""
        if "network" in self._modules:
            # A training that was interrupted left them out.
            put_back(self.network)
        else:
            self._build()
        if self._token_ids is not None:
            shrink_to_active(self.network, self._token_ids)

    def _build(self) -> None:
        restored = self._network_config
        if restored is None and self.restore_from is not None:
            restored = networks.checkpoint_config(self.restore_from)
        strategy = None if self._trainer is None else self.trainer.strategy
        with parallel.same_seed_everywhere(strategy):
            network, self._random_parameters = self.build_network(restored)
        if restored is None and self.init_from:
            self.copy_initial_weights(network, self.init_from)
        self.finish_network(network)
        self._language_ids = networks.language_ids(network.config, self.languages, self.backbone)
        self.network = network
        if self.gradient_checkpointing:
            # The newer name stands only in later releases of transformers 5.
            enable = getattr(network, "activation_checkpointing_enable", network.gradient_checkpointing_enable)
            enable({"use_reentrant": False})
        # from_pretrained leaves the network in evaluation mode, and Lightning keeps the mode that it finds.
        network.train()
        if isinstance(strategy, ModelParallelStrategy):
            parallel.shard(network, self.device_mesh)

    def copy_initial_weights(self, network: PreTrainedModel, source: str) -> tuple[list[str], PreTrainedConfig | None]:
        """Copy the weights of `init_from`.

        Args:
            network: The network to fill.
            source: A `.ckpt` or an exported folder.

        Returns:
            The names of the parameters that the source lacks, and the configuration that lies with it.
        """
        state, config = networks.read_weights(source)
        head = self.head_path(network.config)
        if head is not None and getattr(self, "new_head", False):
            state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{head}.")}
        absent = networks.copy_weights(network, state, source)
        self._random_parameters = [name for name in self._random_parameters if name in absent]
        if absent:
            rank_zero_warn(f"init_from {source!r} has no {', '.join(absent)}: kept as they were")
        return absent, config

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build AdamW over the layer-decay groups, and the schedule in steps."""
        groups = parameter_groups(
            self.network,
            self.network.config.model_type,
            self.network.config.num_hidden_layers,
            learning_rate=self.learning_rate,
            layer_decay=self.layer_decay,
            weight_decay=self.weight_decay,
            decay_variant=self.decay_variant,
            others=[p for name, p in self.named_parameters() if not name.startswith(networks.NETWORK_PREFIX)],
        )
        optimizer = build_optimizer(groups, self.adam_betas, self.adam_eps)
        if isinstance(active := self.network.get_input_embeddings(), ActiveEmbedding):
            follow(optimizer, active)
        total = self.trainer.estimated_stepping_batches
        scheduler = build_scheduler(optimizer, self.schedule, self.warmup_ratio, total)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "learning_rate"},
        }

    # Training

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
        self._random_parameters = []
        if self.trainer.fit_loop.restarted_on_epoch_end:
            # With max_steps set, Lightning ends the finished epoch once more, and with max_epochs stops one early.
            epochs: Any = self.trainer.fit_loop.epoch_progress
            epochs.current.processed, epochs.total.processed = epochs.current.started - 1, epochs.total.started - 1
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
        return not isinstance(self.trainer.strategy, ModelParallelStrategy)

    def _accumulate(self, batch: list[Batch]) -> Tensor:
        self._check_micro_batches(batch)
        # Here and not in Lightning's closure, which clears gradients between this method and the last backward pass.
        for optimizer in self.trainer.optimizers:
            optimizer.zero_grad()
        total: Tensor | float = 0.0
        for micro_batch in batch[:-1]:
            with parallel.without_gradient_sync(self.trainer.strategy, self.network):
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
        limit = self.max_micro_batches
        if limit is not None and len(batch) > limit:
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
            counted = weights * (labels >= 0)
            self.train_accuracy.update((logits.detach().argmax(dim=-1) == labels).float(), counted)

    def _check_losses(self) -> None:
        if self._loss_watch is not None:
            self._loss_watch.check(self.trainer.strategy)

    def on_fit_end(self) -> None:
        """Put the rows of the embeddings that were not trained back."""
        put_back(self.network)

    def on_train_end(self) -> None:
        """Check the last losses, and warn of a run that learnt nothing."""
        self._check_losses()
        report = self.collapse_report()
        if "mean" in self.results and self._record.best:
            self.results["mean"]["collapsed"] = float(report is not None)
        if report is not None:
            rank_zero_warn(report)

    def collapse_report(self) -> str | None:
        """Say whether the run stayed at chance on the development data of its training languages.

        Returns:
            A message with what to try; None where the run learnt something or those data were not validated.
        """
        return self._record.verdict(getattr(getattr(self._trainer, "datamodule", None), "train_languages", None))

    def inputs(self, batch: Batch) -> Batch:
        """Return the network's arguments: those of the batch, and the languages for a network that wants them.

        Args:
            batch: A batch with `input_ids`, `attention_mask` and `language`.
        """
        inputs = networks.network_inputs(self.network, batch)
        if self._language_ids is not None:
            self._language_ids = self._language_ids.to(batch["language"].device)
            inputs["langs"] = self._language_ids[batch["language"]][:, None].expand_as(inputs["input_ids"])
        return inputs

    # Evaluation

    def on_test_start(self) -> None:
        """Refuse to score a head that was never trained."""
        self._refuse_random_head("test")

    def on_predict_start(self) -> None:
        """Refuse to predict with a head that was never trained."""
        self._refuse_random_head("predict")

    def on_validation_start(self) -> None:
        """Warn where a head that was never trained is validated, other than at the start of its training."""
        if self.trainer.state.fn == "validate" and self._has_random_head() and not self.training_follows:
            rank_zero_warn(f"the head of {self.backbone!r} is random: expect the scores of guessing")

    def _has_random_head(self) -> bool:
        return f"{self.head_path(self.network.config)}.weight" in self._random_parameters

    def _refuse_random_head(self, command: str) -> None:
        if not self.training_follows and any("pooler" not in name for name in self._random_parameters):
            rank_zero_warn(f"{command}: weights of the network are random, for they were neither loaded nor trained")
        if self._has_random_head() and not self.training_follows:
            raise InputError(
                f"{command}: {self.backbone!r} has no trained head, so its answers would be random. Give a "
                "checkpoint (--ckpt_path), a fine-tuned folder or Hub id as backbone, or init_from"
            )

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep one batch's predictions for the end of the evaluation.

        A device that runs out of memory takes the batch again in parts.

        Args:
            batch: The batch.
            batch_idx: Its number.
            dataloader_idx: The language's number.

        Raises:
            InputError: A single example does not fit.
        """
        found = self._eval_limit.attempt(
            [batch],
            lambda parts: [self.predict_rows(part) for part in parts],
            self.trainer.global_step,
            self._may_retry,
        )
        for rows in found:
            self.predictions.update(**rows)

    test_step = validation_step

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> int:
        """Keep one batch's predictions, and return their number: Lightning warns of a step that returns nothing."""
        self.validation_step(batch, batch_idx, dataloader_idx)
        return len(batch["example_ids"])

    def on_validation_epoch_start(self) -> None:
        """Forget the rows of the evaluation before; no checkpoint is made of weights that are not finite."""
        self._check_losses()
        self.predictions.reset()
        self.confusion = {}

    on_test_epoch_start = on_validation_epoch_start
    on_predict_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Score the development data, and remember what was reached."""
        self._finish("validate")
        if not self.trainer.sanity_checking and self.trainer.state.fn == "fit":
            self._record.note(self.results, self.headline)

    def on_test_epoch_end(self) -> None:
        """Score the test data."""
        self._finish("test")

    def on_predict_epoch_end(self) -> None:
        """Make the tables of the predictions."""
        self._finish("predict")

    def _finish(self, stage: str) -> None:
        """Make tables and scores of the rows of all processes, and log them."""
        self._stage = stage
        self.predictions.languages = self.languages
        self.predictions.expected = expected_examples(self.trainer, stage)
        self.results, self.tables = self.predictions.compute()
        self.predictions.reset()
        if stage != "predict":
            self._log_results(_PREFIX[stage])

    def _log_results(self, prefix: str) -> None:
        for language, result in self.results.items():
            start = prefix if language == "mean" else f"{prefix}/{language}"
            values = {f"{start}/{name}": value for name, value in result.items() if name not in _NOT_LOGGED}
            # Every process has the same values, so there is nothing to average, but Lightning asks for it.
            self.log_dict(values, sync_dist=self.trainer.world_size > 1, batch_size=1)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep with the weights what builds their network again, so that loading needs no backbone."""
        checkpoint[networks.CONFIG_KEY] = networks.config_to_json(self.network.config)
        checkpoint["task"] = type(self).__name__
        checkpoint.update(self._record.state_dict())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of this task.

        Raises:
            InputError: If it is of another.
        """
        task = checkpoint.get("task", type(self).__name__)
        if task != type(self).__name__:
            raise InputError(f"the checkpoint is of the task {task}, this run of {type(self).__name__}")
        self._random_parameters = []
        self._record.load_state_dict(checkpoint)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool = True,
        **arguments: Any,
    ) -> Self:
        """Load a checkpoint file; its backbone need not exist any more, since the file says how to build the network.

        Args:
            checkpoint_path: A `.ckpt` file.
            map_location: As in `torch.load`.
            hparams_file: YAML with arguments, for checkpoints that have none.
            strict: Whether all names must match.
            weights_only: Read nothing that could run code.
            arguments: Arguments of the class that replace the saved ones.
        """
        arguments["_network_config"] = networks.checkpoint_config(checkpoint_path)
        module: Self = super().load_from_checkpoint(
            checkpoint_path, map_location, hparams_file, strict, weights_only, **arguments
        )
        return module
