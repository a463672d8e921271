"""Finding recipes and fragments by name."""

import os
from pathlib import Path

import pytest

from ernie_m_recipes import __version__, registry
from ernie_m_recipes.__main__ import COMMANDS, USAGE, main
from ernie_m_recipes.targets import parse


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (
        ("recipes/xnli/large.yaml", "# The large one\n# With: nothing to do with recipes\nseed_everything: 1\n"),
        ("recipes/quick.yaml", "seed_everything: 1\n"),
        ("configs/trainer/cpu.yaml", "# On the CPU\ntrainer:\n"),
        ("configs/backbone/other.yaml", "# Another\n# With: xnli/*, none\nmodel:\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(registry, "asset_root", lambda: tmp_path)
    return tmp_path


def test_names_are_paths_without_suffix_at_any_depth(assets: Path) -> None:
    assert [(entry.kind, entry.name) for entry in registry.entries()] == [
        ("recipe", "quick"), ("recipe", "xnli/large"), ("fragment", "backbone/other"), ("fragment", "trainer/cpu"),
    ]  # fmt: skip
    assert [entry.name for entry in registry.entries("recipe")] == ["quick", "xnli/large"]


def test_the_description_is_the_first_comment_line(assets: Path) -> None:
    assert registry.find("xnli/large").description == "The large one"
    assert registry.find("quick").description == ""


def test_a_fragment_says_which_recipes_it_goes_with(assets: Path) -> None:
    other, cpu = registry.find("backbone/other"), registry.find("trainer/cpu")
    assert (other.fits("xnli/large"), other.fits("quick")) == (True, False)
    assert (cpu.fits("xnli/large"), cpu.fits("quick")) == (True, True)


def test_a_packaged_name_comes_before_a_file_that_is_called_so(assets: Path, tmp_path: Path, monkeypatch) -> None:
    assert registry.resolve_config("quick") == assets / "recipes" / "quick.yaml"
    assert registry.resolve_config("quick.yaml") == assets / "recipes" / "quick.yaml"
    here = tmp_path / "here"
    here.mkdir()
    (here / "quick").write_text("a: 1\n", encoding="utf-8")
    monkeypatch.chdir(here)
    # Whose folder it is, is not known; a file is named as one.
    assert registry.resolve_config("quick") == assets / "recipes" / "quick.yaml"
    assert registry.resolve_config("./quick") == Path("quick")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("xnli/lagre", "xnli/large"), ("large", "xnli/large"), ("quikc", "quick"), ("trainer/gpu", "trainer/cpu")],
)
def test_unknown_names_are_answered_with_the_closest(assets: Path, typed: str, meant: str) -> None:
    with pytest.raises(registry.UnknownNameError, match=f"did you mean .*{meant}"):
        registry.resolve_config(typed)


def test_a_name_like_nothing_gets_no_suggestion(assets: Path) -> None:
    with pytest.raises(registry.UnknownNameError) as caught:
        registry.find("zzzzzz")
    assert "did you mean" not in str(caught.value)
    assert "ernie-m ls" in str(caught.value)


def test_the_usage_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == USAGE
    for command in COMMANDS:
        assert command in USAGE
    assert main([]) == 2
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("ls", ["pattern", "--markdown"]),
        ("cat", ["name"]),
        ("cp", ["name", "target"]),
        ("check", ["NAME"]),
        ("export", ["source", "target"]),
        ("estimate", ["--steps", "--config", "--trainer.max_epochs"]),
        ("fit", ["--config", "--trainer.max_epochs 5", "--ckpt_path", "--model.learning_rate 5e-05", "train_files"]),
        ("predict", ["--config", "--input FILE", "--output FILE"]),
        ("report", ["RUN", "--output"]),
        ("trim", ["source", "target", "--languages", "--text"]),
        ("convert", ["SOURCE", "TARGET", "--head"]),
    ],
)
def test_a_command_answers_with_its_own_arguments(
    command: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert out != USAGE
    for argument in arguments:
        assert argument in out


@pytest.mark.parametrize(
    ("stated", "expected"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_how_threads_wait_is_set_where_nobody_has(
    stated: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(stated))
    assert main(["ls"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == expected


@pytest.mark.parametrize("words", [["cat"], ["cp"], ["cp", "a", "b", "c"], ["export", "a"], ["ls", "--no"]])
def test_arguments_that_are_missing_or_too_many_are_the_users_mistake(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert f"usage: ernie-m {words[0]}" in capsys.readouterr().err


def test_a_fragment_of_other_recipes_is_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    parse("test", ["--config", "tatoeba/zero_shot_base", "--config", "backbone/ernie_m_large"])
    assert "backbone/ernie_m_large is not made for tatoeba/zero_shot_base" in capsys.readouterr().err
    parse("test", ["--config", "tatoeba/zero_shot_large", "--config", "backbone/ernie_m_large"])
    assert capsys.readouterr().err == ""


def test_the_version_is_the_distributions() -> None:
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{__version__}"\n' in text
