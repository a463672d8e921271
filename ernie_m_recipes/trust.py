"""What a command believes: classes that values may name, and what is taken of a folder that may be a stranger's.

What a person types, and a recipe that is named with `--config`, is meant. A run folder, an export or a checkpoint is
data: its settings are read as values, of which a command takes what it needs. docs/security.md says what follows.
"""

import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import has_magic
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_warn

from ernie_m import PUBLISHED
from ernie_m.errors import InputError
from ernie_m.files import OF_LOGGERS, check_within

from .class_paths import class_at
from .compat import importable, yaml_loader
from .listed import CONTINUED, DENIED, PACKAGES, PLACES, TO_A_SERVER, continued, data_modules, tasks

TOKENIZER = "tokenizer"
"""The folder of a run that keeps its tokenizer."""

_OF_CLASSES = ("callbacks", "logger", "strategy", "plugins", "profiler")
_BY_NAME = {"strategy": ("auto", "ddp"), "profiler": ("simple", "advanced")}
FOR_RESULTS = (
    "precision", "limit_val_batches", "limit_test_batches", "limit_predict_batches", "deterministic", "benchmark",
    "inference_mode",
)  # fmt: skip
_GRANTS = ("trust_remote_code", "cache_dir")
_IMPORTABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
# Paths, addresses, variables that a logger would look up.
_LEADS_AWAY = re.compile(r"^[/\\~]|\.\.|^[A-Za-z]\w+:|[$\x00-\x1f]")
_LONGEST = 10_000
# The parser's time for a list grows with the square of its length.
_MOST = 5_000
_ALWAYS_TEXT = ("model.label_names[]", "data.label_names[]", "data.prefix")
_OF_TEXTS = ("data.questions.",)
_VARIABLE = re.compile(r"\$\{oc\.env:(\w+)(,[^${}]*)?\}")


def find_trusted(names: Sequence[str]) -> None:
    """Make classes of one's own in the current folder importable, where the command line trusts any.

    Args:
        names: Classes or modules, such as `my_tasks.Task`.

    Raises:
        InputError: One is no dotted name.
    """
    for name in names:
        if not _IMPORTABLE.fullmatch(name) and not name.isidentifier():
            raise InputError(f"--trust-classes {name}: not the name of a class or module, such as my_tasks.Task")
    if names and os.getcwd() not in sys.path:
        # Last, so that nothing there hides an installed package.
        sys.path.append(os.getcwd())


@contextmanager
def admitted(names: Sequence[str], of_folder: bool = False) -> Iterator[None]:
    """Let settings name the classes of `PACKAGES` and some others, and nothing else: what they may not is not imported.

    Args:
        names: What the command line trusts besides.
        of_folder: Whether all settings are a folder's, which may name what is listed alone.

    Raises:
        InputError: One of them cannot be trusted.
    """
    try:
        packages = [*tasks(), *data_modules(), *continued(), "ernie_m_recipes.settings"] if of_folder else PACKAGES
        with importable([*packages, *(f"-{name}" for name in DENIED if name not in names), *names], names):
            yield
    except ValueError as error:
        if isinstance(error, InputError) or "can't be allowed" not in str(error):
            raise
        raise InputError(f"--trust-classes: {error}") from error


def task_at(path: str, place: str, trusted: Sequence[str] = ()) -> Any:
    """Return the task that a checkpoint names: one of this project's, or one that the command line trusts.

    Args:
        path: Its module and name.
        place: The checkpoint, for the message.
        trusted: What the command line trusts.

    Raises:
        InputError: It is neither.
    """
    if path in tasks():
        return tasks()[path]
    if any(is_within(path, name) for name in trusted):
        return class_at(path)
    raise InputError(
        f"{place}: names the task {path}, which is none of this project's. Where you trust it, add --trust-classes "
        f"{path}"
    )


def lies_outside(named: str, folder: Path) -> bool:
    """Tell whether what a folder's settings name is a file or folder here, but none of its own.

    Args:
        named: A path or pattern, or the id of something on the Hub.
        folder: Where the settings lie.
    """
    path = Path(named).expanduser()
    if has_magic(named) and ".." in path.parts:
        # Which folders it leads to only the files say that it matches.
        return True
    # Of a pattern, which data modules read by rules of their own, the folder that it begins with.
    path = Path(*takewhile(lambda part: not has_magic(part), path.parts))
    return path.exists() and not path.resolve().is_relative_to(folder.resolve())


def tokenizer_of(run: Path, named: str, option: str) -> str:
    """Return the tokenizer that goes into an export of a run: the run's own, else what its settings name on the Hub.

    Args:
        run: The run folder.
        named: What its settings name.
        option: What names a tokenizer on the command line, for the message.

    Raises:
        InputError: The run has none of its own, and its settings name a folder elsewhere: it may be a private one of
            whoever was given the run.
    """
    if (run / TOKENIZER).is_dir():
        return str(run / TOKENIZER)
    if lies_outside(PUBLISHED.get(named, named), run):
        raise InputError(
            f"{run} has no tokenizer of its own, and its settings name {named}, whose files would go into the export. "
            f"Where they may, add {option} {named}"
        )
    return named


def is_within(path: str, name: str) -> bool:
    """Tell whether a dotted path is a name, or lies below it."""
    return path == name or path.startswith(f"{name}.")


class Values:
    """What is taken of the settings in a folder.

    Args:
        settings: The content of its config.yaml or recipe.yaml.
        place: That file.
        trusted: Names of classes and modules that the command line trusts.
        variables: Names of environment variables that it trusts.
    """

    def __init__(
        self, settings: Mapping[str, Any], place: Path, trusted: Sequence[str] = (), variables: Sequence[str] = ()
    ) -> None:
        self.settings = settings
        self.place = place
        self.trusted = trusted
        self.variables = variables

    def to_continue(self) -> dict[str, Any]:
        """Return what `fit` continues a run with: all settings but grants and places.

        Raises:
            InputError: They name classes that are not listed, or are not what `fit` writes.
        """
        trainer = {}
        for key, value in self._part("trainer").items():
            if key == "default_root_dir":
                continue
            value = self._without_servers(value) if key == "logger" else value
            entries = value if isinstance(value, list) else [value]
            for entry in entries:
                if key not in _OF_CLASSES:
                    self._check_plain(entry, f"trainer.{key}", strict=True)
                elif isinstance(entry, Mapping):
                    self._check_class(entry, f"trainer.{key}", tuple(CONTINUED), strict=True)
                    self._check_arguments(entry, f"trainer.{key}")
                elif not (entry is None or isinstance(entry, bool) or (key in _BY_NAME and entry in _BY_NAME[key])):
                    raise self._refusal(f"trainer.{key}", entry, "only a listed class")
            trainer[key] = value
        run = {key: value for key, value in self._part("run").items() if key != "directory"}
        self._check_plain(run, "run")
        return {**self._of_results(), "trainer": trainer, "run": run}

    def _without_servers(self, value: Any) -> Any:
        """Return the loggers of a folder but those that send to a server."""
        entries = value if isinstance(value, list) else [value]
        names = [str(entry.get("class_path")) if isinstance(entry, Mapping) else "" for entry in entries]
        left_out = [name for name in names if name.rpartition(".")[2] in TO_A_SERVER]
        if not left_out:
            return value
        rank_zero_warn(
            f"{self.place}: {left_out[0].rpartition('.')[2]} sends to a server, which a folder chooses for nobody: left"
            " out. To go on with it, add --config logger/wandb or logger/mlflow"
        )
        return [entry for entry, name in zip(entries, names, strict=True) if name not in left_out] or False

    def to_score(self) -> dict[str, Any]:
        """Return what scores depend on: task, network and data, and of the trainer the precision and its limits.

        Raises:
            InputError: As in `to_continue`.
        """
        trainer = {key: value for key, value in self._part("trainer").items() if key in FOR_RESULTS}
        self._check_plain(trainer, "trainer", strict=True)
        name = self._part("run").get("name")
        self._check_plain(name, "run.name")
        return {**self._of_results(), "trainer": trainer, **({} if name is None else {"run": {"name": name}})}

    def to_keep(self) -> dict[str, Any]:
        """Return what goes into another folder: what `to_score` does, and all plain values of the trainer and the run.

        Raises:
            InputError: As in `to_continue`.
        """
        plain = {
            part: {key: value for key, value in self._part(part).items() if not isinstance(value, Mapping | list)}
            for part in ("trainer", "run")
        }
        self._check_plain(plain, "")
        return {**self.to_score(), **plain}

    def _of_results(self) -> dict[str, Any]:
        # Not at the top: it imports torch, which `cp` and `ls` do without.
        from lightning_modules.soundness import is_here

        parts = {}
        for part, listed in (("model", tasks()), ("data", data_modules())):
            content = dict(self._part(part))
            self._check_class(content, part, tuple(listed))
            arguments = {key: value for key, value in (content.get("init_args") or {}).items() if key not in _GRANTS}
            attention = arguments.get("attn_implementation")
            if not is_here(attention):
                raise self._refusal(f"{part}.attn_implementation", attention, "only attentions that are here already")
            parts[part] = {"class_path": content["class_path"], "init_args": arguments}
        seed = self.settings.get("seed_everything", 1)
        checkpoint = {key: value for key, value in self._part("checkpoint").items() if key in ("monitor", "mode")}
        self._check_plain([seed, checkpoint], "checkpoint")
        return {"seed_everything": seed, **parts, "checkpoint": checkpoint}

    def _part(self, name: str) -> Mapping[str, Any]:
        content = self.settings.get(name) or {}
        if not isinstance(content, Mapping) or not all(isinstance(key, str) and key.isidentifier() for key in content):
            raise InputError(f"{self.place}: {name} is no mapping of settings by their names, as `fit` writes it")
        return content

    def _check_class(self, content: Mapping[str, Any], key: str, listed: Sequence[str], strict: bool = False) -> None:
        path, arguments = content.get("class_path"), content.get("init_args") or {}
        if set(content) - {"class_path", "init_args"} or not isinstance(arguments, Mapping):
            raise self._refusal(key, content, "only a class_path and its init_args")
        if not all(isinstance(name, str) and name.isidentifier() for name in arguments):
            raise self._refusal(key, content, "only arguments by their names")
        if path not in listed and not (isinstance(path, str) and self._is_trusted(path)):
            raise InputError(
                f"{self.place}: {key} names the class {path}, which is not built of what a folder says. Where you "
                f"trust it, add --trust-classes {path}; otherwise name a recipe of your own with --config"
            )
        self._check_plain(arguments, key, strict and not self._is_trusted(str(path)))

    def _check_arguments(self, content: Mapping[str, Any], key: str) -> None:
        """Refuse mappings, places elsewhere, and of the arguments that `CONTINUED` does not list all but defaults."""
        if self._is_trusted(path := content["class_path"]):
            return
        parameters = inspect.signature(class_at(path)).parameters
        for name, value in (content.get("init_args") or {}).items():
            if isinstance(value, Mapping):
                raise self._refusal(f"{key}.{name}", value, "single values and lists")
            default = parameters[name].default if name in parameters else None
            if name not in CONTINUED[path] and value not in (None, False, default):
                raise self._refusal(f"{key}.{name}", value, f"of {path}, nothing but {', '.join(CONTINUED[path])}")
        self._check_place(content.get("init_args") or {}, key)

    def _check_place(self, arguments: Mapping[str, Any], key: str) -> None:
        """Refuse a place to write to that lies elsewhere than in the folder, or where links are not looked for."""
        parts = [str(arguments.get(name) or "") for name in PLACES]
        folder, place = self.place.parent, self.place.parent.joinpath(*parts)
        if any(mark in part for part in parts for mark in ("$", "%", ":")):
            raise self._refusal(key, "/".join(parts), "no variable and no colon in what places files")
        check_within(place, folder, f"{self.place}: {key}")
        # Where file systems do not tell capitals apart, they are one.
        if any(part.casefold() in OF_LOGGERS for part in place.resolve().relative_to(folder.resolve()).parts[:1]):
            raise self._refusal(key, "/".join(parts), f"no place in {' or '.join(OF_LOGGERS)}")

    def _is_trusted(self, path: str) -> bool:
        return any(is_within(path, name) for name in self.trusted)

    def _check_plain(self, value: Any, key: str, strict: bool = False) -> None:
        """Refuse classes within values, variables of the environment, and where asked to all that leads elsewhere."""
        if isinstance(value, Mapping | list) and len(value) > _MOST:
            raise InputError(
                f"{self.place}: {key} has {len(value):,} entries; {_MOST:,} are the most in a folder's settings"
            )
        if isinstance(value, Mapping):
            if "class_path" in value or not all(isinstance(name, str) for name in value):
                raise self._refusal(key, dict(value), "only plain values")
            for name, inner in value.items():
                self._check_plain(inner, f"{key}.{name}".lstrip("."), strict)
        elif isinstance(value, list):
            for inner in value:
                self._check_plain(inner, f"{key}[]", strict)
        elif isinstance(value, str):
            self._check_text(value, key, strict)
        elif not isinstance(value, int | float | None):
            raise self._refusal(key, value, "only text, numbers, true, false and null")

    def _check_text(self, text: str, key: str, strict: bool) -> None:
        # The parser reads texts as YAML where an option is no text.
        is_text = key in _ALWAYS_TEXT or key.startswith(_OF_TEXTS)
        if len(text) > _LONGEST or (not is_text and not _is_scalar(text)):
            raise self._refusal(key, text, "no text that reads as something else, or is very long,")
        for name, default in _VARIABLE.findall(text):
            if strict and _LEADS_AWAY.search(default[1:]):
                raise self._refusal(key, text, "no address by default")
            if name not in self.variables:
                raise InputError(
                    f"{self.place}: {key} asks for the environment variable {name}. Where you trust the folder with "
                    f"its value, add --trust-env {name}"
                )
        if "${" in (rest := _VARIABLE.sub("", text)):
            raise self._refusal(key, text, "no interpolation")
        if "://" in rest or "::" in rest:
            raise self._refusal(key, text, "no address")
        if strict and (_LEADS_AWAY.search(rest) or _IMPORTABLE.fullmatch(rest)):
            raise self._refusal(key, text, "no names of classes, addresses or paths that leave the run folder")

    def _refusal(self, key: str, value: Any, admitted: str) -> InputError:
        shown = repr(value)
        shown = shown if len(shown) < 100 else f"{shown[:97]}..."
        return InputError(
            f"{self.place}: {key} is {shown}; of a folder's settings, {admitted} is taken there. Name the settings "
            "yourself, with --config and options"
        )


def _is_scalar(text: str) -> bool:
    """Tell whether the parser, which reads texts as YAML, takes one for a single value without tag or anchor.

    It has to be asked by the parser's own loader: where another one sees no YAML, and so a text, that one may see more.
    """
    try:
        events = list(yaml.parse(text, Loader=yaml_loader()))
    except yaml.YAMLError:
        # The parser keeps what is no YAML as it is.
        return True
    except Exception:  # of numbers of characters that there are none of, say
        return False
    nodes = [event for event in events if isinstance(event, yaml.NodeEvent)]
    return all(isinstance(node, yaml.ScalarEvent) and node.tag is None and node.anchor is None for node in nodes)


def variables_in(text: str) -> list[str]:
    """Return the environment variables that settings refer to."""
    return re.findall(r"oc\.env:\s*(\w+)", text)
