"""Labels by the dozen, numbers, weights and temperatures: from a CSV through the command to what an export says."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats
from sklearn import metrics
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

WORDS = {"glad": "happy", "angry": "fool", "sad": "tears"}


def rows_of(count: int, seed: int) -> list[dict[str, Any]]:
    """Texts of which the words say the labels, and as many more of these as the number says."""
    random, rows = np.random.default_rng(seed), []
    for _ in range(count):
        labels = [name for name in WORDS if random.random() < 0.4]
        text = " ".join(["the", *(WORDS[name] for name in labels), "day"])
        rows.append({"text": text, "labels": ", ".join(labels), "number": 1.5 * len(labels) - 1.0} | {
            name: int(name in labels) for name in WORDS
        })  # fmt: skip
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def options(quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of a short run on a CSV in the current folder, which is empty but for it."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train.csv", rows_of(300, 0))
    write(tmp_path / "test.csv", rows_of(60, 1))
    kept = [
        one for one in quick
        if not any(word in one for word in ("languages", "data.path", "from_scratch", "epochs", "interval"))
    ]  # fmt: skip
    return [
        *kept, "--data.train_files={en: train.csv}", "--data.test_files={en: test.csv}", "--data.first_column=text",
        "--data.second_column=null", "--data.max_length=32", "--model.learning_rate=3e-3", "--model.layer_decay=1.0",
        "--trainer.max_epochs=4", "--run.name=tried",
    ]  # fmt: skip


def the_run() -> Path:
    (run,) = Path("runs/tried").iterdir()
    return run


def test_several_labels(options: list[str], ernie_m) -> None:
    code, out, err = ernie_m("fit", "--config", "custom/text_multi_label", *options)
    assert code == 0, err
    assert re.search("language +validate +test +test micro_f1 +test exact_match +examples", out)
    run = the_run()
    table = pq.read_table(run / "predictions" / "test" / "en.parquet").to_pydict()
    known, taken = ([[name in row for name in WORDS] for row in table[key]] for key in ("labels", "predictions"))
    scores = json.loads((run / "results.json").read_text(encoding="utf-8"))["test"]["en"]
    for name in ("macro", "micro"):
        wanted = metrics.f1_score(known, taken, average=name, zero_division=0)
        assert scores[f"{name}_f1"] == pytest.approx(wanted, abs=1e-6)
    assert scores["macro_f1"] > scores["chance"] + 0.1
    # The names of single columns are the labels, whatever stands between them elsewhere.
    code, again, err = ernie_m(
        "test", run, "--data.label_columns=[glad, angry, sad]", "--data.label_names=null", "--run.directory=again"
    )
    assert code == 0, err
    assert f"{100 * scores['macro_f1']:.2f}  {100 * scores['micro_f1']:.2f}" in re.sub(" +", "  ", again)

    network = AutoModelForSequenceClassification.from_pretrained(run / "export")
    assert network.config.problem_type == "multi_label_classification"
    thresholds = network.config.label_thresholds
    # Those of the checkpoint that counts, not of the last validation.
    tested = [[table[f"probability_{name}"][row] >= thresholds[name] for name in WORDS] for row in range(60)]
    assert tested == taken
    assert set(thresholds) == set(WORDS)
    classify = pipeline("text-classification", network, tokenizer=AutoTokenizer.from_pretrained(run / "export"))
    (found,) = classify(["the happy fool day"], top_k=None)
    code, _, err = ernie_m("predict", run / "export", "--input", "test.csv", "--output", "out.jsonl")
    assert code == 0, err
    rows = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["predictions"] for row in rows] == table["predictions"]
    row = next((row for row in rows if row["text"] == "the happy fool day"), None)
    assert row is not None
    for one in found:
        assert one["score"] == pytest.approx(row[f"probability_{one['label']}"], abs=1e-5)
        assert (one["score"] >= thresholds[one["label"]]) == (one["label"] in row["predictions"])
    assert "label_thresholds" in (run / "export" / "README.md").read_text(encoding="utf-8")


def test_a_number(options: list[str], ernie_m) -> None:
    words = ["--data.label_column=number", "--data.validation_share=0.2", "--model.weight_decay=0.01"]
    code, _, err = ernie_m("fit", "--config", "custom/text_regression", *options, *words)
    assert code == 0, err
    run = the_run()
    assert "number from -1 to 3.5, mean" in (run / "log.txt").read_text(encoding="utf-8")
    table = pq.read_table(run / "predictions" / "test" / "en.parquet").to_pydict()
    scores = json.loads((run / "results.json").read_text(encoding="utf-8"))["test"]["en"]
    assert scores["pearson"] == pytest.approx(stats.pearsonr(table["label"], table["prediction"])[0], abs=1e-6)
    assert scores["spearman"] == pytest.approx(stats.spearmanr(table["label"], table["prediction"])[0], abs=1e-6)
    assert scores["pearson"] > 0.5
    network = AutoModelForSequenceClassification.from_pretrained(run / "export")
    assert (network.config.problem_type, network.config.id2label) == ("regression", {0: "number"})
    code, _, err = ernie_m("predict", run / "export", "--input", "test.csv", "--output", "out.csv")
    assert code == 0, err
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    with Path("out.csv").open(encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    with torch.no_grad():
        wanted = network(**tokenizer(first["text"], return_tensors="pt")).logits.item()
    assert float(first["prediction"]) == pytest.approx(wanted, abs=1e-5)


def test_weights_and_temperature(options: list[str], ernie_m) -> None:
    words = ["--data.label_column=sad", "--model.class_weights=balanced", "--model.temperature_scaling=true"]
    code, out, err = ernie_m("fit", "--config", "custom/text_classification", *options, *words)
    assert code == 0, err
    assert "kept: checkpoints/best.ckpt" in out
    run = the_run()
    assert re.search(r"class weights: 0 0\.\d+, 1 1\.\d+", (run / "log.txt").read_text(encoding="utf-8"))
    table = pq.read_table(run / "predictions" / "test" / "en.parquet")
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    temperature = json.loads(state["network_config"])["calibration_temperature"]
    assert temperature != 1
    # The export has it in its weights: everybody who loads it gets the probabilities of the run.
    network = AutoModelForSequenceClassification.from_pretrained(run / "export")
    assert not hasattr(network.config, "calibration_temperature")
    kept = state["state_dict"]["network.classifier.weight"]
    torch.testing.assert_close(network.classifier.weight, kept / temperature)
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    with torch.no_grad():
        logits = network(**tokenizer("the tears day", return_tensors="pt")).logits
    row = [row["text"] for row in rows_of(60, 1)].index("the tears day")
    torch.testing.assert_close(logits.softmax(-1)[0, 1].item(), table["probability_1"][row].as_py(), atol=1e-5, rtol=0)
    code, _, err = ernie_m("fit", "--config", "custom/text_classification", *options, "--data.label_column=sad",
                           "--model.class_weights={mad: 2}")  # fmt: skip
    assert code == 2
    assert "class_weights names 'mad'; the labels are 0, 1" in err


def test_a_quick_run_says_what_it_leaves_out(options: list[str], ernie_m) -> None:
    """Few are validated on, by one option for the interval; nothing is kept but the export, which is then the run."""
    words = ["--data.label_column=sad", "--data.max_validation_examples=20", "--run.keep_checkpoints=false"]
    code, out, err = ernie_m(
        "fit", "--config", "custom/text_classification", *options, *words, "--trainer.val_check_interval=60"
    )
    assert code == 0, err
    assert re.search("removed, as run.keep_checkpoints is false: checkpoints/best.ckpt [0-9.]+ MB, ", out)
    run = the_run()
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert [entry["step"] for entry in results["history"]] == [60, 120]
    assert (results["validate"]["en"]["examples"], results["test"]["en"]["examples"]) == (20, 60)
    assert list((run / "checkpoints").iterdir()) == []
    code, again, err = ernie_m("test", run, "--run.directory=again")
    assert code == 0, err
    assert f"{100 * results['test']['en']['accuracy']:.2f}" in again
    code, _, err = ernie_m("fit", run)
    assert code == 2
    assert "no checkpoints/last.ckpt to continue from" in err
    command = ["fit", "--config", "custom/text_classification", *options, *words, "--trainer.val_check_interval=200"]
    with pytest.warns(UserWarning, match="none of the 136 steps is validated, so that val/accuracy chooses nothing"):
        code, out, err = ernie_m(*command)
    assert code == 0, err
    assert "the last step, as nothing was validated" in out
