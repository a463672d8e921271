"""The wheel, installed far from the checkout, beside a folder that has the name of one of its packages."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import ernie_m_recipes

ROOT = Path(__file__).resolve().parents[2]


def run(*command: object, cwd: Path, expected: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that has the wheel; of this one it sees the dependencies, not the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # A bare path in a .pth file adds the folder and does not read its own .pth files, an editable install's among them.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=folder)
    return folder / "bin"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder beside nothing of ours, with a decoy `datamodules`."""
    (tmp_path / "datamodules").mkdir()
    (tmp_path / "datamodules" / "__init__.py").write_text("raise RuntimeError('the decoy was imported')\n")
    return tmp_path


def test_the_wheel_carries_recipes_configs_and_samples(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("recipes", "configs"):
        for path in (ROOT / folder).rglob("*.yaml"):
            assert f"ernie_m_recipes/_assets/{path.relative_to(ROOT).as_posix()}" in names
    figures = {"ernie_m_recipes/card.csv", "ernie_m_recipes/encoders.csv"}
    assert {"datamodules/samples/tokenizer/vocab.txt", *figures} <= names
    assert {"ernie_m/mini/packed.safetensors", "ernie_m/mini/README.md"} <= names
    assert f"ernie_m_recipes-{ernie_m_recipes.__version__}.dist-info/METADATA" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "recipes/", "configs/"))]


def test_recipes_are_found_far_from_the_checkout(installed: Path, elsewhere: Path) -> None:
    listed = run(installed / "ernie-m", "ls", cwd=elsewhere).stdout
    for path in (ROOT / "recipes").rglob("*.yaml"):
        assert path.relative_to(ROOT / "recipes").with_suffix("").as_posix() in listed
    text = run(installed / "ernie-m", "cat", "xnli/transfer_large", cwd=elsewhere).stdout
    assert text == (ROOT / "recipes" / "xnli" / "transfer_large.yaml").read_text(encoding="utf-8")
    run(installed / "ernie-m", "cp", "quickstart", "mine.yaml", cwd=elsewhere)
    assert (elsewhere / "mine.yaml").is_file()


def test_the_wheel_parses_and_runs_beside_a_decoy(installed: Path, elsewhere: Path) -> None:
    out = run(installed / "ernie-m", "check", "quickstart", cwd=elsewhere).stdout
    assert "0 problems" in out
    small = ["--data.micro_batch_size=4", f"--data.cache_dir={elsewhere / 'cache'}"]
    run(installed / "ernie-m", "fit", "--config", "quickstart", "--config", "debug/fast_dev_run", *small, cwd=elsewhere)


def test_python_m_beside_the_decoy_is_refused_with_the_cure(installed: Path, elsewhere: Path) -> None:
    done = run(installed / "python", "-m", "ernie_m_recipes", "check", "quickstart", cwd=elsewhere, expected=2)
    assert str(elsewhere / "datamodules") in done.stderr
    assert "Run the script `ernie-m`" in done.stderr
    assert "Traceback" not in done.stderr


def test_ls_imports_nothing_heavy(installed: Path, elsewhere: Path) -> None:
    code = "import sys; from ernie_m_recipes.__main__ import main; main(['ls']); print(sorted(sys.modules))"
    modules = run(installed / "python", "-c", code, cwd=elsewhere).stdout.splitlines()[-1]
    for name in ("torch", "lightning", "transformers", "jsonargparse", "numpy", "yaml"):
        assert f"'{name}'" not in modules
