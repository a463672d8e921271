"""A number for every text or pair of texts, such as how similar they are."""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ernie_m.errors import InputError

from .labelled_texts import LabelledTexts
from .reading import SourceRows

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

# Of a file that is divided, the parts have rows of as many ranges of the number.
_RANGES = 10


class TextRegression(LabelledTexts):
    """Texts, or pairs of texts, with a number, from CSV, TSV, JSONL, Parquet or `datasets`' Arrow files.

    A batch holds what `LabelledTexts` says; `labels` are (batch,) float32, not a number in prediction. Of a file that
    is divided, the parts have alike many rows of each tenth of the numbers.

    Args:
        label_column: The number: with a point where it has a fraction, and as large as float32 holds.
        args: What `LabelledTexts` takes, as `kwargs`.
        kwargs: See `args`.
    """

    kind: ClassVar[str] = "texts with a number"

    def __init__(self, *args: Any, label_column: str = "label", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_column = label_column

    @property
    def label_names(self) -> list[str]:
        """What the number is called: its column."""
        return [self.label_column]

    @property
    def columns_of_labels(self) -> list[str]:
        """The column of the number."""
        return [self.label_column]

    def read_labels(self, rows: SourceRows, part: "Path | Dataset") -> pa.Array:
        """Reads the numbers.

        Raises:
            InputError: One is none, named with its place.
        """
        return numbers_of(rows, self.label_column)

    def no_labels(self, count: int) -> pa.Array:
        """Not a number for every row."""
        return pa.array(np.full(count, np.nan, dtype=np.float32))

    def strata(self, labels: pa.ChunkedArray) -> NDArray[np.int64]:
        """The tenth of the numbers that each lies in."""
        values = labels.to_numpy()
        bounds = np.quantile(values, np.linspace(0, 1, _RANGES + 1)[1:-1])
        ranges: NDArray[np.int64] = np.searchsorted(bounds, values, side="right").astype(np.int64)
        return ranges

    def settings_of_labels(self) -> dict[str, Any]:
        """The column."""
        return {"label_column": self.label_column}

    def summary_of_labels(self, labels: pa.ChunkedArray) -> str:
        """The smallest, the mean and the largest number."""
        values = labels.to_numpy()
        if not len(values) or np.isnan(values[0]):
            return ""
        return f"{self.label_column} from {values.min():g} to {values.max():g}, mean {values.mean():.3g}"


def numbers_of(rows: SourceRows, column: str) -> pa.Array:
    """A column of numbers, or of texts that spell them, as float32.

    Args:
        rows: The rows.
        column: Its name.

    Raises:
        InputError: A value is no number, or none that float32 holds, named with its place.
    """
    values = rows.table.column(column).combine_chunks()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        texts = pc.utf8_trim_whitespace(values).to_pylist()
        found = [_number(text) for text in texts]
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        found = [np.nan if value is None else float(value) for value in values.to_pylist()]
    elif pa.types.is_null(values.type):
        found = [np.nan] * len(values)
    else:
        raise InputError(f"{rows.parts[0][0]}: column '{column}' holds {values.type}, not numbers.")
    numbers = np.asarray(found, dtype=np.float64)
    with np.errstate(over="ignore"):
        small = numbers.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(small))
    if len(wrong):
        value = values[int(wrong[0])].as_py()
        comma = " Fractions are written with a point." if isinstance(value, str) and "," in value else ""
        raise InputError(
            f"{rows.where(int(wrong[0]))}: {value!r} in column '{column}' is no number; give the row one, or"
            f" remove it.{comma}"
        )
    return pa.array(small)


def _number(text: str | None) -> float:
    try:
        # Python reads 1_000 as a number too.
        return np.nan if text is None or "_" in text else float(text)
    except ValueError:
        return np.nan
