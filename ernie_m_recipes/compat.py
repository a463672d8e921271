"""What this package uses of libraries that they keep for themselves, and may change.

A test of each (`tests/unit/test_compat.py`) says which library's change broke it.
"""

from argparse import Action, ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from huggingface_hub import constants
from jsonargparse import _typehints, set_parsing_settings
from jsonargparse._common import ImportDenied, parsing_settings
from jsonargparse._deprecated import JsonargparseDeprecationWarning
from jsonargparse._loaders_dumpers import get_yaml_default_loader
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

__all__ = [
    "JsonargparseDeprecationWarning",
    "StageCLI",
    "actions_of",
    "auto_classes",
    "class_path_of",
    "importable",
    "without_the_hub",
    "yaml_loader",
]


class StageCLI(LightningCLI):
    """Lightning's CLI for one stage, which it parses and builds and does not run.

    The private steps of Lightning's constructor that its subclasses change have public names here.

    Args:
        stage: `fit`, `validate`, `test` or `predict`.
        options: Lightning's own.
    """

    def __init__(self, stage: str, **options: Any) -> None:
        self.stage = stage
        super().__init__(**options)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the one stage: building the parsers of all four takes four times as long."""
        return {self.stage: LightningCLI.subcommands()[self.stage]}

    @property
    def stage_parser(self) -> LightningArgumentParser:
        """The parser of what stands after the stage."""
        return self._subcommand_parsers[self.stage]

    def check_settings(self) -> None:
        """Look at the settings right after they were parsed; Lightning takes those of `ckpt_path` from it here."""

    def seed(self) -> None:
        """Seed everything before anything is built."""
        super()._set_seed()

    def written(self) -> dict[str, Any]:
        """Return the settings as they are kept, in `config_dump` and with a checkpoint."""
        raise NotImplementedError

    def _parse_ckpt_path(self) -> None:
        self._dump_config()
        self.check_settings()

    def _dump_config(self) -> None:
        # Called again where the model is built.
        if not hasattr(self, "config_dump"):
            self.config_dump = self.written()

    def _set_seed(self) -> None:
        self.seed()

    def _run_subcommand(self, subcommand: str) -> None:
        """Do nothing: Lightning calls this at the end of the constructor."""


@contextmanager
def importable(allowed: Sequence[str], trusted: Sequence[str] = ()) -> Iterator[None]:
    """Let jsonargparse import nothing but some classes and those that lie in some modules, for a while.

    jsonargparse can set such a policy but not go back to the one before, which belongs to the whole process; and it
    would call functions and methods of what is allowed, with the arguments that a value states.

    Args:
        allowed: Dotted names. A name with a minus before it is an exception from them.
        trusted: Those of which functions and methods may be used too.

    Raises:
        ValueError: jsonargparse does not allow one to be allowed.
    """
    before = {name: parsing_settings[name] for name in ("import_path_verdicts", "import_paths_enforced")}
    # Any, since the module does not say that it has this function.
    parser_types: Any = _typehints
    imported = parser_types.import_object

    def classes_only(name: str, check_path: bool = True) -> Any:
        found = imported(name, check_path)
        is_trusted = any(name == one or name.startswith(f"{one}.") for one in trusted)
        if check_path and not isinstance(found, type) and not is_trusted:
            raise ImportDenied(f"Importing '{name}' is not allowed, since it is no class")
        return found

    parser_types.import_object = classes_only
    try:
        set_parsing_settings(
            import_path_denylist=["*", *(name[1:] for name in allowed if name[0] == "-")],
            import_path_allowlist=[name for name in allowed if name[0] != "-"],
        )
        yield
    finally:
        parser_types.import_object = imported
        parsing_settings.update(before)


@contextmanager
def without_the_hub() -> Iterator[None]:
    """Let huggingface_hub, and transformers with it, use what is here and ask nothing, for a while.

    The environment variable is read once, when it is imported.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def yaml_loader() -> Any:
    """Return the class by which jsonargparse reads YAML, in files and on the command line."""
    return get_yaml_default_loader()  # type: ignore[no-untyped-call]


def actions_of(parser: ArgumentParser) -> list[Action]:
    """Return the arguments of a parser."""
    return parser._actions


def class_path_of(checkpoint: Mapping[str, Any]) -> str | None:
    """Return the path of the class that Lightning's CLI built for a checkpoint; None where it did not.

    Args:
        checkpoint: The content of its file.
    """
    path = checkpoint.get("hyper_parameters", {}).get("_class_path")
    return path if isinstance(path, str) else None


@contextmanager
def auto_classes(registered: Sequence[tuple[Any, str]]) -> Iterator[None]:
    """Register classes for transformers' Auto classes for a while, so that saving an instance copies its code along.

    Args:
        registered: Each class with the name of the Auto class that is to load it. transformers can register but not
            forget.
    """
    before = [(cls, cls.__dict__.get("_auto_class", None)) for cls, _ in registered]
    try:
        for cls, auto_class in registered:
            cls.register_for_auto_class(auto_class)
        yield
    finally:
        for cls, auto_class in before:
            cls._auto_class = auto_class
