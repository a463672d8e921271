"""`ernie-m fit | validate | test | predict`: Lightning's CLI with recipes by name, run folders and checked resuming."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf.errors import OmegaConfBaseException

from ernie_m.errors import InputError
from ernie_m.files import write_text

from . import predictions, record, resume, rules
from .callbacks import PlainProgress, StepSeed, TakeChanges
from .checkpoints import AtomicCheckpointIO, CheckpointThatCounts
from .devices import is_data_parallel, keep_freed_memory, runs_alone, supported_precision
from .export import export_checkpoint
from .parsing import RecipeParser
from .preparation import prepare
from .settings import ResumeSettings, RunSettings
from .tables import Results, print_scores
from .targets import LAST, Invocation, parse


class RecipeCLI(LightningCLI):
    """Builds trainer, model and data from recipes and runs one stage.

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
        self.rows: pyarrow.Table | None = None
        super().__init__(
            save_config_callback=None,
            parser_class=RecipeParser,
            parser_kwargs={"parser_mode": "omegaconf+", "allow_abbrev": False}
            | {stage: {"parser_mode": "omegaconf+", "allow_abbrev": False} for stage in self.subcommands()},
            auto_configure_optimizers=False,
            # The data modules plan their batches per process themselves.
            trainer_defaults={"use_distributed_sampler": False},
            args=[call.stage, *call.arguments],
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the one stage that is run: building the parsers of all four takes four times as long."""
        return {self.call.stage: LightningCLI.subcommands()[self.call.stage]}

    def settings_of(self, call: Invocation) -> dict[str, Any]:
        """Return the settings of another command line of the same stage, without building the parser again.

        Args:
            call: The resolved command line.
        """
        self.call = call
        self.parse_arguments(self.parser, [call.stage, *call.arguments])
        settings: dict[str, Any] = self.config[call.stage].as_dict()
        return settings

    def _set_seed(self) -> None:
        if not self.only_parse:
            super()._set_seed()

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

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, naming the place of an error.

        Args:
            parser: The parser with a subcommand for every stage.
            args: The command line.

        Raises:
            InputError: A file or option cannot be used.
        """
        inner = self._subcommand_parsers[self.call.stage]
        for one in (parser, inner):
            one.command_line, one.inner = self.call.arguments, inner  # type: ignore[attr-defined]
        try:
            self.config = parser.parse_args(args)
        except OmegaConfBaseException as error:
            lines = [line.strip() for line in str(error).splitlines()]
            raise InputError(f"{lines[1].replace('full_key: ' + self.call.stage + '.', '')}: {lines[0]}") from error

    def _parse_ckpt_path(self) -> None:
        """Check a continued run against its beginning, instead of Lightning's overriding the command line."""
        self.subcommand = self.config["subcommand"]
        settings = self.config[self.subcommand]
        if "weights_only" in settings:
            settings.weights_only = True
        if "verbose" in settings:
            settings.verbose = False
        if "return_predictions" in settings:
            settings.return_predictions = False
        self._dump_config()
        if settings.ckpt_path and self.subcommand == "fit":
            path = Path(settings.ckpt_path)
            self.changes = resume.check_resume(path, self.config_dump, settings.resume.allow_changes)
        elif settings.ckpt_path and not Path(settings.ckpt_path).exists():
            raise InputError(f"--ckpt_path {settings.ckpt_path}: there is no such checkpoint")

    def _dump_config(self) -> None:
        """Dump the settings without what follows from the data, so that they can be read again as a recipe."""
        if not hasattr(self, "config_dump"):
            self.config_dump = self.written()

    def written(self) -> dict[str, Any]:
        """Return the settings as a file holds them, without what follows from the data."""
        text = self.parser.dump(self.config, skip_link_targets=True, skip_unset=False, format="yaml")
        settings: dict[str, Any] = yaml.safe_load(text)[self.config["subcommand"]]
        return settings

    # Building

    def before_instantiate_classes(self) -> None:
        """Fix the precision and the run folder, and put the loggers into it."""
        if self.only_parse:
            return
        settings = self.config[self.subcommand]
        if self.subcommand == "fit":
            found = [problem for rule in rules.TO_TRAIN for problem in rule(settings.as_dict())]
            if found:
                raise InputError("\n".join(found))
        if settings.trainer.accelerator == "cpu" or not torch.cuda.is_available():
            keep_freed_memory()
        asked = settings.trainer.precision
        settings.trainer.precision = supported_precision(asked, settings.trainer.accelerator)
        self.precision = {"asked": str(asked), "used": str(settings.trainer.precision)}
        if is_data_parallel(settings.trainer.strategy) and runs_alone(settings.trainer):
            settings.trainer.strategy = "auto"
        settings.run.name = settings.run.name or self.call.name
        self.config_dump["run"]["name"] = settings.run.name
        if settings.trainer.fast_dev_run or self.call.output is not None or self.call.is_rehearsal:
            settings.trainer.logger = False
            return
        self.folder = self.call.run or record.new_folder(
            settings.run.directory, settings.run.name, settings.seed_everything, self.call.stage
        )
        if self.subcommand != "fit":
            settings.trainer.logger = False
        # Processes that Lightning starts run this same command and must find the same folder.
        os.environ[record.FOLDER_VARIABLE] = str(self.folder)
        place_loggers(settings.trainer.logger, self.folder)
        if self.call.run is not None and is_first_process():
            record.set_aside_metrics(self.folder)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer."""
        if self.only_parse:
            return
        super().instantiate_classes()
        arguments = self.config_dump["data"].get("init_args", {})
        if self.subcommand == "fit" and "label_names" in arguments and arguments["label_names"] is None:
            # What was found in the training data is part of the run: whoever tests or predicts has only that.
            arguments["label_names"] = list(self.datamodule.label_names)
        if checkpoint := self.config[self.subcommand].ckpt_path:
            # The checkpoint says how to build its network, so that the backbone is not needed again.
            self.model.restore_from = str(checkpoint)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with the callbacks that every run has.

        Args:
            kwargs: Arguments of the trainer in place of the recipe's.
        """
        config = self._get(self.config_init, "trainer")
        callbacks: list[Any] = [StepSeed(self.config[self.subcommand].seed_everything)]
        if self.changes:
            callbacks.append(TakeChanges())
        if not sys.stdout.isatty() and config["enable_progress_bar"] is not False:
            callbacks.append(PlainProgress())
        if self.folder is not None:
            kwargs["default_root_dir"] = str(self.folder)
            self.record = record.RunRecord(self.folder, self.config_dump, self.facts(), self.call.run is not None)
            callbacks.append(self.record)
        plugins = config["plugins"] or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        self.trainer_defaults["callbacks"] = callbacks
        trainer = super().instantiate_trainer(**kwargs)
        self.checkpoint = next(c for c in trainer.callbacks if isinstance(c, CheckpointThatCounts))  # type: ignore[attr-defined]
        return trainer

    def facts(self) -> dict[str, Any]:
        """Return what run.json says beside versions, devices and data."""
        settings = self.config[self.subcommand]
        return {
            "recipe": settings.run.name,
            "stage": self.subcommand,
            "command": record.command_line(self.call.stage, self.words),
            "seed": settings.seed_everything,
            "precision": self.precision,
            "continued_from": settings.ckpt_path if self.subcommand == "fit" else None,
            "changes": self.changes,
            "origin": str(self.call.origin) if self.call.origin else None,
        }

    # Running

    def _run_subcommand(self, subcommand: str) -> None:
        """Wait: Lightning calls this at the end of the constructor."""

    def run(self) -> None:
        """Run the stage, and tell an interruption from a failure.

        Raises:
            KeyboardInterrupt: The run was interrupted; what to do next has been said.
        """
        handler = signal.getsignal(signal.SIGINT)
        try:
            super()._run_subcommand(self.call.stage)
        except (KeyboardInterrupt, SystemExit) as error:
            if isinstance(error, SystemExit) and not self.trainer.interrupted:
                raise
            self.close("interrupted")
            if self.folder is not None and self.subcommand == "fit":
                tell(interruption(self.folder))
            raise KeyboardInterrupt from None
        except BaseException:
            self.close("failed")
            raise
        finally:
            # Lightning shuts down deaf to further Ctrl-C and leaves it so.
            signal.signal(signal.SIGINT, handler)
            if self.folder is not None and is_first_process():
                record.discard_if_unused(self.folder)
        self.close("finished")

    def close(self, status: str) -> None:
        """Write how the run ended."""
        if self.record is not None:
            self.record.close(status)

    def before_fit(self) -> None:
        """Tell the data how strict a continued run is; evaluate before training where the recipe says so."""
        settings = self.config[self.subcommand]
        self.datamodule.test_follows = settings.run.test_after_fit and self.folder is not None
        if settings.ckpt_path:
            self.datamodule.allow_changes = settings.resume.allow_changes
            if self.folder is not None and is_first_process():
                resume.take_best(Path(settings.ckpt_path), self.folder)
        elif settings.run.evaluate_before_fit and self.folder is not None:
            evaluate = self.trainer.test if settings.run.test_after_fit else self.trainer.validate
            self.model.training_follows = True
            evaluate(self.model, datamodule=self.datamodule, verbose=False)
            self.model.training_follows = False
            self.keep("before")
            show("Before training", {"before": self.model.results})

    def after_fit(self) -> None:
        """Test and export the checkpoint that counts."""
        if self.folder is None:
            return
        settings = self.config[self.subcommand]
        chosen = self.checkpoint.describe()
        collapse = getattr(self.model, "collapse_report", lambda: None)()
        if self.record is not None and self.trainer.is_global_zero:
            self.folder = self.record.folder
            self.record.note(checkpoint=chosen)
            record.save_results(
                self.folder,
                recipe=settings.run.name,
                seed=settings.seed_everything,
                checkpoint=chosen,
                collapsed=collapse,
                validate=self.checkpoint.validation_results(),
                history=self.checkpoint.history,
            )
        folder = Path(self.trainer.strategy.broadcast(str(self.folder)))
        path = folder / self.checkpoint.chosen
        if settings.run.test_after_fit:
            # FSDP2 would look for the optimiser's state in the best checkpoint, which holds weights alone.
            self.trainer.strategy.optimizers = []
            self.trainer.test(
                self.model, datamodule=self.datamodule, ckpt_path=str(path), weights_only=True, verbose=False
            )
            self.keep("test")
        if self.trainer.is_global_zero:
            self.report(folder, path, settings.run.export)
        self.trainer.strategy.barrier()

    def report(self, folder: Path, path: Path, export: bool) -> None:
        """Print the table, export, and say where everything is."""
        results = record.read_json(folder / record.RESULTS)
        columns = {stage: results[stage] for stage in ("before", "validate", "test") if results.get(stage)}
        show(f"{results['recipe']}, seed {results['seed']}, {self.headline} in percent", columns)
        chosen = results["checkpoint"]
        value = "" if chosen["value"] is None else f" ({chosen['value']:.4f})"
        print(f"checkpoint that counts: {chosen['path']}, {chosen['rule']}{value}, step {chosen['step']}")
        if results.get("collapsed"):
            print(f"COLLAPSED: {results['collapsed']}")
        if export:
            print(f"exported: {export_checkpoint(path, folder / 'export', self.config_dump, results)}")
        print(f"run folder: {folder}")

    @property
    def headline(self) -> str:
        """The score that counts, which tables show where they show one."""
        return str(getattr(self.model, "headline", "accuracy"))

    def keep(self, stage: str) -> None:
        """Write results and predictions of an evaluation."""
        if self.folder is None or not self.trainer.is_global_zero:
            return
        folder = self.record.folder if self.record is not None else self.folder
        record.save_results(folder, **{stage: self.model.results})
        record.save_predictions(folder, stage, self.model.tables)
        if self.record is not None:
            self.record.note(data=getattr(self.datamodule, "fingerprints", dict)())

    def after_validate(self) -> None:
        """Keep and print the scores."""
        self.finish_evaluation("validate")

    def after_test(self) -> None:
        """Keep and print the scores."""
        self.finish_evaluation("test")

    def finish_evaluation(self, stage: str) -> None:
        """Keep and print the scores of a checkpoint."""
        self.keep(stage)
        if not self.trainer.is_global_zero:
            return
        name = self.config[self.subcommand].run.name
        show(f"{name}: {stage}, {self.headline} in percent", {stage: self.model.results})
        if self.folder is not None:
            record.save_results(self.folder, recipe=name, origin=str(self.call.origin) if self.call.origin else None)
            print(f"run folder: {self.folder}")

    @property
    def own_formats(self) -> tuple[str, ...]:
        """The suffixes of files that the data module writes itself, instead of predictions beside rows."""
        return getattr(self.datamodule, "prediction_formats", ())

    def before_predict(self) -> None:
        """Read the rows that predictions are to stand beside, and refuse what could not be written."""
        output = self.call.output
        if output is None:
            return
        predictions.check_output(output, self.own_formats or predictions.FORMATS)
        if self.own_formats:
            return
        source, added = self.predicted_file, getattr(self.model, "prediction_columns", ())
        rows = predictions.read(source, output, added, getattr(self.datamodule, "predict_columns", lambda: None)())
        # All processes refuse alike, one writes.
        self.rows = rows if is_first_process() else None

    @property
    def predicted_file(self) -> Path:
        """The file that is predicted on."""
        path = self._get(self.config, "data").init_args.predict_path
        if path is None:
            raise InputError("--output writes predictions beside the rows of a file; name it with --input")
        return Path(path)

    def after_predict(self) -> None:
        """Write the predictions: to the file asked for, else into the run folder."""
        self.keep("predict")
        if not self.trainer.is_global_zero:
            return
        output = self.call.output
        if output is not None and self.own_formats:
            write_text(output, self.datamodule.predictions_as_text(self.model.tables))
            print(f"predictions written to {output}")
        elif output is not None:
            rows = predictions.write(self.predicted_file, self.rows, output, self.model.tables)
            print(f"{rows} rows written to {output}")
        elif self.folder is not None:
            print(f"predictions: {self.folder / 'predictions' / 'predict'}")


def place_loggers(loggers: Any, folder: Path) -> None:
    """Put loggers whose `save_dir` is relative into the run folder.

    Args:
        loggers: The trainer's `logger`, parsed and not yet built.
        folder: The run folder.
    """
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        arguments = getattr(logger, "init_args", None)
        if arguments is not None and "save_dir" in arguments:
            arguments.save_dir = str(folder / (arguments.save_dir or ""))


def interruption(folder: Path) -> str:
    """Say how an interrupted run goes on."""
    if (folder / LAST).exists():
        return f"interrupted; {folder / LAST} is whole. Continue with: ernie-m fit {folder}"
    return "interrupted before the first checkpoint; nothing to continue from"


def is_first_process() -> bool:
    """Say whether this is the process that writes."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


@rank_zero_only
def tell(message: str) -> None:
    """Print to stderr, in the first process."""
    print(f"ernie-m: {message}", file=sys.stderr)


@rank_zero_only
def show(title: str, columns: dict[str, Results]) -> None:
    """Print a table of scores, in the first process."""
    if any(columns.values()):
        print_scores(title, columns)


def main(stage: str, words: Sequence[str]) -> int:
    """Run one stage.

    Args:
        stage: `fit`, `validate`, `test` or `predict`.
        words: The arguments after it.

    Returns:
        The exit code.
    """
    prepare()
    inherited = os.environ.get(record.FOLDER_VARIABLE)
    call = parse(stage, words)
    try:
        RecipeCLI(call, words).run()
    finally:
        if inherited is None:
            os.environ.pop(record.FOLDER_VARIABLE, None)
    return 0
