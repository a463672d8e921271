"""`ernie-m fit | validate | test | predict`: what is done around the trainer, kept in the run folder and said."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import pyarrow
from lightning_utilities.core.rank_zero import rank_zero_only

from ernie_m.errors import InputError
from ernie_m.files import write_text

from . import predictions, record, resume
from .cli import RecipeCLI, announce, is_first_process
from .documents import as_written, read_json
from .export import export_checkpoint
from .preparation import prepare
from .tables import ResultsByLanguage, print_scores
from .targets import ALL_OPTIONS, BEST, LAST, parse
from .trust import TOKENIZER


class StageRun:
    """Runs the stage that a command line was resolved to, once.

    Args:
        cli: What was built from it.
    """

    def __init__(self, cli: RecipeCLI) -> None:
        self.call = cli.call
        self.settings = cli.config[cli.stage]
        self.written = cli.config_dump
        self.trainer, self.model, self.data = cli.trainer, cli.model, cli.datamodule
        self.checkpoint = cli.checkpoint
        self.record = cli.record
        self.folder = cli.folder

    def run(self) -> None:
        """Run the stage, and tell an interruption from a failure.

        Raises:
            KeyboardInterrupt: The run was interrupted; what to do next has been said.
        """
        stages: dict[str, Callable[[], None]] = {
            "fit": self.fit,
            "validate": self.evaluate,
            "test": self.evaluate,
            "predict": self.predict,
        }
        handler = signal.getsignal(signal.SIGINT)
        try:
            stages[self.call.stage]()
        except (KeyboardInterrupt, SystemExit) as error:
            if isinstance(error, SystemExit) and not self.trainer.interrupted:
                raise
            self.close("interrupted")
            if self.folder is not None and self.call.stage == "fit":
                tell(interruption(self.folder))
            raise KeyboardInterrupt from None
        except BaseException as error:
            self.close("failed")
            if self.settings.ckpt_path and is_of_restoring(error):
                with as_written(self.settings.ckpt_path):
                    raise
            raise
        finally:
            # Lightning shuts down deaf to further Ctrl-C and leaves it so.
            signal.signal(signal.SIGINT, handler)
            if self.folder is not None and self.call.run is None and is_first_process():
                record.discard_if_unused(self.folder)
        self.close("finished")

    def close(self, status: str) -> None:
        """Write how the run ended."""
        if self.record is not None:
            self.record.close(status)

    @property
    def ckpt_path(self) -> str | None:
        """The checkpoint to read, by its whole path: Lightning takes other names for words and addresses of its own."""
        return os.path.abspath(self.settings.ckpt_path) if self.settings.ckpt_path else None

    # Training

    def fit(self) -> None:
        """Train, then test and export the checkpoint that counts; evaluate before where the recipe says so."""
        self.before_fit()
        self.trainer.fit(self.model, datamodule=self.data, ckpt_path=self.ckpt_path, weights_only=True)
        if self.folder is not None:
            self.after_fit()

    def before_fit(self) -> None:
        """Tell the data how strict a continued run is; evaluate before training where the recipe says so."""
        announce(self.data, test_follows=self.settings.run.test_after_fit and self.folder is not None)
        if self.settings.ckpt_path:
            self.data.allow_changes = self.settings.resume.allow_changes
            if self.folder is not None and is_first_process():
                resume.take_best(Path(self.settings.ckpt_path), self.folder)
                if self.record is not None:
                    self.record.make_room()
        elif self.settings.run.evaluate_before_fit and self.folder is not None:
            evaluate = self.trainer.test if self.settings.run.test_after_fit else self.trainer.validate
            announce(self.model, training_follows=True)
            evaluate(self.model, datamodule=self.data, verbose=False)
            announce(self.model, training_follows=False)
            self.keep("before")
            show("Before training", {"before": self.model.results})

    def after_fit(self) -> None:
        """Test and export the checkpoint that counts."""
        chosen = self.checkpoint.describe()
        collapse = getattr(self.model, "collapse_report", lambda: None)()
        if self.record is not None and self.trainer.is_global_zero:
            self.folder = self.record.folder
            self.record.note(checkpoint=chosen)
            record.save_results(
                self.folder,
                recipe=self.settings.run.name,
                seed=self.settings.seed_everything,
                checkpoint=chosen,
                collapsed=collapse,
                validate=self.checkpoint.validation_results(),
                history=self.checkpoint.history,
            )
        folder = Path(self.trainer.strategy.broadcast(str(self.folder)))
        path = folder / self.checkpoint.chosen
        if self.settings.run.test_after_fit:
            # FSDP2 would look for the optimiser's state in the best checkpoint, which holds weights alone.
            self.trainer.strategy.optimizers = []
            self.trainer.test(
                self.model, datamodule=self.data, ckpt_path=os.path.abspath(path), weights_only=True, verbose=False
            )
            self.keep("test")
        if self.trainer.is_global_zero:
            self.report(folder, path)
        self.trainer.strategy.barrier()

    def report(self, folder: Path, path: Path) -> None:
        """Print the table, export, and say where everything is."""
        results = read_json(folder / record.RESULTS)
        columns = {stage: results[stage] for stage in ("before", "validate", "test") if results.get(stage)}
        show(f"{results['recipe']}, seed {results['seed']}, {self.headline} in percent", columns)
        chosen = results["checkpoint"]
        value = "" if chosen["value"] is None else f" ({chosen['value']:.4f})"
        print(f"checkpoint that counts: {chosen['path']}, {chosen['rule']}{value}, step {chosen['step']}")
        if results.get("collapsed"):
            print(f"COLLAPSED: {results['collapsed']}")
        if self.settings.run.export:
            settings = self.settings.as_dict()
            target = export_checkpoint(
                path, folder / "export", settings, results, type(self.model), self.written, self.own_tokenizer(folder)
            )
            print(f"exported: {target}")
        self.tidy(folder)
        print(f"run folder: {folder}")

    def tidy(self, folder: Path) -> None:
        """Say what the run takes on the disk, and remove its checkpoints where they are not to be kept."""
        kept = {name: folder / name for name in (BEST, LAST) if (folder / name).is_file()}
        sizes = ", ".join(f"{path.as_posix()} {shown_size(kept[path])}" for path in kept)
        if self.settings.run.keep_checkpoints:
            print(f"kept: {sizes}" + ("; --run.keep_checkpoints=false keeps the export alone" if sizes else ""))
            return
        for path in kept.values():
            path.unlink()
        print(f"removed, as run.keep_checkpoints is false: {sizes}")

    def own_tokenizer(self, folder: Path) -> str | None:
        """Return the tokenizer in the folder of a run that was continued; None where a person named one."""
        is_named = self.call.run is None or self.call.names("tokenizer")
        return None if is_named or not (folder / TOKENIZER).is_dir() else str(folder / TOKENIZER)

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
        if confusion := getattr(self.model, "confusion", {}):
            record.save_confusion(folder, stage, self.model.label_names, confusion)
        record.save_predictions(folder, stage, self.model.tables)
        if self.record is not None:
            self.record.note(data=getattr(self.data, "fingerprints", dict)())

    # Evaluation

    def evaluate(self) -> None:
        """Validate or test a checkpoint; keep and print the scores."""
        stage = self.call.stage
        run = self.trainer.validate if stage == "validate" else self.trainer.test
        run(self.model, datamodule=self.data, ckpt_path=self.ckpt_path, weights_only=True, verbose=False)
        self.keep(stage)
        if not self.trainer.is_global_zero:
            return
        name = self.settings.run.name
        show(f"{name}: {stage}, {self.headline} in percent", {stage: self.model.results})
        if self.folder is not None:
            record.save_results(self.folder, recipe=name, origin=str(self.call.origin) if self.call.origin else None)
            print(f"run folder: {self.folder}")

    # Prediction

    def predict(self) -> None:
        """Predict, and write to the file asked for, else into the run folder."""
        rows = self.rows_beside()
        self.trainer.predict(
            self.model,
            datamodule=self.data,
            ckpt_path=self.ckpt_path,
            weights_only=True,
            return_predictions=False,
        )
        self.keep("predict")
        if not self.trainer.is_global_zero:
            return
        output = self.call.output
        if output is not None and self.own_formats:
            write_text(output, self.data.predictions_as_text(self.model.tables, output.suffix))
            print(f"predictions written to {output}")
        elif output is not None:
            count = predictions.write(self.predicted_file, rows, output, self.model.tables)
            print(f"{count} rows written to {output}")
        elif self.folder is not None:
            print(f"predictions: {self.folder / 'predictions' / 'predict'}")

    def rows_beside(self) -> pyarrow.Table | None:
        """Read the rows that predictions are to stand beside, and refuse what could not be written.

        Returns:
            The rows; None where there are none, and in all processes but the first.
        """
        output = self.call.output
        if output is None:
            return None
        predictions.check_output(output, self.own_formats or predictions.FORMATS)
        if self.own_formats:
            getattr(self.data, "check_output", lambda suffix: None)(output.suffix)
            return None
        source, added = self.predicted_file, getattr(self.model, "prediction_columns", ())
        rows = predictions.read(source, output, added, getattr(self.data, "predict_columns", lambda: None)())
        # All processes refuse alike, one writes.
        return rows if is_first_process() else None

    @property
    def own_formats(self) -> tuple[str, ...]:
        """The suffixes of files that the data module writes itself, instead of predictions beside rows."""
        return getattr(self.data, "prediction_formats", ())

    @property
    def predicted_file(self) -> Path:
        """The file that is predicted on."""
        path = self.settings.data.init_args.predict_path
        if path is None:
            raise InputError("--output writes predictions beside the rows of a file; name it with --input")
        return Path(path).expanduser()


def shown_size(path: Path) -> str:
    """Return how large a file is, in megabytes."""
    return f"{path.stat().st_size / 1e6:,.1f} MB"


def is_of_restoring(error: BaseException) -> bool:
    """Say whether an error came up while Lightning restored a checkpoint."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).name == "checkpoint_connector.py" for frame in frames)


def interruption(folder: Path) -> str:
    """Say how an interrupted run goes on."""
    if (folder / LAST).exists():
        return f"interrupted; {folder / LAST} is whole. Continue with: ernie-m fit {folder}"
    return "interrupted before the first checkpoint; nothing to continue from"


@rank_zero_only
def tell(message: str) -> None:
    """Print to stderr, in the first process."""
    print(f"ernie-m: {message}", file=sys.stderr)


@rank_zero_only
def show(title: str, columns: dict[str, ResultsByLanguage]) -> None:
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
    if call.asks_for_help and not call.asks_for_help_on_a_class and ALL_OPTIONS not in words:
        from .options import show as show_options

        return show_options(call, words)
    call.arguments = ["--help" if word == ALL_OPTIONS else word for word in call.arguments]
    try:
        with nullcontext() if call.folder is None else as_written(call.folder):
            cli = RecipeCLI(call, words)
        StageRun(cli).run()
    finally:
        if inherited is None:
            os.environ.pop(record.FOLDER_VARIABLE, None)
    return 0
