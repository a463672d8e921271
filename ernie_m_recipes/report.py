"""`ernie-m report`: tables of runs beside the figures of the model card."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from ernie_m.errors import InputError
from ernie_m.files import write_text

from . import markdown
from .comparison import Comparison, Run, ScoreOverSeeds, compare, groups_of, read_run
from .lines import as_cell, one_line
from .preparation import prepare
from .report_page import as_html
from .suite import SUITE_WRITERS, SUITES, Suite, suite_of
from .tables import print_table


def table_of(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the titles and rows of a table, in percent.

    Args:
        comparison: What to show.
    """
    metrics = list(dict.fromkeys(metric for by_metric in comparison.scores.values() for metric in by_metric))
    several = len(comparison.seeds) > 1
    has_card = any(one.published is not None for by_metric in comparison.scores.values() for one in by_metric.values())
    titles = ["language"]
    for metric in metrics:
        titles += [metric, *(["deviation", "95 %"] if several else []), *(["card", "difference"] if has_card else [])]
    rows = []
    for language, by_metric in comparison.scores.items():
        row = [language]
        for metric in metrics:
            row += cells(by_metric.get(metric), several, has_card)
        rows.append(row)
    return titles, rows


def cells(one: ScoreOverSeeds | None, several: bool, has_card: bool) -> list[str]:
    """Return the cells of one score, empty where it has no value."""
    if one is None:
        return [""] * (1 + 2 * several + 2 * has_card)
    row = [f"{one.mean:.2f}"]
    if several:
        is_interval = one.low is not None and one.high is not None
        row += [number(one.deviation, ".2f"), f"{one.low:.2f} to {one.high:.2f}" if is_interval else ""]
    if has_card:
        row += [number(one.published, ".1f"), number(one.difference, "+.2f")]
    return row


def number(value: float | None, pattern: str) -> str:
    """Return a number as text, nothing where there is none."""
    return "" if value is None else format(value, pattern)


def title_of(comparison: Comparison) -> str:
    """Return the line above a table."""
    seeds = ", ".join(map(str, comparison.seeds))
    return f"{comparison.recipe}, {comparison.stage}, seed{'s' * (len(comparison.seeds) > 1)} {seeds}, in percent"


def as_markdown(comparisons: Sequence[Comparison]) -> str:
    """Return tables in Markdown."""
    parts = ["# Runs beside the model card"]
    for comparison in comparisons:
        lines = markdown.table(*table_of(comparison))
        folders = [f"- {markdown.code(folder)}" for folder in comparison.folders]
        notes = [f"{note[0].upper()}{note[1:]}." for note in (f"card: {comparison.card}", *comparison.notes)]
        parts += [
            f"## {markdown.plain(title_of(comparison))}",
            *map(markdown.plain, notes),
            "\n".join(lines),
            "\n".join(folders),
        ]
    return "\n\n".join(parts) + "\n"


def as_csv(comparisons: Sequence[Comparison]) -> str:
    """Return one line per language and metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(ScoreOverSeeds.__dataclass_fields__)
    writer.writerow(["recipe", "stage", "seeds", "language", "metric", *names])
    for comparison in comparisons:
        start = [comparison.recipe, comparison.stage, " ".join(map(str, comparison.seeds))]
        for language, by_metric in comparison.scores.items():
            for metric, one in by_metric.items():
                writer.writerow([*map(as_cell, [*start, language, metric]), *asdict(one).values()])
    return text.getvalue()


def as_json(comparisons: Sequence[Comparison]) -> str:
    """Return everything that a comparison holds."""
    return json.dumps([asdict(comparison) for comparison in comparisons], indent=2, ensure_ascii=False) + "\n"


WRITERS: dict[str, Callable[[Sequence[Comparison]], str]] = {
    ".md": as_markdown,
    ".csv": as_csv,
    ".json": as_json,
    ".html": as_html,
}


def show_suite(suite: Suite, outputs: Sequence[Path]) -> None:
    """Print the table of a benchmark, and write files where they are asked for.

    Args:
        suite: What to show.
        outputs: The files, whose suffixes are known.
    """
    print_table(f"{suite.name}, in percent", *suite.table())
    print("\n".join(map(one_line, suite.lines)), end="\n\n")
    for path in outputs:
        write_text(path, SUITE_WRITERS[path.suffix](suite))
        print(f"written to {path}")


def main(arguments: Sequence[str]) -> int:
    """Print a table per experiment, and write files where they are asked for.

    Args:
        arguments: The words after `ernie-m report`.

    Raises:
        InputError: A folder is no run, or a file's suffix is unknown.
    """
    parser = argparse.ArgumentParser(
        prog="ernie-m report",
        description="Show runs beside the model card's figures; seeds of one experiment together.",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder")
    parser.add_argument("--stage", choices=["test", "validate"], default="test", help="which scores")
    parser.add_argument(
        "--suite",
        choices=list(SUITES),
        help="one table of a benchmark's tasks, beside other encoders' published scores",
    )
    parser.add_argument(
        "--output", type=Path, nargs="+", default=[], metavar="FILE", help=f"files to write: {', '.join(WRITERS)}"
    )
    options = parser.parse_args(arguments)
    prepare()
    for path in options.output:
        if path.suffix not in WRITERS:
            raise InputError(f"--output {path}: the suffix says how to write; known are {', '.join(WRITERS)}")
    if options.suite and options.stage != "test":
        raise InputError(f"--suite {options.suite} goes with --stage test: a benchmark's scores are those of its tests")
    runs: list[Run] = []
    for folder in options.runs:
        run = read_run(folder, options.stage)
        if isinstance(run, Run):
            runs.append(run)
        else:
            print(f"{folder}: left out, {run}", file=sys.stderr)
    if not runs:
        raise InputError(f"none of the folders has scores of {options.stage}")
    groups = groups_of(runs)
    kept = {run.folder: run for group in groups for run in group}
    for run in runs:
        if run.folder not in kept:
            twin = next(one for one in kept.values() if (one.experiment, one.seed) == (run.experiment, run.seed))
            print(f"{run.folder}: left out, it scored the network of {twin.folder} again", file=sys.stderr)
    if options.suite:
        show_suite(suite_of(options.suite, groups), options.output)
        return 0
    comparisons = [compare(group, options.stage) for group in groups]
    for comparison in comparisons:
        print_table(title_of(comparison), *table_of(comparison))
        lines = [f"card: {comparison.card}", *comparison.notes, *(f"run: {folder}" for folder in comparison.folders)]
        print("\n".join(map(one_line, lines)), end="\n\n")
    for path in options.output:
        write_text(path, WRITERS[path.suffix](comparisons))
        print(f"written to {path}")
    return 0
