"""The multiple-choice task through a Trainer, on tiny random models of every family."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.metrics import accuracy_score
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForMultipleChoice,
    BertConfig,
    BertForMaskedLM,
    XLMConfig,
    XLMModel,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaForMultipleChoice,
)

from ernie_m import ErnieMConfig, ErnieMForMultipleChoice, ErnieMForSequenceClassification, ErnieMModel
from ernie_m.errors import InputError
from lightning_modules import MultipleChoice
from lightning_modules.memory import MemoryLimit

NAMES = ["first", "second", "third"]
SIZES = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
PAD = 1


def batch_of(rows: int, seed: int, language: int = 0) -> dict[str, torch.Tensor]:
    """Three choices of other lengths in every row; the right one has a token that no other has."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (rows,), generator=generator)
    ids = torch.randint(10, 60, (rows, 3, 7), generator=generator)
    ids[:, :, 0] = 0
    ids[:, :, 1] = 4
    ids[torch.arange(rows), labels, 1] = 5
    lengths = torch.randint(3, 8, (rows, 3), generator=generator)
    mask = torch.arange(7) < lengths[..., None]
    return {
        "input_ids": ids.masked_fill(~mask, PAD),
        "attention_mask": mask.long(),
        "labels": labels,
        "example_ids": torch.arange(rows),
        "language": torch.full((rows,), language),
        "weights": torch.ones(rows),
    }


def save(folder: Path, network: Any) -> Path:
    network.save_pretrained(folder)
    return folder


def encoder(folder: Path, **fields: Any) -> Path:
    torch.manual_seed(0)
    return save(folder, ErnieMModel(ErnieMConfig(**SIZES, **STILL, **fields)))


def module_of(backbone: Path | str, **arguments: Any) -> MultipleChoice:
    module = MultipleChoice(backbone=str(backbone), **({"label_names": NAMES} | arguments))
    module.languages = ["en", "de"]
    return module


def trainer_of(folder: Path, **arguments: Any) -> Trainer:
    quiet = {
        "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
        "enable_checkpointing": False, "num_sanity_val_steps": 0, "max_epochs": 1, "default_root_dir": folder,
    }  # fmt: skip
    return Trainer(**(quiet | arguments))


def training(steps: int, rows: int = 16) -> DataLoader:
    batches = [batch_of(rows, step) | {"normaliser": torch.tensor(float(rows))} for step in range(steps)]
    return DataLoader([[batch] for batch in batches], batch_size=None)


def evaluation(languages: int = 1, rows: int = 12) -> DataLoader:
    return DataLoader([batch_of(rows, 900 + one, one) for one in range(languages)], batch_size=None)


@pytest.mark.parametrize("family", ["ernie_m", "xlm-roberta"])
def test_loss_and_gradient_are_those_of_the_head_however_the_batch_is_cut(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = (
        ErnieMForMultipleChoice(ErnieMConfig(initializer_range=0.3, **SIZES, **STILL))
        if family == "ernie_m"
        else XLMRobertaForMultipleChoice(XLMRobertaConfig(initializer_range=0.3, **SIZES, **STILL))
    )
    module = module_of(save(tmp_path, network))
    module.configure_model()
    batch = batch_of(8, 3)
    reference = AutoModelForMultipleChoice.from_pretrained(tmp_path).train()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    expected = reference(**inputs).loss
    expected.backward()
    total = 0.0
    for part in (slice(0, 1), slice(1, 6), slice(6, 8)):
        # A filler of weight 0 changes nothing.
        cut = {name: torch.cat([values[part], values[:1]]) for name, values in batch.items()}
        cut["weights"][-1] = 0.0
        loss = module.loss(cut | {"normaliser": torch.tensor(8.0)})
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(expected.item(), abs=1e-6)
    for (name, ours), (_, theirs) in zip(module.network.named_parameters(), reference.named_parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_learns_and_scores_each_language(tmp_path: Path) -> None:
    module = module_of(encoder(tmp_path / "backbone", initializer_range=0.2), learning_rate=1e-2, layer_decay=1.0)
    trainer = trainer_of(tmp_path)
    trainer.fit(module, training(60), evaluation(2))
    assert module.results["en"]["accuracy"] > 0.9
    assert module.results["mean"]["collapsed"] == 0.0
    table = module.tables["de"]
    assert table.column_names == ["example_id", "label", *module.prediction_columns]
    columns = table.to_pydict()
    assert module.results["de"]["accuracy"] == accuracy_score(columns["label"], columns["prediction"])
    majority = max(map(columns["label"].count, NAMES)) / 12
    assert module.results["de"]["chance"] == pytest.approx(majority)
    for row in range(12):
        of_row = [columns[f"probability_{name}"][row] for name in NAMES]
        assert sum(of_row) == pytest.approx(1.0)
        assert columns["prediction"][row] == NAMES[of_row.index(max(of_row))]
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = MultipleChoice.load_from_checkpoint(tmp_path / "last.ckpt")
    again.languages = ["en", "de"]
    trainer_of(tmp_path).predict(again, DataLoader([batch_of(12, 901) | {"labels": torch.full((12,), -100)}], None))
    assert again.tables["en"]["prediction"].to_pylist() == columns["prediction"]
    assert again.tables["en"]["label"].null_count == 12
    assert again.results == {}


def test_a_run_that_always_takes_one_place_collapsed(tmp_path: Path) -> None:
    module = module_of(encoder(tmp_path / "backbone"), learning_rate=1e-8)
    trainer_of(tmp_path).fit(module, training(1), evaluation(rows=400))
    assert "stayed at chance" in (module.collapse_report() or "")


def test_examples_without_a_prediction_are_wrong(tmp_path: Path) -> None:
    module = module_of(encoder(tmp_path))
    rows = {
        "language": torch.zeros(2, dtype=torch.int64),
        "example_ids": torch.tensor([0, 2]),
        "labels": torch.tensor([1, 0]),
        "probabilities": torch.tensor([[0.1, 0.8, 0.1], [0.2, 0.5, 0.3]]),
    }
    _, result = module.score(rows, missing=2)
    assert (result["accuracy"], result["examples"], result["missing"]) == (0.25, 4.0, 2.0)


FAMILIES = {
    "bert": lambda: BertForMaskedLM(BertConfig(**SIZES)),
    "xlm": lambda: XLMModel(
        XLMConfig(
            vocab_size=60, emb_dim=16, n_layers=2, n_heads=2, n_langs=2, lang2id={"de": 1, "en": 0}, pad_index=PAD
        )
    ),
    "xlm-roberta": lambda: XLMRobertaForMaskedLM(XLMRobertaConfig(**SIZES)),
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_other_families_train_and_predict(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = module_of(save(tmp_path / "backbone", FAMILIES[family]()))
    trainer_of(tmp_path).fit(module, training(2), evaluation(2))
    assert module.results["mean"]["examples"] == 24
    assert module.network.config.model_type == family


def test_only_a_head_of_this_task_counts_as_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ErnieMConfig(num_labels=1, **SIZES)
    own, other = ErnieMForMultipleChoice(config), ErnieMForSequenceClassification(config)
    module = module_of(save(tmp_path / "own", own))
    trainer_of(tmp_path).test(module, evaluation(), verbose=False)
    torch.testing.assert_close(module.network.classifier.weight, own.classifier.weight)
    for folder, network, new_head in (("own", own, True), ("other", other, False), ("bare", own.ernie_m, False)):
        module = module_of(save(tmp_path / folder, network), new_head=new_head)
        module.configure_model()
        if folder != "bare":
            assert not torch.equal(module.network.classifier.weight, network.classifier.weight)
        with pytest.raises(InputError, match="no trained head"):
            trainer_of(tmp_path).test(module, evaluation(), verbose=False)


def test_a_batch_that_does_not_fit_is_cut_by_the_tokens_of_all_choices() -> None:
    limit = MemoryLimit("data.micro_batch_tokens")
    batch = batch_of(8, 0) | {"normaliser": torch.tensor(8.0)}
    limit.shrink([batch], step=1)
    parts = limit.split([batch])
    assert [part["input_ids"].shape for part in parts] == [(4, 3, 7), (4, 3, 7)]
