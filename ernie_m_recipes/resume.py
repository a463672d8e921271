"""Continuing a run: what may differ from its beginning, and what would change the result."""

import fnmatch
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ernie_m.errors import InputError
from ernie_m.files import check_links
from lightning_modules import networks
from lightning_modules.checkpoint_file import read_checkpoint

from .documents import as_written, read_yaml
from .record import RUN_ALONE, read_results
from .targets import BEST, CONFIG, run_folder_of

MAY_DIFFER = (
    "run.*",
    # Found in the data where the recipe leaves it out; the data's own digest holds it.
    "data.init_args.label_names",
    "trainer.accelerator",
    "trainer.strategy*",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.logger*",
    "trainer.log_every_n_steps",
    "trainer.enable_*",
    "trainer.profiler*",
    "trainer.detect_anomaly",
    "trainer.default_root_dir",
    "trainer.plugins*",
    "trainer.num_sanity_val_steps",
    "trainer.limit_test_batches",
    "trainer.limit_predict_batches",
    "trainer.max_time*",
    "model.init_args.active_vocabulary",
    "model.init_args.attn_implementation",
    "model.init_args.gradient_checkpointing",
    "model.init_args.torch_compile",
    # What a person says on the command line, and no folder.
    "*.init_args.trust_remote_code",
    "data.init_args.path",
    "data.init_args.*_path",
    "data.init_args.paths.*",
    "data.init_args.cache_dir",
    "data.init_args.num_workers",
    "data.init_args.micro_batch_size",
    "data.init_args.micro_batch_tokens",
    "data.init_args.eval_tokens_per_batch",
)
"""Where a run is computed, read, logged and kept: none of it changes what is learned."""

MAY_MOVE = (
    "model.init_args.backbone",
    "model.init_args.init_from",
    "data.init_args.tokenizer",
    "data.init_args.train_files.*",
    "data.init_args.validation_files.*",
    "data.init_args.train_pairs.*",
    "data.init_args.validation_pairs.*",
)
"""What may lie at another place: the network is the checkpoint's, and the data module compares the tokenised data."""

_NETWORK = "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested settings into dotted keys; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(before: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> list[str]:
    """List the settings that would change the result, as `key: before -> now`.

    Args:
        before: The settings of the run so far.
        now: Those it would be continued with.
        checkpoint: The checkpoint that it would be continued from.
    """
    old, new = flatten(before), flatten(now)
    found = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) == new.get(key) or key.split(".")[0] in RUN_ALONE or matches(key, MAY_DIFFER):
            continue
        if not (matches(key, MAY_MOVE) and old.get(key) and new.get(key) and has_moved(key, new, checkpoint)):
            found.append(f"{key}: {old.get(key)} -> {new.get(key)}")
    return found


def matches(key: str, patterns: Sequence[str]) -> bool:
    """Say whether a dotted key is among patterns with `*`."""
    return any(fnmatch.fnmatch(key, pattern) for pattern in patterns)


def has_moved(key: str, now: Mapping[str, Any], checkpoint: Path) -> bool:
    """Say whether a changed setting names another place of what the run began with, as far as can be seen yet.

    Args:
        key: One that matches `MAY_MOVE`.
        now: The present settings, flat.
        checkpoint: The checkpoint that holds the network.
    """
    if "_files." in key:
        return True
    place = Path(str(now[key])).expanduser()
    if not place.exists():
        return False
    if key != "model.init_args.backbone" or now.get("model.init_args.from_scratch") is not None:
        return True
    ours = networks.checkpoint_config(checkpoint)
    theirs = networks.read_config(str(place), bool(now.get("model.init_args.trust_remote_code")))
    return all(getattr(ours, name, None) == getattr(theirs, name, None) for name in _NETWORK)


def check_resume(checkpoint: Path, now: Mapping[str, Any], allow_changes: bool) -> list[str]:
    """Compare a run that is about to continue with its beginning.

    Args:
        checkpoint: The checkpoint to continue from.
        now: The present settings.
        allow_changes: Whether differences are wanted.

    Returns:
        The differences, as `key: before -> now`.

    Raises:
        InputError: The checkpoint cannot be continued, leads elsewhere, or settings differ and that is not wanted.
    """
    content = load(checkpoint)
    if not content.get("optimizer_states"):
        raise InputError(
            f"{checkpoint}: holds weights alone, so training cannot continue from it; take last.ckpt beside it, or "
            f"start anew with --model.init_from {checkpoint}"
        )
    check_end(checkpoint, content, now["trainer"])
    run = run_folder_of(checkpoint)
    if run is not None:
        check_links(run)
        # What the run is added to at its end.
        read_results(run)
        before = read_yaml(run / CONFIG)
        found = differences(before, now, checkpoint)
    else:
        stored = {k: v for k, v in content.get("hyper_parameters", {}).items() if not k.startswith("_")}
        present = {k: v for k, v in (now.get("model") or {}).get("init_args", {}).items() if k in stored}
        shared = {k: v for k, v in stored.items() if k in present}
        found = differences({"model": {"init_args": shared}}, {"model": {"init_args": present}}, checkpoint)
    if found and not allow_changes:
        raise InputError(
            f"{checkpoint}: these settings would change the result of the run that it continues:\n  "
            + "\n  ".join(found)
            + "\nLeave them as they were, add --resume.allow_changes true, or start anew from its weights with "
            f"--model.init_from {checkpoint}"
        )
    return found


def check_end(checkpoint: Path, content: Mapping[str, Any], trainer: Mapping[str, Any]) -> None:
    """Refuse an end of the training that the checkpoint has passed.

    Args:
        checkpoint: The checkpoint to continue from.
        content: What it holds.
        trainer: The present settings of the trainer.

    Raises:
        InputError: It has.
    """
    with as_written(checkpoint):
        # Epochs that were begun; `epoch` is the number of the last one, from 0.
        epochs = int(content["loops"]["fit_loop"]["epoch_progress"]["current"]["ready"])
    for key, count in {"max_epochs": epochs, "max_steps": content["global_step"]}.items():
        most = trainer.get(key)
        if isinstance(most, int) and 0 <= most < count:
            raise InputError(
                f"{checkpoint}: {count} {key.removeprefix('max_')} were trained already, and trainer.{key} is {most}"
            )


def take_best(checkpoint: Path, folder: Path) -> None:
    """Copy the best checkpoint so far into the folder of a run that continues another one elsewhere.

    Args:
        checkpoint: The checkpoint to continue from.
        folder: The new run folder.
    """
    run = run_folder_of(checkpoint)
    if run is None or run.resolve() == folder.resolve() or not (run / BEST).is_file():
        return
    (folder / BEST).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / BEST, folder / BEST)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint file without executing anything in it.

    Args:
        path: A checkpoint.

    Raises:
        InputError: It is damaged or no checkpoint.
    """
    content = read_checkpoint(path)
    if "state_dict" not in content:
        raise InputError(f"{path}: no checkpoint of this command: it holds no state_dict")
    return content
