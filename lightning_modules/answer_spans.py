"""From the logits of windows to answers: the best valid spans of each window, and of a question over its windows."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

NO_SPAN = -1
"""Begin and end of what fills the list of a window with fewer spans than are asked for."""


@dataclass(frozen=True)
class Spans:
    """Spans of the text, best first.

    Attributes:
        begin: First character. (..., spans) int64
        end: The character behind the last. (..., spans) int64
        score: Sum of the logits of the first and the last token. (..., spans) float32
    """

    begin: Tensor
    end: Tensor
    score: Tensor


def best_spans(
    start_logits: Tensor, end_logits: Tensor, begins: Tensor, ends: Tensor, count: int, max_tokens: int
) -> Spans:
    """Find the best of all valid spans of each window: from a token of the text to the same or a later one.

    All spans of up to `max_tokens` are compared, a band of `length x max_tokens` sums for every window, and not those
    of the best starts with the best ends alone as in SQuAD's scripts.

    Args:
        start_logits: (batch, length)
        end_logits: (batch, length)
        begins: The first character that a token stands for; -1 where no answer can start or end. (batch, length) int64
        ends: The character behind its last. (batch, length) int64
        count: How many spans of a window to return.
        max_tokens: Tokens of the longest span.

    Returns:
        (batch, count); windows with fewer valid spans are filled with `NO_SPAN` and a score of minus infinity.
    """
    is_text = begins >= 0
    lowest = torch.tensor(-torch.inf, device=start_logits.device)
    starts = torch.where(is_text, start_logits.float(), lowest)
    stops = torch.where(is_text, end_logits.float(), lowest)
    width = min(max_tokens, starts.shape[1])
    # Column k of the band: the span of k + 1 tokens.
    band = starts.unsqueeze(2) + pad(stops, (0, width - 1), value=-torch.inf).unfold(1, width, 1)
    score, place = band.flatten(1).topk(min(count, band[0].numel()), dim=1)
    first = place // width
    last = (first + place % width).clamp(max=starts.shape[1] - 1)
    is_valid = score > -torch.inf
    begin = torch.where(is_valid, begins.gather(1, first), NO_SPAN)
    end = torch.where(is_valid, ends.gather(1, last), NO_SPAN)
    missing = (0, count - score.shape[1])
    return Spans(
        pad(begin, missing, value=NO_SPAN), pad(end, missing, value=NO_SPAN), pad(score, missing, value=-torch.inf)
    )


def merge_windows(question: Tensor, spans: Spans, count: int) -> dict[int, list[tuple[int, int, float]]]:
    """Merge the spans of all windows of each question, equal ones once with their best score.

    Args:
        question: The question of each window. (windows,) int64
        spans: Those of the windows. (windows, spans)
        count: How many spans of a question to return.

    Returns:
        Question, ascending, to begin, end and score of its spans: the best first, of equally good ones the one that
        begins earlier, then the shorter. A question without any has an empty list.
    """
    of = question.unsqueeze(1).expand_as(spans.begin)
    columns: list[NDArray[np.float64]] = [
        values.flatten().double().numpy() for values in (of, spans.begin, spans.end, spans.score)
    ]
    rows = np.stack(columns, axis=1)[spans.begin.flatten().numpy() != NO_SPAN]
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], -rows[:, 3], rows[:, 0]))]
    _, kept = np.unique(rows[:, :3], axis=0, return_index=True)
    merged: dict[int, list[tuple[int, int, float]]] = {number: [] for number in sorted(set(question.tolist()))}
    for number, begin, end, score in rows[np.sort(kept)].tolist():
        if len(merged[int(number)]) < count:
            merged[int(number)].append((int(begin), int(end), score))
    return merged
