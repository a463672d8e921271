"""CAMLM's attention: a masked token is predicted from the other sentence alone (arXiv 2012.15674, section 3.2)."""

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import PreTrainedConfig

from ernie_m.errors import InputError


def cross_attention(masked: Tensor, is_target: Tensor, present: Tensor) -> Tensor:
    """Return which tokens each token attends to. (batch, 1, length, length) bool.

    A masked token sees the masked tokens of its own sentence, itself among them, and the unmasked tokens of the other
    sentence. An unmasked token sees the unmasked tokens of its own sentence: were it to see more, a masked token of a
    later layer would see the words of its own sentence through it. Separators are unmasked tokens of their sentence.
    The paper draws the masked tokens alone; the rule for the others is what keeps it true over several layers.

    Args:
        masked: The tokens to predict. (batch, length) bool
        is_target: The tokens of the second sentence. (batch, length) bool
        present: The tokens that are no padding. (batch, length) bool
    """
    same = is_target[:, :, None] == is_target[:, None, :]
    asking, asked = masked[:, :, None], masked[:, None, :]
    allowed = torch.where(asking, same == asked, same & ~asked)
    return (allowed & present[:, None, :])[:, None]


def for_attention(allowed: Tensor, implementation: str | None) -> Tensor | BlockMask:
    """Return what an attention of transformers takes to obey a rule.

    Args:
        allowed: Which tokens each token attends to. (batch, 1, length, length) bool
        implementation: "eager", "sdpa" or "flex_attention".
    """
    if implementation == "flex_attention":
        batch, _, length, _ = allowed.shape
        return create_block_mask(
            lambda row, head, asking, asked: allowed[row, 0, asking, asked],
            batch,
            None,
            length,
            length,
            device=str(allowed.device),
        )
    if implementation == "sdpa":
        return allowed
    # To be added to the scores: eager attention of other families than ERNIE-M takes no booleans.
    return torch.where(allowed, 0.0, torch.finfo(torch.float32).min)


def check_attention(config: PreTrainedConfig, objective: str) -> None:
    """Refuse an attention that cannot be told token by token what is seen.

    Args:
        config: The network's configuration.
        objective: What it is wanted for.

    Raises:
        InputError: It cannot.
    """
    if config._attn_implementation not in ("eager", "sdpa", "flex_attention"):
        raise InputError(
            f"{objective} says token by token what is seen, which {config._attn_implementation!r} cannot; set "
            "attn_implementation to sdpa"
        )


def check_dropout(config: PreTrainedConfig) -> None:
    """Refuse to train with dropout of attention where the attention has none.

    Args:
        config: The network's configuration.

    Raises:
        InputError: It has none.
    """
    if config._attn_implementation == "flex_attention" and config.attention_probs_dropout_prob > 0:
        raise InputError(
            "flex_attention has no dropout, and attention_probs_dropout_prob is "
            f"{config.attention_probs_dropout_prob}; set attn_implementation to sdpa"
        )
