"""The command on several processes, and with other backbones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pyarrow import parquet
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("fragment", ["trainer/ddp_cpu", "trainer/fsdp_cpu"])
def test_two_processes_share_one_run_folder_and_score_each_example_once(
    fragment: str, quick: list[str], tmp_path: Path
) -> None:
    options = [word for word in quick if not word.startswith(("--trainer.devices", "--trainer.accelerator"))]
    command = [sys.executable, "-m", "ernie_m_recipes", "fit", "--config", "xnli/smoke", "--config", fragment, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, f"--run.directory={tmp_path}"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.rglob("run.json")
    run = record.parent
    assert json.loads(record.read_text(encoding="utf-8"))["devices"]["processes"] == 2
    assert [path.name for path in run.parent.iterdir()] == [run.name]
    for language in ("de", "en", "zh"):
        table = parquet.read_table(run / "predictions" / "test" / f"{language}.parquet")
        assert table.column("example_id").to_pylist() == list(range(12))
    assert done.stdout.count("checkpoint that counts") == 1
    assert AutoModelForSequenceClassification.from_pretrained(run / "export").config.num_labels == 3


def test_another_family_is_exported_plainly(
    quick: list[str], tiny_bert: Path, tiny_xnli: Path, tmp_path: Path, ernie_m
) -> None:
    options = [*quick, f"--model.backbone={tiny_bert}", f"--run.directory={tmp_path}", "--trainer.max_epochs=1"]
    code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", "--config", "checkpoint/last", *options)
    assert code == 0, err
    (export,) = tmp_path.rglob("export")
    assert not list(export.glob("*.py"))
    assert type(AutoModelForSequenceClassification.from_pretrained(export)).__name__ == "BertForSequenceClassification"
    assert AutoTokenizer.from_pretrained(export)("peace").input_ids
    results = json.loads((export.parent / "results.json").read_text(encoding="utf-8"))
    assert results["checkpoint"] == {"path": "checkpoints/last.ckpt", "rule": "the last step", "step": 6, "value": None}
    # transformers gives a BERT the segment ids of a pair; the run must have scored the same network on the same input.
    table = parquet.read_table(export.parent / "predictions" / "test" / "en.parquet").to_pylist()
    rows = parquet.read_table(next((tiny_xnli / "en").glob("test-*"))).to_pylist()
    classify = pipeline("text-classification", str(export), top_k=None)
    for known, row in zip(table, rows, strict=True):
        scores = {
            one["label"]: one["score"] for one in classify({"text": row["premise"], "text_pair": row["hypothesis"]})
        }
        assert scores == pytest.approx({name: known[f"probability_{name}"] for name in scores}, abs=1e-5)


def test_a_fine_tuned_folder_is_scored_without_training_its_labels_matched_by_name(
    quick: list[str], tiny_checkpoint: Path, tmp_path: Path, ernie_m
) -> None:
    folder, ours = tmp_path / "fine_tuned", ["entailment", "neutral", "contradiction"]
    tables = []
    for names in (ours, ["contradiction", "entailment", "neutral"]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint, num_labels=3)
        order = [ours.index(name) for name in names]
        with torch.no_grad():
            model.classifier.weight.copy_(50 * model.classifier.weight[order])
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: number for number, name in enumerate(names)}
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny_checkpoint).save_pretrained(folder)
        options = [*quick, f"--model.backbone={folder}", f"--run.directory={tmp_path / names[0]}"]
        code, _, err = ernie_m("test", "--config", "xnli/transfer_large", *options)
        assert code == 0, err
        (record,) = (tmp_path / names[0]).rglob("run.json")
        tables.append(parquet.read_table(record.parent / "predictions" / "test" / "en.parquet").to_pydict())
    for name in ours:
        assert tables[0][f"probability_{name}"] == pytest.approx(tables[1][f"probability_{name}"], abs=1e-6)
    assert tables[0]["prediction"] == tables[1]["prediction"]
    assert tables[0]["probability_neutral"] != pytest.approx(tables[0]["probability_entailment"], abs=1e-2)


def test_an_unknown_label_is_refused_with_both_lists(
    quick: list[str], tiny_checkpoint: Path, tmp_path: Path, ernie_m
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint, num_labels=3)
    model.config.id2label = {0: "yes", 1: "no", 2: "perhaps"}
    model.config.label2id = {"yes": 0, "no": 1, "perhaps": 2}
    model.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "other")
    options = [*quick, f"--model.backbone={tmp_path / 'other'}", f"--run.directory={tmp_path / 'runs'}"]
    code, _, err = ernie_m("test", "--config", "xnli/transfer_large", *options)
    assert code == 2
    for name in ("perhaps", "contradiction"):
        assert name in err
    assert not (tmp_path / "runs").exists()
