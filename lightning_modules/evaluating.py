"""How a task evaluates: predictions kept by language and example, scores, and the verdict on a training."""

from typing import Any, ClassVar

import pyarrow as pa
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from transformers import PreTrainedConfig

from ernie_m.errors import InputError

from . import processes
from .collapse import DevelopmentRecord
from .memory import MemoryLimit
from .metrics import COUNTS, LanguageScores, ScoresByLanguage
from .networks import Batch
from .stepping import SteppingModule

_PREFIX = {"validate": "val", "test": "test"}
_NOT_LOGGED = (*COUNTS, "chance")


class EvaluatingModule(SteppingModule):
    """The half of a task that scores a network; a task says what it predicts, and how one language is scored.

    After an evaluation every process holds

    - `tables`: language to a `pyarrow.Table` with one row per example, `example_id` ascending;
    - `results`: language to its scores (the task's `headline` before others; `examples`; `chance`:
      what guessing gives), and `mean` over the languages. Logged as `val/<language>/accuracy` and `val/accuracy`,
      `test/...` alike.
    """

    backbone: str
    training_follows: bool
    score_names: ClassVar[tuple[str, ...]] = ()
    """What scores may be called, that which counts first: `checkpoint.monitor` is one of them. Empty: not known."""

    def __init__(self) -> None:
        super().__init__()
        self.languages: list[str] = []
        self.tables: dict[str, pa.Table] = {}
        self.results: LanguageScores = {}
        self.predictions = ScoresByLanguage(self.score, prepare=self._prepare)
        self._random_parameters: list[str] = []
        self._eval_limit = MemoryLimit("data.eval_tokens_per_batch")
        self._stage = "validate"
        self._record = DevelopmentRecord()

    # What a task defines

    @property
    def headline(self) -> str:
        """The score that counts."""
        return self.score_names[0] if self.score_names else "accuracy"

    def predict_rows(self, batch: Batch) -> Batch:
        """Return what one batch adds to the tables: tensors with one row per example. (batch, ...)."""
        raise NotImplementedError

    def score(self, rows: Batch, missing: int) -> tuple[pa.Table, dict[str, float]]:
        """Make one language's table and its scores, none where there are no references.

        Args:
            rows: What `predict_rows` returned, each example once, sorted by example id.
            missing: How many examples of the language got no prediction; they count as wrong.
        """
        raise NotImplementedError

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The fields of the configuration that `calibrate` chooses: weights are loaded and exported with them.

        A training of other weights begins without.
        """
        return ()

    def calibrate(self, rows: Batch) -> None:
        """Choose what predictions depend on beside the weights, such as a threshold; development data are scored after.

        Called after every validation of a training. What is chosen belongs into the network's configuration, which
        checkpoints and exports keep.

        Args:
            rows: What `predict_rows` returned of the training's languages, or of all where none of them is validated;
                each example once, the same on every process.
        """

    def head_path(self, config: PreTrainedConfig) -> str | None:
        """Return the dotted path of the layer that no backbone has, only a network fine-tuned for this task.

        Args:
            config: The network's configuration.

        Returns:
            The path; None where the task needs no such layer.
        """
        return None

    @property
    def prediction_columns(self) -> list[str]:
        """The columns of `tables` that stand beside the rows of a file that was predicted on; none where unknown."""
        return []

    def references(self, rows: Batch) -> pa.Table:
        """Return what the data module keeps for scoring one language, where it does: texts, that is.

        Args:
            rows: The language's rows, as `score` gets them.
        """
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        table: pa.Table = datamodule.references(self._stage, self.language_of(rows))
        return table

    def language_of(self, rows: Batch) -> str:
        """Return the language of one language's rows, as `score` gets them; its index where it has no name."""
        index = int(rows["language"][0])
        return self.languages[index] if index < len(self.languages) else str(index)

    # Lightning's hooks

    def on_test_start(self) -> None:
        """Refuse to score a head that was never trained."""
        self._refuse_random_head("test")

    def on_predict_start(self) -> None:
        """Refuse to predict with a head that was never trained."""
        self._refuse_random_head("predict")

    def on_validation_start(self) -> None:
        """Warn where a head that was never trained is validated, other than at the start of its training."""
        if self.trainer.state.fn == "validate" and self._has_random_head() and not self.training_follows:
            rank_zero_warn(f"the head of {self.backbone!r} is random: expect the scores of guessing")

    def _has_random_head(self) -> bool:
        return f"{self.head_path(self.network.config)}.weight" in self._random_parameters

    def _refuse_random_head(self, command: str) -> None:
        if not self.training_follows and any("pooler" not in name for name in self._random_parameters):
            rank_zero_warn(f"{command}: weights of the network are random, for they were neither loaded nor trained")
        if self._has_random_head() and not self.training_follows:
            raise InputError(
                f"{command}: {self.backbone!r} has no trained head, so its answers would be random. Give a "
                "checkpoint (--ckpt_path), a fine-tuned folder or Hub id as backbone, or init_from"
            )

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep one batch's predictions for the end of the evaluation.

        A device that runs out of memory takes the batch again in parts.

        Args:
            batch: The batch.
            batch_idx: Its number.
            dataloader_idx: The language's number.

        Raises:
            InputError: A single example does not fit.
        """
        found = self._eval_limit.attempt(
            [batch],
            lambda parts: [self.predict_rows(part) for part in parts],
            self.trainer.global_step,
            self._may_retry,
        )
        for rows in found:
            self.predictions.update(**rows)

    test_step = validation_step

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> int:
        """Keep one batch's predictions, and return their number: Lightning warns of a step that returns nothing."""
        self.validation_step(batch, batch_idx, dataloader_idx)
        return len(batch["example_ids"])

    def on_validation_epoch_start(self) -> None:
        """Forget the rows of the evaluation before; no checkpoint is made of weights that are not finite."""
        self._check_losses()
        self.predictions.reset()

    on_test_epoch_start = on_validation_epoch_start
    on_predict_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Score the development data, and remember what was reached."""
        self._finish("validate")
        if not self.trainer.sanity_checking and self.trainer.state.fn == "fit":
            self._record.note(self.results, self.headline)

    def on_test_epoch_end(self) -> None:
        """Score the test data."""
        self._finish("test")

    def on_predict_epoch_end(self) -> None:
        """Make the tables of the predictions."""
        self._finish("predict")

    def _finish(self, stage: str) -> None:
        """Make tables and scores of the rows of all processes, and log them."""
        self._stage = stage
        self.predictions.languages = self.languages
        self.predictions.expected = expected_examples(self.trainer, stage)
        self.results, self.tables = self.predictions.compute()
        self.predictions.reset()
        if stage != "predict":
            self._log_results(_PREFIX[stage])

    def _prepare(self, rows: Batch) -> None:
        if self._stage != "validate" or self.trainer.sanity_checking or self.trainer.state.fn != "fit":
            return
        trained = [self.languages.index(name) for name in self._trained_languages() or [] if name in self.languages]
        chosen = torch.isin(rows["language"], torch.tensor(trained, dtype=torch.int64))
        self.calibrate({name: values[chosen] for name, values in rows.items()} if bool(chosen.any()) else rows)

    def _log_results(self, prefix: str) -> None:
        for language, result in self.results.items():
            start = prefix if language == "mean" else f"{prefix}/{language}"
            values = {f"{start}/{name}": value for name, value in result.items() if name not in _NOT_LOGGED}
            # Every process has the same values, so there is nothing to average, but Lightning asks for it.
            self.log_dict(values, sync_dist=self.trainer.world_size > 1, batch_size=1)

    def on_train_start(self) -> None:
        """Take the head for trained from here on, and forget what was chosen for other weights."""
        super().on_train_start()
        if self.trainer.global_step == 0:
            for name in self.calibrated:
                vars(self.network.config).pop(name, None)
        self._random_parameters = []

    def on_train_end(self) -> None:
        """Check the last losses, and warn of a run that learnt nothing."""
        self._check_losses()
        report = self.collapse_report()
        if "mean" in self.results and self._record.best:
            self.results["mean"]["collapsed"] = float(report is not None)
        if said := report or self._record.hint(self._trained_languages()):
            rank_zero_warn(said)

    def _trained_languages(self) -> list[str] | None:
        return getattr(getattr(processes.trainer_of(self), "datamodule", None), "train_languages", None)

    def collapse_report(self) -> str | None:
        """Say whether the run stayed at chance on the development data of its training languages.

        Returns:
            A message with what to try; None where the run learnt something or those data were not validated.
        """
        return self._record.verdict(self._trained_languages())


def takes_all(limit: float | None) -> bool:
    """Tell whether a trainer's `limit_*_batches` leaves no batch out: 1.0 is all of them, 1 is one batch.

    Args:
        limit: The option; None for its default.
    """
    return limit is None or (isinstance(limit, float) and limit == 1.0)


def expected_examples(trainer: Trainer, stage: str) -> dict[str, int]:
    """Return how many examples each language's data have, where all of them were to be run.

    Args:
        trainer: A trainer whose data module names the language of each of its loaders (`eval_languages`).
        stage: Which loaders.
    """
    data: Any = getattr(trainer, "datamodule", None)
    limit, loaders = {
        "validate": (trainer.limit_val_batches, trainer.val_dataloaders),
        "test": (trainer.limit_test_batches, trainer.test_dataloaders),
        "predict": (trainer.limit_predict_batches, trainer.predict_dataloaders),
    }[stage]
    if not takes_all(limit) or trainer.sanity_checking or not hasattr(data, "eval_languages"):
        return {}
    datasets: list[Any] = [
        getattr(loader, "dataset", None) for loader in (loaders if isinstance(loaders, list) else [loaders])
    ]
    named = zip(data.eval_languages(stage), datasets, strict=True)
    return {language: len(dataset) for language, dataset in named if hasattr(dataset, "__len__")}
