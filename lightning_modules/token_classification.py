"""A label for every word of a sentence: CoNLL's named entities, PAN-X, and one's own data."""

from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForTokenClassification

from ernie_m.errors import InputError

from .classification import Classification
from .networks import Batch
from .scores import majority_share, span_scores, word_scores


class TokenClassification(Classification):
    """Labels the words of sentences, scored per language by the F1 of whole entities (spans), or by accuracy.

    A batch has `input_ids` and `attention_mask` (batch, length) int64, a row being a window of a sentence; `labels`
    (batch, length) int64, indices into `label_names`, -100 for tokens that are not trained; `words` (batch, length)
    int64, a word's number in its sentence on its first token where this window predicts it, else -1; `sentence`,
    `example_ids` and `language` (batch,) int64; `weights` (batch,) float32, 0 for a filler; in training `normaliser`
    (), the labelled tokens of the global batch over the number of processes.

    A word's label is that of its first token; words without one are not scored. Scores of a language, where labels are
    those of IOB2: `f1`, `precision` and `recall` over all entities, as the conlleval script and seqeval count them.
    Where all tokens of a word are labelled, also `subtoken_f1`: the same over tokens instead of words, which is what
    Baidu's code reports. Where labels are those of single words, such as parts of speech: `accuracy` over words, and
    `f1` as XTREME's script counts it.

    `tables` have one row per sentence: `example_id` (the sentence's number), `labels` (null for none) and
    `predictions`, a name for each word.
    """

    auto_class: ClassVar[Any] = AutoModelForTokenClassification
    score_names: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "subtoken_f1", "accuracy")

    @property
    def has_spans(self) -> bool:
        """Whether labels are those of IOB2."""
        return any(name.startswith("B-") for name in self.label_names)

    @property
    def headline(self) -> str:
        """The score that counts: `f1` of spans, else `accuracy`."""
        return "f1" if self.has_spans else "accuracy"

    def loss(self, batch: Batch) -> Tensor:
        """Return the micro-batch's share of the cross-entropy over the labelled tokens of the global batch. ()."""
        logits = self.logits(batch)
        losses = cross_entropy(logits.transpose(1, 2), batch["labels"], reduction="none", ignore_index=-100)
        self.watch_accuracy(logits, batch["labels"], batch["weights"][:, None])
        return (losses * batch["weights"][:, None]).sum() / batch["normaliser"]

    def predict_rows(self, batch: Batch) -> Batch:
        """Return the label of every token of one batch."""
        kept = {key: batch[key] for key in ("language", "example_ids", "weights", "sentence", "words", "labels")}
        return kept | {"predictions": self.logits(batch).argmax(dim=-1)}

    def score(self, rows: Batch, missing: int) -> tuple[pa.Table, dict[str, float]]:
        """Make one language's table and scores.

        Raises:
            InputError: Windows are missing: the entities in them are not known here.
        """
        if missing:
            raise InputError(f"{missing} windows got no prediction, so there is no score; run the evaluation again")
        first, labelled = rows["words"] >= 0, rows["labels"] >= 0
        predictions, labels = (self._by_sentence(rows, name, first) for name in ("predictions", "labels"))
        is_labelled = bool((first & labelled).any())
        columns = {
            "example_id": pa.array(list(predictions), pa.int64()),
            "labels": pa.array(labels.values() if is_labelled else [None] * len(labels), pa.list_(pa.string())),
            "predictions": pa.array(predictions.values(), pa.list_(pa.string())),
        }
        if not is_labelled:
            return pa.table(columns), {}
        chosen = self._scored(rows, first & labelled)
        counts = {"examples": float(len(labels))}
        if not self.has_spans:
            references = enumerate(label for sentence in chosen[1].values() for label in sentence)
            return pa.table(columns), {**word_scores(*chosen), **counts, "chance": majority_share(dict(references))}
        result = span_scores(*chosen)
        if bool((labelled & ~first).any()):
            result["subtoken_f1"] = span_scores(*self._scored(rows, labelled))["f1"]
        # Calling no word an entity finds none.
        return pa.table(columns), {**result, **counts, "chance": 0.0}

    def _scored(self, rows: Batch, chosen: Tensor) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
        """Return predictions and labels of the chosen tokens, which have both."""
        predictions, labels = (self._by_sentence(rows, name, chosen) for name in ("predictions", "labels"))
        return predictions, labels  # type: ignore[return-value]

    def _by_sentence(self, rows: Batch, column: str, chosen: Tensor) -> dict[int, list[str | None]]:
        """Return the names of the chosen tokens' labels, None for none, by sentence; windows follow each other."""
        names: dict[int, list[str | None]] = {sentence: [] for sentence in torch.unique(rows["sentence"]).tolist()}
        sentences = rows["sentence"][:, None].expand_as(chosen)[chosen].tolist()
        for sentence, label in zip(sentences, rows[column][chosen].tolist(), strict=True):
            names[sentence].append(self.label_names[label] if label >= 0 else None)
        return names
