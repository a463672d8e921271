"""Windows against those that the tokenizers cut themselves, and the places of their tokens in the text."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, CanineTokenizer, PreTrainedTokenizerBase

from datamodules.windows import NO_TEXT, Windows
from ernie_m import ErnieMTokenizer, load_tokenizer
from ernie_m.errors import InputError

CONTEXTS = (
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt. " * 4,
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。" * 3,
    "  Freiheit\n\nund \u200b Frieden ½ ﬁn.  ",
    "kurz",
)
QUESTIONS = ("Wie sind alle Menschen geboren?", "人人生而怎样？", "Was?", "Warum " * 30)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("bert")
    letters = sorted({character for text in CONTEXTS + QUESTIONS for character in text.lower() if character.isalnum()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', encoding="utf-8")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return tokenizer


@pytest.fixture(scope="module")
def ernie_m(sample_tokenizer_dir: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(sample_tokenizer_dir))


@pytest.mark.parametrize("kind", ["bert", "ernie_m"])
def test_windows_are_those_that_the_tokenizer_cuts(kind: str, request: pytest.FixtureRequest) -> None:
    """transformers' `stride` is what neighbours share; ours is the step, which leaves room minus step to share."""
    tokenizer = request.getfixturevalue(kind)
    cutter = Windows(tokenizer, max_length=72, max_query_length=32, doc_stride=9)
    special = tokenizer.num_special_tokens_to_add(pair=True)
    for question in QUESTIONS[:3]:
        for context in CONTEXTS:
            asked = len(tokenizer(question, add_special_tokens=False)["input_ids"])
            room = 72 - special - asked
            theirs = tokenizer(
                question, context, truncation="only_second", max_length=72, stride=room - 9,
                return_overflowing_tokens=True, return_offsets_mapping=True, return_token_type_ids=True,
            )  # fmt: skip
            ours = list(cutter.cut([question], [context]))
            assert asked <= 32
            assert [window.input_ids for window in ours] == theirs["input_ids"]
            assert [window.token_type_ids for window in ours] == theirs["token_type_ids"]
            for row, window in enumerate(ours):
                is_context = [text == 1 for text in theirs.sequence_ids(row)]
                for token, (begin, end) in enumerate(theirs["offset_mapping"][row]):
                    covered = context[begin:end].strip() if is_context[token] else ""
                    place = window.begins[token], window.ends[token]
                    assert place == (NO_TEXT, NO_TEXT) if not covered else context[slice(*place)] == covered


def test_long_questions_are_cut_and_every_token_of_the_context_is_in_a_window(ernie_m: ErnieMTokenizer) -> None:
    windows = list(Windows(ernie_m, 40, 8, 11).cut(QUESTIONS[3:], CONTEXTS[:1]))
    assert max(len(window.input_ids) for window in windows) == 40
    question = ernie_m(QUESTIONS[3], add_special_tokens=False)["input_ids"]
    assert all(window.input_ids[1:9] == question[:8] for window in windows)
    assert all(window.input_ids[9:11] == [ernie_m.sep_token_id] * 2 for window in windows)
    covered = {begin for window in windows for begin in window.begins}
    offsets = ernie_m(CONTEXTS[0], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert covered >= {begin for begin, end in offsets if CONTEXTS[0][begin:end].strip()}


def test_a_stride_longer_than_a_window_leaves_nothing_out(ernie_m: ErnieMTokenizer) -> None:
    windows = list(Windows(ernie_m, 30, 4, 1000).cut(["Was?"], CONTEXTS[:1]))
    ids = ernie_m(CONTEXTS[0], add_special_tokens=False)["input_ids"]
    head = len(windows[0].input_ids) - 30 + len([place for place in windows[0].begins if place == NO_TEXT]) - 1
    assert [token for window in windows for token in window.input_ids[head:-1]] == ids


def test_one_separator(sample_tokenizer_dir: Path) -> None:
    one = load_tokenizer(str(sample_tokenizer_dir), pair_separators=1)
    (window,) = Windows(one, 48, 16, 9).cut(["Was?"], ["kurz"])
    sep = one.sep_token_id
    assert window.input_ids.count(sep) == 2
    assert window.input_ids == one("Was?", "kurz")["input_ids"]


@pytest.mark.parametrize("kind", ["bert", "ernie_m"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_tokens_of_an_answer_cover_it(kind: str, data: st.DataObject, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    context = data.draw(st.sampled_from(CONTEXTS[:2]))
    begin = data.draw(st.integers(0, len(context) - 1))
    answer = context[begin : begin + data.draw(st.integers(1, 12))]
    windows = list(Windows(tokenizer, 48, 16, 9).cut(["Was?"], [context], [(begin, begin + len(answer))]))
    holding = [window for window in windows if window.start]
    for window in windows:
        inside = [
            token
            for token, (first, last) in enumerate(zip(window.begins, window.ends, strict=True))
            if first != NO_TEXT and first < begin + len(answer) and last > begin
        ]
        if window.start:
            assert (window.start, window.end) == (inside[0], inside[-1])
            found = context[window.begins[window.start] : window.ends[window.end]]
            assert answer.strip() in found
        else:
            assert window.end == 0
    if answer.strip():
        # Neighbours share more tokens than these answers have.
        assert holding


def test_a_text_without_tokens_has_a_window_and_no_answer(ernie_m: ErnieMTokenizer) -> None:
    (window,) = Windows(ernie_m, 48, 16, 9).cut(["Was?"], ["\u200b"], [(0, 1)])
    assert (window.start, window.end) == (0, 0)
    assert set(window.begins) == {NO_TEXT}


def test_what_cannot_be_cut_is_refused(ernie_m: ErnieMTokenizer) -> None:
    with pytest.raises(InputError, match="max_length is 20: a question of max_query_length 16 tokens and 4 around"):
        Windows(ernie_m, 20, 16, 9)
    assert Windows(ernie_m, 21, 16, 9)
    with pytest.raises(InputError, match=r"CanineTokenizer.* does not say which characters its tokens stand for"):
        Windows(CanineTokenizer(), 48, 16, 9)


def test_white_space_that_a_tokenizer_counts_to_a_token_is_no_part_of_an_answer() -> None:
    from datamodules.windows import _within_words

    begins, ends = _within_words("  ab  c ", [(0, 4), (4, 6), (4, 7), (7, 8), (8, 8)])
    assert begins.tolist() == [2, NO_TEXT, 6, NO_TEXT, NO_TEXT]
    assert ends.tolist() == [4, NO_TEXT, 7, NO_TEXT, NO_TEXT]
    assert [array.dtype for array in _within_words("", [])] == [np.int64, np.int64]
