"""Answers that are cut from a text: MLQA, XQuAD, TyDiQA-GoldP, and one's own data."""

from typing import Any, ClassVar

import pyarrow as pa
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForQuestionAnswering, PreTrainedConfig, PreTrainedModel

from ernie_m.errors import check_positive

from . import classifier_labels, networks
from .answer_scores import Protocol, answer_scores
from .answer_spans import Spans, best_spans, merge_windows
from .module import TaskModule
from .networks import Batch


class QuestionAnswering(TaskModule):
    """Finds the first and last token of an answer, scored by F1 of words and exact match per language.

    A row is a window, a question with a part of its context. A batch has `input_ids` and `attention_mask`
    (batch, length) int64; `question` (batch,) int64, the number of the question; `example_ids` and `language`
    (batch,) int64; `weights` (batch,) float32, 0 for a filler; in training `start_positions` and `end_positions`
    (batch,) int64, 0 where the window does not hold the answer, and `normaliser` (), the windows of the global batch
    over the number of processes; otherwise `offsets_begin` and `offsets_end` (batch, length) int64, the characters of
    the context that a token stands for, -1 for tokens that no answer starts or ends with.

    The data module's `references(stage, language)` gives a table with `id`, `question`, `context` and `answers`, row i
    for question i. An answer is cut from the context by its characters, never put together from tokens. Of a question's
    windows the best span counts, its score being the sum of both logits.

    Scores of a language are `f1` and `exact_match`; `examples` are questions. The answers' language is what a name such
    as "de-en" begins with. Questions without right answers get a prediction and no score: the official script cannot
    score them.

    `tables` have one row per question: `example_id` (int64, the question), `id`, `question` and `prediction` (text, ""
    where a context has no token to answer with), `score` (float32), `begin` and `end` (int64, characters of the
    context, -1 for none), `references` (texts; null for none), `n_best` (texts, the prediction first) and
    `n_best_scores` (float32).

    Args:
        max_answer_length: Tokens of the longest answer.
        n_best_size: Answers of a question that the tables hold.
        protocol: Whose scores: "mlqa", by language, or "squad", as XTREME scores XQuAD and TyDiQA-GoldP.
        args: What `TaskModule` takes, as `kwargs`.
        kwargs: See `args`.
    """

    score_names: ClassVar[tuple[str, ...]] = ("f1", "exact_match")

    def __init__(
        self,
        *args: Any,
        max_answer_length: int = 100,
        n_best_size: int = 20,
        protocol: Protocol = "mlqa",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_positive(max_answer_length=max_answer_length, n_best_size=n_best_size)
        self.max_answer_length = max_answer_length
        self.n_best_size = n_best_size
        self.protocol: Protocol = protocol

    # Building

    def head_path(self, config: PreTrainedConfig) -> str:
        """Return the dotted path of the layer that gives both logits, the same in every family."""
        return "qa_outputs"

    def build_network(self, restored: PreTrainedConfig | None) -> tuple[PreTrainedModel, list[str]]:
        """Return the network and the names of its parameters that are random."""
        source = self.source
        if restored is not None or source.from_scratch is not None:
            return networks.build(AutoModelForQuestionAnswering, source, restored)
        config = networks.read_config(source.backbone, source.trust_remote_code)
        if config.num_labels != 2:
            # A classifier's, whose encoder is taken.
            classifier_labels.set_labels(config, ["start", "end"])
        return networks.load_network(AutoModelForQuestionAnswering, source, config)

    # Training and evaluation

    def logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logits of starts and ends in float32, minus infinity on padding. Both (batch, length).

        Args:
            batch: A batch as the class describes it.
        """
        output = self.network(**self.inputs(batch))
        is_padding = batch["attention_mask"] == 0
        start, end = output.start_logits.float(), output.end_logits.float()
        return start.masked_fill(is_padding, -torch.inf), end.masked_fill(is_padding, -torch.inf)

    def loss(self, batch: Batch) -> Tensor:
        """Return the micro-batch's share of the mean of both cross-entropies over the global batch. ()."""
        start, end = self.logits(batch)
        losses = cross_entropy(start, batch["start_positions"], reduction="none")
        losses = losses + cross_entropy(end, batch["end_positions"], reduction="none")
        return (losses / 2 * batch["weights"]).sum() / batch["normaliser"]

    def predict_rows(self, batch: Batch) -> Batch:
        """Return the best spans of each window."""
        kept = {key: batch[key] for key in ("language", "example_ids", "weights", "question")}
        places = batch["offsets_begin"], batch["offsets_end"]
        spans = best_spans(*self.logits(batch), *places, self.n_best_size, self.max_answer_length)
        return kept | {"span_begin": spans.begin, "span_end": spans.end, "span_score": spans.score}

    def score(self, rows: Batch, missing: int) -> tuple[pa.Table, dict[str, float]]:
        """Make one language's table and scores from its windows."""
        language = self.language_of(rows)
        asked = self.references(rows)
        spans = Spans(rows["span_begin"], rows["span_end"], rows["span_score"])
        table = answers_table(merge_windows(rows["question"], spans, self.n_best_size), asked)
        predictions = dict(zip(table["example_id"].to_pylist(), table["prediction"].to_pylist(), strict=True))
        # Where all windows were to be run, a question of which none was counts as wrong.
        wanted = range(len(asked)) if missing else sorted(predictions)
        right: list[list[str]] = asked["answers"].to_pylist()
        references = {question: right[question] for question in wanted if right[question]}
        self._tell_unscored(language, len(wanted) - len(references), len(wanted))
        if not references:
            return table, {}
        result = answer_scores(predictions, references, language, self.protocol)
        result["examples"] = float(len(references))
        if absent := len(references.keys() - predictions.keys()):
            result["missing"] = float(absent)
        return table, result

    def _tell_unscored(self, language: str, unscored: int, total: int) -> None:
        if unscored and self._stage != "predict":
            rest = "there is no score" if unscored == total else "the score is that of the others"
            rank_zero_warn(f"{language}: {unscored} of {total} questions have no right answers in the data; {rest}")


def answers_table(found: dict[int, list[tuple[int, int, float]]], asked: pa.Table) -> pa.Table:
    """Return the table of predictions that `QuestionAnswering` describes.

    Args:
        found: Question to begin, end and score of its spans, the best first.
        asked: `id`, `question`, `context` and `answers`, row i for question i.
    """
    chosen = asked.take(pa.array(list(found), pa.int64()))
    contexts = chosen["context"].to_pylist()
    texts = [[text[begin:end] for begin, end, _ in spans] for text, spans in zip(contexts, found.values(), strict=True)]
    best = [spans[0] if spans else (-1, -1, None) for spans in found.values()]
    return pa.table(
        {
            "example_id": pa.array(list(found), pa.int64()),
            "id": pa.array(chosen["id"].to_pylist(), pa.string()),
            "question": chosen["question"],
            "prediction": pa.array([texts_of[0] if texts_of else "" for texts_of in texts], pa.string()),
            "score": pa.array([score for _, _, score in best], pa.float32()),
            "begin": pa.array([begin for begin, _, _ in best], pa.int64()),
            "end": pa.array([end for _, end, _ in best], pa.int64()),
            "references": pa.array([right or None for right in chosen["answers"].to_pylist()], pa.list_(pa.string())),
            "n_best": pa.array(texts, pa.list_(pa.string())),
            "n_best_scores": pa.array(
                [[score for _, _, score in spans] for spans in found.values()], pa.list_(pa.float32())
            ),
        }
    )
