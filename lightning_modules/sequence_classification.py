"""One label for a sentence or a pair of sentences: XNLI, PAWS-X, and one's own data."""

from collections import Counter
from typing import Any, ClassVar

import pyarrow as pa
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, PreTrainedConfig

from . import scores
from .classification import Classification
from .networks import Batch
from .optimization import FAMILIES


class SequenceClassification(Classification):
    """Classifies sentences or pairs of sentences, scored by accuracy per language.

    A batch has `input_ids` and `attention_mask` (batch, length) int64; `labels` (batch,) int64, indices into
    `label_names`, -100 for none; `example_ids` and `language` (batch,) int64; `weights` (batch,) float32, 0 for a
    filler; in training `normaliser` (), the examples of the global batch over the number of processes.

    `tables` have the columns `example_id` (int64), `label` and `prediction` (names; `label` null for none) and
    `probability_<label>` (float32) for every label.
    """

    auto_class: ClassVar[Any] = AutoModelForSequenceClassification
    score_names: ClassVar[tuple[str, ...]] = (
        "accuracy", "macro_f1", "macro_precision", "macro_recall", "matthews", "calibration_error",
    )  # fmt: skip

    def head_path(self, config: PreTrainedConfig) -> str:
        """Return the dotted path of the layer with one row per label, which depends on the family."""
        family = FAMILIES.get(config.model_type)
        return family.label_layer if family else "classifier"

    def loss(self, batch: Batch) -> Tensor:
        """Return the micro-batch's share of the cross-entropy of the global batch. ()."""
        logits = self.logits(batch)
        losses = cross_entropy(logits, batch["labels"], reduction="none", ignore_index=-100)
        self.watch_accuracy(logits, batch["labels"], batch["weights"])
        return (losses * batch["weights"]).sum() / batch["normaliser"]

    @property
    def prediction_columns(self) -> list[str]:
        """The predicted label, and the probability of each."""
        return ["prediction", *(f"probability_{name}" for name in self.label_names)]

    def predict_rows(self, batch: Batch) -> Batch:
        """Return labels and probabilities of one batch."""
        kept = {key: batch[key] for key in ("language", "example_ids", "weights", "labels")}
        return kept | {"probabilities": self.logits(batch).softmax(dim=-1)}

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
        predicted = rows["probabilities"].argmax(dim=-1).tolist()
        names = self.label_names
        columns = {
            "example_id": pa.array(ids, pa.int64()),
            "label": pa.array([names[label] if label >= 0 else None for label in known], pa.string()),
            "prediction": pa.array([names[label] for label in predicted], pa.string()),
        }
        for index, name in enumerate(names):
            columns[f"probability_{name}"] = pa.array(rows["probabilities"][:, index].numpy(), pa.float32())
        is_labelled = rows["labels"] >= 0
        if not bool(is_labelled.any()):
            return pa.table(columns), {}
        gold = rows["labels"][is_labelled]
        result = scores.classification_scores(rows["probabilities"][is_labelled], gold, missing)
        majority = scores.majority_share(dict(enumerate(gold.tolist())))
        counts = {"examples": float(len(gold) + missing), "chance": majority}
        if missing:
            counts["missing"] = float(missing)
        return pa.table(columns), {"accuracy": result.pop("accuracy"), **counts, **result}
