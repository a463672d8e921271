"""What a recipe says about the run itself, beside its trainer, model and data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CardRow:
    """A row of the tables in ERNIE-M's model card; none where a part is missing.

    Args:
        task: "xnli", "paws-x", "conll", "mlqa" or "tatoeba".
        setting: "Cross-lingual Transfer", "Translate-Train-All", ...
        model: "ERNIE-M", "ERNIE-M Large", "XLM-R", ...
    """

    task: str | None = None
    setting: str | None = None
    model: str | None = None


@dataclass
class RunSettings:
    """What happens around the training, and where it is kept.

    Args:
        directory: The folder under which every run gets a folder of its own, `<name>/<seed>-<time>`.
        name: The run's name; by default that of the first `--config`.
        evaluate_before_fit: Evaluate the network before it is trained, so that the table shows both.
        test_after_fit: Test the checkpoint that counts after the training.
        export: Write the checkpoint that counts as a folder for transformers after the training.
        keep_checkpoints: Keep the best and the last checkpoint beside the export. Without them a run can still test and
            predict, by its export, but not go on.
        card: The row of the model card that `ernie-m report` sets beside the run.
    """

    directory: str = "runs"
    name: str | None = None
    evaluate_before_fit: bool = False
    test_after_fit: bool = True
    export: bool = True
    keep_checkpoints: bool = True
    card: CardRow | None = None


@dataclass
class ResumeSettings:
    """How strictly a continued run is held to what it was.

    Args:
        allow_changes: Continue although settings that change the result differ from the checkpoint's.
    """

    allow_changes: bool = False
