"""Comparisons as one HTML page: a heat map of language by model, and bars per language. It needs no network."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from .card import Figures, rows_of_setting
from .comparison import CARD_METRICS, Comparison
from .tables import MEAN

Column = tuple[str, Figures, bool]
"""What a column is called, its scores in percent, and whether it is a run (otherwise a row of the card)."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #5b6470; --paper: #ffffff; --line: #d5dae0; --run: #1f6f54;
  --card: #9aa7b5; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --faint: #a3adb8; --paper: #14171a; --line: #363c43; --run: #4fb893; --card: #66727f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
h2, p { overflow-wrap: anywhere; } p { color: var(--faint); max-width: 60rem; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 2px; font-variant-numeric: tabular-nums; font-size: .875rem; }
th { font-weight: 600; text-align: left; padding: .25rem .5rem; vertical-align: bottom; white-space: nowrap; }
tbody th { position: sticky; left: 0; background: var(--paper); }
td { color: #101418; text-align: right; padding: .25rem .5rem; min-width: 3.5rem; border-radius: 3px; }
th.run { color: var(--run); white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
tr.mean > * { border-top: 2px solid var(--line); font-weight: 600; }
.bars { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1rem 2rem;
  margin-top: 1.5rem; }
.bars h4, .matrices h4 { margin: 0; font-size: .9rem; }
.matrices { display: flex; flex-wrap: wrap; gap: 1rem 2rem; margin-top: 1rem; } .matrices > div { max-width: 100%; }
summary { cursor: pointer; margin-top: 1.5rem; }
.bar { display: grid; grid-template-columns: 9rem 1fr 3.2rem; gap: .5rem; align-items: center; font-size: .8rem; }
.bar > :first-child { overflow-wrap: anywhere; line-height: 1.2; }
.bar > :last-child { text-align: right; font-variant-numeric: tabular-nums; }
.track { background: var(--line); border-radius: 3px; height: .7rem; }
.fill { background: var(--card); border-radius: 3px; height: 100%; }
.run .fill { background: var(--run); }
"""


def as_html(comparisons: Sequence[Comparison]) -> str:
    """Return the page.

    Args:
        comparisons: What to show; those of one task, setting and stage share their heat maps.
    """
    groups: dict[tuple[str, ...], list[Comparison]] = {}
    for comparison in comparisons:
        row = comparison.row
        key = (str(row.task), str(row.setting)) if row is not None else (comparison.recipe,)
        groups.setdefault((*key, comparison.stage), []).append(comparison)
    body = "".join(part for key, group in groups.items() for part in section(key, group))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Runs beside the model card</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Runs beside the model card</h1>\n{body}</body>\n</html>\n"
    )


def section(key: Sequence[str], group: Sequence[Comparison]) -> Iterator[str]:
    """Yield the HTML of one task and setting."""
    yield f"<section>\n<h2>{escape(', '.join(key))}</h2>\n"
    names = labels(group)
    for name, one in zip(names, group, strict=True):
        yield f"<p>{escape(name)}: {escape('; '.join([one.card, *one.notes]))}.</p>\n"
    columns: list[Column] = [(name, means(one), True) for name, one in zip(names, group, strict=True)]
    row = group[0].row
    if row is not None and is_compared(group):
        # Where the languages are others, so is what their mean says.
        has_mean = any(one.published is not None for compared in group for one in compared.scores[MEAN].values())
        for model, figures in rows_of_setting(row.task, row.setting).items():
            kept = {name: under_our_names(scores) for name, scores in figures.items() if has_mean or name != MEAN}
            columns.append((model, kept, False))
    metrics = dict.fromkeys(metric for one in group for by_metric in one.scores.values() for metric in by_metric)
    languages = list(dict.fromkeys(language for one in group for language in one.scores if language != MEAN))
    for metric in metrics:
        shown = [column for column in columns if any(metric in scores for scores in column[1].values())]
        yield f"<h3>{escape(metric)}, in percent</h3>\n"
        yield from heat_map(metric, [*languages, MEAN], shown)
        yield from bars(metric, [*languages, MEAN], shown)
    for name, one in zip(names, group, strict=True):
        yield from details(name, one)
        yield from confusion(name, one)
    yield "</section>\n"


def is_compared(group: Sequence[Comparison]) -> bool:
    """Say whether a figure of the card stands beside any score."""
    return any(
        one.published is not None for c in group for by_metric in c.scores.values() for one in by_metric.values()
    )


def labels(group: Sequence[Comparison]) -> list[str]:
    """Return what the columns of comparisons are called: by recipe, seeds and, where needed, the first run's folder."""
    names = []
    for one in group:
        seeds = f"seed {one.seeds[0]}" if len(one.seeds) == 1 else f"{len(one.seeds)} seeds"
        is_ambiguous = sum(other.recipe == one.recipe for other in group) > 1
        names.append(f"{one.recipe}, {seeds}" + (f" ({Path(one.folders[0]).name})" if is_ambiguous else ""))
    return names


def under_our_names(scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores of the card, those that runs have under another name under both."""
    return {**scores, **{ours: scores[theirs] for ours, theirs in CARD_METRICS.items() if theirs in scores}}


def means(comparison: Comparison) -> Figures:
    """Return a comparison's means as the card's figures are kept."""
    return {
        language: {metric: one.mean for metric, one in by_metric.items()}
        for language, by_metric in comparison.scores.items()
    }


def heat_map(metric: str, languages: Sequence[str], columns: Sequence[Column]) -> Iterator[str]:
    """Yield a table whose cells are the darker the higher the score."""
    values = [value for _, figures, _ in columns for value in of_metric(figures, metric, languages).values()]
    lowest, highest = min(values), max(values)
    yield '<div class="scroll" tabindex="0" role="region" aria-label="Scores by language and model">\n'
    yield '<table>\n<thead><tr><th scope="col">language</th>'
    for name, _, is_run in columns:
        yield f'<th scope="col"{CLASS_RUN if is_run else ""}>{escape(name)}</th>'
    yield "</tr></thead>\n<tbody>\n"
    for language in languages:
        yield f'<tr{CLASS_MEAN if language == MEAN else ""}><th scope="row">{escape(language)}</th>'
        for _, figures, _ in columns:
            value = figures.get(language, {}).get(metric)
            yield "<td></td>" if value is None else cell(value, lowest, highest)
        yield "</tr>\n"
    yield "</tbody>\n</table>\n</div>\n"


def details(name: str, one: Comparison) -> Iterator[str]:
    """Yield a table of further scores by language, such as calibration; nothing where the task has none."""
    metrics = list(dict.fromkeys(metric for scores in one.details.values() for metric in scores))
    if not metrics:
        return
    yield f"<details>\n<summary>{escape(name)}: further scores, in percent</summary>\n"
    yield '<div class="scroll" tabindex="0" role="region" aria-label="Further scores by language">\n'
    yield '<table>\n<thead><tr><th scope="col">language</th>'
    yield "".join(f'<th scope="col">{escape(metric)}</th>' for metric in metrics) + "</tr></thead>\n<tbody>\n"
    for language, scores in one.details.items():
        cells = "".join(cell(scores[metric], 0, 100) if metric in scores else "<td></td>" for metric in metrics)
        yield f'<tr{CLASS_MEAN if language == MEAN else ""}><th scope="row">{escape(language)}</th>{cells}</tr>\n'
    yield "</tbody>\n</table>\n</div>\n</details>\n"


def confusion(name: str, one: Comparison) -> Iterator[str]:
    """Yield a table per language of how often each label was taken for each; nothing where the task has no labels."""
    if not one.confusion:
        return
    yield f"<details>\n<summary>{escape(name)}: what was taken for what, in examples</summary>\n"
    yield '<div class="matrices">\n'
    for language, matrix in one.confusion.items():
        yield f'<div>\n<h4>{escape(language)}</h4>\n<div class="scroll" tabindex="0" role="region"'
        yield f' aria-label="Confusion matrix, {escape(language)}">\n<table>\n'
        yield '<thead><tr><th scope="col">right ↓ taken for →</th>'
        yield "".join(f'<th scope="col">{escape(label)}</th>' for label in one.labels) + "</tr></thead>\n<tbody>\n"
        most = max(max(row) for row in matrix)
        for label, row in zip(one.labels, matrix, strict=True):
            cells = "".join(cell(count, 0, most, "") for count in row)
            yield f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>\n'
        yield "</tbody>\n</table>\n</div>\n</div>\n"
    yield "</div>\n</details>\n"


CLASS_RUN, CLASS_MEAN = ' class="run"', ' class="mean"'


def of_metric(figures: Figures, metric: str, languages: Sequence[str]) -> Mapping[str, float]:
    """Return the scores of some languages in one metric."""
    return {name: figures[name][metric] for name in languages if metric in figures.get(name, {})}


def cell(value: float, lowest: float, highest: float, pattern: str = ".1f") -> str:
    """Return a cell, coloured between two scores from white to a green that black can be read on."""
    share = (value - lowest) / (highest - lowest) if highest > lowest else 0.5
    return f'<td style="background:hsl(160 45% {96 - 41 * share:.0f}%)">{value:{pattern}}</td>'


def bars(metric: str, languages: Sequence[str], columns: Sequence[Column]) -> Iterator[str]:
    """Yield one group of bars per language, each from 0 to 100 percent."""
    yield '<div class="bars">\n'
    for language in languages:
        yield f"<div>\n<h4>{escape(language)}</h4>\n"
        for name, figures, is_run in columns:
            value = figures.get(language, {}).get(metric)
            if value is not None:
                kind = "bar run" if is_run else "bar"
                yield (
                    f'<div class="{kind}"><span>{escape(name)}</span><div class="track">'
                    f'<div class="fill" style="width:{min(100.0, max(0.0, value)):.1f}%"></div></div>'
                    f"<span>{value:.1f}</span></div>\n"
                )
        yield "</div>\n"
    yield "</div>\n"
