"""What the words of a command line mean: recipe names, run folders, checkpoints, exported folders."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ernie_m.errors import InputError
from ernie_m.files import check_links, check_way

from .documents import read_json, read_yaml
from .registry import UnknownNameError, did_you_mean, entries, find, resolve_config
from .rules import arguments
from .trust import Values, find_trusted, variables_in

CONFIG = "config.yaml"
RECORD = "run.json"
RECIPE = "recipe.yaml"
LAST = Path("checkpoints") / "last.ckpt"
BEST = Path("checkpoints") / "best.ckpt"
# Characters that JSON may hold as they are, and that YAML refuses or takes for the end of a line.
LONGER_THAN_A_PATH = 5_000
NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


ALL_OPTIONS = "--help=all"
"""Lists what Lightning's trainer takes too."""


@dataclass
class Invocation:
    """A command line with every name resolved.

    Attributes:
        stage: `fit`, `validate`, `test` or `predict`.
        arguments: What the parser gets: options alone, `--config` naming files.
        name: The first configuration's name, which a run is called by unless the recipe says otherwise.
        run: The run folder that `fit` continues, if any.
        origin: The checkpoint or exported folder that is scored, if any.
        output: The file that `predict` writes, if any.
        is_rehearsal: Whether a few steps are run to measure them, without a run folder.
        configs: What `--config` gets: files that were named, and first what is taken of a folder, as a line of JSON.
        trusted: Classes and modules that may be named beside those of `listed.PACKAGES`.
        variables: Environment variables that a folder's settings may take.
        folder: Where settings were taken from, if from one.
    """

    stage: str
    arguments: list[str]
    name: str = "run"
    run: Path | None = None
    origin: Path | None = None
    output: Path | None = None
    is_rehearsal: bool = False
    configs: list[Path | str] = field(default_factory=list)
    trusted: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    folder: Path | None = None

    @property
    def admitted_variables(self) -> set[str] | None:
        """The environment variables that settings may take: of a folder's those that were trusted; None for all."""
        if self.folder is None:
            return None
        named = [Path(path).read_text(encoding="utf-8") for path in self.configs if isinstance(path, Path)]
        typed = [word for word in self.arguments if "${" in word and not word.startswith("{")]
        return {*self.variables, *(name for text in (*named, *typed) for name in variables_in(text))}

    def names(self, key: str, part: str = "data") -> bool:
        """Say whether a person gave a setting: by option, or in a file that `--config` names.

        Args:
            key: The setting, or the argument of the data's class.
            part: Where it belongs.
        """
        options = {f"--{part}.{key}", f"--{part}.init_args.{key}"}
        named = [read_yaml(path) for path in self.configs if isinstance(path, Path)]
        return any(word.partition("=")[0] in options for word in self.arguments) or any(
            key in arguments(settings, part) or key in (settings.get(part) or {}) for settings in named
        )

    @property
    def is_of_folder(self) -> bool:
        """Whether all settings but options are a folder's."""
        return self.folder is not None and not any(isinstance(path, Path) for path in self.configs)

    @property
    def asks_for_help(self) -> bool:
        """Whether the options are to be listed and nothing else."""
        return bool({"--help", "-h", ALL_OPTIONS} & set(self.arguments)) or self.asks_for_help_on_a_class

    @property
    def asks_for_help_on_a_class(self) -> bool:
        """Whether the arguments of one class are to be listed, as by `--data.help datamodules.XNLI`."""
        return any(word.partition("=")[0].endswith(".help") for word in self.arguments if word.startswith("--"))


def chosen_checkpoint(run: Path) -> Path:
    """Return the checkpoint of a run that counts.

    Args:
        run: A run folder.

    Raises:
        InputError: The run has no checkpoint.
    """
    record = read_json(run / RECORD)
    chosen = record.get("checkpoint")
    named = chosen.get("path") if isinstance(chosen, dict) else None
    # Nothing but these two is written there, so nothing else is read.
    for candidate in sorted((BEST, LAST), key=lambda path: path.as_posix() != named):
        if (run / candidate).exists():
            return run / candidate
    if record.get("stage", "fit") != "fit":
        raise InputError(f"{run}: holds scores of {record.get('origin')} and no checkpoint of its own; name that one")
    raise InputError(
        f"{run}: the run has no checkpoint in {run / 'checkpoints'}; it stopped before its first validation"
    )


def run_folder_of(path: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in, or None.

    Args:
        path: A checkpoint.

    Raises:
        InputError: The checkpoint, or its folder, is a link into another folder, whose run would be taken for this one.
    """
    check_way(path)
    for parent in list(path.resolve().parents)[:2]:
        if (parent / CONFIG).is_file():
            return parent
    return None


def parse(stage: str, words: Sequence[str]) -> Invocation:
    """Resolve the names in a command line.

    A word without dashes in front may be a recipe's name or file (as if `--config` stood before it), a run folder, a
    checkpoint in one, or an exported folder.

    Args:
        stage: `fit`, `validate`, `test` or `predict`.
        words: The arguments after it.

    Raises:
        InputError: A target is none of these, or a file is missing.
        UnknownNameError: No recipe or fragment has a name that `--config` gives.
    """
    call = Invocation(stage, [])
    rest = list(words)
    target: str | None = None
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if option in ("--config", "-c", "--input", "--output", "--trust-classes", "--trust-env"):
            if not equals:
                if not rest:
                    raise InputError(f"{option} needs a value")
                value = rest.pop(0)
            take_option(call, option, value)
        elif word.startswith("-"):
            call.arguments.append(word)
            if not equals and rest and not rest[0].startswith("--") and takes_value(word):
                call.arguments.append(rest.pop(0))
        elif target is None and not call.arguments:
            target = word
        else:
            raise InputError(f"{stage}: unexpected {word!r}; options start with two dashes, the target comes first")
    find_trusted(call.trusted)
    if target is not None:
        use_target(call, target)
    if not call.configs and not call.asks_for_help:
        raise InputError(
            f"{stage} needs a recipe (`ernie-m {stage} --config xnli/transfer_base`; `ernie-m ls` lists them)"
            + (
                " or a run folder to continue"
                if stage == "fit"
                else ", a run folder, a checkpoint or an exported folder"
            )
        )
    call.arguments = [part for path in call.configs for part in ("--config", str(path))] + call.arguments
    return call


def takes_value(option: str) -> bool:
    """Say whether an option is followed by a value: all are but these."""
    return option not in ("--help", "-h", "--print_config")


def take_option(call: Invocation, option: str, value: str) -> None:
    """Note an option that is no setting: `--config`, `--input`, `--output`, `--trust-classes` or `--trust-env`."""
    if option.startswith("--trust"):
        (call.trusted if option == "--trust-classes" else call.variables).extend(filter(None, value.split(",")))
        return
    if option in ("--config", "-c"):
        path = resolve_config(value)
        check_recipe(path)
        if not call.configs:
            call.name = value.removesuffix(".yaml") if path != Path(value) else path.stem
        elif path != Path(value) and not find(value).fits(call.name) and is_recipe(call.name):
            made_for = f"`ernie-m cat {value}` says what it is made for"
            print(f"ernie-m: {value} is not made for {call.name} and may contradict it; {made_for}", file=sys.stderr)
        call.configs.append(path)
        return
    if call.stage != "predict":
        raise InputError(f"{option} belongs to predict, not to {call.stage}")
    if option == "--output":
        call.output = Path(value)
        return
    if not Path(value).is_file():
        raise InputError(f"--input {value}: there is no such file")
    call.arguments.append(f"--data.init_args.predict_path={value}")


def check_recipe(path: Path) -> None:
    """Refuse a file that holds no settings, or brings others along.

    Args:
        path: What `--config` names.

    Raises:
        InputError: It does.
    """
    content = read_yaml(path)
    for part in ("config", "trainer", "model", "data", "run", "resume", "checkpoint"):
        # A name here would be that of a further file.
        if part in content and (part == "config" or not isinstance(content[part], Mapping | None)):
            raise InputError(
                f"{path}: {part} is {content[part]!r}, no settings; to lay files over each other give several --config"
            )


def is_recipe(name: str) -> bool:
    """Say whether a packaged recipe has this name."""
    return any(entry.name == name for entry in entries("recipe"))


def use_target(call: Invocation, word: str) -> None:
    """Turn a run folder, checkpoint, exported folder or recipe name into options."""
    path = Path(word)
    if "${" in word:
        raise InputError(f"{word}: ${{ begins a reference in settings and cannot be part of a name here; rename it")
    if (path / CONFIG).is_file():
        use_run(call, path)
    elif path.suffix == ".ckpt" or (path.is_file() and path.suffix not in (".yaml", ".yml")):
        use_checkpoint(call, path)
    elif (path / RECIPE).is_file() and (path / "config.json").is_file():
        use_export(call, path)
    elif path.is_dir():
        raise InputError(
            f"{path}: neither a run folder (it holds no {CONFIG}) nor one that this command exported (no {RECIPE}). "
            f"A plain transformers folder is scored by `ernie-m {call.stage} --config RECIPE --model.backbone {path}`"
        )
    else:
        try:
            first = resolve_config(word)
        except UnknownNameError as error:
            known = [entry.name for entry in entries("recipe")]
            raise InputError(
                f"{word!r} is no recipe, run folder, checkpoint or exported folder{did_you_mean(word, known)}"
            ) from error
        check_recipe(first)
        call.configs.insert(0, first)
        call.name = find(word).name if first != path else path.stem


def take_settings(call: Invocation, file: Path) -> None:
    """Take what the stage needs of the settings in a folder.

    Args:
        call: It gets them.
        file: The folder's config.yaml or recipe.yaml.
    """
    check_links(file.parent)
    values = Values(read_yaml(file), file, call.trusted, call.variables)
    call.folder = file.parent
    taken = values.to_continue() if call.stage == "fit" else values.to_score()
    call.configs.insert(0, in_a_line(taken))


def in_a_line(settings: Mapping[str, Any]) -> str:
    """Return settings as JSON that is YAML too, in which every text is quoted: the parser reads them as they were.

    The parser first tries what it gets as a path, and folders may be called like anything, so that the line is filled
    up with blanks until it is longer than any path.
    """
    text = json.dumps(settings, ensure_ascii=False, default=str)
    return NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text).ljust(LONGER_THAN_A_PATH)


def use_run(call: Invocation, run: Path) -> None:
    """Continue or score a run folder."""
    if call.stage != "fit" and not (run / LAST).exists():
        settings = read_yaml(run / CONFIG).get("run")
        if isinstance(settings, dict) and settings.get("keep_checkpoints") is False:
            use_export(call, run / "export")
            return
    take_settings(call, run / CONFIG)
    if call.stage == "fit":
        call.run = run
        if not (run / LAST).exists():
            raise InputError(f"{run}: there is no {LAST} to continue from; start the recipe again with --config")
        call.arguments.append(f"--ckpt_path={run / LAST}")
        return
    call.origin = chosen_checkpoint(run)
    call.arguments.append(f"--ckpt_path={call.origin}")


def use_checkpoint(call: Invocation, path: Path) -> None:
    """Continue or score a checkpoint with the recipe that lies beside it."""
    if not path.exists():
        raise InputError(f"{path}: there is no such checkpoint")
    run = run_folder_of(path)
    if run is None and not call.configs:
        raise InputError(f"{path}: no {CONFIG} beside the checkpoint or one folder up; name its recipe with --config")
    if run is not None:
        take_settings(call, run / CONFIG)
    if call.stage == "fit" and run is not None:
        call.run = run
    call.origin = path
    call.arguments.append(f"--ckpt_path={path}")


def use_export(call: Invocation, folder: Path) -> None:
    """Score an exported folder with the recipe it carries."""
    if call.stage == "fit":
        raise InputError(
            f"{folder}: an exported folder cannot be continued (it has no optimiser state). To train from its weights: "
            f"ernie-m fit --config RECIPE --model.backbone {folder}"
        )
    take_settings(call, folder / RECIPE)
    call.origin = folder
    call.arguments = [
        f"--model.init_args.backbone={folder}",
        "--model.init_args.from_scratch=null",
        "--model.init_args.init_from=null",
        f"--data.init_args.tokenizer={folder}",
        *call.arguments,
    ]
