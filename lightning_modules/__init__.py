"""Tasks as Lightning modules, with their optimiser and scores."""

from .base import TaskModule
from .sentence_retrieval import SentenceRetrieval
from .sequence_classification import SequenceClassification
from .token_classification import TokenClassification

__all__ = ["SentenceRetrieval", "SequenceClassification", "TaskModule", "TokenClassification"]
