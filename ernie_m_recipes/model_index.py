"""A run's test scores as the Hub reads them, in the `model-index` of a model card."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index

from .tables import MEAN, ResultsByLanguage, shown

# The Hub's names of tasks.
_TASKS = {
    "SequenceClassification": "text-classification",
    "SequenceMultiLabel": "text-classification",
    "SequenceRegression": "text-classification",
    "TokenClassification": "token-classification",
    "InformationExtraction": "token-classification",
    "QuestionAnswering": "question-answering",
    "MultipleChoice": "multiple-choice",
    "SentenceRetrieval": "sentence-similarity",
    "Pretraining": "fill-mask",
}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def model_index(name: str, config: Mapping[str, Any], test: ResultsByLanguage) -> list[dict[str, Any]]:
    """Return the scores of every language and their mean, those that tables show.

    A data set on the Hub is named by its id, any other by the class that read it: places on a machine are nobody's
    business.

    Args:
        name: The model's name.
        config: The run's settings.
        test: Language to score to value, shares between 0 and 1.

    Returns:
        `model-index` as https://huggingface.co/docs/hub/model-cards has it; empty for a task that is not known there.
    """
    task = _TASKS.get(config["model"]["class_path"].rpartition(".")[2])
    if task is None:
        return []
    data = config["data"]["class_path"].rpartition(".")[2]
    path = config["data"].get("init_args", {}).get("path")
    is_on_hub = isinstance(path, str) and _HUB_ID.fullmatch(path) is not None and not Path(path).exists()
    of_languages = {language: language for language in test if language != MEAN}
    titles = of_languages | ({MEAN: f"mean of {len(of_languages)} languages"} if len(of_languages) > 1 else {})
    results = [
        EvalResult(
            task_type=task,
            dataset_type=path if is_on_hub else data.lower(),
            dataset_name=f"{data} ({title})",
            dataset_config=of_languages.get(language),
            dataset_split="test",
            metric_type=metric,
            metric_value=round(test[language][metric], 4),
        )
        for language, title in titles.items()
        if language in test
        for metric in shown(test[language])
    ]
    index: list[dict[str, Any]] = eval_results_to_model_index(name, results) if results else []
    return index
