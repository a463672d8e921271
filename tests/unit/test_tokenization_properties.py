"""What holds for every text, held against a plain transcription of the former ErnieMTokenizer and sentencepiece."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AddedToken

from ernie_m import ErnieMTokenizer
from ernie_m.added_tokens import TextSplitter

RULES = ("hf", "paddle", "raw")
# Where normalisation and cutting go wrong first: ligatures, fractions, combining marks, digits of several scripts,
# full width, CJK of several blocks, Hangul by letters, zero width, emoji of several code points, spaces, "▁" itself.
HARD = [
    *"ﬁ½²①٣९５12,.;:?!~，。《》【】中国人𠀋かナ각▁ßİ \t\n",
    *"\u00a0\u3000\u200b\u200d\u200e\ufeff\x00\x07\x7f\u0301\u0308\u093f\ufdfa",
    *("\u1112\u1161\u11ab", "\U0001f469\u200d\U0001f467", "🇩🇪", "e\u0301"),
    *("the ", "right", "[SEP]", "[CLS", "<unk>", "</s>"),
]
texts = st.one_of(st.text(), st.lists(st.one_of(st.sampled_from(HARD), st.text(max_size=3))).map("".join))


@pytest.fixture(scope="module")
def tokenizers(sample_tokenizer_dir: Path) -> dict[str, ErnieMTokenizer]:
    return {
        rule: ErnieMTokenizer.from_pretrained(sample_tokenizer_dir, segmentation=rule, split_special_tokens=True)
        for rule in RULES
    }


def transcribed(pieces: list[str], rule: str) -> list[str]:
    """`_tokenize` of transformers 4.57's ErnieMTokenizer and of PaddleNLP's."""
    new_pieces = []
    for number, piece in enumerate(pieces):
        if piece == "▁":
            following = pieces[number + 1] if number + 1 < len(pieces) else "▁"
            if rule == "hf" and not following.startswith("▁") and number != 0:
                new_pieces.append(piece)
            continue
        last = 0
        for i, char in enumerate(piece):
            if char == "▁":
                continue
            if "\u4e00" <= char <= "\u9fff" or char in ",;:.?!~，；：。？！《》【】":
                if i > last and piece[last:i] != "▁":
                    new_pieces.append(piece[last:i])
                new_pieces.append(char)
                last = i + 1
            elif i > 0 and char.isdigit() != piece[i - 1].isdigit():
                if i > last and piece[last:i] != "▁":
                    new_pieces.append(piece[last:i])
                last = i
        if len(piece) > last:
            new_pieces.append(piece[last:])
    return new_pieces


@settings(deadline=None)
@given(text=texts)
def test_tokens_are_those_of_the_former_class(tokenizers: dict[str, ErnieMTokenizer], text: str) -> None:
    for rule, tokenizer in tokenizers.items():
        pieces = tokenizer.sp_model.EncodeAsPieces(text)
        expected = pieces if rule == "raw" else transcribed(pieces, rule)
        assert tokenizer.tokenize(text) == expected
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == [tokenizer.vocab.get(token, 3) for token in expected]


@pytest.mark.parametrize("split", [True, False])
@settings(deadline=None)
@given(some=st.lists(st.tuples(texts, texts), min_size=1, max_size=8))
def test_a_batch_is_its_texts(tokenizers: dict[str, ErnieMTokenizer], split: bool, some: list[tuple[str, str]]) -> None:
    """Batches go through arrays, single texts do not."""
    first = [a for a, _ in some] + [f"right {number}" for number in range(24)]
    second = [b for _, b in some] + [""] * 24
    for tokenizer in tokenizers.values():
        options = {"return_offsets_mapping": True, "split_special_tokens": split}
        batch = tokenizer(first, second, **options)
        for index, (a, b) in enumerate(some):
            single = tokenizer(a, b, **options)
            assert batch["input_ids"][index] == single["input_ids"]
            assert batch["offset_mapping"][index] == single["offset_mapping"]
            assert batch[index].ids == batch["input_ids"][index]
            assert batch[index].word_ids == single.word_ids()


@settings(deadline=None)
@given(text=texts)
def test_offsets_cover_the_text_in_order(tokenizers: dict[str, ErnieMTokenizer], text: str) -> None:
    for tokenizer in tokenizers.values():
        model = tokenizer.sp_model
        encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans = encoding["offset_mapping"]
        assert len(spans) == len(encoding["input_ids"])
        assert all(0 <= begin < end <= len(text) for begin, end in spans)
        assert [begin for begin, _ in spans] == sorted(begin for begin, _ in spans)
        assert [end for _, end in spans] == sorted(end for _, end in spans)
        # What a token spans becomes the token when normalised by itself.
        for token, (begin, end) in zip(tokenizer.tokenize(text), spans, strict=True):
            assert token.replace("▁", "") in model.Normalize(text[begin:end]).replace("▁", "")
        # What no token spans is nothing or space.
        covered = {index for begin, end in spans for index in range(begin, end)}
        rest = "".join(" " if index in covered else character for index, character in enumerate(text))
        assert model.Normalize(rest).strip("▁") == ""


@settings(deadline=None)
@given(text=texts)
def test_words_are_what_spaces_part(tokenizers: dict[str, ErnieMTokenizer], text: str) -> None:
    for tokenizer in tokenizers.values():
        words = tokenizer(text, add_special_tokens=False).word_ids()
        assert words == sorted(words)
        count = len(tokenizer.sp_model.Normalize(text).split("▁")) - 1
        assert all(0 <= word < max(count, 1) for word in words)
        tokens = tokenizer.tokenize(text)
        for token, before, after in zip(tokens[1:], words, words[1:], strict=False):
            assert after > before or not token.startswith("▁"), "a space opens a word"


@settings(deadline=None)
@given(text=texts)
def test_decoding_gives_back_what_was_tokenised(tokenizers: dict[str, ErnieMTokenizer], text: str) -> None:
    for rule, tokenizer in tokenizers.items():
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        decoded = tokenizer.decode(ids)
        assert decoded == tokenizer.decode(list(ids))
        if tokenizer.unk_token_id in ids:
            continue
        normalised = tokenizer.sp_model.Normalize(text).replace("▁", " ").strip()
        if rule == "raw":
            assert decoded == normalised
        else:
            assert decoded.replace(" ", "") == normalised.replace(" ", "")


@settings(deadline=None)
@given(parts=st.lists(texts.map(lambda text: text.replace("[", "")), min_size=1, max_size=4))
def test_special_tokens_are_found_as_written(tokenizers: dict[str, ErnieMTokenizer], parts: list[str]) -> None:
    text = "[MASK]".join(parts)
    for tokenizer in tokenizers.values():
        encoding = tokenizer(text, add_special_tokens=False, split_special_tokens=False, return_offsets_mapping=True)
        expected: list[int] = []
        for part in parts:
            expected += [tokenizer.mask_token_id, *tokenizer(part, add_special_tokens=False)["input_ids"]]
        assert encoding["input_ids"] == expected[1:]
        masks = [
            text[begin:end]
            for identifier, (begin, end) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True)
            if identifier == tokenizer.mask_token_id
        ]
        assert masks == ["[MASK]"] * (len(parts) - 1)


@settings(max_examples=300)
@given(st.lists(st.sampled_from([" ", "  ", "\t", "\n", "a", "<l>", "<r>", "<b>"])).map("".join))
def test_tokens_take_the_white_space_beside_them(text: str) -> None:
    """As `\\s*` before a token takes it, which looks at every white space for itself."""
    tokens = {1: AddedToken("<l>", lstrip=True), 2: AddedToken("<r>", rstrip=True)}
    tokens[3] = AddedToken("<b>", lstrip=True, rstrip=True)
    plain = re.compile(r"(?P<_1>\s*<l>)|(?P<_2><r>\s*)|(?P<_3>\s*<b>\s*)")
    expected = [(match.group(), match.start(), int(str(match.lastgroup)[1:])) for match in plain.finditer(text)]
    parts = list(TextSplitter(tokens, lower_case=False, special=True)(text))
    assert [tuple(part) for part in parts if part[2] is not None] == expected
    assert "".join(part[0] for part in parts) == text
