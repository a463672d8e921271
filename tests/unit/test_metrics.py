"""The metric of predictions in a plain loop, and a classifier's scores against scikit-learn."""

import doctest
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from ernie_m.errors import InputError
from lightning_modules import metrics
from lightning_modules.evaluating import expected_examples
from lightning_modules.metrics import ScoresByLanguage, is_score, mean_results
from lightning_modules.scores import classification_scores


def test_the_example_of_its_docstring():
    found = doctest.testmod(metrics)
    assert found.attempted >= 4
    assert found.failed == 0


def kept(rows, missing):
    values = {name: column.tolist() for name, column in rows.items()}
    import pyarrow

    return pyarrow.table(values), {"examples": float(len(rows["language"]) + missing), "missing": float(missing)}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_rows_come_out_once_whatever_their_batches(widths, random):
    """Batches of other widths, in any order, with fillers and repetitions."""
    metric = ScoresByLanguage(kept, ["en", "de"])
    expected = {}
    for number, width in enumerate(widths):
        language = number % 2
        tokens = torch.tensor([[10 * number + place for place in range(width)]] * 2)
        batch = {"language": torch.tensor([language] * 2), "weights": torch.tensor([1.0, 0.0]), "tokens": tokens}
        batch["example_ids"] = torch.tensor([number, 99])
        for _ in range(random.choice([1, 2])):
            metric.update(**batch)
        expected.setdefault(["en", "de"][language], []).append((number, tokens[0].tolist()))
    metric.expected = {"en": len(expected["en"]) + 2}
    found = metric.compute()
    for language, rows in expected.items():
        table = found.tables[language].to_pydict()
        assert table["example_id" + "s"] == [number for number, _ in rows]
        assert [[t for t in row if t >= 0] for row in table["tokens"]] == [row for _, row in rows]
    assert found.results["en"]["missing"] == 2
    metric.reset()
    metric.update(**batch)
    assert metric.compute().results["mean"]["examples"] >= 1


def test_columns_that_do_not_fit_are_refused():
    metric = ScoresByLanguage(kept)
    with pytest.raises(ValueError, match="no column 'weights'"):
        metric.update(language=torch.zeros(1), example_ids=torch.zeros(1))
    metric.update(language=torch.zeros(1), example_ids=torch.zeros(1), weights=torch.ones(1))
    with pytest.raises(ValueError, match="the columns are"):
        metric.update(language=torch.zeros(1), example_ids=torch.zeros(1), weights=torch.ones(1), more=torch.ones(1))


@pytest.mark.parametrize(("limit", "expected"), [(1.0, {"en": 3}), (None, {"en": 3}), (1, {}), (2, {}), (0.5, {})])
def test_one_batch_is_not_all_of_them(limit, expected):
    """For Lightning the limit 1 is one batch, 1.0 all of them; for Python they are the same number."""
    trainer = SimpleNamespace(
        limit_test_batches=limit, test_dataloaders=[SimpleNamespace(dataset=[0, 1, 2])], sanity_checking=False,
        limit_val_batches=1.0, val_dataloaders=None, limit_predict_batches=1.0, predict_dataloaders=None,
        datamodule=SimpleNamespace(eval_languages=lambda stage: ["en"]),
    )  # fmt: skip
    assert expected_examples(trainer, "test") == expected


def test_nothing_predicted_is_no_score():
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert ScoresByLanguage(kept).compute() == ({}, {})


def test_counts_are_summed_and_scores_averaged():
    results = {"en": {"accuracy": 0.5, "examples": 2.0}, "de": {"accuracy": 1.0, "examples": 3.0, "ties": 1.0}}
    assert mean_results(results) == {"accuracy": 0.75, "examples": 5.0, "ties": 1.0}
    assert [name for name in ("accuracy", "examples", "layer_3", "chance", "macro_f1") if is_score(name)] == [
        "accuracy",
        "macro_f1",
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=40), st.integers(0, 3))
def test_a_classifiers_scores_are_those_of_scikit_learn(pairs, missing):
    labels = np.array([label for label, _ in pairs])
    predicted = np.array([prediction for _, prediction in pairs])
    probabilities = torch.full((len(pairs), 3), 0.2)
    probabilities[torch.arange(len(pairs)), torch.from_numpy(predicted)] = 0.6
    found = classification_scores(probabilities, torch.from_numpy(labels), missing)
    assert found["accuracy"] == int((labels == predicted).sum()) / (len(pairs) + missing)
    # A label that neither stands in the data nor was predicted is not among those that the mean is taken over.
    seen = sorted({*labels.tolist(), *predicted.tolist()})
    for name, function in (
        ("macro_f1", sklearn_metrics.f1_score),
        ("macro_precision", sklearn_metrics.precision_score),
        ("macro_recall", sklearn_metrics.recall_score),
    ):
        wanted = function(labels, predicted, labels=seen, average="macro", zero_division=0)
        assert found[name] == pytest.approx(wanted, abs=1e-6)
    assert found["matthews"] == pytest.approx(sklearn_metrics.matthews_corrcoef(labels, predicted))
    share = float((labels == predicted).mean())
    assert found["calibration_error"] == pytest.approx(abs(0.6 - share), abs=1e-5)


def test_no_examples_are_no_score():
    with pytest.raises(InputError, match="no references"):
        classification_scores(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
