"""Answers that are cut from a text: MLQA, XQuAD, TyDiQA-GoldP, SQuAD 2.0, and one's own data."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForQuestionAnswering, PreTrainedConfig, PreTrainedModel

from ernie_m.errors import InputError, check_positive

from . import classifier_labels, networks, null_answers
from .answer_scores import Protocol, answer_score, answer_scores
from .answer_spans import Spans, best_spans, merge_windows
from .module import TaskModule
from .networks import Batch


class QuestionAnswering(TaskModule):
    """Finds the first and last token of an answer, scored by F1 of words and exact match per language.

    A row is a window, a question with a part of its context. A batch has `input_ids` and `attention_mask`
    (batch, length) int64; `question` (batch,) int64, the number of the question; `example_ids` and `language`
    (batch,) int64; `weights` (batch,) float32, 0 for a filler; in training `start_positions` and `end_positions`
    (batch,) int64, 0 where the window does not hold the answer or there is none, and `normaliser` (), the windows of
    the global batch over the number of processes; otherwise `offsets_begin` and `offsets_end` (batch, length) int64,
    the characters of the context that a token stands for, -1 for tokens that no answer starts or ends with.

    The data module's `references(stage, language)` gives a table with `id`, `question`, `context` and `answers`, row i
    for question i. An answer is cut from the context by its characters, never put together from tokens. Of a question's
    windows the best span counts, its score being the sum of both logits.

    Scores of a language are `f1` and `exact_match`; `examples` are questions. The answers' language is what a name such
    as "de-en" begins with. Questions without right answers get a prediction and no score: the official script cannot
    score them.

    Where `version_2_with_negative` says that a context may not answer a question, as in SQuAD 2.0, the prediction is ""
    where the score of no answer, less that of the best span, is above a threshold. That score is the sum of both logits
    of the first token, the lowest of a question's windows. Scores then are those of SQuAD 2.0's script over all
    questions of which the data say whether they have an answer: `f1`, `exact_match`, beside them `has_answer_f1`,
    `has_answer_exact_match` and `no_answer_f1` over the one and the other kind, and `chance`, the `f1` of never giving
    an answer.

    `tables` have one row per question: `example_id` (int64, the question), `id`, `question` and `prediction` (text, ""
    where a context has no token to answer with), `score` (float32), `begin` and `end` (int64, characters of the
    context, -1 for none), `references` (texts; null for none), `n_best` (texts, the prediction first) and
    `n_best_scores` (float32). With `version_2_with_negative` also `null_score` (float32) and `score_difference`
    (float64, what is held against the threshold; null where there is no span); `score` and `n_best` are of the spans
    even where the prediction is "", and `references` are empty where it is right to give no answer.

    Args:
        max_answer_length: Tokens of the longest answer.
        n_best_size: Answers of a question that the tables hold.
        protocol: Whose scores: "mlqa", by language, or "squad", as XTREME scores XQuAD and TyDiQA-GoldP.
        version_2_with_negative: Whether the context may not answer a question; the data module's option of the same
            name must say the same.
        null_threshold: The threshold above which no answer is given, a difference of scores. None to choose it after
            every validation of a training, as SQuAD 2.0's script finds the best for F1, on the development data of the
            training's languages; checkpoints and exports keep it, as `null_threshold` in their configuration.
        args: What `TaskModule` takes, as `kwargs`.
        kwargs: See `args`.
    """

    score_names: ClassVar[tuple[str, ...]] = (
        "f1", "exact_match", "has_answer_f1", "has_answer_exact_match", "no_answer_f1",
    )  # fmt: skip

    def __init__(
        self,
        *args: Any,
        max_answer_length: int = 100,
        n_best_size: int = 20,
        protocol: Protocol = "mlqa",
        version_2_with_negative: bool = False,
        null_threshold: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_positive(max_answer_length=max_answer_length, n_best_size=n_best_size)
        self.max_answer_length = max_answer_length
        self.n_best_size = n_best_size
        self.protocol: Protocol = protocol
        if null_threshold is not None:
            null_answers.checked(null_threshold, "null_threshold")
            if not version_2_with_negative:
                raise InputError(
                    "null_threshold is set without version_2_with_negative; set that to true, or leave both"
                )
        self.version_2_with_negative = version_2_with_negative
        self.null_threshold = null_threshold
        self._is_chosen = False

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

    def finish_network(self, network: PreTrainedModel) -> None:
        """Put the threshold that is stated into the configuration, or check the one that is there."""
        if self.null_threshold is not None:
            network.config.null_threshold = self.null_threshold
        if self.version_2_with_negative:
            null_answers.threshold_in(network.config, self.backbone)

    def setup(self, stage: str) -> None:
        """Read what the data module says of its data, and refuse other questions than this task is set to.

        Args:
            stage: "fit", "validate", "test" or "predict".

        Raises:
            InputError: One of the two has questions without an answer, the other has not.
        """
        super().setup(stage)
        theirs = getattr(getattr(self.trainer, "datamodule", None), "version_2_with_negative", None)
        if theirs is not None and theirs != self.version_2_with_negative:
            raise InputError(
                f"version_2_with_negative is {theirs} in data and {self.version_2_with_negative} in model: it says "
                "whether questions may have no answer; set both alike"
            )

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The threshold, where none is stated."""
        return (null_answers.FIELD,) if self.null_threshold is None else ()

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
        start, end = self.logits(batch)
        spans = best_spans(start, end, *places, self.n_best_size, self.max_answer_length)
        if self.version_2_with_negative:
            kept["null_score"] = start[:, 0] + end[:, 0]
        return kept | {"span_begin": spans.begin, "span_end": spans.end, "span_score": spans.score}

    def calibrate(self, rows: Batch) -> None:
        """Choose the threshold above which no answer is given, where none is stated."""
        if not self.version_2_with_negative or self.null_threshold is not None:
            return
        differences: list[float] = []
        gains: list[float] = []
        for index in torch.unique(rows["language"]).tolist():
            own = {name: values[rows["language"] == index] for name, values in rows.items()}
            table, language = self._table(own, self.references(own), 1), self.language_of(own)
            for row in table.select(["references", "n_best", "score_difference"]).to_pylist():
                if row["references"] is not None and row["n_best"]:
                    f1, _ = answer_score(row["n_best"][0], row["references"], language, self.protocol, negatives=True)
                    differences.append(row["score_difference"])
                    gains.append(f1 if row["references"] else -1.0)
        self.network.config.null_threshold = null_answers.best_threshold(differences, gains)
        self._is_chosen = True
        rank_zero_info(
            f"null_threshold: {self.network.config.null_threshold:.4f}, chosen on {len(gains):,} questions of the"
            " development data"
        )

    def _table(self, rows: Batch, asked: pa.Table, count: int) -> pa.Table:
        """The table of one language, with so many spans of each question."""
        spans = Spans(rows["span_begin"], rows["span_end"], rows["span_score"])
        found = merge_windows(rows["question"], spans, count)
        if not self.version_2_with_negative:
            return answers_table(found, asked)
        threshold = null_answers.threshold_in(self.network.config, self.backbone) or 0.0
        return answers_table(found, asked, null_answers.null_scores(rows["question"], rows["null_score"]), threshold)

    def score(self, rows: Batch, missing: int) -> tuple[pa.Table, dict[str, float]]:
        """Make one language's table and scores from its windows."""
        language = self.language_of(rows)
        asked = self.references(rows)
        table = self._table(rows, asked, self.n_best_size)
        predictions = dict(zip(table["example_id"].to_pylist(), table["prediction"].to_pylist(), strict=True))
        # Where all windows were to be run, a question of which none was counts as wrong.
        wanted = range(len(asked)) if missing else sorted(predictions)
        right: list[list[str] | None] = asked["answers"].to_pylist()
        references = {
            question: answers
            for question in wanted
            if (answers := right[question]) or (answers is not None and self.version_2_with_negative)
        }
        self._tell_unscored(language, len(wanted) - len(references), len(wanted))
        if not references:
            return table, {}
        result = answer_scores(predictions, references, language, self.protocol, negatives=self.version_2_with_negative)
        result["examples"] = float(len(references))
        if self.version_2_with_negative and any(references.values()):
            # Where no question has an answer, nothing can be better than to give none.
            result["chance"] = sum(not answers for answers in references.values()) / len(references)
        if absent := len(references.keys() - predictions.keys()):
            result["missing"] = float(absent)
        return table, result

    def _tell_unscored(self, language: str, unscored: int, total: int) -> None:
        if unscored and self._stage != "predict":
            rest = "there is no score" if unscored == total else "the score is that of the others"
            rank_zero_warn(f"{language}: {unscored} of {total} questions have no right answers in the data; {rest}")

    # Lightning's hooks

    def on_train_start(self) -> None:
        """Begin with the threshold 0."""
        super().on_train_start()
        self._is_chosen = self.null_threshold is not None or self.trainer.global_step > 0
        if self.version_2_with_negative and not self._is_chosen:
            self.network.config.null_threshold = 0.0

    def on_train_end(self) -> None:
        """Check the last losses, warn of a run that learnt nothing, and of a threshold that nothing was chosen by."""
        super().on_train_end()
        if self.version_2_with_negative and not self._is_chosen:
            rank_zero_warn(
                "there were no development data to choose null_threshold on: it is 0. Validate in training, or state "
                "model.null_threshold"
            )

    def on_test_start(self) -> None:
        """Refuse to score a head that was never trained, and say where no threshold was chosen."""
        super().on_test_start()
        self._tell_threshold()

    def on_predict_start(self) -> None:
        """Refuse to predict with a head that was never trained, and say where no threshold was chosen."""
        super().on_predict_start()
        self._tell_threshold()

    def on_validation_start(self) -> None:
        """Warn where a head that was never trained, or no threshold was chosen, other than at a training's start."""
        super().on_validation_start()
        if self.trainer.state.fn == "validate":
            self._tell_threshold()

    def _tell_threshold(self) -> None:
        if not self.version_2_with_negative or self.training_follows:
            return
        if null_answers.threshold_in(self.network.config, self.backbone) is None:
            rank_zero_warn(
                f"{self.backbone!r} keeps no null_threshold, which a training with version_2_with_negative chooses: it "
                "is 0 here. State model.null_threshold for another"
            )


def answers_table(
    found: Mapping[int, Sequence[tuple[int, int, float]]],
    asked: pa.Table,
    nulls: Mapping[int, float] | None = None,
    threshold: float = 0.0,
) -> pa.Table:
    """Return the table of predictions that `QuestionAnswering` describes.

    Args:
        found: Question to begin, end and score of its spans, the best first.
        asked: `id`, `question`, `context` and `answers`, row i for question i.
        nulls: Question to the score of giving no answer, where questions may have none.
        threshold: Above it that score, less the best span's, makes no answer of the prediction.
    """
    chosen = asked.take(pa.array(list(found), pa.int64()))
    contexts = chosen["context"].to_pylist()
    texts = [[text[begin:end] for begin, end, _ in spans] for text, spans in zip(contexts, found.values(), strict=True)]
    scores = [spans[0][2] if spans else None for spans in found.values()]
    right = chosen["answers"].to_pylist()
    of_nulls: dict[str, pa.Array] = {}
    given = [bool(spans) for spans in found.values()]
    if nulls is None:
        right = [answers or None for answers in right]
    else:
        lowest = [nulls[question] for question in found]
        differences = [None if best is None else null - best for null, best in zip(lowest, scores, strict=True)]
        given = [difference is not None and not difference > threshold for difference in differences]
        of_nulls = {
            "null_score": pa.array(lowest, pa.float32()),
            "score_difference": pa.array(differences, pa.float64()),
        }
    best = [spans[0][:2] if is_given else (-1, -1) for spans, is_given in zip(found.values(), given, strict=True)]
    answers = [of_one[0] if is_given else "" for of_one, is_given in zip(texts, given, strict=True)]
    return pa.table(
        {
            "example_id": pa.array(list(found), pa.int64()),
            "id": pa.array(chosen["id"].to_pylist(), pa.string()),
            "question": chosen["question"],
            "prediction": pa.array(answers, pa.string()),
            "score": pa.array(scores, pa.float32()),
            "begin": pa.array([begin for begin, _ in best], pa.int64()),
            "end": pa.array([end for _, end in best], pa.int64()),
            "references": pa.array(right, pa.list_(pa.string())),
            "n_best": pa.array(texts, pa.list_(pa.string())),
            "n_best_scores": pa.array(
                [[score for _, _, score in spans] for spans in found.values()], pa.list_(pa.float32())
            ),
            **of_nulls,
        }
    )
