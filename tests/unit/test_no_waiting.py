"""A training step asks no value of the device, for which it would have to wait. The meta device has no values."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from ernie_m import ErnieMConfig, ErnieMForSequenceClassification
from lightning_modules import SentenceRetrieval, SequenceClassification
from lightning_modules.active_vocabulary import shrink_to_active
from lightning_modules.module import TaskModule
from lightning_modules.optimization import build_optimizer, parameter_groups
from lightning_modules.stepping import LossWatch

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
ROWS, LENGTH = 4, 6


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("backbone")
    config = ErnieMConfig(num_hidden_layers=2, **SIZES)
    config.id2label, config.label2id = {0: "a", 1: "b"}, {"a": 0, "b": 1}
    ErnieMForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def batch_of(prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    tokens = torch.ones(ROWS, LENGTH, dtype=torch.int64)
    inputs = {f"{prefix}{name}": tokens for prefix in prefixes for name in ("input_ids", "attention_mask")}
    numbers = torch.arange(ROWS)
    rest = {"labels": numbers % 2, "example_ids": numbers, "language": numbers, "weights": torch.ones(ROWS)}
    return {key: value.to("meta") for key, value in (inputs | rest | {"normaliser": torch.tensor(4.0)}).items()}


@pytest.mark.parametrize("attention", ["auto", "eager"])
@pytest.mark.parametrize(
    ("task", "prefixes"), [(SequenceClassification, ("",)), (SentenceRetrieval, ("source_", "target_"))]
)
def test_a_step_reads_nothing_back(
    task: type[TaskModule], prefixes: tuple[str, ...], attention: str, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which does not know the meta device
    module = task(backbone=backbone, attn_implementation=attention, gradient_checkpointing=True)
    module.configure_model()
    shrink_to_active(module.network, torch.arange(40))
    module.network.to("meta")
    module.train_accuracy.to("meta")
    groups = parameter_groups(
        module.network, "ernie_m", 2, learning_rate=1e-3, layer_decay=0.8, weight_decay=0.01, decay_variant="baidu"
    )
    optimizer = build_optimizer(groups, (0.9, 0.999), 1e-6)
    loss = module.loss(batch_of(prefixes))
    loss.backward()
    LossWatch(torch.device("meta")).note(loss.detach(), 0)
    torch.nn.utils.clip_grad_norm_(module.network.parameters(), 1.0)
    optimizer.step()
    assert all(p.grad is None or p.grad.device.type == "meta" for p in module.network.parameters())
    with pytest.raises(RuntimeError, match="meta"):
        loss.item()
    assert module.train_accuracy.update_called == (task is SequenceClassification)
    assert module.train_accuracy.right.device.type == "meta"


def test_an_evaluation_reads_nothing_back(backbone: str) -> None:
    module = SequenceClassification(backbone=backbone)
    module.configure_model()
    module.network.to("meta").eval()
    with torch.inference_mode():
        rows = module.predict_rows(batch_of(("",)))
        module.predictions.update(**rows, tokens=torch.ones(ROWS, LENGTH, dtype=torch.int64, device="meta"))
    assert rows["probabilities"].shape == (ROWS, 2)
