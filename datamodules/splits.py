"""The parts of a data set, and which of them a trainer's stage reads."""

from enum import StrEnum


class Split(StrEnum):
    """A part of a data set, by the name that `datasets` and its files have for it."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    PREDICT = "predict"


_OF_STAGE = {
    "fit": (Split.TRAIN, Split.VALIDATION),
    "validate": (Split.VALIDATION,),
    "test": (Split.TEST,),
    "predict": (Split.PREDICT,),
}


def splits_of(stage: str) -> tuple[Split, ...]:
    """The splits that a stage reads, the one that it scores last.

    Args:
        stage: "fit", "validate", "test" or "predict", as in Lightning's hooks and `TrainerFn`.
    """
    return _OF_STAGE[stage]
