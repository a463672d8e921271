"""Every mistake in the input gives one clear message and exit code 2, no traceback, and nothing half-written."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
import torch
import yaml
from pyarrow import parquet

from ernie_m_recipes.messages import explain

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def refused(ernie_m, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Call the command in an empty folder; it must refuse, say so in one message, and leave the folder as it was."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)

    def call(*words: object) -> str:
        code, _, err = ernie_m(*words)
        assert code == 2, err
        assert "Traceback" not in err
        assert list(place.rglob("*")) == []
        message = err[err.index("ernie-m: ") :]
        return message

    return call


def test_unknown_names_are_answered_with_close_ones(refused) -> None:
    assert "did you mean xnli/transfer_large" in refused("fit", "--config", "xnli/tranfer_large")
    assert "did you mean xnli/transfer_base" in refused("cat", "transfer_bsae")
    assert "did you mean trainer/fsdp" in refused("fit", "--config", "xnli/smoke", "--config", "trainer/fdsp")
    assert "did you mean export" in refused("exprt")
    assert "no recipe, run folder, checkpoint" in refused("test", "nowhere")
    assert "nowhere.yaml: there is no such file" in refused("fit", "--config", "nowhere.yaml")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--model.learnig_rate=1e-3"], ["--model.learnig_rate on the command line", "did you mean learning_rate"]),
        (["--trainer.max_epoch=3"], ["--trainer.max_epoch", "did you mean trainer.max_epochs"]),
        (["--run.diretory=x"], ["--run.diretory", "did you mean run.directory"]),
        (["--model.learning_rate=fast"], ["learning_rate", "float", "fast"]),
        (["--data.max_length=1.5"], ["max_length", "int", "1.5"]),
        (["--seed_everything=true"], ["seed_everything", "int", "True"]),
        (["--model.schedule=cosine"], ["schedule", "linear", "baidu", "cosine"]),
        (["--data.train_languages=[xx]"], ["'xx'", "XNLI has"]),
        (["--data.max_length=513"], ["513", "512"]),
        (["--data.global_batch_size=0", "--data.micro_batch_size=null"], ["global_batch_size is 0"]),
        (["--trainer.accumulate_grad_batches=2"], ["accumulate_grad_batches is 2", "micro_batch_size"]),
        (["--data.tokenizer=${model.init_args.bacbone}"], ["data.init_args.tokenizer", "bacbone"]),
        (["--checkpoint.monitor=val/xx/accuracy"], ["val/xx/accuracy", "validation is on de, en"]),
        (["--ckpt_path=nowhere.ckpt"], ["nowhere.ckpt: there is no such checkpoint"]),
        (["--data.path=./nowhere"], ["./nowhere"]),
        (["--model.backbone=/nowhere"], ["/nowhere", "folder"]),
        (["--output=x.csv"], ["--output belongs to predict"]),
        (["--trainer.precision=8-mixed"], ["precision", "8-mixed"]),
        (["--data.micro_batch_size=64"], ["micro_batch_size is 64", "global_batch_size 8"]),
        (["--trainer.max_epochs=-1"], ["no end"]),
        (["--trainer.max_epochs=0"], ["trainer.max_epochs is 0, which trains nothing"]),
        (["--trainer.max_steps=0"], ["trainer.max_steps is 0, which trains nothing"]),
        (["--trainer.limit_train_batches=0"], ["trainer.limit_train_batches is 0, which trains nothing"]),
        (["--trainer.barebones=true"], ["trainer.barebones is true"]),
        (["--trainer.strategy=dpp"], ["trainer.strategy is 'dpp'; known are auto", "ddp"]),
        (["--trainer.accelerator=gpus"], ["trainer.accelerator is 'gpus'; known are auto, gpu", "cpu"]),
        (["--ckpt_path=last"], ["--ckpt_path last: there is no such checkpoint"]),
        (
            ['--trainer.logger={"class_path": "lightning.pytorch.loggers.CometLogger"}'],
            ["these settings need a package that is not installed"],
        ),
    ],
)
def test_wrong_options(options: list[str], parts: list[str], quick: list[str], refused) -> None:
    message = refused("fit", "--config", "xnli/smoke", *quick, *options)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("wrong", "right", "parts"),
    [
        ("learnig_rate: 2", "learning_rate: 2", ["line {line}:", "learnig_rate", "did you mean learning_rate"]),
        ("directry: runs", "directory: runs", ["run.directry", "did you mean run.directory"]),
        ("runn:", "run:", ["line", "runn"]),
        ("class_path: datamodules.XNIL", "class_path: datamodules.XNLI", ["XNIL"]),
        ("max_length: long", "max_length: 128", ["line {line}:", "max_length", "int", "long"]),
        ("seed_everything: [", "seed_everything: 1", ["not valid YAML", "line"]),
        ("seed_everything: true", "seed_everything: 1", ["seed_everything", "int"]),
    ],
)
def test_wrong_recipes(wrong: str, right: str, parts: list[str], quick: list[str], refused, tmp_path: Path) -> None:
    text = (ROOT / "recipes" / "xnli" / "smoke.yaml").read_text(encoding="utf-8")
    assert right in text
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text.replace(right, wrong), encoding="utf-8")
    message = refused("fit", "--config", recipe)
    line = text[: text.index(right)].count("\n") + 1
    for part in parts:
        assert part.format(line=line) in message


def test_only_true_and_false_are_truths(ernie_m, tmp_path: Path) -> None:
    """In YAML 1.1 `no`, Norwegian, is one too."""
    text = (ROOT / "recipes" / "custom" / "pair_classification.yaml").read_text(encoding="utf-8")
    changes = {
        "train_files: {en: data/train.en.csv}": "train_files: {no: a.csv, on: b.csv}",
        "label_names: null": "label_names: [yes, no]",
        "active_vocabulary: true": "active_vocabulary: True",
    }
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text, encoding="utf-8")
    words = ["fit", "--config", recipe, "--data.validation_files={off: c.csv}"]
    code, out, err = ernie_m(*words, "--print_config")
    assert code == 0, err
    settings = yaml.safe_load(out)
    data = settings["data"]["init_args"]
    assert data["train_files"] == {"no": "a.csv", "on": "b.csv"}
    assert data["validation_files"] == {"off": "c.csv"}
    assert data["label_names"] == ["yes", "no"]
    assert settings["model"]["init_args"]["active_vocabulary"] is True
    line = text[: text.index("label_names: ")].count("\n") + 1
    for wrong, message in (
        ("[true, false]", f"mine.yaml, line {line}: data: label_names: expected str, got True"),
        ("[a, a]", f"mine.yaml, line {line}: label_names is ['a', 'a']; it must hold two or more different names"),
    ):
        recipe.write_text(text.replace("label_names: [yes, no]", f"label_names: {wrong}"), encoding="utf-8")
        code, _, err = ernie_m("fit", "--config", recipe)
        assert code == 2
        assert message in err
        assert ("write it between quotes" in err) == ("true" in wrong)
    code, _, err = ernie_m("fit", "--config", recipe, "--data.train_files={true: a.csv}", "--data.label_names=[a,b]")
    assert code == 2
    assert "train_files: a language is True, which is no text; write it between quotes" in err


def test_recipes_that_are_no_text(refused, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_bytes(b"seed_everything: 1 # \xff\n")
    assert "not UTF-8" in refused("fit", "--config", recipe)
    recipe.write_text("just words\n", encoding="utf-8")
    assert "holds no settings" in refused("fit", "--config", recipe)


def broken_data(tiny_xnli: Path, folder: Path, table: pyarrow.Table) -> Path:
    """A copy of the data whose English training set is another table."""
    shutil.copytree(tiny_xnli, folder)
    (path,) = (folder / "en").glob("train-*")
    parquet.write_table(table, path)
    return folder


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        (pyarrow.table({"premise": ["a"], "label": [0]}), ["hypothesis", "train"]),
        (pyarrow.table({"premise": ["a"], "hypothesis": ["b"], "label": [7]}), ["unknown label 7", "row 1"]),
        (pyarrow.table({"premise": ["a"], "hypothesis": [3], "label": [0]}), ["hypothesis", "int64"]),
        (pyarrow.table({"premise": ["a"], "hypothesis": ["b"], "label": [0]}).slice(0, 0), ["empty", "en"]),
    ],
)
def test_wrong_data(
    table: pyarrow.Table, parts: list[str], quick: list[str], tiny_xnli: Path, refused, tmp_path: Path
) -> None:
    path = broken_data(tiny_xnli, tmp_path / "data", table)
    message = refused("fit", "--config", "xnli/smoke", *quick, f"--data.path={path}")
    for part in parts:
        assert part in message


def test_a_language_that_the_data_lack(quick: list[str], tiny_xnli: Path, refused, tmp_path: Path) -> None:
    path = tmp_path / "data"
    shutil.copytree(tiny_xnli, path)
    shutil.rmtree(path / "de")
    message = refused("fit", "--config", "xnli/smoke", *quick, f"--data.path={path}")
    assert "de" in message
    assert "validation" in message


def test_a_checkpoint_that_is_none_or_does_not_fit(quick: list[str], refused, tmp_path: Path) -> None:
    words = tmp_path / "words.ckpt"
    words.write_text("no checkpoint", encoding="utf-8")
    assert "words.ckpt" in refused("test", "--config", "xnli/smoke", *quick, f"--ckpt_path={words}")
    assert "words.ckpt" in refused("test", words)
    assert "words.ckpt" in refused("export", words, tmp_path / "out")
    assert "does not fit" in str(explain(RuntimeError("Error(s) in loading state_dict for X:\n\tsize mismatch for y")))


def test_a_plain_folder_needs_a_recipe(tiny_checkpoint: Path, refused) -> None:
    assert f"--model.backbone {tiny_checkpoint}" in refused("test", tiny_checkpoint)


def test_prediction_checks_its_files_first(tiny_checkpoint: Path, refused) -> None:
    assert "there is no such file" in refused(
        "predict", "--config", "xnli/smoke", "--input", "none.csv", "--output", "x.csv"
    )
    assert "unknown format" in refused("predict", "--config", "xnli/smoke", "--output", "x.docx")
    assert "there is no folder" in refused("predict", "--config", "xnli/smoke", "--output", "away/x.csv")


def test_cp_never_overwrites(ernie_m, tmp_path: Path) -> None:
    target = tmp_path / "mine.yaml"
    assert ernie_m("cp", "xnli/smoke", target)[0] == 0
    original = (ROOT / "recipes" / "xnli" / "smoke.yaml").read_text(encoding="utf-8")
    copied = target.read_text(encoding="utf-8")
    # Its header has its own command.
    assert f"ernie-m fit --config {target}" in copied
    assert copied == original.replace("--config xnli/smoke", f"--config {target}", 1)
    target.write_text("# edited\n", encoding="utf-8")
    code, _, err = ernie_m("cp", "xnli/smoke", target)
    assert (code, target.read_text(encoding="utf-8")) == (2, "# edited\n")
    assert "exists" in err
    (tmp_path / "link.yaml").symlink_to(tmp_path / "away.yaml")
    assert ernie_m("cp", "xnli/smoke", tmp_path / "link.yaml")[0] == 2
    assert not (tmp_path / "away.yaml").exists()


def test_a_full_disk_leaves_the_checkpoint_before(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ernie_m
) -> None:
    real, count = torch.save, [0]

    def save(content: object, file: object, *arguments: object, **options: object) -> None:
        count[0] += 1
        if count[0] > 2:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(content, file, *arguments, **options)

    monkeypatch.setattr(torch, "save", save)
    code, _, err = ernie_m("fit", "--config", "xnli/smoke", *quick, f"--run.directory={tmp_path}")
    assert code == 2
    assert "No space left" in err
    assert "Traceback" not in err
    (last,) = tmp_path.rglob("last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 3
    assert not list(tmp_path.rglob("*.partial"))


def test_the_hub_out_of_reach_says_how_to_work_from_a_folder() -> None:
    message = explain(OSError("We couldn't connect to 'https://huggingface.co' to load the files"))
    assert message is not None
    assert "--model.backbone FOLDER" in message
    assert explain(OSError("something else")) is None
    assert "disk is full" in str(explain(OSError(errno.ENOSPC, "No space left on device")))


def test_ctrl_c_exits_130_with_a_whole_checkpoint(quick: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ernie_m_recipes", "fit", "--config", "xnli/smoke", *quick]
    command += [f"--run.directory={tmp_path}", "--trainer.max_epochs=-1", "--trainer.max_steps=100000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C and hands that on, to this test's child too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 6:"):
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Continue with: ernie-m fit" in err
    assert "Traceback" not in err
    (last,) = tmp_path.rglob("last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] >= 3
    assert not list(tmp_path.rglob("*.partial"))
