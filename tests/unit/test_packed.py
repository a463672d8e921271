"""Weights in blocks of 4 bits, and the checkpoint that comes with the package."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file
from transformers import AutoModel, AutoTokenizer

from ernie_m import BUNDLED, InputError, load_tokenizer, resolve
from ernie_m.packed import digest, pack, unpack, unpacked, write_packed

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "ernie_m" / "mini"
SENTENCES = ROOT / "datamodules" / "samples" / "udhr"


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=3).map(lambda shape: (shape[0], 32 * shape[1])),
        elements=st.floats(-4, 4, width=32),
    )
)
def test_blocks_are_no_worse_than_those_of_llama_cpp_and_packing_again_changes_nothing(values: np.ndarray) -> None:
    once = unpack(pack({"w": values}))["w"]
    blocks = values.reshape(-1, 32).astype(np.float64)
    # Its rule: the number with the largest magnitude becomes -8.
    factors = (np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1) / -8).astype(np.float16).astype(float)
    theirs = np.clip(np.rint(blocks / np.where(factors == 0, 1, factors)), -8, 7) * factors
    error = np.square(once.reshape(-1, 32) - blocks).sum(1)
    assert (error <= np.square(theirs - blocks).sum(1) + 1e-6).all()
    twice = unpack(pack({"w": once}))["w"]
    assert np.square(twice - once).sum() <= 1e-12 + 1e-6 * np.square(once).sum()


def test_blocks_of_llama_cpp_come_back_as_they_were() -> None:
    random = np.random.default_rng(0)
    numbers = random.integers(-7, 8, (64, 32))
    numbers[:, 5] = -8
    factors = random.normal(0, 0.02, (64, 1)).astype(np.float16).astype(np.float32)
    values = (numbers * factors).astype(np.float32).reshape(8, 256)
    packed = pack({"w": values, "bias": values[0], "odd": values[:, :33]})
    assert packed["w.blocks"].nbytes + packed["w.factors"].nbytes == values.size * 4.5 / 8
    back = unpack(packed)
    assert set(back) == {"w", "bias", "odd"}
    assert all(np.array_equal(back[name], tensor) for name, tensor in (("w", values), ("bias", values[0])))
    assert np.array_equal(back["odd"], values[:, :33])


@pytest.fixture
def packed_folder(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    write_packed(tiny_checkpoint, tmp_path / "packed")
    return tmp_path / "packed"


def test_a_folder_is_unpacked_once(tmp_path: Path, tiny_checkpoint: Path, packed_folder: Path) -> None:
    target = tmp_path / "cache" / "unpacked"
    assert unpacked(packed_folder, digest(packed_folder), target) == target
    names = {path.name for path in tiny_checkpoint.iterdir()}
    assert {path.name for path in target.iterdir()} == names
    before, after = load_file(tiny_checkpoint / "model.safetensors"), load_file(target / "model.safetensors")
    assert set(before) == set(after)
    assert all(np.allclose(before[name], after[name], atol=0.02) for name in before)
    (target / "config.json").write_text("{}", encoding="utf-8")
    # What is there is not looked at again: that would cost as much as unpacking.
    assert unpacked(packed_folder, digest(packed_folder), target) == target
    assert (target / "config.json").read_text(encoding="utf-8") == "{}"


@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_damaged_folder_is_refused_and_nothing_is_written(tmp_path: Path, packed_folder: Path, damage: str) -> None:
    expected = digest(packed_folder)
    weights = packed_folder / "packed.safetensors"
    content = bytearray(weights.read_bytes())
    content[-9] ^= 1
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(content[:-1000] if damage == "cut" else content)
    with pytest.raises(InputError, match=rf"{re.escape(str(packed_folder))} is damaged.*install the package anew"):
        unpacked(packed_folder, expected, tmp_path / "cache" / "unpacked")
    assert not (tmp_path / "cache").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, packed_folder: Path) -> None:
    (tmp_path / "cache").write_text("in the way", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot be unpacked into .*cache.*XDG_CACHE_HOME names another place"):
        unpacked(packed_folder, digest(packed_folder), tmp_path / "cache" / "unpacked")


# What comes with the package


def test_the_bundled_checkpoint_is_small_and_whole() -> None:
    files = [path for path in MINI.iterdir() if path.suffix != ".py" and path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25_000_000
    folder = Path(resolve(BUNDLED))
    assert folder.name.endswith(digest(MINI)[:12])
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] == "ernie_m"
    assert (
        len(load_tokenizer(BUNDLED))
        == load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"].shape[0]
    )


def test_it_finds_translations_untrained() -> None:
    """Real weights do; random ones find one of fifty."""
    folder = resolve(BUNDLED)
    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    texts = {
        language: {
            row["id"]: row["text"]
            for row in map(json.loads, (SENTENCES / f"{language}.jsonl").read_text(encoding="utf-8").splitlines())
        }
        for language in ("en", "zh", "ru")
    }
    names = sorted(set.intersection(*map(set, texts.values())))
    vectors = {}
    for language, rows in texts.items():
        sentences = [f"query: {rows[name]}" for name in names]
        batch = tokenizer(sentences, padding=True, truncation=True, max_length=64, return_tensors="pt")
        with torch.inference_mode():
            states = network(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        vectors[language] = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    for language in ("zh", "ru"):
        found = (vectors["en"] @ vectors[language].T).argmax(1)
        assert (found == torch.arange(len(names))).float().mean() > 0.6
