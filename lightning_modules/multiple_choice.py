"""The one of several texts that goes with a context: XCOPA, and one's own data."""

from typing import Any, ClassVar

import pyarrow as pa
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMultipleChoice, PreTrainedConfig, PreTrainedModel

from ernie_m.errors import InputError

from . import networks
from .module import TaskModule
from .networks import Batch
from .scores import classification_scores, majority_share


class MultipleChoice(TaskModule):
    """Scores every choice by one number and takes the highest, scored by accuracy per language.

    A batch has `input_ids` and `attention_mask` (batch, choices, length) int64; `labels` (batch,) int64, the place of
    the right choice, -100 for none; `example_ids` and `language` (batch,) int64; `weights` (batch,) float32, 0 for a
    filler; in training `normaliser` (), the examples of the global batch over the number of processes. The number of
    choices is the data's; the network has no layer that depends on it.

    `tables` have the columns `example_id` (int64), `label` and `prediction` (names; `label` null for none) and
    `probability_<label>` (float32) for every choice.

    Args:
        label_names: What the choices are called, in their order; the command takes them from the data.
        new_head: Train a new last layer although the backbone has one.
        args: What `TaskModule` takes, as `kwargs`.
        kwargs: See `args`.
    """

    score_names: ClassVar[tuple[str, ...]] = ("accuracy", "calibration_error")

    def __init__(self, *args: Any, label_names: list[str] | None = None, new_head: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_names = list(label_names or [])
        if not all(isinstance(name, str) for name in self.label_names):
            # A checkpoint's have seen no parser.
            raise InputError(f"label_names is {str(self.label_names)[:100]}; they are texts")
        self.new_head = new_head

    # Building

    def head_path(self, config: PreTrainedConfig) -> str:
        """Return the dotted path of the layer that gives a choice its number, which depends on the family."""
        return "logits_proj" if config.model_type == "xlm" else "classifier"

    def build_network(self, restored: PreTrainedConfig | None) -> tuple[PreTrainedModel, list[str]]:
        """Return the network and the names of its parameters that are random."""
        source = self.source
        if restored is not None or source.from_scratch is not None:
            return networks.build(AutoModelForMultipleChoice, source, restored)
        config = networks.read_config(source.backbone, source.trust_remote_code)
        # A layer of the same name may be another task's, with a row for each of its labels.
        is_fine_tuned = any(name.endswith("ForMultipleChoice") for name in config.architectures or [])
        renewed = None if is_fine_tuned and not self.new_head else self.head_path(config)
        return networks.load_network(AutoModelForMultipleChoice, source, config, renewed)

    def copy_initial_weights(
        self, network: PreTrainedModel, state: dict[str, Tensor], config: PreTrainedConfig | None
    ) -> list[str]:
        """Copy weights, those of the last layer where it is not made anew."""
        if self.new_head:
            head = self.head_path(network.config)
            state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{head}.")}
        return super().copy_initial_weights(network, state, config)

    # Training and evaluation

    def logits(self, batch: Batch) -> Tensor:
        """Return a number for every choice in float32; padding of a short choice does not count. (batch, choices).

        Args:
            batch: A batch as the class describes it.
        """
        logits: Tensor = self.network(**self.inputs(batch)).logits
        return logits.float()

    def loss(self, batch: Batch) -> Tensor:
        """Return the micro-batch's share of the cross-entropy over the choices of the global batch. ()."""
        logits = self.logits(batch)
        losses = cross_entropy(logits, batch["labels"], reduction="none", ignore_index=-100)
        self.watch_accuracy(logits, batch["labels"], batch["weights"])
        return (losses * batch["weights"]).sum() / batch["normaliser"]

    @property
    def prediction_columns(self) -> list[str]:
        """The predicted choice, and the probability of each."""
        return ["prediction", *(f"probability_{name}" for name in self.label_names)]

    def predict_rows(self, batch: Batch) -> Batch:
        """Return labels and probabilities of one batch."""
        kept = {key: batch[key] for key in ("language", "example_ids", "weights", "labels")}
        return kept | {"probabilities": self.logits(batch).softmax(dim=-1)}

    def score(self, rows: Batch, missing: int) -> tuple[pa.Table, dict[str, float]]:
        """Make one language's table and accuracy."""
        probabilities, labels = rows["probabilities"], rows["labels"]
        names = self.label_names or [str(number) for number in range(probabilities.shape[1])]
        named = [[*names, None][label] for label in labels.clamp(min=-1).tolist()]
        columns = {
            "example_id": pa.array(rows["example_ids"].tolist(), pa.int64()),
            "label": pa.array(named, pa.string()),
            "prediction": pa.array([names[choice] for choice in probabilities.argmax(dim=-1).tolist()], pa.string()),
        }
        for name, values in zip(names, probabilities.unbind(dim=1), strict=True):
            columns[f"probability_{name}"] = pa.array(values.numpy(), pa.float32())
        is_labelled = labels >= 0
        if not bool(is_labelled.any()):
            return pa.table(columns), {}
        gold = labels[is_labelled]
        found = classification_scores(probabilities[is_labelled], gold, missing)
        result = {"accuracy": found["accuracy"], "examples": float(len(gold) + missing)}
        result["chance"] = majority_share(dict(enumerate(gold.tolist())))
        if missing:
            result["missing"] = float(missing)
        return pa.table(columns), result | {"calibration_error": found["calibration_error"]}
