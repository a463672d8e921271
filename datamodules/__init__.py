"""Data modules: one per data set or kind of task, with their batching and collation."""

from . import _guard as _guard
from .base import TaskDataModule
from .batching import EvalBatchSampler, MicroBatch, TrainBatchSampler
from .conll import CoNLL
from .mlqa import MLQA
from .pair_classification import PairClassification
from .parallel_text import ParallelText
from .paws_x import PAWSX
from .question_answering import QuestionAnswering
from .tatoeba import Tatoeba
from .token_labels import TokenLabels
from .xnli import XNLI

__all__ = [
    "MLQA",
    "PAWSX",
    "XNLI",
    "CoNLL",
    "EvalBatchSampler",
    "MicroBatch",
    "PairClassification",
    "ParallelText",
    "QuestionAnswering",
    "TaskDataModule",
    "Tatoeba",
    "TokenLabels",
    "TrainBatchSampler",
]
