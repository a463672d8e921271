"""What a pre-training is scored by: hidden tokens that are found, and translations that are the nearest."""

import pyarrow as pa
import torch
from torch import Tensor

from . import neighbours, scores
from .networks import Batch


def sums_by_row(count: int, tokens: tuple[Tensor, Tensor, Tensor] | None, device: torch.device) -> dict[str, Tensor]:
    """Return `found` and `loss` of each row: its tokens that were found, and the sum of their losses. (rows,) float32.

    Args:
        count: How many rows there are.
        tokens: The loss of each token, whether it was found, and its row, (tokens,) each; None for zeros.
        device: Where the rows are.
    """
    sums = {key: torch.zeros(count, dtype=torch.float32, device=device) for key in ("found", "loss")}
    if tokens is not None:
        losses, right, row = tokens
        sums["found"].index_add_(0, row, right.float())
        sums["loss"].index_add_(0, row, losses.float())
    return sums


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
