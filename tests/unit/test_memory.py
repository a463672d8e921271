"""Running out of memory: the step again in smaller micro-batches, with the same gradient."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from ernie_m import ErnieMConfig, ErnieMForSequenceClassification
from ernie_m.errors import InputError
from lightning_modules import SentenceRetrieval, SequenceClassification
from lightning_modules.memory import MemoryLimit, is_out_of_memory

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


def batch_of(seed: int, rows: int = 8, length: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 60, (rows, length), generator=generator)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.randint(0, 2, (rows,), generator=generator),
        "example_ids": torch.arange(rows),
        "language": torch.zeros(rows, dtype=torch.int64),
        "weights": torch.ones(rows),
        "normaliser": torch.tensor(float(rows)),
    }


class Small(SequenceClassification):
    """Pretends that a forward pass over more than some tokens does not fit."""

    room = 10_000

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if batch["input_ids"].numel() > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().loss(batch)


class SmallEvaluation(SequenceClassification):
    """The same for predictions."""

    room = 10_000

    def predict_rows(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if batch["input_ids"].numel() > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().predict_rows(batch)


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = ErnieMConfig(num_hidden_layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **SIZES)
    config.id2label, config.label2id = {0: "a", 1: "b"}, {"a": 0, "b": 1}
    ErnieMForSequenceClassification(config).save_pretrained(tmp_path / "backbone")
    return tmp_path / "backbone"


def trained(backbone: Path, room: int, steps: list[list[dict[str, Any]]]) -> dict[str, Any]:
    module = Small(str(backbone), learning_rate=1e-2, adam_eps=1e-3)
    module.room = room
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=backbone.parent,
    )  # fmt: skip
    trainer.fit(module, DataLoader(steps, batch_size=None))
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("room", [25, 5])
def test_smaller_micro_batches_train_alike(room: int, backbone: Path, caplog: pytest.LogCaptureFixture) -> None:
    steps = [[batch_of(2 * i, 1, 3), batch_of(2 * i + 1)] for i in range(3)]
    for step in steps:
        for part in step:
            part["normaliser"] = torch.tensor(9.0)
    expected = trained(backbone, 10_000, steps)
    with caplog.at_level(logging.WARNING, "lightning.pytorch"):
        found = trained(backbone, room, steps)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=2e-6)
    said = [record.getMessage() for record in caplog.records if "out of memory" in record.getMessage()]
    assert "out of memory at step 0 with 8 examples of 5 tokens at once" in said[0]
    assert "the global batch and the scores stay. To start so: --data.micro_batch_tokens 20" in said[0]
    # It is learnt once and not at every step.
    assert len(said) == (1 if room == 25 else 3)


def test_the_only_micro_batch_of_a_step_is_split_too(backbone: Path) -> None:
    steps = [[batch_of(i)] for i in range(3)]
    expected = trained(backbone, 10_000, steps)
    found = trained(backbone, 12, steps)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=2e-6)


def test_a_batch_whose_tensors_are_no_rows_is_not_split_wrongly() -> None:
    limit = MemoryLimit("data.micro_batch_tokens")
    odd = batch_of(0) | {"predicted_positions": torch.arange(3)}
    limit.shrink([odd], 0)
    with pytest.raises(InputError, match="predicted_positions"):
        limit.split([odd])


def test_one_example_that_does_not_fit_is_named(backbone: Path) -> None:
    with pytest.raises(InputError, match=r"one example of 5 tokens.*gradient_checkpointing"):
        trained(backbone, 4, [[batch_of(0)]])


def test_a_batch_that_must_stay_whole_is_not_split() -> None:
    pairs = {"source_input_ids": torch.ones(4, 3), "target_input_ids": torch.ones(4, 3)}
    module = SentenceRetrieval("none")
    with pytest.raises(InputError, match=r"4 examples of 6 tokens that cannot be split.*global_batch_size"):
        module._memory_limit.shrink([pairs], 7)
    # Vectors of sentences are made row by row.
    module._eval_limit.shrink([pairs], 7)
    assert [len(part["source_input_ids"]) for part in module._eval_limit.split([pairs])] == [2, 2]


def test_an_evaluation_goes_on_in_parts(backbone: Path, caplog: pytest.LogCaptureFixture) -> None:
    batches = [batch_of(i) | {"example_ids": torch.arange(8 * i, 8 * i + 8)} for i in range(3)]
    tables = []
    for room in (10_000, 12):
        module = SmallEvaluation(str(backbone))
        module.languages, module.room = ["en"], room
        trainer = Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=backbone.parent,
        )  # fmt: skip
        with caplog.at_level(logging.WARNING, "lightning.pytorch"):
            trainer.validate(module, DataLoader(batches, batch_size=None), verbose=False)
        tables.append(module.tables["en"].to_pydict())
    assert tables[0]["example_id"] == tables[1]["example_id"] == list(range(24))
    assert tables[0]["prediction"] == tables[1]["prediction"]
    assert tables[0]["probability_a"] == pytest.approx(tables[1]["probability_a"], abs=1e-6)
    said = [record.getMessage() for record in caplog.records if "out of memory" in record.getMessage()]
    assert len(said) == 2
    assert "--data.eval_tokens_per_batch 10" in said[1]
    module.room = 4
    with pytest.raises(InputError, match="one example of 5 tokens"):
        trainer.validate(module, DataLoader(batches, batch_size=None), verbose=False)


def test_other_errors_pass(backbone: Path) -> None:
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    broken = batch_of(0)
    del broken["labels"]
    with pytest.raises(KeyError, match="labels"):
        trained(backbone, 10_000, [[broken]])


def test_a_real_allocator_that_fails_is_recognised() -> None:
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**60)
    assert is_out_of_memory(failure.value)
