"""What a label in a file means: one rule for every format, data set and task.

A label is what its value spells, without blanks around it: a text itself, a number its digits, a truth `true` or
`false`, and a number that the file itself names (`ClassLabel` in Parquet, Arrow and on the Hub) that name. It means the
name that is spelled like it; without one, the only name that is so but for the case; without one, where no name is a
number, a whole number from 0 means the name in that place. Everything else is refused.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray

from ernie_m.errors import InputError
from ernie_m.names import check_label

from .reading import SourceRows

# Whole numbers of labels without names may lie this far apart; others are no labels.
_MOST_NUMBERED = 1000
# What a warning lists at most.
_MOST_LISTED = 10
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class LabelColumn:
    """The labels of the rows of a file or data set.

    Attributes:
        texts: What the different labels spell.
        values: Those labels as the file has them.
        indices: Of each row the place of its label in both.
        rows: The rows, to name their places.
        column: What the column is called.
    """

    texts: list[str]
    values: list[Any]
    indices: NDArray[np.int64]
    rows: SourceRows
    column: str

    def place(self, label: int) -> str:
        """Where the label of that number first stands."""
        return self.rows.where(int(np.flatnonzero(self.indices == label)[0]))

    def counts(self) -> Counter[str]:
        """How many rows have each label."""
        found: Counter[str] = Counter()
        for text, count in zip(self.texts, np.bincount(self.indices, minlength=len(self.texts)).tolist(), strict=True):
            found[text] += count
        return found

    def numbers(self, names: Sequence[str]) -> NDArray[np.int32]:
        """The labels as positions in `names`; what is taken for a name that is spelled otherwise is said.

        Raises:
            InputError: A label means none of them, named with its place.
        """
        numbers = np.asarray([position(text, names) for text in self.texts], dtype=np.int32)
        labels: NDArray[np.int32] = numbers[self.indices]
        unknown = np.flatnonzero(labels < 0)
        if len(unknown):
            row = int(unknown[0])
            by_number = "" if any(map(_WHOLE.fullmatch, names)) else f" and their numbers 0 to {len(names) - 1}"
            raise InputError(
                f"{self.rows.where(row)}: unknown label {self.values[self.indices[row]]!r} in column '{self.column}';"
                f" known are {', '.join(names)}{by_number}."
            )
        say_case(
            [(text, names[number]) for text, number in zip(self.texts, numbers, strict=True)], self.rows.parts[0][0]
        )
        return labels


def labels_in(rows: SourceRows, column: str, stated: Sequence[str] | None) -> LabelColumn:
    """Reads a column of labels.

    Args:
        rows: The rows of one file or data set.
        column: Its column.
        stated: The names that the file gives to numbers, in their order; None where it gives none.

    Raises:
        InputError: It holds lists, objects or bytes.
    """
    found = rows.table.column(column)
    if pa.types.is_nested(found.type) or pa.types.is_binary(found.type):
        raise InputError(f"{rows.parts[0][0]}: column '{column}' holds {found.type}, not labels.")
    if pa.types.is_dictionary(found.type):
        found = found.cast(found.type.value_type)
    distinct = pc.unique(found)
    values = distinct.to_pylist()
    indices = pc.index_in(found, value_set=distinct).to_numpy().astype(np.int64)
    labels = LabelColumn([_spelled(value, stated) for value in values], values, indices, rows, column)
    padded = [
        number for number, value in enumerate(values) if isinstance(value, str) and value.strip() not in ("", value)
    ]
    if padded:
        count = int(np.isin(labels.indices, padded).sum())
        rank_zero_warn(f"{labels.place(padded[0])}: {count} labels, this the first, have blanks around them: left out.")
    return labels


def _spelled(value: Any, stated: Sequence[str] | None) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and stated is not None:
        # -1 is what `datasets` writes where there is no label.
        return stated[value].strip() if 0 <= value < len(stated) else ""
    return "" if value is None else str(value)


def position(label: str, names: Sequence[str]) -> int:
    """The name that a label means, by the rule at the top.

    Args:
        label: What it spells.
        names: The names, in their order.

    Returns:
        The name's position; -1 where it means none.
    """
    if label in names:
        return names.index(label)
    alike = [number for number, name in enumerate(names) if name.casefold() == label.casefold()]
    if len(alike) == 1:
        return alike[0]
    is_place = _WHOLE.fullmatch(label) is not None and not any(map(_WHOLE.fullmatch, names))
    return int(label) if is_place and 0 <= int(label) < len(names) else -1


def names_of(columns: Mapping[str, Sequence[tuple[LabelColumn, Sequence[str] | None]]]) -> list[str]:
    """The names of labels that nobody gave: those that files state, in their order, else all that occur, sorted.

    Whole numbers are named by themselves, all from the smallest to the largest.

    Args:
        columns: Of each language the labels of its files, and the names that each file states.

    Raises:
        InputError: There is no label, an empty one, or they are no labels.
    """
    found = [labels for pairs in columns.values() for labels, _ in pairs]
    for labels in found:
        for number, text in enumerate(labels.texts):
            check_label(text, partial(labels.place, number))
        if "" in labels.texts:
            number = labels.texts.index("")
            value = labels.values[number]
            kind = "null" if value is None else "empty" if isinstance(value, str) else f"{value}, which has no name"
            raise InputError(
                f"{labels.place(number)}: the label in column '{labels.column}' is {kind}; give the row a label, or"
                " remove it."
            )
    stated = united(names for pairs in columns.values() for _, names in pairs if names is not None)
    names = stated or _occurring(found)
    if not stated:
        counts = {language: _counted(labels for labels, _ in pairs) for language, pairs in columns.items()}
        places = {text: labels.place(number) for labels in found for number, text in enumerate(labels.texts)}
        warn_of_odd(counts, places)
    return names


def united(lists: Iterable[Sequence[str]]) -> list[str]:
    """The names of all files, those that an earlier file has in another case left out.

    Args:
        lists: The names that each file states, in its order.
    """
    names: list[str] = []
    for own in lists:
        known = {name.casefold() for name in names}
        stripped = list(dict.fromkeys(name.strip() for name in own))
        names += [name for name in stripped if name not in names and name.casefold() not in known]
    return names


def _counted(columns: Iterable[LabelColumn]) -> Counter[str]:
    return sum((labels.counts() for labels in columns), Counter())


def _occurring(columns: Sequence[LabelColumn]) -> list[str]:
    texts = list(dict.fromkeys(text for labels in columns for text in labels.texts))
    place = f"{columns[0].rows.parts[0][0]}: column '{columns[0].column}' holds"
    if all(map(_WHOLE.fullmatch, texts)):
        numbers = sorted(map(int, texts))
        if numbers and numbers[-1] - numbers[0] >= _MOST_NUMBERED:
            raise InputError(
                f"{place} numbers from {numbers[0]} to {numbers[-1]}, which do not count labels. Name the labels with"
                " label_names."
            )
        return [str(number) for number in range(numbers[0], numbers[-1] + 1)] if numbers else []
    if all(map(_NUMBER.fullmatch, texts)):
        values = [value for labels in columns for value in labels.values]
        raise InputError(
            f"{place} {values[:3]}, but labels are names or numbers without a fraction. Where each is to be a label of"
            " its own, name them with label_names."
        )
    return sorted(texts)


def warn_of_odd(counts: Mapping[str, Counter[str]], places: Mapping[str, str]) -> None:
    """Says which labels are likely to be mistakes, each with its number and a place.

    Args:
        counts: Of each language how often each label stands in the training data.
        places: Where each first stands.
    """
    total = sum(counts.values(), Counter[str]())
    odd = [f"'{label}' once, {places[label]}" for label, count in total.items() if count == 1]
    for label, count in total.items():
        having = [language for language, found in counts.items() if label in found]
        if count > 1 and len(having) == 1 and len(counts) > 1:
            odd.append(f"'{label}' in {having[0]} alone, {count} times, first {places[label]}")
        if alike := [other for other in total if other != label and other.casefold() == label.casefold()]:
            odd.append(f"'{label}' and '{alike[0]}', which differ in case alone, {places[label]}")
    if odd:
        more = f"; and {len(odd) - _MOST_LISTED} more" if len(odd) > _MOST_LISTED else ""
        rank_zero_warn(
            f"Of {len(total)} labels these may be mistakes: {'; '.join(odd[:_MOST_LISTED])}{more}. Each is a label"
            " of its own; name the labels with label_names where they are not."
        )


def say_case(taken: Iterable[tuple[str, str]], file: str) -> None:
    """Says which labels mean a name that is spelled otherwise but for the case.

    Args:
        taken: Labels with the names that they were taken for.
        file: Where they stand.
    """
    others = {label: name for label, name in taken if label != name and label.casefold() == name.casefold()}
    if others:
        listed = ", ".join(f"'{label}' for '{name}'" for label, name in others.items())
        rank_zero_info(f"{file}: labels are taken for names of another case: {listed}.")


def counted(labels: Iterable[int], names: Sequence[str]) -> str:
    """How often each label stands in some rows, the most frequent first.

    Args:
        labels: Positions in `names`; negative ones are no labels.
        names: The names.
    """
    found = Counter(names[label] for label in labels if label >= 0)
    listed = [f"{name} {count:,}" for name, count in found.most_common(_MOST_LISTED)]
    if len(found) > _MOST_LISTED:
        listed.append(f"and {len(found) - _MOST_LISTED} others")
    return ", ".join(listed)
