"""`ernie-m report --suite`: one table of a benchmark's tasks, its mean, and other encoders' figures."""

import copy
import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from datamodules import panx, xnli, xquad
from ernie_m_recipes.check import resolved
from ernie_m_recipes.suite import SUITES

FIGURES = Path(__file__).resolve().parents[2] / "ernie_m_recipes" / "encoders.csv"


def make_run(folder: Path, recipe: str, scores: dict[str, float], languages: tuple[str, ...], **changes: Any) -> Path:
    """A run folder as `fit` leaves it, with the same scores in every language."""
    settings = copy.deepcopy(resolved(recipe))
    seed = changes.get("seed", 1)
    settings |= {"seed_everything": seed, "run": {"directory": str(folder)}}
    settings["data"]["init_args"] |= {"seed": seed} | changes.get("data", {})
    settings["model"]["init_args"] |= {"backbone": changes.get("backbone", "ernie-m-base")}
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    results = {language: {**scores, "examples": 100.0} for language in [*languages, "mean"]}
    (folder / "results.json").write_text(json.dumps({"recipe": recipe, "test": results}), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps({"status": "finished", "stage": "fit"}), encoding="utf-8")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """XNLI with two seeds and XQuAD whole, PAN-X in two of its languages, and XNLI of another encoder."""
    return [
        make_run(tmp_path / "xnli", "xnli/transfer_base", {"accuracy": 0.75}, xnli.LANGUAGES),
        make_run(tmp_path / "again", "xnli/transfer_base", {"accuracy": 0.77}, xnli.LANGUAGES, seed=2),
        make_run(tmp_path / "xquad", "xquad/transfer_base", {"f1": 0.7, "exact_match": 0.5}, xquad.LANGUAGES),
        make_run(tmp_path / "panx", "panx/transfer_base", {"f1": 0.6}, panx.LANGUAGES[:2]),
        make_run(tmp_path / "other", "xnli/transfer_base", {"accuracy": 0.7}, xnli.LANGUAGES, backbone="xlm-r"),
        make_run(tmp_path / "topics", "quickstart", {"accuracy": 0.8}, ("en",)),
    ]


def test_tasks_of_a_benchmark_stand_in_one_table(runs: list[Path], tmp_path: Path, ernie_m) -> None:
    code, out, err = ernie_m("report", "--suite", "xtreme", *runs)
    assert code == 0, err
    rows = {line[0]: line[1:] for line in (re.split(r"  +", line) for line in out.splitlines()) if len(line) > 2}
    assert rows["encoder"] == ["XNLI", "PAN-X", "XQuAD", "mean"]
    # The mean of 76.00 and of (70 + 50) / 2; two languages of PAN-X are shown, and no part of it.
    assert rows["ernie-m-base"] == ["76.00", "(60.00)", "70.00 / 50.00", "68.00"]
    assert "ernie-m-base: mean of 2 of 9 tasks, without PAWS-X, UDPOS, PAN-X, MLQA, TyDiQA, Tatoeba, BUCC" in out
    assert "ernie-m-base, PAN-X: over other languages than the benchmark's 40: not in the mean" in out
    assert f"{runs[-1]}: left out, SIB200 is no task of xtreme" in out
    (other,) = (line for line in out.splitlines() if line.startswith("xlm-r "))
    assert other.split()[1:] == ["70.00", "70.00"]
    (veco,) = (line for line in out.splitlines() if line.startswith("VECO large"))
    number = re.search(r"\[\d\]", veco)[0]
    assert veco.split()[3:] == ["79.9", "65.7", "77.3"]
    assert f"{number} VECO (Luo et al., 2021), its table" in out
    assert "mDeBERTa-v3 base" in out


def test_every_format_holds_the_table(runs: list[Path], tmp_path: Path, ernie_m) -> None:
    files = {suffix: tmp_path / f"suite.{suffix}" for suffix in ("md", "csv", "json", "html")}
    code, _, err = ernie_m("report", "--suite", "xtreme", *runs, "--output", *files.values())
    assert code == 0, err
    assert "| ernie-m-base | 76.00 | (60.00) | 70.00 / 50.00 | 68.00 |" in files["md"].read_text(encoding="utf-8")
    with files["csv"].open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["encoder"] == "ernie-m-base"]
    assert [(line["task"], line["metric"], round(float(line["value"]), 6), line["counted"]) for line in lines] == [
        ("XNLI", "accuracy", 76.0, "True"),
        ("PAN-X", "f1", 60.0, "False"),
        ("XQuAD", "f1", 70.0, "True"),
        ("XQuAD", "exact_match", 50.0, "True"),
        ("mean", "score", 68.0, ""),
    ]
    row = json.loads(files["json"].read_text(encoding="utf-8"))["rows"][0]
    assert row["scores"]["XNLI"]["seeds"] == [1, 2]
    page = files["html"].read_text(encoding="utf-8")
    assert ">70.00 / 50.00</td>" in page
    assert "microsoft/DeBERTa, README" in page


def test_what_cannot_stand_in_one_row_is_refused(tmp_path: Path, ernie_m) -> None:
    two = [
        make_run(tmp_path / name, "xnli/transfer_base", {"accuracy": 0.7}, xnli.LANGUAGES, data=data)
        for name, data in (("a", {}), ("b", {"train_languages": ["en", "de"]}))
    ]
    code, _, err = ernie_m("report", "--suite", "xtreme", *two)
    assert code == 2
    assert "b are both XNLI of ernie-m-base, in other settings; name one of them" in err
    code, out, err = ernie_m("report", "--suite", "xtreme", two[1])
    assert code == 0, err
    assert "XNLI: trained on en, de, where the benchmark transfers from English" in out
    topics = make_run(tmp_path / "topics", "quickstart", {"accuracy": 0.8}, ("en",))
    code, _, err = ernie_m("report", "--suite", "xtreme", topics)
    assert code == 2
    assert "none of the runs is of a task of xtreme, whose data are those of XNLI, PAWS-X," in err
    code, _, err = ernie_m("report", "--suite", "xtreme", "--stage", "validate", two[0])
    assert code == 2
    assert "--suite xtreme goes with --stage test" in err


@pytest.mark.real_data
def test_the_published_figures_are_those_of_their_sources(shared: Path) -> None:
    """Every figure of the table that they were collected in, and no other."""
    names = {"WikiANN": "PAN-X"}
    lines = (shared / "reference" / "field.md").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| model | XNLI"))
    titles = [names.get(cell.strip(), cell.strip()) for cell in lines[start].strip("| ").split("|")][1:]
    expected = set()
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        encoder = re.sub(r" (\(\d{4}\) )?(\[\d\]|\(card\))$", "", cells[0])
        figures = [re.match(r"[\d.]*", cell)[0] for cell in cells[1:]]
        expected |= {(encoder, task, float(one)) for task, one in zip(titles, figures, strict=True) if one}
    with FIGURES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["encoder"], row["task"], float(row["value"])) for row in rows} == expected
    assert len(rows) == len(expected)
    assert all(row["source"] for row in rows)
    assert {row["task"] for row in rows} <= {task.name for task in SUITES["xtreme"][0].values()}
