"""LASER's own Tatoeba files: every line of 18 languages, its duplicates, and the scores of plain NumPy."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from datamodules import Tatoeba
from datamodules.tatoeba import CODES
from ernie_m import ErnieMConfig, ErnieMModel, ErnieMTokenizer
from lightning_modules import SentenceRetrieval

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data" / "tatoeba" / "v1"


@pytest.fixture(scope="module")
def languages(folder: Path) -> list[str]:
    return [language for language, code in CODES.items() if (folder / f"tatoeba.{code}-eng.eng").is_file()]


@pytest.fixture(scope="module")
def data(shared: Path, folder: Path, languages: list[str], tmp_path_factory: pytest.TempPathFactory) -> Tatoeba:
    cache = tmp_path_factory.mktemp("cache")
    made = Tatoeba(str(shared / "tokenizer"), str(folder), test_languages=languages, cache_dir=str(cache))
    made.setup("test")
    return made


def lines(folder: Path, language: str, side: str) -> list[str]:
    """What `wc -l` counts and `sed` prints."""
    *found, last = (folder / f"tatoeba.{CODES[language]}-eng.{side}").read_bytes().split(b"\n")
    assert last == b""
    return [line.decode() for line in found]


def test_rows_are_the_lines_of_the_files(shared: Path, folder: Path, languages: list[str], data: Tatoeba) -> None:
    files = shared / "tokenizer"
    tokenizer = ErnieMTokenizer(files / "sentencepiece.bpe.model", files / "vocab.txt")
    assert len(languages) == 18
    for language in languages:
        rows = data.row_set("test", [language])
        for side, ending in (("source", "eng"), ("target", CODES[language])):
            texts = lines(folder, language, ending)
            assert len(rows) == len(texts) == {"jv": 205, "sw": 390, "te": 234}.get(language, 1000)
            sample = np.arange(0, len(texts), 37)
            for row, ids in zip(sample, rows.rows(sample).column(f"{side}_input_ids").to_pylist(), strict=True):
                assert ids == tokenizer(texts[row])["input_ids"]
            assert rows.all_scalars("length").max() <= 2 * 192, "the recipes cut nothing"


def test_scores_are_those_of_plain_numpy(shared: Path, folder: Path, data: Tatoeba, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ErnieMConfig(
        vocab_size=250002, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    ErnieMModel(config).save_pretrained(tmp_path)
    module = SentenceRetrieval(backbone=str(tmp_path), counted="source_to_target")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", enable_checkpointing=False, default_root_dir=tmp_path, **quiet)
    two = Tatoeba(data.tokenizer_name, str(folder), test_languages=["jv", "te"], cache_dir=str(data.cache_dir))
    trainer.test(module, datamodule=two, verbose=False)
    module.eval()
    for language in ("jv", "te"):
        result, table = module.results[language], module.tables[language].to_pydict()
        rows = data.row_set("test", [language])
        vectors, duplicates = {}, 0
        for side in ("source", "target"):
            ids = [tuple(row) for row in rows.rows(np.arange(len(rows))).column(f"{side}_input_ids").to_pylist()]
            counts = Counter(ids)
            duplicates += sum(counts[row] > 1 for row in ids)
            with torch.no_grad():
                states = [module.embed(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long)) for row in ids]
            vectors[side] = torch.cat(states).double().numpy()
        assert result["duplicates"] == duplicates
        similarity = vectors["source"] @ vectors["target"].T
        for direction, cosines in (("source_to_target", similarity), ("target_to_source", similarity.T)):
            answers = np.array(table[f"prediction_{direction}"])
            # Padding moves a cosine in its last digits: an answer is one of the nearest within that.
            assert (cosines.max(axis=1) - cosines[np.arange(len(answers)), answers] < 1e-5).all()
            assert result[direction] == pytest.approx(np.mean(answers == np.arange(len(answers))))
        assert result["accuracy"] == result["source_to_target"]


def test_duplicate_lines_of_the_files(folder: Path, languages: list[str], data: Tatoeba) -> None:
    """Lines that are the same text have the same ids; few others have."""
    for language in languages:
        rows = data.row_set("test", [language])
        for side, ending in (("source", "eng"), ("target", CODES[language])):
            texts = lines(folder, language, ending)
            keys = rows.all_scalars(f"{side}_key").tolist()
            assert len(set(zip(texts, keys, strict=True))) == len(set(texts))
            assert len(set(texts)) - len(set(keys)) <= 5
