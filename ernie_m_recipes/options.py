"""`ernie-m fit --config NAME --help`: the options of a recipe's own classes, with its values and what they are."""

import json
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentParser

from .class_paths import class_at
from .cli import RecipeCLI
from .compat import actions_of
from .documents import read_yaml
from .lines import one_line
from .registry import resolve_config
from .targets import Invocation, parse

_EXAMPLE = "custom/text_classification"
_HELP = ("-h", "--help")
_USAGE = """\
usage: ernie-m {stage} --config NAME [--config FRAGMENT] ... [--OPTION VALUE] ...
       ernie-m {stage} {target}
"""
_GROUPS = ("trainer", "checkpoint", "run", "resume")
_INDENT = 6
_OF_PREDICT = {
    "--input FILE": "The file of texts, words or questions to predict on.",
    "--output FILE": "The file to write, its rows with predictions beside.",
}
# No settings that a recipe could hold.
_OF_THE_CALL = {
    "--ckpt_path FILE": "The checkpoint to score, or to continue from.",
    "--trust-classes NAME,...": "Classes, functions or modules that settings may name too.",
    "--trust-env NAME,...": "Variables that a folder's settings may take.",
    "--verbose": "Show what the libraries say, too.",
}


def show(call: Invocation, words: Sequence[str]) -> int:
    """Print the options of a recipe; of an example where none is named.

    Args:
        call: The command line.
        words: The arguments after the stage.
    """
    named = [word for word in words if word not in _HELP]
    if not call.configs:
        named += ["--config", _EXAMPLE]
    cli = RecipeCLI(parse(call.stage, named), build=False)
    settings = cli.config[call.stage].as_dict()
    named_as = call.folder or (call.name if call.configs else _EXAMPLE)
    target = "RUN    # continues it" if call.stage == "fit" else "RUN | CHECKPOINT | EXPORT"
    print(_USAGE.format(stage=call.stage, target=target))
    print(
        textwrap.fill(
            f"Options of {named_as}, with its values. Others are those of the recipe's "
            f"classes: ernie-m {call.stage} --config NAME --help; all of them: ernie-m {call.stage} --help=all",
            _width(),
            break_long_words=False,
            break_on_hyphens=False,
        )
    )
    actions = {action.dest: str(action.help or "") for action in actions_of(cli.stage_parser)}
    for part in ("model", "data"):
        path = settings[part]["class_path"]
        print(f"\n{part}: {path}")
        _print(part, settings[part].get("init_args") or {}, _documented(path))
    # Of Lightning's many those that recipes state.
    stated = {*read_yaml(resolve_config(_EXAMPLE))["trainer"], "max_steps", "limit_train_batches", "limit_val_batches"}
    for part in _GROUPS:
        print(f"\n{part}")
        known = {
            name.removeprefix(f"{part}."): _first_sentences(text) if part == "trainer" else text
            for name, text in actions.items()
            if name.startswith(f"{part}.") and not name.endswith(".help")
        }
        shown = [name for name in known if part != "trainer" or name in stated]
        _print(part, {name: settings[part].get(name) for name in shown}, known)
    print("\nthis call")
    for option, text in {**(_OF_PREDICT if call.stage == "predict" else {}), **_OF_THE_CALL}.items():
        print("\n".join([f"  {option}", *_lines(text)]))
    return 0


def _documented(path: str) -> dict[str, str]:
    """What the arguments of a class are, by name, in the order of its signature."""
    parser = ArgumentParser()
    parser.add_class_arguments(class_at(path))
    return {action.dest: str(action.help or "") for action in actions_of(parser) if action.dest != "help"}


def _first_sentences(text: str) -> str:
    """What Lightning says first of an option, which may go on for a page."""
    return " ".join(re.split(r"(?<=[.!?])\s+", " ".join(text.split()))[:2])


def _print(part: str, values: Mapping[str, Any], texts: Mapping[str, str]) -> None:
    for name in (name for name in texts if name in values):
        value = json.dumps(values[name], ensure_ascii=False, default=str)
        print(one_line(f"  --{part}.{name} {value if len(value) <= 60 else f'{value[:57]}...'}"))
        for line in _lines(texts[name]):
            print(line)


def _lines(text: str) -> Iterator[str]:
    plain = " ".join(text.split())
    yield from textwrap.wrap(plain, _width(), initial_indent=" " * _INDENT, subsequent_indent=" " * _INDENT)


def _width() -> int:
    return min(100, shutil.get_terminal_size().columns)
