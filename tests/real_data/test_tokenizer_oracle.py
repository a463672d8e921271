"""Ids equal to those of transformers 4.57, of PaddleNLP's rule and of the plain pieces, on real text."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ernie_m import ErnieMTokenizer

pytestmark = pytest.mark.real_data
RULES = ("hf", "paddle", "raw")


def load(shared: Path, rule: str) -> ErnieMTokenizer:
    folder = shared / "tokenizer"
    return ErnieMTokenizer(folder / "sentencepiece.bpe.model", folder / "vocab.txt", segmentation=rule)


@pytest.fixture(scope="module", params=RULES)
def tokenizer(request: pytest.FixtureRequest, shared: Path) -> ErnieMTokenizer:
    return load(shared, request.param)


def rows(shared: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(shared / "oracle" / "tokenizer" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", ["edge", "udhr", "xnli_dev"])
def test_ids(tokenizer: ErnieMTokenizer, shared: Path, name: str) -> None:
    expected = rows(shared, name)
    texts = [row["text"] for row in expected]
    rule = tokenizer.segmentation
    together = tokenizer(texts, add_special_tokens=False)
    for index, (text, row) in enumerate(zip(texts, expected, strict=True)):
        assert together["input_ids"][index] == row[rule], text
        assert together[index].ids == row[rule], text
        assert tokenizer(text, add_special_tokens=False, return_attention_mask=False)["input_ids"] == row[rule], text
        assert tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) == row[rule], text
    assert tokenizer(texts)["input_ids"] == [[0, *row[rule], 2] for row in expected]


def test_pairs(shared: Path) -> None:
    tokenizer = load(shared, "hf")
    expected = rows(shared, "pairs")
    first, second = [row["a"] for row in expected], [row["b"] for row in expected]
    assert tokenizer(first, second)["input_ids"] == [row["ids"] for row in expected]
    cut = tokenizer(first, second, truncation=True, max_length=32)
    assert cut["input_ids"] == [row["ids_max32"] for row in expected]
    assert [encoding.ids for encoding in cut.encodings] == cut["input_ids"]
    for a, b, row in list(zip(first, second, expected, strict=True))[::20]:
        assert tokenizer(a, b, truncation="longest_first", max_length=32)["input_ids"] == row["ids_max32"]
        assert tokenizer.encode(a, b) == row["ids"]


def test_offsets_on_real_text(tokenizer: ErnieMTokenizer, shared: Path) -> None:
    """In 37 languages each token's characters, normalised by themselves, hold the token."""
    texts = [row["text"] for row in rows(shared, "udhr") + rows(shared, "edge")]
    encodings = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)
    normalise = tokenizer.sp_model.Normalize
    for text, encoding in zip(texts, encodings.encodings, strict=True):
        assert encoding.offsets == sorted(encoding.offsets)
        for token, (begin, end) in zip(encoding.tokens, encoding.offsets, strict=True):
            if token != "[UNK]":
                assert token.replace("▁", "") in normalise(text[begin:end]).replace("▁", ""), text
