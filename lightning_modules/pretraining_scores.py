"""What a pre-training is scored by: hidden tokens that are found, and translations that are the nearest."""

import pyarrow as pa

from . import neighbours, scores
from .networks import Batch


def language_scores(rows: Batch, is_pair: bool, missing: int) -> tuple[pa.Table, dict[str, float]]:
    """Make the table and the scores of one language.

    Args:
        rows: `example_ids`; `hidden`, `found` and `loss`, a row's hidden tokens, those that are found, and the sum of
            their losses in nats; for pairs also `camlm_found`, `camlm_loss`, and the vectors `source` and `target`.
        is_pair: Whether the language is a pair of two.
        missing: How many examples got no prediction.
    """
    hidden = float(rows["hidden"].sum())
    result = {
        f"{name}{score}": float(rows[f"{name}{column}"].double().sum()) / max(1.0, hidden)
        for name in (("", "camlm_") if is_pair else ("",))
        for score, column in (("accuracy", "found"), ("loss", "loss"))
    }
    if is_pair:
        ids = rows["example_ids"]
        references = {key: key for key in ids.tolist()}
        result["retrieval"] = scores.macro_mean(
            {
                direction: scores.accuracy(neighbours.retrieve(ids, rows[queries], rows[candidates])[0], references)
                for direction, (queries, candidates) in neighbours.DIRECTIONS.items()
            }
        )
    result["examples"] = float(len(rows["example_ids"]) + missing)
    if missing:
        result["missing"] = float(missing)
    columns = {"example_id": rows["example_ids"], "hidden": rows["hidden"], "found": rows["found"].long()}
    return pa.table({name: pa.array(values.tolist(), pa.int64()) for name, values in columns.items()}), result
