"""Compiled layers: the same numbers and names, and a number of graphs that depends on neither layers nor lengths."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig, XLMConfig, XLMRobertaConfig

from ernie_m import ErnieMConfig
from ernie_m.errors import InputError
from lightning_modules import SentenceRetrieval, SequenceClassification, compilation
from lightning_modules.compilation import compile_layers

CPU = torch.device("cpu")
SIZES = {"vocab_size": 80, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LENGTHS = (5, 9, 16, 7, 24, 33)


@pytest.fixture(autouse=True)
def counter(monkeypatch: pytest.MonkeyPatch) -> CompileCounterWithBackend:
    """Traces as the real compiler does and counts the graphs, but generates no code."""
    torch.compiler.reset()
    backend = CompileCounterWithBackend("eager")
    monkeypatch.setattr(compilation, "BACKEND", backend)
    return backend


def batch_of(seed: int, length: int, rows: int = 6, prefix: str = "", padded: bool = True) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 80, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    if padded:
        mask[0, length // 2 :] = 0
    return {
        f"{prefix}input_ids": ids,
        f"{prefix}attention_mask": mask,
        "labels": torch.randint(0, 2, (rows,), generator=generator),
        "example_ids": torch.arange(rows),
        "language": torch.zeros(rows, dtype=torch.int64),
        "weights": torch.ones(rows),
        "normaliser": torch.tensor(float(rows)),
    }


class Data(LightningDataModule):
    """Six lengths in training, others in validation, and other numbers of rows."""

    languages = ("en",)

    def __init__(
        self,
        train_rows: tuple[int, ...] = (6,) * 6,
        eval_rows: tuple[int, ...] = (2, 3, 8),
        padded: tuple[bool, ...] = (True,),
    ) -> None:
        super().__init__()
        self.train_batches = [
            [batch_of(length, length, rows, padded=one)]
            for length, rows in zip(LENGTHS, train_rows, strict=True)
            for one in padded
        ]
        self.eval_batches = [
            batch_of(90 + i, 11 + i, rows, padded=one) for i, rows in enumerate(eval_rows) for one in padded
        ]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train_batches, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.eval_batches, batch_size=None)

    test_dataloader = val_dataloader


def fit(folder: Path, data: Data | None = None, **arguments: Any) -> SequenceClassification:
    torch.manual_seed(0)
    config = ErnieMConfig(num_hidden_layers=2, **SIZES, **NO_DROPOUT)
    AutoModel.from_config(config).save_pretrained(folder / "backbone")
    module = SequenceClassification(
        backbone=str(folder / "backbone"), label_names=["a", "b"], learning_rate=1e-3, **arguments
    )
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[ModelCheckpoint(folder, filename="last")],
    )
    trainer.fit(module, datamodule=data or Data())
    trainer.test(module, datamodule=data or Data(), verbose=False)
    return module


def graphs(counter: CompileCounterWithBackend) -> int:
    """The graphs of encoder layers; the one before them is what tries the compiler."""
    return int(counter.frame_count) - 1


def test_the_same_result_with_few_graphs(tmp_path: Path, counter: CompileCounterWithBackend) -> None:
    compiled = fit(tmp_path / "compiled", torch_compile=True)
    few = graphs(counter)
    assert 0 < few <= 6
    plain = fit(tmp_path / "plain")
    assert graphs(counter) == few
    weights = plain.network.state_dict()
    assert compiled.network.state_dict().keys() == weights.keys()
    for name, value in compiled.network.state_dict().items():
        torch.testing.assert_close(value, weights[name], atol=1e-5, rtol=1e-5)
    # The same names in the checkpoint, which a module without compiling reads.
    saved = torch.load(tmp_path / "compiled" / "last.ckpt", weights_only=True)["state_dict"]
    assert saved.keys() == torch.load(tmp_path / "plain" / "last.ckpt", weights_only=True)["state_dict"].keys()


def test_batches_of_every_kind_are_compiled(
    tmp_path: Path, counter: CompileCounterWithBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise torch gives up quietly and runs the layers as they are.
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    data = Data(train_rows=(6, 1, 5, 1, 1, 3), eval_rows=(2, 1, 8, 1), padded=(True, False))
    fit(tmp_path, data, torch_compile=True)
    assert 8 < graphs(counter) <= 32


@pytest.mark.parametrize("checkpointing", [False, True])
def test_graphs_do_not_grow_with_the_layers(checkpointing: bool, counter: CompileCounterWithBackend) -> None:
    counts = []
    for layers in (2, 5):
        torch.compiler.reset()
        counter.frame_count = 0
        network = AutoModelForSequenceClassification.from_config(ErnieMConfig(num_hidden_layers=layers, **SIZES))
        if checkpointing:
            network.gradient_checkpointing_enable({"use_reentrant": False})
        assert compile_layers(network.train(), True, CPU)
        for seed, length in enumerate(LENGTHS):
            batch = batch_of(seed, length)
            network(batch["input_ids"], batch["attention_mask"]).logits.sum().backward()
        counts.append(graphs(counter))
    assert counts[0] == counts[1] <= 4


@pytest.mark.parametrize(
    "config",
    [
        XLMRobertaConfig(num_hidden_layers=2, max_position_embeddings=64, **SIZES),
        BertConfig(num_hidden_layers=2, max_position_embeddings=64, **SIZES),
    ],
    ids=lambda config: config.model_type,
)
def test_other_families(config: Any, counter: CompileCounterWithBackend) -> None:
    torch.manual_seed(0)
    network = AutoModel.from_config(config).eval()
    batch = {name: batch_of(3, 12)[name] for name in ("input_ids", "attention_mask")}
    expected = network(**batch).last_hidden_state
    assert compile_layers(network, True, CPU)
    for length in LENGTHS:
        network(**{name: batch_of(4, length)[name] for name in batch})
    torch.testing.assert_close(network(**batch).last_hidden_state, expected, atol=1e-5, rtol=1e-5)
    assert 0 < graphs(counter) <= 4


def test_sentence_vectors_of_a_middle_layer(tmp_path: Path, counter: CompileCounterWithBackend) -> None:
    torch.manual_seed(0)
    AutoModel.from_config(ErnieMConfig(num_hidden_layers=3, **SIZES)).save_pretrained(tmp_path)
    module = SentenceRetrieval(backbone=str(tmp_path), layer=2)
    module.configure_model()
    module.network.eval()
    batch = batch_of(5, 9, prefix="source_") | batch_of(6, 11, prefix="target_")
    with torch.no_grad():
        expected = module.predict_rows(batch)
        compile_layers(module.network, True, CPU)
        found = module.predict_rows(batch)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)


def test_auto_leaves_the_cpu_alone(counter: CompileCounterWithBackend) -> None:
    network = AutoModel.from_config(ErnieMConfig(num_hidden_layers=1, **SIZES))
    assert not compile_layers(network, "auto", CPU)
    assert not compile_layers(network, False, CPU)
    assert counter.frame_count == 0


def broken(*_: Any) -> Any:
    raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.\nmore")


def test_a_compiler_that_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    network = AutoModel.from_config(ErnieMConfig(num_hidden_layers=1, **SIZES))
    monkeypatch.setattr(compilation, "BACKEND", broken)
    with pytest.raises(InputError, match=r"torch_compile is true.*C compiler.*set it to false"):
        compile_layers(network, True, CPU)
    # The device is asked for nothing before the compiler has failed.
    monkeypatch.setattr(torch, "ones", lambda *_, **__: torch.zeros(3))
    with pytest.warns(UserWarning, match=r"goes on without it.*C compiler"):
        assert not compile_layers(network, "auto", torch.device("cuda"))
    batch = batch_of(0, 5)
    network(batch["input_ids"], batch["attention_mask"])


def test_layers_that_cannot_share_a_graph() -> None:
    config = XLMConfig(vocab_size=80, emb_dim=16, n_layers=2, n_heads=2, max_position_embeddings=64, n_langs=1)
    network = AutoModel.from_config(config)
    with pytest.raises(InputError, match="'xlm' cannot share"):
        compile_layers(network, True, CPU)
    with pytest.warns(UserWarning, match="'xlm' cannot share"):
        assert not compile_layers(network, "auto", torch.device("cuda"))


def test_the_real_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "inductor")
    torch.manual_seed(0)
    network = AutoModel.from_config(ErnieMConfig(num_hidden_layers=2, **SIZES, **NO_DROPOUT))
    batches = [
        {name: batch_of(i, length)[name] for name in ("input_ids", "attention_mask")} for i, length in ((0, 5), (1, 12))
    ]

    def gradients() -> list[torch.Tensor]:
        network.zero_grad()
        for batch in batches:
            network(**batch).pooler_output.square().sum().backward()
        return [parameter.grad.clone() for parameter in network.parameters()]

    expected = gradients()
    assert compile_layers(network, True, CPU)
    for found, value in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(found, value, atol=1e-5, rtol=1e-4)
