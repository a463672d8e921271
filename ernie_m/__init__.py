"""ERNIE-M for transformers 5: configuration, model, tokenizer and conversion.

Importing this package registers ERNIE-M with transformers' AutoConfig, AutoModel* and AutoTokenizer.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from .configuration import ErnieMConfig
from .errors import InputError
from .heads import (
    ErnieMForInformationExtraction,
    ErnieMForMaskedLM,
    ErnieMForMultipleChoice,
    ErnieMForQuestionAnswering,
    ErnieMForSequenceClassification,
    ErnieMForTokenClassification,
)
from .modeling import ErnieMModel, ErnieMPreTrainedModel
from .published import BUNDLED, PUBLISHED, load_tokenizer, resolve
from .tokenization import ErnieMTokenizer

AutoConfig.register("ernie_m", ErnieMConfig)
AutoModel.register(ErnieMConfig, ErnieMModel)
AutoModelForMaskedLM.register(ErnieMConfig, ErnieMForMaskedLM)
AutoModelForMultipleChoice.register(ErnieMConfig, ErnieMForMultipleChoice)
AutoModelForQuestionAnswering.register(ErnieMConfig, ErnieMForQuestionAnswering)
AutoModelForSequenceClassification.register(ErnieMConfig, ErnieMForSequenceClassification)
AutoModelForTokenClassification.register(ErnieMConfig, ErnieMForTokenClassification)
AutoTokenizer.register(ErnieMConfig, tokenizer_class=ErnieMTokenizer)

__all__ = [
    "BUNDLED",
    "PUBLISHED",
    "ErnieMConfig",
    "ErnieMForInformationExtraction",
    "ErnieMForMaskedLM",
    "ErnieMForMultipleChoice",
    "ErnieMForQuestionAnswering",
    "ErnieMForSequenceClassification",
    "ErnieMForTokenClassification",
    "ErnieMModel",
    "ErnieMPreTrainedModel",
    "ErnieMTokenizer",
    "InputError",
    "load_tokenizer",
    "resolve",
]
