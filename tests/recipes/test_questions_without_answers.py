"""SQuAD 2.0 through the command: questions without an answer, trained, tested, exported and predicted."""

import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from ernie_m_recipes.__main__ import main

RECIPE = "squad_v2/english_base"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def options(quick: list[str], tiny_squad_2: Path) -> list[str]:
    kept = [word for word in quick if not word.startswith(("--data.path", "--data.validation", "--data.test"))]
    return [*kept, f"--data.path={tiny_squad_2}", "--data.max_length=64", "--data.max_query_length=8"]


@pytest.fixture(scope="module")
def run(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs")
    options = [*options, "--model.learning_rate=2e-3", f"--run.directory={directory}"]
    assert main(["fit", "--config", RECIPE, *options]) == 0
    (record,) = directory.rglob("run.json")
    return record.parent


def test_a_run_keeps_the_threshold_and_scores_both_kinds(run: Path) -> None:
    results = read(run / "results.json")
    assert list(results["test"]["en"]) == [
        "f1", "exact_match", "has_answer_f1", "has_answer_exact_match", "no_answer_f1", "examples", "chance",
    ]  # fmt: skip
    assert results["test"]["en"]["chance"] == 0.5
    assert results["test"]["en"]["f1"] >= 0.5
    assert "16 questions in" in (said := read(run / "run.json")["data"]["test/en"])
    assert "; 8 of 16 questions have no answer" in said
    threshold = read(run / "export" / "config.json")["null_threshold"]
    rows = parquet.read_table(run / "predictions" / "test" / "en.parquet").to_pylist()
    assert [row["prediction"] == "" for row in rows] == [row["score_difference"] > threshold for row in rows]
    assert f"above {threshold:.6g} (`null_threshold`" in (run / "export" / "README.md").read_text(encoding="utf-8")


def test_predictions_are_those_of_the_test_until_another_threshold_is_asked_for(
    run: Path, tiny_squad_2: Path, tmp_path: Path, ernie_m
) -> None:
    rows = parquet.read_table(run / "predictions" / "test" / "en.parquet").to_pylist()
    asked = ["--input", tiny_squad_2 / "validation.json", "--output"]
    for target in (run, run / "export"):
        code, _, err = ernie_m("predict", target, *asked, tmp_path / "answers.json")
        assert code == 0, err
        assert "null_threshold" not in err
        assert read(tmp_path / "answers.json") == {row["id"]: row["prediction"] for row in rows}
    code, _, err = ernie_m("predict", run, *asked, tmp_path / "answers.jsonl", "--model.null_threshold=-1e9")
    assert code == 0, err
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["prediction"] for line in lines} == {""}
    assert [line["n_best"] for line in lines] == [row["n_best"] for row in rows]
    assert [line["score_difference"] for line in lines] == pytest.approx([row["score_difference"] for row in rows])


def test_half_of_the_option_and_none_of_it_are_refused(options: list[str], ernie_m) -> None:
    code, _, err = ernie_m("fit", "--config", RECIPE, *options, "--data.version_2_with_negative=false")
    assert code == 2
    assert "data.version_2_with_negative is False and model.version_2_with_negative True" in err
    code, _, err = ernie_m("fit", "--config", RECIPE, *options, "--model.version_2_with_negative=false")
    assert code == 2
    assert "24 without an answer (as SQuAD 2.0 has them)" in err
    assert "train on them with version_2_with_negative: true" in err
