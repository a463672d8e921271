"""What the devices at hand make of a recipe: a precision that they compute in, a strategy that they need."""

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn

from ernie_m.errors import InputError

STARTED_BY = ("SLURM_NTASKS", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""What whoever starts processes on several machines tells each of them: variables of the environment."""


def supported_precision(precision: Any, accelerator: Any) -> Any:
    """Return a precision that the device computes in: 16 bits fall back to 32-true, with a warning, where it cannot.

    Args:
        precision: The trainer's.
        accelerator: The trainer's.
    """
    kind = str(precision).partition("-")[0]
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    on_cpu = not on_gpu and (accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()))
    if kind not in ("bf16", "16") or not (on_gpu or on_cpu):
        return precision
    if on_gpu:
        supported = kind == "16" or torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        supported = kind == "bf16" and cpu_has_bf16()
    if supported:
        return precision
    device = torch.cuda.get_device_name() if on_gpu else "this CPU"
    rank_zero_warn(f"{device} does not compute in {kind}: precision {precision} falls back to 32-true")
    return "32-true"


BF16_VARIABLE = "ERNIE_M_CPU_BF16"


def cpu_has_bf16() -> bool:
    """Say whether bfloat16 is faster than float32 on the processor: it multiplies in bfloat16 by itself.

    Measured: `avx512_bf16`, on an AMD EPYC, where it pays, and a processor with neither of the two names below, which
    emulates bfloat16 several times slower than float32 (docs/speed.md). `amx_bf16` multiplies faster than
    `avx512_bf16`, and is taken for that reason, unmeasured. `bf16` and `sve_bf16` of ARM, whose float32 has libraries
    of its own, were not measured and so are not taken. `ERNIE_M_CPU_BF16=yes` or `no` in the environment decides
    otherwise.

    Raises:
        InputError: The variable is neither.
    """
    stated = os.environ.get(BF16_VARIABLE, "")
    if stated not in ("", "yes", "no"):
        raise InputError(f"{BF16_VARIABLE} is {stated!r}; set it to yes or no, or leave it out")
    if stated:
        return stated == "yes"
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16"))


def check_world(trainer: Any, workers: Any, is_typed: Callable[[str, str], bool]) -> None:
    """Refuse processes and machines that a folder's settings ask for and that are not here.

    Args:
        trainer: The trainer's settings.
        workers: The data's `num_workers`.
        is_typed: Tells whether a person gave a setting, by its name and the part that it belongs to.

    Raises:
        InputError: There are fewer; the run would wait for them, or fill the memory.
    """
    if trainer.num_nodes > 1 and not is_typed("num_nodes", "trainer") and not set(STARTED_BY) & set(os.environ):
        raise InputError(
            f"trainer.num_nodes is {trainer.num_nodes}, but nothing says that this was started on several machines "
            f"(no {', '.join(STARTED_BY)} in the environment). Start it there, or add --trainer.num_nodes 1"
        )
    devices = len(trainer.devices) if isinstance(trainer.devices, list) else trainer.devices
    most = max(torch.cuda.device_count(), os.cpu_count() or 1)
    # Lightning takes texts with blanks around them too.
    number = str(devices).strip()
    if number.isdecimal() and int(number) > most and not is_typed("devices", "trainer"):
        raise InputError(f"trainer.devices is {devices}, but there are {most} here. Add --trainer.devices {most}")
    if isinstance(workers, int) and workers > (os.cpu_count() or 1) and not is_typed("num_workers", "data"):
        raise InputError(
            f"data.num_workers is {workers}, but there are {os.cpu_count()} processors here. Add --data.num_workers "
            "and how many you want"
        )


def keep_freed_memory() -> None:
    """Tell glibc to keep the memory of freed tensors for the next ones, instead of giving it back to the system.

    Otherwise every step of a training on the CPU has the system map and clear its gigabytes again. Does nothing where
    the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h, in bytes. Before 2.35 glibc takes 32 MiB at most for the first;
    # the second alone would fix the first at its small default.
    if set_option is not None and (set_option(-3, 2**30) or set_option(-3, 2**25)):
        set_option(-1, 2**31 - 1)


def is_data_parallel(strategy: Any) -> bool:
    """Say whether a strategy, parsed and not yet built, is DDP."""
    name = strategy if isinstance(strategy, str) else getattr(strategy, "class_path", "")
    return name == "ddp" or name.endswith(".DDPStrategy")


def runs_alone(trainer: Any) -> bool:
    """Say whether a run is one process on one device, for which DDP would only cost memory and a network port.

    Args:
        trainer: The trainer's settings.
    """
    if int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1"))) > 1 or trainer.num_nodes > 1:
        return False
    devices = trainer.devices
    if devices in ("auto", -1, "-1"):
        on_gpu = trainer.accelerator in ("auto", "gpu", "cuda")
        return not on_gpu or torch.cuda.device_count() <= 1
    if isinstance(devices, list):
        return len(devices) == 1
    return str(devices) == "1"
