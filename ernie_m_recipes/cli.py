"""A command line becomes trainer, model and data: Lightning's CLI with recipes, run folders and checked resuming."""

import atexit
import configparser
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf.errors import OmegaConfBaseException

from ernie_m.errors import InputError

from . import record, resume, rules
from .callbacks import PlainProgress, StepSeed, TakeChanges
from .checkpoints import AtomicCheckpointIO, CheckpointThatCounts
from .compat import StageCLI
from .devices import check_world, is_data_parallel, keep_freed_memory, runs_alone, supported_precision
from .documents import read_text
from .messages import found_in
from .parsing import RecipeParser, nulls_in
from .references import taken
from .settings import ResumeSettings, RunSettings
from .targets import Invocation
from .trust import TOKENIZER, admitted, lies_outside, tokenizer_of

_TRAINER = "lightning.pytorch.Trainer"
_OF_WANDB = {"entity", "project", "mode", "disabled", "quiet", "silent"}


class RecipeCLI(StageCLI):
    """Builds trainer, model and data of one stage from recipes.

    Args:
        call: The resolved command line.
        words: The command line as it was typed, for the record.
        build: Whether to build trainer, model and data; otherwise only the settings are parsed.
    """

    def __init__(self, call: Invocation, words: Sequence[str] = (), build: bool = True) -> None:
        self.call = call
        self.words = words
        self.only_parse = not build
        self.folder: Path | None = None
        self.record: record.RunRecord | None = None
        self.changes: list[str] = []
        self.precision: dict[str, str] = {}
        with admitted(call.trusted, call.is_of_folder):
            super().__init__(
                call.stage,
                save_config_callback=None,
                parser_class=RecipeParser,
                parser_kwargs={"parser_mode": "omegaconf+", "allow_abbrev": False}
                | {call.stage: {"parser_mode": "omegaconf+", "allow_abbrev": False}},
                auto_configure_optimizers=False,
                # The data modules plan their batches per process themselves.
                # The network is said by the task; Lightning's table counts its parts and no products.
                trainer_defaults={"use_distributed_sampler": False, "enable_model_summary": False},
                args=[call.stage, *call.arguments],
            )

    def settings_of(self, call: Invocation) -> dict[str, Any]:
        """Return the settings of another command line of the same stage, without building the parser again.

        Args:
            call: The resolved command line.
        """
        self.call = call
        with admitted(call.trusted, call.is_of_folder):
            self.parse_arguments(self.parser, [call.stage, *call.arguments])
        settings: dict[str, Any] = self.config[call.stage].as_dict()
        return settings

    def seed(self) -> None:
        """Seed everything, where something is built."""
        if self.only_parse:
            return
        try:
            super().seed()
        except ValueError as error:
            raise InputError(f"seed_everything: {error}") from error

    # Parsing

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the seed, a number always: Lightning's `true` means 0, not a random one."""
        parser.add_argument("--seed_everything", type=int, default=1, help="The seed of everything random.")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the groups `run`, `resume` and `checkpoint`, and the one link between data and model."""
        parser.add_class_arguments(RunSettings, "run")
        parser.add_class_arguments(ResumeSettings, "resume")
        parser.add_lightning_class_args(CheckpointThatCounts, "checkpoint")
        parser.link_arguments("data.label_names", "model.init_args.label_names", apply_on="instantiate")
        if not self.call.asks_for_help:
            return
        # They are resolved before the parser sees them, and are no settings that a recipe could hold.
        parser.add_argument("--trust-classes", metavar="NAME", help="Classes or modules that settings may name too.")
        parser.add_argument("--trust-env", metavar="NAME", help="Variables that a folder's settings may take.")
        if self.stage == "predict":
            parser.add_argument("--input", metavar="FILE", help="The file of texts, words or questions to predict on.")
            parser.add_argument("--output", metavar="FILE", help="The file to write, its rows with predictions beside.")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, naming the place of an error.

        Args:
            parser: The parser with a subcommand for every stage.
            args: The command line.

        Raises:
            InputError: A file or option cannot be used.
        """
        inner = self.stage_parser
        for one in (parser, inner):
            one.command_line, one.inner = self.call.arguments, inner  # type: ignore[attr-defined]
        taken.forget(self.call.admitted_variables)
        try:
            self.config = parser.parse_args(args)
        except OmegaConfBaseException as error:
            lines = [line.strip() for line in str(error).splitlines()]
            raise InputError(f"{lines[1].replace('full_key: ' + self.stage + '.', '')}: {lines[0]}") from error

    def check_settings(self) -> None:
        """Check a continued run against its beginning, instead of Lightning's overriding the command line."""
        settings = self.config[self.stage]
        self.check_nulls()
        self.check_places()
        path = Path(settings.ckpt_path or ".")
        if settings.ckpt_path and not path.is_file():
            sharded = "a sharded checkpoint, whose index could run code; give one that is a file"
            raise InputError(f"--ckpt_path {path}: {sharded if path.is_dir() else 'there is no such checkpoint'}")
        if settings.ckpt_path and self.stage == "fit":
            self.changes = resume.check_resume(path, self.config_dump, settings.resume.allow_changes)

    def check_nulls(self) -> None:
        """Refuse null where a class takes none, which the parser lets through.

        Raises:
            InputError: There is one.
        """
        settings = self.config[self.stage].as_dict()
        for part in ("model", "data", "trainer"):
            content = settings[part] if part != "trainer" else {"class_path": _TRAINER, "init_args": settings[part]}
            for name in nulls_in(content["class_path"], content.get("init_args") or {}):
                raise InputError(f"{part}.{name} is null; give it a value, or leave it out for its default")

    def check_places(self) -> None:
        """Refuse settings of a folder by which a file that is none of its own would be read out or copied along.

        Raises:
            InputError: They name one, and no person did.
        """
        call, data = self.call, rules.arguments(self.config[self.stage].as_dict(), "data")
        if call.run is not None and "tokenizer" in data and not call.names("tokenizer"):
            tokenizer_of(call.run, str(data["tokenizer"]), "--data.tokenizer")
        predicted = data.get("predict_path")
        if call.folder is None or self.stage != "predict" or predicted is None or call.names("predict_path"):
            return
        if lies_outside(str(predicted), call.folder):
            raise InputError(
                f"{call.folder}: its settings predict on {predicted}, which lies outside of the folder and may be "
                f"private. Where its rows are to be read, add --input {predicted}"
            )

    def written(self) -> dict[str, Any]:
        """Return the settings as a recipe: without what follows from the data, variables as they were referred to."""
        text = self.parser.dump(self.config, skip_link_targets=True, skip_unset=False, format="yaml")
        settings: dict[str, Any] = yaml.safe_load(text)[self.stage]
        taken.put_back(settings, self.stage)
        return settings

    # Building

    def before_instantiate_classes(self) -> None:
        """Fix the precision and the run folder, and put the loggers into it."""
        if self.only_parse:
            return
        settings = self.config[self.stage]
        if self.stage == "fit":
            # Lightning wants the second of the two to say what the first one counts: steps, or a share of an epoch.
            trainer = settings.trainer
            in_steps = isinstance(trainer.val_check_interval, int)
            if trainer.check_val_every_n_epoch in (None, 1):
                trainer.check_val_every_n_epoch = None if in_steps else 1
            found = [problem for rule in rules.TO_TRAIN for problem in rule(settings.as_dict())]
            if found:
                raise InputError("\n".join(found))
        if self.call.folder is not None:
            workers = rules.arguments(settings.as_dict(), "data").get("num_workers")
            check_world(settings.trainer, workers, self.call.names)
        if settings.trainer.accelerator == "cpu" or not torch.cuda.is_available():
            keep_freed_memory()
        asked = settings.trainer.precision
        settings.trainer.precision = supported_precision(asked, settings.trainer.accelerator)
        self.precision = {"asked": str(asked), "used": str(settings.trainer.precision)}
        if is_data_parallel(settings.trainer.strategy) and runs_alone(settings.trainer):
            settings.trainer.strategy = "auto"
        self.refuse_content_by_reference()
        settings.run.name = settings.run.name or self.call.name
        self.config_dump["run"]["name"] = settings.run.name
        if settings.trainer.fast_dev_run or self.call.output is not None or self.call.is_rehearsal:
            settings.trainer.logger = False
            return
        self.folder = self.call.run or record.new_folder(
            settings.run.directory, settings.run.name, settings.seed_everything, self.stage
        )
        if self.stage != "fit":
            settings.trainer.logger = False
        # Processes that Lightning starts run this same command and must find the same folder.
        os.environ[record.FOLDER_VARIABLE] = str(self.folder)
        place_loggers(settings.trainer.logger, self.folder)
        refuse_other_servers(settings.trainer.logger)

    def refuse_content_by_reference(self) -> None:
        """Refuse variables of the environment in what becomes part of weights, predictions and names of files.

        Raises:
            InputError: There is one.
        """
        data, model = (rules.arguments(self.config_dump, part) for part in ("data", "model"))
        contents = {
            "run.name": self.config_dump["run"]["name"],
            **{f"data.{name}": data.get(name) for name in ("label_names", "prefix")},
            "model.label_names": model.get("label_names"),
        }
        for key, value in contents.items():
            if "${oc.env" in str(value):
                raise InputError(f"{key} is {value}; it becomes part of what a run writes, so write it out")

    def instantiate_classes(self) -> None:
        """Build data, model and trainer."""
        if self.only_parse:
            return
        try:
            super().instantiate_classes()
        except ValueError as error:
            if type(refused := found_in(error, InputError)) is not InputError:
                raise
            raise InputError(self.stage_parser.located(str(refused))) from error  # type: ignore[attr-defined]
        arguments = self.config_dump["data"].get("init_args", {})
        if self.stage == "fit" and "label_names" in arguments and arguments["label_names"] is None:
            # What was found in the training data is part of the run: whoever tests or predicts has only that.
            arguments["label_names"] = list(getattr(self.datamodule, "tag_names", self.datamodule.label_names))
        if texts := {key: value for key, value in self.model.hparams.items() if value != taken.hidden(value)}:
            # Checkpoints and loggers keep them.
            self.model.save_hyperparameters(taken.hidden(texts))
        if checkpoint := self.config[self.stage].ckpt_path:
            # The checkpoint says how to build its network, so that the backbone is not needed again.
            announce(self.model, restore_from=checkpoint)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with the callbacks that every run has.

        Args:
            kwargs: Arguments of the trainer in place of the recipe's.
        """
        config = self.config_init[self.stage].trainer
        callbacks: list[Any] = [StepSeed(self.config[self.stage].seed_everything)]
        if self.changes:
            callbacks.append(TakeChanges())
        if not sys.stdout.isatty() and config["enable_progress_bar"] is not False:
            callbacks.append(PlainProgress())
        # Never the current folder by default: within a SLURM job Lightning takes `hpc_ckpt_*.ckpt` that it finds there.
        kwargs["default_root_dir"] = str(self.folder or config["default_root_dir"] or empty_folder())
        if self.folder is not None:
            self.record = record.RunRecord(
                self.folder, self.config_dump, self.facts(), self.call.run is not None, self.keeps_tokenizer
            )
            callbacks.append(self.record)
        plugins = config["plugins"] or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        self.trainer_defaults["callbacks"] = callbacks
        trainer = super().instantiate_trainer(**kwargs)
        self.checkpoint = next(c for c in trainer.callbacks if isinstance(c, CheckpointThatCounts))  # type: ignore[attr-defined]
        return trainer

    @property
    def keeps_tokenizer(self) -> bool:
        """Whether the tokenizer goes into the run folder: of a run that continues, where it has none or another."""
        run = self.call.run
        has_its_own = run is not None and (run / TOKENIZER).is_dir() and not self.call.names("tokenizer")
        return self.stage == "fit" and not has_its_own

    def facts(self) -> dict[str, Any]:
        """Return what run.json says beside versions, devices and data."""
        settings = self.config[self.stage]
        return {
            "recipe": settings.run.name,
            "stage": self.stage,
            "command": record.command_line(self.stage, self.words),
            "seed": settings.seed_everything,
            "precision": self.precision,
            "continued_from": settings.ckpt_path if self.stage == "fit" else None,
            "changes": self.changes,
            "origin": str(self.call.origin) if self.call.origin else None,
        }


def announce(part: Any, **what: Any) -> None:
    """Tell a task or data module what is going to be done with it; classes of the user's own need not want to know.

    Args:
        part: The task or the data module.
        what: What its `announce` takes.
    """
    if hasattr(part, "announce"):
        part.announce(**what)


def empty_folder() -> str:
    """Make a folder for what nothing is kept of, which goes away with this process."""
    folder = tempfile.mkdtemp(prefix="ernie-m-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def place_loggers(loggers: Any, folder: Path) -> None:
    """Put loggers whose `save_dir` is relative into the run folder; what is absolute, fsspec takes for no address.

    Args:
        loggers: The trainer's `logger`, parsed and not yet built.
        folder: The run folder.
    """
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        arguments = getattr(logger, "init_args", None)
        if arguments is not None and "save_dir" in arguments:
            arguments.save_dir = os.path.abspath(folder / (arguments.save_dir or ""))


def refuse_other_servers(loggers: Any) -> None:
    """Refuse what wandb would read in the current folder, which may be anybody's: where to send, with the user's key.

    Args:
        loggers: The trainer's `logger`, parsed and not yet built.

    Raises:
        InputError: A `wandb/settings` there says more than names.
    """
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if not str(getattr(logger, "class_path", "")).endswith(".WandbLogger"):
            continue
        root = Path(os.environ.get("WANDB_DIR") or ".")
        for path in (root / ".wandb" / "settings", root / "wandb" / "settings"):
            if not path.is_file():
                continue
            # As wandb reads it.
            found = configparser.ConfigParser(interpolation=None)
            try:
                found.read_string(read_text(path), str(path))
            except configparser.Error as error:
                raise InputError(f"{path}: {error}") from error
            keys = {key for section in found.values() for key in section} - _OF_WANDB
            if keys:
                raise InputError(
                    f"{path} sets {', '.join(sorted(keys))}, which says where wandb sends to. Where that is meant, set"
                    " it in ~/.config/wandb/settings or the environment; otherwise start in another folder"
                )


def is_first_process() -> bool:
    """Say whether this is the process that writes."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)
