"""The best spans of windows against all spans in turn, and their merging over windows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.answer_spans import Spans, best_spans, merge_windows


def in_turn(start: torch.Tensor, end: torch.Tensor, begins: list[int], ends: list[int], longest: int) -> list[tuple]:
    """All valid spans of one window: score, begin, end."""
    found = []
    for first in range(len(begins)):
        for last in range(first, min(first + longest, len(begins))):
            if begins[first] >= 0 and begins[last] >= 0:
                found.append((float(start[first] + end[last]), begins[first], ends[last]))
    return sorted(found, reverse=True)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 15), st.integers(1, 9), st.integers(0, 2**31), st.floats(0, 1))
def test_no_valid_span_is_overlooked(length: int, longest: int, count: int, seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    start, end = torch.randn(2, 3, length, generator=generator)
    is_text = torch.rand(3, length, generator=generator) < share
    begins = torch.where(is_text, 10 * torch.arange(length), -1)
    ends = torch.where(is_text, 10 * torch.arange(length) + 7, -1)
    spans = best_spans(start, end, begins, ends, count, longest)
    assert spans.begin.shape == spans.end.shape == spans.score.shape == (3, count)
    for row in range(3):
        expected = in_turn(start[row], end[row], begins[row].tolist(), ends[row].tolist(), longest)[:count]
        kept = len(expected)
        assert spans.score[row, :kept].tolist() == pytest.approx([score for score, _, _ in expected])
        assert list(zip(spans.begin[row].tolist(), spans.end[row].tolist(), strict=True))[:kept] == [
            (begin, stop) for _, begin, stop in expected
        ]
        assert spans.begin[row, kept:].tolist() == spans.end[row, kept:].tolist() == [-1] * (count - kept)
        assert torch.isneginf(spans.score[row, kept:]).all()


def test_logits_of_a_diverged_network_give_no_span() -> None:
    nothing = torch.full((1, 4), float("nan"))
    spans = best_spans(nothing, nothing, torch.arange(4)[None], torch.arange(1, 5)[None], 2, 3)
    assert spans.begin.tolist() == [[-1, -1]]


def test_windows_are_merged_by_question_best_first_and_equal_spans_once() -> None:
    question = torch.tensor([7, 3, 7, 5])
    spans = Spans(
        torch.tensor([[4, 0], [1, 2], [4, 9], [-1, -1]]),
        torch.tensor([[6, 3], [2, 4], [6, 12], [-1, -1]]),
        torch.tensor([[1.0, 0.5], [2.0, 2.0], [3.0, 0.5], [-torch.inf, -torch.inf]]),
    )
    merged = merge_windows(question, spans, 20)
    assert list(merged) == [3, 5, 7]
    # Equally good: the earlier one first.
    assert merged[3] == [(1, 2, 2.0), (2, 4, 2.0)]
    assert merged[5] == []
    assert merged[7] == [(4, 6, 3.0), (0, 3, 0.5), (9, 12, 0.5)]
    assert merge_windows(question, spans, 1)[7] == [(4, 6, 3.0)]


def test_of_equally_good_spans_the_shorter_one_comes_first_whatever_the_order_of_windows() -> None:
    begin, end = torch.tensor([[0, 0, 0]]), torch.tensor([[9, 3, 6]])
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        spans = Spans(begin[:, order], end[:, order], torch.ones(1, 3))
        assert [stop for _, stop, _ in merge_windows(torch.tensor([0]), spans, 5)[0]] == [3, 6, 9]


@pytest.mark.parametrize("places", [2**31, 2**40])
def test_characters_are_not_rounded(places: int) -> None:
    spans = Spans(torch.tensor([[places]]), torch.tensor([[places + 1]]), torch.ones(1, 1))
    assert merge_windows(torch.tensor([0]), spans, 1)[0] == [(places, places + 1, 1.0)]
    assert np.float64(places + 1) == places + 1
