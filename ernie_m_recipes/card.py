"""The figures of ERNIE-M's model card, which travel with the package in card.csv."""

import csv
from functools import cache
from pathlib import Path

from .settings import CardRow
from .tables import MEAN

Figures = dict[str, dict[str, float]]
"""Language to metric to percent; `mean` is a language."""


@cache
def _rows() -> dict[CardRow, Figures]:
    rows: dict[CardRow, Figures] = {}
    with Path(__file__).with_name("card.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            figures = rows.setdefault(CardRow(line["task"], line["setting"], line["model"]), {})
            language = MEAN if line["language"] == "avg" else line["language"]
            figures.setdefault(language, {})[line["metric"]] = float(line["value"])
    return rows


def figures_of(row: CardRow) -> Figures | None:
    """Return the published figures of a row; None where the card has no such row.

    Args:
        row: Task, setting and model, as the card names them.
    """
    return _rows().get(row)


def rows_of_setting(task: str | None, setting: str | None) -> dict[str, Figures]:
    """Return all models' figures of a task and setting, in the card's order.

    Args:
        task: As in `CardRow`.
        setting: See `task`.
    """
    return {str(row.model): figures for row, figures in _rows().items() if (row.task, row.setting) == (task, setting)}
