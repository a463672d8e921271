"""Every option of every class that a recipe names: stated once, with its type and a text that says what it does."""

import inspect
import re

import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule

import datamodules
import lightning_modules

DATA = [
    name
    for name, value in vars(datamodules).items()
    if inspect.isclass(value) and issubclass(value, datamodules.TaskDataModule) and name != "TaskDataModule"
]
TASKS = [name for name in lightning_modules.__all__ if name != "TaskModule"]
CLASSES = [(LightningDataModule, datamodules, name) for name in DATA]
CLASSES += [(LightningModule, lightning_modules, name) for name in TASKS]


@pytest.mark.parametrize(("base", "module", "name"), CLASSES, ids=[name for *_, name in CLASSES])
def test_help_says_what_every_option_is(base, module, name, capsys):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, "part")
    with pytest.raises(SystemExit):
        parser.parse_args([f"--part.help={module.__name__}.{name}"])
    printed = capsys.readouterr().out
    options = re.split(r"\n  --part\.", printed)[1:]
    names = [re.match(r"\w+", option)[0] for option in options]
    own = set(inspect.signature(getattr(module, name)).parameters) - {"args", "kwargs"}
    assert own <= set(names)
    assert len(names) == len(set(names))
    assert not {"args", "kwargs", "_network_config"} & set(names)
    for option in options:
        text = " ".join(option.split())
        said = re.search(r"[A-Z{\]\[,.…+_a-z]+ (.+?) \((required, )?type: .+\)", text)
        assert said, text
        assert len(said[1].split()) > 1, text


@pytest.mark.parametrize(("base", "module", "name"), CLASSES[:1] + CLASSES[-1:])
def test_a_misspelt_option_is_refused(base, module, name):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, "part")
    with pytest.raises(Exception, match="seeed"):
        parser.parse_object({"part": {"class_path": f"{module.__name__}.{name}", "init_args": {"seeed": 1}}})
