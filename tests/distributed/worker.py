"""One process of a small training run, started by the fixture `launch` with torchrun's variables.

It also holds the data and the plain PyTorch loop that the run is compared with, so that both see the same.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch.utils.data import DataLoader

from ernie_m import ErnieMConfig, ErnieMForMaskedLM, ErnieMForSequenceClassification, ErnieMModel
from lightning_modules import Pretraining, SentenceRetrieval, SequenceClassification, compilation

LABELS = ["entailment", "neutral", "contradiction"]
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-2,
    "layer_decay": 0.9,
    "weight_decay": 0.1,
    "decay_variant": "paddlenlp",
    "warmup_ratio": 0.0,
    # Large, so that rounding of vanishing gradients is not blown up to whole steps.
    "adam_eps": 1e-4,
}
CLIP = 0.5
# The last global batch is smaller: on two processes with three micro-batches it needs fillers.
BATCH_SIZES = [12, 12, 12, 3]


def make_backbone(folder: Path, task: str) -> None:
    """Save a network without dropout; a classifier keeps its head."""
    torch.manual_seed(0)
    config = ErnieMConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        # Large, so that every parameter has a gradient worth comparing.
        initializer_range=0.3,
    )
    config.id2label, config.label2id = dict(enumerate(LABELS)), {name: i for i, name in enumerate(LABELS)}
    classes = {"retrieval": ErnieMModel, "pretraining": ErnieMForMaskedLM}
    network = classes.get(task, ErnieMForSequenceClassification)(config)
    network.save_pretrained(folder)


def sentences(rng: np.random.Generator, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = rng.integers(3, 9, rows)
    ids = torch.from_numpy(rng.integers(4, 50, (rows, 8)))
    mask = torch.from_numpy((np.arange(8)[None, :] < lengths[:, None]).astype(np.int64))
    return torch.where(mask > 0, ids, 1), mask


def global_batches(task: str) -> list[dict[str, torch.Tensor]]:
    rng = np.random.default_rng(3)
    batches = []
    for rows in BATCH_SIZES:
        batch = {"example_ids": torch.arange(rows), "language": torch.zeros(rows, dtype=torch.int64)}
        batch["weights"] = torch.ones(rows)
        for side in ("source_", "target_") if task == "retrieval" else ("",):
            batch[f"{side}input_ids"], batch[f"{side}attention_mask"] = sentences(rng, rows)
        if task == "pretraining":
            # Every other row is a pair.
            lengths = batch["attention_mask"].sum(dim=1)
            batch["target_start"] = torch.where(torch.arange(rows) % 2 == 1, 2, lengths)
            batch["language"] = (torch.arange(rows) % 2) * 2
        elif task == "classification":
            batch["labels"] = torch.from_numpy(rng.integers(0, 3, rows))
        batches.append(batch)
    return batches


def share(batch: dict[str, torch.Tensor], rank: int, world: int, micro_batches: int) -> list[dict[str, torch.Tensor]]:
    """Deal a global batch out to processes and micro-batches; one that gets nothing has a filler of weight 0."""
    total = len(batch["weights"])
    micros = []
    for rows in np.array_split(np.arange(total)[rank::world], micro_batches):
        micro = {key: values[rows if len(rows) else [0]] for key, values in batch.items()}
        if not len(rows):
            micro["weights"] = torch.zeros(1)
        micros.append(micro | {"normaliser": torch.tensor(total / world)})
    return micros


def evaluation_batches(task: str, rank: int, world: int) -> list[dict[str, torch.Tensor]]:
    """Two languages in one loader; with two processes the second ends with a filler and repeats an example."""
    rng = np.random.default_rng(5)
    batches = []
    for language, rows in ((0, 7), (1, 5)):
        batch = global_batches(task)[language]
        batch = {key: values[:rows] for key, values in batch.items()} | {
            "language": torch.full((rows,), language),
            "example_ids": torch.from_numpy(rng.permutation(100)[:rows]),
        }
        if task == "pretraining":
            batch["target_start"] = batch["attention_mask"].sum(dim=1)
        own = {key: values[rank::world] for key, values in batch.items()}
        filler = {key: values[:1] for key, values in batch.items()} | {"weights": torch.zeros(1)}
        repeated = {key: values[:1] for key, values in batch.items()}
        batches += [own, filler if rank == 0 else repeated]
    return batches


def plain_training(folder: Path, task: str, objective: str = "softmax") -> dict[str, torch.Tensor]:
    """The same training in plain PyTorch: whole batches, one process, the schedule and the clipping written out."""
    torch.manual_seed(0)
    auto = ErnieMModel if task == "retrieval" else ErnieMForSequenceClassification
    network = auto.from_pretrained(folder).train()
    trained = {name: p for name, p in network.named_parameters() if task != "retrieval" or "pooler" not in name}
    optimizer = torch.optim.AdamW([{"params": [p], "name": name} for name, p in trained.items()], lr=1.0, eps=1e-4)
    for step, batch in enumerate(global_batches(task)):
        for group in optimizer.param_groups:
            name = group["name"]
            exponent = 3 if "embeddings." in name else 2 - int(name.split("layers.")[1][0]) if "layers." in name else 0
            group["lr"] = 1e-2 * 0.9**exponent * (1 - step / len(BATCH_SIZES))
            group["weight_decay"] = 0.0 if name.endswith("bias") or "norm" in name else 0.1
        optimizer.zero_grad()
        plain_loss(network, batch, objective).backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), CLIP)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


def plain_loss(network: Any, batch: dict[str, torch.Tensor], objective: str) -> torch.Tensor:
    if "labels" in batch:
        return network(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]
        ).loss
    vectors = []
    for side in ("source", "target"):
        mask = batch[f"{side}_attention_mask"]
        hidden = network(input_ids=batch[f"{side}_input_ids"], attention_mask=mask).last_hidden_state
        mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        vectors.append(mean / mean.norm(dim=1, keepdim=True))
    logits = vectors[0] @ vectors[1].T / 0.05
    diagonal = torch.arange(len(logits))
    if objective == "hardest_negative":
        others = logits - 1e9 * torch.eye(len(logits))
        negatives = torch.cat([others.max(0).values, others.max(1).values])
        binary = torch.nn.functional.binary_cross_entropy_with_logits
        right = logits.diagonal()
        return binary(right, torch.ones_like(right)) + binary(negatives, torch.zeros_like(negatives))
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(logits, diagonal) + cross_entropy(logits.T, diagonal)) / 2


def build(spec: dict[str, Any]) -> tuple[LightningModule, Trainer]:
    world = int(os.environ["WORLD_SIZE"])
    strategies: dict[str, Any] = {
        "auto": lambda: "auto",
        "ddp": lambda: DDPStrategy(process_group_backend="gloo", gradient_as_bucket_view=True),
        "ddp_static": lambda: DDPStrategy(process_group_backend="gloo", static_graph=True),
        "fsdp2": lambda: ModelParallelStrategy(world, 1, save_distributed_checkpoint=False),
        "fsdp2_sharded": lambda: ModelParallelStrategy(world, 1),
        "tensor_parallel": lambda: ModelParallelStrategy(),
    }
    module: LightningModule
    if spec["task"] == "retrieval":
        module = SentenceRetrieval(backbone=spec["backbone"], **SETTINGS, **spec.get("arguments", {}))
    elif spec["task"] == "pretraining":
        module = Pretraining(backbone=spec["backbone"], **SETTINGS, **spec["arguments"])
    else:
        module = SequenceClassification(
            backbone=spec["backbone"], label_names=LABELS, **SETTINGS, **spec.get("arguments", {})
        )
    module.languages = ["en", "de", "en-de"] if spec["task"] == "pretraining" else ["en", "de"]
    module.announce(restore_from=spec.get("ckpt_path"))
    trainer = Trainer(
        accelerator="cpu",
        devices=world,
        strategy=strategies[spec["strategy"]](),
        precision=spec.get("precision", "32-true"),
        max_epochs=1,
        gradient_clip_val=CLIP,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=spec.get("log_every_n_steps", 1),
        use_distributed_sampler=False,
        default_root_dir=spec["folder"],
    )
    return module, trainer


class Data(LightningDataModule):
    """The loaders, and the ids that `sentences` draws from."""

    def __init__(self, training: DataLoader, evaluation: DataLoader) -> None:
        super().__init__()
        self.train_languages = ["en", "de", "en-de"]
        self.mask_token_id, self.pair_separators, self.max_length = 49, 2, 8
        self.train_dataloader = lambda: training
        self.val_dataloader = lambda: evaluation

    def token_kinds(self) -> np.ndarray:
        return np.array([0] * 4 + [2, 1] * 22 + [2, 0])

    def token_ids(self) -> np.ndarray:
        return np.array([1, *range(4, 50)])


def count_graphs() -> Any:
    """Let layers be traced as for the real compiler, which would take longer than the test to generate code."""
    # An import of seconds, for the one test that needs it.
    from torch._dynamo.testing import CompileCounterWithBackend

    compilation.BACKEND = CompileCounterWithBackend("eager")
    return compilation.BACKEND


def main(spec: dict[str, Any]) -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    task = spec["task"]
    # Different on purpose: what must agree over processes may not hang on the caller's seed.
    torch.manual_seed(100 + rank)
    module, trainer = build(spec)
    traced = count_graphs() if module.torch_compile else None
    evaluation = DataLoader(evaluation_batches(task, rank, world), batch_size=None)
    if spec.get("ckpt_path"):
        trainer.test(module, evaluation, ckpt_path=spec["ckpt_path"], verbose=False)
    else:
        steps = [share(batch, rank, world, spec.get("micro_batches", 1)) for batch in global_batches(task)]
        for step in spec.get("poisoned", []):
            if rank == world - 1:
                steps[step][0]["normaliser"] = torch.tensor(float("nan"))
        trainer.fit(module, datamodule=Data(DataLoader(steps, batch_size=None), evaluation))
        trainer.save_checkpoint(f"{spec['folder']}/last.ckpt")
    state = {} if spec["strategy"] == "fsdp2_sharded" else trainer.strategy.lightning_module_state_dict()
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    tables = {language: table.to_pydict() for language, table in module.tables.items()}
    torch.save(
        {
            "state": state,
            "logged": logged,
            "results": module.results,
            "tables": tables,
            "graphs": traced.frame_count if traced else 0,
        },
        f"{spec['folder']}/rank{rank}.pt",
    )


if __name__ == "__worker__":
    start_with: dict[str, Any] = globals()["START_WITH"]
    os.environ.update(start_with["environment"])
    descriptor = os.open(start_with["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    main(json.loads(Path(start_with["spec"]).read_text()))
