"""Spans paired from probabilities, against their definition, and their scores, against scikit-learn's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from ernie_m.errors import InputError
from lightning_modules.answer_spans import NO_SPAN
from lightning_modules.extracted_spans import extraction_scores, paired_spans


def found(starts: list[float], ends: list[float], begins: list[int] | None = None, count: int = 9):
    """The spans of one window, whose token i stands for the characters from 10 i to 10 i + 7, with their scores."""
    places = torch.tensor([[10 * i for i in range(len(starts))] if begins is None else begins])
    spans = paired_spans(torch.tensor([starts]), torch.tensor([ends]), places, places + 7, 0.5, count)
    assert spans.begin.shape == spans.end.shape == spans.score.shape == (1, count)
    columns = zip(spans.begin[0].tolist(), spans.end[0].tolist(), spans.score[0].tolist(), strict=True)
    return {(begin, end): score for begin, end, score in columns if begin != NO_SPAN}


@pytest.mark.parametrize(
    ("starts", "ends", "expected"),
    [
        ([0.9, 0.1, 0.1], [0.1, 0.1, 0.8], {(0, 27): 0.72}),
        ([0.9, 0.1, 0.1], [0.9, 0.1, 0.1], {(0, 7): 0.81}),
        # The nearest start counts, and each once.
        ([0.9, 0.8, 0.1], [0.1, 0.1, 0.9], {(10, 27): 0.72}),
        ([0.9, 0.1, 0.1], [0.1, 0.9, 0.8], {(0, 17): 0.81}),
        ([0.9, 0.1, 0.8, 0.1], [0.1, 0.9, 0.1, 0.8], {(0, 17): 0.81, (20, 37): 0.64}),
        # An end before every start, a start behind every end, and the threshold itself.
        ([0.1, 0.9, 0.1], [0.9, 0.1, 0.1], {}),
        ([0.5, 0.1], [0.1, 0.9], {}),
        ([0.1, 0.1], [0.1, 0.1], {}),
    ],
)
def test_pairs_worked_by_hand(starts: list[float], ends: list[float], expected: dict[tuple[int, int], float]) -> None:
    assert found(starts, ends) == pytest.approx(expected)


def test_tokens_that_stand_for_nothing_start_and_end_nothing() -> None:
    assert found([0.9, 0.9, 0.1], [0.1, 0.1, 0.9], begins=[-1, 4, 9]) == pytest.approx({(4, 16): 0.81})
    assert found([0.9, 0.9, 0.1], [0.1, 0.1, 0.9], begins=[3, 4, -1]) == {}


def test_the_most_probable_are_kept() -> None:
    assert found([0.6, 0.9, 0.8], [0.9, 0.9, 0.9], count=2) == pytest.approx({(10, 17): 0.81, (20, 27): 0.72})


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_an_end_goes_with_the_nearest_start_behind_the_end_before(tokens: list[tuple[bool, bool, bool]]) -> None:
    begins = [10 * i if is_text else -1 for i, (is_text, _, _) in enumerate(tokens)]
    starts = [i for i, (is_text, start, _) in enumerate(tokens) if is_text and start]
    ends = [i for i, (is_text, _, end) in enumerate(tokens) if is_text and end]
    expected = set()
    for before, end in zip([-1, *ends], ends, strict=False):
        if candidates := [start for start in starts if before < start <= end]:
            expected.add((10 * max(candidates), 10 * end + 7))
    probable = found([0.9 * start for _, start, _ in tokens], [0.9 * end for _, _, end in tokens], begins, count=12)
    assert set(probable) == expected


spans_of_rows = st.dictionaries(
    st.integers(0, 3), st.lists(st.tuples(st.integers(0, 2), st.integers(3, 4)), max_size=4), min_size=4, max_size=4
)


@given(predictions=spans_of_rows, references=spans_of_rows)
def test_scores_are_those_of_scikit_learn(predictions, references) -> None:
    every = [(row, begin, end) for row in range(4) for begin in range(3) for end in (3, 4)]
    true, taken = ([(begin, end) in found[row] for row, begin, end in every] for found in (references, predictions))
    precision, recall, f1, _ = precision_recall_fscore_support(true, taken, average="binary", zero_division=0)
    expected = {"f1": f1, "precision": precision, "recall": recall}
    assert extraction_scores(predictions, references) == pytest.approx(expected)


def test_rows_without_prediction_find_nothing_and_others_are_refused() -> None:
    references = {0: [(0, 3)], 1: [(0, 3), (5, 9)]}
    assert extraction_scores({0: [(0, 3)]}, references)["recall"] == pytest.approx(1 / 3)
    with pytest.raises(InputError, match=r"1 predictions are of rows without a reference, the first \[7\]"):
        extraction_scores({7: []}, references)
    with pytest.raises(InputError, match="no references"):
        extraction_scores({}, {})
