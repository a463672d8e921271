"""What libraries keep for themselves and this package uses does what it did; a failure names the one that changed."""

import warnings
from argparse import ArgumentError
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from jsonargparse import ArgumentParser
from lightning.fabric.plugins.precision.amp import _optimizer_handles_unscaling
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel
from transformers import AutoConfig, PretrainedConfig

from ernie_m_recipes.compat import (
    JsonargparseDeprecationWarning,
    StageCLI,
    actions_of,
    auto_classes,
    class_path_of,
    importable,
    without_the_hub,
    yaml_loader,
)
from ernie_m_recipes.documents import only_true_and_false
from lightning_modules import compat
from lightning_modules.optimization import build_optimizer


def test_jsonargparse_warns_of_old_names_with_a_class_of_its_own() -> None:
    assert issubclass(JsonargparseDeprecationWarning, Warning), "jsonargparse._deprecated has another kind of warning"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=JsonargparseDeprecationWarning)
        warnings.warn("old", JsonargparseDeprecationWarning, stacklevel=1)
    assert caught == []


def test_jsonargparse_reads_yaml_by_a_loader_that_can_be_told() -> None:
    only_true_and_false(yaml_loader())
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--kinds", type=dict)
    found = parser.parse_args(["--kinds={no: [yes, on, Off, true, False], 1e-3: 1e-3}"]).kinds
    assert found == {"no": ["yes", "on", "Off", True, False], 1e-3: 1e-3}, "jsonargparse has another loader"


def test_jsonargparse_imports_what_is_allowed_and_forgets_the_policy() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--kind", type=type)
    with importable(["collections", "-collections.Counter"]):
        assert parser.parse_args(["--kind=collections.deque"]).kind is deque
        for denied in ("collections.Counter", "fractions.Fraction", "collections._sys.exit"):
            with pytest.raises(ArgumentError, match="is not allowed"):
                parser.parse_args([f"--kind={denied}"])
    found = parser.parse_args(["--kind=fractions.Fraction"]).kind
    assert found.__name__ == "Fraction", "jsonargparse keeps its policy somewhere else than in parsing_settings"


class Network(BoringModel):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()


class Recorded(StageCLI):
    """Notes which of the steps Lightning takes, in which order."""

    def __init__(self, *words: str) -> None:
        self.steps: list[str] = []
        classes = {"model_class": BoringModel, "subclass_mode_model": True, "datamodule_class": BoringDataModule}
        super().__init__("fit", args=["fit", f"--model={Network.__module__}.Network", *words], **classes)

    def check_settings(self) -> None:
        self.steps.append(f"checked, {self.config_dump['ckpt_path']}")

    def seed(self) -> None:
        super().seed()
        self.steps.append("seeded")

    def before_instantiate_classes(self) -> None:
        self.steps.append("building")

    def written(self) -> dict[str, Any]:
        self.steps.append("dumped")
        return self.config["fit"].as_dict()

    def before_fit(self) -> None:
        self.steps.append("run")


def test_the_hub_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with without_the_hub(), pytest.raises(OSError, match=r"couldn't connect to|offline mode|cached files"):
        AutoConfig.from_pretrained("nobody/nothing", cache_dir=tmp_path)
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.filterwarnings("ignore:.*LightningCLI's args parameter")
def test_lightnings_cli_takes_its_steps_in_the_known_order(tmp_path: Path) -> None:
    changed = "LightningCLI has other private steps than _parse_ckpt_path, _set_seed, _dump_config and _run_subcommand"
    for name in ("_parse_ckpt_path", "_set_seed", "_dump_config", "_run_subcommand", "_add_subcommands"):
        assert callable(getattr(LightningCLI, name, None)), changed
    cli = Recorded(f"--trainer.default_root_dir={tmp_path}", "--seed_everything=7")
    assert cli.steps == ["dumped", "checked, None", "seeded", "building"], changed
    assert torch.initial_seed() == 7, changed
    assert cli.stage_parser is not cli.parser, "LightningCLI keeps its subcommands' parsers elsewhere"
    assert list(cli.subcommands()) == ["fit"]
    names = [action.dest for action in actions_of(cli.stage_parser)]
    assert {"trainer.max_epochs", "config"} <= set(names), "argparse or jsonargparse keeps arguments elsewhere"
    # What a checkpoint says of its class is written by Lightning's CLI, and read by ours.
    saved = {"hyper_parameters": dict(cli.model.hparams)}
    assert class_path_of(saved) == f"{Network.__module__}.Network", "LightningCLI names a checkpoint's class elsewhere"
    assert class_path_of({}) is None


def test_transformers_can_be_made_to_forget_an_auto_class(tmp_path: Path) -> None:
    class Config(PretrainedConfig):
        model_type = "compat_test"

    with auto_classes([(Config, "AutoConfig")]):
        assert Config._auto_class == "AutoConfig", "register_for_auto_class of transformers keeps the name elsewhere"
    Config().save_pretrained(tmp_path)
    assert "auto_map" not in (tmp_path / "config.json").read_text(encoding="utf-8")


def test_lightning_counts_the_epochs_of_a_loop_where_it_did() -> None:
    loop = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False).fit_loop
    assert loop.restarted_on_epoch_end is False, "Lightning's fit loop no longer says where it was restarted"
    for progress in (loop.epoch_progress.current, loop.epoch_progress.total):
        assert {"started", "processed"} <= vars(progress).keys(), "Lightning counts epochs in other fields"


def test_lightning_clips_what_a_fused_optimiser_would_unscale_by_itself() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer([{"params": [weight], "lr": 1.0, "weight_decay": 0.0}], (0.9, 0.99), 1e-8)
    assert _optimizer_handles_unscaling(optimizer) is False, "Lightning looks at another mark than torch's"


def test_the_compiler_has_the_settings_that_layers_need() -> None:
    compat.compile_whole_layers(64)
    config = torch._dynamo.config
    assert config.optimize_ddp is False, "torch._dynamo no longer has optimize_ddp"
    assert config.recompile_limit >= 64, "torch._dynamo no longer has recompile_limit"
