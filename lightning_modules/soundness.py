"""Whether a configuration, which may be anybody's, describes a network that can be built and run."""

from typing import Any

import torch
from transformers import MODEL_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel

from ernie_m.errors import InputError

# Numbers of a network that is no burden, whatever it belongs to.
_SMALL = 10_000_000
# Attentions that run on every device.
_EVERYWHERE = (None, "eager", "sdpa")


def check_extent(config: PreTrainedConfig, numbers: int, place: str) -> None:
    """Refuse a configuration whose network would be far larger than the weights that lie with it.

    Args:
        config: The configuration.
        numbers: How many numbers the weights can hold at most.
        place: Where the configuration stands, for the message.

    Raises:
        InputError: It would be.
    """
    if type(config) not in MODEL_MAPPING:
        return
    auto_class: Any = AutoModel
    with torch.device("meta"):
        network = auto_class.from_config(config, trust_remote_code=False)
    count = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    if count > 2 * numbers + _SMALL:
        raise InputError(
            f"{place} describes a network of {count:,} numbers, but the weights with it hold {numbers:,} at most; they "
            "do not belong together"
        )


def try_out(network: PreTrainedModel) -> None:
    """Encode two tokens: transformers takes fields of any kind and fails by them when they are first used.

    Args:
        network: A network that was just built.
    """
    if network.device.type == "meta" or getattr(network.config, "_attn_implementation", None) not in _EVERYWHERE:
        return
    encoder, was_training = network.base_model, network.training
    ids = torch.zeros((1, 2), dtype=torch.int64, device=network.device)
    network.train(False)
    with torch.no_grad():
        encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
    network.train(was_training)
