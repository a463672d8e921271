"""What a run finds here: said for people, with the command for what is missing."""

import os
from importlib import metadata
from pathlib import Path

import pytest
import torch

from ernie_m_recipes import doctor
from ernie_m_recipes.__main__ import main


def test_it_says_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ERNIE_M_CPU_BF16", "no")
    assert main(["doctor"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    said = {line[0]: line[1] for line in lines if len(line) == 2}
    assert said["torch"] == torch.__version__
    assert f"{len(os.sched_getaffinity(0))} processors" in said["CPU"]
    assert said["CPU"].endswith("bf16-mixed falls back to 32-true")
    assert said["runs"].startswith(f"{tmp_path / 'runs'}, ")
    assert ["none"] in lines
    assert not {"test", "lint"} & set(said)


def test_what_is_missing_has_its_command(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    versions = {"torch": "2.0.0", "faiss-cpu": "1.0", "wandb": "99"}

    def version(name: str) -> str:
        if name in ("seqeval", "sacremoses"):
            raise metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    real = metadata.version
    monkeypatch.setattr(metadata, "version", version)
    assert doctor.main([]) == 2
    out = capsys.readouterr().out
    _, _, problems = out.partition("problems\n")
    assert "torch              2.0.0, but >=2.11 is needed" in problems
    assert "seqeval            missing, but >=1.2.2 is needed: pip install ernie-m-recipes" in problems
    # Of an extra what is there must be right; what is not there nobody needs.
    assert "faiss-cpu          1.0, but >=1.12 is needed" in problems
    assert "sacremoses" not in problems
    assert "xlm                sacremoses missing: pip install 'ernie-m-recipes[xlm]'" in out


def test_a_place_that_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a" / "b"))
    found = dict(doctor.places())
    assert found["own cache"].startswith(str(tmp_path / "a" / "b" / "ernie-m-recipes"))
    assert "GB free" in found["own cache"]
