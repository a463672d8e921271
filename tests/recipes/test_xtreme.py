"""The recipes of XTREME's further tasks on folders of the Hub's layout, and what is encoded after a task."""

import json
from pathlib import Path

import pytest

from ernie_m_recipes.registry import entries

RECIPES = [one.name for one in entries("recipe") if one.name.startswith(("panx/", "udpos/", "xquad/", "tydiqa/"))]


def options_of(name: str, folder: Path, quick: list[str]) -> list[str]:
    """What makes a recipe quick: fewer languages, tiny data, no development data for tasks that have none."""
    fixed = ("--data.path", "--data.validation", "--data.test", "--trainer.val_check_interval")
    options = [word for word in quick if not word.startswith(fixed)] + [f"--data.path={folder}"]
    options += ["--data.test_languages=[en]" if name.startswith("tydiqa/") else "--data.test_languages=[en, de]"]
    options += [f"--data.train_path={folder / 'train.json'}"] if name.startswith("xquad/") else []
    if "translate" in name:
        other = "ar" if name.startswith("tydiqa/") else "de"
        options += [f"--data.train_languages=[en, {other}]", f"--data.translations_path={folder}"]
    interval = "3" if name.startswith(("panx/", "udpos/")) else "1.0"
    return [*options, f"--trainer.val_check_interval={interval}"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_xtreme_runs_a_step(name, quick, tiny_xtreme, tmp_path, monkeypatch, ernie_m) -> None:
    monkeypatch.chdir(tmp_path)
    options = options_of(name, tiny_xtreme, quick)
    code, _, err = ernie_m("fit", "--config", name, "--config", "debug/fast_dev_run", *options)
    assert code == 0, err
    assert list(tmp_path.iterdir()) == []


def test_topics_run_a_step_on_what_comes_along(quick, tmp_path, monkeypatch, ernie_m) -> None:
    monkeypatch.chdir(tmp_path)
    options = [word for word in quick if not word.startswith(("--data.path", "--data.val", "--trainer.val"))]
    code, _, err = ernie_m("fit", "--config", "sib200/transfer_base", "--config", "debug/fast_dev_run", *options)
    assert code == 0, err


def test_parts_of_speech_and_then_translations(quick, tiny_xtreme, tiny_pairs, tmp_path, monkeypatch, ernie_m) -> None:
    """The checkpoint is chosen by XTREME's score; the encoder of an export searches, whatever its head was."""
    monkeypatch.chdir(tmp_path)
    code, out, err = ernie_m("fit", "--config", "udpos/transfer_base", *options_of("udpos/", tiny_xtreme, quick))
    assert code == 0, err
    (run,) = (tmp_path / "runs" / "udpos" / "transfer_base").iterdir()
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert "highest val/en/f1" in out
    assert list(results["test"]["de"])[:2] == ["accuracy", "f1"]
    search = [word for word in quick if not word.startswith(("--data.", "--trainer.max", "--trainer.val"))]
    search += [f"--data.path={tiny_pairs}", "--data.test_languages=[de, zh]", f"--data.cache_dir={tmp_path / 'cache'}"]
    search += ["--model.layer=1", "--config", "debug/fast_dev_run"]
    code, _, err = ernie_m(
        "test", "--config", "tatoeba/after_squad_base", *search, f"--model.init_from={run / 'export'}"
    )
    assert code == 0, err
    code, _, err = ernie_m("test", "--config", "tatoeba/after_squad_base", *search)
    assert code == 2
    assert "RUN/export" in err


def test_a_task_without_development_data_takes_the_last_step(
    quick, tiny_xtreme, tmp_path, monkeypatch, ernie_m
) -> None:
    monkeypatch.chdir(tmp_path)
    options = options_of("tydiqa/", tiny_xtreme, quick)
    code, out, err = ernie_m("fit", "--config", "tydiqa/transfer_base", *options, "--checkpoint.monitor=val/en/f1")
    assert code == 2
    assert "checkpoint.monitor is 'val/en/f1', but there are no validation data; name some, or set it to null" in err
    code, out, err = ernie_m("fit", "--config", "tydiqa/transfer_base", *options)
    assert code == 0, err
    (run,) = (tmp_path / "runs" / "tydiqa" / "transfer_base").iterdir()
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert list(results["test"]["en"])[:3] == ["f1", "exact_match", "examples"]
    assert results["test"]["en"]["examples"] == 8
    assert "checkpoint that counts: checkpoints/last.ckpt" in out
    code, _, err = ernie_m("validate", run)
    assert code == 2
    assert "There are no data for 'validation'; name some with validation_files" in err
    code, out, err = ernie_m("report", "--suite", "xtreme", run)
    assert code == 0, err
    assert "TyDiQA: over other languages than the benchmark's 9: not in the mean" in out
