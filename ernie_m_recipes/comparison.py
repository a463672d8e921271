"""Runs read back from their folders, seeds of one experiment together, set beside the model card."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.tatoeba import LANGUAGES as TATOEBA_LANGUAGES
from ernie_m import BUNDLED
from ernie_m.errors import InputError
from ernie_m.files import check_links
from lightning_modules.evaluating import takes_all

from .card import figures_of
from .check import resolved
from .documents import as_written, read_json, read_yaml
from .record import RUN_ALONE, read_results
from .resume import MAY_DIFFER, flatten, matches
from .settings import CardRow
from .tables import MEAN, ResultsByLanguage, details_of, shown
from .targets import CONFIG, RECORD, is_recipe
from .trust import FOR_RESULTS

SPLITS = {"test": "test", "validate": "validation"}
SEEDS = ("seed_everything", "data.init_args.seed", "run.*", *RUN_ALONE)
ELSEWHERE = tuple(pattern for pattern in MAY_DIFFER if "limit" not in pattern)
"""What seeds of one experiment may differ in: the seed, and where they were computed."""

SAMPLES = 10_000
CARD_METRICS = {"subtoken_f1": "f1"}
"""Scores that the card has under another name: Baidu's F1 of named entities is that of tokens, not of words."""


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: The folder.
        recipe: The run's name.
        stage: What it did: "fit", or "test" and the like for a checkpoint of another run.
        seed: Its seed.
        experiment: The settings and data that its scores depend on but for the seed, as text.
        is_whole: Whether all examples were scored, of the test data.
        changes: Where its settings are not those of the packaged recipe of its name, as `key: recipe's -> run's`; None
            where no recipe has that name.
        card: The row of the card that its recipe names.
        other: What the network is, where it is none of those that the card is about.
        data: The name of the class of its data.
        backbone: What its network began as.
        train_languages: The languages that it was trained on, where its data name them; none where nothing was trained.
        results: Language to metric to share; `mean` is a language.
        confusion: Language to how often each label (row) was taken for each (column); empty where the task has none.
        labels: The labels of the rows and columns.
    """

    folder: Path
    recipe: str
    stage: str
    seed: int
    experiment: str
    is_whole: bool
    changes: list[str] | None
    card: CardRow | None
    other: str | None
    data: str
    backbone: str
    train_languages: list[str]
    results: ResultsByLanguage
    confusion: Mapping[str, list[list[int]]]
    labels: list[str]


@dataclass(frozen=True)
class ScoreOverSeeds:
    """One language's score over the seeds of an experiment, in percent.

    Attributes:
        mean: Over the seeds.
        deviation: Standard deviation over the seeds, of the sample; None for one seed.
        low: Lower end of the mean's 95 % bootstrap interval; None for one seed.
        high: Its upper end.
        published: The card's figure, None where there is none to compare with.
        difference: `mean` minus `published`.
    """

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    published: float | None
    difference: float | None


@dataclass(frozen=True)
class Comparison:
    """The runs of one experiment beside the card.

    Attributes:
        recipe: The runs' name.
        stage: "test" or "validate".
        seeds: Their seeds.
        folders: Their folders.
        row: The row of the card that the recipe names.
        card: What they are compared with, or why with nothing.
        changes: Where their settings are not those of the packaged recipe; None where there is none.
        scores: Language to metric to score, the mean last.
        details: Language to further scores that are shares, such as `macro_f1`, their means over the seeds in percent.
        labels: The labels of a classifier's confusion matrices; empty for other tasks.
        confusion: Language to how often each label (row) was taken for each (column), all seeds together.
    """

    recipe: str
    stage: str
    seeds: list[int]
    folders: list[str]
    row: CardRow | None
    card: str
    changes: list[str] | None
    scores: dict[str, dict[str, ScoreOverSeeds]]
    details: dict[str, dict[str, float]]
    labels: list[str]
    confusion: dict[str, list[list[int]]]

    @property
    def notes(self) -> list[str]:
        """What else to know of a figure beside the card: how the runs' settings differ from the recipe's."""
        if self.changes is None:
            unknown = f"no packaged recipe is called {self.recipe}: how its settings differ from one is not known"
            return [unknown] if self.row is not None else []
        return [f"changed from the recipe: {'; '.join(self.changes)}"] if self.changes else []


def read_run(folder: Path, stage: str) -> Run | str:
    """Read what a run left.

    Args:
        folder: A run folder.
        stage: "test" or "validate".

    Returns:
        The run, or why it has no scores to show.

    Raises:
        InputError: It is no run folder, or its files are damaged.
    """
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: no run folder, it holds no {CONFIG}")
    check_links(folder)
    with as_written(folder):
        config = read_yaml(folder / CONFIG)
        record, found = read_json(folder / RECORD), read_results(folder)
        seed, trainer = int(config["seed_everything"]), config["trainer"]
        card = CardRow(**((config.get("run") or {}).get("card") or {}))
        if not all(isinstance(part, str | None) for part in asdict(card).values()):
            raise InputError(f"{folder / CONFIG}: run.card is {asdict(card)}; its parts are texts")
        data = {
            name: text.split(", ")[:2]
            for name, text in record.get("data", {}).items()
            if name.startswith(f"{SPLITS[stage]}/")
        }
        if record.get("status") != "finished":
            return f"its status is {record.get('status')!r}, not 'finished'"
        results: ResultsByLanguage | None = found.get(stage)
        if not results:
            others = [name for name in SPLITS if found.get(name)]
            return f"no scores of {stage}" + (f", but of {others[0]}: --stage {others[0]}" if others else "")
        settings = {key: value for key, value in flatten(config).items() if not matches(key, (*SEEDS, *ELSEWHERE))}
        limit = trainer.get(f"limit_{SPLITS[stage].replace('validation', 'val')}_batches")
        confusion = found.get("confusion", {}).get(stage, {})
        recipe = str(found.get("recipe") or record.get("recipe") or folder.parent.name)
        return Run(
            folder,
            recipe,
            record.get("stage", "fit"),
            seed,
            json.dumps([settings, data], sort_keys=True, default=str),
            takes_all(limit)
            and not trainer.get("fast_dev_run")
            and not trainer.get("overfit_batches")
            and (config["data"].get("init_args") or {}).get("test_split", "test") == "test",
            changes_of(recipe, config, record.get("stage", "fit"), record.get("precision")),
            None if None in (card.task, card.setting, card.model) else card,
            other_network(config, record),
            str(config["data"]["class_path"]).rpartition(".")[2],
            str((config["model"].get("init_args") or {}).get("backbone")),
            [*map(str, (config["data"].get("init_args") or {}).get("train_languages") or [])],
            results,
            confusion.get("languages", {}),
            confusion.get("labels", []),
        )


def other_network(config: Mapping[str, Any], record: Mapping[str, Any]) -> str | None:
    """Name the network of a run that is no ERNIE-M, or none of Baidu's; None for one that may be.

    Args:
        config: Its settings.
        record: Its run.json.
    """
    backbone = (config["model"].get("init_args") or {}).get("backbone")
    facts = record.get("network")
    family = facts.get("family") if isinstance(facts, dict) else None
    if backbone == BUNDLED:
        return BUNDLED
    return None if family in (None, "ernie_m") else f"of the family {family}"


def changes_of(
    recipe: str, config: Mapping[str, Any], stage: str = "fit", precision: Mapping[str, str] | None = None
) -> list[str] | None:
    """List where a run's settings are not those of the packaged recipe of its name; None where there is no such recipe.

    Args:
        recipe: The run's name.
        config: Its settings.
        stage: "fit", or what was done to a checkpoint: then of the trainer what scores depend on counts alone.
        precision: The precision that was `asked` for and the one that was `used`.
    """
    if not is_recipe(recipe):
        return None
    stated, found = options_of(resolved(recipe)), options_of(config)
    if precision is not None and precision["asked"] != precision["used"]:
        found["trainer.precision"] = precision["used"]
    return [
        f"{key}: {stated.get(key)} -> {found.get(key)}"
        for key in dict.fromkeys([*stated, *found])
        # With a dot at its end a mapping matches the patterns of what it holds.
        if not any(matches(name, (*SEEDS, *ELSEWHERE)) for name in (key, f"{key}."))
        and (stage == "fit" or not key.startswith("trainer.") or key.removeprefix("trainer.") in FOR_RESULTS)
        and found.get(key) != stated.get(key)
    ]


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted key, the arguments of a class each with its whole value."""
    options: dict[str, Any] = {}
    for part, content in config.items():
        for key, value in content.items() if isinstance(content, Mapping) else [("", content)]:
            if key == "init_args" and value:
                options.update({f"{part}.init_args.{name}": one for name, one in value.items()})
            else:
                options[f"{part}.{key}".rstrip(".")] = value
    return options


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean of some values, drawn again with replacement.

    Args:
        values: One per seed, two or more.
    """
    drawn = np.random.default_rng(0).choice(np.asarray(values), size=(SAMPLES, len(values)))
    low, high = np.percentile(drawn.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def compare(runs: Sequence[Run], stage: str) -> Comparison:
    """Set runs that differ in nothing but the seed beside the card.

    Args:
        runs: One or more.
        stage: "test" or "validate".
    """
    row = runs[0].card
    tested = [language for language in runs[0].results if language != MEAN]
    published = figures_of(row) if row is not None else None
    if row is None:
        card = "the recipe names no row of the card"
    elif published is None:
        card = f"the card has no row {row.model}, {row.setting}, for {row.task}"
    elif (other := next((run.other for run in runs if run.other), None)) is not None:
        card, published = f"the network is {other}, and the card's are ERNIE-M's: not compared", None
    elif stage != "test":
        card, published = "the card has no scores of development data: not compared", None
    elif not all(run.is_whole for run in runs):
        card, published = "only a part of the test data, or other data, was scored: not compared", None
    else:
        card = f"the card's row {row.model}, {row.setting}, for {row.task}"
        # The card has only the mean of Tatoeba's languages, which are XTREME's.
        own = [language for language in published if language != MEAN] or list(TATOEBA_LANGUAGES)
        if set(own) != set(tested):
            card += f"; its mean is over {len(own)} languages, this one over {len(tested)}: not compared"
            published = {language: figures for language, figures in published.items() if language != MEAN}
    # Baidu's code counts entities over tokens; the other models' figures are their own papers'.
    of_tokens = row is not None and row.task == "conll" and str(row.model).startswith("ERNIE-M")
    if of_tokens and published is not None:
        card += "; presumably over tokens, as Baidu's code counts (subtoken_f1); f1 is over words"
    order = [language for language in published or {} if language in tested]
    order += [language for language in tested if language not in order]
    scores: dict[str, dict[str, ScoreOverSeeds]] = {}
    for language in [*order, MEAN]:
        for metric in shown(name for run in runs for name in run.results.get(language, {})):
            values = [100 * run.results[language][metric] for run in runs if metric in run.results.get(language, {})]
            theirs = CARD_METRICS.get(metric, metric) if of_tokens else metric
            figure = (published or {}).get(language, {}).get(theirs)
            scores.setdefault(language, {})[metric] = score(values, figure)
    details = {
        language: {
            metric: 100 * float(np.mean([run.results[language][metric] for run in runs]))
            for metric in details_of(runs[0].results[language])
            if metric not in scores[language] and all(metric in run.results.get(language, {}) for run in runs)
        }
        for language in [*order, MEAN]
    }
    return Comparison(
        runs[0].recipe,
        stage,
        [run.seed for run in runs],
        [str(run.folder) for run in runs],
        row,
        card,
        runs[0].changes,
        scores,
        {language: found for language, found in details.items() if found},
        runs[0].labels,
        {
            language: added([run.confusion[language] for run in runs])
            for language in runs[0].confusion
            if all(run.labels == runs[0].labels and language in run.confusion for run in runs)
        },
    )


def added(matrices: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """Return the sum of matrices of one shape."""
    total: list[list[int]] = np.sum(matrices, axis=0).tolist()
    return total


def score(values: Sequence[float], published: float | None) -> ScoreOverSeeds:
    """Return what several seeds say together.

    Args:
        values: One per seed, in percent.
        published: The card's figure.
    """
    mean = float(np.mean(values))
    low, high = bootstrap_interval(values) if len(values) > 1 else (None, None)
    return ScoreOverSeeds(
        mean,
        float(np.std(values, ddof=1)) if len(values) > 1 else None,
        low,
        high,
        published,
        None if published is None else mean - published,
    )


def groups_of(runs: Sequence[Run]) -> list[list[Run]]:
    """Put runs together that differ in nothing but the seed, in the order of their first.

    A checkpoint that was scored again is left out where the run that trained is there.

    Raises:
        InputError: Two trainings have the same seed too.
    """
    groups: dict[tuple[str, str], dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: run.stage != "fit"):
        group = groups.setdefault((run.recipe, run.experiment), {})
        twin = group.setdefault(run.seed, run)
        if twin is not run and run.stage == "fit":
            raise InputError(
                f"{twin.folder} and {run.folder} have the same settings and the same seed; name one of them"
            )
    return [list(group.values()) for group in groups.values()]
