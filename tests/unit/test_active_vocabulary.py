"""Training only the embedding rows in use gives what training all of them gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader
from transformers import BertConfig, BertModel, XLMConfig, XLMModel, XLMRobertaConfig, XLMRobertaModel

from ernie_m import ErnieMConfig, ErnieMForMaskedLM, ErnieMModel
from ernie_m.errors import InputError
from lightning_modules import SequenceClassification
from lightning_modules.active_vocabulary import ActiveEmbedding, shrink_to_active

SIZES = {"vocab_size": 80, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
LABELS = ["a", "b"]
USED = (0, 1, 2, *range(20, 40), 79)
EMBEDDINGS = "network.ernie_m.embeddings.word_embeddings.weight"


def batch_of(seed: int, ids: tuple[int, ...] = USED) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.tensor(ids)[torch.randint(0, len(ids), (6, 5), generator=generator)]
    return {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "labels": torch.randint(0, 2, (6,), generator=generator),
        "example_ids": torch.arange(6),
        "language": torch.zeros(6, dtype=torch.int64),
        "weights": torch.ones(6),
    }


class Data(LightningDataModule):
    """Six steps an epoch; the test data use ids that the others lack."""

    languages = ("en",)

    def token_ids(self) -> np.ndarray:
        return np.array(USED)

    def train_dataloader(self) -> DataLoader:
        return DataLoader([[batch_of(i) | {"normaliser": torch.tensor(6.0)}] for i in range(6)], batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader([batch_of(90)], batch_size=None)

    def test_dataloader(self) -> DataLoader:
        return DataLoader([batch_of(91, tuple(range(80)))], batch_size=None)


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    # Dropout would draw other numbers in a continued run.
    config = ErnieMConfig(num_hidden_layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **SIZES)
    ErnieMModel(config).save_pretrained(tmp_path / "backbone")
    return tmp_path / "backbone"


def run(
    folder: Path, backbone: Path, active: bool, checkpoint: Path | None = None, clip: float = 0.0, **arguments: Any
):
    torch.manual_seed(5)
    module = SequenceClassification(
        str(backbone), label_names=LABELS, active_vocabulary=active, learning_rate=1e-2, **arguments
    )
    keep = ModelCheckpoint(folder / str(active), filename="{step}", save_top_k=-1, every_n_train_steps=6)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        max_epochs=2,
        gradient_clip_val=clip or None,
        default_root_dir=folder,
        callbacks=[keep],
    )
    trainer.fit(module, datamodule=Data(), ckpt_path=checkpoint, weights_only=True)
    return trainer, module


def saved(folder: Path, active: bool, step: int = 12) -> dict[str, Any]:
    return torch.load(folder / str(active) / f"step={step}.ckpt", weights_only=True)


def differences(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    weights = max(
        float((one["state_dict"][name] - other["state_dict"][name]).abs().max()) for name in one["state_dict"]
    )
    states = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (one, other)]
    assert states[0].keys() == states[1].keys()
    moments = max(
        float((states[0][index][key] - states[1][index][key]).abs().max())
        for index in states[0]
        for key in ("exp_avg", "exp_avg_sq", "step")
    )
    return weights, moments


def test_without_decay_and_clipping_all_bits_are_the_same(tmp_path: Path, backbone: Path) -> None:
    before = ErnieMModel.from_pretrained(backbone).embeddings.word_embeddings.weight.detach().clone()
    _, dense = run(tmp_path, backbone, active=False)
    _, active = run(tmp_path, backbone, active=True)
    assert differences(saved(tmp_path, False), saved(tmp_path, True)) == (0.0, 0.0)
    assert dense.results == active.results
    matrix = saved(tmp_path, True)["state_dict"][EMBEDDINGS]
    unused = torch.tensor(sorted(set(range(80)) - set(USED)))
    assert torch.equal(matrix[unused], before[unused])
    assert not torch.equal(matrix[20:40], before[20:40])


@pytest.mark.parametrize("variant", ["baidu", "paddlenlp"])
def test_decay_of_rows_not_in_use_is_made_up_for(variant: str, tmp_path: Path, backbone: Path) -> None:
    before = ErnieMModel.from_pretrained(backbone).embeddings.word_embeddings.weight.detach().clone()
    for active in (False, True):
        run(tmp_path, backbone, active, weight_decay=0.3, decay_variant=variant)
    weights, moments = differences(saved(tmp_path, False), saved(tmp_path, True))
    assert weights < 1e-6
    assert moments < 1e-6
    assert (saved(tmp_path, True)["state_dict"][EMBEDDINGS][50] - before[50]).abs().max() > 1e-5


def test_clipping_differs_by_rounding_alone(tmp_path: Path, backbone: Path) -> None:
    for active in (False, True):
        run(tmp_path, backbone, active, clip=0.01)
    weights, moments = differences(saved(tmp_path, False), saved(tmp_path, True))
    assert weights < 1e-6
    assert moments < 1e-6


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
def test_a_run_continues_with_and_without(first: bool, second: bool, tmp_path: Path, backbone: Path) -> None:
    run(tmp_path / "whole", backbone, active=False, weight_decay=0.3)
    run(tmp_path / "first", backbone, first, weight_decay=0.3)
    run(tmp_path / "second", backbone, second, tmp_path / "first" / str(first) / "step=6.ckpt", weight_decay=0.3)
    weights, moments = differences(saved(tmp_path / "whole", False), saved(tmp_path / "second", second))
    assert weights < 1e-6
    assert moments < 1e-6


def test_the_whole_matrix_is_back_after_training(tmp_path: Path, backbone: Path) -> None:
    trainer, module = run(tmp_path, backbone, active=True)
    embeddings = module.network.get_input_embeddings()
    assert type(embeddings) is torch.nn.Embedding
    assert embeddings.padding_idx == 1
    assert torch.equal(embeddings.weight, saved(tmp_path, True)["state_dict"][EMBEDDINGS])
    trainer.test(module, datamodule=Data(), verbose=False)
    assert module.results["en"]["examples"] == 6


@pytest.mark.parametrize(
    "network",
    [
        lambda: XLMRobertaModel(XLMRobertaConfig(num_hidden_layers=1, **SIZES)),
        lambda: BertModel(BertConfig(num_hidden_layers=1, **SIZES)),
        lambda: XLMModel(XLMConfig(vocab_size=80, emb_dim=16, n_layers=1, n_heads=2)),
    ],
    ids=["xlm-r", "bert", "xlm"],
)
def test_other_families_compute_the_same(network: Any) -> None:
    torch.manual_seed(0)
    model = network().eval()
    ids = batch_of(1)["input_ids"]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        expected = model(ids).last_hidden_state
        shrink_to_active(model, torch.tensor(USED))
        assert torch.equal(model(ids).last_hidden_state, expected)
    assert len(model.get_input_embeddings().weight) == len(set(USED) | {model.config.pad_token_id})
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_network_that_predicts_tokens_is_refused() -> None:
    model = ErnieMForMaskedLM(ErnieMConfig(num_hidden_layers=1, **SIZES))
    with pytest.raises(InputError, match=r"ErnieMForMaskedLM.*set active_vocabulary to false"):
        shrink_to_active(model, torch.tensor(USED))


def test_ids_outside_are_named() -> None:
    whole = torch.nn.Embedding(10, 4, padding_idx=1)
    with pytest.raises(InputError, match=r"up to 12.*10 rows"):
        ActiveEmbedding(whole, torch.tensor([3, 12]))
    active = ActiveEmbedding(whole, torch.tensor([5, 3]))
    assert torch.equal(active(torch.tensor([[3, 5, 1]])), whole(torch.tensor([[3, 5, 1]])))
    with pytest.raises(InputError, match="token id 4 is not among the 3 in use"):
        active(torch.tensor([[3, 4]]))


def test_its_bookkeeping_is_on_the_cpu_wherever_new_tensors_are_made() -> None:
    """Lightning builds networks where new tensors are the GPU's; the meta device stands for it here."""
    with torch.device("meta"):
        whole = torch.nn.Embedding(10, 4, padding_idx=1)
        active = ActiveEmbedding(
            torch.nn.Embedding(10, 4, padding_idx=1, device="cpu"), torch.tensor([5], device="cpu")
        )
    assert whole.weight.device.type == "meta"
    assert active(torch.tensor([5, 1])).shape == (2, 4)
    assert active.spread(active.weight).device.type == "cpu"


def test_after_an_interruption_the_whole_matrix_is_used(tmp_path: Path, backbone: Path) -> None:
    module = SequenceClassification(str(backbone), label_names=LABELS, active_vocabulary=True)

    class Stop(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise RuntimeError("stopped")

    quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "default_root_dir": tmp_path}
    with pytest.raises(RuntimeError, match="stopped"):
        Trainer(callbacks=[Stop()], max_epochs=1, **quiet).fit(module, datamodule=Data())
    assert isinstance(module.network.get_input_embeddings(), ActiveEmbedding)
    Trainer(**quiet).test(module, datamodule=Data(), verbose=False)
    assert module.results["en"]["examples"] == 6


def test_data_that_do_not_say_their_ids_are_refused(tmp_path: Path, backbone: Path) -> None:
    module = SequenceClassification(str(backbone), label_names=LABELS, active_vocabulary=True)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    with pytest.raises(InputError, match="token_ids"):
        trainer.fit(module, Data().train_dataloader())
