"""The layer with one row per label: made anew or taken over, and its labels matched with the data's by name."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ernie_m.errors import InputError

from . import networks

_OTHER_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForMultipleChoice")


def build_classifier(
    auto_class: Any,
    kind: str,
    head_path: Callable[[PreTrainedConfig], str],
    source: networks.NetworkSource,
    restored: PreTrainedConfig | None,
    label_names: Sequence[str],
    new_head: bool,
) -> tuple[PreTrainedModel, list[str]]:
    """Build a classifier, keeping the labels that it was fine-tuned for unless `new_head` is set.

    Args:
        auto_class: One of transformers' AutoModel classes.
        kind: How the names of its classes end, "ForSequenceClassification".
        head_path: Gives the dotted path of the layer with one row per label.
        source: Where the network comes from.
        restored: Configuration from the checkpoint whose weights are loaded next; None to load the source's.
        label_names: The labels of a new classifier.
        new_head: Whether to make the layer anew although the source has one.

    Returns:
        The network and the names of its parameters that are random.

    Raises:
        InputError: A new classifier is needed and `label_names` is empty, or the source's files contradict each other.
    """
    if restored is not None:
        return networks.new_network(auto_class, restored, source.attn_implementation), []
    if source.from_scratch is not None:
        scratch = networks.scratch_config(source.backbone, source.from_scratch, source.trust_remote_code)
        set_labels(scratch, _required(label_names))
        network = networks.new_network(auto_class, scratch, source.attn_implementation)
        return network, [name for name, _ in network.named_parameters()]
    config = networks.read_config(source.backbone, source.trust_remote_code)
    stored, head = labels_of(config), head_path(config)
    architectures = config.architectures or []
    fine_tuned = [name for name in architectures if name.endswith(kind)]
    # A head of the same name may be another task's: its rows are labels of sentences here, of words there.
    is_foreign = not fine_tuned and any(name.endswith(_OTHER_HEADS) for name in architectures)
    if new_head or not fine_tuned:
        set_labels(config, _required(label_names))
    renewed = head if new_head or is_foreign else None
    network, absent = networks.load_network(auto_class, source, config, renewed)
    has_head = f"{head}.weight" not in absent
    if fine_tuned and not new_head and not has_head:
        raise InputError(
            f"config.json of {source.backbone!r} names {fine_tuned[0]}, but the weights have no classifier; set "
            "new_head to true to train one"
        )
    if has_head:
        set_labels(network.config, stored)
    return network, absent


def _required(label_names: Sequence[str]) -> Sequence[str]:
    if not label_names:
        raise InputError("a new classifier needs label_names; the command takes them from the data")
    return label_names


def adopt_labels(config: PreTrainedConfig, label_names: Sequence[str], source: str) -> tuple[list[str], list[int]]:
    """Match a classifier's labels with the data's, and spell them as the data do.

    Args:
        config: The classifier's configuration, changed in place.
        label_names: The data's labels; empty for the classifier's own.
        source: Where the classifier comes from, for the message.

    Returns:
        The labels, and the row of the classifier for each of them.

    Raises:
        InputError: The two are not the same names.
    """
    stored = labels_of(config)
    names = list(label_names) or stored
    rows = match_labels(stored, names, source)
    spelled = [""] * len(stored)
    for name, row in zip(names, rows, strict=True):
        spelled[row] = name
    set_labels(config, spelled)
    return names, rows


def in_data_order(logits: Tensor, rows: Sequence[int]) -> Tensor:
    """Return logits in the order of the data's labels. (..., labels).

    Args:
        logits: In the order of the classifier's rows. (..., labels)
        rows: The row of each label.
    """
    if list(rows) == sorted(rows):
        return logits
    # Not by an index tensor, which every step would have to copy to the device.
    return torch.stack([logits[..., row] for row in rows], dim=-1)


def labels_of(config: PreTrainedConfig) -> list[str]:
    """Return a configuration's label names in the order of the classifier's rows."""
    names = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    return [names[index] for index in range(len(names))]


def match_labels(theirs: Sequence[str], ours: Sequence[str], source: str) -> list[int]:
    """Find for each of our labels the row of a fine-tuned classifier, by name and whatever the case.

    Args:
        theirs: Label names in the order of the classifier's rows.
        ours: Label names of the data.
        source: Where the classifier comes from, for the message.

    Returns:
        Row of the classifier for each of `ours`.

    Raises:
        InputError: If the two are not the same names.
    """
    rows = {name.casefold(): row for row, name in enumerate(theirs)}
    wanted = [name.casefold() for name in ours]
    if len(rows) != len(theirs) or sorted(rows) != sorted(wanted):
        raise InputError(
            f"the labels of {source!r} are {list(theirs)}, those of the data {list(ours)}; they must be the same names "
            "in any order. Where the data have some of them alone, name all with data.label_names; where the names are "
            "spelled otherwise, correct id2label in its config.json; to train a new classifier set new_head to true"
        )
    return [rows[name] for name in wanted]


def set_labels(config: PreTrainedConfig, names: Sequence[str]) -> None:
    """Write label names into a configuration, in the order of the classifier's rows.

    Args:
        config: Changed in place.
        names: Label names.
    """
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
