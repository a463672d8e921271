"""Scores against torchmetrics, torch's own distributions and brute force."""

import math
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassAccuracy

from ernie_m.errors import InputError
from lightning_modules import neighbours, scores

LABELS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


@given(LABELS)
def test_accuracy_equals_torchmetrics(pairs: list[tuple[int, int]]) -> None:
    predictions = {7 * index: pair[0] for index, pair in enumerate(pairs)}
    references = {7 * index: pair[1] for index, pair in enumerate(pairs)}
    metric = MulticlassAccuracy(num_classes=3, average="micro")
    theirs = metric(torch.tensor(list(predictions.values())), torch.tensor(list(references.values())))
    assert scores.accuracy(predictions, references) == pytest.approx(float(theirs))


def test_missing_predictions_are_wrong() -> None:
    references = {1: "a", 2: "b", 5: "a", 9: None}
    predictions = {1: "a", 5: "b"}
    assert scores.accuracy(predictions, references) == 0.25


def test_scoring_nothing_or_other_data_is_refused() -> None:
    with pytest.raises(InputError, match="no references"):
        scores.accuracy({}, {})
    with pytest.raises(InputError, match=r"1 predictions.*\[4\]"):
        scores.accuracy({1: 0, 4: 0}, {1: 0})
    with pytest.raises(InputError, match="no language"):
        scores.macro_mean({})
    with pytest.raises(InputError, match="no references"):
        scores.majority_share({})


def test_macro_mean_counts_languages_not_examples() -> None:
    assert scores.macro_mean({"en": 0.5, "de": 1.0, "sw": 0.0}) == 0.5


def test_majority_share() -> None:
    assert scores.majority_share({1: "a", 2: "b", 3: "b", 4: "c"}) == 0.5


@settings(max_examples=50)
@given(st.integers(1, 300), st.floats(0.01, 0.99), st.floats(0, 1.2))
def test_binomial_tail_equals_the_sum_of_torch_probabilities(trials: int, probability: float, share: float) -> None:
    successes = round(share * trials)
    distribution = torch.distributions.Binomial(
        torch.tensor(trials, dtype=torch.float64), torch.tensor(probability, dtype=torch.float64)
    )
    counts = torch.tensor(range(successes, trials + 1), dtype=torch.float64)
    expected = float(distribution.log_prob(counts).exp().sum()) if len(counts) else 0.0
    assert scores.binomial_tail(successes, trials, probability) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_chance_on_a_development_set_of_the_size_of_xnli() -> None:
    # 2,490 examples of three labels: one standard deviation is 0.94 points.
    assert scores.is_at_chance(round(0.34 * 2490), 2490, 1 / 3)
    assert not scores.is_at_chance(round(0.37 * 2490), 2490, 1 / 3)


def brute_force(queries: torch.Tensor, candidates: torch.Tensor) -> list[int]:
    found = []
    for query in queries.double():
        cosines = [float(query @ c / query.norm() / c.norm()) for c in candidates.double()]
        found.append(max(range(len(cosines)), key=lambda i: cosines[i]))
    return found


@pytest.mark.parametrize("block_size", [1, 3, 16, 4096])
def test_search_equals_brute_force_whatever_the_blocks(block_size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(23, 8, generator=generator) * 5
    candidates = torch.randn(31, 8, generator=generator)
    found = neighbours.nearest_neighbours(queries, candidates, block_size)
    assert found.index.tolist() == brute_force(queries, candidates)
    cosine = torch.nn.functional.cosine_similarity(queries, candidates[found.index])
    torch.testing.assert_close(found.similarity, cosine)
    assert not found.tied.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 17), st.randoms(use_true_random=False))
def test_duplicates_tie_and_the_first_wins_whatever_the_blocks(rows: int, block_size: int, random) -> None:
    distinct = torch.randn(5, 33, generator=torch.Generator().manual_seed(random.randint(0, 99)))
    picks = [random.randrange(5) for _ in range(rows)]
    found = neighbours.nearest_neighbours(distinct, distinct[picks], block_size)
    for query in range(5):
        if query in picks:
            assert found.index[query] == picks.index(query)
            assert bool(found.tied[query]) == (picks.count(query) > 1)


def test_different_vectors_at_the_same_angle_tie() -> None:
    queries = torch.tensor([[1.0, 0.0]])
    candidates = torch.tensor([[0.0, 1.0], [0.6, 0.8], [0.6, -0.8], [-1.0, 0.0]])
    for block_size in (1, 2, 3, 4):
        found = neighbours.nearest_neighbours(queries, candidates, block_size)
        assert (found.index.item(), found.tied.item()) == (1, True)


def test_negative_zero_is_zero() -> None:
    found = neighbours.nearest_neighbours(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, -0.0], [3.0, 0.0]]), 1)
    assert (found.index.item(), found.tied.item()) == (0, True)


def test_search_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(InputError, match="at least"):
        neighbours.nearest_neighbours(torch.ones(1, 2), torch.ones(0, 2))
    with pytest.raises(InputError, match="width"):
        neighbours.nearest_neighbours(torch.ones(1, 2), torch.ones(1, 3))
    with pytest.raises(InputError, match="candidate vector 1 is not finite"):
        neighbours.nearest_neighbours(torch.ones(1, 2), torch.tensor([[1.0, 0.0], [math.nan, 0.0]]))


@pytest.fixture
def index_everything(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Send searches of any size through faiss; returns the widths of the indices that were built."""
    faiss = pytest.importorskip("faiss")
    monkeypatch.setattr(neighbours, "_WORTH_AN_INDEX", 0)
    built, index = [], faiss.IndexFlatIP

    def build(width: int) -> object:
        built.append(width)
        return index(width)

    monkeypatch.setattr(faiss, "IndexFlatIP", build)
    return built


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([-2.0, 0.5, 1.0])), min_size=1, max_size=12), st.data())
def test_faiss_gives_the_same_answers_ties_and_duplicates(
    index_everything: list[int], axes: list[tuple[int, float]], data: st.DataObject
) -> None:
    """Along the axes every product is exact, so that equal ones are equal however they are added up."""
    candidates = torch.zeros(len(axes), 4)
    for row, (axis, value) in enumerate(axes):
        candidates[row, axis] = value
    queries = torch.tensor(data.draw(st.lists(st.tuples(*[st.sampled_from([-1.0, 0.5, 1.0])] * 4), min_size=1)))
    block_size = data.draw(st.integers(1, 8))
    index_everything.clear()
    found = neighbours.nearest_neighbours(queries, candidates, block_size)
    assert index_everything == [4]
    with mock.patch.object(neighbours, "_WORTH_AN_INDEX", math.inf):
        expected = neighbours.nearest_neighbours(queries, candidates, block_size)
    assert index_everything == [4]
    torch.testing.assert_close(found.similarity, expected.similarity)
    assert found.index.tolist() == expected.index.tolist()
    assert found.tied.tolist() == expected.tied.tolist()


def test_faiss_finds_what_brute_force_finds(index_everything: list[int]) -> None:
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(23, 8, generator=generator) * 5
    candidates = torch.randn(31, 8, generator=generator)
    found = neighbours.nearest_neighbours(queries, candidates, 7)
    assert index_everything == [8]
    assert found.index.tolist() == brute_force(queries, candidates)
    torch.testing.assert_close(
        found.similarity, torch.nn.functional.cosine_similarity(queries, candidates[found.index])
    )


def test_retrieval_is_keyed_by_example_id() -> None:
    ids = torch.tensor([3, 10, 11])
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    candidates = torch.tensor([[1.0, 0.1], [0.1, 1.0], [0.5, -1.0]])
    nearest, found = neighbours.retrieve(ids, queries, candidates)
    assert nearest == {3: 3, 10: 10, 11: 10}
    assert scores.accuracy(nearest, {key: key for key in nearest}) == pytest.approx(2 / 3)
    assert not found.tied.any()
