"""Right answers of a retrieval at every layer of a network, from vectors that are kept for one language at a time."""

import pyarrow as pa
from torch import Tensor

from . import neighbours
from .metrics import ScoresByLanguage


class LayerSweep:
    """Counts right answers at every layer, and drops a language's vectors when those of the next one come.

    36 languages of 1,000 pairs at 25 layers of width 1,024 would take 7 GB, of which a language has a thirty-sixth.
    """

    def __init__(self) -> None:
        self._vectors = ScoresByLanguage(_right_by_layer)
        self._language: int | None = None
        self._right: dict[int, list[dict[str, int]]] = {}

    def add(self, rows: dict[str, Tensor]) -> None:
        """Take in one batch, of one language.

        Args:
            rows: `language`, `example_ids`, `weights` (batch,), and `source` and `target` (batch, layers, width).
        """
        language = int(rows["language"][0])
        if self._language not in (None, language):
            self._count()
        self._language = language
        self._vectors.update(**rows)

    def right(self, language: int) -> list[dict[str, int]]:
        """Return the right answers of one language, for every layer by direction.

        Args:
            language: Its index, as in `language` of the rows.
        """
        if self._language is not None:
            self._count()
        return self._right[language]

    def _count(self) -> None:
        """Search at every layer; all processes do so at the same batch, since they have the same number of batches."""
        assert self._language is not None
        found = self._vectors.compute().tables[str(self._language)].to_pylist()
        self._right[self._language] = found
        self._vectors.reset()
        self._language = None


def _right_by_layer(rows: dict[str, Tensor], missing: int) -> tuple[pa.Table, dict[str, float]]:
    """Return the number of right answers in either direction, a row for every layer."""
    ids = rows["example_ids"]
    right = []
    for layer in range(rows["source"].shape[1]):
        found = {
            direction: neighbours.retrieve(ids, rows[queries][:, layer], rows[candidates][:, layer])[0]
            for direction, (queries, candidates) in neighbours.DIRECTIONS.items()
        }
        right.append({name: sum(key == answer for key, answer in nearest.items()) for name, nearest in found.items()})
    return pa.Table.from_pylist(right), {}
