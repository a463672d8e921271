"""What several processes need of a network: equal random weights, FSDP2's shards, gradients summed once a step."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy, Strategy
from transformers import PreTrainedModel

from ernie_m.errors import InputError

from . import networks
from .optimization import FAMILIES


def trainer_of(module: LightningModule) -> Trainer | None:
    """Return the trainer that a module runs under; None for a module that is used by itself."""
    try:
        return module.trainer
    except RuntimeError:
        return None


def is_sharded(module: LightningModule) -> bool:
    """Tell whether a module runs under FSDP2."""
    trainer = trainer_of(module)
    return trainer is not None and isinstance(trainer.strategy, ModelParallelStrategy)


@contextmanager
def same_seed_everywhere(trainer: Trainer | None) -> Iterator[None]:
    """Draw random weights from the first process's seed: FSDP2 takes each shard from its own process.

    Args:
        trainer: The trainer; None without one.
    """
    if trainer is None or trainer.world_size == 1:
        yield
        return
    seed = trainer.strategy.broadcast(torch.initial_seed())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def shard(network: PreTrainedModel, mesh: Any) -> None:
    """Shard a network by layer with FSDP2, in place.

    Args:
        network: The network.
        mesh: `ModelParallelStrategy`'s device mesh.

    Raises:
        InputError: The mesh asks for tensor parallelism.
    """
    from torch.distributed.fsdp import fully_shard

    if mesh is None or mesh["tensor_parallel"].size() > 1:
        raise InputError(
            "ModelParallelStrategy is set to tensor parallelism, which these networks do not have; set "
            "data_parallel_size to the number of devices and tensor_parallel_size to 1"
        )
    family = FAMILIES.get(network.config.model_type)
    for path in family.blocks if family else ():
        for block in networks.submodule(network, path).children():
            fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(network, mesh=mesh["data_parallel"])


def without_gradient_sync(strategy: Strategy, network: PreTrainedModel) -> AbstractContextManager[None]:
    """Return a context in which gradients stay in their process, for all micro-batches of a step but the last.

    Args:
        strategy: The trainer's.
        network: The network that it trains.
    """
    if isinstance(strategy, ModelParallelStrategy):
        return _sharded_without_sync(network)
    if isinstance(strategy, ParallelStrategy):
        return strategy.block_backward_sync()
    return nullcontext()


@contextmanager
def _sharded_without_sync(network: Any) -> Iterator[None]:
    network.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        network.set_requires_gradient_sync(True)
