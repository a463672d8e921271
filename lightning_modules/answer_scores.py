"""Scores of extracted answers as pure functions: F1 of words and exact match, as the official scripts compute them.

Two protocols: "mlqa" is MLQA's (`mlqa_evaluation_v1.py`), which normalises by the language of the answers, "squad" is
SQuAD v1.1's, which XTREME uses for XQuAD and TyDiQA-GoldP too, with English rules for every language. Where questions
may have no answer, the rest is as in SQuAD 2.0's `evaluate-v2.0.py`, whose words are those of "squad".
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

from ernie_m.errors import InputError

Protocol = Literal["mlqa", "squad"]

# What each language's articles are to MLQA's script; Hindi, Chinese and all other languages have none there. The first
# alternative of the Arabic one can never match, so that in effect every "ال" goes, within words too.
_ARTICLES = {
    "en": re.compile(r"\b(?:a|an|the)\b"),
    "es": re.compile(r"\b(?:un|una|unos|unas|el|la|los|las)\b"),
    "vi": re.compile(r"\b(?:của|là|cái|chiếc|những)\b"),
    "de": re.compile(r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "ar": re.compile(r"\sال^|ال"),
}
_ASCII_PUNCTUATION = frozenset(string.punctuation)
# Each of these characters is a word in Chinese.
_CHINESE = re.compile(r"([\u4e00-\u9fa5])")


@cache
def _is_punctuation(character: str, protocol: Protocol) -> bool:
    is_general = protocol == "mlqa" and unicodedata.category(character).startswith("P")
    return is_general or character in _ASCII_PUNCTUATION


def words(text: str, language: str, protocol: Protocol = "mlqa") -> list[str]:
    """Return the words of an answer that count: lower case, without punctuation, then without articles.

    Args:
        text: The answer.
        language: Its language. Of a pair such as "de-en" the first, the context's, which the answer is cut from.
        protocol: Whose rules; see the module.
    """
    own = language.partition("-")[0] if protocol == "mlqa" else "en"
    text = "".join(character for character in text.lower() if not _is_punctuation(character, protocol))
    if articles := _ARTICLES.get(own):
        text = articles.sub(" ", text)
    return (_CHINESE.sub(r" \1 ", text) if own == "zh" else text).split()


def overlap(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """Return the F1 of two answers' words, each counted as often as it stands there; 0 where they share none.

    Args:
        prediction: Words of the prediction, as `words` gives them.
        reference: Words of the right answer.
    """
    shared = (Counter(prediction) & Counter(reference)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(reference)
    return (2 * precision * recall) / (precision + recall)


def answer_score(
    prediction: str, answers: Sequence[str], language: str, protocol: Protocol = "mlqa", negatives: bool = False
) -> tuple[float, bool]:
    """Return the F1 of one answer, the best over the right ones, and whether it is one of them.

    Args:
        prediction: The answer, "" for none.
        answers: The right answers, one at least without `negatives`.
        language: The language of the answers.
        protocol: Whose rules; see the module.
        negatives: Score as SQuAD 2.0's script: right answers of which no word is left do not count, where none counts
            it is right to give none, and of two answers without words F1 is 1.
    """
    predicted = words(prediction, language, protocol)
    right = [words(answer, language, protocol) for answer in answers]
    if not negatives:
        return max(overlap(predicted, answer) for answer in right), predicted in right
    right = [answer for answer in right if answer] or [[]]
    return max(float(predicted == answer) or overlap(predicted, answer) for answer in right), predicted in right


def answer_scores(
    predictions: Mapping[int, str],
    references: Mapping[int, Sequence[str]],
    language: str,
    protocol: Protocol = "mlqa",
    scale: float = 1.0,
    negatives: bool = False,
) -> dict[str, float]:
    """Return `f1` and `exact_match`: the mean over the questions of the best over each one's right answers.

    Sums are taken question by question in the order of `references`, as the official scripts do: what those print is
    equal to the last digit at a scale of 100. A question without a prediction counts 0, also where SQuAD 2.0's script
    leaves it out.

    Args:
        predictions: Question to answer.
        references: Question to its right answers, one at least without `negatives`.
        language: The language of the answers.
        protocol: Whose rules; see the module.
        scale: The score of an answer that is right: 1 for shares, 100 for percentages.
        negatives: Whether questions may have no answer. Then also `has_answer_f1` and `has_answer_exact_match` (the
            script's `HasAns_`), and `no_answer_f1` (its `NoAns_`, F1 and exact match in one), where there are such
            questions.

    Raises:
        InputError: If there are no questions, or one has no right answer and must have one.
    """
    if not references:
        raise InputError("there are no questions to score")
    found: dict[int, tuple[float, bool]] = {}
    for question, answers in references.items():
        if not answers and not negatives:
            raise InputError(f"question {question} has no right answer to score against")
        if question in predictions:
            found[question] = answer_score(predictions[question], answers, language, protocol, negatives)
    scores = _means(found, list(references), scale)
    if negatives:
        answered = [question for question, answers in references.items() if answers]
        scores |= {f"has_answer_{name}": score for name, score in _means(found, answered, scale).items()}
        unanswered = [question for question, answers in references.items() if not answers]
        scores |= {
            f"no_answer_{name}": score for name, score in _means(found, unanswered, scale).items() if name == "f1"
        }
    return scores


def _means(found: Mapping[int, tuple[float, bool]], questions: Sequence[int], scale: float) -> dict[str, float]:
    """The means over some questions; none where there are no questions."""
    if not questions:
        return {}
    f1, exact = 0.0, 0
    for question in questions:
        # Python's `sum` rounds otherwise from 3.12 on.
        f1 += found[question][0] if question in found else 0.0
        exact += found[question][1] if question in found else 0
    return {"f1": scale * f1 / len(questions), "exact_match": scale * exact / len(questions)}
