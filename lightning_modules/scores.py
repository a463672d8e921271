"""Scores as pure functions of predictions and references, both keyed by example id: no trainer, no device.

Each example counts exactly once, however many processes predicted it; a reference without a prediction is wrong.
"""

import math
import operator
import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ernie_m.errors import InputError


def accuracy(predictions: Mapping[int, Hashable], references: Mapping[int, Hashable]) -> float:
    """Return the share of references whose prediction equals them; a missing prediction is wrong.

    Args:
        predictions: Example id to predicted label.
        references: Example id to label.

    Raises:
        InputError: If there are no references, or predictions for ids that have none.
    """
    if not references:
        raise InputError("there are no references to score against: the data have no labels or no examples")
    if unknown := sorted(predictions.keys() - references.keys()):
        raise InputError(
            f"{len(unknown)} predictions have example ids without a reference, the first {unknown[:5]}; "
            "score them against the data they were made for"
        )
    absent = object()
    return sum(predictions.get(key, absent) == label for key, label in references.items()) / len(references)


def classification_scores(probabilities: Tensor, labels: Tensor, missing: int = 0) -> dict[str, float]:
    """Return the scores of a classifier.

    Args:
        probabilities: (examples, labels)
        labels: The right label of each, from 0. (examples,) int64
        missing: Further examples, without a prediction: they are wrong for `accuracy` and unknown to the others.

    Returns:
        `accuracy` and `matthews`, from integers; and as torchmetrics computes them `macro_f1`, `macro_precision` and
        `macro_recall` (the mean over the labels), and `calibration_error` (expected, over 15 bins of the highest
        probability).

    Raises:
        InputError: If there are no examples.
    """
    if not len(labels):
        raise InputError("there are no references to score against: the data have no labels or no examples")
    # Here, since it takes a second that no other task should wait for.
    from torchmetrics.functional import classification

    count = probabilities.shape[1]
    predicted = probabilities.argmax(dim=-1)
    matrix = classification.multiclass_confusion_matrix(predicted, labels, count)
    found: dict[str, Any] = {
        # Divided here: torchmetrics divides in float32.
        "accuracy": int(matrix.diagonal().sum()) / (len(labels) + missing),
        "macro_f1": classification.multiclass_f1_score(predicted, labels, count),
        "macro_precision": classification.multiclass_precision(predicted, labels, count),
        "macro_recall": classification.multiclass_recall(predicted, labels, count),
        "matthews": matthews(matrix),
        "calibration_error": classification.multiclass_calibration_error(probabilities, labels, count),
    }
    return {name: float(value) for name, value in found.items()}


def multi_label_scores(predictions: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the scores of a classifier that gives any number of labels, as torchmetrics computes them.

    Args:
        predictions: 1 for each label that an example is given, otherwise 0. (examples, labels) int64
        labels: The same for the labels that it has.

    Returns:
        `macro_f1`, the mean over the labels (0 for one that is neither given nor had), `micro_f1` over all together,
        `exact_match`, the share of examples with all labels right, `macro_precision` and `macro_recall`.

    Raises:
        InputError: If there are no examples.
    """
    if not len(labels):
        raise InputError("there are no references to score against: the data have no labels or no examples")
    from torchmetrics.functional import classification

    count = labels.shape[1]
    found = {
        "macro_f1": classification.multilabel_f1_score(predictions, labels, count, average="macro"),
        "micro_f1": classification.multilabel_f1_score(predictions, labels, count, average="micro"),
        "macro_precision": classification.multilabel_precision(predictions, labels, count, average="macro"),
        "macro_recall": classification.multilabel_recall(predictions, labels, count, average="macro"),
    }
    right = int((predictions == labels).all(dim=1).sum())
    return {name: float(value) for name, value in found.items()} | {"exact_match": right / len(labels)}


def regression_scores(predictions: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the scores of predicted numbers, in float64 as torchmetrics computes them.

    Args:
        predictions: (examples,)
        labels: The right numbers. (examples,)

    Returns:
        `pearson` and `spearman`, the correlations of numbers and of ranks, 0 where all predictions, or all labels, are
        the same; `rmse`, the root of the mean squared error.

    Raises:
        InputError: If there are no examples.
    """
    if not len(labels):
        raise InputError("there are no references to score against: the data have no labels or no examples")
    from torchmetrics.functional import regression

    predictions, labels = predictions.double(), labels.double()
    rmse = float((predictions - labels).square().mean().sqrt())
    if bool((predictions == predictions[0]).all()) or bool((labels == labels[0]).all()):
        return {"pearson": 0.0, "spearman": 0.0, "rmse": rmse}
    pearson = regression.pearson_corrcoef(predictions, labels)
    # Not torchmetrics' own, which is a millionth too low: it adds one to what it divides by.
    spearman = regression.pearson_corrcoef(_ranks(predictions), _ranks(labels))
    return {"pearson": float(pearson), "spearman": float(spearman), "rmse": rmse}


def _ranks(values: Tensor) -> Tensor:
    """Return the rank of each value from 1, equal ones having the mean of theirs. (values,) float64."""
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ranks: Tensor = (counts.cumsum(0) - (counts - 1) / 2).double()
    return ranks[place]


def matthews(confusion: Tensor) -> float:
    """Return the correlation of Matthews for several labels (Gorodkin, 2004), -1 to 1; 0 where one is all there is.

    Not torchmetrics', which gives -0.41 for the labels 0, 1, 1 where all are taken for 0.

    Args:
        confusion: How often each label (row) was taken for each (column). (labels, labels) int64
    """
    total, right = int(confusion.sum()), int(confusion.diagonal().sum())
    true, taken = confusion.sum(dim=1), confusion.sum(dim=0)
    spread = (total**2 - int(taken.square().sum())) * (total**2 - int(true.square().sum()))
    return (right * total - int((true * taken).sum())) / math.sqrt(spread) if spread else 0.0


def span_scores(predictions: Mapping[int, Sequence[str]], references: Mapping[int, Sequence[str]]) -> dict[str, float]:
    """Return precision, recall and F1 over the spans of all sentences together, between 0 and 1.

    A span is right where begin, end and type are. Tags are read as the conlleval script of CoNLL-2000 reads them: an I-
    that follows no tag of its type begins a span too. A sentence without a prediction has no predicted spans.

    Args:
        predictions: Sentence number to the tag of each word, "O", "B-..." or "I-...".
        references: The same for the true tags.

    Returns:
        `f1`, `precision` and `recall`; 0 where nothing was predicted, or there is nothing to find.

    Raises:
        InputError: There are no references, or a prediction has none, or another number of words.
    """
    precision, recall, f1 = _counted_spans(predictions, references)
    return {"f1": f1, "precision": precision, "recall": recall}


def word_scores(predictions: Mapping[int, Sequence[str]], references: Mapping[int, Sequence[str]]) -> dict[str, float]:
    """Return the accuracy over the words of all sentences together, between 0 and 1, and XTREME's F1.

    XTREME gives labels of words to seqeval, as if they were spans'; words in a row with the same label are one.

    Args:
        predictions: Sentence number to the label of each word.
        references: The same for the true labels.

    Returns:
        `accuracy` and `f1`; a sentence without a prediction is wrong in all its words.

    Raises:
        InputError: There are no references, or a prediction has none, or another number of words.
    """
    with warnings.catch_warnings():
        # It says of every label that it is no span's.
        warnings.filterwarnings("ignore", ".* seems not to be NE tag")
        *_, f1 = _counted_spans(predictions, references)
    right = (
        sum(map(operator.eq, predictions[key], labels)) if key in predictions else 0
        for key, labels in references.items()
    )
    return {"accuracy": sum(right) / sum(map(len, references.values())), "f1": f1}


def _counted_spans(
    predictions: Mapping[int, Sequence[str]], references: Mapping[int, Sequence[str]]
) -> tuple[float, float, float]:
    """Precision, recall and F1 by seqeval."""
    if not references:
        raise InputError("there are no references to score against: the data have no labels or no sentences")
    # Here, since it imports scikit-learn, which takes a second that no other task should wait for.
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    for key, tags in predictions.items():
        if len(tags) != len(references.get(key, ())):
            raise InputError(
                f"sentence {key} has {len(references.get(key, ()))} words but {len(tags)} predictions; score "
                "predictions against the data they were made for"
            )
    true = [list(tags) for tags in references.values()]
    predicted = [list(predictions.get(key, ["O"] * len(tags))) for key, tags in references.items()]
    precision, recall, f1, _ = precision_recall_fscore_support(true, predicted, average="micro", zero_division=0)
    return float(precision), float(recall), float(f1)


def macro_mean(scores: Mapping[str, float]) -> float:
    """Return the mean over languages, each counting the same whatever its number of examples.

    Args:
        scores: Language to score.

    Raises:
        InputError: If there are no scores.
    """
    if not scores:
        raise InputError("there is no language to take the mean over")
    return math.fsum(scores.values()) / len(scores)


def majority_share(references: Mapping[int, Hashable]) -> float:
    """Return the accuracy of always answering the most frequent label.

    Args:
        references: Example id to label.

    Raises:
        InputError: If there are no references.
    """
    if not references:
        raise InputError("there are no references to take the most frequent label of")
    return Counter(references.values()).most_common(1)[0][1] / len(references)


def binomial_tail(successes: int, trials: int, probability: float) -> float:
    """Return the probability of at least so many successes, summed exactly.

    Args:
        successes: Lower bound of the number of successes.
        trials: Independent trials.
        probability: Probability of one success.
    """
    if successes <= 0 or probability >= 1:
        return 1.0 if successes <= trials else 0.0
    if successes > trials or probability <= 0:
        return 0.0
    log_p, log_q = math.log(probability), math.log1p(-probability)
    logs = (
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * log_p + (trials - k) * log_q
        for k in range(successes, trials + 1)
    )
    return min(1.0, math.fsum(math.exp(value) for value in logs))


def is_at_chance(correct: int, total: int, chance: float, significance: float = 1e-3) -> bool:
    """Tell whether a number of right answers is no better than guessing.

    Args:
        correct: Right answers.
        total: Questions.
        chance: Share of right answers that guessing gives: the most frequent label's share.
        significance: Probability below which guessing is ruled out.
    """
    return binomial_tail(correct, total, chance) > significance
