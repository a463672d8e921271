"""Fixtures that every folder of tests shares, and the option `--cpu-bf16`."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what shows that no test depends on what the processor can do, although recipes do."""
    parser.addoption("--cpu-bf16", choices=["yes", "no"], help="run as where bfloat16 is, or is not, faster on the CPU")


def pytest_configure(config: pytest.Config) -> None:
    """Hand the option on, to the processes that tests start too."""
    if stated := config.getoption("--cpu-bf16"):
        os.environ["ERNIE_M_CPU_BF16"] = stated


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, visibly, what this machine cannot run."""
    for item in items:
        if "real_data" in item.keywords and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"real data: {SHARED} is absent"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real corpora and oracles beside the checkout; only for tests marked `real_data`."""
    return SHARED


@pytest.fixture(scope="session")
def padding_share() -> Callable[[Sequence[Any], Any], float]:
    """Computes the share of padding in all tokens, from the rows of each batch and the tokens of each row."""

    def share(batches: Sequence[Any], lengths: Any) -> float:
        positions = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
        return 1 - sum(int(lengths[batch].sum()) for batch in batches) / positions

    return share


@pytest.fixture
def of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Path], Path]]:
    """Puts a copy of a folder into a cache of the Hub, as a commit of some repository, and returns the commit's folder.

    The Hub itself cannot be asked.
    """
    from ernie_m import hub

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(repository: str, folder: Path) -> Path:
        home = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        snapshot = home / "snapshots" / ("a" * 40)
        for place in (snapshot, home / "refs", home / "blobs"):
            place.mkdir(parents=True)
        (home / "refs" / "main").write_text(snapshot.name, encoding="utf-8")
        for file in folder.iterdir():
            shutil.copy(file, home / "blobs")
            (snapshot / file.name).symlink_to(Path("../../blobs", file.name))
        return snapshot

    hub._fetched.cache_clear()
    yield put
    hub._fetched.cache_clear()


@pytest.fixture(scope="session")
def sample_tokenizer_dir() -> Path:
    """The bundled vocabulary of the quickstart: an ERNIE-M tokenizer folder with 8,000 pieces."""
    return ROOT / "datamodules" / "samples" / "tokenizer"


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, sample_tokenizer_dir: Path) -> Path:
    """A folder in published format: random ERNIE-M weights (2 layers, width 32) and the bundled tokenizer."""
    from ernie_m import ErnieMConfig, ErnieMModel

    folder = tmp_path_factory.mktemp("tiny_checkpoint")
    lines = (sample_tokenizer_dir / "vocab.txt").read_text(encoding="utf-8").splitlines()
    torch.manual_seed(0)
    config = ErnieMConfig(
        vocab_size=len(lines), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    ErnieMModel(config).save_pretrained(folder)
    for name in ("vocab.txt", "sentencepiece.bpe.model", "tokenizer_config.json"):
        shutil.copy(sample_tokenizer_dir / name, folder)
    return folder
