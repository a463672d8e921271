"""Where a task's network comes from: a published or local checkpoint, random weights, or another run's weights."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel

from ernie_m import ErnieMConfig, load_tokenizer, resolve
from ernie_m.configuration import POSITION_OFFSET, check_family, check_fields
from ernie_m.errors import InputError
from ernie_m.files import check_links
from ernie_m.published import check_config, refusing_code

from .checkpoint_file import CONFIG_KEY, read_checkpoint
from .soundness import attentions_in, check_extent, check_weights, few_modules, is_here, try_out, without_attentions

Batch = dict[str, Tensor]
"""A batch of any task, by the names that its class describes."""

NETWORK_PREFIX = "network."
"""What the network's parameters are prefixed with in a Lightning checkpoint."""


@dataclass(frozen=True)
class NetworkSource:
    """Where a task's network comes from, as `TaskModule`'s arguments say.

    Attributes:
        backbone: Short name, folder or Hub id.
        from_scratch: Fields of an ERNIE-M configuration, for random weights; None to load the backbone's.
        attn_implementation: Name of the attention, or "auto" for transformers' choice.
        trust_remote_code: Whether to run code that the folder carries.
    """

    backbone: str
    from_scratch: Mapping[str, Any] | None
    attn_implementation: str
    trust_remote_code: bool


@contextmanager
def reading(what: str, name: str) -> Iterator[None]:
    """Turn transformers' errors about a folder or Hub id into one that says what to do, and let it ask nothing.

    Args:
        what: What is read of it.
        name: The folder or Hub id.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with refusing_code(), few_modules():
            yield
    except (InputError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # transformers and torch raise anything for files that they did not write
        raise InputError(
            f"cannot read the {what} of {name!r}: {str(error).strip()}\nGive the path of an existing folder, or the id "
            "of a repository that the Hugging Face Hub can be reached for; a downloaded folder needs no network"
        ) from error


def read_config(backbone: str, trust_remote_code: bool) -> PreTrainedConfig:
    """Read the configuration of a backbone.

    Args:
        backbone: Short name, folder or Hub id.
        trust_remote_code: Whether to run code that the folder carries.

    Raises:
        InputError: If it cannot be read.
    """
    folder = Path(resolve(backbone))
    with reading("configuration", backbone):
        check_config(folder, backbone, trust_remote_code)
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        # What was made of the file, too: transformers fills in what it lacks, the family among it.
        check_fields(config.to_dict(), f"config.json of {backbone!r}")
        if not trust_remote_code:
            check_family(config.model_type, f"config.json of {backbone!r}")
    named = config.architectures or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise InputError(f"config.json of {backbone!r} has the architectures {named!r}; they are a list of names")
    attentions = attentions_in(config)
    if not trust_remote_code and (fetched := [name for name in attentions if not is_here(name)]):
        raise InputError(
            f"config.json of {backbone!r} names the attention {fetched[0]!r}, which is code on the Hub. Where you "
            "trust it, set trust_remote_code to true; otherwise take it out of the file"
        )
    if not trust_remote_code:
        with reading("configuration", backbone):
            check_weights(config, folder, f"config.json of {backbone!r}")
    return _for_tasks(config)


def _for_tasks(config: PreTrainedConfig) -> PreTrainedConfig:
    """Return a configuration whose network gives what tasks read, whatever else its fields ask for."""
    config.return_dict, config.output_hidden_states, config.output_attentions = True, False, False
    return config


def scratch_config(backbone: str, fields: Mapping[str, Any], trust_remote_code: bool) -> ErnieMConfig:
    """Return the configuration of an ERNIE-M with random weights for a tokenizer.

    Args:
        backbone: Short name, folder or Hub id of which the tokenizer alone is read.
        fields: Fields of `ErnieMConfig`; `vocab_size` follows from the tokenizer.
        trust_remote_code: Whether to run code that the folder carries.

    Raises:
        InputError: If the tokenizer cannot be read or a field is unknown.
    """
    known = vars(ErnieMConfig())
    for key in fields:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(f"from_scratch has the unknown field {key!r}{hint}")
    size = len(load_tokenizer(backbone, trust_remote_code))
    if fields.get("vocab_size", size) < size:
        raise InputError(
            f"from_scratch.vocab_size is {fields['vocab_size']}, but the tokenizer of {backbone!r} has {size} entries; "
            "leave the field out"
        )
    with reading("from_scratch fields", backbone):
        return ErnieMConfig(**{"vocab_size": size, **fields})


def build(
    auto_class: Any, source: NetworkSource, restored: PreTrainedConfig | None
) -> tuple[PreTrainedModel, list[str]]:
    """Build the network of a task that has no labels.

    Args:
        auto_class: One of transformers' AutoModel classes.
        source: Where the network comes from.
        restored: Configuration from the checkpoint whose weights are loaded next; None to load the source's.

    Returns:
        The network and the names of its parameters that are random.
    """
    if restored is not None:
        return new_network(auto_class, restored, source.attn_implementation), []
    if source.from_scratch is not None:
        scratch = scratch_config(source.backbone, source.from_scratch, source.trust_remote_code)
        network = new_network(auto_class, scratch, source.attn_implementation)
        return network, [name for name, _ in network.named_parameters()]
    return load_network(auto_class, source, read_config(source.backbone, source.trust_remote_code))


def load_network(
    auto_class: Any, source: NetworkSource, config: PreTrainedConfig, renewed: str | None = None
) -> tuple[PreTrainedModel, list[str]]:
    """Load a backbone's weights, in float32, into the network of a task.

    Args:
        auto_class: One of transformers' AutoModel classes.
        source: Where the network comes from.
        config: The configuration, its labels set.
        renewed: Dotted path of a linear layer that is made anew even where the backbone has it.

    Returns:
        The network, and the names of the parameters that the backbone lacks: those are random.

    Raises:
        InputError: If the weights cannot be read, do not fit, or lack a part of the encoder.
    """
    backbone = source.backbone
    with reading("weights", backbone):
        network, info = auto_class.from_pretrained(
            resolve(backbone),
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=source.trust_remote_code,
            ignore_mismatched_sizes=renewed is not None,
            **_attention(source.attn_implementation),
        )
    with reading("configuration", backbone):
        try_out(network)
    absent = sorted(info["missing_keys"])
    if renewed is not None:
        absent = sorted({*absent, *_renew(network, renewed, info["mismatched_keys"], backbone)})
    prefix = f"{network.base_model_prefix}."
    bare = not hasattr(network, network.base_model_prefix)
    encoder = [name for name in absent if (bare or name.startswith(prefix)) and "pooler" not in name]
    if encoder:
        raise InputError(
            f"the weights of {backbone!r} lack {len(encoder)} tensors of the encoder, the first {encoder[:3]}; is it a "
            f"checkpoint of type {config.model_type!r}?"
        )
    return network, absent


def _renew(network: PreTrainedModel, path: str, mismatched: Any, backbone: str) -> list[str]:
    others = [entry for entry in mismatched if not str(entry[0]).startswith(path)]
    if others:
        raise InputError(f"tensors of {backbone!r} have another shape than its config.json says: {others[:3]}")
    layer = network.get_submodule(path)
    std = float(getattr(network.config, "initializer_range", getattr(network.config, "init_std", 0.02)))
    with torch.no_grad():
        layer.get_parameter("weight").normal_(0.0, std)
        layer.get_parameter("bias").zero_()
    return [f"{path}.weight", f"{path}.bias"]


def new_network(auto_class: Any, config: PreTrainedConfig, attn_implementation: str) -> PreTrainedModel:
    """Return a network with random weights.

    Args:
        auto_class: One of transformers' AutoModel classes.
        config: The configuration, its labels set.
        attn_implementation: Name of the attention, or "auto" for transformers' choice.
    """
    with reading("configuration, or attention", attn_implementation):
        network: PreTrainedModel = auto_class.from_config(
            config, dtype=torch.float32, trust_remote_code=False, **_attention(attn_implementation)
        )
        try_out(network)
    return network


def _attention(name: str) -> dict[str, str]:
    return {} if name == "auto" else {"attn_implementation": name}


def longest_input(config: PreTrainedConfig) -> int:
    """Return how many tokens an ERNIE-M or XLM-R takes: the first positions of its table are never used."""
    unused = POSITION_OFFSET if config.model_type == "ernie_m" else (config.pad_token_id or 0) + 1
    return int(config.max_position_embeddings) - unused


def network_inputs(network: PreTrainedModel, batch: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Return a network's arguments from a batch.

    Args:
        network: The network.
        batch: The batch; `token_type_ids` go along where the data module gives them and the network has them.
        prefix: "source_" or "target_" for pairs of sentences.
    """
    inputs = {key: batch[prefix + key] for key in ("input_ids", "attention_mask")}
    types = batch.get(f"{prefix}token_type_ids")
    if types is not None and getattr(network.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = types
    return inputs


def language_ids(config: PreTrainedConfig, languages: Sequence[str], backbone: str) -> Tensor | None:
    """Return the network's id of every language of the data, for a network that wants one (XLM). (languages,) int64.

    Args:
        config: The network's configuration.
        languages: The data's languages.
        backbone: Where the network comes from, for the message.

    Raises:
        InputError: The network knows one of the languages not.
    """
    if config.model_type != "xlm" or not config.use_lang_emb or config.n_langs < 2:
        return None
    known = config.lang2id
    if unknown := [language for language in languages if language not in known]:
        raise InputError(
            f"{backbone!r} has embeddings for the languages {', '.join(sorted(known))}, not for "
            f"{', '.join(unknown)}; leave these out of the data or use another backbone"
        )
    return torch.tensor([known[language] for language in languages], dtype=torch.int64)


def config_to_json(config: PreTrainedConfig) -> str:
    """Return a configuration as JSON that `config_from_json` reads, without the place that it came from."""
    fields = json.loads(config.to_json_string(use_diff=False))
    return json.dumps({key: value for key, value in fields.items() if key != "_name_or_path"})


def config_from_json(text: str) -> PreTrainedConfig:
    """Return the configuration that `config_to_json` wrote."""
    with reading("configuration", "a checkpoint"):
        fields = without_attentions(json.loads(text))
        check_fields(fields, "the network's configuration in a checkpoint")
        check_family(fields.get("model_type"), "the network's configuration in a checkpoint")
        config: PreTrainedConfig = CONFIG_MAPPING[fields["model_type"]].from_dict(fields)
    return _for_tasks(config)


def checkpoint_config(path: str | Path) -> PreTrainedConfig | None:
    """Return the network's configuration from a Lightning checkpoint; None where another program wrote it.

    Args:
        path: A `.ckpt` file, or the folder of a sharded checkpoint.

    Raises:
        InputError: If the file cannot be read.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path / "meta.pt" if path.is_dir() else path)
    return _config_in(checkpoint, path)


def _config_in(checkpoint: Mapping[str, Any], path: Path) -> PreTrainedConfig | None:
    if (text := checkpoint.get(CONFIG_KEY)) is None:
        return None
    config = config_from_json(text)
    if path.is_file():
        numbers = sum(tensor.numel() for tensor in checkpoint.get("state_dict", {}).values())
        # A tensor may be one number over and over; in the file each takes a byte or more.
        with reading("configuration", str(path)):
            check_extent(config, min(numbers, path.stat().st_size), f"the network's configuration in {path}")
    return config


def read_weights(source: str | Path) -> tuple[dict[str, Tensor], PreTrainedConfig | None]:
    """Read weights alone, without optimiser or counters, and the configuration that lies with them.

    Args:
        source: A Lightning `.ckpt`, or a folder that `save_pretrained` wrote (safetensors).

    Raises:
        InputError: If the source cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        return _folder_weights(path)
    checkpoint = read_checkpoint(path)
    state = {
        name.removeprefix(NETWORK_PREFIX): tensor
        for name, tensor in checkpoint.get("state_dict", {}).items()
        if name.startswith(NETWORK_PREFIX)
    }
    if not state:
        raise InputError(f"{path} holds no weights named {NETWORK_PREFIX}*; give a checkpoint of this project")
    return state, _config_in(checkpoint, path)


def _folder_weights(folder: Path) -> tuple[dict[str, Tensor], PreTrainedConfig | None]:
    check_links(folder)
    if (folder / "meta.pt").exists():
        raise InputError(
            f"{folder} is a sharded checkpoint, whose index could run code. Where you trust it, make one file of it "
            f"with `python -m lightning.pytorch.utilities.consolidate_checkpoint {folder}` and give that"
        )
    if not (files := sorted(folder.glob("*.safetensors"))):
        raise InputError(f"{folder} holds no *.safetensors; give an exported folder or a .ckpt file")
    state = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                state.update({name: tensors.get_tensor(name) for name in tensors.keys()})  # noqa: SIM118
        except SafetensorError as error:
            raise InputError(f"{file} cannot be read: {error}; copy or download it again") from error
    return state, read_config(str(folder), trust_remote_code=False) if (folder / "config.json").exists() else None


def copy_weights(network: PreTrainedModel, state: Mapping[str, Tensor], source: str) -> list[str]:
    """Copy weights into a network: the encoder completely, and of the head what is there.

    Args:
        network: The network to fill.
        state: Parameter names of this network, or of its encoder alone, to tensors.
        source: Where the weights come from, for messages.

    Returns:
        The names of the head's parameters that the weights lack: those keep their values.

    Raises:
        InputError: If a tensor has another shape or the encoder is not complete.
    """
    prefix = f"{network.base_model_prefix}."
    own = network.state_dict()
    bare = not hasattr(network, network.base_model_prefix)
    given = dict(state)
    if bare:
        given = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    elif not any(name.startswith(prefix) for name in state):
        given = {prefix + name: tensor for name, tensor in state.items()}
    shapes = [
        f"{name} is {tuple(given[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own.keys() & given.keys()
        if given[name].shape != own[name].shape
    ]
    absent = sorted(own.keys() - given.keys())
    encoder = [name for name in absent if (bare or name.startswith(prefix)) and "pooler" not in name]
    if shapes or encoder:
        problems = sorted(shapes) + [f"{name} is missing" for name in encoder]
        raise InputError(
            f"the weights of {source!r} do not fit the network:\n  " + "\n  ".join(problems[:10]) + "\n"
            f"{len(problems)} such tensors; give weights of the same size of network and the same labels"
        )
    network.load_state_dict({name: given[name] for name in own.keys() & given.keys()}, strict=False)
    return absent


def submodule(network: nn.Module, path: str) -> nn.Module:
    """Return the module at a dotted path below the encoder of a network, or below the network itself."""
    base = getattr(network, getattr(network, "base_model_prefix", ""), network)
    return base.get_submodule(path)
