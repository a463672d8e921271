"""The parser behind `fit`, `validate`, `test` and `predict`, with errors that say what, where and what to do."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

from jsonargparse import set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser
from omegaconf import OmegaConf

from ernie_m.errors import InputError

from .class_paths import class_at
from .compat import actions_of, yaml_loader
from .documents import only_true_and_false
from .listed import data_modules, tasks
from .registry import did_you_mean

# `${model.init_args.backbone}` in a recipe counts from the recipe's root. Inside a subcommand, OmegaConf's root is one
# level higher; this setting of jsonargparse makes the two the same.
# A class within a value of any type is no class to build, but a value.
set_parsing_settings(omegaconf_absolute_to_relative_paths=True, instantiate_subclass_spec_in_any=False)
only_true_and_false(yaml_loader())


def bundled(name: str) -> str:
    """Return the path of a sample that comes with the package: what `${bundled:tokenizer}` in a recipe stands for.

    Args:
        name: A file or folder under `datamodules/samples`.
    """
    return str(Path(__file__).resolve().parents[1] / "datamodules" / "samples" / name)


OmegaConf.register_resolver("bundled", bundled, replace=True)

CLASS_PATH = re.compile(r"^\s*class_path:\s*['\"]?([\w.]+)", re.MULTILINE)
HINT = "did you mean"
QUOTES = "; write it between quotes"
DENIED = re.compile(r"Importing '([\w.]+)' is not allowed")
# `data: label_names: expected str`: a setting, and what in it is of another type.
NESTED_KEY = re.compile(r"(?:[\w.]+: )+(?=expected )")
QUOTED_KEY = re.compile(r"(?:[Oo]ption|[Kk]ey|argument) ['\"]([\w.]+)['\"]|unrecognized arguments: --([\w.]+)")


class RecipeParser(LightningArgumentParser):
    """Lightning's parser, whose errors are `InputError`s that name the file and line and the closest valid key."""

    command_line: Sequence[str] = ()
    inner: "RecipeParser | None" = None

    def add_class_arguments(self, *args: Any, **kwargs: Any) -> Any:
        """Add a class, none of whose values is read from a file that happens to be called like the value."""
        return super().add_class_arguments(*args, **{**kwargs, "sub_configs": False})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise an `InputError` instead of printing the usage.

        Args:
            message: The parser's message.
            ex: The exception behind it.

        Raises:
            InputError: Always.
        """
        raise InputError(self.describe(message)) from ex

    def describe(self, message: str) -> str:
        """Return a parser's message in one line with the place of the key and the closest valid keys.

        Args:
            message: jsonargparse's message. It repeats the message of the parser of a class's arguments, which comes
                here first and knows them.
        """
        if denied := DENIED.search(message):
            name = denied[1]
            return (
                f"{locate_class(name, self.command_line)}{name} is not among the classes that settings may name: this "
                f"project's, Lightning's and torch's optimisers. Where you trust it, add --trust-classes {name}"
            )
        groups = QUOTED_KEY.findall(message)
        key = next((part for part in groups[-1] if part), "") if groups else ""
        short = shorten(message)
        if chain := NESTED_KEY.match(short):
            key = ".".join(chain[0].split(": ")[:-1])
        place = locate(key, self.command_line) if key else ""
        hint = ""
        if HINT not in message and re.search(r"not accept|unrecognized|No action for key", message):
            hint = did_you_mean(key if "." in key else key.rsplit(".", 1)[-1], self.known_keys(full="." in key))
        if re.search(r"expected str, got (True|False|None|[-\d.]+)\b", short) and QUOTES not in message:
            hint = QUOTES
        return f"{place}{short}{hint}"

    def located(self, message: str) -> str:
        """Return a class's message about one of its arguments with the place that gave it.

        Args:
            message: It begins with the argument's name, if it is about one.
        """
        word = re.match(r"\w+", message)
        is_argument = word is not None and word[0] in self.known_keys(full=False)
        return f"{locate(word[0], self.command_line)}{message}" if word is not None and is_argument else message

    def known_keys(self, full: bool) -> set[str]:
        """Collect the keys that a recipe may hold.

        Args:
            full: Keys with their dots; otherwise their last parts, with the arguments of the classes in use.
        """
        actions = [*actions_of(self), *(actions_of(self.inner) if self.inner is not None else [])]
        keys = {action.dest for action in actions if action.dest not in ("help", "config", "subcommand")}
        classes = {name for path in config_files(self.command_line) for name in CLASS_PATH.findall(read(path))}
        ours = classes & {*tasks(), *data_modules()}
        arguments = {name for path in ours for name in arguments_of(path)}
        if full:
            return keys | {f"{part}.{name}" for part in ("model", "data") for name in arguments}
        return {key.rsplit(".", 1)[-1] for key in keys} | arguments


def shorten(message: str) -> str:
    """Make one line of jsonargparse's nested message, without its dump of the whole value."""
    lines = [line.strip() for line in message.splitlines()]
    noise = re.compile(r"Given value|Subtypes:|Errors:|- Expected a .*NoneType")
    reasons = [line for line in lines if line and not noise.match(line)]
    given = [line[13:] for line in lines if line.startswith("Given value: ") and len(line) < 80]
    # How jsonargparse hands on an option of a class.
    reasons += [f"(got {value})" for value in given if not value.startswith("NestedArg(")]
    text = " ".join(reasons).replace("Does not validate against any of the Union subtypes", "").replace(" - ", " ")
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text).replace("typing.", "")
    text = re.sub(r"Parser key \"([^\"]+)\":", r"\1:", text)
    text = re.sub(r"Expected a (.+?)\. Got value: ", r"expected \1, got ", text)
    text = text.replace("the following arguments are required:", "these keys are missing:")
    return re.sub(r"\s+", " ", text).strip().rstrip(".")


def config_files(arguments: Sequence[str]) -> list[Path]:
    """Return the files that the `--config` arguments of a command line name."""
    found = []
    for position, argument in enumerate(arguments):
        if argument in ("--config", "-c") and position + 1 < len(arguments):
            found.append(arguments[position + 1])
        elif argument.startswith("--config="):
            found.append(argument.removeprefix("--config="))
    # What was taken of a folder is given as it is.
    return [Path(value) for value in found if not value.startswith("{")]


def locate(key: str, arguments: Sequence[str]) -> str:
    """Say where a key was given: on the command line or in which file and line.

    Args:
        key: The key, with or without the dots before it.
        arguments: The command line, with `--config` names resolved to files.
    """
    last = key.rsplit(".", 1)[-1]
    for argument in reversed(arguments):
        name = argument.split("=", 1)[0].removesuffix("+")
        if name.startswith("--") and (name == f"--{key}" or name.endswith(f".{last}")):
            return f"{name} on the command line: "
    for path in reversed(config_files(arguments)):
        for part in (last, key.split(".", 1)[0]):
            for number, line in enumerate(read(path).splitlines(), start=1):
                if re.match(rf"\s*(- )?[\"']?{re.escape(part)}[\"']?\+?\s*:", line):
                    return f"{path}, line {number}: "
    return ""


def locate_class(name: str, arguments: Sequence[str]) -> str:
    """Say in which file and line a class is named; nothing where none of the files on the command line names it."""
    for path in config_files(arguments):
        for number, line in enumerate(read(path).splitlines(), start=1):
            if name in line:
                return f"{path}, line {number}: "
    return ""


def read(path: Path) -> str:
    """Return a file's text, or nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def arguments_of(class_path: str) -> Iterator[str]:
    """Yield the names of the arguments of a class given by its dotted path; none where there is no such class.

    Args:
        class_path: Its module and name. What it takes as `**kwargs` are the arguments of its base.
    """
    for initializer in _initializers(class_path):
        parameters = list(inspect.signature(initializer).parameters.values())[1:]
        yield from (one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD))


def nulls_in(class_path: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the arguments that are null although the class takes no null; jsonargparse takes it for any type.

    Args:
        class_path: The class, as in `arguments_of`.
        values: Its arguments.
    """
    nulls = [name for name, value in values.items() if value is None]
    for initializer in _initializers(class_path) if nulls else ():
        hints = _hints(initializer)
        yield from (name for name in nulls if name in hints and not _takes_null(hints[name]))


def _hints(initializer: Any) -> dict[str, Any]:
    try:
        return get_type_hints(initializer)
    except NameError:
        # A class of one's own, with names that a type checker alone imports.
        return {}


def _takes_null(hint: Any) -> bool:
    return hint is Any or type(None) in (hint, *get_args(hint)) or None in get_args(hint)


def _initializers(class_path: str) -> Iterator[Any]:
    """Yield the `__init__` of a class, and of its bases as far as it hands arguments on."""
    try:
        bases = class_at(class_path).__mro__
    except (InputError, AttributeError):
        return
    for base in bases:
        if "__init__" in vars(base):
            yield base.__init__
            if not any(one.kind == one.VAR_KEYWORD for one in inspect.signature(base.__init__).parameters.values()):
                return
