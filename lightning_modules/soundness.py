"""Whether a configuration, which may be anybody's, describes a network that can be built and run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_module_registration_hook
from transformers import MODEL_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel

from ernie_m.errors import InputError
from ernie_m.stored_tensors import check_archive

# Numbers of a network that is no burden, whatever it belongs to.
_SMALL = 10_000_000
_MOST_MODULES = 20_000
# Attentions that run on every device.
_EVERYWHERE = (None, "eager", "sdpa")


@contextmanager
def few_modules() -> Iterator[None]:
    """Let no network be built of more parts than any encoder has, by whatever field a configuration asks for them.

    Raises:
        InputError: One is.
    """
    count = 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1
        if count > _MOST_MODULES:
            raise InputError(f"the configuration describes a network of more than {_MOST_MODULES:,} parts")

    handle = register_module_module_registration_hook(counted)
    try:
        yield
    finally:
        handle.remove()


def check_weights(config: PreTrainedConfig, folder: Path, place: str) -> None:
    """Refuse a configuration whose network would be far larger than the weights that are loaded into it.

    Args:
        config: The configuration.
        folder: A folder of transformers. Without weights there is nothing to see.
        place: Where the configuration stands, for the message.

    Raises:
        InputError: It would be, or the weights unpack to more than they are, or lie elsewhere.
    """
    files = _loaded_from(folder)
    for file in files:
        if file.suffix == ".bin":
            check_archive(file)
    if files:
        # Tensors have a byte at least for every number.
        check_extent(config, sum(file.stat().st_size for file in files), place)


def _loaded_from(folder: Path) -> list[Path]:
    """The files that transformers loads, of all that may lie there: the first of these, or what its index names."""
    if parts := sorted(path.name for path in folder.glob("shard-*.safetensors")):
        raise InputError(
            f"{folder} holds {parts[0]}, a part of a distributed checkpoint, which transformers would load first; make "
            "one model.safetensors of its parts, or remove it"
        )
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
        if (index := folder / f"{name}.index.json").is_file():
            places = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            if outside := [place for place in places if Path(place).name != place]:
                raise InputError(f"{index} names {outside[0]!r}, which is no file of the folder that it lies in")
            # Whatever else a file is called, transformers takes it for one of torch's.
            if others := [place for place in places if not place.endswith((".safetensors", ".bin"))]:
                raise InputError(f"{index} names {others[0]!r}; weights are called .safetensors or .bin")
            return [path for place in places if (path := folder / place).is_file()]
    return []


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


def is_here(attention: str | None) -> bool:
    """Tell whether an attention runs without code that transformers would fetch from the Hub for it.

    Args:
        attention: The name of an implementation; None for transformers' choice.
    """
    package = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}.get(str(attention))
    return attention in (*_EVERYWHERE, "auto", "flex_attention") or (
        package is not None and find_spec(package) is not None
    )


def attentions_in(config: PreTrainedConfig) -> Iterator[str | None]:
    """Yield the attentions that a configuration and its parts name, at any depth."""
    yield getattr(config, "_attn_implementation", None)
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            yield from attentions_in(value)


def without_attentions(fields: Any) -> Any:
    """Return the fields of a configuration without the attentions that they name, at any depth."""
    if not isinstance(fields, dict):
        return fields
    return {name: without_attentions(value) for name, value in fields.items() if "attn_implementation" not in name}


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
