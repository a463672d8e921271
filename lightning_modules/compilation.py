"""torch.compile of the encoder, layer by layer.

All layers share one compiled graph, which takes batches of any shape, so that the time to compile grows neither with
the layers nor with the lengths in the data: one graph for training and one for evaluation, the same again for a last
layer that computes the first token alone, and others only where torch distinguishes a batch of one example. Names of
parameters and hooks stay as they are.
"""

from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from transformers import PreTrainedModel

from ernie_m.errors import InputError

from . import compat, networks
from .optimization import FAMILIES

CompileChoice = bool | Literal["auto"]
BACKEND = "inductor"


def compile_layers(network: PreTrainedModel, choice: CompileChoice, device: torch.device) -> bool:
    """Compile the layers of an encoder in place.

    Args:
        network: A network of `FAMILIES`, other than XLM.
        choice: True, False, or "auto": on GPUs, where the compiler works.
        device: Where the network is going to run.

    Returns:
        Whether they are compiled.

    Raises:
        InputError: `choice` is True and the compiler does not work here, or the layers cannot share a graph.
    """
    if choice is False or (choice == "auto" and device.type != "cuda"):
        return False
    family = FAMILIES.get(network.config.model_type)
    # XLM's attention looks its own layer up in a cache, so that each layer would be compiled anew.
    is_shareable = family is not None and network.config.model_type != "xlm"
    problem = (
        _problem(device) if is_shareable else f"the layers of a {network.config.model_type!r} cannot share a graph"
    )
    if problem is not None:
        if choice is True:
            raise InputError(f"torch_compile is true, but {problem}; set it to false")
        rank_zero_warn(f"torch_compile: goes on without it, since {problem}")
        return False
    # Training or evaluation, one row or more, padding or none, a classifier's last layer or another: all of them
    # together are more than the default, 8.
    compat.compile_whole_layers(graphs=64)
    for path in family.blocks if family is not None else ():
        for layer in networks.submodule(network, path).children():
            layer.compile(backend=BACKEND, dynamic=True)
    rank_zero_info("torch_compile: the first steps compile the encoder's layers, which takes up to a minute")
    return True


def _problem(device: torch.device) -> str | None:
    """Say why nothing can be compiled for a device, by compiling something small."""
    try:
        torch.compile(_probe, backend=BACKEND, dynamic=True)(torch.ones(3, device=device))
    # Triton, a C compiler or the headers of Python may be missing, or the GPU too old: each has errors of its own.
    except Exception as error:
        cause = getattr(error, "inner_exception", error)
        reason = " ".join(str(cause).split())[:300] or type(cause).__name__
        return f"the compiler does not work for {device}: {reason}"
    return None


def _probe(values: torch.Tensor) -> torch.Tensor:
    return torch.tanh(values) + 1.0
