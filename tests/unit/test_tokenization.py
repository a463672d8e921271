"""The tokenizer's files, identity, decoding and errors."""

import copy
import json
import pickle
import shutil
from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer

from ernie_m import ErnieMTokenizer, InputError

TEXTS = [
    "Everyone has the right to life, liberty and security of person.",
    "人人生而自由",
    "Tout individu a droit à la vie",
]


@pytest.fixture(scope="module")
def tokenizer(sample_tokenizer_dir: Path) -> ErnieMTokenizer:
    return ErnieMTokenizer.from_pretrained(sample_tokenizer_dir)


@pytest.fixture
def files(sample_tokenizer_dir: Path, tmp_path: Path) -> Path:
    """A copy of the bundled tokenizer to spoil."""
    return Path(shutil.copytree(sample_tokenizer_dir, tmp_path / "tokenizer"))


def test_published_layout_loads(sample_tokenizer_dir: Path, tmp_path: Path) -> None:
    for name in ("sentencepiece.bpe.model", "vocab.txt"):
        shutil.copy(sample_tokenizer_dir / name, tmp_path)
    special = {
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
    }
    # What the Hub's susnato/ernie-m-* hold beside the two vocabulary files.
    config = special | {
        "do_lower_case": False, "encoding": "utf8", "model_max_length": 514, "sp_model_kwargs": {},
        "special_tokens_map_file": None, "tokenizer_class": "ErnieMTokenizer",
    }  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(loaded, ErnieMTokenizer)
    assert loaded.segmentation == "hf"
    assert loaded.model_max_length == 512, "the position table has 514 rows, 2 of them unused"
    assert [loaded.cls_token_id, loaded.pad_token_id, loaded.sep_token_id, loaded.unk_token_id] == [0, 1, 2, 3]
    assert loaded.mask_token_id == len(loaded) - 1 == loaded.vocab_size - 1


def test_ids_are_line_numbers(tokenizer: ErnieMTokenizer, sample_tokenizer_dir: Path) -> None:
    lines = (sample_tokenizer_dir / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert tokenizer.convert_ids_to_tokens(list(range(len(lines)))) == lines
    assert tokenizer.convert_tokens_to_ids(lines) == list(range(len(lines)))
    assert tokenizer.convert_tokens_to_ids("no such token") == tokenizer.unk_token_id
    assert tokenizer.convert_ids_to_tokens(10**6) == "[UNK]"


def test_answers_with_a_mask_and_without_types(tokenizer: ErnieMTokenizer) -> None:
    assert list(tokenizer("a")) == ["input_ids", "attention_mask"]
    assert tokenizer("a", return_attention_mask=False).keys() == {"input_ids"}


@pytest.mark.parametrize("rule", ["hf", "paddle", "raw"])
def test_save_and_load(sample_tokenizer_dir: Path, tmp_path: Path, rule: str) -> None:
    first = ErnieMTokenizer.from_pretrained(sample_tokenizer_dir, segmentation=rule, pair_separators=1)
    first.add_tokens(["xyzzy"])
    first.save_pretrained(tmp_path)
    second = AutoTokenizer.from_pretrained(tmp_path)
    assert (second.segmentation, second.pair_separators, len(second)) == (rule, 1, len(first))
    texts = [*TEXTS, "a [SEP] xyzzy 12,5", "a  中文 ﬁ"]
    assert second(texts, texts)["input_ids"] == first(texts, texts)["input_ids"]
    for name in ("vocab.txt", "sentencepiece.bpe.model"):
        assert (tmp_path / name).read_bytes() == (sample_tokenizer_dir / name).read_bytes()
    # The rule can be changed when loading, and special tokens in texts follow it.
    other = ErnieMTokenizer.from_pretrained(tmp_path, segmentation="hf" if rule == "raw" else "raw")
    assert other.split_special_tokens is (rule != "raw")


def test_saving_leaves_nothing_else(tokenizer: ErnieMTokenizer, tmp_path: Path) -> None:
    tokenizer.save_vocabulary(str(tmp_path), "mine")
    assert {path.name for path in tmp_path.iterdir()} == {"mine-vocab.txt", "mine-sentencepiece.bpe.model"}
    with pytest.raises(InputError, match="not a folder"):
        tokenizer.save_vocabulary(str(tmp_path / "absent"))


def test_pickled_and_copied(tokenizer: ErnieMTokenizer) -> None:
    expected = tokenizer(TEXTS * 20, return_offsets_mapping=True)
    for again in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert again(TEXTS * 20, return_offsets_mapping=True) == expected
        again.add_tokens(["xyzzy"])
        assert len(again) == len(tokenizer) + 1
    assert tokenizer.tokenize("xyzzy") != ["xyzzy"]


def test_special_tokens_in_a_text_by_rule(sample_tokenizer_dir: Path) -> None:
    text = "[CLS] a[SEP]b [MASK]"
    by_rule = {
        rule: ErnieMTokenizer.from_pretrained(sample_tokenizer_dir, segmentation=rule)
        for rule in ("hf", "paddle", "raw")
    }
    assert by_rule["hf"].tokenize(text) == ["[CLS]", "▁a", "[SEP]", "▁b", "[MASK]"]
    for rule in ("paddle", "raw"):
        assert not {"[CLS]", "[SEP]", "[MASK]"} & set(by_rule[rule].tokenize(text))
        assert by_rule[rule].tokenize(text, split_special_tokens=False) == by_rule["hf"].tokenize(text)
        assert by_rule[rule](text, split_special_tokens=False) == by_rule["hf"](text)
    assert by_rule["hf"](text, split_special_tokens=True) != by_rule["hf"](text)


def test_added_tokens(sample_tokenizer_dir: Path) -> None:
    from transformers import AddedToken

    tokenizer = ErnieMTokenizer.from_pretrained(sample_tokenizer_dir)
    size = len(tokenizer)
    assert (
        tokenizer.add_tokens(["foo", "foobar", AddedToken("whole", single_word=True), AddedToken("<l>", lstrip=True)])
        == 4
    )
    assert tokenizer.add_special_tokens({"extra_special_tokens": ["<x>"]}) == 1
    assert len(tokenizer) == size + 5
    assert tokenizer.tokenize("afoobarb<x>") == ["▁a", "foobar", "▁b", "<x>"], "the longest token is taken"
    assert "whole" in tokenizer.tokenize("a whole b")
    assert "whole" not in tokenizer.tokenize("wholesale")
    encoding = tokenizer("a  <l>b", return_offsets_mapping=True)
    assert encoding.tokens() == ["[CLS]", "▁a", "<l>", "▁b", "[SEP]"]
    assert encoding["offset_mapping"] == [(0, 0), (0, 1), (1, 6), (6, 7), (0, 0)]
    assert tokenizer.decode(tokenizer("a foo <x> b")["input_ids"], skip_special_tokens=True) == "a foo b"
    assert [row[1:-1] for row in tokenizer(["foo"] * 30)["input_ids"]] == [[size]] * 30


def test_lower_case_keeps_places_and_special_tokens(sample_tokenizer_dir: Path) -> None:
    tokenizer = ErnieMTokenizer.from_pretrained(sample_tokenizer_dir, do_lower_case=True)
    text = "İZ [MASK] EVERYONE"  # "İ".lower() has two characters
    encoding = tokenizer(text, return_offsets_mapping=True)
    assert encoding["input_ids"] == tokenizer("i\u0307z [MASK] everyone")["input_ids"]
    assert tokenizer.mask_token_id in encoding["input_ids"]
    spans = [span for span in encoding["offset_mapping"] if span != (0, 0)]
    assert spans[0][0] == 0
    assert spans[-1][1] == len(text)
    assert text[slice(*encoding["offset_mapping"][encoding["input_ids"].index(tokenizer.mask_token_id)])] == "[MASK]"


def test_decoding_gives_spaces_back(tokenizer: ErnieMTokenizer) -> None:
    for text in (TEXTS[0], TEXTS[2]):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    pair = tokenizer("one right", "自由 life")["input_ids"]
    assert tokenizer.decode(pair) == "[CLS] one right [SEP] [SEP] 自由 life [SEP]"
    assert tokenizer.decode(pair, skip_special_tokens=True) == "one right 自由 life"
    assert tokenizer.decode(tokenizer("the [MASK] life", add_special_tokens=False)["input_ids"]) == "the [MASK] life"
    assert tokenizer.batch_decode([pair, pair[:4]])[0] == tokenizer.decode(pair)
    assert tokenizer.decode(pair[1]) == tokenizer.decode([pair[1]])


def test_unknown_characters_do_not_split_a_decoded_text(tokenizer: ErnieMTokenizer) -> None:
    assert tokenizer.decode(tokenizer("a😀b", add_special_tokens=False)["input_ids"]) == "a[UNK]b"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a sentencepiece model"),
        (b"hello world", "is not a sentencepiece model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (None, r"No sentencepiece\.bpe\.model"),
    ],
)
def test_spoilt_model_is_named(files: Path, content: bytes | None, message: str) -> None:
    path = files / "sentencepiece.bpe.model"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        ErnieMTokenizer.from_pretrained(files)
    assert str(files) in str(caught.value)


def test_a_normalisation_to_what_is_no_text_is_named(files: Path) -> None:
    path = files / "sentencepiece.bpe.model"
    content = path.read_bytes()
    path.write_bytes(content.replace("\0ア\0".encode(), b"\0\xe3\x82A\0"))
    assert path.read_bytes() != content
    tokenizer = ErnieMTokenizer.from_pretrained(files)
    for use in (tokenizer.tokenize, lambda text: tokenizer([text] * 30)):
        with pytest.raises(InputError, match=r"sentencepiece\.bpe\.model: its normalisation turns a text into bytes"):
            use("right ｱ")


def _duplicate(lines: list[str]) -> bytes:
    return "\n".join([*lines[:10], lines[5], *lines[10:]]).encode()


def _without_mask(lines: list[str]) -> bytes:
    return "\n".join(lines[:-1]).encode()


def _of_another_model(lines: list[str]) -> bytes:
    return "\n".join([*lines[:4], *(f"word{number}" for number in range(8000)), "[MASK]"]).encode()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_duplicate, "line 11: .* is on line 6 already"),
        (_without_mask, r"lacks the special tokens \[MASK\]"),
        (_of_another_model, "do not belong together"),
        (lambda lines: b"\xff\xfe" + b"\n", "is not UTF-8"),
        (None, r"No vocab\.txt"),
    ],
)
def test_spoilt_vocabulary_is_named(files: Path, spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    path = files / "vocab.txt"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    if spoil is None:
        path.unlink()
    else:
        path.write_bytes(spoil(lines))
    with pytest.raises(InputError, match=message) as caught:
        ErnieMTokenizer.from_pretrained(files)
    assert str(files) in str(caught.value)


def test_byte_fallback_is_refused(files: Path, tmp_path: Path) -> None:
    sentences = ["the right to life and liberty", "everyone has rights"] * 50
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_prefix=str(tmp_path / "bytes"), vocab_size=300, byte_fallback=True,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    shutil.move(tmp_path / "bytes.model", files / "sentencepiece.bpe.model")
    with pytest.raises(InputError, match="falls back to bytes"):
        ErnieMTokenizer.from_pretrained(files)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"segmentation": "bert"}, "segmentation='bert' is none of 'hf', 'paddle', 'raw'"),
        ({"pair_separators": 3}, "neither 1 nor 2"),
        ({"sp_model_kwargs": {"enable_sampling": True}}, "not supported"),
        ({"cls_token": "<s>"}, "lacks the special tokens <s>"),
    ],
)
def test_wrong_arguments(sample_tokenizer_dir: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ErnieMTokenizer.from_pretrained(sample_tokenizer_dir, **arguments)


def test_missing_paths(sample_tokenizer_dir: Path) -> None:
    model = sample_tokenizer_dir / "sentencepiece.bpe.model"
    with pytest.raises(InputError, match="vocab_file=None"):
        ErnieMTokenizer(model)
    with pytest.raises(InputError, match="is not a file"):
        ErnieMTokenizer(model, model.with_name("absent.txt"))


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "is None of type NoneType"),
        (float("nan"), "is nan of type float"),
        (b"a", "of type bytes"),
        ("a\ud83d", "half of a surrogate pair"),
        (["a", "b", "c"], "set is_split_into_words=True"),
    ],
)
def test_what_is_not_text(tokenizer: ErnieMTokenizer, bad: object, message: str, count: int) -> None:
    with pytest.raises(InputError, match=message):
        tokenizer([*[f"text {number}" for number in range(count)], bad])


def test_batches_that_do_not_match(tokenizer: ErnieMTokenizer) -> None:
    with pytest.raises(InputError, match="2 first texts but 1 for the second"):
        tokenizer(["a", "b"], ["c"])
    with pytest.raises(InputError, match="2 first texts but one str"):
        tokenizer(["a", "b"], "c")
    with pytest.raises(InputError, match="list of words"):
        tokenizer("a b", is_split_into_words=True)
    with pytest.raises(InputError, match="got int"):
        tokenizer(5)


@pytest.mark.parametrize(("rows", "fits"), [(8002, True), (8001, False), (8003, False), (8008, True), (8192, False)])
def test_vocabulary_and_embedding_are_of_one_length(files: Path, rows: int, fits: bool) -> None:
    (files / "config.json").write_text(json.dumps({"model_type": "ernie_m", "vocab_size": rows}), encoding="utf-8")
    if fits:
        assert len(ErnieMTokenizer.from_pretrained(files)) == 8002
    else:
        with pytest.raises(InputError, match=rf"vocab.txt has 8002 tokens.* vocab_size {rows}"):
            ErnieMTokenizer.from_pretrained(files)
