"""Folders, checkpoints and recipes of a stranger: nothing of them runs, writes elsewhere or takes anything along."""

import errno
import html
import inspect
import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from argparse import ArgumentError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from markdown_it import MarkdownIt
from safetensors import safe_open

import datamodules
import lightning_modules
from datamodules.reading import read_whole
from ernie_m import ErnieMTokenizer, load_tokenizer
from ernie_m.errors import InputError
from ernie_m.files import check_links, file_name
from ernie_m_recipes import documents, listed, markdown, predictions, trust
from ernie_m_recipes.__main__ import COMMANDS, main
from ernie_m_recipes.class_paths import class_at
from ernie_m_recipes.cli import refuse_other_servers
from ernie_m_recipes.devices import STARTED_BY
from ernie_m_recipes.lines import one_line
from ernie_m_recipes.preparation import quieten
from ernie_m_recipes.targets import in_a_line
from lightning_modules import networks

COMMAND = "touch ran"
LAMBDA = {
    "class_path": "lightning.pytorch.callbacks.LambdaCallback",
    "init_args": {"setup": {"class_path": "os.system", "init_args": {"command": COMMAND}}},
}
# A module of the folder that the command is called in: that it was imported is seen by the file that it leaves.
TRAP = "import pathlib\npathlib.Path('ran').touch()\nclass Trap:\n    pass\n"


def options(quick: list[str]) -> list[str]:
    """A few steps on tiny data, without a test."""
    return [*quick, "--trainer.max_steps=2", "--trainer.val_check_interval=2"]


@pytest.fixture(scope="module")
def trained(quick: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an export."""
    directory = tmp_path_factory.mktemp("runs")
    assert main(["fit", "--config", "xnli/transfer_base", *options(quick), f"--run.directory={directory}"]) == 0
    (run,) = directory.glob("xnli/transfer_base/*")
    return run


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run folder to change, in the current folder, which holds a module too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trap.py").write_text(TRAP, encoding="utf-8")
    return Path(shutil.copytree(trained, tmp_path / "stranger"))


@pytest.fixture
def nothing_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Holds, after a test in the current folder, that neither the command nor the module ran."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "ran").exists()
    assert "trap" not in sys.modules


def change(file: Path, **parts: dict[str, Any]) -> None:
    """Change settings of a folder: of each part some keys."""
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    for part, values in parts.items():
        settings[part] = {**settings[part], **values}
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")


def change_arguments(file: Path, part: str, **values: Any) -> None:
    """Change arguments of the model's or data's class."""
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    settings[part]["init_args"].update(values)
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")


def change_checkpoint(folder: Path, alter: Callable[[dict[str, Any]], None]) -> Path:
    """Change the checkpoint that counts, and return it."""
    path = folder / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    alter(content)
    torch.save(content, path)
    return path


# What a folder says is data


@pytest.mark.parametrize("callbacks", [LAMBDA, {"class_path": "trap.Trap"}, "trap.Trap"])
@pytest.mark.usefixtures("nothing_ran")
def test_the_trainer_of_a_folder_is_left_there(callbacks: Any, folder: Path, ernie_m) -> None:
    """Scoring and exporting need none of it; continuing takes listed classes alone."""
    for file in (folder / "config.yaml", folder / "export" / "recipe.yaml"):
        change(file, trainer={"callbacks": [callbacks]})
    code, _, err = ernie_m("fit", folder)
    assert code == 2
    assert "trainer.callbacks" in err
    assert "LambdaCallback" in err or "trap.Trap" in err
    code, _, err = ernie_m("validate", folder)
    assert code == 0, err
    code, _, err = ernie_m("test", folder / "export")
    assert code == 0, err
    code, _, err = ernie_m("export", folder, "exported")
    assert code == 0, err
    assert "callbacks" not in yaml.safe_load(Path("exported/recipe.yaml").read_text(encoding="utf-8"))["trainer"]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("logger", {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "/elsewhere"}}),
        ("logger", {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"name": "../../x"}}),
        ("logger", "settings.yaml"),
        ("strategy", "settings"),
        ("plugins", "trap.Trap"),
        ("strategy", {"class_path": "lightning.pytorch.strategies.DDPStrategy", "init_args": {"ddp_comm_hook": "a.b"}}),
        ("callbacks", [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint"}]),
        ("callbacks+", {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint"}),
        ("logger.class_path", "lightning.pytorch.loggers.CometLogger"),
        ("logger", {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": {"name": "$HOME"}}),
        # What fsspec takes for another place than pathlib does.
        ("logger", {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "./file:/away"}}),
        # Whose content is not searched for links.
        ("logger", {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "wandb"}}),
        ("logger", {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": {
            "save_dir": ".", "name": "", "version": "mlruns", "sub_dir": "link"}}),
        ("max_epochs", {"class_path": "trap.Trap"}),
        ("max_epochs", "1:" * 20_000),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("nothing_ran")
def test_a_run_continues_with_plain_settings_alone(part: str, value: Any, folder: Path, ernie_m) -> None:
    change(folder / "config.yaml", trainer={part: value})
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, _, err = ernie_m("fit", folder)
    assert code == 2
    assert "config.yaml: trainer" in err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "files",
    [
        '{"de": {"split": "train", "data_files": "http://127.0.0.1:9/\\x24{oc.env:HOME}"}}',
        {"de": "http://127.0.0.1:9/x"},
        "[a, b]",
        "!!set {a}",
        "&a x",
        "x" * 20_000,
        {"de": "${oc.env:HOME}"},
        {"de": "${oc.decode:x}"},
        {"de": {"class_path": "trap.Trap"}},
    ],
)
@pytest.mark.usefixtures("nothing_ran")
def test_data_settings_of_a_folder_are_plain(files: Any, folder: Path, ernie_m) -> None:
    settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    arguments = settings["data"]["init_args"]
    settings["data"] = {
        "class_path": "datamodules.TextClassification",
        "init_args": {"path": "csv", "label_names": ["[a]", "*b", "c: d"], "tokenizer": arguments["tokenizer"],
                      "validation_files": files},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    code, _, err = ernie_m("validate", folder)
    assert code == 2
    assert "config.yaml: data.validation_files" in err


WRITES = {"class_path": "ernie_m.files.write_text", "init_args": {"path": "ran", "text": "it ran"}}


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        # A tab after the brace is no YAML for one of PyYAML's two loaders, and YAML for the other, the parser's.
        ("model", "from_scratch", '{\t"hidden_size": ' + json.dumps(WRITES) + "}"),
        ("model", "from_scratch", {"hidden_size": '{\t"class_path": "ernie_m.files.write_text"}'}),
        ("data", "validation_files", '{\t"de": "de/validation-*.parquet"}'),
        ("model", "schedule", "a: b\n---\nc: [d]"),
    ],
)
@pytest.mark.usefixtures("nothing_ran")
def test_texts_of_a_folder_are_no_settings(part: str, key: str, value: Any, folder: Path, ernie_m) -> None:
    """What the parser makes of a text is asked of the parser itself."""
    change_arguments(folder / "config.yaml", part, **{key: value})
    for words in (["validate", folder], ["export", folder, "made"], ["fit", folder]):
        code, _, err = ernie_m(*words)
        assert code == 2
        assert f"config.yaml: {part}.{key}" in err
        assert "no text that reads as something else" in err
    # A character that there is none of: an OverflowError of the other loader.
    change_arguments(folder / "config.yaml", part, **{key: '"\\UFFFFFFFF"'})
    assert ernie_m("validate", folder)[0] == 2


def test_a_class_within_a_value_is_a_value(quick: list[str], tmp_path: Path, monkeypatch, ernie_m) -> None:
    """Also of settings that a person names: where any value may stand, none is built."""
    monkeypatch.chdir(tmp_path)
    value = json.dumps({"hidden_size": WRITES})
    code, _, _ = ernie_m("fit", "--config", "xnli/transfer_base", *quick, f"--model.from_scratch={value}")
    assert code == 2
    assert not Path("ran").exists()


def test_settings_of_a_folder_build_listed_classes_alone() -> None:
    """Whatever a text was taken for, functions of the packages are not among them."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--kind", type=Callable)
    with trust.admitted([], of_folder=True):
        for name in (
            "ernie_m.files.write_text",
            "ernie_m.load_tokenizer",
            "lightning.pytorch.callbacks.LambdaCallback",
        ):
            with pytest.raises(ArgumentError, match="not allowed"):
                parser.parse_args([f"--kind={name}"])
    with trust.admitted([]), pytest.raises(ArgumentError, match="not allowed, since it is no class"):
        parser.parse_args(["--kind=ernie_m.load_tokenizer"])
    with trust.admitted(["ernie_m.load_tokenizer"]):
        assert parser.parse_args(["--kind=ernie_m.load_tokenizer"]).kind is load_tokenizer


@pytest.mark.parametrize("name", listed.TO_A_SERVER)
def test_a_folder_sends_nothing_to_a_server(name: str, folder: Path, ernie_m) -> None:
    """Its library reads in the current folder where that is, and takes the key of whoever calls."""
    logger = {"class_path": f"lightning.pytorch.loggers.{name}", "init_args": {"settings": {"entity": "stranger"}}}
    kept = {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": ".", "name": "", "version": ""},
    }
    change(folder / "config.yaml", trainer={"logger": [logger, kept]})
    with pytest.warns(UserWarning, match=f"{name} sends to a server, which a folder chooses for nobody: left out"):
        code, _, err = ernie_m("fit", folder)
    assert code == 0, err
    change(folder / "config.yaml", trainer={"logger": {**kept, "init_args": {"settings": 1}}})
    code, _, err = ernie_m("fit", folder)
    assert code == 2
    assert "trainer.logger.settings" in err


@pytest.mark.parametrize("field", [{"backbone": "stranger/evil"}, {"transformers_weights": "x.safetensors"},
                                   {"configuration_files": ["config.5.0.0.json"]},
                                   {"attribute_map": {"num_hidden_layers": "a"}, "a": 10**7},
                                   {"_auto_class": "AutoModel", "__module__": "json"},
                                   {"text_config": {"backbone": "stranger/evil"}},
                                   {"text_config": {"quantization_config": {"quant_method": "torchao"}}}])  # fmt: skip
def test_a_configuration_names_no_other_network(
    field: dict[str, Any], folder: Path, quick: list[str], tiny_checkpoint: Path, ernie_m
) -> None:
    def lead(content: dict[str, Any]) -> None:
        content["network_config"] = json.dumps(json.loads(content["network_config"]) | field)

    change_checkpoint(folder, lead)
    backbone = Path(shutil.copytree(tiny_checkpoint, "backbone"))
    config = json.loads((backbone / "config.json").read_text(encoding="utf-8"))
    (backbone / "config.json").write_text(json.dumps(config | field), encoding="utf-8")
    rest = [option for option in options(quick) if "backbone" not in option]
    fit = ["fit", "--config", "xnli/transfer_base", *rest, f"--model.backbone={backbone}"]
    for words in (["validate", folder], ["export", folder, "made"], fit):
        code, _, err = ernie_m(*words)
        assert code == 2
        reasons = ("by which other f", "has a quantization_config", "is no field of a configuration")
        assert any(reason in err for reason in reasons), err


def test_weights_of_any_name_bound_the_network(
    tiny_checkpoint: Path, quick: list[str], tmp_path: Path, ernie_m
) -> None:
    backbone = Path(shutil.copytree(tiny_checkpoint, tmp_path / "backbone"))
    (backbone / "model.safetensors").rename(backbone / "part.safetensors")
    names = safe_open(backbone / "part.safetensors", framework="pt").keys()
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "part.safetensors")}
    (backbone / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    rest = [option for option in options(quick) if "backbone" not in option]
    config = json.loads((backbone / "config.json").read_text(encoding="utf-8"))
    (backbone / "config.json").write_text(json.dumps(config | {"intermediate_size": 10**6}), encoding="utf-8")
    code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", *rest, f"--model.backbone={backbone}")
    assert code == 2
    assert "do not belong together" in err
    distributed = backbone / "shard-00001-model-00001-of-00001.safetensors"
    shutil.copy(backbone / "part.safetensors", distributed)
    code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", *rest, f"--model.backbone={backbone}")
    assert code == 2
    assert "a part of a distributed checkpoint" in err
    distributed.unlink()
    index["weight_map"] = dict.fromkeys(names, f"../{backbone.name}/part.safetensors")
    (backbone / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for words in (["trim", backbone, "made", "--text", backbone / "config.json"],
                  ["fit", "--config", "xnli/transfer_base", *rest, f"--model.backbone={backbone}"]):  # fmt: skip
        code, _, err = ernie_m(*words)
        assert code == 2
        assert "which is no file of the folder that it lies in" in err
    # transformers reads what is called otherwise as a file of torch's, which nobody has looked into.
    torch.save({}, backbone / "part.pt")
    index["weight_map"] = dict.fromkeys(names, "part.pt")
    (backbone / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    code, _, err = ernie_m("trim", backbone, "made", "--text", backbone / "config.json")
    assert code == 2
    assert "names 'part.pt'; weights are called .safetensors or .bin" in err
    # What transformers fills in counts too: timm's networks read files, and addresses, by their own rules.
    del config["model_type"]
    (backbone / "config.json").write_text(json.dumps(config | {"pretrained_cfg": {}, "architecture": "x"}), "utf-8")
    with pytest.raises(InputError, match="the family 'timm_wrapper' is none of albert"):
        networks.read_config(str(backbone), False)


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_nodes", 3), ("devices", 10**12), ("devices", "1000000"), ("devices", " 100000 "), ("num_workers", 10**4)],
)
def test_a_folder_starts_no_processes_that_are_not_here(
    key: str, value: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, ernie_m
) -> None:
    for name in STARTED_BY:
        monkeypatch.delenv(name, raising=False)
    part = "data" if key == "num_workers" else "trainer"
    if part == "data":
        change_arguments(folder / "config.yaml", part, **{key: value})
    else:
        change(folder / "config.yaml", trainer={key: value})
    code, _, err = ernie_m("fit", folder)
    assert code == 2
    assert f"{part}.{key} is {value}" in err
    code, _, err = ernie_m("fit", folder, f"--{part}.{key}=1")
    assert code == 0, err


@pytest.mark.parametrize(
    ("part", "key"),
    [("data", "max_length"), ("data", "eval_tokens_per_batch"), ("data", "prefix"), ("model", "layer_decay")],
)
def test_null_is_no_value_where_there_has_to_be_one(part: str, key: str, folder: Path, ernie_m) -> None:
    change_arguments(folder / "config.yaml", part, **{key: None})
    code, _, err = ernie_m("validate", folder)
    assert code == 2
    assert f"{part}.{key} is null" in err


def test_a_run_that_fails_to_continue_is_still_there(folder: Path, ernie_m) -> None:
    (folder / "run.json").unlink()
    change_arguments(folder / "config.yaml", "data", path="nowhere")
    code, _, _ = ernie_m("fit", folder)
    assert code == 2
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert (folder / "export" / "README.md").is_file()


@pytest.mark.parametrize("command", ["fit", "test", "validate", "predict", "export", "trim"])
@pytest.mark.usefixtures("nothing_ran")
def test_classes_of_a_folder_are_those_of_the_project(command: str, folder: Path, ernie_m) -> None:
    change(folder / "config.yaml", data={"class_path": "trap.Trap"})
    change(folder / "export" / "recipe.yaml", data={"class_path": "trap.Trap"})
    more = {"export": ["made"], "trim": ["made", "--languages", "de"]}.get(command, [])
    code, _, err = ernie_m(command, folder, *more)
    assert code == 2
    assert "names the class trap.Trap" in err
    assert "--trust-classes trap.Trap" in err
    assert not Path("made").exists()


@pytest.mark.parametrize("command", ["fit", "test", "estimate"])
@pytest.mark.parametrize(
    "settings",
    [
        {"trainer": {"callbacks": [LAMBDA]}},
        {"trainer": {"callbacks": [{"class_path": "trap.Trap"}]}},
        {"data": {"class_path": "trap.Trap"}},
        {"trainer": {"logger": {"class_path": "lightning.pytorch.cli.os.system", "init_args": {"command": COMMAND}}}},
        {"trainer": {"strategy": {"class_path": "lightning.pytorch.strategies.DDPStrategy",
                                  "init_args": {"ddp_comm_hook": "os.system"}}}},
    ],
)  # fmt: skip
@pytest.mark.usefixtures("nothing_ran")
def test_a_recipe_that_is_named_needs_trust_for_other_classes(
    command: str, settings: dict[str, Any], folder: Path, quick: list[str], ernie_m
) -> None:
    Path("own.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    code, _, err = ernie_m(command, "--config", "xnli/transfer_base", *quick, "--config", "own.yaml")
    assert code == 2
    assert "--trust-classes" in err
    if command == "fit":
        recipe = yaml.safe_load(Path(folder / "config.yaml").read_text(encoding="utf-8"))
        Path("whole.yaml").write_text(yaml.safe_dump({**recipe, **settings}), encoding="utf-8")
        code, out, _ = ernie_m("check", "whole.yaml")
        assert code == 2
        assert "--trust-classes" in out


@pytest.mark.parametrize(
    "function",
    [
        {"class_path": "ernie_m.files.write_text", "init_args": {"path": "ran", "text": "x"}},
        {"class_path": "lightning_modules.SequenceClassification.load_from_checkpoint",
         "init_args": {"checkpoint_path": "x"}},
        "ernie_m.files._remove",
    ],
)  # fmt: skip
@pytest.mark.usefixtures("nothing_ran")
def test_a_recipe_that_is_named_calls_no_functions(function: Any, quick: list[str], ernie_m) -> None:
    """Of the packages whose classes it may name neither; they would be called with arguments of its choice."""
    callback = {"class_path": "lightning.pytorch.callbacks.StochasticWeightAveraging",
                "init_args": {"swa_lrs": 0.1, "avg_fn": function}}  # fmt: skip
    Path("own.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}), encoding="utf-8")
    code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", *quick, "--config", "own.yaml")
    assert code == 2
    assert "--trust-classes" in err


def test_a_folder_that_is_called_like_an_address_is_a_folder(
    folder: Path, tmp_path: Path, monkeypatch, ernie_m
) -> None:
    """Lightning would ask its registry of models for it, where the package for that is installed."""
    package = tmp_path / "packages" / "litmodels"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it was asked')", encoding="utf-8")
    monkeypatch.syspath_prepend(package.parent)
    folder.rename("registry:stranger")
    code, _, err = ernie_m("test", "registry:stranger")
    assert code == 0, err


def test_a_file_that_is_called_like_a_value_is_not_read(folder: Path, ernie_m) -> None:
    for name in ("auto", "32-true"):
        Path(name).write_text("class_path: trap.Trap\n", encoding="utf-8")
    code, out, err = ernie_m("fit", "--config", "quickstart", "--print_config")
    assert code == 0, err
    assert "strategy: auto" in out
    for text in ("config: other.yaml\n", "trainer: other.yaml\n", "model: other.yaml\n"):
        Path("own.yaml").write_text(text, encoding="utf-8")
        code, _, err = ernie_m("fit", "--config", "quickstart", "--config", "own.yaml")
        assert code == 2
        assert "no settings" in err


def test_what_is_listed_is_what_the_packages_have() -> None:
    assert {path for path in listed.data_modules() if path.count(".") == 1} >= {
        f"datamodules.{name}" for name in ("XNLI", "CoNLL", "MLQA", "Tatoeba", "PAWSX", "PairClassification")
    }
    assert all(issubclass(found, datamodules.TaskDataModule) for found in listed.data_modules().values())
    assert all(issubclass(found, lightning_modules.TaskModule) for found in listed.tasks().values())
    assert not {"os", "datamodules"} & set(listed.data_modules())
    for path, arguments in listed.CONTINUED.items():
        known = inspect.signature(class_at(path)).parameters
        assert set(arguments) <= set(known) or "kwargs" in known


# Nobody grants himself trust


def code_in(folder: Path, tiny_checkpoint: Path) -> Path:
    """A backbone whose configuration and tokenizer come with code of their own."""
    shutil.copytree(tiny_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    settings = {"tokenizer_class": "Strange", "auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "code.py").write_text(f"import os\nos.system({f'cd {Path.cwd()} && {COMMAND}'!r})\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("command", ["test", "predict", "export", "fit"])
@pytest.mark.usefixtures("nothing_ran")
def test_a_folder_cannot_grant_itself_trust(command: str, folder: Path, tiny_checkpoint: Path, ernie_m) -> None:
    strange = str(code_in(Path("strange").absolute(), tiny_checkpoint))
    change_arguments(folder / "config.yaml", "data", tokenizer=strange, trust_remote_code=True)
    change_arguments(folder / "config.yaml", "model", backbone=strange, trust_remote_code=True)
    code, _, err = ernie_m(command, folder, *(["made", "--tokenizer", strange] if command == "export" else []))
    assert code == 2, err
    assert "trust_remote_code" in err or "no tokenizer can be loaded" in err


@pytest.mark.usefixtures("nothing_ran")
def test_a_checkpoint_cannot_grant_itself_trust(folder: Path, tiny_checkpoint: Path, ernie_m) -> None:
    strange = str(code_in(Path("strange").absolute(), tiny_checkpoint))

    def with_code(content: dict[str, Any]) -> None:
        content["hyper_parameters"] |= {"backbone": strange, "trust_remote_code": True}
        del content["network_config"]

    change_checkpoint(folder, with_code)
    code, _, err = ernie_m("export", folder, "made")
    assert code == 2
    assert "does not say how its network is built" in err
    code, _, err = ernie_m("fit", folder, "--trainer.max_steps=2")
    assert code == 2
    assert not Path("made").exists()


@pytest.mark.parametrize(
    "hyper_parameters",
    [
        {"_class_path": "trap.Trap"},
        {"_class_path": "os.system"},
        {"_instantiator": "os.system"},
        {"_instantiator": "trap.Trap", "_class_path": "datamodules.XNLI"},
        {"command": COMMAND},
        {"attn_implementation": "stranger/kernel", "_instantiator": "x"},
        # By which transformers would fetch a kernel.
        {"attn_implementation": "flash_attention_2", "_instantiator": "x"},
    ],
)
@pytest.mark.usefixtures("nothing_ran")
def test_a_checkpoint_builds_a_task_of_the_project(hyper_parameters: dict[str, str], folder: Path, ernie_m) -> None:
    change_checkpoint(folder, lambda content: content["hyper_parameters"].update(hyper_parameters))
    code, _, err = ernie_m("export", folder, "made")
    if set(hyper_parameters) in ({"_instantiator"}, {"_instantiator", "attn_implementation"}):
        # Nothing asks who built it, and attention is what there is.
        assert code == 0, err
        return
    assert code == 2
    assert "none of this project's" in err or "no checkpoint of SequenceClassification" in err


# Nothing is written or read elsewhere


@pytest.mark.parametrize("name", ["a/../../x", "/elsewhere", "x" * 300, "a\nb", "", "a\0b", ".hidden", "a//b"])
def test_names_become_file_names_by_one_rule(name: str) -> None:
    parts = name.split("/")
    refused = []
    for part in parts:
        try:
            file_name(part, "run.name")
        except InputError:
            refused.append(part)
    assert refused


@pytest.mark.parametrize("name", ["xnli/transfer_base", "größer", "de-en", "zh_min_nan", "a b.c"])
def test_names_that_may_be_those_of_files(name: str) -> None:
    assert [file_name(part, "run.name") for part in name.split("/")] == name.split("/")


@pytest.mark.parametrize("name", ["../../x", "/elsewhere", "a\nb", "x" * 300])
def test_a_run_stays_below_its_directory(name: str, folder: Path, quick: list[str], ernie_m) -> None:
    code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", *options(quick), f"--run.name={name}")
    assert code == 2
    assert "run.name" in err
    change(folder / "config.yaml", run={"name": name})
    code, _, err = ernie_m("validate", folder)
    assert code == 2
    assert "run.name" in err
    assert not Path("/elsewhere").exists()
    assert {path.name for path in Path().iterdir()} <= {"trap.py", "stranger", "runs"}


def test_a_link_in_the_way_is_not_followed(folder: Path, quick: list[str], tmp_path: Path, ernie_m) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "here").symlink_to(tmp_path / "elsewhere")
    code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", *options(quick), "--run.name=here/x")
    assert code == 2
    assert "outside of" in err
    assert not list((tmp_path / "elsewhere").iterdir())
    (folder / "log.txt").unlink()
    (folder / "log.txt").symlink_to(tmp_path / "elsewhere" / "profile")
    for command in (["fit", folder], ["validate", folder], ["export", folder, "made"]):
        code, _, err = ernie_m(*command)
        assert code == 2
        assert "log.txt is a link out of" in err
    assert not (tmp_path / "elsewhere" / "profile").exists()


def test_links_of_the_hubs_cache_are_its_own(tmp_path: Path) -> None:
    for repository, target in (("models--a--b", "blobs"), ("models--a--b", "private"), ("x", "blobs")):
        folder = tmp_path / target / repository / "snapshots" / "1"
        folder.mkdir(parents=True)
        (folder / "config.json").symlink_to(folder.parents[1] / target / "config.json")
        if (repository, target) == ("models--a--b", "blobs"):
            check_links(folder)
        else:
            with pytest.raises(InputError, match=r"config\.json is a link out of"):
                check_links(folder)


def test_links_of_loggers_stay_where_they_are(tmp_path: Path) -> None:
    """W&B leaves one to its own log; nothing reads or copies its folder."""
    for place in ("wandb/run-1", "inner/wandb"):
        (tmp_path / "run" / place).mkdir(parents=True)
    (tmp_path / "debug.log").touch()
    (tmp_path / "run" / "wandb" / "run-1" / "debug.log").symlink_to(tmp_path / "debug.log")
    check_links(tmp_path / "run")
    # That of the folder itself is another's, into which a logger would write.
    for link, target in (("mlruns", tmp_path), ("inner/wandb/debug.log", tmp_path / "debug.log")):
        (tmp_path / "run" / link).symlink_to(target)
        with pytest.raises(InputError, match=f"{link} is a link out of"):
            check_links(tmp_path / "run")
        (tmp_path / "run" / link).unlink()
    (tmp_path / "run" / "round").symlink_to("round")
    with pytest.raises(InputError, match="round is a link that leads to itself"):
        check_links(tmp_path / "run")


def test_a_backbone_takes_no_other_file_along(
    folder: Path, quick: list[str], tiny_checkpoint: Path, tmp_path: Path, ernie_m
) -> None:
    """transformers copies the tokenizer's files into an export, whatever they are."""
    (tmp_path / "private").write_text("a secret", encoding="utf-8")
    backbone = Path(shutil.copytree(tiny_checkpoint, tmp_path / "backbone"))
    # Weights too are what somebody has.
    shutil.move(backbone / "model.safetensors", tmp_path / "weights.safetensors")
    (backbone / "model.safetensors").symlink_to(tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors is a link out of"):
        check_links(backbone)
    (backbone / "model.safetensors").unlink()
    shutil.move(tmp_path / "weights.safetensors", backbone / "model.safetensors")
    (backbone / "chat_template.jinja").symlink_to(tmp_path / "private")
    rest = [option for option in options(quick) if "backbone" not in option]
    code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", *rest, f"--model.backbone={backbone}")
    assert code == 2
    assert "chat_template.jinja is a link out of" in err
    code, _, err = ernie_m("export", folder, "made", "--tokenizer", backbone)
    assert code == 2
    assert "chat_template.jinja is a link out of" in err
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    os.mkfifo(folder / "pipe")
    code, _, err = ernie_m("fit", folder)
    assert code == 2
    assert "neither a file nor a folder" in err


@pytest.mark.parametrize(
    ("file", "settings", "said"),
    [
        ("tokenizer_config", {"tokenizer_class": "BertTokenizer", "vocab": "PRIVATE"}, "has a value for vocab"),
        (
            "tokenizer_config",
            {"tokenizer_class": "EsmTokenizer", "init_inputs": ["PRIVATE"]},
            "a value for init_inputs",
        ),
        # Files of the folder win over these in some classes alone.
        (
            "tokenizer_config",
            {"tokenizer_class": "GemmaTokenizer", "vocab_file": "PRIVATE"},
            "private, which lies outside of the folder",
        ),
        ("tokenizer_config", {"sp_model_kwargs": {"model_file": "PRIVATE"}}, "private, which lies outside"),
        ("tokenizer_config", {"fast_tokenizer_files": ["PRIVATE"]}, "has a value for fast_tokenizer_files"),
        ("special_tokens_map", {"vocab_file": "PRIVATE", "unk_token": "[default]"}, "vocab_file, which is no special"),
        # These read the folder by other rules and ask at the terminal whether to run its code.
        ("tokenizer_config", {"tokenizer_class": "AutoConfig"}, "'AutoConfig', which is no tokenizer"),
        ("tokenizer_config", {"tokenizer_class": "RagRetrieverFastFast"}, "'RagRetrieverFastFast', which is no tok"),
        ("config", {"model_type": "bert", "tokenizer_class": "RagRetriever"}, "'RagRetriever', which is no tokenizer"),
        (
            "config",
            {"model_type": "encoder-decoder", "encoder": {"model_type": "rag"}},
            "family 'encoder-decoder' is none of",
        ),
        ("tokenizer_config", {"tokenizer_class": "AutoTokenizer"}, "'AutoTokenizer', which is no tokenizer"),
        ("tokenizer_config", {"tokenizer_class": "RagTokenizer"}, "'RagTokenizer', which is no tokenizer"),
        # It starts sudachi or MeCab, with settings that name shared objects.
        (
            "tokenizer_config",
            {"tokenizer_class": "BertJapaneseTokenizer", "sudachi_kwargs": {"sudachi_config_path": "x.json"}},
            "'BertJapaneseTokenizer', which is no tokenizer of albert, bert",
        ),
    ],
)
def test_a_tokenizers_settings_name_no_file_and_no_other_class(
    file: str, settings: dict[str, Any], said: str, folder: Path, tmp_path: Path, ernie_m
) -> None:
    """A text for its vocabulary is a path to the library below, and what lies there would go into an export."""
    private = tmp_path / "private"
    private.write_text("[default]\na secret\n", encoding="utf-8")
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    text = json.dumps(settings).replace("PRIVATE", str(private))
    config = {"tokenizer_class": "BertTokenizer", "unk_token": "[default]"}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer" / f"{file}.json").write_text(text, encoding="utf-8")
    code, _, err = ernie_m("export", folder, "made")
    assert code == 2
    assert said in err
    assert not Path("made").exists()


def test_special_tokens_name_no_file_where_nothing_names_a_class(folder: Path, ernie_m) -> None:
    """ERNIE-M's two files alone are its tokenizer; what lies beside them is held against the same rules."""
    Path("private").write_text("[UNK]\na secret\n", encoding="utf-8")
    for file in ("tokenizer_config.json", "config.json", "special_tokens_map.json"):
        (folder / "tokenizer" / file).unlink(missing_ok=True)
    tokens = {"vocab_file": str(Path("private").absolute())}
    (folder / "tokenizer" / "special_tokens_map.json").write_text(json.dumps(tokens), encoding="utf-8")
    code, _, err = ernie_m("export", folder, "made")
    assert code == 2
    assert "vocab_file, which is no special token" in err
    assert not Path("made").exists()
    with pytest.raises(InputError, match="private as a file of its tokenizer, which lies elsewhere"):
        ErnieMTokenizer.from_pretrained(folder / "tokenizer")


def test_what_is_checked_is_what_is_read(folder: Path, tiny_checkpoint: Path, ernie_m) -> None:
    """transformers knows nothing of `~`, and takes a folder in the current one for the Hub's repository of its name."""
    Path("private").write_text("a secret", encoding="utf-8")
    shutil.rmtree(folder / "tokenizer")
    for name, place in (("~root/tok", "~root/tok"), ("ernie-m-base", "susnato/ernie-m-base_pytorch")):
        shutil.copytree(tiny_checkpoint, place)
        (Path(place) / "chat_template.jinja").symlink_to(Path("private").absolute())
        change_arguments(folder / "config.yaml", "data", tokenizer=name)
        code, _, err = ernie_m("export", folder, "made")
        assert code == 2, err
        assert not Path("made").exists()
        with pytest.raises(InputError, match=r"is a link out of|no such folder"):
            load_tokenizer(name)


def test_an_export_names_no_code_of_others(trained: Path, quick: list[str], tmp_path: Path, ernie_m) -> None:
    """Who loads it with `trust_remote_code` trusts what this project wrote, and nothing that a backbone named."""
    backbone = Path(shutil.copytree(trained / "export", tmp_path / "backbone"))
    for name, auto in (("config.json", "AutoModelForCausalLM"), ("tokenizer_config.json", "AutoProcessor")):
        content = json.loads((backbone / name).read_text(encoding="utf-8"))
        content["auto_map"] = {**(content.get("auto_map") or {}), auto: "evil/repo--code.Class"}
        content["auto_map"]["AutoModelForPreTraining"] = "modeling.evil/repo--code.Class"
        content["text_config"] = {"auto_map": {"AutoModel": "evil/repo--code.Class"}}
        content |= {"custom_pipelines": {"x": {"impl": "code.X"}}, "processor_class": "Strange"}
        (backbone / name).write_text(json.dumps(content), encoding="utf-8")
    rest = [option for option in options(quick) if "backbone" not in option]
    code, _, err = ernie_m(
        "fit", "--config", "xnli/transfer_base", *rest, f"--model.backbone={backbone}",
        f"--run.directory={tmp_path / 'runs'}",
    )  # fmt: skip
    assert code == 0, err
    (export,) = (tmp_path / "runs").rglob("export")
    for name in ("config.json", "tokenizer_config.json"):
        text = (export / name).read_text(encoding="utf-8")
        assert "auto_map" in text
        assert all(word not in text for word in ("evil", "custom_pipelines", "processor_class"))


def test_a_linked_checkpoint_continues_no_other_run(folder: Path, trained: Path, tmp_path: Path, ernie_m) -> None:
    private = Path(shutil.copytree(trained, tmp_path / "private"))
    before = {path: path.read_bytes() for path in private.rglob("*") if path.is_file()}
    for name in ("last.ckpt", "best.ckpt"):
        (folder / "checkpoints" / name).unlink()
        (folder / "checkpoints" / name).symlink_to(private / "checkpoints" / name)
    for words in (["fit"], ["test"], ["export"]):
        target = ["made"] if words == ["export"] else []
        code, _, err = ernie_m(*words, folder / "checkpoints" / "last.ckpt", *target)
        assert code == 2
        assert "last.ckpt is a link to" in err
    # However far above it lies.
    Path("theirs").mkdir()
    Path("theirs/runs").symlink_to(tmp_path)
    for words in (["fit"], ["test"], ["export"]):
        code, _, err = ernie_m(*words, "theirs/runs/private", *(["made"] if words == ["export"] else []))
        assert code == 2
        assert "theirs/runs is a link to" in err
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").symlink_to(private / "checkpoints")
    for words in (["fit"], ["test"], ["export"]):
        code, _, err = ernie_m(*words, folder / "checkpoints" / "last.ckpt", *(["made"] if words == ["export"] else []))
        assert code == 2
        assert "checkpoints is a link to" in err
    assert {path: path.read_bytes() for path in private.rglob("*") if path.is_file()} == before


def test_a_run_that_goes_on_elsewhere_takes_no_linked_file_along(folder: Path, quick: list[str], ernie_m) -> None:
    Path("secret").write_text("a secret", encoding="utf-8")
    (folder / "checkpoints" / "best.ckpt").unlink()
    (folder / "checkpoints" / "best.ckpt").symlink_to(Path("secret").absolute())
    words = ["fit", "--config", "xnli/transfer_base", *options(quick), "--trainer.max_steps=3"]
    words += [
        "--resume.allow_changes=true",
        f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}",
        "--run.directory=new",
    ]
    code, _, err = ernie_m(*words)
    assert code == 2
    assert "best.ckpt is a link out of" in err
    assert not Path("new").exists()


def test_lists_of_a_checkpoint_that_share_their_parts_end(folder: Path, ernie_m) -> None:
    path = folder / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    nested: list[Any] = []
    for _ in range(60):
        nested = [nested, nested]
    content["hyper_parameters"]["attn_implementation"] = nested
    torch.save(content, path)
    for words in (["export", folder, "made"], ["validate", folder]):
        code, _, err = ernie_m(*words)
        assert code == 2
        assert "best.ckpt is damaged: it has more than 1,000,000 values" in err


def test_a_link_in_the_current_folder_is_the_callers_own(trained: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").symlink_to(trained / "export")
    check_links(Path("mine"))
    Path("given").mkdir()
    Path("given/export").symlink_to(trained / "export")
    for named in (Path("given/export"), tmp_path / "given" / "export"):
        with pytest.raises(InputError, match="given/export is a link to"):
            check_links(named)


FIT = ["fit", "--config", "custom/text_classification", "--data.second_column=null", *(
    f"--data.{split}_files={{en: own.csv}}" for split in ("train", "validation", "test")
)]  # fmt: skip
TAKE_A_PATH = {
    "run": (["fit"], ["validate"], ["export", "made"], ["trim", "made", "--languages=en"], ["report"]),
    "run/checkpoints/last.ckpt": (["test"], ["export", "made"], [*FIT, "--ckpt_path"], [*FIT, "--model.init_from"]),
    "run/export": (
        ["test"], ["trim", "made", "--text=own.csv"], ["export", "run", "made", "--tokenizer"],
        [*FIT, "--model.backbone"], [*FIT, "--data.tokenizer"], [*FIT, "--model.init_from"],
    ),
    "recipe.yaml": (["check"], ["fit", "--config"], ["estimate", "--config"]),
    "data": (["convert", "made"], [*FIT, "--data.path"]),
    "data/rows.csv": (
        ["trim", "run/export", "made", "--text"], ["predict", "run/export", "--output=made.csv", "--input"],
        *([*FIT, f"--data.{split}_files.en"] for split in ("train", "validation", "test")),
    ),
    "data/r*.csv": ([*FIT, "--data.train_files.en"],),
}  # fmt: skip
"""What is behind a link, and the words that it is given with: behind the last option, else the first argument."""


def test_a_link_is_followed_by_no_option_that_takes_a_path(folder: Path, quick: list[str], ernie_m) -> None:
    """It may lead to what its maker cannot read, and what comes of that is passed on."""
    Path("private/data").mkdir(parents=True)
    for place in ("own.csv", "private/data/rows.csv"):
        Path(place).write_text("text,label\na,b\nc,d\n", encoding="utf-8")
    Path("private/recipe.yaml").write_text("trainer: {max_epochs: 1}\n", encoding="utf-8")
    folder.rename("private/run")
    # A link in the current folder is the caller's own.
    Path("run").symlink_to("private/run")
    folder.mkdir()
    (folder / "data").symlink_to("../private")
    kept = [word for word in quick if not any(name in word for name in ("languages", "data.path"))]
    for target, commands in TAKE_A_PATH.items():
        for first, *rest in commands:
            place = f"stranger/data/{target}"
            words = [*rest, place] if rest and rest[-1].startswith("--") and "=" not in rest[-1] else [place, *rest]
            code, out, err = ernie_m(first, *words[:2], *(kept if FIT[2] in words else ()), *words[2:])
            assert code == 2, (first, rest, target)
            assert "stranger/data is a link to" in out + err, (first, rest, target)
    assert not Path("made").exists()


def test_no_checkpoint_of_the_current_folder_takes_a_networks_place(folder: Path, monkeypatch, ernie_m) -> None:
    """Within a SLURM job Lightning looks for one where it keeps things."""
    for name, value in {"NTASKS": 1, "JOB_NAME": "job", "JOB_ID": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    Path("hpc_ckpt_1.ckpt").touch()
    Path("mine.csv").write_text("premise,hypothesis\na house,water\n", encoding="utf-8")
    code, _, err = ernie_m("predict", folder / "export", "--input=mine.csv", "--output=made.csv")
    assert code == 0, err


def test_trim_report_and_convert_look_for_links_too(folder: Path, trained: Path, tmp_path: Path, ernie_m) -> None:
    (tmp_path / "text.txt").write_text("text\n", encoding="utf-8")
    shutil.move(folder / "export", tmp_path / "private")
    (folder / "export").symlink_to(tmp_path / "private")
    for words in (["trim", folder, "made", "--text", "text.txt"], ["report", folder]):
        code, _, err = ernie_m(*words)
        assert code == 2
        assert "export is a link out of" in err
    (tmp_path / "paddle").mkdir()
    (tmp_path / "paddle" / "config.json").symlink_to(trained / "export" / "config.json")
    code, _, err = ernie_m("convert", tmp_path / "paddle", "made")
    assert code == 2
    assert "config.json is a link out of" in err


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path: Path, monkeypatch) -> None:
    def walk(top: Path, onerror: Any) -> Any:
        yield str(top), ["closed"], []
        onerror(PermissionError(13, "Permission denied", str(top / "closed")))

    # Whoever may read everything, as in a container, cannot make one.
    monkeypatch.setattr("ernie_m.files.os.walk", walk)
    with pytest.raises(InputError, match="closed cannot be listed"):
        check_links(tmp_path)


def test_a_pipe_in_place_of_weights_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        check_links(tmp_path)


def test_a_folder_takes_no_tokenizer_and_no_rows_of_others_along(
    folder: Path, tiny_checkpoint: Path, quick: list[str], ernie_m
) -> None:
    """Its settings may name any file of whoever was given it; what leaves is the folder's own, or what was typed."""
    private = Path(shutil.copytree(tiny_checkpoint, "private"))
    (private / "chat_template.jinja").write_text("a secret", encoding="utf-8")
    (private / "rows.csv").write_text("premise,hypothesis\na secret,b\n", encoding="utf-8")
    change_arguments(folder / "config.yaml", "data", tokenizer=str(private), predict_path=str(private / "rows.csv"))
    for words in (["predict", folder], ["predict", folder, "--output", "made.csv"]):
        code, _, err = ernie_m(*words)
        assert code == 2
        assert f"add --input {private / 'rows.csv'}" in err
    behind = f"{os.path.relpath(folder)}/[e]xport/{os.path.relpath(private, folder / 'export')}/rows.csv"
    (folder / "export").mkdir(exist_ok=True)
    for pattern in (private / "row?.csv", private / "saved-*.parquet", "priv*/rows.csv", behind):
        change_arguments(folder / "config.yaml", "data", predict_path=str(pattern))
        code, _, err = ernie_m("predict", folder)
        assert code == 2
        assert "which lies outside of the folder" in err
    code, _, err = ernie_m("predict", folder, "--input", private / "rows.csv", "--output", "made.csv")
    assert code == 0, err
    # A run that keeps its tokenizer is exported with that one.
    for words in (["export", folder, "made"], ["fit", folder]):
        code, _, err = ernie_m(*words)
        assert code == 0, err
    for made in (Path("made"), folder / "export"):
        assert (made / "vocab.txt").read_bytes() == (tiny_checkpoint / "vocab.txt").read_bytes()
        assert not (made / "chat_template.jinja").exists()
    shutil.rmtree(folder / "tokenizer")
    for words, option in ((["export", folder, "more"], "--tokenizer"), (["fit", folder], "--data.tokenizer")):
        code, _, err = ernie_m(*words)
        assert code == 2
        assert f"add {option} {private}" in err
        code, _, err = ernie_m(*words, option, private)
        assert code == 0, err
    for made in (Path("more"), folder / "export", folder / "tokenizer"):
        assert (made / "chat_template.jinja").read_text(encoding="utf-8") == "a secret"


def test_languages_name_files(folder: Path, tiny_xnli: Path, quick: list[str], ernie_m) -> None:
    change_arguments(folder / "config.yaml", "data", predict_language="../../X")
    Path("x.csv").write_text("premise,hypothesis\na,b\n", encoding="utf-8")
    code, _, err = ernie_m("predict", folder, "--input", "x.csv")
    assert code == 2
    assert "../../X" in err
    with pytest.raises(InputError, match=r"a language is '\.\./\.\./X'"):
        datamodules.TextClassification("unused", test_files={"../../X": "x.csv"})


def test_the_checkpoint_that_counts_is_one_of_two(folder: Path, trained: Path, ernie_m) -> None:
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    shutil.rmtree(folder / "checkpoints")
    for path in (str(trained / "checkpoints" / "best.ckpt"), "../x.ckpt"):
        (folder / "run.json").write_text(json.dumps({**record, "checkpoint": {"path": path}}), encoding="utf-8")
        code, _, err = ernie_m("validate", folder)
        assert code == 2
        assert "no checkpoint" in err


def test_the_home_of_nobody_is_named(folder: Path, ernie_m) -> None:
    change_arguments(folder / "config.yaml", "data", path="~nosuchuser/x")
    code, _, err = ernie_m("test", folder)
    assert code == 2
    assert "begins with ~ and a name that no user" in err


def test_the_cache_of_a_folder_is_not_used(folder: Path, tmp_path: Path, monkeypatch, ernie_m) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    change_arguments(folder / "config.yaml", "data", cache_dir=str(tmp_path / "elsewhere"))
    change(folder / "config.yaml", run={"directory": str(tmp_path / "elsewhere")})
    code, out, err = ernie_m("validate", folder)
    assert code == 0, err
    assert f"run folder: {tmp_path / 'runs'}" in out
    assert not (tmp_path / "elsewhere").exists()


def test_a_command_of_several_lines_leaves_a_run_that_can_be_used(folder: Path, quick: list[str], ernie_m) -> None:
    (folder.parent / "two\nlines").mkdir()
    path = f"--run.directory={folder.parent / 'two'}\nlines"
    code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", *options(quick), path)
    assert code == 0, err
    (run,) = folder.parent.glob("two\nlines/xnli/transfer_base/*")
    for command in (["validate", run], ["report", run], ["export", run, "made"], ["fit", run]):
        code, _, err = ernie_m(*command)
        assert code == 0, err


# Nothing is taken along


def test_values_of_the_environment_stay_there(
    folder: Path, quick: list[str], tiny_checkpoint: Path, tiny_xnli: Path, tmp_path: Path, monkeypatch, ernie_m
) -> None:
    """A path that says a token: in what a run and an export hold there is the reference to it, and never itself."""
    secret = "hunter2-s3cret"
    shutil.copytree(tiny_checkpoint, tmp_path / secret / "network")
    # Which is called otherwise where a path was made of it.
    monkeypatch.setenv("PLACE", f"./{secret}/.")
    monkeypatch.setenv("LENGTH", "64")
    Path("own.yaml").write_text(
        "model: {init_args: {backbone: '${oc.env:PLACE}/network', from_scratch: null}}\n"
        "data:\n  init_args:\n    tokenizer: ${model.init_args.backbone}\n    max_length: ${oc.env:LENGTH}\n",
        encoding="utf-8",
    )
    rest = [option for option in options(quick) if "backbone" not in option and "from_scratch" not in option]
    code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", *rest, "--config", "own.yaml")
    assert code == 0, err
    (run,) = Path("runs").glob("xnli/transfer_base/*")
    Path("prefix.yaml").write_text("data: {init_args: {prefix: '${oc.env:PLACE}'}}\n", encoding="utf-8")
    code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", *rest, "--config", "prefix.yaml")
    assert code == 2
    assert "data.prefix is ${oc.env:PLACE}; it becomes part of what a run writes" in err
    code, _, err = ernie_m("export", run, "made", "--trust-env", "PLACE,LENGTH")
    assert code == 0, err
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert settings["model"]["init_args"]["backbone"] == "${oc.env:PLACE}/network"
    assert settings["data"]["init_args"]["tokenizer"] == "${oc.env:PLACE}/network"
    assert settings["data"]["init_args"]["max_length"] == "${oc.env:LENGTH}"
    for made in (run, Path("made")):
        holding = [path for path in made.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        assert holding == []
    code, _, err = ernie_m("validate", run)
    assert code == 2
    assert "--trust-env PLACE" in err
    code, _, err = ernie_m("validate", run, "--trust-env", "PLACE,LENGTH")
    assert code == 0, err
    code, _, err = ernie_m("fit", run, "--trust-env=PLACE,LENGTH")
    assert code == 0, err
    change(run / "config.yaml", run={"name": "${oc.env:HOME}"})
    code, _, err = ernie_m("validate", run, "--trust-env", "PLACE,LENGTH")
    assert code == 2
    assert "environment variable HOME" in err


# Everything that is parsed has bounds


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{this}: &{this} [{', '.join([f'*{before}'] * 10)}]\n" for before, this in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases written out"),
        ("a: " + "[" * 5000, "nested more than"),
        ("a: &a [*a]", "part of itself"),
        (f"a: {{? {'k' * 300}\n: {{b: 1}}}}", "has more than 200 characters"),
        ("a: " + "x" * (documents.LARGEST_YAML + 1), "larger than"),
        ("a: \x00", "not valid YAML"),
        ('a: "\\UFFFFFFFF"', "not valid YAML"),
        ("a: " + "1:" * 100_000 + "1", "a number that is too long"),
        ("a: 0x" + "f" * 6000, "a number that is too long"),
        ("a: !!set {b}", "no tags"),
        ('a: "\\ud800"', "half a surrogate pair"),
        ("- a", "holds no settings"),
        ("", "holds no settings"),
        ("a: !!python/object/apply:os.system ['touch ran']", "not valid YAML"),
    ],
)
@pytest.mark.usefixtures("nothing_ran")
def test_settings_have_bounds(text: str, said: str, folder: Path, ernie_m) -> None:
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    for command in ("report", "test"):
        code, _, err = ernie_m(command, folder)
        assert code == 2
        assert said in err


def test_lists_of_settings_have_bounds(folder: Path, ernie_m) -> None:
    change_arguments(folder / "config.yaml", "model", label_names=[f"l{number}" for number in range(20_000)])
    code, _, err = ernie_m("test", folder)
    assert code == 2
    assert "model.label_names has 20,000 entries; 5,000 are the most" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "damaged"), ("{", "damaged"), ("[]", "not an object"), ("[" * 100_000, "nested too deeply"), ("1", "object")],
)
def test_records_have_bounds(text: str, said: str, folder: Path, ernie_m) -> None:
    (folder / "run.json").write_text(text, encoding="utf-8")
    for command in ("report", "test"):
        code, _, err = ernie_m(command, folder)
        assert code == 2
        assert "run.json" in err
        assert said in err


@pytest.mark.parametrize(
    "changes",
    [
        {"hyper_parameters": [1]},
        {"hyper_parameters": {"_class_path": ["a"]}},
        {"state_dict": [1]},
        {"state_dict": {"a": 1}},
        {"network_config": "[1]"},
        {"network_config": "{}"},
        {"network_config": '{"model_type": "ernie_m", "num_hidden_layers": 100000000}'},
        {"network_config": '{"model_type": "ernie_m", "hidden_size": 120000000}'},
        {"network_config": 5},
        {"callbacks": 5},
        {"callbacks": {"CheckpointThatCounts": 5}},
        {"callbacks": {"CheckpointThatCounts": {"history": [5], "saved_step": "x", "best_value": "x"}}},
        {
            "callbacks": {
                "CheckpointThatCounts": {
                    "history": [{"step": 2, "results": "x"}],
                    "saved_step": 2,
                    "best_value": 1.0,
                    "best_step": 2,
                    "monitor": "val/accuracy",
                    "mode": "max",
                }
            }
        },
        {"state_dict": {"network.classifier.bias": torch.zeros(3).to_sparse()}},
        {"state_dict": {"network.classifier.bias": torch.zeros(3, device="meta")}},
        {"lr_schedulers": [{"last_epoch": 10**400}]},
        {"best_on_dev": {"de": "x"}},
        {"XNLI": {"epoch": "x"}},
        {"loops": {"fit_loop": 5}},
        {"loops": {"fit_loop": {"epoch_progress": {"current": {"ready": "x"}}}}},
        {"loops": {"fit_loop": {"epoch_loop.batch_progress": {"total": {"ready": -7}}}}},
        {"pytorch-lightning_version": 5},
    ],
)
def test_checkpoints_have_a_shape(changes: dict[str, Any], folder: Path, ernie_m) -> None:
    change_checkpoint(folder, lambda content: content.update(changes))
    shutil.copy(folder / "checkpoints" / "best.ckpt", folder / "checkpoints" / "last.ckpt")
    for command in (["fit", folder], ["validate", folder], ["export", folder, "made"]):
        code, _, err = ernie_m(*command)
        # What a command does not need of it, it does not look at.
        assert code in (0, 2), err


@pytest.mark.parametrize(
    "changes",
    [
        {"seed_everything": -1},
        {"seed_everything": float("inf")},
        {"seed_everything": [1]},
        {"trainer": None},
        {"trainer": [1]},
        {"data": None},
        {"run": {"card": {"task": [1]}}},
        {"run": 5},
        {"checkpoint": [1]},
        # Of a package that is not here.
        {"trainer": {"precision": "transformer-engine"}},
    ],
)
def test_settings_have_a_shape(changes: dict[str, Any], folder: Path, ernie_m) -> None:
    settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    (folder / "config.yaml").write_text(yaml.safe_dump({**settings, **changes}), encoding="utf-8")
    for command in (["report", folder, "--stage", "validate"], ["validate", folder], ["export", folder, "made"]):
        code, _, err = ernie_m(*command)
        assert code in (0, 2), err


@pytest.mark.parametrize("content", ["[1]", "{", '{"model_type": "ernie_m", "num_attention_heads": 0}', '{"dtype": 5}',
                                     '{"model_type": "timm_wrapper", "model_args": {"checkpoint_path": "x"}}',
                                     '{"model_type": "ernie_m", "architectures": [5]}', '{"model_max_length": "x"}',
                                     '{"tokenizer_class": "PreTrainedConfig", "architectures": {"a": 1}}'])  # fmt: skip
def test_a_backbone_that_is_none_is_named(
    content: str, folder: Path, quick: list[str], tiny_checkpoint: Path, ernie_m
) -> None:
    Path("text.txt").write_text("a text\n", encoding="utf-8")
    rest = [option for option in options(quick) if "backbone" not in option]
    for name in ("config.json", "tokenizer_config.json"):
        backbone = Path(shutil.copytree(tiny_checkpoint, name.removesuffix(".json")))
        (backbone / name).write_text(content, encoding="utf-8")
        code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", *rest, f"--model.backbone={backbone}")
        assert code in (0, 2), err
        code, _, err = ernie_m("trim", backbone, f"{backbone}_made", "--text", "text.txt")
        assert code in (0, 2), err


@pytest.mark.parametrize(
    "results",
    [
        {"validate": {"de": 1}},
        {"validate": {"de": {"accuracy": "high"}}},
        {"validate": [1]},
        {"validate": {"de": {"accuracy": 1}}, "checkpoint": "best"},
        {"confusion": {"validate": {"labels": ["a"], "languages": {"de": [[1, 2]]}}}},
        {"confusion": {"validate": {"labels": 1, "languages": {}}}},
        {"confusion": {"validate": {"labels": [], "languages": {"de": []}}}},
        {"confusion": [1]},
        {"validate": {"de": {"accuracy": 1}}},
        {"validate": {"mean": {"accuracy": 10**400}}},
    ],
)
def test_results_have_a_shape(results: dict[str, Any], folder: Path, ernie_m) -> None:
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    for command in (["report", folder, "--stage", "validate"], ["export", folder, "made"]):
        code, _, err = ernie_m(*command)
        assert code == 2
        assert "results.json: its scores are not what a run writes" in err


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_names_that_no_file_can_have(name: str, quick: list[str], folder: Path, ernie_m) -> None:
    commands = [[command, name] for command in ("test", "report", "cat", "cp", "check")]
    commands += [["fit", "--config", name], ["export", name, "made"], ["export", folder, name]]
    for command in (*commands, ["trim", name, "made", "--languages", "de"]):
        code, _, err = ernie_m(*command)
        assert code == 2, command
        assert len(err) < 1000
    code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", *options(quick), f"--model.backbone={name}")
    assert code == 2


class Malice:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, (COMMAND,)


@pytest.mark.usefixtures("nothing_ran")
def test_pickles_are_not_obeyed(folder: Path, tiny_checkpoint: Path, quick: list[str], ernie_m) -> None:
    pickled = Path(shutil.copytree(tiny_checkpoint, "pickled"))
    (pickled / "model.safetensors").unlink()
    with (pickled / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Malice(), file)
    rest = [option for option in options(quick) if "backbone" not in option]
    code, _, err = ernie_m("fit", "--config", "xnli/transfer_base", *rest, f"--model.backbone={pickled}")
    assert code == 2
    assert "pickled" in err
    Path("text.txt").write_text("a text\n", encoding="utf-8")
    code, _, err = ernie_m("trim", pickled, "made", "--text", "text.txt")
    assert code == 2
    assert "pickled" in err
    torch.save({"state_dict": {}, "hyper_parameters": Malice()}, folder / "checkpoints" / "best.ckpt")
    for command in (["test", folder], ["export", folder, "made"]):
        code, _, err = ernie_m(*command)
        assert code == 2
        assert "best.ckpt" in err


@pytest.mark.usefixtures("nothing_ran")
def test_the_index_of_a_sharded_checkpoint_is_not_unpickled(folder: Path, quick: list[str], ernie_m) -> None:
    sharded = folder / "checkpoints" / "sharded.ckpt"
    sharded.mkdir()
    shutil.move(folder / "checkpoints" / "last.ckpt", sharded / "meta.pt")
    (sharded / ".metadata").write_bytes(pickle.dumps(Malice()))
    sharded.rename(folder / "checkpoints" / "last.ckpt")
    last = folder / "checkpoints" / "last.ckpt"
    strategy = {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy", "init_args": {}}
    change(folder / "config.yaml", trainer={"strategy": strategy})
    recipe = ["--config", "xnli/transfer_base", *options(quick), f"--ckpt_path={last}"]
    for words in (["fit", folder], ["fit", last], ["fit", *recipe], ["test", last], ["test", *recipe[:-3], recipe[-1]]):
        code, _, err = ernie_m(*words)
        assert code == 2, err
        assert "a sharded checkpoint, whose index could run code" in err
    code, _, err = ernie_m("export", last, "made")
    assert code == 2
    code, _, err = ernie_m("fit", *recipe[:-1], f"--trainer.strategy={json.dumps(strategy)}")
    assert code == 2
    assert "save_distributed_checkpoint is true" in err


@pytest.mark.parametrize("settings", [{"a": "b/c"}, {"a": "b/c" * 9000}])
def test_settings_of_a_folder_are_no_path(settings: dict[str, str], tmp_path: Path, monkeypatch) -> None:
    """The parser looks for a file first: one that is called like the settings would be taken for one that was named."""
    monkeypatch.chdir(tmp_path)
    line = in_a_line(settings)
    assert yaml.safe_load(line) == settings
    with pytest.raises(OSError, match=os.strerror(errno.ENAMETOOLONG)):
        Path(line).read_text(encoding="utf-8")


def test_a_tensor_that_is_one_number_counts_for_one(folder: Path, ernie_m) -> None:
    def large(content: dict[str, Any]) -> None:
        config = json.loads(content["network_config"]) | {"intermediate_size": 2_000_000}
        content["network_config"] = json.dumps(config)
        content["state_dict"]["network.x"] = torch.zeros(1).expand(10**12)

    path = change_checkpoint(folder, large)
    for words in (["export", folder, "made"], ["validate", folder]):
        code, _, err = ernie_m(*words)
        assert code == 2
        assert "intermediate_size" in err or "numbers" in err
    with pytest.raises(InputError, match="numbers"):
        networks.read_weights(path)


def test_weights_unpack_to_no_more_than_they_are(
    folder: Path, quick: list[str], tiny_checkpoint: Path, ernie_m
) -> None:
    """An archive whose list of tensors is packed, and a file with a hole beside the weights that nobody loads."""
    with zipfile.ZipFile(folder / "checkpoints" / "best.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("best/data.pkl", b"]" * 2**26)
    backbone = Path(shutil.copytree(tiny_checkpoint, "backbone"))
    config = json.loads((backbone / "config.json").read_text(encoding="utf-8"))
    (backbone / "config.json").write_text(json.dumps(config | {"intermediate_size": 10**6}), encoding="utf-8")
    with (backbone / "x.bin").open("wb") as file:
        file.truncate(10**12)
    rest = [option for option in options(quick) if "backbone" not in option]
    fit = ["fit", "--config", "xnli/transfer_base", *rest, f"--model.backbone={backbone}"]
    for words, said in (
        (["validate", folder], "is packed"), (["export", folder, "made"], "is packed"), (fit, "do not belong together"),
    ):  # fmt: skip
        code, _, err = ernie_m(*words)
        assert code == 2
        assert said in err


class Uninitialised:
    """Unpickled, numbers that nobody wrote: whatever the memory held before."""

    def __reduce__(self) -> Any:
        return torch.FloatTensor, (2, 2)


def test_a_hub_id_stands_for_a_folder_that_is_checked_as_any_other(
    quick: list[str], tiny_checkpoint: Path, of_the_hub, tmp_path: Path, monkeypatch, ernie_m
) -> None:
    """As it was: what lay on the Hub was neither looked at as an archive nor for what its index names."""
    monkeypatch.chdir(tmp_path)
    for name in ("good", "memory", "large", "shards"):
        shutil.copytree(tiny_checkpoint, name)
    Path("memory/model.safetensors").unlink()
    torch.save({"encoder.weight": Uninitialised()}, "memory/pytorch_model.bin")
    config = json.loads(Path("large/config.json").read_text(encoding="utf-8"))
    Path("large/config.json").write_text(json.dumps(config | {"intermediate_size": 10**6}), encoding="utf-8")
    Path("shards/model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"x": "../private.safetensors"}}
    Path("shards/model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    Path("text.txt").write_text("a text\n", encoding="utf-8")
    rest = [option for option in options(quick) if "backbone" not in option]
    for name, said in (("memory", "torch.FloatTensor"), ("large", "do not belong together"), ("shards", "no file of")):
        of_the_hub(f"stranger/{name}", Path(name))
        for words in (
            ["fit", "--config", "xnli/transfer_base", *rest, f"--model.backbone=stranger/{name}"],
            ["trim", f"stranger/{name}", "made", "--text", "text.txt"],
        ):
            code, _, err = ernie_m(*words)
            assert code == 2
            assert said in err
    # What is written names the repository, and no place on this machine.
    of_the_hub("stranger/good", Path("good"))
    code, _, err = ernie_m(
        "fit", "--config", "xnli/transfer_base", *rest, "--model.backbone=stranger/good", "--run.directory=of_hub"
    )
    assert code == 0, err
    (run,) = Path("of_hub").glob("xnli/transfer_base/*")
    written = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert [written[part]["init_args"][key] for part, key in (("model", "backbone"), ("data", "tokenizer"))] == [
        "stranger/good", "stranger/good",
    ]  # fmt: skip
    network = json.loads((run / "run.json").read_text(encoding="utf-8"))["network"]
    assert (network["base_model"], network["revision"]) == ("stranger/good", "a" * 40)
    code, _, err = ernie_m("trim", "stranger/good", "trimmed", "--text", "text.txt")
    assert code == 0, err
    for file in (*run.rglob("*"), *Path("trimmed").rglob("*")):
        assert not file.is_file() or b"models--stranger" not in file.read_bytes(), file


def test_attention_of_the_hub_is_code(folder: Path, ernie_m) -> None:
    config = json.loads((folder / "export" / "config.json").read_text(encoding="utf-8"))
    # For the second transformers fetches a kernel where the package of that name is not installed.
    for name in ("stranger/kernel", "flash_attention_2"):
        config["attn_implementation"] = name
        (folder / "export" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        change_arguments(folder / "config.yaml", "model", attn_implementation=name)
        for target in (folder, folder / "export"):
            code, _, err = ernie_m("test", target)
            assert code == 2
            assert name in err
    # Families with loops of their own, or parts that attend otherwise.
    for family in ("gemma3", "gpt_neo", "funnel", "longformer", ["bert"]):
        (folder / "export" / "config.json").write_text(json.dumps({"model_type": family}), encoding="utf-8")
        code, _, err = ernie_m("test", folder / "export")
        assert code == 2
        assert " is none of albert, bert," in err
    (folder / "export" / "config.json").write_text("{}", encoding="utf-8")
    (folder / "export" / "adapter_config.json").write_text('{"megatron_core": "trap"}', encoding="utf-8")
    code, _, err = ernie_m("test", folder / "export")
    assert code == 2
    assert "has an adapter_config.json" in err


def test_a_terminal_is_not_controlled_by_names(folder: Path, ernie_m) -> None:
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    hostile = {**results, "validate": results["validate"] | {"\x1b[2Jde": results["validate"]["de"]}}
    (folder / "results.json").write_text(json.dumps(hostile), encoding="utf-8")
    code, _, err = ernie_m("report", folder, "--stage", "validate")
    assert code == 2
    assert "its scores are not what a run writes" in err
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    change(folder / "config.yaml", run={"name": "xnli/transfer_base\x1b[2J"})
    code, _, err = ernie_m("validate", folder / "\x1b[2J")
    assert code == 2
    assert "[2J" in err
    assert "\x1b" not in err
    (folder / "results.json").write_text(json.dumps({**results, "recipe": "xnli/transfer_base"}), encoding="utf-8")
    change(folder / "config.yaml", trainer={"max_epochs": "\x1b[2J"})
    code, out, _ = ernie_m("report", folder, "--stage", "validate")
    assert "-> [2J" in out.replace("  ", " ")
    assert "\x1b" not in out


def test_labels_control_neither_terminal_nor_spreadsheet(tmp_path: Path, monkeypatch) -> None:
    """They are quoted by the log and warnings, and written beside rows; numbers and signs stay as they are."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    quieten()
    for name in ("lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            message = {"msg": "train/en: %s", "args": ("a\x1b]0;title\x07 3\nb",), "levelno": logging.WARNING}
            entry = logging.makeLogRecord({**message, "pathname": "datamodules/store.py"})
            assert handler.filter(entry)
            assert entry.getMessage() == "train/en: a ]0;title  3\nb"
    assert "\x1b" not in warnings.formatwarning(UserWarning("a\x1b[2Jb"), UserWarning, "file", 1)
    texts = ["=1+1", "@sum", "-1", "+", "a", None, "a;=1 + 1", "a; -1;b", "a\n\uff1d1", "a, -b"]
    label = "probability_x;=1+1"
    tables = {"en": pyarrow.table({"example_id": range(10), "prediction": texts, label: [0.5] * 10})}
    cells = ["'=1+1", "'@sum", "-1", "+", "a", "", "a;'=1 + 1", "a; -1;b", "a\n'\uff1d1", "a, -b"]
    for suffix, expected, name in ((".csv", cells, "probability_x;'=1+1"), (".jsonl", texts, label)):
        rows = pyarrow.table({"text": ["=own"] * 10})
        predictions.write(tmp_path / "in.csv", rows, tmp_path / f"out{suffix}", tables)
        written = read_whole(tmp_path / f"out{suffix}")
        assert written["prediction"].to_pylist() == expected
        assert set(written["text"].to_pylist()) == {"=own"}
        assert written.column_names == ["text", "prediction", name]


def test_the_current_folder_says_no_server(tmp_path: Path, monkeypatch) -> None:
    """wandb would read there where to send the user's key, whoever's folder it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    logger = Namespace(class_path="lightning.pytorch.loggers.WandbLogger", init_args=Namespace(save_dir="runs"))
    for place in (Path("wandb"), Path(".wandb")):
        place.mkdir()
        (place / "settings").write_text("[default]\nproject = mine\nentity = me\n", encoding="utf-8")
        refuse_other_servers([logger])
        (place / "settings").write_text("[default]\nproject = mine\nbase_url = http://127.0.0.1:1\n", encoding="utf-8")
        with pytest.raises(InputError, match="settings sets base_url, which says where wandb sends to"):
            refuse_other_servers([logger])
        refuse_other_servers([Namespace(class_path="lightning.pytorch.loggers.CSVLogger"), None, True])
        (place / "settings").unlink()


HOSTILE = "<img src=x> [a](b.c) `<b>` ``` *e* _f_ a_b <!-- &lt; | ~~g~~ # h"


@pytest.mark.parametrize(
    "text",
    [HOSTILE, "`", "``a` ", "\\<b>\\", "<b>\n\n# x\n\n---\n", "__init__ a__b", "a|b https://c.d", "www.a.b @user"],
)
def test_markdown_of_names_shows_them_as_they_are(text: str) -> None:
    shown = " ".join(one_line(text).split())
    page = MarkdownIt("gfm-like", {"linkify": False}).render
    for written in (f"{markdown.plain(text)}\n", f"x {markdown.code(text)} x\n"):
        body = re.sub(r"</?(p|code)>", "", page(written))
        assert "<" not in body
        assert " ".join(html.unescape(body).split()) in (shown, f"x {shown} x")
    if "://" in text or "@" in text:
        assert "<code>" in page(markdown.plain(text)), "sites make links of what is no code"
    table = page("\n".join(markdown.table(["a", "b"], [[text, "1"]])))
    assert table.count("<td") == 2
    assert html.escape(shown, quote=False).replace('"', "&quot;") in table


def test_cards_and_reports_show_names_as_they_are(folder: Path, ernie_m) -> None:
    name = HOSTILE.replace("/", "")
    change(folder / "config.yaml", run={"name": name, "card": {"task": name, "setting": name, "model": name}})
    change_arguments(folder / "config.yaml", "model", backbone=name)
    change_arguments(folder / "config.yaml", "data", prefix=name)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    results |= {"recipe": name, "checkpoint": {**results["checkpoint"], "rule": name, "step": name}}
    results["validate"] |= {name: {f"accuracy{name}": 0.5, **results["validate"]["de"]}}
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    for words in (["export", folder, "made"], ["report", folder, "--stage", "validate", "--output", "report.md"]):
        code, _, err = ernie_m(*words)
        assert code == 0, err
    for path in (Path("made/README.md"), Path("report.md")):
        text = path.read_text(encoding="utf-8").removeprefix("---")
        page = MarkdownIt("gfm-like", {"linkify": False}).render(text.partition("\n---\n")[2] or text)
        assert "&lt;img src=x&gt;" in page
        assert not re.search(r"<(img|a|b|em|s|!--)\b", page)


@pytest.mark.parametrize("text", ["\U0001f600 'a'", "a\u2028b\x85c\ufeff", "true", "0:30:00"])
def test_settings_of_a_folder_arrive_as_they_were_written(text: str, folder: Path, ernie_m) -> None:
    """They go through the parser as text."""
    change_arguments(folder / "config.yaml", "data", revision=text)
    change_arguments(folder / "config.yaml", "model", adam_eps=1e-07)
    code, out, err = ernie_m("fit", folder, "--print_config")
    assert code == 0, err
    settings = yaml.safe_load(out)
    assert settings["data"]["init_args"]["revision"] == text
    assert settings["model"]["init_args"]["adam_eps"] == 1e-07


def test_processes_that_are_started_import_nothing_of_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ernie_m
) -> None:
    """`multiprocessing`, DDP and the compiler start theirs by `python -c` and `-m`, which would look there first."""
    change(folder / "config.yaml", trainer={"strategy": "ddp_spawn"})
    code, _, err = ernie_m("fit", folder)
    assert code == 2
    assert "trainer.strategy is 'ddp_spawn'" in err
    for name in ("multiprocessing", "ctypes", "json"):
        (folder / f"{name}.py").write_text("from pathlib import Path\nPath('RAN').touch()\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    words = [sys.executable, "-c", "import ctypes, json, multiprocessing as m; m.get_context('spawn').Queue()"]
    monkeypatch.setitem(COMMANDS, "ls", lambda _: subprocess.run(words, check=False).returncode)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    code, _, err = ernie_m("ls")
    assert code == 0, err
    assert not Path("RAN").exists()
    assert "PYTHONSAFEPATH" not in os.environ
