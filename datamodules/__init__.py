"""Data modules: one per data set or kind of task, with their batching and collation."""

from ._guard import check_not_shadowed
from .base import TaskDataModule
from .batching import EvalBatchSampler, MicroBatch, TrainBatchSampler
from .pair_classification import PairClassification
from .parallel_text import ParallelText
from .xnli import XNLI

check_not_shadowed()

__all__ = [
    "XNLI",
    "EvalBatchSampler",
    "MicroBatch",
    "PairClassification",
    "ParallelText",
    "TaskDataModule",
    "TrainBatchSampler",
]
