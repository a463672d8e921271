"""PAWS-X in the Hub's layout: every label of every language's validation data, and the ids of every fiftieth pair."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datamodules import PAWSX
from datamodules.paws_x import LANGUAGES
from ernie_m import ErnieMTokenizer

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def tokenizer(shared: Path) -> ErnieMTokenizer:
    files = shared / "tokenizer"
    return ErnieMTokenizer(files / "sentencepiece.bpe.model", files / "vocab.txt")


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data" / "hub" / "google-research-datasets" / "paws-x"


def test_rows_are_those_of_the_files(shared: Path, folder: Path, tokenizer: ErnieMTokenizer, tmp_path: Path) -> None:
    data = PAWSX(str(shared / "tokenizer"), path=str(folder), cache_dir=str(tmp_path))
    data.prepare_data()
    data.setup("validate")
    assert data.eval_languages("validate") == list(LANGUAGES)
    for language, loader in zip(LANGUAGES, data.val_dataloader(), strict=True):
        table = pq.read_table(folder / language / "validation-00000-of-00001.parquet").to_pylist()
        found = {}
        for batch in loader:
            for i, row in enumerate(batch["example_ids"].tolist()):
                ids = batch["input_ids"][i][batch["attention_mask"][i].bool()].tolist()
                found[row] = ids, int(batch["labels"][i])
        assert sorted(found) == list(range(len(table)))
        assert [found[i][1] for i in range(len(table))] == [row["label"] for row in table]
        for i in range(0, len(table), 50):
            first, second = table[i]["sentence1"], table[i]["sentence2"]
            assert found[i][0] == tokenizer(first, second, truncation=True, max_length=128)["input_ids"]
