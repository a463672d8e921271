"""Several labels and numbers of texts, as files have them, and what is chosen for them on development data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn import metrics
from torch.nn.functional import cross_entropy

from datamodules import TextMultiLabel, TextRegression
from ernie_m.errors import InputError
from lightning_modules.calibration import at_temperature, best_temperature, best_thresholds
from lightning_modules.scores import multi_label_scores, regression_scores

LISTS = [["b", "a"], [], ["a"], ["c", "a"]]
TRUTHS = [[1, 1, 0], [0, 0, 0], [1, 0, 0], [1, 0, 1]]


def as_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def named(path: Path, labels: list[list[int]]) -> None:
    """A Parquet file whose numbers it names itself, in another order than the alphabet's."""
    features = Features({"text": Value("string"), "labels": Sequence(ClassLabel(names=["c", "b", "a"]))})
    Dataset.from_dict({"text": ["x"] * len(labels), "labels": labels}, features).to_parquet(path)


@pytest.fixture
def data_of(sample_tokenizer_dir: Path, tmp_path: Path):
    """Makes a data module of a file in the test's folder."""

    def make(kind: type, path: Path, **arguments: Any) -> Any:
        files = {"en": str(path)}
        return kind(
            str(sample_tokenizer_dir), files, None if "validation_share" in arguments else files, first_column="text",
            second_column=None, cache_dir=str(tmp_path / "cache"), **arguments,
        )  # fmt: skip

    return make


def labels_of(data: Any) -> Any:
    data.setup("fit")
    (batch,) = next(iter(data.train_dataloader()))
    return batch["labels"][batch["example_ids"].argsort()]


def test_the_same_labels_in_every_format(data_of, tmp_path: Path) -> None:
    joined = "text,labels\n" + "".join(f'x,"{" , ".join(one)}"\n' for one in LISTS)
    (tmp_path / "a.csv").write_text(joined, encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(as_lines([{"text": "x", "labels": one} for one in LISTS]), encoding="utf-8")
    (tmp_path / "c.tsv").write_text(
        "text\ta\tb\tc\n" + "".join("x\t" + "\t".join(map(str, row)) + "\n" for row in TRUTHS), encoding="utf-8"
    )
    named(tmp_path / "d.parquet", [["cba".index(name) for name in one] for one in LISTS])
    single = {"label_columns": ["a", "b", "c"]}
    for name, arguments in (("a.csv", {}), ("b.jsonl", {}), ("c.tsv", single), ("d.parquet", {})):
        data = data_of(TextMultiLabel, tmp_path / name, **arguments)
        order = [data.label_names.index(label) for label in "abc"]
        assert labels_of(data)[:, order].tolist() == TRUTHS, name
        assert "a 3, b 1, c 1, without any 1" in data.fingerprints()["train/en"] or name == "d.parquet"
    assert data.label_names == ["c", "b", "a"]


@pytest.mark.parametrize(("labels", "arguments", "message"), [
    (["a"], {"label_names": ["b"]}, r"a.jsonl, line 2: unknown label 'a' in column 'labels'; known are b"),
    (None, {}, r"a.jsonl, line 2: column 'labels' is null; a row without labels has an empty list"),
    (["a", None], {}, r"a.jsonl, line 2: the label in column 'labels' is null"),
    (["a"], {"label_columns": ["one"]}, r"a.jsonl, line 2: 'often' in column 'one'; a column of a label has 1 or 0"),
    (["a"], {"label_separator": ""}, r"label_separator is empty"),
    (["a"], {"label_columns": ["one"], "label_names": ["a", "b"]}, r"they must be as many"),
])  # fmt: skip
def test_labels_that_are_none(labels: Any, arguments: dict[str, Any], message: str, data_of, tmp_path: Path) -> None:
    rows = [{"text": "x", "labels": ["b"], "one": "yes"}, {"text": "y", "labels": labels, "one": "often"}]
    (tmp_path / "a.jsonl").write_text(as_lines(rows), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        data_of(TextMultiLabel, tmp_path / "a.jsonl", **arguments).setup("fit")


@pytest.mark.parametrize("values", [["1", " 2.5", "-1e1"], [1, 2.5, -10.0], [1.0, 2.5, -10.0]])
def test_the_same_numbers_in_every_format(values: list[Any], data_of, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(as_lines([{"text": "x", "label": one} for one in values]), encoding="utf-8")
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"x,{one}\n" for one in values), encoding="utf-8")
    pq.write_table(pa.table({"text": ["x"] * 3, "label": [float(one) for one in values]}), tmp_path / "a.parquet")
    mixed = [1, 2.5, -10.0]
    for name in ("a.csv", "a.parquet", "a.jsonl"):
        found = labels_of(data_of(TextRegression, tmp_path / name))
        assert found.dtype == torch.float32
        assert found.tolist() == mixed


@pytest.mark.parametrize(("value", "message"), [
    ("4,5", "line 3: '4,5' in column 'label' is no number; give the row one, or remove it. Fractions are written with"),
    ("", "line 3: '' in column 'label' is no number"),
    ("nan", "line 3: 'nan'"), ("1e39", "line 3: '1e39'"), ("1_000", "line 3: '1_000'"),
])  # fmt: skip
def test_numbers_that_are_none(value: str, message: str, data_of, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f'text,label\nx,1\ny,"{value}"\n', encoding="utf-8")
    with pytest.raises(InputError, match=message):
        data_of(TextRegression, tmp_path / "a.csv").setup("fit")


def test_a_division_has_rare_labels_and_all_sizes_in_both_parts(data_of, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [
        {"text": "x", "label": float(random.normal()), "labels": ["common"] + ["rare"] * (number % 20 == 0)}
        for number in range(400)
    ]
    (tmp_path / "a.jsonl").write_text(as_lines(rows), encoding="utf-8")
    data = data_of(TextMultiLabel, tmp_path / "a.jsonl", validation_share=0.2)
    data.setup("fit")
    assert "rare 4" in data.fingerprints()["validation/en"]
    data = data_of(TextRegression, tmp_path / "a.jsonl", validation_share=0.2)
    data.setup("fit")
    taken = data.row_set("validation", ["en"]).all_scalars("labels")
    everything = np.array([row["label"] for row in rows])
    tenths = np.searchsorted(np.quantile(everything, np.linspace(0, 1, 11)[1:-1]), taken, side="right")
    assert np.bincount(tenths, minlength=10).tolist() == [8] * 10


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.lists(st.booleans(), min_size=3, max_size=3), st.lists(st.booleans(), min_size=3,
       max_size=3)), min_size=1, max_size=30))  # fmt: skip
def test_scores_of_several_labels_are_those_of_scikit_learn(pairs: list[Any]) -> None:
    right, taken = (np.array([pair[side] for pair in pairs], dtype=int) for side in (0, 1))
    found = multi_label_scores(torch.from_numpy(taken), torch.from_numpy(right))
    for name, function in (("f1", metrics.f1_score), ("precision", metrics.precision_score),
                           ("recall", metrics.recall_score)):  # fmt: skip
        wanted = function(right, taken, average="macro", zero_division=0)
        assert found[f"macro_{name}"] == pytest.approx(wanted, abs=1e-6)
    assert found["micro_f1"] == pytest.approx(
        metrics.f1_score(right, taken, average="micro", zero_division=0), abs=1e-6
    )
    assert found["exact_match"] == pytest.approx(metrics.accuracy_score(right, taken))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=30))
def test_correlations_are_those_of_scipy(pairs: list[tuple[int, int]]) -> None:
    taken, right = (np.array(side, dtype=np.float32) for side in zip(*pairs, strict=True))
    found = regression_scores(torch.from_numpy(taken), torch.from_numpy(right))
    constant = len(set(taken.tolist())) == 1 or len(set(right.tolist())) == 1
    assert found["pearson"] == pytest.approx(0 if constant else stats.pearsonr(taken, right)[0], abs=1e-6)
    assert found["spearman"] == pytest.approx(0 if constant else stats.spearmanr(taken, right)[0], abs=1e-6)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(right, taken), abs=1e-6)


@pytest.mark.parametrize(("scale", "right"), [(4.0, 0.6), (0.3, 0.9), (1.0, 1.0)])
def test_the_temperature_is_the_likeliest(scale: float, right: float) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (400,), generator=generator)
    seen = torch.where(torch.rand(400, generator=generator) < right, labels, (labels + 1) % 3)
    logits = scale * (torch.nn.functional.one_hot(seen, 3) + 0.3 * torch.randn(400, 3, generator=generator))
    found = best_temperature(logits.softmax(-1), labels)
    wanted = optimize.minimize_scalar(
        lambda t: float(cross_entropy(logits.double() / t, labels)), bounds=(0.05, 20), method="bounded"
    )
    assert found == pytest.approx(wanted.x, rel=1e-2)
    torch.testing.assert_close(at_temperature(logits.softmax(-1), found), (logits / found).softmax(-1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=20))
def test_no_threshold_is_better(pairs: list[tuple[int, bool]]) -> None:
    probabilities = torch.tensor([[number / 6] for number, _ in pairs])
    labels = torch.tensor([[int(has)] for _, has in pairs])
    (threshold,) = best_thresholds(probabilities, labels)
    assert 0 <= threshold <= 1

    def f1(bound: float) -> float:
        return metrics.f1_score(labels[:, 0], (probabilities[:, 0] >= bound).int(), zero_division=0)

    assert f1(threshold) == pytest.approx(max(f1((number - 0.5) / 6) for number in range(8)))
