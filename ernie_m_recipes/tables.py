"""Score tables for the terminal: rich where there is one, plain where the output goes elsewhere."""

import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from .lines import one_line

ResultsByLanguage = Mapping[str, Mapping[str, float]]
"""Language to metric to value; `mean` is a language."""

MEAN = "mean"


def shown(names: Iterable[str]) -> list[str]:
    """Return those entries of a language's results that tables for people show: the headline, and no details.

    Args:
        names: The entries in their order; the first score is the headline.
    """
    from lightning_modules.metrics import DETAILS, is_score

    found = list(filter(is_score, dict.fromkeys(names)))
    return found[:1] + [name for name in found[1:] if name not in DETAILS]


def details_of(names: Iterable[str]) -> list[str]:
    """Return those entries of a language's results that are details, and shares as all that is in percent.

    Args:
        names: The entries.
    """
    from lightning_modules.metrics import DETAILS, NO_SHARES

    return [name for name in names if name in DETAILS and name not in NO_SHARES]


def rows_of(columns: Mapping[str, ResultsByLanguage]) -> tuple[list[str], list[list[str]]]:
    """Lay results of several evaluations side by side.

    Each evaluation shows its first metric; the last one, which is what the run is for, shows all.

    Args:
        columns: Name of an evaluation to language to metric to value, shares between 0 and 1; `mean` is a language.

    Returns:
        The titles, and one row per language with percentages, the mean last.
    """
    columns_of: list[tuple[str, ResultsByLanguage, str]] = []
    for number, (name, results) in enumerate(columns.items(), start=1):
        metrics = shown(metric for scores in results.values() for metric in scores)
        columns_of += [(name, results, metric) for metric in metrics[:1]]
        if number == len(columns):
            columns_of += [(f"{name} {metric}", results, metric) for metric in metrics[1:]]
    languages = list(dict.fromkeys(name for results in columns.values() for name in results if name != MEAN))
    languages += [MEAN] if any(MEAN in results for results in columns.values()) else []
    counted = any("examples" in scores for results in columns.values() for scores in results.values())
    titles = ["language", *(title for title, _, _ in columns_of), *(["examples"] if counted else [])]
    rows = []
    for language in languages:
        row = [language]
        for _, results, metric in columns_of:
            value = results.get(language, {}).get(metric)
            row.append("" if value is None else f"{100 * value:.2f}")
        if counted:
            counts = [int(r[language]["examples"]) for r in columns.values() if "examples" in r.get(language, {})]
            row.append(str(counts[-1]) if counts else "")
        rows.append(row)
    return titles, rows


def print_scores(title: str, columns: Mapping[str, ResultsByLanguage]) -> None:
    """Print a per-language table, in percent, then the means of single layers and how many ties there were, if any.

    Args:
        title: The line above it.
        columns: As in `rows_of`.
    """
    from lightning_modules.metrics import LAYER

    print_table(title, *rows_of(columns))
    means = {name: results.get(MEAN, {}) for name, results in columns.items()}
    swept = {name: scores for name, scores in means.items() if any(metric.startswith(LAYER) for metric in scores)}
    if layers := list(dict.fromkeys(metric for scores in swept.values() for metric in scores if LAYER in metric)):
        rows = [
            [layer.removeprefix(LAYER), *(f"{100 * scores[layer]:.2f}" for scores in swept.values())]
            for layer in layers
        ]
        print_table("accuracy by layer, mean of the languages", ["layer", *swept], rows)
    for name, scores in means.items():
        if scores.get("ties") or scores.get("duplicates"):
            ties, duplicates = int(scores["ties"]), int(scores["duplicates"])
            print(f"{name}: {ties:,} ties, {duplicates:,} sentences that stand more than once on their side")


def print_table(title: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first column names the row.

    Args:
        title: The line above it.
        titles: Names of the columns.
        rows: The cells.
    """
    # Names come from folders, and a terminal obeys what some characters say.
    title, titles = one_line(title), list(map(one_line, titles))
    rows = [list(map(one_line, row)) for row in rows]
    if not sys.stdout.isatty():
        widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles))]
        print(title)
        for row in [titles, *rows]:
            cells = [row[0].ljust(widths[0])] + [
                cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)
            ]
            print("  ".join(cells).rstrip(), flush=True)
        return
    table = Table(title=title, title_justify="left")
    for position, name in enumerate(titles):
        table.add_column(name, justify="right" if position else "left")
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == MEAN else None)
    Console().print(table)
