"""Any number of labels for a sentence or a pair of sentences, such as the emotions in it."""

from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import PreTrainedModel

from ernie_m.errors import InputError

from . import calibration, scores
from .classification import ProblemType, SentenceHead
from .networks import Batch

THRESHOLDS = "label_thresholds"
"""The field of a network's configuration that keeps the threshold of each label, by name."""


class SequenceMultiLabel(SentenceHead):
    """Gives sentences, or pairs of sentences, any number of labels, scored by F1 per language.

    A batch has `input_ids` and `attention_mask` (batch, length) int64; `labels` (batch, labels) int64, 1 for each that
    the text has, 0 for the others of `label_names`, -100 for unknown; `example_ids` and `language` (batch,) int64;
    `weights` (batch,) float32, 0 for a filler; in training `normaliser` (), the examples of the global batch over the
    number of processes.

    A text has the labels whose probability is as high as their threshold. Thresholds that are chosen fit the
    development data, so that the scores of these are a little better than those of other data.

    `tables` have the columns `example_id` (int64), `labels` and `predictions` (lists of names; `labels` null for
    unknown) and `probability_<label>` (float32) for every label.

    Args:
        threshold: Of every label; None to choose after every validation of a training the one of each label that gives
            it the highest F1 on the development data of the training languages, 0.5 where there are none.
        args: What `Classification` takes, as `kwargs`.
        kwargs: See `args`.
    """

    problem_type: ClassVar[ProblemType | None] = "multi_label_classification"
    score_names: ClassVar[tuple[str, ...]] = (
        "macro_f1", "micro_f1", "exact_match", "macro_precision", "macro_recall",
    )  # fmt: skip

    def __init__(self, *args: Any, threshold: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.threshold = None if threshold is None else calibration.check_number(threshold, "threshold", 0, 1)

    @property
    def thresholds(self) -> dict[str, float]:
        """The probability from which on a text has a label, for each label."""
        if self.threshold is not None:
            return dict.fromkeys(self.label_names, self.threshold)
        kept = getattr(self.network.config, THRESHOLDS, {})
        if not isinstance(kept, dict):
            raise InputError(f"{THRESHOLDS} in a network's configuration is {str(kept)[:100]}; it is a mapping")
        names = {name: kept.get(name, 0.5) for name in self.label_names}
        return {name: calibration.check_number(one, f"{THRESHOLDS}.{name}", 0, 1) for name, one in names.items()}

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The thresholds."""
        return (THRESHOLDS,)

    def calibrate(self, rows: Batch) -> None:
        """Choose the threshold of each label, where none is given.

        Args:
            rows: The rows of development data.
        """
        labelled = rows["labels"][:, 0] >= 0
        if self.threshold is None and bool(labelled.any()):
            best = calibration.best_thresholds(rows["probabilities"][labelled], rows["labels"][labelled])
            setattr(self.network.config, THRESHOLDS, dict(zip(self.label_names, best, strict=True)))

    def network_to_export(self) -> PreTrainedModel:
        """Return the network, its thresholds in its configuration."""
        setattr(self.network.config, THRESHOLDS, self.thresholds)
        return self.network

    def loss(self, batch: Batch) -> Tensor:
        """Return the micro-batch's share of the binary cross-entropy of the global batch, mean over the labels. ()."""
        logits = self.logits(batch)
        losses = binary_cross_entropy_with_logits(logits, batch["labels"].to(logits.dtype), reduction="none")
        return (losses.mean(dim=-1) * batch["weights"]).sum() / batch["normaliser"]

    @property
    def prediction_columns(self) -> list[str]:
        """The predicted labels, and the probability of each."""
        return ["predictions", *(f"probability_{name}" for name in self.label_names)]

    def predict_rows(self, batch: Batch) -> Batch:
        """Return labels and probabilities of one batch."""
        kept = {key: batch[key] for key in ("language", "example_ids", "weights", "labels")}
        return kept | {"probabilities": self.logits(batch).sigmoid()}

    def score(self, rows: Batch, missing: int) -> tuple[pa.Table, dict[str, float]]:
        """Make one language's table and scores.

        Raises:
            InputError: Examples are missing: what labels they have is not known here.
        """
        if missing:
            raise InputError(f"{missing} examples got no prediction, so there is no score; run the evaluation again")
        names, probabilities = self.label_names, rows["probabilities"]
        predicted = probabilities >= torch.tensor([self.thresholds[name] for name in names])
        known = bool((rows["labels"][:, 0] >= 0).all())
        right = _named(rows["labels"] == 1, names) if known else [None] * len(predicted)
        columns = {
            "example_id": pa.array(rows["example_ids"].tolist(), pa.int64()),
            "labels": pa.array(right, pa.list_(pa.string())),
            "predictions": pa.array(_named(predicted, names), pa.list_(pa.string())),
        }
        for index, name in enumerate(names):
            columns[f"probability_{name}"] = pa.array(probabilities[:, index].numpy(), pa.float32())
        if not known:
            return pa.table(columns), {}
        result = scores.multi_label_scores(predicted.long(), rows["labels"])
        # What calling everything everything gives.
        chance = scores.multi_label_scores(torch.ones_like(rows["labels"]), rows["labels"])["macro_f1"]
        return pa.table(columns), {**result, "examples": float(len(predicted)), "chance": chance}


def _named(chosen: Tensor, names: list[str]) -> list[list[str]]:
    """Return the names of the labels that each row has."""
    return [[name for name, has in zip(names, row, strict=True) if has] for row in chosen.tolist()]
