"""A number for a sentence or a pair of sentences, such as how similar they are."""

from typing import Any, ClassVar

import pyarrow as pa
from torch import Tensor
from transformers import PreTrainedModel

from ernie_m.errors import InputError

from . import scores
from .classification import ProblemType, SentenceHead
from .networks import Batch


class SequenceRegression(SentenceHead):
    """Gives sentences, or pairs of sentences, a number, scored by its correlation with the right one per language.

    A batch has `input_ids` and `attention_mask` (batch, length) int64; `labels` (batch,) float32, not a number for
    unknown; `example_ids` and `language` (batch,) int64; `weights` (batch,) float32, 0 for a filler; in training
    `normaliser` (), the examples of the global batch over the number of processes.

    `tables` have the columns `example_id` (int64), `label` (float32, null for unknown) and `prediction` (float32).

    Args:
        args: What `Classification` takes, as `kwargs`; of `label_names` one, which is what the number is called.
        kwargs: See `args`.
    """

    problem_type: ClassVar[ProblemType | None] = "regression"
    score_names: ClassVar[tuple[str, ...]] = ("pearson", "spearman", "rmse")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if len(self.label_names) > 1:
            raise InputError(f"label_names is {self.label_names}; a regression has one, the name of its number")

    def finish_network(self, network: PreTrainedModel) -> None:
        """Make sure that the network gives one number; what it is called is the data's matter.

        Raises:
            InputError: It gives several.
        """
        if network.config.num_labels != 1:
            raise InputError(
                f"{self.init_from or self.backbone!r} has a classifier of {network.config.num_labels} labels, not a"
                " number; set new_head to true to train one"
            )
        super().finish_network(network)

    def match(self, stored: list[str]) -> list[int]:
        """Take the only number for that of the data."""
        return [0]

    def numbers(self, batch: Batch) -> Tensor:
        """Return the predicted numbers in float32. (batch,).

        Args:
            batch: A batch as the class describes it.
        """
        return self.logits(batch)[:, 0]

    def loss(self, batch: Batch) -> Tensor:
        """Return the micro-batch's share of the mean squared error of the global batch. ()."""
        errors = (self.numbers(batch) - batch["labels"]).square()
        return (errors * batch["weights"]).sum() / batch["normaliser"]

    @property
    def prediction_columns(self) -> list[str]:
        """The predicted number."""
        return ["prediction"]

    def predict_rows(self, batch: Batch) -> Batch:
        """Return right and predicted numbers of one batch."""
        kept = {key: batch[key] for key in ("language", "example_ids", "weights", "labels")}
        return kept | {"predictions": self.numbers(batch)}

    def score(self, rows: Batch, missing: int) -> tuple[pa.Table, dict[str, float]]:
        """Make one language's table and scores.

        Raises:
            InputError: Examples are missing: what their numbers are is not known here.
        """
        if missing:
            raise InputError(f"{missing} examples got no prediction, so there is no score; run the evaluation again")
        labels, predictions = rows["labels"], rows["predictions"]
        known = not bool(labels.isnan().any())
        columns = {
            "example_id": pa.array(rows["example_ids"].tolist(), pa.int64()),
            "label": pa.array(labels.tolist() if known else [None] * len(labels), pa.float32()),
            "prediction": pa.array(predictions.numpy(), pa.float32()),
        }
        if not known:
            return pa.table(columns), {}
        # Giving all the same number correlates with nothing.
        counts = {"examples": float(len(labels)), "chance": 0.0}
        return pa.table(columns), {**scores.regression_scores(predictions, labels), **counts}
