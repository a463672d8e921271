"""A whole run through the real command, on tiny data: what it leaves behind, and what can be done with that."""

import csv
import datetime
import json
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pyarrow
import pyarrow.compute as pc
import pytest
import torch
import yaml
from pyarrow import parquet
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from datamodules.base import TaskDataModule
from ernie_m_recipes.__main__ import main
from lightning_modules import SequenceClassification

INTERRUPT = """
import os
from lightning.pytorch import Callback

class Interrupt(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 7 and "INTERRUPT" in os.environ:
            raise KeyboardInterrupt
"""


def only_run(directory: Path) -> Path:
    (record,) = directory.rglob("run.json")
    return record.parent


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(quick: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs")
    options = ["--model.learning_rate=2e-3", f"--run.directory={directory}"]
    assert main(["fit", "--config", "xnli/transfer_base", *quick, *options]) == 0
    return only_run(directory)


def test_the_run_folder_is_named_after_recipe_and_seed(run: Path) -> None:
    assert run.parts[-3:-1] == ("xnli", "transfer_base")
    assert run.name.startswith("1-")
    assert {path.name for path in run.iterdir()} >= {
        "config.yaml", "run.json", "results.json", "log.txt", "metrics.csv", "checkpoints", "predictions", "export",
        "tokenizer",
    }  # fmt: skip
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_the_record_names_versions_data_and_the_checkpoint_that_counts(run: Path) -> None:
    record = read(run / "run.json")
    assert record["status"] == "finished"
    assert record["recipe"] == "xnli/transfer_base"
    # A CUDA build's own name for its version, `torch.__version__`, says more than the distribution's.
    assert record["versions"]["torch"] == metadata.version("torch")
    assert record["versions"]["sentencepiece"]
    assert record["data"].keys() == {f"{split}/{language}" for split, language in (
        ("train", "en"), ("validation", "de"), ("validation", "en"), ("test", "de"), ("test", "en"), ("test", "zh"),
    )}  # fmt: skip
    assert record["checkpoint"]["rule"] == "highest val/en/accuracy"
    history = read(run / "results.json")["history"]
    assert [entry["step"] for entry in history] == [3, 6, 9, 12]
    best = max(entry["results"]["en"]["accuracy"] for entry in history)
    first = next(entry["step"] for entry in history if entry["results"]["en"]["accuracy"] == best)
    assert (record["checkpoint"]["step"], record["checkpoint"]["value"]) == (first, pytest.approx(best))


def test_scores_follow_from_the_predictions_that_were_kept(run: Path) -> None:
    results = read(run / "results.json")
    for stage in ("test",):
        for language in ("de", "en", "zh"):
            table = parquet.read_table(run / "predictions" / stage / f"{language}.parquet")
            assert table.column("example_id").to_pylist() == list(range(12))
            right = pc.sum(pc.equal(table.column("label"), table.column("prediction"))).as_py()
            assert results[stage][language]["accuracy"] == pytest.approx(right / 12)
        accuracies = [results[stage][language]["accuracy"] for language in ("de", "en", "zh")]
        assert results[stage]["mean"]["accuracy"] == pytest.approx(sum(accuracies) / 3)


def test_the_table_of_a_run_is_printed_plain_into_a_pipe(run: Path, ernie_m) -> None:
    code, out, _ = ernie_m("test", run, f"--run.directory={run.parent / 'again'}")
    assert code == 0
    results = read(run / "results.json")["test"]
    lines = [line.split() for line in out.splitlines()]
    for language in ("de", "en", "zh"):
        assert [language, f"{100 * results[language]['accuracy']:.2f}", "12"] in lines
    assert ["mean", f"{100 * results['mean']['accuracy']:.2f}", "36"] in lines


@pytest.mark.parametrize("target", ["checkpoints/best.ckpt", "export"])
def test_a_checkpoint_and_an_export_score_as_the_run_did(run: Path, target: str, tmp_path: Path, ernie_m) -> None:
    code, _, err = ernie_m("test", run / target, f"--run.directory={tmp_path}")
    assert code == 0, err
    again = only_run(tmp_path)
    for language in ("de", "en", "zh"):
        before = parquet.read_table(run / "predictions" / "test" / f"{language}.parquet")
        after = parquet.read_table(again / "predictions" / "test" / f"{language}.parquet")
        for name in before.column_names:
            old, new = before.column(name).to_pylist(), after.column(name).to_pylist()
            assert new == (pytest.approx(old, abs=1e-6) if isinstance(old[0], float) else old)


def test_config_yaml_is_a_recipe_that_gives_the_same_settings(run: Path, ernie_m) -> None:
    code, out, err = ernie_m("fit", "--config", run / "config.yaml", "--print_config")
    assert code == 0, err
    printed = yaml.safe_load(out)
    saved = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert {key: printed[key] for key in saved} == saved
    assert saved["data"]["init_args"]["tokenizer"] == saved["model"]["init_args"]["backbone"]


@pytest.mark.parametrize(
    ("suffix", "other"), [(".jsonl", ".jsonl"), (".csv", ".csv"), (".parquet", ".csv"), (".tsv", ".jsonl")]
)
def test_predict_reads_and_writes_every_format(
    run: Path, tiny_xnli: Path, suffix: str, other: str, tmp_path: Path, ernie_m
) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{other}"
    table = parquet.read_table(next((tiny_xnli / "en").glob("test-*"))).drop_columns("label")
    rows = table.to_pylist()
    if suffix == ".jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif suffix == ".parquet":
        parquet.write_table(table, source)
    else:
        with source.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    code, out, err = ernie_m("predict", run, "--input", source, "--output", target)
    assert code == 0, err
    assert "12 rows" in out
    if other == ".jsonl":
        written = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    else:
        with target.open(encoding="utf-8", newline="") as file:
            written = list(csv.DictReader(file))
    expected = parquet.read_table(run / "predictions" / "test" / "en.parquet").to_pylist()
    for row, given, known in zip(written, rows, expected, strict=True):
        assert (row["premise"], row["hypothesis"]) == (given["premise"], given["hypothesis"])
        assert row["prediction"] == known["prediction"]
        for label in ("entailment", "neutral", "contradiction"):
            assert float(row[f"probability_{label}"]) == pytest.approx(known[f"probability_{label}"], abs=1e-5)


def test_predict_reads_arrow_and_adds_the_columns_that_it_announced(
    run: Path, tiny_xnli: Path, tmp_path: Path, ernie_m
) -> None:
    source, target = tmp_path / "in.arrow", tmp_path / "out.jsonl"
    table = parquet.read_table(next((tiny_xnli / "en").glob("test-*"))).drop_columns("label")
    table = table.append_column("day", pyarrow.array([datetime.date(2026, 2, 3)] * 12))
    with pyarrow.OSFile(str(source), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    code, _, err = ernie_m("predict", run, "--input", source, "--output", target)
    assert code == 0, err
    written = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [row["premise"] for row in written] == table.column("premise").to_pylist()
    labels = ["entailment", "neutral", "contradiction"]
    announced = SequenceClassification("unused", label_names=labels).prediction_columns
    assert list(written[0]) == ["premise", "hypothesis", "day", *announced]
    assert written[0]["day"] == "2026-02-03"


@pytest.mark.parametrize(
    ("name", "content", "output", "said"),
    [
        ("in.csv", b"premise,hypothesis,prediction\na,b,c\n", "out.csv", "'prediction', which the predictions need"),
        ("in.csv", b"premise,hypothesis,probability_neutral\na,b,c\n", "out.csv", "'probability_neutral', which"),
        ("in.csv", b"premise,premise,hypothesis\na,b,c\n", "out.csv", "two columns are called 'premise'"),
        ("in.jsonl", b'{"premise": "a", "hypothesis": "b", "meta": {}}\n', "out.parquet", "column 'meta'"),
        ("in.arrow", b"premise,hypothesis\na,b\n", "out.csv", "cannot be read as Arrow"),
    ],
)
def test_what_cannot_be_written_is_refused_before_predicting(
    name: str, content: bytes, output: str, said: str, run: Path, tmp_path: Path, monkeypatch, ernie_m
) -> None:
    monkeypatch.setattr(TaskDataModule, "prepare_data", lambda _: pytest.fail("the work has begun"))
    (tmp_path / name).write_bytes(content)
    code, _, err = ernie_m("predict", run, "--input", tmp_path / name, "--output", tmp_path / output)
    assert code == 2, err
    assert said in err
    assert not (tmp_path / output).exists()


def test_output_needs_an_input(run: Path, tmp_path: Path, ernie_m) -> None:
    code, _, err = ernie_m("predict", run, "--output", tmp_path / "out.csv")
    assert code == 2
    assert "name it with --input" in err


def test_the_export_gives_what_the_trained_module_gives(run: Path) -> None:
    from lightning_modules import networks

    module = SequenceClassification.load_from_checkpoint(str(run / "checkpoints" / "best.ckpt")).eval()
    exported = AutoModelForSequenceClassification.from_pretrained(run / "export")
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    batch = tokenizer(["peace and water", "law"], ["no peace", "school"], padding=True, return_tensors="pt")
    with torch.no_grad():
        wanted = module.network(**networks.network_inputs(module.network, batch)).logits
        found = exported(**batch).logits
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    assert exported.config.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}


def test_pipelines_of_transformers_run_the_export(run: Path) -> None:
    folder = str(run / "export")
    (classified,) = pipeline("text-classification", folder)([{"text": "peace and water", "text_pair": "no peace"}])
    assert classified["label"] in ("entailment", "neutral", "contradiction")
    zero_shot = pipeline("zero-shot-classification", folder)("peace and water", candidate_labels=["law", "school"])
    assert sum(zero_shot["scores"]) == pytest.approx(1)
    (vectors,) = pipeline("feature-extraction", folder)("peace and water")
    assert len(vectors[0]) == 32


def test_export_writes_the_checkpoint_that_counts_and_never_over_something(run: Path, tmp_path: Path, ernie_m) -> None:
    target = tmp_path / "out"
    code, _, err = ernie_m("export", run, target)
    assert code == 0, err
    assert (target / "model.safetensors").read_bytes() == (run / "export" / "model.safetensors").read_bytes()
    assert read(target / "export.json")["versions"]["sentencepiece"]
    assert "| mean |" in (target / "README.md").read_text(encoding="utf-8")
    code, _, err = ernie_m("export", run, target)
    assert code == 2
    assert "exists" in err


def test_a_run_is_reported_beside_the_card(run: Path, ernie_m) -> None:
    code, out, err = ernie_m("report", run)
    assert code == 0, err
    accuracy = 100 * read(run / "results.json")["test"]["zh"]["accuracy"]
    (line,) = (line for line in out.splitlines() if line.startswith("zh "))
    assert line.split() == ["zh", f"{accuracy:.2f}", "77.4", f"{accuracy - 77.4:+.2f}"]
    assert "its mean is over 15 languages, this one over 3" in out
    # What was given as options, but for where and how it was computed: `quick`, and the learning rate.
    (changed,) = (
        line.removeprefix("changed from the recipe: ") for line in out.splitlines() if line.startswith("changed")
    )
    assert {change.partition(": ")[0] for change in changed.split("; ")} == {
        "model.init_args.backbone", "model.init_args.learning_rate", "data.init_args.tokenizer",
        "data.init_args.validation_languages", "data.init_args.test_languages", "data.init_args.global_batch_size",
        "trainer.max_epochs", "trainer.val_check_interval", "trainer.precision",
    }  # fmt: skip
    assert "model.init_args.learning_rate: 5e-05 -> 0.002" in changed


@pytest.mark.parametrize("command", ["fit", "test"])
def test_help_shows_the_options_of_a_run_with_its_values(command: str, run: Path, ernie_m) -> None:
    code, out, err = ernie_m(command, run, "--help")
    assert code == 0, err
    assert f"Options of {run}" in " ".join(out.split())
    assert "--model.learning_rate 0.002" in out
    assert "--data.test_languages" in out


def test_a_run_is_trimmed_to_languages_of_its_data(
    run: Path, tiny_xnli: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, ernie_m
) -> None:
    small = tmp_path / "small"
    with caplog.at_level("INFO"):
        code, out, err = ernie_m("trim", run, small, "--languages", "de", "zh")
    assert code == 0, err
    # Validation and test pairs of German, test pairs of Chinese.
    assert "by 72 texts (0 tokens unknown)" in out
    assert f"zh: texts of {tiny_xnli}" in caplog.text
    texts = parquet.read_table(tiny_xnli / "zh" / "test-00000-of-00001.parquet").column("premise").to_pylist()
    logits = []
    for folder in (run / "export", small):
        network, tokenizer = (
            AutoModelForSequenceClassification.from_pretrained(folder),
            AutoTokenizer.from_pretrained(folder),
        )
        with torch.no_grad():
            logits.append(network(**tokenizer(texts, padding=True, return_tensors="pt")).logits)
    assert len(tokenizer) < 500
    assert "languages: de, zh" in (small / "README.md").read_text(encoding="utf-8")
    (trimmed,) = read(small / "export.json")["trimmed"]
    assert trimmed["languages"] == ["de", "zh"]
    assert trimmed["from"] == f"{run.name}/export"
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=1e-6)
    code, _, err = ernie_m("trim", run, tmp_path / "other", "--languages", "fr")
    assert code == 2
    assert "no data in 'fr'" in err
    assert not (tmp_path / "other").exists()
    code, _, err = ernie_m("trim", run, tmp_path / "other")
    assert code == 2
    assert "--text" in err


def test_export_takes_a_checkpoint_by_a_relative_path(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ernie_m
) -> None:
    monkeypatch.chdir(run)
    code, _, err = ernie_m("export", "checkpoints/best.ckpt", tmp_path / "best")
    assert code == 0, err
    assert "| mean |" in (tmp_path / "best" / "README.md").read_text(encoding="utf-8")
    code, _, err = ernie_m("export", "checkpoints/last.ckpt", tmp_path / "last")
    assert code == 0, err
    # Its scores are not known: those of results.json are the other checkpoint's.
    assert "| mean |" not in (tmp_path / "last" / "README.md").read_text(encoding="utf-8")


def test_a_run_that_goes_on_with_changes_is_described_by_them(run: Path, tmp_path: Path, ernie_m) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    change = ("--model.learning_rate=1e-3", "--trainer.max_epochs=3", "--resume.allow_changes=true")
    code, _, err = ernie_m("fit", copy, *change)
    assert code == 0, err
    assert (
        yaml.safe_load((copy / "config.yaml").read_text(encoding="utf-8"))["model"]["init_args"]["learning_rate"]
        == 1e-3
    )
    code, _, err = ernie_m("fit", copy)
    assert code == 0, err
    assert "model.init_args.learning_rate: 0.002 -> 0.001" in read(copy / "run.json")["changes"]


def test_a_refused_change_leaves_a_finished_run_as_it_was(run: Path, tmp_path: Path, ernie_m) -> None:
    """Also where that is found out late, by Lightning, or by an optimiser that the checkpoint does not fit."""
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    code, _, err = ernie_m("fit", copy, "--trainer.max_epochs=1", "--resume.allow_changes=true")
    assert code == 2
    assert "last.ckpt: 2 epochs were trained already, and trainer.max_epochs is 1" in err
    code, _, err = ernie_m(
        "fit", copy, "--model.layer_decay=1.0", "--trainer.max_epochs=3", "--resume.allow_changes=true"
    )
    assert code == 2
    assert "its optimiser has other groups" in err
    before, after = ({path.relative_to(folder): path for path in folder.rglob("*")} for folder in (run, copy))
    assert before.keys() == after.keys()
    for name, path in before.items():
        assert path.is_dir() or path.read_bytes() == after[name].read_bytes(), name
    code, _, err = ernie_m("report", copy)
    assert code == 0, err
    assert "train/en: 48 texts: entailment 16" in (copy / "log.txt").read_text(encoding="utf-8")


def test_an_interrupted_run_continues_to_the_same_result(
    run: Path, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ernie_m
) -> None:
    (tmp_path / "interrupt.py").write_text(INTERRUPT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTERRUPT", "1")
    options = ["--model.learning_rate=2e-3", "--trainer.callbacks+=interrupt.Interrupt", "--trust-classes=interrupt"]
    code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", *quick, *options)
    assert code == 130
    stopped = only_run(tmp_path / "runs")
    assert f"ernie-m fit {stopped}" in err
    assert read(stopped / "run.json")["status"] == "interrupted"
    assert torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    monkeypatch.delenv("INTERRUPT")
    code, _, err = ernie_m("fit", stopped)
    assert code == 2
    assert "--trust-classes interrupt.Interrupt" in err
    code, _, err = ernie_m("fit", stopped, "--trust-classes=interrupt")
    assert code == 0, err
    assert (stopped / "metrics-1.csv").is_file()
    assert (stopped / "metrics.csv").is_file()
    whole = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    continued = torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(whole[name], continued[name]) for name in whole)
    expected, found = read(run / "results.json"), read(stopped / "results.json")
    assert found["test"] == expected["test"]
    assert found["history"] == expected["history"]


def test_a_changed_setting_that_changes_the_result_is_refused(run: Path, tmp_path: Path, ernie_m) -> None:
    last = run / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    code, _, err = ernie_m("fit", run, "--model.learning_rate=1e-3", "--data.max_length=64", "--data.num_workers=1")
    assert code == 2
    assert "model.init_args.learning_rate: 0.002 -> 0.001" in err
    assert "data.init_args.max_length: 256 -> 64" in err
    assert "num_workers" not in err
    assert "Traceback" not in err
    assert last.read_bytes() == before


def test_a_run_whose_folders_moved_goes_on(run: Path, tiny_checkpoint: Path, tmp_path: Path, ernie_m) -> None:
    copy, backbone, cache = tmp_path / "copy", tmp_path / "backbone", tmp_path / "cache"
    shutil.copytree(run, copy)
    text = (copy / "config.yaml").read_text(encoding="utf-8")
    (copy / "config.yaml").write_text(text.replace(str(tiny_checkpoint), str(backbone)), encoding="utf-8")
    code, _, err = ernie_m("fit", copy)
    assert code == 2
    assert str(backbone) in err
    moved = tmp_path / "moved"
    shutil.copytree(tiny_checkpoint, moved)
    options = f"--model.backbone={moved}", f"--data.tokenizer={moved}", f"--data.cache_dir={cache}"
    code, _, err = ernie_m("fit", copy, *options)
    assert code == 0, err
    assert read(copy / "run.json")["changes"] == []
    assert read(copy / "results.json")["test"] == read(run / "results.json")["test"]


def test_another_network_or_tokenizer_is_no_moved_folder(
    run: Path, tiny_checkpoint: Path, tmp_path: Path, ernie_m
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_checkpoint, other)
    config = read(other / "config.json")
    (other / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}), encoding="utf-8")
    code, _, err = ernie_m("fit", run, f"--model.backbone={other}")
    assert code == 2
    assert f"model.init_args.backbone: {tiny_checkpoint} -> {other}" in err
    assert "tokenizer:" not in err
    (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
    settings = read(other / "tokenizer_config.json")
    (other / "tokenizer_config.json").write_text(json.dumps(settings | {"segmentation": "raw"}), encoding="utf-8")
    options = f"--model.backbone={other}", f"--data.tokenizer={other}", f"--data.cache_dir={tmp_path}"
    code, _, err = ernie_m("fit", run, *options)
    assert code == 2
    assert "tokenizer" in err
    assert "not those of the checkpoint" in err
    code, _, err = ernie_m("fit", run, "--model.backbone=someone/else")
    assert code == 2
    assert "someone/else" in err


def test_a_new_classifier_may_be_scored_before_it_is_trained(quick: list[str], tmp_path: Path, ernie_m) -> None:
    options = [*quick, f"--run.directory={tmp_path}", "--run.evaluate_before_fit=true", "--trainer.max_epochs=1"]
    code, out, err = ernie_m("fit", "--config", "xnli/transfer_base", *options)
    assert code == 0, err
    assert "random" not in err
    results = read(only_run(tmp_path) / "results.json")
    assert results["before"].keys() == results["test"].keys()
    assert "Before training" in out


def test_a_change_that_is_asked_for_takes_effect(run: Path, quick: list[str], tmp_path: Path, ernie_m) -> None:
    arguments = ["fit", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "last.ckpt"]
    options = [
        "--resume.allow_changes=true",
        "--model.learning_rate=1e-3",
        "--trainer.max_epochs=3",
        f"--run.directory={tmp_path}",
    ]
    code, _, err = ernie_m(*arguments, *options)
    assert code == 0, err
    new = only_run(tmp_path)
    record = read(new / "run.json")
    assert "model.init_args.learning_rate: 0.002 -> 0.001" in record["changes"]
    state = torch.load(new / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 18
    assert max(group["initial_lr"] for group in state["optimizer_states"][0]["param_groups"]) == pytest.approx(1e-3)


def test_devices_and_workers_may_change(run: Path, tmp_path: Path, ernie_m) -> None:
    arguments = ["fit", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "last.ckpt"]
    code, _, err = ernie_m(
        *arguments,
        "--data.num_workers=1",
        "--data.micro_batch_size=8",
        "--trainer.logger=false",
        f"--run.directory={tmp_path}",
    )
    assert code == 0, err
    assert read(only_run(tmp_path) / "run.json")["changes"] == []


def test_classes_of_ones_own_need_not_be_those_of_the_project(tmp_path: Path, monkeypatch, ernie_m) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_classes.py").write_text(
        "from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel\n"
        "class Own(BoringModel):\n"
        "    def validation_step(self, batch, batch_idx):\n"
        "        self.log('val/accuracy', self.step(batch))\n"
        "class OwnData(BoringDataModule):\n"
        "    label_names = ['a']\n",
        encoding="utf-8",
    )
    (tmp_path / "own.yaml").write_text(
        "seed_everything: 1\n"
        "trainer: {accelerator: cpu, max_steps: 3, precision: 32-true}\n"
        "data: {class_path: own_classes.OwnData}\n"
        "model: {class_path: own_classes.Own}\n"
        "run: {name: own, test_after_fit: false, export: false}\n",
        encoding="utf-8",
    )
    code, out, err = ernie_m("fit", "--config", "own.yaml")
    assert code == 2
    assert "own.yaml, line 3: own_classes.OwnData" in err
    assert "--trust-classes own_classes.OwnData" in err
    assert "own_classes" not in sys.modules, "it was imported in order to be refused"
    code, out, err = ernie_m("fit", "--config", "own.yaml", "--trust-classes", "own_classes")
    assert code == 0, err
    assert "the last step, step 3" in out
