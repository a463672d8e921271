"""The classes that settings may name: in a recipe, in a folder's settings, and of the trainer of a run that goes on."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from .class_paths import class_at

PACKAGES = (
    "datamodules",
    "lightning_modules",
    "ernie_m",
    "ernie_m_recipes.settings",
    "lightning.pytorch.accelerators",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.plugins",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
    "lightning.fabric.loggers",
    "lightning.fabric.plugins",
    "torch.optim",
)
"""Where the classes lie that a recipe may name without more ado."""

# They exist to call what they are given.
DENIED = ("lightning.pytorch.callbacks.LambdaCallback", "lightning.pytorch.callbacks.lambda_function")

PLACES = ("save_dir", "name", "version", "sub_dir")
"""The arguments of a logger that say where it writes, each below the one before it."""

_PROCESSES = ("process_group_backend", "timeout")
_ARGUMENTS = {
    "callbacks.DeviceStatsMonitor": ("cpu_stats",),
    "callbacks.EarlyStopping": (
        "monitor", "min_delta", "patience", "verbose", "mode", "strict", "check_finite", "stopping_threshold",
        "divergence_threshold", "check_on_train_epoch_end", "log_rank_zero_only",
    ),
    "callbacks.LearningRateMonitor": ("logging_interval", "log_momentum", "log_weight_decay"),
    "callbacks.ModelSummary": ("max_depth",),
    "callbacks.RichModelSummary": ("max_depth",),
    "callbacks.RichProgressBar": ("refresh_rate", "leave"),
    "callbacks.TQDMProgressBar": ("refresh_rate", "process_position", "leave"),
    "callbacks.Timer": ("duration", "interval", "verbose"),
    "loggers.CSVLogger": (*PLACES[:3], "prefix", "flush_logs_every_n_steps"),
    "loggers.TensorBoardLogger": (*PLACES, "prefix", "default_hp_metric"),
    "strategies.DDPStrategy": (
        *_PROCESSES, "start_method", "find_unused_parameters", "static_graph", "gradient_as_bucket_view",
        "broadcast_buffers", "bucket_cap_mb", "dim", "init_sync",
    ),
    "strategies.ModelParallelStrategy": (*_PROCESSES, "data_parallel_size", "tensor_parallel_size"),
    "strategies.SingleDeviceStrategy": ("device",),
}  # fmt: skip
TO_A_SERVER = ("WandbLogger", "MLFlowLogger")
"""Loggers that a folder chooses for nobody: where to send to, their libraries read in the current folder."""

CONTINUED = {f"lightning.pytorch.{name}": arguments for name, arguments in _ARGUMENTS.items()}
"""The classes that the trainer of a run folder may have when it is continued, and which of their arguments, with plain
values: none that sends more than metrics, or elsewhere."""


def exported(package: Any, base: type) -> Iterator[tuple[str, type]]:
    """Yield the classes of a kind that a package exports, by each path that names one."""
    for name in package.__all__:
        found = getattr(package, name)
        if isinstance(found, type) and issubclass(found, base):
            yield f"{package.__name__}.{name}", found
            yield f"{found.__module__}.{name}", found


@cache
def data_modules() -> dict[str, type]:
    """Return the data modules that are built of what a folder says, by their paths, former names among them."""
    import datamodules

    former = {f"datamodules.{name}": found for name, found in datamodules.RENAMED.items()}
    return {**dict(exported(datamodules, datamodules.TaskDataModule)), **former}


@cache
def tasks() -> dict[str, type]:
    """Return the tasks that are built of what a folder or checkpoint says, by their paths."""
    import lightning_modules

    return dict(exported(lightning_modules, lightning_modules.TaskModule))


@cache
def continued() -> tuple[str, ...]:
    """Return `CONTINUED`, each class also by the module that it is defined in, as the parser calls it."""
    classes = [class_at(path) for path in CONTINUED]
    return (*CONTINUED, *(f"{one.__module__}.{one.__qualname__}" for one in classes))
