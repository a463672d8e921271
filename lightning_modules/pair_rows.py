"""Rows of pairs: taken apart into sentences, and made of a text and of placeholders for pseudo tokens."""

import torch
from torch import Tensor

from .networks import Batch


def sides(batch: Batch, separators: int, pad_id: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return "source" and "target" of pairs, each as a text by itself: ids and mask, (batch, length) int64.

    Args:
        batch: Rows `[CLS] x [SEP] [SEP] y [SEP]`, or with one separator between the sentences, and `target_start`.
        separators: How many there are between the sentences.
        pad_id: Id of padding.
    """
    ids, present = batch["input_ids"], batch["attention_mask"]
    ends = present.sum(dim=1)
    last_of_source = batch["target_start"] - int(separators == 1)
    parts = {}
    # The token before the second sentence makes room for the one that opens a text.
    for side, start, end in (
        ("source", torch.zeros_like(ends), batch["target_start"]),
        ("target", last_of_source, ends),
    ):
        # A text that stands in for a pair, with a weight of 0, has no second sentence.
        lengths = (end - start).clamp(min=1)
        places = torch.arange(int(lengths.max()), device=ids.device)
        mask = (places < lengths[:, None]).long()
        taken = ids.gather(1, (start[:, None] + places).clamp(max=ids.shape[1] - 1))
        taken[:, 0] = ids[:, 0]
        parts[side] = (taken.masked_fill(mask == 0, pad_id), mask)
    return parts


def with_placeholders(batch: Batch, counts: Tensor, mask_id: int, separators: int, pad_id: int) -> Batch:
    """Return texts `[CLS] x [SEP]` as pairs whose second sentence is of masks: `[CLS] x [SEP] [SEP] [MASK] ... [SEP]`.

    Args:
        batch: The texts.
        counts: How many masks each row gets. (batch,) int64
        mask_id: Id of the mask.
        separators: How many separators stand between the sentences of a pair.
        pad_id: Id of padding.

    Returns:
        The batch with its longer rows, their `target_start`, and `placeholders` (batch, length) int64: 1 for a mask.
    """
    ids, present = batch["input_ids"], batch["attention_mask"]
    ends = present.sum(dim=1)
    separator = ids.gather(1, ends[:, None] - 1)
    before = separators - 1
    lengths = ends + before + counts + 1
    places = torch.arange(int(lengths.max()), device=ids.device)
    # From 0 behind the text.
    behind = places - ends[:, None]
    mask = (places < lengths[:, None]).long()
    placeholders = (behind >= before) & (behind < before + counts[:, None])
    old = torch.nn.functional.pad(ids, (0, int(lengths.max()) - ids.shape[1]))[:, : len(places)]
    new = torch.where(behind < 0, old, torch.where(placeholders, mask_id, separator))
    return batch | {
        "input_ids": new.masked_fill(mask == 0, pad_id),
        "attention_mask": mask,
        "target_start": ends,
        "placeholders": placeholders.long(),
    }
