"""Right answers of a retrieval at every layer of a network, from vectors that are kept for one language at a time."""

from torch import Tensor

from . import scores
from .gathering import gather_examples


class LayerSweep:
    """Counts right answers at every layer, and drops a language's vectors when those of the next one come.

    36 languages of 1,000 pairs at 25 layers of width 1,024 would take 7 GB, of which a language has a thirty-sixth.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, Tensor]] = []
        self._right: dict[int, list[dict[str, int]]] = {}

    def add(self, rows: dict[str, Tensor]) -> None:
        """Take in one batch, of one language.

        Args:
            rows: `language`, `example_ids`, `weights` (batch,), and `source` and `target` (batch, layers, width).
        """
        if self._rows and int(self._rows[0]["language"][0]) != int(rows["language"][0]):
            self._count()
        self._rows.append(rows)

    def right(self, language: int) -> list[dict[str, int]]:
        """Return the right answers of one language, for every layer by direction.

        Args:
            language: Its index, as in `language` of the rows.
        """
        if self._rows:
            self._count()
        return self._right[language]

    def _count(self) -> None:
        """Search at every layer; all processes do so at the same batch, since they have the same number of batches."""
        language = int(self._rows[0]["language"][0])
        rows = gather_examples(self._rows)
        self._rows = []
        ids = rows["example_ids"]
        self._right[language] = []
        for layer in range(rows["source"].shape[1]):
            found = {
                direction: scores.retrieve(ids, rows[queries][:, layer], rows[candidates][:, layer])[0]
                for direction, (queries, candidates) in scores.DIRECTIONS.items()
            }
            right = {name: sum(key == answer for key, answer in nearest.items()) for name, nearest in found.items()}
            self._right[language].append(right)
