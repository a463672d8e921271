"""What PaddleNLP and XLM-R call the things that ERNIE-M has: heads, configuration fields and tensor names.

Each `from_*` function makes a `Checkpoint` of a folder: our configuration, our names, every tensor accounted for.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import XLMRobertaConfig

from . import heads
from .configuration import ErnieMConfig, check_fields
from .errors import InputError
from .modeling import ErnieMModel, ErnieMPreTrainedModel
from .paddle_pickle import read_pdparams
from .stored_tensors import StoredTensor, read_safetensors, read_torch, same_values

PREFIX = "ernie_m."
# The head's name on the command line, and the class it stands for.
HEADS: dict[str, type[ErnieMPreTrainedModel]] = {
    "base": ErnieMModel,
    "sequence-classification": heads.ErnieMForSequenceClassification,
    "token-classification": heads.ErnieMForTokenClassification,
    "question-answering": heads.ErnieMForQuestionAnswering,
    "multiple-choice": heads.ErnieMForMultipleChoice,
    "information-extraction": heads.ErnieMForInformationExtraction,
    "masked-lm": heads.ErnieMForMaskedLM,
}
_LARGEST_JSON = 2**26
_LABELLED = ("sequence-classification", "token-classification")
_PADDLE_HEADS = {HEADS[name].__name__: name for name in HEADS if name != "masked-lm"} | {
    "UIEM": "information-extraction"
}
_XLMR_HEADS = {
    "XLMRobertaModel": "base",
    "XLMRobertaForSequenceClassification": "sequence-classification",
    "XLMRobertaForTokenClassification": "token-classification",
    "XLMRobertaForQuestionAnswering": "question-answering",
    "XLMRobertaForMultipleChoice": "multiple-choice",
    "XLMRobertaForMaskedLM": "masked-lm",
}
_HEAD_KEYS = ("classifier.", "qa_outputs.", "linear_start.", "linear_end.", "lm_head.")
_BUFFERS = (PREFIX + "embeddings.position_ids", PREFIX + "embeddings.token_type_ids")
_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


# Our name with the prefix, to the source's key and the tensor.
_Named = dict[str, tuple[str, StoredTensor]]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint under ERNIE-M's names, still in its own file.

    Args:
        origin: "paddle" or "xlm-roberta".
        weights: The file, or one of the files, that the tensors are in.
        head: A key of `HEADS`.
        config: The configuration of that head.
        tensors: Exactly the tensors that the head's `save_pretrained` would write.
        dropped: Keys of the source that the head has no place for.
    """

    origin: str
    weights: Path
    head: str
    config: ErnieMConfig
    tensors: dict[str, StoredTensor]
    dropped: tuple[str, ...]


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        InputError: If it is another thing.
    """
    if path.stat().st_size > _LARGEST_JSON:
        raise InputError(f"{path}: {path.stat().st_size:,} bytes; settings have {_LARGEST_JSON:,} at most")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        raise InputError(f"{path}: not JSON ({error}); fetch or write the file again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not an object of settings; fetch it again")
    return content


def from_paddle(folder: Path, weights: Path, head: str | None) -> Checkpoint:
    """Read a PaddleNLP folder.

    Args:
        folder: Holds `config.json`, or `model_config.json` as written before PaddleNLP 2.5.
        weights: Its `.pdparams` file, or the `.safetensors` file that PaddleNLP 2.6 and newer write.
        head: A key of `HEADS`, or None to go by the configuration and the weights.

    Raises:
        InputError: If it is not ERNIE-M, does not tell its head, or its tensors are not exactly that head's.
    """
    path, stated, settings = _paddle_settings(folder)
    tensors = read_safetensors(weights) if weights.suffix == ".safetensors" else read_pdparams(weights)
    stored = _renamed(weights, tensors, _prefixed)
    head = _choose_head(path, weights, head, stated, _PADDLE_HEADS, _paddle_candidates(stored))
    named: _Named = {}
    for name, (key, tensor) in stored.items():
        name = re.sub(r"(\.layers\.\d+\.self_attn)\.([qkv]_proj)\.", r"\1.self_attn.\2.", name)
        if head == "question-answering":
            name = re.sub(r"^classifier\.", "qa_outputs.", name)
        # Paddle's Linear keeps (inputs, outputs), torch's (outputs, inputs).
        turned = len(tensor.shape) == 2 and "embeddings." not in name
        named[name] = (key, tensor.transposed() if turned else tensor)
    config = _build_config(path, weights, head, named, settings)
    return _account("paddle", weights, head, config, named)


def _prefixed(key: str) -> str:
    return key if key.startswith((PREFIX, *_HEAD_KEYS)) else PREFIX + key


def _renamed(weights: Path, tensors: Mapping[str, StoredTensor], rename: Callable[[str], str]) -> _Named:
    named: _Named = {}
    for key, tensor in tensors.items():
        name = rename(key)
        if name in named:
            raise InputError(f"{weights}: holds both {named[name][0]} and {key}; save one model's state_dict() alone")
        named[name] = (key, tensor)
    return named


def _paddle_settings(folder: Path) -> tuple[Path, str | None, dict[str, Any]]:
    path = next((folder / name for name in ("config.json", "model_config.json") if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder}: no config.json or model_config.json beside the weights; add the model's own")
    raw = read_json(path)
    # Before 2.5, the base model's settings stood inside the head's, first of its positional arguments.
    arguments = raw.get("init_args")
    inner = next((item for item in arguments if isinstance(item, dict)), {}) if isinstance(arguments, list) else {}
    settings = {**inner, **{key: value for key, value in raw.items() if key != "init_args"}}
    check_fields(settings, str(path))
    stated = _stated_class(path, settings, "ernie_m", _PADDLE_HEADS)
    if stated is None:
        stated = _known_class(path, "init_class", raw.get("init_class"), _PADDLE_HEADS)
    kept = {key: settings[key] for key in _PADDLE_FIELDS if settings.get(key) is not None}
    for old, new in (("dropout", "classifier_dropout"), ("num_classes", "num_labels")):
        if settings.get(old) is not None:
            kept.setdefault(new, settings[old])
    if "num_attention_heads" not in kept:
        raise InputError(f"{path}: no num_attention_heads, and the weights do not tell it; add it (base 12, large 16)")
    return path, stated, kept


# What Paddle's network reads. It ignores intermediate_size: its feed-forward layers are always 4 x hidden wide, and its
# LayerNorms have epsilon 1e-5.
_PADDLE_FIELDS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"),
    *("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    *("initializer_range", "pad_token_id", "id2label", "label2id", "num_labels", "problem_type"),
)


def _stated_class(path: Path, raw: Mapping[str, Any], model_type: str, known: Mapping[str, str]) -> str | None:
    seen = raw.get("model_type", model_type)
    if seen != model_type:
        raise InputError(f"{path}: model_type {seen!r}, not {model_type!r}; {_WHAT_IS_TAKEN}")
    classes = raw.get("architectures") or [None]
    return _known_class(path, "architectures", classes[0] if isinstance(classes, list) else classes, known)


def _known_class(path: Path, key: str, stated: object, known: Mapping[str, str]) -> str | None:
    if stated is not None and (not isinstance(stated, str) or stated not in known):
        raise InputError(f"{path}: {key} says {stated!r}; this command takes {_listed(known)}")
    return stated


_WHAT_IS_TAKEN = "this command takes ERNIE-M from PaddleNLP, and XLM-R (model_type 'xlm-roberta') from transformers"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _columns(stored: _Named, name: str) -> int:
    shape = stored[name][1].shape
    return shape[-1] if shape else 0


def _paddle_candidates(stored: _Named) -> list[str]:
    if "linear_start.weight" in stored:
        return ["information-extraction"]
    if "classifier.weight" not in stored:
        return ["base"]
    by_size = {1: ["multiple-choice"], 2: ["question-answering"]}
    return [*_LABELLED, *by_size.get(_columns(stored, "classifier.weight"), [])]


def _choose_head(
    path: Path, weights: Path, asked: str | None, stated: str | None, known: Mapping[str, str], candidates: list[str]
) -> str:
    if asked is not None and asked not in HEADS:
        raise InputError(f"head {asked!r} is unknown; choose among {_listed(HEADS)}")
    told = known[stated] if stated is not None else None
    if asked is not None and told not in (None, asked) and asked != "base":
        raise InputError(f"{path}: names {stated}, but the head asked for is {asked}; leave out one of the two")
    head = asked or told
    if head is None and len(candidates) > 1:
        raise InputError(
            f"{weights}: {_listed(candidates)} all have a `classifier` of this shape, and {path.name} does not say "
            f"which it is; say so with --head (in Python head=), one of {_listed(candidates)}"
        )
    head = head or candidates[0]
    if head != "base" and head not in candidates:
        raise InputError(f"{weights}: its tensors are those of {_listed(candidates)}, not of {head}; choose that head")
    return head


def _build_config(path: Path, weights: Path, head: str, named: _Named, settings: dict[str, Any]) -> ErnieMConfig:
    """Fill in what the weights tell, and hold what the file says against them."""
    layers = {found[1] for name in named if (found := re.search(r"\.layers\.(\d+)\.", name))}
    if astray := layers - {str(number) for number in range(len(layers))}:
        raise InputError(
            f"{weights}: a tensor of layer {min(astray)[:20]}, but it has {len(layers)} layers; fetch it again"
        )
    words = _matrix(weights, named, PREFIX + "embeddings.word_embeddings.weight")
    positions = _matrix(weights, named, PREFIX + "embeddings.position_embeddings.weight")
    told = {
        "vocab_size": words.shape[0],
        "hidden_size": words.shape[1],
        "max_position_embeddings": positions.shape[0],
        "num_hidden_layers": len(layers),
    }
    for field, value in told.items():
        if settings.setdefault(field, value) != value:
            raise InputError(
                f"{path}: {field} is {settings[field]!r}, the tensors of {weights.name} make it {value}; correct "
                "it, or put the weights beside that belong to this file"
            )
    settings.setdefault("intermediate_size", 4 * words.shape[1])
    labels: dict[str, Any] = {
        key: settings.pop(key) for key in ("id2label", "label2id", "num_labels") if key in settings
    }
    if head in _LABELLED:
        settings |= _label_settings(path, weights, _matrix(weights, named, "classifier.weight").shape[0], labels)
    settings["dtype"] = _FLOATS.get(words.dtype)
    _check_types(path, settings)
    try:
        config = ErnieMConfig(**settings)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    config.architectures = [HEADS[head].__name__]
    return config


def _check_types(path: Path, settings: Mapping[str, Any]) -> None:
    defaults = ErnieMConfig()
    for field, value in settings.items():
        # A rate of 0 is often written as an integer.
        usual: Any = type(getattr(defaults, field, None))
        if usual in (int, float, str, bool) and not isinstance(value, (int, float) if usual is float else usual):
            raise InputError(f"{path}: {field} is {value!r}, {usual.__name__} expected; correct it")


def _matrix(weights: Path, named: _Named, name: str) -> StoredTensor:
    if name not in named:
        raise InputError(
            f"{weights}: no tensor {name.removeprefix(PREFIX)}; the file holds no such model or a part of it"
        )
    key, tensor = named[name]
    if len(tensor.shape) != 2:
        raise InputError(f"{weights}, {key}: shape {tensor.shape}, where a matrix belongs; fetch the file again")
    return tensor


def _label_settings(path: Path, weights: Path, count: int, labels: dict[str, Any]) -> dict[str, Any]:
    names = labels.get("id2label")
    stated = len(names) if isinstance(names, dict) else labels.get("num_labels", count)
    if stated != count:
        raise InputError(
            f"{path}: {stated} labels, but the classifier in {weights.name} has {count}; correct "
            f"{'id2label' if names else 'num_labels'}, or take it out to number the labels"
        )
    if not isinstance(names, dict):
        return {"num_labels": count}
    try:
        id2label = {int(number): str(name) for number, name in names.items()}
    except ValueError as error:
        raise InputError(
            f"{path}: id2label has the key {error.args[0].split()[-1]}, not a number; correct it"
        ) from error
    if sorted(id2label) != list(range(count)):
        raise InputError(f"{path}: id2label has the keys {sorted(id2label)}, not 0 to {count - 1}; correct them")
    return {"id2label": id2label, "label2id": {name: number for number, name in id2label.items()}}


def _account(origin: str, weights: Path, head: str, config: ErnieMConfig, named: _Named) -> Checkpoint:
    """Hold the tensors against the head's: the same names, the same shapes, the rest dropped by name or refused."""
    try:
        with torch.device("meta"):
            model = HEADS[head](config)
    except Exception as error:  # transformers raises anything for fields that it cannot use
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{weights}: no network can be built by the configuration beside it ({reason})") from error
    tied = model.all_tied_weights_keys
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items() if name not in tied}
    full = {_prefixed(name): name for name in wanted}
    droppable = _droppable(head, named, tied)
    missing = sorted(name.removeprefix(PREFIX) for name in full if name not in named)
    extra = sorted(key for name, (key, _) in named.items() if name not in full and not droppable(name))
    if missing or extra:
        parts = [f"{what} {_some(names)}" for what, names in (("lacks", missing), ("also holds", extra)) if names]
        raise InputError(
            f"{weights}: for the head {head} with {config.num_hidden_layers} layers it {' and '.join(parts)}; "
            "check that file and configuration belong together, or choose another head"
        )
    for name, ours in full.items():
        key, tensor = named[name]
        if tensor.shape != wanted[ours]:
            raise InputError(
                f"{weights}, {key}: shape {tensor.shape} (outputs first), {wanted[ours]} expected for hidden_size "
                f"{config.hidden_size} and intermediate_size {config.intermediate_size}; check the configuration"
            )
        if tensor.dtype not in _FLOATS:
            raise InputError(f"{weights}, {key}: numbers of type {tensor.dtype}; {_listed(_FLOATS)} are taken")
    dropped = tuple(sorted(key for name, (key, _) in named.items() if name not in full))
    return Checkpoint(origin, weights, head, config, {full[name]: named[name][1] for name in full}, dropped)


def _some(names: list[str]) -> str:
    return _listed(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _droppable(head: str, named: _Named, tied: Mapping[str, str]) -> Callable[[str], bool]:
    """Tell which tensors a head may leave behind."""

    def droppable(name: str) -> bool:
        if name in tied and tied[name] in named:
            return same_values(named[name][1], named[tied[name]][1])
        if head == "base":
            return name in _BUFFERS or name.startswith(_HEAD_KEYS)
        return name in _BUFFERS or name.startswith((PREFIX + "pooler.", _UNUSED_POOLER))

    return droppable


# Where XLM-R's classifier has its own dense layer, the pooler beside it is not part of the computation.
_UNUSED_POOLER = "unused_pooler."


def from_xlmr(folder: Path, head: str | None) -> Checkpoint:
    """Read an XLM-R folder of transformers.

    XLM-R is ERNIE-M with token types, of which it uses one: that row, added to every position row, gives the same sums.
    Its classification head (dense, tanh, projection of the first vector) is ERNIE-M's pooler and classifier.

    Args:
        folder: Holds `config.json` and the weights, as safetensors or as `pytorch_model.bin`, in one file or several.
        head: A key of `HEADS`, or None to go by the configuration and the weights.

    Raises:
        InputError: If it is not XLM-R, does not tell its head, or its tensors are not exactly that head's.
    """
    path = folder / "config.json"
    raw = read_json(path)
    check_fields(raw, str(path))
    stated = _stated_class(path, raw, "xlm-roberta", _XLMR_HEADS)
    weights, tensors = _transformers_tensors(folder)
    stored = _renamed(weights, tensors, _xlmr_name)
    head = _choose_head(path, weights, head, stated, _XLMR_HEADS, _xlmr_candidates(stored))
    settings = _xlmr_settings(path, raw)
    rows = PREFIX + "embeddings.position_embeddings.weight"
    types = stored.pop(PREFIX + "embeddings.token_type_embeddings.weight", None)
    if types is None or len(types[1].shape) != 2 or not types[1].shape[0]:
        raise InputError(f"{weights}: no matrix token_type_embeddings.weight, which XLM-R has; fetch the file again")
    positions = _matrix(weights, stored, rows)
    if types[1].shape[1] != positions.shape[1]:
        raise InputError(f"{weights}, {types[0]}: width {types[1].shape[1]}, not {positions.shape[1]}; fetch it again")
    stored[rows] = (stored[rows][0], positions.plus_row(types[1]))
    if head == "sequence-classification":
        stored = _move_classifier(stored)
    config = _build_config(path, weights, head, stored, settings)
    return _account("xlm-roberta", weights, head, config, stored)


def _xlmr_settings(path: Path, raw: dict[str, Any]) -> dict[str, Any]:
    try:
        theirs = XLMRobertaConfig.from_dict(raw)
    except Exception as error:  # transformers raises anything for fields that it did not write
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    if theirs.pad_token_id != 1:
        raise InputError(
            f"{path}: pad_token_id {theirs.pad_token_id}; positions are counted from 2 only where it is 1, as in every "
            "published XLM-R, so this model cannot be ERNIE-M"
        )
    if getattr(theirs, "is_decoder", False) or raw.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(
            f"{path}: a decoder or relative positions; ERNIE-M has neither, so this model cannot be ERNIE-M"
        )
    fields = (
        *("num_attention_heads", "intermediate_size", "hidden_act", "hidden_dropout_prob", "problem_type"),
        *("attention_probs_dropout_prob", "classifier_dropout", "initializer_range", "pad_token_id"),
        *("layer_norm_eps", "tie_word_embeddings"),
    )
    settings: dict[str, Any] = {field: getattr(theirs, field) for field in fields}
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings", "id2label", "num_labels")
    return settings | {key: raw[key] for key in sizes if raw.get(key) is not None}


def _transformers_tensors(folder: Path) -> tuple[Path, dict[str, StoredTensor]]:
    for name, read in (("model.safetensors", read_safetensors), ("pytorch_model.bin", read_torch)):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return folder / name, read(folder / name)
        if index.is_file():
            return index, _sharded(index, read)
    seen = _some(sorted(item.name for item in folder.iterdir())) or "nothing"
    raise InputError(
        f"{folder}: no model.safetensors or pytorch_model.bin, in one file or with an index; it has {seen}"
    )


def _sharded(index: Path, read: Callable[[Path], dict[str, StoredTensor]]) -> dict[str, StoredTensor]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InputError(f"{index}: no weight_map; fetch the file again")
    tensors: dict[str, StoredTensor] = {}
    for name in sorted(set(map(str, places.values()))):
        shard = index.parent / name
        # An index comes with the download: it may not point out of its folder.
        if Path(name).name != name or not shard.is_file():
            raise InputError(f"{index}: names the file {name}, which is not beside it; fetch all parts")
        tensors |= read(shard)
    astray = sorted(set(places) ^ set(tensors))
    if astray:
        raise InputError(f"{index}: {_some(astray)}: in the index or in the files, not in both; fetch all parts again")
    return tensors


_XLMR_NAMES = (
    (r"^embeddings\.LayerNorm\.", "embeddings.layer_norm."),
    (r"^encoder\.layer\.", "encoder.layers."),
    (r"\.attention\.self\.(q|k|v)(?:uery|ey|alue)\.", r".self_attn.self_attn.\1_proj."),
    (r"\.attention\.output\.dense\.", ".self_attn.out_proj."),
    (r"\.attention\.output\.LayerNorm\.", ".norm1."),
    (r"\.intermediate\.dense\.", ".linear1."),
    (r"(\.layers\.\d+)\.output\.dense\.", r"\1.linear2."),
    (r"(\.layers\.\d+)\.output\.LayerNorm\.", r"\1.norm2."),
)


def _xlmr_name(key: str) -> str:
    if key.startswith(_HEAD_KEYS):
        return key
    name = key.removeprefix("roberta.")
    for theirs, ours in _XLMR_NAMES:
        name = re.sub(theirs, ours, name)
    return PREFIX + name


def _xlmr_candidates(stored: _Named) -> list[str]:
    if "classifier.out_proj.weight" in stored:
        return ["sequence-classification"]
    if "qa_outputs.weight" in stored:
        return ["question-answering"]
    if "lm_head.dense.weight" in stored:
        return ["masked-lm"]
    if "classifier.weight" in stored:
        single = stored["classifier.weight"][1].shape[:1] == (1,)
        return ["token-classification", *(["multiple-choice"] if single else [])]
    return ["base"]


def _move_classifier(stored: _Named) -> _Named:
    moves = (
        (PREFIX + "pooler.", _UNUSED_POOLER),
        ("classifier.dense.", PREFIX + "pooler.dense."),
        ("classifier.out_proj.", "classifier."),
    )
    moved = {}
    for name, value in stored.items():
        start, end = next(((old, new) for old, new in moves if name.startswith(old)), ("", ""))
        moved[end + name.removeprefix(start)] = value
    return moved
