"""transformers' pipelines and collators run on the tokenizer, which they ask for offsets and word ids."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DataCollatorForLanguageModeling, XLMRobertaTokenizer, pipeline

from ernie_m import (
    ErnieMConfig,
    ErnieMForMaskedLM,
    ErnieMForSequenceClassification,
    ErnieMForTokenClassification,
    ErnieMModel,
    ErnieMTokenizer,
)

TEXT = "Everyone has the right to life, liberty and security of person."


@pytest.fixture(scope="module")
def tokenizer(sample_tokenizer_dir: Path) -> ErnieMTokenizer:
    return ErnieMTokenizer.from_pretrained(sample_tokenizer_dir)


def run(task: str, kind: Any, tokenizer: ErnieMTokenizer, labels: list[str], **options: Any) -> Any:
    config = ErnieMConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        id2label=dict(enumerate(labels)), label2id={label: index for index, label in enumerate(labels)},
    )  # fmt: skip
    torch.manual_seed(0)
    return pipeline(task, model=kind(config), tokenizer=tokenizer, **options)


@pytest.fixture(scope="module")
def alike(sample_tokenizer_dir: Path) -> tuple[ErnieMTokenizer, XLMRobertaTokenizer]:
    """A tokenizer by the rule `raw`, and transformers' own with the same pieces and ids."""
    ours = ErnieMTokenizer.from_pretrained(sample_tokenizer_dir, segmentation="raw")
    model = ours.sp_model
    pieces = [(model.IdToPiece(index), model.GetScore(index)) for index in range(3, model.GetPieceSize())]
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return ours, XLMRobertaTokenizer(vocab=special + pieces, model_max_length=512)


def entities(tokenizer: Any, text: Any, options: dict[str, Any], **call: Any) -> list[tuple[Any, ...]]:
    labels = ["B-X", "I-X", "B-Y", "O"]
    classify = run("token-classification", ErnieMForTokenClassification, tokenizer, labels, **options)
    found = classify(text, **call)
    found = found[0] if isinstance(found[0], list) else found
    return [(e.get("entity_group", e.get("entity")), e["start"], e["end"], float(e["score"])) for e in found]


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_token_classification(alike: tuple[Any, Any], tokenizer: ErnieMTokenizer, strategy: str) -> None:
    options = {"aggregation_strategy": strategy, "ignore_labels": []}
    ours, theirs = (entities(each, TEXT, options) for each in alike)
    assert ours == theirs
    assert (ours[0][1], ours[-1][2]) == (0, len(TEXT))
    cut = entities(tokenizer, TEXT, options)
    assert (cut[0][1], cut[-1][2]) == (0, len(TEXT))


def test_token_classification_of_long_texts_and_of_words(alike: tuple[Any, Any]) -> None:
    text = " ".join([TEXT] * 60)
    assert len(alike[0](text)["input_ids"]) > 2 * 512
    options = {"aggregation_strategy": "simple", "stride": 16, "ignore_labels": []}
    ours, theirs = (entities(each, text, options) for each in alike)
    assert ours == theirs
    assert (ours[0][1], ours[-1][2]) == (0, len(text))
    ours, theirs = (entities(each, TEXT.split(), options, is_split_into_words=True) for each in alike)
    assert ours == theirs


def test_fill_mask(tokenizer: ErnieMTokenizer) -> None:
    fill = run("fill-mask", ErnieMForMaskedLM, tokenizer, ["a"])
    best = fill("Everyone has the [MASK] to life", targets=["▁right", "▁has"])
    assert {answer["token"] for answer in best} == set(tokenizer.convert_tokens_to_ids(["▁right", "▁has"]))
    assert {answer["sequence"] for answer in best} >= {"Everyone has the right to life"}


def test_classification_and_features(tokenizer: ErnieMTokenizer) -> None:
    labels = ["contradiction", "neutral", "entailment"]
    classify = run("text-classification", ErnieMForSequenceClassification, tokenizer, labels)
    assert classify({"text": TEXT, "text_pair": "the right"})["label"] in labels
    assert len(classify([TEXT, "the right"], batch_size=2)) == 2
    # The second text is longer than the first: the pipeline relies on the words of our error to go on.
    zero_shot = run("zero-shot-classification", ErnieMForSequenceClassification, tokenizer, labels)
    assert sorted(zero_shot("x", candidate_labels=["law", TEXT * 10])["labels"]) == sorted(["law", TEXT * 10])
    features = run("feature-extraction", ErnieMModel, tokenizer, ["a"])
    assert len(features(TEXT)[0]) == len(tokenizer(TEXT)["input_ids"])


def test_whole_words_are_masked(tokenizer: ErnieMTokenizer) -> None:
    collate = DataCollatorForLanguageModeling(tokenizer, whole_word_mask=True, mlm_probability=0.5)
    options = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
    rows = [tokenizer(text, **options) for text in ("Everyone has the right", "the right")]
    torch.manual_seed(0)
    batch = collate([dict(row) for row in rows])
    words = torch.tensor([-1 if word is None else word for word in rows[0].word_ids()])
    chosen = batch["labels"][0] != -100
    assert chosen.any()
    for word in words.unique():
        assert len(set(chosen[words == word].tolist())) == 1, "a word is masked as a whole or not at all"
