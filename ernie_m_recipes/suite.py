"""`ernie-m report --suite`: a benchmark of several tasks, encoders as rows, beside what was published of others."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import numpy as np

from datamodules import mlqa, panx, paws_x, tatoeba, tydiqa, udpos, xnli, xquad
from ernie_m.errors import InputError

from . import markdown
from .comparison import Run, compare
from .lines import as_cell
from .report_page import STYLE
from .tables import MEAN

ANSWERS = ("f1", "exact_match")


@dataclass(frozen=True)
class SuiteTask:
    """A task of a benchmark.

    Attributes:
        name: What tables call it.
        languages: The languages that its score is the mean over.
        metrics: The scores whose mean counts.
    """

    name: str
    languages: tuple[str, ...]
    metrics: tuple[str, ...]


XTREME = {
    "XNLI": SuiteTask("XNLI", xnli.LANGUAGES, ("accuracy",)),
    "PAWSX": SuiteTask("PAWS-X", paws_x.LANGUAGES, ("accuracy",)),
    "UDPOS": SuiteTask("UDPOS", udpos.LANGUAGES, ("f1",)),
    "PANX": SuiteTask("PAN-X", panx.LANGUAGES, ("f1",)),
    "XQuAD": SuiteTask("XQuAD", xquad.LANGUAGES, ANSWERS),
    "MLQA": SuiteTask("MLQA", mlqa.LANGUAGES, ANSWERS),
    "TyDiQA": SuiteTask("TyDiQA", tydiqa.LANGUAGES, ANSWERS),
    "Tatoeba": SuiteTask("Tatoeba", tatoeba.LANGUAGES, ("accuracy",)),
}
"""XTREME's tasks (Hu et al., 2020) by the class of their data, in the order of its table. Its ninth, BUCC, has none."""

SUITES = {"xtreme": (XTREME, ("BUCC",))}
"""The tasks of a benchmark by the class of their data, and the names of those that nothing here runs."""


@dataclass(frozen=True)
class SuiteScore:
    """What an encoder has in one task.

    Attributes:
        metrics: Metric to percent, the mean over languages and seeds.
        seeds: The seeds; none for a published figure.
        folders: The run folders.
        remarks: What sets it apart from the benchmark's own; those of `uncounted` too.
        uncounted: Why it is no part of the mean over tasks; None where it is.
    """

    metrics: dict[str, float]
    seeds: list[int]
    folders: list[str]
    remarks: list[str]
    uncounted: str | None

    @property
    def text(self) -> str:
        """The figures in a cell, in brackets where they are not counted."""
        digits = 2 if self.seeds else 1
        found = " / ".join(f"{value:.{digits}f}" for value in self.metrics.values())
        return f"({found})" if self.uncounted else found


@dataclass(frozen=True)
class SuiteRow:
    """An encoder.

    Attributes:
        encoder: The backbone of its runs, or the name that was published.
        source: Where its figures were published; None for runs.
        scores: Task to score.
        mean: The mean of the tasks' scores, of question answering that of F1 and exact match; None for what was
            published, whose metrics are not all known.
    """

    encoder: str
    source: str | None
    scores: dict[str, SuiteScore]
    mean: float | None


@dataclass(frozen=True)
class Suite:
    """The table of a benchmark.

    Attributes:
        name: Its name.
        tasks: Those that a run has, in its order.
        rows: The encoders of runs, then the published ones that have a figure of these tasks.
        notes: What is missing, and what sets scores apart.
    """

    name: str
    tasks: list[str]
    rows: list[SuiteRow]
    notes: list[str]

    @property
    def sources(self) -> list[str]:
        """The sources of the published rows, each once."""
        return list(dict.fromkeys(row.source for row in self.rows if row.source))

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the titles and rows, in percent; published encoders with the number of their source."""
        rows = []
        for row in self.rows:
            name = f"{row.encoder} [{self.sources.index(row.source) + 1}]" if row.source else row.encoder
            cells = [row.scores[task].text if task in row.scores else "" for task in self.tasks]
            rows.append([name, *cells, "" if row.mean is None else f"{row.mean:.2f}"])
        return ["encoder", *self.tasks, MEAN], rows

    @property
    def lines(self) -> list[str]:
        """What stands below the table: the notes, the runs, and the sources by their numbers."""
        runs = [folder for row in self.rows for score in row.scores.values() for folder in score.folders]
        numbered = [f"[{number}] {source}" for number, source in enumerate(self.sources, start=1)]
        return [*self.notes, *(f"run: {folder}" for folder in runs), *numbered]


def suite_of(name: str, groups: Sequence[Sequence[Run]]) -> Suite:
    """Put the runs of a benchmark's tasks together by encoder.

    Args:
        name: The benchmark, one of `SUITES`.
        groups: Runs of tests; those of a group differ in nothing but the seed.

    Raises:
        InputError: No run is of one of its tasks, or two groups are of the same task and encoder.
    """
    known, absent = SUITES[name]
    found: dict[str, dict[str, SuiteScore]] = {}
    notes = []
    for group in groups:
        run = group[0]
        if run.data not in known:
            notes += [f"{one.folder}: left out, {run.data} is no task of {name}" for one in group]
            continue
        task, scores = known[run.data], found.setdefault(run.backbone, {})
        if task.name in scores:
            raise InputError(
                f"{scores[task.name].folders[0]} and {run.folder} are both {task.name} of {run.backbone}, in other"
                " settings; name one of them"
            )
        scores[task.name] = score_of(task, group)
    if not found:
        names = ", ".join(task.name for task in known.values())
        raise InputError(f"none of the runs is of a task of {name}, whose data are those of {names}")
    order = [task.name for task in known.values()]
    tasks = [task for task in order if any(task in scores for scores in found.values())]
    rows = []
    for encoder, scores in found.items():
        counted = [task for task in order if task in scores and not scores[task].uncounted]
        mean = float(np.mean([np.mean(list(scores[task].metrics.values())) for task in counted])) if counted else None
        rows.append(SuiteRow(encoder, None, {task: scores[task] for task in order if task in scores}, mean))
        lacks = [task for task in (*order, *absent) if task not in counted]
        total = len(order) + len(absent)
        notes.append(f"{encoder}: mean of {len(counted)} of {total} tasks, without {', '.join(lacks)}")
        notes += [f"{encoder}, {task}: {remark}" for task in order if task in scores for remark in scores[task].remarks]
    if several := [task.name for task in known.values() if len(task.metrics) > 1 and task.name in tasks]:
        notes.append(
            f"{', '.join(several)}: F1 / exact match, and their mean counts; published is F1 where a source says so"
        )
    return Suite(name, tasks, [*rows, *published(tasks)], notes)


def score_of(task: SuiteTask, group: Sequence[Run]) -> SuiteScore:
    """Return what runs that differ in nothing but the seed have in a task.

    Args:
        task: The task.
        group: The runs.
    """
    run, comparison = group[0], compare(group, "test")
    means = comparison.scores[MEAN]
    if lacks := [metric for metric in task.metrics if metric not in means]:
        raise InputError(f"{run.folder} has no {lacks[0]}, which is the score of {task.name}")
    tested = {language for language in run.results if language != MEAN}
    uncounted = None
    if tested != set(task.languages):
        uncounted = f"over other languages than the benchmark's {len(task.languages)}: not in the mean"
    elif not all(one.is_whole for one in group):
        uncounted = "only a part of the test data, or other data, was scored: not in the mean"
    remarks = [uncounted] if uncounted else []
    if run.train_languages not in (["en"], []):
        remarks.append(f"trained on {', '.join(run.train_languages)}, where the benchmark transfers from English")
    return SuiteScore(
        {metric: means[metric].mean for metric in task.metrics},
        comparison.seeds,
        comparison.folders,
        [*remarks, *comparison.notes],
        uncounted,
    )


def published(tasks: Sequence[str]) -> list[SuiteRow]:
    """Return the encoders of encoders.csv that have a figure of some tasks.

    Args:
        tasks: The names of the tasks.
    """
    rows: dict[tuple[str, str], SuiteRow] = {}
    with Path(__file__).with_name("encoders.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["task"] in tasks:
                key = line["encoder"], line["source"]
                row = rows.setdefault(key, SuiteRow(*key, {}, None))
                row.scores[line["task"]] = SuiteScore({line["metric"]: float(line["value"])}, [], [], [], None)
    return list(rows.values())


def as_markdown(suite: Suite) -> str:
    """Return the table in Markdown."""
    notes = [f"- {markdown.plain(line)}" for line in suite.lines]
    return "\n".join(
        [f"# {markdown.plain(suite.name)}, in percent", "", *markdown.table(*suite.table()), "", *notes, ""]
    )


def as_csv(suite: Suite) -> str:
    """Return one line per encoder, task and metric, and the means of encoders."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["encoder", "task", "metric", "value", "counted", "seeds", "source"])
    for row in suite.rows:
        start, source = as_cell(row.encoder), as_cell(row.source or "")
        for task, score in row.scores.items():
            seeds = " ".join(map(str, score.seeds))
            counted = bool(score.seeds) and not score.uncounted
            for metric, value in score.metrics.items():
                writer.writerow([start, task, metric, value, counted, seeds, source])
        if row.mean is not None:
            writer.writerow([start, MEAN, "score", row.mean, "", "", source])
    return text.getvalue()


def as_json(suite: Suite) -> str:
    """Return everything that the table holds."""
    return json.dumps(asdict(suite), indent=2, ensure_ascii=False) + "\n"


def as_html(suite: Suite) -> str:
    """Return a page that needs no network."""
    titles, rows = suite.table()
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(
        f'<tr><th scope="row">{escape(cells[0])}</th>'
        + "".join(f'<td style="color:inherit">{escape(cell)}</td>' for cell in cells[1:])
        + "</tr>\n"
        for cells in rows
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(suite.name)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(suite.name)}, in percent</h1>\n"
        '<div class="scroll" tabindex="0" role="region" aria-label="Scores by encoder and task">\n'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n"
        + "".join(f"<p>{escape(line)}</p>\n" for line in suite.lines)
        + "</body>\n</html>\n"
    )


SUITE_WRITERS: dict[str, Callable[[Suite], str]] = {
    ".md": as_markdown,
    ".csv": as_csv,
    ".json": as_json,
    ".html": as_html,
}
