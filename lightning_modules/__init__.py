"""Tasks as Lightning modules, with their optimiser and scores."""

from .information_extraction import InformationExtraction
from .module import TaskModule
from .multiple_choice import MultipleChoice
from .pretraining import Pretraining
from .question_answering import QuestionAnswering
from .sentence_retrieval import SentenceRetrieval
from .sequence_classification import SequenceClassification
from .sequence_multi_label import SequenceMultiLabel
from .sequence_regression import SequenceRegression
from .token_classification import TokenClassification

__all__ = [
    "InformationExtraction",
    "MultipleChoice",
    "Pretraining",
    "QuestionAnswering",
    "SentenceRetrieval",
    "SequenceClassification",
    "SequenceMultiLabel",
    "SequenceRegression",
    "TaskModule",
    "TokenClassification",
]
