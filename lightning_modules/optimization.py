"""Parameter groups with layer-wise learning-rate decay, and the learning-rate schedules of ERNIE-M's fine-tuning.

Sources: Baidu's fine-tuning code (PaddlePaddle/ERNIE, branch `repro`, ernie-m/model/optimization.py) and PaddleNLP
2.8.1 (paddlenlp/ops/optimizer/adamwdl.py). Layer i (from 0) of n has the factor d^(n-i), the embeddings d^(n+1), the
head and the pooler 1; so the top layer has d, not 1.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ernie_m.errors import InputError

from . import compat

_RATES = ("lr", "eps", "weight_decay")

DecayVariant = Literal["baidu", "paddlenlp"]
Schedule = Literal["linear", "baidu"]


@dataclass(frozen=True)
class Family:
    """Where a family of encoders keeps its parts, as regular expressions on parameter names.

    Attributes:
        layer: Matches a parameter of an encoder layer; its first group is the layer's index.
        embeddings: Matches a parameter of the embeddings, their LayerNorm excluded.
        embedding_norm: Matches a parameter of the LayerNorm behind the embeddings.
        blocks: Dotted paths, below the base model, of the module lists that hold the encoder layers.
        label_layer: Dotted path, below a sequence classifier, of the linear layer with one row per label.
    """

    layer: str
    embeddings: str
    embedding_norm: str
    blocks: tuple[str, ...]
    label_layer: str


_BERT = {
    "layer": r"(?:^|\.)encoder\.layer\.(\d+)\.",
    "embeddings": r"(?:^|\.)embeddings\.(?!LayerNorm\.)",
    "embedding_norm": r"(?:^|\.)embeddings\.LayerNorm\.",
}

FAMILIES: Mapping[str, Family] = {
    "ernie_m": Family(
        layer=r"(?:^|\.)encoder\.layers\.(\d+)\.",
        embeddings=r"(?:^|\.)embeddings\.(?!layer_norm\.)",
        embedding_norm=r"(?:^|\.)embeddings\.layer_norm\.",
        blocks=("encoder.layers",),
        label_layer="classifier",
    ),
    # XLM-R, and InfoXLM, whose published configurations name the same type.
    "xlm-roberta": Family(**_BERT, blocks=("encoder.layer",), label_layer="classifier.out_proj"),
    # mBERT.
    "bert": Family(**_BERT, blocks=("encoder.layer",), label_layer="classifier"),
    "xlm": Family(
        layer=r"(?:^|\.)(?:attentions|layer_norm1|ffns|layer_norm2)\.(\d+)\.",
        embeddings=r"(?:^|\.)(?:position_|lang_)?embeddings\.",
        embedding_norm=r"(?:^|\.)layer_norm_emb\.",
        blocks=("attentions", "ffns"),
        label_layer="sequence_summary.summary",
    ),
}
"""The families of encoders that the recipes know, by `config.model_type`."""


def layer_factor(name: str, model_type: str, num_layers: int, decay: float, variant: DecayVariant) -> float:
    """Return what the learning rate of one parameter is multiplied with.

    Baidu's code leaves the LayerNorm behind the embeddings at 1; PaddleNLP's tests for "embedding" in the name and so
    gives it d^(n+1). The pooler and the head have 1 in both.

    Args:
        name: The parameter's name in the network.
        model_type: `config.model_type` of the network, a key of `FAMILIES`; any other is admitted where `decay` is 1.
        num_layers: Encoder layers of the network.
        decay: The decay d of one layer, in (0, 1]; 1 switches layer decay off.
        variant: Whose rule to follow.

    Raises:
        InputError: If the family has no layer map, or the name has a layer outside the network.
    """
    if decay == 1.0:
        return 1.0
    family = FAMILIES.get(model_type)
    if family is None:
        raise InputError(
            f"layer_decay {decay} needs to know the layers of model type {model_type!r}; known are "
            f"{', '.join(sorted(FAMILIES))}. Set layer_decay to 1.0 for other models"
        )
    if match := re.search(family.layer, name):
        index = int(match.group(1))
        if index >= num_layers:
            raise InputError(f"parameter {name} is of layer {index}, but the configuration has {num_layers} layers")
        return float(decay ** (num_layers - index))
    if re.search(family.embeddings, name) or (variant == "paddlenlp" and re.search(family.embedding_norm, name)):
        return float(decay ** (num_layers + 1))
    return 1.0


def undecayed_names(network: nn.Module) -> set[str]:
    """Return the names of the parameters that weight decay leaves alone: biases and everything in a LayerNorm.

    Args:
        network: Any module.
    """
    names = set()
    for module_name, module in network.named_modules():
        is_norm = isinstance(module, nn.LayerNorm) or type(module).__name__.endswith(("LayerNorm", "RMSNorm"))
        for name, _ in module.named_parameters(recurse=False):
            if is_norm or name.endswith("bias"):
                names.add(f"{module_name}.{name}" if module_name else name)
    return names


def parameter_groups(
    network: nn.Module,
    model_type: str,
    num_layers: int,
    *,
    learning_rate: float,
    layer_decay: float,
    weight_decay: float,
    decay_variant: DecayVariant,
    others: Iterable[nn.Parameter] = (),
) -> list[dict[str, Any]]:
    """Sort the trainable parameters into groups for `torch.optim.AdamW`.

    AdamW multiplies a group's weight decay with the group's learning rate. Baidu's code multiplies it with the
    learning rate before layer decay (`p -= p_old * weight_decay * lr`), so there the group's weight decay is divided by
    its factor. PaddleNLP's variant takes the group's own learning rate, as plain AdamW does (with Paddle 2.4 or later,
    its AdamWDL decays a second time with the undecayed rate; that is not copied).

    Args:
        network: The network; parameters that need no gradient are left out.
        model_type: `config.model_type`, a key of `FAMILIES`.
        num_layers: Encoder layers.
        learning_rate: The learning rate of the head.
        layer_decay: The decay of one layer; 1 for none.
        weight_decay: Decoupled weight decay, not applied to biases and LayerNorms.
        decay_variant: Whose rule to follow for the embeddings' LayerNorm and the weight decay.
        others: Parameters outside the network: factor 1, no weight decay.

    Returns:
        Groups with `name`, `params`, `lr` and `weight_decay`, the embeddings first and the head last.

    Raises:
        InputError: If a value is out of range, or layer decay does not know the model type.
    """
    if not 0 < layer_decay <= 1:
        raise InputError(f"layer_decay is {layer_decay}; it must lie in (0, 1], where 1 means none")
    if learning_rate <= 0 or weight_decay < 0:
        raise InputError(
            f"learning_rate is {learning_rate} and weight_decay {weight_decay}; the first must be above 0, the second "
            "at least 0"
        )
    spared = undecayed_names(network)
    sorted_out: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            factor = layer_factor(name, model_type, num_layers, layer_decay, decay_variant)
            sorted_out.setdefault((factor, name not in spared), []).append(parameter)
    if extra := [parameter for parameter in others if parameter.requires_grad]:
        sorted_out.setdefault((1.0, False), []).extend(extra)
    groups = []
    for (factor, decays), parameters in sorted(sorted_out.items(), key=lambda item: item[0]):
        scale = factor if decay_variant == "baidu" else 1.0
        groups.append(
            {
                "name": f"x{factor:.4g}" + ("" if decays else "/no_weight_decay"),
                "params": parameters,
                "lr": learning_rate * factor,
                "weight_decay": weight_decay / scale if decays else 0.0,
            }
        )
    return groups


def build_optimizer(groups: list[dict[str, Any]], betas: tuple[float, float], eps: float) -> AdamW:
    """Return Adam with decoupled weight decay over the groups of `parameter_groups`, fused where torch can.

    Args:
        groups: Groups that state their own learning rate and weight decay.
        betas: Decay rates of the two moments.
        eps: Added to the root of the second moment; Baidu's code has 1e-6, PaddleNLP's 1e-8.
    """
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    # None leaves the choice to torch.
    fused = devices <= {"cpu", "cuda"} or None
    rate = max(group["lr"] for group in groups)
    optimizer = AdamW(groups, lr=rate, betas=betas, eps=eps, weight_decay=0.0, fused=fused)
    compat.unscale_before_clipping(optimizer)
    return optimizer


def check_state(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Refuse what is no state of this optimiser before it is loaded: fused kernels trust shapes and layouts.

    Args:
        optimizer: The optimiser.
        state: What its `state_dict` should have given.

    Returns:
        The state, of which the groups' numbers and the moments are taken; how it computes stays the optimiser's own.

    Raises:
        InputError: It has other groups, or a moment is not shaped and laid out like its parameter.
    """
    groups, moments = state.get("param_groups"), state.get("state")
    own = optimizer.param_groups
    if not isinstance(groups, list) or not isinstance(moments, dict) or len(groups) != len(own):
        raise InputError("the checkpoint is damaged: its optimiser has other groups of parameters")
    taken: list[dict[str, Any]] = []
    parameters: dict[Any, nn.Parameter] = {}
    for group, ours in zip(groups, own, strict=True):
        names = group.get("params") if isinstance(group, dict) else None
        if not isinstance(names, list) or len(names) != len(ours["params"]) or not _has_rates(group):
            raise InputError("the checkpoint is damaged: a group of its optimiser is not what was written")
        parameters |= dict(zip(names, ours["params"], strict=True))
        taken.append(
            {**ours, **{key: group[key] for key in (*_RATES, "betas", "initial_lr") if key in group}, "params": names}
        )
    for name, values in moments.items():
        if name not in parameters or not _are_moments(values, parameters[name]):
            raise InputError(f"the checkpoint is damaged: its optimiser's state {name!r} is not that of a parameter")
    return {"state": moments, "param_groups": taken}


def _has_rates(group: Mapping[str, Any]) -> bool:
    rates = [group.get(key) for key in _RATES] + [group.get("initial_lr", 0)]
    betas = group.get("betas")
    rates += betas if isinstance(betas, list | tuple) and len(betas) == 2 else [None]
    return all(isinstance(rate, int | float) and 0 <= rate < float("inf") for rate in rates)


def _are_moments(values: Any, parameter: nn.Parameter) -> bool:
    if not isinstance(values, dict) or values.keys() != {"step", "exp_avg", "exp_avg_sq"}:
        return False
    if not all(isinstance(value, Tensor) and value.is_floating_point() for value in values.values()):
        return False
    return values["step"].numel() == 1 and all(
        moment.shape == parameter.shape and moment.layout == parameter.layout and moment.stride() == parameter.stride()
        for moment in (values["exp_avg"], values["exp_avg_sq"])
    )


def schedule_factor(schedule: Schedule, step: int, warmup_steps: int, total_steps: int) -> float:
    """Return what every learning rate is multiplied with at one step.

    Both rise linearly from 0 over the warm-up. Then "linear" (PaddleNLP's LinearDecayWithWarmup, transformers) falls
    linearly from 1 to 0; "baidu" (BERT's TensorFlow code, Baidu's) is on the line that falls from 1 at step 0 to 0 at
    the last, and so jumps at the end of the warm-up: with a tenth of warm-up, from 1 to 0.9.

    Args:
        schedule: Name of the schedule.
        step: Optimiser steps made before this one.
        warmup_steps: Length of the warm-up.
        total_steps: Length of the training.
    """
    if step < warmup_steps:
        return step / warmup_steps
    if schedule == "linear":
        return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))
    return max(0.0, 1.0 - step / max(1, total_steps))


def build_scheduler(
    optimizer: Optimizer, schedule: Schedule, warmup_ratio: float, total_steps: int | float
) -> LambdaLR:
    """Return the schedule as a scheduler that steps once an optimiser step and keeps the ratios between the groups.

    Args:
        optimizer: The optimiser whose groups hold their full learning rates.
        schedule: Name of the schedule.
        warmup_ratio: Share of the training that the warm-up takes, in [0, 1); steps are rounded down.
        total_steps: Optimiser steps of the training.

    Raises:
        InputError: If the warm-up is out of range or the training has no end.
    """
    if not 0 <= warmup_ratio < 1:
        raise InputError(f"warmup_ratio is {warmup_ratio}; it must lie in [0, 1)")
    if total_steps == float("inf") or total_steps < 0:
        raise InputError("the learning-rate schedule needs an end: set trainer.max_epochs or trainer.max_steps")
    if schedule not in ("linear", "baidu"):
        raise InputError(f"schedule is {schedule!r}; known are 'linear' and 'baidu'")
    total = int(total_steps)
    warmup = int(total * warmup_ratio)

    def factor(step: int) -> float:
        return schedule_factor(schedule, step, warmup, total)

    return _Schedule(optimizer, factor)


class _Schedule(LambdaLR):
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the counters and rates of a state, and nothing else that it may hold.

        Raises:
            InputError: They are not what `state_dict` returns.
        """
        own = self.state_dict()
        taken = {key: value for key, value in state_dict.items() if key in own and key != "lr_lambdas"}
        for key, value in taken.items():
            same_length = not isinstance(value, list) or len(value) == len(own[key])
            rates = value if isinstance(value, list) else [value]
            if (
                type(value) is not type(own[key])
                or not same_length
                or not all(isinstance(one, int | float) for one in rates)
            ):
                raise InputError(f"the checkpoint is damaged: {key} of its schedule is not what was written")
        super().load_state_dict({**own, **taken})
