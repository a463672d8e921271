"""Data modules: one per data set or kind of task, with their batching and collation."""

import warnings
from typing import Any

from . import _guard as _guard
from .answer_choices import AnswerChoices
from .base import TaskDataModule
from .batching import EvalBatchSampler, MicroBatch, TrainBatchSampler
from .conll import CoNLL
from .extractive_questions import ExtractiveQuestions
from .mlqa import MLQA
from .multilingual import Multilingual
from .panx import PANX
from .parallel_text import ParallelText
from .paws_x import PAWSX
from .prompted_spans import PromptedSpans
from .sib200 import SIB200
from .splits import Split
from .tatoeba import Tatoeba
from .text_classification import TextClassification
from .text_multi_label import TextMultiLabel
from .text_regression import TextRegression
from .token_labels import TokenLabels
from .tydiqa import TyDiQA
from .udpos import UDPOS
from .xcopa import XCOPA
from .xnli import XNLI
from .xquad import XQuAD

__all__ = [
    "MLQA",
    "PANX",
    "PAWSX",
    "SIB200",
    "UDPOS",
    "XCOPA",
    "XNLI",
    "AnswerChoices",
    "CoNLL",
    "EvalBatchSampler",
    "ExtractiveQuestions",
    "MicroBatch",
    "Multilingual",
    "ParallelText",
    "PromptedSpans",
    "Split",
    "TaskDataModule",
    "Tatoeba",
    "TextClassification",
    "TextMultiLabel",
    "TextRegression",
    "TokenLabels",
    "TrainBatchSampler",
    "TyDiQA",
    "XQuAD",
]

# Recipes and the settings of runs name classes; those that were made with the former names stay good.
RENAMED = {"PairClassification": TextClassification, "QuestionAnswering": ExtractiveQuestions}


def __getattr__(name: str) -> Any:
    if name not in RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"datamodules.{name} is called {RENAMED[name].__name__} now", FutureWarning, stacklevel=2)
    return RENAMED[name]
