"""What happens to scores after an evaluation: means over languages, completeness, and the verdict on a run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from . import scores

Results = dict[str, dict[str, float]]
Stage = Literal["validate", "test", "predict"]
Score = Callable[[dict[str, Tensor], int], tuple[pa.Table, dict[str, float]]]

# How far above guessing a run must be for a language to tell; below it, small development data say nothing.
_TELLING = 0.1

COUNTS = ("examples", "missing", "ties", "duplicates")
"""Entries of a language's results that are numbers of examples: summed over languages, not logged."""


def mean_results(results: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every score over the languages, and the sum of every count.

    Args:
        results: Language to its scores and counts.
    """
    mean = {}
    for name in dict.fromkeys(name for result in results.values() for name in result):
        values = {language: result[name] for language, result in results.items() if name in result}
        mean[name] = sum(values.values()) if name in COUNTS else scores.macro_mean(values)
    return mean


def score_languages(
    rows: Mapping[str, Tensor], languages: Sequence[str], expected: Mapping[str, int], score: Score
) -> tuple[dict[str, pa.Table], Results]:
    """Make every language's table and scores, and their mean.

    Args:
        rows: One row per example of all languages, among them `language`, indices into `languages`.
        languages: Names of the languages.
        expected: How many examples each language has, where all of them were to be run.
        score: Makes one language's table and scores from its rows and the number of those that are missing.
    """
    tables, results = {}, {}
    for index in torch.unique(rows["language"]).tolist():
        language = languages[index] if index < len(languages) else str(index)
        chosen = rows["language"] == index
        own = {key: values[chosen] for key, values in rows.items()}
        tables[language], result = score(own, max(0, expected.get(language, 0) - len(own["language"])))
        if result:
            results[language] = result
        if "missing" in result:
            rank_zero_warn(f"{language}: {result['missing']:.0f} examples got no prediction and count as wrong")
    return tables, results | ({"mean": mean_results(results)} if results else {})


def expected_examples(trainer: Trainer, stage: Stage) -> dict[str, int]:
    """Return how many examples each language's data have, where all of them were to be run.

    Args:
        trainer: A trainer whose data module names the language of each of its loaders (`eval_languages`).
        stage: Which loaders.
    """
    data: Any = getattr(trainer, "datamodule", None)
    limits = {
        "validate": trainer.limit_val_batches,
        "test": trainer.limit_test_batches,
        "predict": trainer.limit_predict_batches,
    }
    if limits[stage] != 1.0 or trainer.sanity_checking or not hasattr(data, "eval_languages"):
        return {}
    loaders = {
        "validate": trainer.val_dataloaders,
        "test": trainer.test_dataloaders,
        "predict": trainer.predict_dataloaders,
    }[stage]
    listed = loaders if isinstance(loaders, list) else [loaders]
    datasets: list[Any] = [getattr(loader, "dataset", None) for loader in listed]
    languages: list[str] = data.eval_languages(stage)
    return {
        language: len(dataset)
        for language, dataset in zip(languages, datasets, strict=True)
        if hasattr(dataset, "__len__")
    }


class DevelopmentRecord:
    """What a training reached on its development data so far, for the verdict at its end.

    Attributes:
        best: Language to its highest number of right answers, the number of examples and the most frequent label's
            share.
        validations: How often each language was validated.
    """

    def __init__(self) -> None:
        self.best: dict[str, tuple[float, float, float]] = {}
        self.validations = 0

    def note(self, results: Results, headline: str) -> None:
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

    def verdict(self, trained: Iterable[str] | None) -> str | None:
        """Say whether the run stayed at chance.

        Args:
            trained: The languages of the training data; None for all.

        Returns:
            A message with what to try; None where the run learnt something or those languages were not validated.
        """
        best = {language: self.best[language] for language in trained or self.best if language in self.best}
        return collapse_message(best, self.validations)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        best = {language: list(values) for language, values in self.best.items()}
        return {"best_on_dev": best, "validations": self.validations}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Args:
            state: What `state_dict` returned, among other things; nothing of it in checkpoints of other programs.
        """
        self.best = {language: tuple(values) for language, values in state.get("best_on_dev", {}).items()}
        self.validations = state.get("validations", 0)


def collapse_message(best: Mapping[str, tuple[float, float, float]], validations: int) -> str | None:
    """Say so where a run never got better than guessing.

    Better than guessing means: at some validation, in some language, there were so many right answers that always
    giving the most frequent label had less than one chance in a thousand to reach them, over all comparisons made.
    Languages with so few examples that even ten points above guessing would not be that rare are left out.

    Args:
        best: Language to its highest number of right answers, the number of examples and the most frequent label's
            share.
        validations: How often each language was validated.

    Returns:
        What was found and what to try; None where the run learnt something or nothing was validated.
    """
    significance = 1e-3 / max(1, len(best) * validations)
    guessing = {
        language: scores.is_at_chance(round(correct), round(total), chance, significance)
        for language, (correct, total, chance) in best.items()
        if not scores.is_at_chance(round((chance + _TELLING) * total), round(total), chance, significance)
    }
    if not guessing or not all(guessing.values()):
        return None
    found = ", ".join(
        f"{language} {correct / total:.1%} (guessing: {chance:.1%})"
        for language, (correct, total, chance) in best.items()
        if language in guessing
    )
    return (
        f"this run collapsed: on the development data of its training languages it stayed at chance: {found}. Try "
        "another seed, a lower learning_rate, a longer warm-up (warmup_ratio) or a larger global_batch_size; large "
        "models collapse more often than base ones"
    )
