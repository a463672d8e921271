"""Metrics that wait for the device only when they are computed: an evaluation's predictions, a training's accuracy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from . import scores

LanguageScores = dict[str, dict[str, float]]
"""Language to its scores and counts; `mean` is a language."""

RowsOfAll = Callable[[dict[str, Tensor]], None]
"""Takes the rows of all languages, before any language is scored."""

ScoreOfRows = Callable[[dict[str, Tensor], int], tuple[pa.Table, dict[str, float]]]
"""Makes one language's table and scores of its rows and of the number of those that are missing."""

COUNTS = ("examples", "missing", "ties", "duplicates")
"""Entries of a language's results that are numbers of examples: summed over languages, not logged."""

DETAILS = (
    "macro_f1", "macro_precision", "macro_recall", "matthews", "calibration_error", "rmse", "has_answer_exact_match",
    "loss", "camlm_loss",
)  # fmt: skip
"""Scores beside a task's own: in results and logs, not in tables that people read at a glance."""

NO_SHARES = ("rmse", "loss", "camlm_loss")
"""Those of them that are not between 0 and 1."""

LAYER = "layer_"
"""What the names of the scores of single layers begin with."""

_KEYS = ("language", "example_ids", "weights")
_WIDTH = "width"
# What fills up the rows of a column whose batches had different widths.
_FILLER = -1


def is_score(name: str) -> bool:
    """Tell whether an entry of a language's results is a score of the network: no count, and of no single layer."""
    return name not in (*COUNTS, "chance", "collapsed") and not name.startswith(LAYER)


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


class Evaluation(NamedTuple):
    """What `ScoresByLanguage` computes.

    Attributes:
        results: Language to its scores and counts, and `mean` over them; languages without references are left out.
        tables: Language to one row per example, as the score made it.
    """

    results: LanguageScores
    tables: dict[str, pa.Table]


class ScoresByLanguage(Metric):
    """Keeps rows of predictions by language and example id, and scores each language by a pure function.

    An example counts once, however many processes predicted it: the rows of all are gathered when the score is
    computed, those of weight 0 (fillers) are left out, and so is all but the first of several with the same language
    and example id. Every process must have been given one batch at least, or none of them.

        >>> import pyarrow, torch
        >>> def accuracy(rows, missing):
        ...     right = rows["predictions"] == rows["labels"]
        ...     table = pyarrow.table({"id": rows["example_ids"].tolist(), "right": right.tolist()})
        ...     return table, {"accuracy": right.sum().item() / (len(right) + missing)}
        >>> metric = ScoresByLanguage(accuracy, ["en", "de"])
        >>> for language, predictions in ((0, [1, 0]), (1, [1, 1])):
        ...     metric.update(
        ...         language=torch.tensor([language] * 2), example_ids=torch.tensor([7, 3]), weights=torch.ones(2),
        ...         predictions=torch.tensor(predictions), labels=torch.tensor([1, 1]),
        ...     )
        >>> metric.compute().results
        {'en': {'accuracy': 0.5}, 'de': {'accuracy': 1.0}, 'mean': {'accuracy': 0.75}}
        >>> metric.compute().tables["en"].to_pydict()
        {'id': [3, 7], 'right': [False, True]}

    Args:
        score: Makes one language's table and scores from its rows (sorted by example id, on the CPU) and from how many
            are missing. No scores where there are no references.
        languages: Names of the languages; an index beyond them is its own name.
        prepare: Is given the rows of all languages before they are scored.
        kwargs: What `torchmetrics.Metric` takes.

    Attributes:
        expected: How many examples each language has, where all of them were to be predicted.
    """

    full_state_update = False

    def __init__(
        self, score: ScoreOfRows, languages: Sequence[str] = (), prepare: RowsOfAll | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.score = score
        self.prepare = prepare
        self.languages = list(languages)
        self.expected: Mapping[str, int] = {}
        self._columns: dict[str, bool] = {}

    def update(self, **columns: Tensor) -> None:
        """Keep the rows of one batch, without waiting for the device.

        Args:
            columns: `language` and `example_ids` (batch,) int64, `weights` (batch,), and what the score needs, (batch,)
                or (batch, width). Columns of whole numbers may have another width in every batch, the same for all.

        Raises:
            ValueError: One of the first three is missing, or the columns are not those of the first batch.
        """
        if not self._columns:
            self._declare(columns)
        if self._columns.keys() != columns.keys():
            raise ValueError(f"the columns are {list(columns)}; those of the first batch were {list(self._columns)}")
        for name, is_ragged in self._columns.items():
            # Flat, since rows of different widths cannot be gathered.
            getattr(self, name).append(columns[name].flatten() if is_ragged else columns[name])
        ragged = [columns[name] for name, is_ragged in self._columns.items() if is_ragged]
        if ragged:
            rows, width = ragged[0].shape
            getattr(self, _WIDTH).append(torch.full((rows,), width, device=ragged[0].device))

    def _declare(self, columns: Mapping[str, Tensor]) -> None:
        if missing := [name for name in _KEYS if name not in columns]:
            raise ValueError(f"there is no column {missing[0]!r}; rows are kept by language, example and weight")
        self._columns = {name: values.ndim == 2 and not values.is_floating_point() for name, values in columns.items()}
        for name in (*columns, *([_WIDTH] if any(self._columns.values()) else [])):
            self.add_state(name, [], dist_reduce_fx="cat")

    def compute(self) -> Evaluation:
        """Score every language.

        Returns:
            The same on every process.
        """
        rows = self._examples()
        if self.prepare is not None and len(rows["language"]):
            self.prepare(rows)
        results: LanguageScores = {}
        tables = {}
        for index in torch.unique(rows["language"]).tolist():
            language = self.languages[index] if index < len(self.languages) else str(index)
            chosen = rows["language"] == index
            own = {key: values[chosen] for key, values in rows.items()}
            missing = max(0, self.expected.get(language, 0) - len(own["language"]))
            tables[language], result = self.score(own, missing)
            if result:
                results[language] = result
            if "missing" in result:
                rank_zero_warn(f"{language}: {result['missing']:.0f} examples got no prediction and count as wrong")
        return Evaluation(results | ({"mean": mean_results(results)} if results else {}), tables)

    def _examples(self) -> dict[str, Tensor]:
        """Return the columns but `weights`, on the CPU, sorted by language and example id, each example once."""
        if not self._columns or not self.update_called:
            return {"language": torch.empty(0, dtype=torch.int64)}
        flat = {name: dim_zero_cat(getattr(self, name)).cpu() for name in self._columns}
        if any(self._columns.values()):
            widths = dim_zero_cat(getattr(self, _WIDTH)).cpu()
            flat |= {name: _as_rows(flat[name], widths) for name, is_ragged in self._columns.items() if is_ragged}
        real = flat.pop("weights") > 0
        rows = {name: values[real] for name, values in flat.items()}
        keys = torch.stack([rows["language"], rows["example_ids"]], dim=1)
        unique, group = torch.unique(keys, dim=0, return_inverse=True)
        first = torch.full((len(unique),), len(keys), dtype=torch.int64)
        first = first.scatter_reduce(0, group, torch.arange(len(keys)), "amin")
        return {name: values[first] for name, values in rows.items()}


class ShareOfRight(Metric):
    """Counts right answers over batches and processes, without waiting for the device at any of them.

    torchmetrics' `MeanMetric` waits to look for values that are not numbers; told not to look, version 1.9 forgets the
    weights too.

        >>> metric = ShareOfRight()
        >>> metric.update(torch.tensor([True, False, True]), torch.tensor([True, True, False]))
        >>> metric.compute()
        tensor(0.5000)
    """

    full_state_update = False
    right: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("right", "total"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, is_right: Tensor, counts: Tensor) -> None:
        """Count the answers of one batch.

        Args:
            is_right: (...) bool
            counts: Whether an answer counts at all. (...) bool
        """
        self.right = self.right + (is_right & counts).sum()
        self.total = self.total + counts.sum()

    def compute(self) -> Tensor:
        """Return the share of right answers among those that count, of all processes. ()."""
        return self.right / self.total


def _as_rows(values: Tensor, widths: Tensor) -> Tensor:
    """Return rows that lie end to end below each other, filled on the right up to the widest. (rows, width)."""
    widest = int(widths.max())
    rows = values.new_full((len(widths), widest), _FILLER)
    rows[torch.arange(widest) < widths[:, None]] = values
    return rows
