"""How many examples an evaluation is to predict."""

from typing import Any

from lightning.pytorch import Trainer


def expected_examples(trainer: Trainer, stage: str) -> dict[str, int]:
    """Return how many examples each language's data have, where all of them were to be run.

    Args:
        trainer: A trainer whose data module names the language of each of its loaders (`eval_languages`).
        stage: Which loaders.
    """
    data: Any = getattr(trainer, "datamodule", None)
    limits = {
        "validate": trainer.limit_val_batches,
        "test": trainer.limit_test_batches,
        "predict": trainer.limit_predict_batches,
    }
    if limits[stage] != 1.0 or trainer.sanity_checking or not hasattr(data, "eval_languages"):
        return {}
    loaders = {
        "validate": trainer.val_dataloaders,
        "test": trainer.test_dataloaders,
        "predict": trainer.predict_dataloaders,
    }[stage]
    listed = loaders if isinstance(loaders, list) else [loaders]
    datasets: list[Any] = [getattr(loader, "dataset", None) for loader in listed]
    languages: list[str] = data.eval_languages(stage)
    return {
        language: len(dataset)
        for language, dataset in zip(languages, datasets, strict=True)
        if hasattr(dataset, "__len__")
    }
