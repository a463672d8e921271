"""F1 and exact match of answers: worked by hand for every language, and against another implementation of SQuAD's."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.text import squad

from ernie_m.errors import InputError
from lightning_modules.answer_scores import answer_scores, overlap, words


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "The  Cat's (an) A-team!", ["cats", "ateam"]),
        ("es", "El perro y LAS casas, ¿unos?", ["perro", "y", "casas"]),
        ("de", "Dem „König“ der Straße", ["könig", "straße"]),
        ("vi", "Cái nhà của những người", ["nhà", "người"]),
        # Every ال goes and leaves a gap, within a word too, as the script's pattern has it.
        ("ar", "الكتاب والمدينة، سالم", ["كتاب", "و", "مدينة", "س", "م"]),
        ("hi", "वह घर। the", ["वह", "घर", "the"]),
        # Each Chinese character is a word, other letters stay together.
        ("zh", "在2001年，IBM 公司 the", ["在", "2001", "年", "ibm", "公", "司", "the"]),
        # Beyond the last of those characters, and Japanese letters: words between white space.
        ("zh", "龥鿃鿄 かな", ["龥", "鿃鿄", "かな"]),
        # A language that the script does not know has no articles.
        ("fr", "La maison, the", ["la", "maison", "the"]),
        # A pair: the language of the context, which the answer is cut from.
        ("de-en", "der the", ["the"]),
        ("en-zh", "the 中文", ["中文"]),
        # Punctuation goes first, so that what it hid is no article.
        ("en", "a.n the-cat", ["thecat"]),
        # Signs that are no punctuation to Unicode and stand in ASCII's list.
        ("en", "$5 + `x` ^ §", ["5", "x"]),
    ],
)
def test_the_words_that_count(language: str, text: str, expected: list[str]) -> None:
    assert words(text, language) == expected


def test_squads_rules_are_english_and_ascii_in_every_language() -> None:
    assert words("The „König“, der", "de", "squad") == ["„könig“", "der"]
    assert words("在 the 2001年，", "zh", "squad") == ["在", "2001年，"]


def test_the_overlap_counts_a_word_as_often_as_it_stands_there() -> None:
    assert overlap(["a", "a", "b"], ["a", "b", "b"]) == pytest.approx(2 / 3)
    assert overlap(["x"], ["y"]) == 0
    # Nothing is left of either answer: nothing in common, though they are equal.
    assert overlap([], []) == 0
    result = answer_scores({0: "The"}, {0: ["an"]}, "en")
    assert result == {"f1": 0.0, "exact_match": 1.0}


def test_the_best_of_several_answers_counts_and_a_missing_one_is_wrong() -> None:
    references = {5: ["red house", "house"], 2: ["green tree"], 9: ["x"]}
    result = answer_scores({5: "the red house stands", 2: "green TREE."}, references, "en")
    assert result["f1"] == pytest.approx((0.8 + 1.0 + 0.0) / 3)
    assert result["exact_match"] == pytest.approx(1 / 3)
    assert answer_scores({2: "green tree"}, references, "en", scale=100)["f1"] == pytest.approx(100 / 3)


def test_nothing_to_score_against_is_an_error() -> None:
    with pytest.raises(InputError, match="no questions"):
        answer_scores({}, {}, "en")
    with pytest.raises(InputError, match="question 3 has no right answer"):
        answer_scores({3: "x"}, {3: []}, "en")


# One word at least is left of each: of two empty answers SQuAD v1.1's F1 is 0, torchmetrics' 1 as in SQuAD 2.0.
TEXTS = st.builds(
    str.__add__,
    st.sampled_from(["red ", "blue "]),
    st.text(alphabet=string.ascii_letters + string.digits + string.punctuation + "  aethn", max_size=30),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=5))
def test_english_ascii_is_scored_as_by_torchmetrics(rows: list[tuple[str, list[str]]]) -> None:
    predictions = [{"prediction_text": text, "id": str(number)} for number, (text, _) in enumerate(rows)]
    targets = [
        {"answers": {"text": right, "answer_start": [0] * len(right)}, "id": str(number)}
        for number, (_, right) in enumerate(rows)
    ]
    theirs = squad(predictions, targets)
    for protocol in ("squad", "mlqa"):
        ours = answer_scores(
            dict(enumerate(text for text, _ in rows)),
            dict(enumerate(right for _, right in rows)),
            "en",
            protocol,
            scale=100,
        )
        assert ours["exact_match"] == pytest.approx(float(theirs["exact_match"]), abs=1e-3)
        assert ours["f1"] == pytest.approx(float(theirs["f1"]), abs=1e-3)
