"""`ernie-m estimate`: what it counts is what the run will do; it writes nothing."""

import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from ernie_m_recipes.checkpoints import validations
from ernie_m_recipes.estimate import tokens_of


@pytest.mark.parametrize(
    ("has_bf16", "precision", "before", "often"),
    [(False, "32-true", "false", ""), (True, "bf16-mixed", "true", "2 times ")],
)
def test_it_says_memory_and_time_and_writes_nothing(
    has_bf16: bool,
    precision: str,
    before: str,
    often: str,
    quick: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ernie_m,
) -> None:
    """In the recipe's own precision where the processor has it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ernie_m_recipes.devices.cpu_has_bf16", lambda: has_bf16)
    options = [*quick, "--trainer.precision=bf16-mixed", f"--run.evaluate_before_fit={before}"]
    code, out, err = ernie_m("estimate", "--config", "xnli/transfer_base", "--steps", "3", *options)
    assert code == 0, err
    assert "val/accuracy" not in out
    assert f"xnli/transfer_base on 1 x cpu, precision {precision}" in out
    assert re.search(r"memory +\d+\.\d GiB at most in a process", out)
    assert re.search(r"training +\d+:\d\d: 12 steps \(2\.0 epochs\), [\d.]+ examples/s, [\d,]+ tokens/s", out)
    assert re.search(r"validation +\d+:\d\d: 4 times 24 examples", out)
    assert re.search(rf"test +\d+:\d\d: {often}36 examples", out)
    assert "from 3 measured steps" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--steps", "none"], ["--steps", "0"], ["--steps"]])
def test_steps_are_a_number(words: list[str], quick: list[str], ernie_m) -> None:
    code, _, err = ernie_m("estimate", "--config", "xnli/transfer_base", *quick, *words)
    assert code == 2
    assert "--steps" in err


@pytest.mark.parametrize(
    ("interval", "expected"), [(100, 10), (1000, 1), (0.5, 8), (1.0, 4)], ids=["steps", "once", "half", "epochs"]
)
def test_validations_are_those_of_the_trainer(interval: float, expected: int) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, val_check_interval=interval, enable_checkpointing=False)
    assert validations(trainer, 1000, 250) == expected


def test_tokens_are_counted_without_padding() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert tokens_of({"attention_mask": mask, "input_ids": mask}) == 5
    assert tokens_of({"source_attention_mask": mask, "target_attention_mask": mask}) == 10
