"""All parts of a text that a prompt asks for: UIE-M's task, on one's own data."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import PreTrainedConfig, PreTrainedModel

from ernie_m import ErnieMForInformationExtraction
from ernie_m.errors import InputError, check_positive

from . import networks
from .answer_spans import Spans, merge_windows
from .extracted_spans import CharacterSpan, extraction_scores, paired_spans
from .module import TaskModule
from .networks import Batch

_SPANS = pa.list_(pa.struct({"text": pa.string(), "begin": pa.int64(), "end": pa.int64()}))
_SCORED_SPANS = pa.list_(
    pa.struct({"text": pa.string(), "begin": pa.int64(), "end": pa.int64(), "probability": pa.float32()})
)


class InformationExtraction(TaskModule):
    """Tells of each token whether a span starts, and whether one ends, with it; scored by F1 of spans per language.

    A row is a window, a prompt with a part of its content. A batch has `input_ids` and `attention_mask`
    (batch, length) int64; `row` (batch,) int64, the number of the row in its file; `example_ids` and `language`
    (batch,) int64; `weights` (batch,) float32, 0 for a filler; in training `start_positions` and `end_positions`
    (batch, length) int64, 0 or 1, and `normaliser` (), the tokens of the global batch over the number of processes;
    otherwise `offsets_begin` and `offsets_end` (batch, length) int64, the characters of the content that a token stands
    for, -1 for tokens that no span starts or ends with.

    The loss is the mean of both binary cross-entropies over all tokens of the pairs, special ones and those of the
    prompt included, which are trained as 0. So it is in PaddleNLP's finetune.py (`model_zoo/uie`, BCELoss of the
    probabilities), but that this pads all inputs to the longest possible and counts the padding too: there the loss is
    smaller by the share of padding. Here padding does not count.

    The data module's `references(stage, language)` gives a table with `content`, `prompt`, `begins` and `ends`, row i
    for row i. A span is cut from the content by its characters; equal spans of several windows are one, with the higher
    probability. Scores of a language are `f1`, `precision` and `recall` over the spans of all rows together, right
    where both characters are; `examples` are rows.

    `tables` have one row per row of the file: `example_id` (int64), `label` (list of `text`, `begin`, `end`) and
    `prediction` (list of `text`, `begin`, `end`, `probability`), both in the order of the text.

    Args:
        threshold: The probability above which a token starts, or ends, a span.
        max_spans: Spans of a window at most, the most probable ones.
        args: What `TaskModule` takes, as `kwargs`.
        kwargs: See `args`.
    """

    score_names: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall")

    def __init__(self, *args: Any, threshold: float = 0.5, max_spans: int = 64, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_positive(max_spans=max_spans)
        if not 0 <= threshold < 1:
            raise InputError(f"threshold is {threshold}; it is a probability, at least 0 and below 1")
        self.threshold = threshold
        self.max_spans = max_spans

    # Building

    def head_path(self, config: PreTrainedConfig) -> str:
        """Return the dotted path of the layer that gives the starts; that of the ends comes with it."""
        return "linear_start"

    def build_network(self, restored: PreTrainedConfig | None) -> tuple[PreTrainedModel, list[str]]:
        """Return the network and the names of its parameters that are random.

        Raises:
            InputError: The backbone is no ERNIE-M.
        """
        return networks.build(_ErnieMAlone, self.source, restored)

    # Training and evaluation

    def logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logits of starts and ends in float32. Both (batch, length).

        Args:
            batch: A batch as the class describes it.
        """
        output = self.network(**self.inputs(batch))
        return output.start_logits.float(), output.end_logits.float()

    def loss(self, batch: Batch) -> Tensor:
        """Return the micro-batch's share of the mean of both cross-entropies over the global batch's tokens. ()."""
        start, end = self.logits(batch)
        losses = binary_cross_entropy_with_logits(start, batch["start_positions"].float(), reduction="none")
        losses = losses + binary_cross_entropy_with_logits(end, batch["end_positions"].float(), reduction="none")
        weights = batch["attention_mask"] * batch["weights"][:, None]
        return (losses / 2 * weights).sum() / batch["normaliser"]

    @property
    def prediction_columns(self) -> list[str]:
        """The predicted spans."""
        return ["prediction"]

    def predict_rows(self, batch: Batch) -> Batch:
        """Return the spans of each window."""
        kept = {key: batch[key] for key in ("language", "example_ids", "weights", "row")}
        start, end = (logits.sigmoid() for logits in self.logits(batch))
        places = batch["offsets_begin"], batch["offsets_end"]
        spans = paired_spans(start, end, *places, self.threshold, self.max_spans)
        return kept | {"span_begin": spans.begin, "span_end": spans.end, "span_score": spans.score}

    def score(self, rows: Batch, missing: int) -> tuple[pa.Table, dict[str, float]]:
        """Make one language's table and scores from its windows."""
        asked = self.references(rows)
        spans = Spans(rows["span_begin"], rows["span_end"], rows["span_score"])
        found = {row: sorted(own) for row, own in merge_windows(rows["row"], spans, sys.maxsize).items()}
        contents: list[str] = asked["content"].to_pylist()
        if self._stage == "predict":
            return spans_table(found, contents, None), {}
        both = zip(asked["begins"].to_pylist(), asked["ends"].to_pylist(), strict=True)
        true = [list(zip(begins, ends, strict=True)) for begins, ends in both]
        # Where all windows were to be run, the results of a row of which none was are not found.
        wanted = range(len(asked)) if missing else found
        predictions = {row: [(begin, end) for begin, end, _ in own] for row, own in found.items()}
        result = extraction_scores(predictions, {row: true[row] for row in wanted})
        # To find nothing is what takes no training.
        return spans_table(found, contents, true), {**result, "examples": float(len(wanted)), "chance": 0.0}


class _ErnieMAlone:
    """The head by the methods of transformers' Auto classes, none of which has it."""

    @staticmethod
    def from_pretrained(source: str, config: PreTrainedConfig, trust_remote_code: bool, **options: Any) -> Any:
        _check_family(config)
        return ErnieMForInformationExtraction.from_pretrained(source, config=config, **options)

    @staticmethod
    def from_config(config: PreTrainedConfig, trust_remote_code: bool, **options: Any) -> PreTrainedModel:
        _check_family(config)
        network_class: Any = ErnieMForInformationExtraction
        network: PreTrainedModel = network_class._from_config(config, **options)
        return network


def _check_family(config: PreTrainedConfig) -> None:
    if config.model_type != "ernie_m":
        raise InputError(
            f"information extraction is a head of ERNIE-M alone; the backbone is of type {config.model_type}"
        )


def spans_table(
    found: Mapping[int, Sequence[tuple[int, int, float]]],
    contents: Sequence[str],
    true: Sequence[Sequence[CharacterSpan]] | None,
) -> pa.Table:
    """Return the table that `InformationExtraction` describes.

    Args:
        found: Row to begin, end and probability of its predicted spans.
        contents: The texts of all rows.
        true: Begin and end of the true spans of all rows; None where they are not known, which is null in the table.
    """
    labels = [None if true is None else [_span(contents[row], begin, end) for begin, end in true[row]] for row in found]
    predictions = [
        [_span(contents[row], begin, end) | {"probability": probability} for begin, end, probability in own]
        for row, own in found.items()
    ]
    return pa.table(
        {
            "example_id": pa.array(list(found), pa.int64()),
            "label": pa.array(labels, _SPANS),
            "prediction": pa.array(predictions, _SCORED_SPANS),
        }
    )


def _span(content: str, begin: int, end: int) -> dict[str, Any]:
    return {"text": content[begin:end], "begin": begin, "end": end}
