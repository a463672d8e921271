"""One label for a sentence or a pair of sentences: XNLI, PAWS-X, and one's own data."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pyarrow as pa
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from ernie_m.errors import InputError

from . import calibration, scores
from .classification import ProblemType, SentenceHead
from .networks import Batch

ClassWeights = dict[str, float] | Literal["balanced"]
"""Label to the factor of its loss, or "balanced": the rarer a label in the training data, the higher."""

TEMPERATURE = "calibration_temperature"
"""The field of a network's configuration that keeps the temperature."""


class SequenceClassification(SentenceHead):
    """Classifies sentences or pairs of sentences, scored by accuracy per language.

    A batch has `input_ids` and `attention_mask` (batch, length) int64; `labels` (batch,) int64, indices into
    `label_names`, -100 for none; `example_ids` and `language` (batch,) int64; `weights` (batch,) float32, 0 for a
    filler; in training `normaliser` (), the examples of the global batch over the number of processes.

    `tables` have the columns `example_id` (int64), `label` and `prediction` (names; `label` null for none) and
    `probability_<label>` (float32) for every label.

    Args:
        class_weights: Factors of the labels' losses by name, 1 for those that are left out; "balanced" for all examples
            over the number of labels and the examples of the label, as scikit-learn has it, which needs a data module
            with `label_counts`. The loss is still divided by the number of examples.
        temperature_scaling: After every validation of a training choose what logits are divided by, so that the
            probabilities are the likeliest on the development data of the training languages. An export has it in the
            weights of its last layer.
        args: What `Classification` takes, as `kwargs`.
        kwargs: See `args`.
    """

    problem_type: ClassVar[ProblemType | None] = "single_label_classification"
    score_names: ClassVar[tuple[str, ...]] = (
        "accuracy", "macro_f1", "macro_precision", "macro_recall", "matthews", "calibration_error",
    )  # fmt: skip
    class_factors: Tensor | None

    def __init__(
        self,
        *args: Any,
        class_weights: ClassWeights | None = None,
        temperature_scaling: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.class_weights = class_weights
        self.temperature_scaling = temperature_scaling
        self.register_buffer("class_factors", None, persistent=False)

    def setup(self, stage: str) -> None:
        """Read what the data module says of its data, and of it the labels' weights.

        Args:
            stage: "fit", "validate", "test" or "predict".

        Raises:
            InputError: `class_weights` do not fit the labels, or the data module does not count them.
        """
        super().setup(stage)
        if stage == "fit" and self.class_weights is not None:
            self.class_factors = torch.tensor([self._class_weights()[name] for name in self.label_names])

    def _class_weights(self) -> dict[str, float]:
        if isinstance(self.class_weights, Mapping):
            if unknown := [name for name in self.class_weights if name not in self.label_names]:
                raise InputError(f"class_weights names {unknown[0]!r}; the labels are {', '.join(self.label_names)}")
            given = {name: self.class_weights.get(name, 1.0) for name in self.label_names}
            return {name: calibration.check_number(one, f"class_weights.{name}", 0, 1e6) for name, one in given.items()}
        counts = getattr(getattr(self.trainer, "datamodule", None), "label_counts", None)
        if counts is None:
            raise InputError('class_weights is "balanced", but the data module has no label_counts; name a weight each')
        total = sum(counts.values())
        found = {name: total / len(counts) / max(1, count) for name, count in counts.items()}
        rank_zero_info("class weights: " + ", ".join(f"{name} {weight:.3g}" for name, weight in found.items()))
        return found

    def loss(self, batch: Batch) -> Tensor:
        """Return the micro-batch's share of the cross-entropy of the global batch. ()."""
        logits = self.logits(batch)
        losses = cross_entropy(logits, batch["labels"], self.class_factors, reduction="none", ignore_index=-100)
        self.watch_accuracy(logits, batch["labels"], batch["weights"])
        return (losses * batch["weights"]).sum() / batch["normaliser"]

    @property
    def prediction_columns(self) -> list[str]:
        """The predicted label, and the probability of each."""
        return ["prediction", *(f"probability_{name}" for name in self.label_names)]

    def predict_rows(self, batch: Batch) -> Batch:
        """Return labels and probabilities, at temperature 1, of one batch."""
        kept = {key: batch[key] for key in ("language", "example_ids", "weights", "labels")}
        return kept | {"probabilities": self.logits(batch).softmax(dim=-1)}

    @property
    def temperature(self) -> float:
        """What logits are divided by in predictions; 1 where there is no network yet."""
        if "network" not in self._modules:
            return 1.0
        return calibration.kept_number(self.network.config, TEMPERATURE, *calibration.TEMPERATURES, default=1.0)

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The temperature."""
        return (TEMPERATURE,)

    def calibrate(self, rows: Batch) -> None:
        """Choose the temperature, where that is asked for.

        Args:
            rows: The rows of development data.
        """
        labelled = rows["labels"] >= 0
        if self.temperature_scaling and bool(labelled.any()):
            best = calibration.best_temperature(rows["probabilities"][labelled], rows["labels"][labelled])
            setattr(self.network.config, TEMPERATURE, best)

    def network_to_export(self) -> PreTrainedModel:
        """Return the network with its last layer's weights divided by the temperature."""
        with torch.no_grad():
            for values in self.network.get_submodule(self.head_path(self.network.config)).parameters():
                values.div_(self.temperature)
        self.network.config.__dict__.pop(TEMPERATURE, None)
        return self.network

    @property
    def confusion(self) -> dict[str, list[list[int]]]:
        """How often each label (row) was taken for each (column) by the last evaluation, in languages with labels."""
        found = {}
        for language, table in self.tables.items():
            counts = Counter(zip(table["label"].to_pylist(), table["prediction"].to_pylist(), strict=True))
            matrix = [[counts[label, prediction] for prediction in self.label_names] for label in self.label_names]
            if any(map(any, matrix)):
                found[language] = matrix
        return found

    def score(self, rows: Batch, missing: int) -> tuple[pa.Table, dict[str, float]]:
        """Make one language's table and accuracy."""
        ids, known = rows["example_ids"].tolist(), rows["labels"].tolist()
        probabilities = calibration.at_temperature(rows["probabilities"], self.temperature)
        predicted = rows["probabilities"].argmax(dim=-1).tolist()
        names = self.label_names
        columns = {
            "example_id": pa.array(ids, pa.int64()),
            "label": pa.array([names[label] if label >= 0 else None for label in known], pa.string()),
            "prediction": pa.array([names[label] for label in predicted], pa.string()),
        }
        for index, name in enumerate(names):
            columns[f"probability_{name}"] = pa.array(probabilities[:, index].numpy(), pa.float32())
        is_labelled = rows["labels"] >= 0
        if not bool(is_labelled.any()):
            return pa.table(columns), {}
        gold = rows["labels"][is_labelled]
        result = scores.classification_scores(probabilities[is_labelled], gold, missing)
        majority = scores.majority_share(dict(enumerate(gold.tolist())))
        counts = {"examples": float(len(gold) + missing), "chance": majority}
        if missing:
            counts["missing"] = float(missing)
        return pa.table(columns), {"accuracy": result.pop("accuracy"), **counts, **result}
