"""Scores of extracted answers as pure functions: F1 of words and exact match, as the official scripts compute them.

Two protocols: "mlqa" is MLQA's (`mlqa_evaluation_v1.py`), which normalises by the language of the answers, "squad" is
SQuAD v1.1's, which XTREME uses for XQuAD and TyDiQA-GoldP too, with English rules for every language.
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


def answer_scores(
    predictions: Mapping[int, str],
    references: Mapping[int, Sequence[str]],
    language: str,
    protocol: Protocol = "mlqa",
    scale: float = 1.0,
) -> dict[str, float]:
    """Return `f1` and `exact_match`: the mean over the questions of the best over each one's right answers.

    Sums are taken question by question in the order of `references`, as the official scripts do: what those print is
    equal to the last digit at a scale of 100. A question without a prediction counts 0.

    Args:
        predictions: Question to answer.
        references: Question to its right answers, one at least.
        language: The language of the answers.
        protocol: Whose rules; see the module.
        scale: The score of an answer that is right: 1 for shares, 100 for percentages.

    Raises:
        InputError: If there are no questions, or one has no right answer.
    """
    if not references:
        raise InputError("there are no questions to score")
    f1, exact = 0.0, 0
    for question, answers in references.items():
        if not answers:
            raise InputError(f"question {question} has no right answer to score against")
        if question not in predictions:
            continue
        predicted = words(predictions[question], language, protocol)
        right = [words(answer, language, protocol) for answer in answers]
        f1 += max(overlap(predicted, answer) for answer in right)
        exact += predicted in right
    return {"f1": scale * f1 / len(references), "exact_match": scale * exact / len(references)}
