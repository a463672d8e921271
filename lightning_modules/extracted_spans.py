"""Spans from the probabilities that tokens start and end them, and their scores."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from ernie_m.errors import InputError

from .answer_spans import NO_SPAN, Spans

CharacterSpan = tuple[int, int]
"""The first character, and the one behind the last."""


def paired_spans(starts: Tensor, ends: Tensor, begins: Tensor, stops: Tensor, threshold: float, count: int) -> Spans:
    """Pair the tokens that start a span with those that end one, in every window by itself.

    An end goes with the nearest start at or before it that lies behind the end before, as in PaddleNLP's `get_span`: no
    two spans overlap, a start or an end that finds no other is left out.

    Args:
        starts: Probability that a span starts with a token. (batch, length)
        ends: Probability that one ends with it. (batch, length)
        begins: The first character that a token stands for; -1 where no span can start or end. (batch, length) int64
        stops: The character behind its last. (batch, length) int64
        threshold: What a probability must be above.
        count: Spans of a window to return, the most probable ones.

    Returns:
        (batch, count); the score is the product of both probabilities, as in PaddleNLP. Windows with fewer spans are
        filled with `NO_SPAN` and a score of minus infinity.
    """
    is_text = begins >= 0
    places = torch.arange(starts.shape[1], device=starts.device).expand_as(begins)
    is_start, is_end = is_text & (starts > threshold), is_text & (ends > threshold)
    start = torch.where(is_start, places, NO_SPAN).cummax(dim=1).values
    end_before = pad(torch.where(is_end, places, NO_SPAN).cummax(dim=1).values[:, :-1], (1, 0), value=NO_SPAN)
    is_pair = is_end & (start > end_before)
    of_start = start.clamp(min=0)
    score = torch.where(is_pair, starts.gather(1, of_start) * ends, -torch.inf)
    score, end = score.topk(min(count, score.shape[1]), dim=1)
    found = score > -torch.inf
    begin = torch.where(found, begins.gather(1, of_start.gather(1, end)), NO_SPAN)
    stop = torch.where(found, stops.gather(1, end), NO_SPAN)
    missing = (0, count - score.shape[1])
    return Spans(
        pad(begin, missing, value=NO_SPAN), pad(stop, missing, value=NO_SPAN), pad(score, missing, value=-torch.inf)
    )


def extraction_scores(
    predictions: Mapping[int, Collection[CharacterSpan]], references: Mapping[int, Collection[CharacterSpan]]
) -> dict[str, float]:
    """Return precision, recall and F1 over the spans of all rows together, between 0 and 1.

    A span is right where begin and end are; each counts once in its row. A row without a prediction has no predicted
    spans.

    Args:
        predictions: Row to its predicted spans.
        references: Row to its true spans.

    Returns:
        `f1`, `precision` and `recall`; 0 where nothing was predicted, or there is nothing to find.

    Raises:
        InputError: There are no references, or a prediction has none.
    """
    if not references:
        raise InputError("there are no references to score against: the data have no results or no rows")
    if unknown := sorted(predictions.keys() - references.keys()):
        raise InputError(
            f"{len(unknown)} predictions are of rows without a reference, the first {unknown[:5]}; score them against "
            "the data they were made for"
        )
    right = sum(len(set(spans) & set(references[row])) for row, spans in predictions.items())
    predicted, true = (sum(len(set(spans)) for spans in found.values()) for found in (predictions, references))
    return {
        "f1": 2 * right / (predicted + true) if predicted + true else 0.0,
        "precision": right / predicted if predicted else 0.0,
        "recall": right / true if true else 0.0,
    }
