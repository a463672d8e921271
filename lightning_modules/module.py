"""What every task shares: its options, the network and the optimiser that they build, and checkpoints."""

from pathlib import Path
from typing import Any, Self

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ernie_m.errors import InputError

from . import networks, processes
from .active_vocabulary import ActiveEmbedding, follow, put_back, shrink_to_active, token_ids_in_use
from .checkpoint_file import CONFIG_KEY, read_checkpoint
from .compilation import CompileChoice
from .evaluating import EvaluatingModule
from .networks import Batch
from .optimization import DecayVariant, Schedule, build_optimizer, build_scheduler, check_state, parameter_groups


class TaskModule(EvaluatingModule):
    """A network, its optimiser and its scores; subclasses add the loss and the predictions of one task.

    How it trains stands in `SteppingModule`, what an evaluation leaves in `EvaluatingModule`.

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

    def __init__(
        self,
        backbone: str,
        *,
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
        self._network_config = _network_config
        self.announce()
        self._token_ids: Tensor | None = None
        self._language_ids: Tensor | None = None

    # What a task defines

    def build_network(self, restored: PreTrainedConfig | None) -> tuple[PreTrainedModel, list[str]]:
        """Return the task's network and the names of its parameters that are random.

        Args:
            restored: Configuration from the checkpoint whose weights are loaded next; None to load the backbone's.
        """
        raise NotImplementedError

    def finish_network(self, network: PreTrainedModel) -> None:
        """Prepare what follows from the built network; called before it is sharded or moved."""

    def network_to_export(self) -> PreTrainedModel:
        """Return the network as an export keeps it; the module is of no use after that."""
        return self.network

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
    def source(self) -> networks.NetworkSource:
        """Where the network comes from."""
        return networks.NetworkSource(
            self.backbone, self.from_scratch, self.attn_implementation, self.trust_remote_code
        )

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
            self._say_network()
        if self._token_ids is not None:
            shrink_to_active(self.network, self._token_ids)

    def _say_network(self) -> None:
        """Say what is trained, and what of it begins at random."""
        trainer = processes.trainer_of(self)
        if not self.training_follows and (trainer is None or trainer.state.fn != "fit"):
            return
        total = sum(part.numel() for part in self.network.parameters())
        said = f"{type(self.network).__name__}: {total:,} weights"
        if self._token_ids is not None:
            embeddings: Any = self.network.get_input_embeddings()
            unused = embeddings.num_embeddings - len(self._token_ids)
            trained = total - unused * embeddings.embedding_dim
            said += f", {trained:,} of them in training: word embeddings of tokens in the data alone"
        if new := list(dict.fromkeys(name.rpartition(".")[0] for name in self._random_parameters)):
            many = f"{', '.join(new[:3])} and {len(new) - 3} more" if len(new) > 5 else ", ".join(new)
            said += f"; new, with random weights: {many}"
        rank_zero_info(said)

    def _build(self) -> None:
        restored = self._network_config
        if restored is None and self.restore_from is not None:
            restored = networks.checkpoint_config(self.restore_from)
        with processes.same_seed_everywhere(processes.trainer_of(self)):
            network, self._random_parameters = self.build_network(restored)
        if restored is None and self.init_from:
            absent = self.copy_initial_weights(network, *networks.read_weights(self.init_from))
            self._random_parameters = [name for name in self._random_parameters if name in absent]
            if absent:
                rank_zero_warn(f"init_from {self.init_from!r} has no {', '.join(absent)}: kept as they were")
        self.finish_network(network)
        self._language_ids = networks.language_ids(network.config, self.languages, self.backbone)
        self.network = network
        if self.gradient_checkpointing:
            # The newer name stands only in later releases of transformers 5.
            enable = getattr(network, "activation_checkpointing_enable", network.gradient_checkpointing_enable)
            enable({"use_reentrant": False})
        # from_pretrained leaves the network in evaluation mode, and Lightning keeps the mode that it finds.
        network.train()
        if processes.is_sharded(self):
            processes.shard(network, self.device_mesh)

    def copy_initial_weights(
        self, network: PreTrainedModel, state: dict[str, Tensor], config: PreTrainedConfig | None
    ) -> list[str]:
        """Copy the weights of `init_from`, and return the names of the parameters that it lacks.

        Args:
            network: The network to fill.
            state: The weights, by the names of parameters.
            config: The configuration that lies with them.
        """
        return networks.copy_weights(network, state, str(self.init_from))

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
        # Last: by then moments have the rows of what is trained.
        optimizer.register_load_state_dict_pre_hook(check_state)
        total = self.trainer.estimated_stepping_batches
        scheduler = build_scheduler(optimizer, self.schedule, self.warmup_ratio, total)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "learning_rate"},
        }

    # Running

    def inputs(self, batch: Batch) -> Batch:
        """Return the network's arguments: those of the batch, and the languages for a network that wants them.

        Args:
            batch: A batch with `input_ids`, `attention_mask` and `language`.
        """
        inputs = networks.network_inputs(self.network, batch)
        if self._language_ids is not None:
            self._language_ids = self._language_ids.to(batch["language"].device)
            ids = inputs["input_ids"]
            langs = self._language_ids[batch["language"]].view(-1, *[1] * (ids.ndim - 1))
            # XLM's head for several choices views them as rows.
            inputs["langs"] = langs.expand_as(ids).contiguous()
        return inputs

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep with the weights what builds their network again, so that loading needs no backbone."""
        checkpoint[CONFIG_KEY] = networks.config_to_json(self.network.config)
        checkpoint["task"] = type(self).__name__
        checkpoint.update(self._record.state_dict())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of this task, and take what was chosen for its weights.

        Raises:
            InputError: If it is of another.
        """
        task = checkpoint.get("task", type(self).__name__)
        if task != type(self).__name__:
            raise InputError(f"the checkpoint is of the task {task}, this run of {type(self).__name__}")
        self._random_parameters = []
        self._record.load_state_dict(checkpoint)
        if self.calibrated and "network" in self._modules and CONFIG_KEY in checkpoint:
            kept = vars(networks.config_from_json(checkpoint[CONFIG_KEY]))
            fields = vars(self.network.config)
            for name in self.calibrated:
                fields.pop(name, None)
                fields |= {name: kept[name]} if name in kept else {}

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: Any = None, strict: bool = True, **arguments: Any
    ) -> Self:
        """Load a checkpoint file; its backbone need not exist any more, since the file says how to build the network.

        The file is data: no class that it names is built, no code is run for it, and it cannot grant that.

        Args:
            checkpoint_path: A `.ckpt` file.
            map_location: As in `torch.load`.
            strict: Whether all names must match.
            arguments: Arguments of the class that replace the saved ones.

        Raises:
            InputError: It is damaged, of another task or program, or has arguments that the class does not take.
        """
        checkpoint = read_checkpoint(Path(checkpoint_path))
        saved = {key: value for key, value in checkpoint.get("hyper_parameters", {}).items() if str(key)[:1] != "_"}
        # How a run attended changes nothing of its network, and the name may be that of code on the Hub.
        arguments = {**saved, "attn_implementation": "auto", "trust_remote_code": False, **arguments}
        if (config := networks.checkpoint_config(checkpoint_path)) is None:
            # The backbone that it names may be anybody's, and what of it is not replaced would count as the file's.
            raise InputError(f"{checkpoint_path} does not say how its network is built; this project's checkpoints do")
        arguments["_network_config"] = config
        try:
            module = cls(**arguments)
        except (TypeError, AttributeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{checkpoint_path} is no checkpoint of {cls.__name__}: {error}") from error
        module.on_load_checkpoint(checkpoint)
        module.configure_model()
        module._random_parameters = []
        module.load_state_dict(checkpoint["state_dict"], strict=strict)
        return module if map_location is None else module.to(map_location)
