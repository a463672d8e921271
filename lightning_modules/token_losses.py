"""The loss over a large vocabulary at some tokens, without the logits of all of them at once."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

# Logits that are held at once: 256 MB in float32, 268 tokens with 250,002 pieces.
_LOGITS = 2**26

Head = Callable[[Tensor], Tensor]
"""Maps vectors (tokens, width) to logits (tokens, vocabulary)."""


def token_losses(head: Head, hidden: Tensor, labels: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Return each token's cross entropy in nats, and whether its label had the highest logit. Both (tokens,).

    Where the logits of all tokens are many they are computed in parts, and again in the backward pass, so that memory
    does not grow with the number of tokens times the vocabulary.

    Args:
        head: The network's head.
        hidden: Vectors of the tokens. (tokens, width)
        labels: (tokens,) int64
        vocabulary: Entries of the vocabulary.
    """
    at_once = max(1, _LOGITS // vocabulary)
    if len(labels) <= at_once:
        return _of_part(head, hidden, labels)
    found = [
        checkpoint(_of_part, head, *part, use_reentrant=False, preserve_rng_state=False)
        for part in zip(torch.split(hidden, at_once), torch.split(labels, at_once), strict=True)
    ]
    losses, right = zip(*found, strict=True)
    return torch.cat(losses), torch.cat(right)


def _of_part(head: Head, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits = head(hidden)
    return cross_entropy(logits.float(), labels, reduction="none"), logits.detach().argmax(dim=-1) == labels


def likeliest(head: Head, hidden: Tensor, admitted: Tensor) -> Tensor:
    """Return the admitted id with the highest logit at each token. (tokens,) int64.

    Args:
        head: The network's head.
        hidden: Vectors of the tokens. (tokens, width)
        admitted: The ids to choose from. (ids,) int64
    """
    at_once = max(1, _LOGITS // max(1, len(admitted)))
    parts = [admitted[head(part)[:, admitted].argmax(dim=-1)] for part in torch.split(hidden, at_once)]
    return torch.cat(parts) if parts else admitted.new_empty(0)
