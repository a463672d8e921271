"""XNLI as it is: all rows of all languages, the real vocabulary, and like-length batches on real lengths."""

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from datamodules import XNLI
from datamodules.xnli import LANGUAGES
from ernie_m import ErnieMTokenizer

pytestmark = pytest.mark.real_data
TESTED = ["ar", "de", "en", "sw", "zh"]


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "data" / "hub" / "facebook" / "xnli"


@pytest.fixture(scope="module")
def tokenizer_dir(shared, tmp_path_factory) -> str:
    files = shared / "tokenizer"
    target = tmp_path_factory.mktemp("tokenizer")
    ErnieMTokenizer(files / "sentencepiece.bpe.model", files / "vocab.txt").save_pretrained(target)
    return str(target)


@pytest.fixture(scope="module")
def data(folder, tokenizer_dir, tmp_path_factory) -> XNLI:
    data = XNLI(
        tokenizer_dir,
        path=str(folder),
        train_languages=["en", "zh"],
        test_languages=TESTED,
        cache_dir=str(tmp_path_factory.mktemp("cache")),
    )
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def test_every_language_has_its_rows_and_labels(data):
    assert data.eval_languages("validate") == list(LANGUAGES)
    assert data.eval_languages("test") == TESTED
    for loaders, count in ((data.val_dataloader(), 2490), (data.test_dataloader(), 5010)):
        for loader in loaders:
            labels, ids = [], []
            for batch in loader:
                labels += batch["labels"].tolist()
                ids += batch["example_ids"].tolist()
            assert sorted(ids) == list(range(count))
            assert Counter(labels) == {label: count // 3 for label in range(3)}


def test_rows_are_those_of_the_files(data, folder, tokenizer_dir):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    table = pq.read_table(folder / "th" / "validation-00000-of-00001.parquet").to_pylist()
    loader = data.val_dataloader()[LANGUAGES.index("th")]
    for batch in list(loader)[::3]:
        for i in range(0, len(batch["example_ids"]), 40):
            row = table[batch["example_ids"][i]]
            ids = tokenizer(row["premise"], row["hypothesis"], truncation=True, max_length=256)["input_ids"]
            assert batch["input_ids"][i][batch["attention_mask"][i].bool()].tolist() == ids
            assert batch["labels"][i] == row["label"]


@pytest.mark.parametrize("languages", [["en"], ["en", "zh"]])
def test_padding_is_under_five_percent_at_batch_32(data, folder, tokenizer_dir, languages, padding_share):
    chosen = XNLI(
        tokenizer_dir,
        path=str(folder),
        train_languages=languages,
        validation_languages=["en"],
        cache_dir=str(data.cache_dir),
    )
    chosen.prepare_data()
    sampler = chosen.train_dataloader().plan
    assert len(sampler.lengths) == 10_071 * ("en" in languages) + 9_985 * ("zh" in languages)
    for epoch in range(3):
        assert padding_share(sampler.global_batches(epoch), sampler.lengths) < 0.05
    # Shuffled alone, a third of the tokens and more would be padding.
    shuffled = np.array_split(np.random.default_rng(0).permutation(len(sampler.lengths)), len(sampler))
    assert padding_share(shuffled, sampler.lengths) > 1 / 3


def test_padding_as_the_batches_have_it(data):
    tokens = positions = 0
    for (micro,) in data.train_dataloader():
        tokens += int(micro["attention_mask"].sum())
        positions += micro["attention_mask"].numel()
    assert 1 - tokens / positions < 0.05
