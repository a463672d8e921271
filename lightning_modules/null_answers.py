"""Questions that the text does not answer, as SQuAD 2.0 has them: what giving no answer scores, and when it is given.

No answer is given where the score of none, less that of the best answer, is above a threshold, which is chosen on
development data and kept in the network's configuration.
"""

import math
import sys
from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedConfig

from ernie_m.errors import InputError

FIELD = "null_threshold"
"""What the threshold is called in a configuration."""


def null_scores(question: Tensor, scores: Tensor) -> dict[int, float]:
    """Return the score of giving no answer to each question: the lowest of its windows.

    So BERT's run_squad.py and transformers' postprocess_qa_predictions have it: a window that holds an answer has a low
    score of none, all others a high one.

    Args:
        question: The question of each window. (windows,) int64
        scores: Sum of both logits of each window's first token. (windows,)
    """
    lowest: dict[int, float] = {}
    for number, score in zip(question.tolist(), scores.tolist(), strict=True):
        lowest[number] = min(score, lowest.get(number, score))
    return lowest


def best_threshold(differences: Sequence[float], gains: Sequence[float]) -> float:
    """Return the threshold at which F1 over all questions is highest; of several the lowest.

    It is a question's difference, as `find_best_thresh` of SQuAD's evaluate-v2.0.py has it, with two corrections: equal
    differences pass together, and where no answer at all is best the threshold lies below all differences. The script
    has 0 then, for its differences are probabilities.

    Args:
        differences: The score of no answer less that of the best answer, for each question; infinite where there is
            none to give.
        gains: What giving the best answer adds to the sum of F1: its F1 where the question has an answer, else -1.
    """
    ordered = sorted(
        (pair for pair in zip(differences, gains, strict=True) if math.isfinite(pair[0])), key=lambda pair: pair[0]
    )
    if not ordered:
        return 0.0
    threshold = min(0.0, math.nextafter(ordered[0][0], -math.inf))
    total = best = 0.0
    for number, (difference, gain) in enumerate(ordered):
        total += gain
        passes_alone = number + 1 == len(ordered) or ordered[number + 1][0] > difference
        if passes_alone and total > best:
            best, threshold = total, difference
    return threshold


def threshold_in(config: PreTrainedConfig, place: str) -> float | None:
    """Return the threshold that a network's configuration keeps; None where it has none.

    Args:
        config: The configuration, which may be a stranger's.
        place: Where it comes from, for the message.

    Raises:
        InputError: What it keeps is no finite number.
    """
    value = getattr(config, FIELD, None)
    return None if value is None else checked(value, f"the configuration of {place!r}: {FIELD}")


def checked(value: object, name: str) -> float:
    """Return a threshold that is a finite number.

    Args:
        value: What was given.
        name: What it is called, for the message.

    Raises:
        InputError: It is something else.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Compared, since a whole number may be too large to be made one with a point.
    if not (is_number and -sys.float_info.max <= value <= sys.float_info.max):  # type: ignore[operator]
        raise InputError(f"{name} is {str(value)[:40]!r}; it must be a finite number, or left out to be chosen anew")
    return float(value)  # type: ignore[arg-type]
