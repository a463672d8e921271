"""The verdict on a run that learnt nothing: it never got better than guessing on its development data."""

from collections.abc import Iterable, Mapping
from typing import Any

from ernie_m.errors import InputError

from . import scores
from .metrics import LanguageScores

# How far above guessing a run must be for a language to tell; below it, small development data say nothing.
_TELLING = 0.1
_REMEDY = "Try another seed, a lower learning_rate, a longer warm-up (warmup_ratio) or a larger global_batch_size"


class DevelopmentRecord:
    """What a training reached on its development data so far, for the verdict at its end.

    Attributes:
        best: Language to its highest number of right answers, the number of examples and the share that the best of
            all single answers gets: the most frequent label, or none where questions may have no answer.
        validations: How often each language was validated.
    """

    def __init__(self) -> None:
        self.best: dict[str, tuple[float, float, float]] = {}
        self.validations = 0

    def note(self, results: LanguageScores, headline: str) -> None:
        """Take in one validation.

        Args:
            results: Language to its scores, and their mean. Those without `chance` are left out.
            headline: The score that counts: the share of right answers, or one that is 0 for guessing.
        """
        self.validations += 1
        for language, result in results.items():
            if language != "mean" and "chance" in result:
                correct = result[headline] * result["examples"]
                best = max(correct, self.best.get(language, (0.0,))[0])
                self.best[language] = (best, result["examples"], result["chance"])

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        best = {language: list(values) for language, values in self.best.items()}
        return {"best_on_dev": best, "validations": self.validations}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Args:
            state: What `state_dict` returned, among other things; nothing of it in checkpoints of other programs.

        Raises:
            InputError: It is not what `state_dict` returned.
        """
        try:
            found = state.get("best_on_dev", {}).items()
            self.best = {language: (float(r), float(total), float(chance)) for language, (r, total, chance) in found}
            self.validations = int(state.get("validations", 0))
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"the checkpoint is damaged, its best_on_dev or validations: {error}") from error

    def hint(self, trained: Iterable[str] | None) -> str | None:
        """Say so where a run that may be too small for a verdict was never better than one answer for all.

        Args:
            trained: The languages of the training data; None for all.

        Returns:
            A message; None where the run was better, or those languages were not validated.
        """
        best = self._best(trained)
        if not best or any(round(correct) > round(chance * total) for correct, total, chance in best.values()):
            return None
        return (
            "on the development data of its training languages this run was never better than one answer for all "
            f"examples: {_shown(best)}. {_REMEDY}"
        )

    def _best(self, trained: Iterable[str] | None) -> dict[str, tuple[float, float, float]]:
        return {language: self.best[language] for language in trained or self.best if language in self.best}

    def verdict(self, trained: Iterable[str] | None) -> str | None:
        """Say so where the run never got better than guessing.

        Better than guessing means: at some validation, in some language, there were so many right answers that giving
        always the same had less than one chance in a thousand to reach them, over all comparisons made. Languages with
        so few examples that even ten points above guessing would not be that rare are left out.

        Args:
            trained: The languages of the training data; None for all.

        Returns:
            A message with what to try; None where the run learnt something or those languages were not validated.
        """
        best = self._best(trained)
        significance = 1e-3 / max(1, len(best) * self.validations)
        guessing = {
            language: scores.is_at_chance(round(correct), round(total), chance, significance)
            for language, (correct, total, chance) in best.items()
            if not scores.is_at_chance(round((chance + _TELLING) * total), round(total), chance, significance)
        }
        if not guessing or not all(guessing.values()):
            return None
        at_chance = {language: best[language] for language in guessing}
        return (
            "this run collapsed: on the development data of its training languages it stayed at chance: "
            f"{_shown(at_chance)}. {_REMEDY}; large models collapse more often than base ones"
        )


def _shown(best: Mapping[str, tuple[float, float, float]]) -> str:
    return ", ".join(
        f"{language} {correct / total:.1%} (guessing: {chance:.1%})"
        for language, (correct, total, chance) in best.items()
    )
