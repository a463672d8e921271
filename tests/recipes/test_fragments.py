"""Fragments at work: each is laid over a recipe and run, not only parsed."""

import csv
import json
from pathlib import Path

import pytest

PACKAGES = {"logger/tensorboard": "tensorboard", "logger/wandb": "wandb", "logger/mlflow": "mlflow"}


@pytest.mark.parametrize(
    ("fragment", "options"),
    [
        ("checkpoint/last", []),
        ("checkpoint/mean_of_languages", []),
        ("debug/anomaly", ["--trainer.max_steps=4", "--trainer.log_every_n_steps=1"]),
        ("debug/few_steps", []),
        ("debug/overfit", ["--trainer.max_epochs=3"]),
        ("logger/mlflow", []),
        ("logger/tensorboard", []),
        ("logger/wandb", ["--trainer.logger.offline=true"]),
    ],
)
def test_a_fragment_runs(
    fragment: str, options: list[str], quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ernie_m
) -> None:
    if fragment in PACKAGES:
        pytest.importorskip(PACKAGES[fragment], reason="needs the extra `loggers`, which the tests do not install")
    monkeypatch.chdir(tmp_path)
    own = ("--trainer.val_check_interval", "--trainer.max_epochs", "--trainer.max_steps", "--trainer.log_every")
    kept = [
        word
        for word in quick
        if not word.startswith(own) and not (fragment.startswith("checkpoint/mean") and "validation" in word)
    ]
    if not fragment.startswith("debug/"):
        kept += ["--trainer.max_steps=4", "--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1"]
    code, _, err = ernie_m(
        "fit", "--config", "xnli/smoke", "--config", fragment, *kept, *options, f"--run.directory={tmp_path}"
    )
    assert code == 0, err
    (record,) = tmp_path.rglob("run.json")
    run = record.parent
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    rules = {
        "checkpoint/last": "the last step",
        "debug/overfit": "the last step",
        "checkpoint/mean_of_languages": "highest val/accuracy",
        "debug/anomaly": "the last step, as nothing was validated",
        "debug/few_steps": "the last step, as nothing was validated",
    }
    assert results["checkpoint"]["rule"] == rules.get(fragment, "highest val/en/accuracy")
    assert (run / "export").is_dir() == (fragment != "debug/overfit")
    names = {path.name for path in run.iterdir()}
    if fragment == "logger/mlflow":
        assert (tmp_path / "mlflow.db").is_file()
    elif fragment in PACKAGES:
        assert {"logger/tensorboard": "tensorboard", "logger/wandb": "wandb"}[fragment] in names
    else:
        with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
            assert any(row.get("train/loss") for row in csv.DictReader(file))
    if fragment == "checkpoint/mean_of_languages":
        assert len(results["validate"]) == 16


def test_fragments_lie_over_each_other(quick: list[str], tmp_path: Path, ernie_m) -> None:
    fragments = ("trainer/cpu", "trainer/fp32", "trainer/ddp", "logger/csv", "checkpoint/english", "debug/profile")
    words = [word for fragment in fragments for word in ("--config", fragment)]
    options = [*quick, "--trainer.devices=1", f"--run.directory={tmp_path}"]
    code, _, err = ernie_m("fit", "--config", "xnli/smoke", *words, *options)
    assert code == 0, err
    (record,) = tmp_path.rglob("run.json")
    results = json.loads((record.parent / "results.json").read_text(encoding="utf-8"))
    assert results["checkpoint"]["rule"] == "highest val/en/accuracy"
    assert json.loads(record.read_text(encoding="utf-8"))["precision"]["used"] == "32-true"


def test_early_stopping_stops(quick: list[str], tmp_path: Path, ernie_m) -> None:
    options = ["--trainer.callbacks.patience=1", "--model.learning_rate=1e-9", f"--run.directory={tmp_path}"]
    code, _, err = ernie_m("fit", "--config", "xnli/smoke", "--config", "callbacks/early_stopping", *quick, *options)
    assert code == 0, err
    (results,) = tmp_path.rglob("results.json")
    assert [entry["step"] for entry in json.loads(results.read_text(encoding="utf-8"))["history"]] == [3, 6]


def test_a_backbone_brings_its_row_of_the_card(ernie_m) -> None:
    row = "task: {}\n    setting: {}\n    model: XLM-R Large"
    for recipe, *named in (("xnli/transfer_base", "xnli", "Cross-lingual Transfer"), ("xnli/smoke", "null", "null")):
        code, out, err = ernie_m("fit", "--config", recipe, "--config", "backbone/xlm_r_large", "--print_config")
        assert code == 0, err
        assert row.format(*named) in out
