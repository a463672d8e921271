"""Rows, windows, offsets and words: held against transformers' XLM-R tokenizer and its generic Python code."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DataCollatorWithPadding, XLMRobertaTokenizer
from transformers.tokenization_utils_base import BatchEncoding

from ernie_m import ErnieMTokenizer, InputError

# Composed text, known characters: here XLM-R's tokenizer, which gets no normaliser below, cuts as sentencepiece does.
FIRST = [
    "Everyone has the right to life, liberty and security of person.",
    "a  right",
    "Tout  individu a droit à la vie",
]
SECOND = [
    "Jeder hat das Recht auf Leben, Freiheit und Sicherheit der Person.",
    "vie",
    "the right to own property alone",
]
FIELDS = (
    "ids", "tokens", "offsets", "word_ids", "sequence_ids", "attention_mask", "special_tokens_mask",
)  # fmt: skip
RENAMED = {"<s>": "[CLS]", "</s>": "[SEP]", "<pad>": "[PAD]", "<unk>": "[UNK]"}


@pytest.fixture(scope="module")
def ours(sample_tokenizer_dir: Path) -> ErnieMTokenizer:
    return ErnieMTokenizer.from_pretrained(sample_tokenizer_dir, segmentation="raw")


@pytest.fixture(scope="module")
def theirs(ours: ErnieMTokenizer) -> XLMRobertaTokenizer:
    """The same pieces with the same ids in the library `tokenizers`."""
    model = ours.sp_model
    pieces = [(model.IdToPiece(index), model.GetScore(index)) for index in range(3, model.GetPieceSize())]
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return XLMRobertaTokenizer(vocab=special + pieces, model_max_length=512)


@pytest.fixture
def both(ours: ErnieMTokenizer, theirs: XLMRobertaTokenizer) -> Any:
    """Calls both, compares all that both give, and returns ours."""

    def call(*texts: Any, sides: tuple[str, str] = ("right", "right"), **options: Any) -> BatchEncoding:
        for tokenizer in (ours, theirs):
            tokenizer.padding_side, tokenizer.truncation_side = sides
        mine, reference = ours(*texts, **options), theirs(*texts, **options)
        for tokenizer in (ours, theirs):
            tokenizer.padding_side = tokenizer.truncation_side = "right"
        assert list(mine) == list(reference)
        for key in reference:
            assert type(mine[key]) is type(reference[key])
            assert np.asarray(mine[key], dtype=object).tolist() == np.asarray(reference[key], dtype=object).tolist(), (
                key
            )
        assert len(mine.encodings) == len(reference.encodings)
        for row, expected in zip(mine.encodings, reference.encodings, strict=True):
            for field in FIELDS:
                value = getattr(expected, field)
                value = [RENAMED.get(token, token) for token in value] if field == "tokens" else value
                assert getattr(row, field) == value, field
            assert (len(row), row.n_sequences) == (len(expected), expected.n_sequences)
        return mine

    return call


OUTPUTS = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_length": True}


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        OUTPUTS,
        {"add_special_tokens": False, **OUTPUTS},
        {"padding": True, **OUTPUTS},
        {"padding": True, "pad_to_multiple_of": 8, "return_tensors": "pt", **OUTPUTS},
        {"padding": "max_length", "max_length": 64, "return_tensors": "np", **OUTPUTS},
        {"padding": "longest", "padding_side": "left", **OUTPUTS},
        {"padding": "max_length", "truncation": True, "max_length": 8, **OUTPUTS},
        {"return_attention_mask": False},
    ],
)
def test_batches(both: Any, pairs: bool, options: dict[str, Any]) -> None:
    texts = (FIRST, SECOND) if pairs else (FIRST,)
    if pairs and options.get("truncation"):
        # The two libraries give an odd token to different texts; test_truncation_of_pairs has another oracle.
        options = options | {"truncation": "only_first", "max_length": 34}
        texts = (FIRST[:1], SECOND[:1])
    both(*texts, **options)
    both(*texts, sides=("left", "left"), **options)


@pytest.mark.parametrize(
    "options", [{}, OUTPUTS, {"return_tensors": "pt"}, {"padding": "max_length", "max_length": 40}]
)
def test_single_texts(both: Any, options: dict[str, Any]) -> None:
    both(FIRST[0], **options)
    both(FIRST[0], SECOND[0], **options)
    both([(FIRST[0], SECOND[0]), (FIRST[1], SECOND[1])], **(options | {"padding": True}))


@pytest.mark.parametrize("sides", [("right", "right"), ("left", "left")])
@pytest.mark.parametrize(
    ("pairs", "truncation", "max_length", "stride"),
    [
        (False, True, 8, 0),
        (False, "only_first", 9, 3),
        (False, "longest_first", 9, 6),
        (True, "only_first", 40, 0),
        (True, "only_first", 34, 2),
        (True, "only_second", 40, 0),
        (True, "only_second", 34, 1),
        (True, "longest_first", 22, 2),
    ],
)
def test_windows(both: Any, sides: tuple[str, str], pairs: bool, truncation: Any, max_length: int, stride: int) -> None:
    cut = {"truncation": truncation, "max_length": max_length, "stride": stride, "return_overflowing_tokens": True}
    texts = (FIRST[:1], SECOND[:1]) if pairs else (FIRST,)
    rows = both(*texts, sides=sides, padding=True, **cut, **OUTPUTS)
    assert len(rows["input_ids"]) > len(texts[0])
    both(*(text[0] for text in texts), sides=sides, **cut, **OUTPUTS)
    both(*(text[0] for text in texts), sides=sides, return_tensors="pt", padding=True, **cut)


def test_overflow_without_anything_to_cut(both: Any) -> None:
    rows = both(FIRST, return_overflowing_tokens=True, truncation=True, max_length=64)
    assert rows["overflow_to_sample_mapping"] == [0, 1, 2]
    assert both(FIRST, return_overflowing_tokens=True)["overflow_to_sample_mapping"] == [0, 1, 2]


def test_words(both: Any) -> None:
    words = [text.split() for text in FIRST]
    both(words, is_split_into_words=True, **OUTPUTS)
    both(words, [text.split() for text in SECOND], is_split_into_words=True, **OUTPUTS)
    both(words[0], is_split_into_words=True, **OUTPUTS)
    both(words[0], SECOND[0].split(), is_split_into_words=True, **OUTPUTS)
    both(words[0], is_split_into_words=True, truncation=True, max_length=8, stride=2, return_overflowing_tokens=True)
    both([(words[0], words[1])], is_split_into_words=True, **OUTPUTS)


def test_words_without_tokens(ours: ErnieMTokenizer) -> None:
    encoding = ours(["the", "", " ", "\u200b", "right"], is_split_into_words=True)
    assert encoding.word_ids() == [None, 0, 4, None]
    assert encoding.word_to_tokens(1) is None


def test_questions_about_places(both: Any) -> None:
    ours = both(FIRST, SECOND)
    words = both([text.split() for text in FIRST], is_split_into_words=True)
    theirs_of = {id(ours): (FIRST, SECOND), id(words): (FIRST,)}
    assert len(theirs_of) == 2
    for sequence, text in enumerate((FIRST[0], SECOND[0])):
        for index, character in enumerate(text):
            token = ours.char_to_token(0, index, sequence)
            if character == " ":
                assert token is None
            else:
                span = ours.token_to_chars(0, token)
                assert span.start <= index < span.end
                assert ours.char_to_word(0, index, sequence) == text[: index + 1].count(" ")
        assert ours.word_to_chars(0, 1, sequence) == (text.index(" ") + 1, text.index(" ", text.index(" ") + 1))
    assert ours.token_to_sequence(0, 1) == 0
    assert ours.token_to_word(0, 1) == 0
    assert ours.token_to_chars(0, 0) is None
    assert ours.word_to_tokens(0, 0).start == 1


@pytest.mark.parametrize("question", ["char_to_token", "char_to_word", "word_to_tokens"])
def test_questions_answered_alike(ours: ErnieMTokenizer, theirs: XLMRobertaTokenizer, question: str) -> None:
    mine, reference = ours(FIRST[0], SECOND[0]), theirs(FIRST[0], SECOND[0])
    for sequence in (0, 1):
        for index in range(10):
            expected = getattr(reference, question)(0, index, sequence)
            assert getattr(mine, question)(0, index, sequence) == expected
    for question_of_token in ("token_to_sequence", "token_to_word", "token_to_chars"):
        for token in range(len(mine["input_ids"])):
            assert getattr(mine, question_of_token)(token) == getattr(reference, question_of_token)(token)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("length", range(4, 50))
def test_truncation_of_pairs(ours: ErnieMTokenizer, length: int, side: str) -> None:
    """The generic Python code of transformers cuts pairs as the former ErnieMTokenizer did."""
    ours.truncation_side = side
    rows = ours(FIRST, SECOND, truncation=True, max_length=length)["input_ids"]
    for row, first, second in zip(rows, FIRST, SECOND, strict=True):
        a, b = (ours(text, add_special_tokens=False)["input_ids"] for text in (first, second))
        a, b, _ = ours.truncate_sequences(a, b, len(a) + len(b) + 4 - length, "longest_first")
        assert row == [0, *a, 2, 2, *b, 2]
    ours.truncation_side = "right"


def test_prepare_for_model_agrees(ours: ErnieMTokenizer) -> None:
    options: dict[str, Any] = dict(
        padding="max_length", truncation="only_second", max_length=40, return_token_type_ids=True,
        return_special_tokens_mask=True,
    )  # fmt: skip
    a, b = (ours(text, add_special_tokens=False)["input_ids"] for text in (FIRST[0], SECOND[0]))
    assert dict(ours.prepare_for_model(a, b, **options)) == dict(ours(FIRST[0], SECOND[0], **options))


def test_token_types(ours: ErnieMTokenizer) -> None:
    encoding = ours("the right", "the right", return_token_type_ids=True)
    assert encoding.tokens() == ["[CLS]", "▁the", "▁right", "[SEP]", "[SEP]", "▁the", "▁right", "[SEP]"]
    assert encoding["token_type_ids"] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert ours("the right", return_token_type_ids=True)["token_type_ids"] == [0, 0, 0, 0]
    plain = ours("the right", "the right", return_token_type_ids=True, add_special_tokens=False)
    assert plain["token_type_ids"] == [0, 0, 1, 1]


def test_one_separator(sample_tokenizer_dir: Path) -> None:
    tokenizer = ErnieMTokenizer.from_pretrained(sample_tokenizer_dir, pair_separators=1)
    encoding = tokenizer(["the right"] * 30, ["the right"] * 30, return_special_tokens_mask=True)
    assert encoding.tokens(29) == ["[CLS]", "▁the", "▁right", "[SEP]", "▁the", "▁right", "[SEP]"]
    assert encoding["special_tokens_mask"][0] == [1, 0, 0, 1, 0, 0, 1]
    assert tokenizer.num_special_tokens_to_add(pair=True) == 3
    assert len(tokenizer("the right", "the right", truncation=True, max_length=6)["input_ids"]) == 6


def test_offsets_of_hard_characters(sample_tokenizer_dir: Path) -> None:
    text = "ﬁn  de\u0301ja\u0300 ２０２３年 😀\u200bx ½"
    for rule in ("hf", "paddle", "raw"):
        tokenizer = ErnieMTokenizer.from_pretrained(sample_tokenizer_dir, segmentation=rule)
        encoding = tokenizer(text, return_offsets_mapping=True)
        assert text[: encoding.token_to_chars(1).end].startswith("ﬁ")
        assert encoding.word_to_chars(1) == (4, 10), "a decomposed character is whole"
        assert encoding.word_to_chars(2) == (11, 16)
        assert text[slice(*encoding.word_to_chars(3))].startswith("😀")
        assert encoding.offset_mapping[-2] == (len(text) - 1, len(text))


def test_ids_as_input(ours: ErnieMTokenizer) -> None:
    assert ours([10, 11, 12], [13])["input_ids"] == [0, 10, 11, 12, 2, 2, 13, 2]
    rows = ours([[10, 11], [12]], padding=True, return_tensors="pt")
    assert rows["input_ids"].tolist() == [[0, 10, 11, 2], [0, 12, 2, 1]]
    assert rows.word_ids(0) == [None, None, None, None]


def test_other_sequences_of_texts(ours: ErnieMTokenizer) -> None:
    expected = ours(FIRST)
    assert ours(tuple(FIRST)) == expected
    assert ours(np.array(FIRST)) == expected
    assert ours([]) == {"input_ids": [], "attention_mask": []}
    mixed = ours([FIRST[0], (FIRST[1], SECOND[1])])
    assert mixed["input_ids"] == [ours(FIRST[0])["input_ids"], ours(FIRST[1], SECOND[1])["input_ids"]]


def test_strategies_that_cannot_work(ours: ErnieMTokenizer) -> None:
    # transformers' zero-shot pipeline looks for these two words.
    with pytest.raises(InputError, match="too short"):
        ours("vie", SECOND[0], truncation="only_first", max_length=10)
    with pytest.raises(InputError, match="needs a second text"):
        ours(FIRST[0], truncation="only_second", max_length=10)
    with pytest.raises(InputError, match="no room for the 4 special tokens"):
        ours(FIRST[0], SECOND[0], truncation=True, max_length=3)
    with pytest.raises(InputError, match="stride=6"):
        ours(FIRST[0], truncation=True, max_length=8, stride=6, return_overflowing_tokens=True)


def test_encodings_travel_without_the_tokenizer(ours: ErnieMTokenizer) -> None:
    batch = ours(FIRST, SECOND, padding=True, return_tensors="pt")
    data = pickle.dumps(batch)
    assert len(data) < 20_000
    again = pickle.loads(data)
    assert again.word_ids(1) == batch.word_ids(1)
    assert again[0].tokens == batch[0].tokens
    assert [row.ids for row in batch[1:]] == batch["input_ids"].tolist()[1:]


def test_encodings_do_not_follow_a_changed_list(ours: ErnieMTokenizer) -> None:
    texts = list(FIRST)
    batch = ours(texts)
    texts[0] = "other"
    assert batch[0].ids == batch["input_ids"][0]


def test_collator_pads_offsets_too(ours: ErnieMTokenizer) -> None:
    rows = [ours(text, return_offsets_mapping=True) for text in FIRST]
    batch = DataCollatorWithPadding(ours)([dict(row) for row in rows])
    assert batch["offset_mapping"].shape == (*batch["input_ids"].shape, 2)
    assert torch.equal(batch["attention_mask"].sum(1), torch.tensor([len(row["input_ids"]) for row in rows]))


def test_long_texts_are_warned_about(sample_tokenizer_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = ErnieMTokenizer.from_pretrained(sample_tokenizer_dir, model_max_length=8)
    assert len(tokenizer(FIRST[0], truncation=True)["input_ids"]) == 8
    assert len(tokenizer(FIRST[0])["input_ids"]) > 8
    assert "sequence-length-is-longer-than-the-specified-maximum" in tokenizer.deprecation_warnings
