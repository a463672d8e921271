"""A classifier's labels: read from a configuration, written into it, and matched with the data's by name."""

from collections.abc import Sequence

from transformers import PreTrainedConfig

from ernie_m.errors import InputError
from ernie_m.names import check_label


def labels_of(config: PreTrainedConfig) -> list[str]:
    """Return a configuration's label names in the order of the classifier's rows.

    Raises:
        InputError: They are not numbered from 0 without a gap, or one is no label.
    """
    names = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    if set(names) != set(range(len(names))):
        raise InputError(f"id2label in a config.json has the numbers {sorted(names)[:10]}; they count rows from 0")
    for name in names.values():
        check_label(name, lambda: "id2label in a config.json")
    return [names[index] for index in range(len(names))]


def match_labels(theirs: Sequence[str], ours: Sequence[str], source: str) -> list[int]:
    """Find for each of our labels the row of a fine-tuned classifier, by name, and by the only name of another case.

    Args:
        theirs: Label names in the order of the classifier's rows.
        ours: Label names of the data.
        source: Where the classifier comes from, for the message.

    Returns:
        Row of the classifier for each of `ours`.

    Raises:
        InputError: If the two are not the same names.
    """
    rows = [_row_of(name, theirs) for name in ours]
    if sorted(rows) != list(range(len(theirs))):
        raise InputError(
            f"the labels of {source!r} are {list(theirs)}, those of the data {list(ours)}; they must be the same names "
            "in any order. Where the data have some of them alone, name all with data.label_names; where the names are "
            "spelled otherwise, correct id2label in its config.json; to train a new classifier set new_head to true"
        )
    return rows


def _row_of(name: str, names: Sequence[str]) -> int:
    """The name itself, else the only one of another case; -1 where there is neither."""
    if name in names:
        return names.index(name)
    alike = [row for row, other in enumerate(names) if other.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else -1


def set_labels(config: PreTrainedConfig, names: Sequence[str]) -> None:
    """Write label names into a configuration, in the order of the classifier's rows.

    Args:
        config: Changed in place.
        names: Label names.

    Raises:
        InputError: One is no label.
    """
    for name in names:
        check_label(name, lambda: "label_names")
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
