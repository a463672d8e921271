"""What classifiers share: a layer with one row per label, made anew or taken over, its labels matched by name."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from ernie_m.errors import InputError

from . import networks
from .classifier_labels import labels_of, match_labels, set_labels
from .module import TaskModule
from .networks import Batch
from .optimization import FAMILIES

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]
"""Kinds of tasks that one class of transformers' networks serves."""

_OTHER_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForMultipleChoice")


class Classification(TaskModule):
    """Classifies texts or their tokens. A backbone that was fine-tuned for the task keeps its classifier.

    Args:
        label_names: The labels in the order of the data's indices; the command takes them from the data.
        new_head: Train a new classifier although the backbone has one.
        args: What `TaskModule` takes, as `kwargs`.
        kwargs: See `args`.
    """

    auto_class: ClassVar[Any]
    problem_type: ClassVar[ProblemType | None] = None
    """What transformers calls the kind of task, where one class of networks serves several."""

    def __init__(self, *args: Any, label_names: list[str] | None = None, new_head: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_names = list(label_names or [])
        if not all(isinstance(name, str) for name in self.label_names):
            # A checkpoint's have seen no parser.
            raise InputError(f"label_names is {str(self.label_names)[:100]}; they are texts")
        self.new_head = new_head
        self._columns: list[int] = []

    def head_path(self, config: PreTrainedConfig) -> str:
        """Return the dotted path of the layer with one row per label."""
        return "classifier"

    def build_network(self, restored: PreTrainedConfig | None) -> tuple[PreTrainedModel, list[str]]:
        """Return the classifier and the names of its parameters that are random.

        Raises:
            InputError: A new classifier is needed and there are no labels, or the backbone's files contradict each
                other.
        """
        source = self.source
        if restored is not None:
            return networks.new_network(self.auto_class, restored, source.attn_implementation), []
        if source.from_scratch is not None:
            scratch = networks.scratch_config(source.backbone, source.from_scratch, source.trust_remote_code)
            set_labels(scratch, self._labels_of_new_head())
            network = networks.new_network(self.auto_class, scratch, source.attn_implementation)
            return network, [name for name, _ in network.named_parameters()]
        config = networks.read_config(source.backbone, source.trust_remote_code)
        stored, head = labels_of(config), self.head_path(config)
        architectures = config.architectures or []
        fine_tuned = [
            name for name in architectures if name.endswith(self.auto_class.__name__.removeprefix("AutoModel"))
        ]
        if self.problem_type is not None and config.problem_type not in (None, self.problem_type):
            fine_tuned = []
        # A head of the same name may be another task's: its rows are labels of sentences here, of words there.
        is_foreign = not fine_tuned and any(name.endswith(_OTHER_HEADS) for name in architectures)
        if self.new_head or not fine_tuned:
            set_labels(config, self._labels_of_new_head())
        renewed = head if self.new_head or is_foreign else None
        network, absent = networks.load_network(self.auto_class, source, config, renewed)
        has_head = f"{head}.weight" not in absent
        if fine_tuned and not self.new_head and not has_head:
            raise InputError(
                f"config.json of {source.backbone!r} names {fine_tuned[0]}, but the weights have no classifier; set "
                "new_head to true to train one"
            )
        if has_head:
            set_labels(network.config, stored)
        return network, absent

    def _labels_of_new_head(self) -> list[str]:
        if not self.label_names:
            raise InputError("a new classifier needs label_names; the command takes them from the data")
        return self.label_names

    def copy_initial_weights(
        self, network: PreTrainedModel, state: dict[str, Tensor], config: PreTrainedConfig | None
    ) -> list[str]:
        """Copy weights, those of the classifier with its labels where it is not made anew."""
        head = self.head_path(network.config)
        if self.new_head:
            state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{head}.")}
        absent = super().copy_initial_weights(network, state, config)
        if config is not None and f"{head}.weight" not in absent:
            set_labels(network.config, labels_of(config))
        return absent

    def finish_network(self, network: PreTrainedModel) -> None:
        """Match the classifier's labels with the data's, and spell them as the data do."""
        network.config.problem_type = self.problem_type
        stored = labels_of(network.config)
        self.label_names = self.label_names or stored
        self._columns = self.match(stored)
        set_labels(network.config, [self.label_names[self._columns.index(row)] for row in range(len(stored))])

    def match(self, stored: list[str]) -> list[int]:
        """Return for each of `label_names` its row in the classifier.

        Args:
            stored: The classifier's labels.

        Raises:
            InputError: They are not the data's.
        """
        return match_labels(stored, self.label_names, self.init_from or self.backbone)

    def logits(self, batch: Batch) -> Tensor:
        """Return the logits in the order of `label_names`, in float32. (batch, [length,] labels).

        Args:
            batch: A batch as the class describes it.
        """
        logits: Tensor = self.network(**self.inputs(batch)).logits.float()
        if self._columns == sorted(self._columns):
            return logits
        # Not by an index tensor, which every step would have to copy to the device.
        return torch.stack([logits[..., column] for column in self._columns], dim=-1)


class SentenceHead(Classification):
    """Gives sentences, or pairs of them, what one layer over the pooled vector says."""

    auto_class: ClassVar[Any] = AutoModelForSequenceClassification

    def head_path(self, config: PreTrainedConfig) -> str:
        """Return the dotted path of the layer with one row per label, which depends on the family."""
        family = FAMILIES.get(config.model_type)
        return family.label_layer if family else "classifier"
