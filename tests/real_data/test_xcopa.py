"""XCOPA's official files: every label of five languages, and the pairs of every tenth row."""

import json
from pathlib import Path

import pytest

from datamodules import XCOPA
from datamodules.xcopa import QUESTIONS
from ernie_m import ErnieMTokenizer

pytestmark = pytest.mark.real_data

HERE = ["id", "it", "sw", "tr", "zh"]


def test_rows_are_those_of_the_files(shared: Path, tmp_path: Path) -> None:
    folder, files = shared / "data" / "xcopa", shared / "tokenizer"
    tokenizer = ErnieMTokenizer(files / "sentencepiece.bpe.model", files / "vocab.txt")
    data = XCOPA(str(files), path=str(folder), test_languages=HERE, cache_dir=str(tmp_path))
    data.setup("test")
    for language, loader in zip(HERE, data.test_dataloader(), strict=True):
        lines = (folder / f"test.{language}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        found = {}
        for batch in loader:
            for place, row in enumerate(batch["example_ids"].tolist()):
                pairs = zip(batch["input_ids"][place], batch["attention_mask"][place].bool(), strict=True)
                found[row] = [ids[mask].tolist() for ids, mask in pairs], int(batch["labels"][place])
        assert sorted(found) == list(range(500))
        assert [found[number][1] for number in range(500)] == [row["label"] for row in rows]
        for number in range(0, 500, 10):
            row = rows[number]
            expected = [
                tokenizer(row["premise"], f"{QUESTIONS[row['question']]} {row[choice]}")["input_ids"]
                for choice in ("choice1", "choice2")
            ]
            assert found[number][0] == expected
