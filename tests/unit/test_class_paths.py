"""Classes by their dotted path: what is there is imported, what is not is the user's mistake."""

import pytest

import datamodules
from ernie_m.errors import InputError
from ernie_m_recipes.class_paths import class_at, instance_of
from ernie_m_recipes.parsing import arguments_of


class Base:
    def __init__(self, path: str, seed: int = 1) -> None: ...


class Derived(Base):
    def __init__(self, own: int = 0, **kwargs: object) -> None: ...


class Closed(Derived):
    def __init__(self, alone: int = 0) -> None: ...


def test_a_class_is_found_and_built() -> None:
    assert class_at("datamodules.XNLI") is datamodules.XNLI
    assert instance_of({"class_path": "collections.OrderedDict", "init_args": {"a": 1}}) == {"a": 1}
    assert instance_of({"class_path": "collections.OrderedDict"}) == {}


@pytest.mark.parametrize("path", ["datamodules.XNIL", "nowhere.Class", "alone", "", ".relative"])
def test_what_is_not_there_is_named(path: str) -> None:
    with pytest.raises(InputError, match=f"class_path {path}: there is no such class"):
        class_at(path)


def test_arguments_of_a_base_that_are_handed_on_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, expected in ((Derived, ["own", "path", "seed"]), (Closed, ["alone"])):
        monkeypatch.setattr("ernie_m_recipes.parsing.class_at", lambda _, found=name: found)
        assert list(arguments_of("a.Class")) == expected


def test_no_arguments_are_known_of_a_class_that_is_not_there() -> None:
    assert list(arguments_of("nowhere.Class")) == list(arguments_of("os.getpid")) == []


def test_an_argument_that_a_class_refuses_is_named() -> None:
    with pytest.raises(InputError, match=r"datamodules\.XNLI: .*second_column"):
        instance_of({"class_path": "datamodules.XNLI", "init_args": {"tokenizer": "x", "second_column": "y"}})
