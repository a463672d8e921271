"""Layer decay, weight decay and schedules, by what the optimiser does to the parameters."""

import math

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    XLMConfig,
    XLMRobertaConfig,
    get_linear_schedule_with_warmup,
)

from ernie_m import ErnieMConfig
from ernie_m.errors import InputError
from lightning_modules.optimization import (
    build_optimizer,
    build_scheduler,
    check_state,
    parameter_groups,
    schedule_factor,
    undecayed_names,
)

SIZES = {"vocab_size": 30, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
CONFIGS: dict[str, PreTrainedConfig] = {
    "ernie_m": ErnieMConfig(num_hidden_layers=3, **SIZES),
    "xlm-roberta": XLMRobertaConfig(num_hidden_layers=3, **SIZES),
    "bert": BertConfig(num_hidden_layers=3, **SIZES),
    "xlm": XLMConfig(vocab_size=30, emb_dim=8, n_layers=3, n_heads=2, n_langs=2, lang2id={"en": 0, "de": 1}),
}
# Written by hand from transformers' names: one parameter of each kind with its exponent of d (0 for the head).
EXPONENTS = {
    "ernie_m": {
        "ernie_m.embeddings.word_embeddings.weight": 4,
        "ernie_m.embeddings.position_embeddings.weight": 4,
        "ernie_m.encoder.layers.0.self_attn.self_attn.q_proj.weight": 3,
        "ernie_m.encoder.layers.1.linear1.bias": 2,
        "ernie_m.encoder.layers.2.norm2.weight": 1,
        "ernie_m.pooler.dense.weight": 0,
        "classifier.weight": 0,
    },
    "xlm-roberta": {
        "roberta.embeddings.word_embeddings.weight": 4,
        "roberta.embeddings.token_type_embeddings.weight": 4,
        "roberta.encoder.layer.0.attention.self.query.weight": 3,
        "roberta.encoder.layer.2.output.LayerNorm.bias": 1,
        "classifier.dense.weight": 0,
        "classifier.out_proj.bias": 0,
    },
    "bert": {
        "bert.embeddings.position_embeddings.weight": 4,
        "bert.encoder.layer.1.intermediate.dense.weight": 2,
        "bert.pooler.dense.bias": 0,
        "classifier.weight": 0,
    },
    "xlm": {
        "transformer.embeddings.weight": 4,
        "transformer.position_embeddings.weight": 4,
        "transformer.lang_embeddings.weight": 4,
        "transformer.attentions.0.q_lin.weight": 3,
        "transformer.layer_norm1.1.weight": 2,
        "transformer.ffns.2.lin2.bias": 1,
        "transformer.layer_norm2.2.bias": 1,
        "sequence_summary.summary.weight": 0,
    },
}
EMBEDDING_NORMS = {
    "ernie_m": "ernie_m.embeddings.layer_norm.weight",
    "xlm-roberta": "roberta.embeddings.LayerNorm.weight",
    "bert": "bert.embeddings.LayerNorm.bias",
    "xlm": "transformer.layer_norm_emb.weight",
}


def network_of(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(CONFIGS[family])


def groups_of(network: nn.Module, family: str, **changes: object) -> list[dict]:
    settings = {"learning_rate": 1e-2, "layer_decay": 0.8, "weight_decay": 0.0, "decay_variant": "baidu"} | changes
    return parameter_groups(network, family, 3, **settings)


def changes_in_one_step(network: nn.Module, groups: list[dict], gradient: float = 1.0) -> dict[str, torch.Tensor]:
    """What one optimiser step does to each parameter when every gradient is the same number."""
    optimizer = build_optimizer(groups, (0.9, 0.999), 1e-12)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    optimizer.step()
    return {name: parameter.detach() - before[name] for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("variant", ["baidu", "paddlenlp"])
@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_first_adam_step_moves_each_parameter_by_its_learning_rate(family: str, variant: str) -> None:
    # Adam's first step is lr x sign(gradient), whatever the gradient's size.
    network = network_of(family)
    moved = changes_in_one_step(network, groups_of(network, family, decay_variant=variant), gradient=7.0)
    expected = EXPONENTS[family] | {EMBEDDING_NORMS[family]: 4 if variant == "paddlenlp" else 0}
    for name, exponent in expected.items():
        torch.testing.assert_close(moved[name], torch.full_like(moved[name], -1e-2 * 0.8**exponent), rtol=1e-4, atol=0)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_every_parameter_is_in_one_group_and_only_the_head_is_undecayed(family: str) -> None:
    network = network_of(family)
    groups = groups_of(network, family, decay_variant="paddlenlp")
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())
    top = {id(p) for group in groups if group["lr"] == 1e-2 for p in group["params"]}
    at_the_top = {name.split(".")[0] for name, p in network.named_parameters() if id(p) in top}
    pooled = {name for name, p in network.named_parameters() if id(p) in top and "pooler" in name}
    heads = {"classifier", "sequence_summary"}
    assert at_the_top - heads == {name.split(".")[0] for name in pooled}
    assert len({group["name"] for group in groups}) == len(groups)


@pytest.mark.parametrize("variant", ["baidu", "paddlenlp"])
def test_weight_decay_uses_the_learning_rate_of_the_variant(variant: str) -> None:
    # With zero gradients a step is the weight decay alone.
    network = network_of("ernie_m")
    start = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    groups = groups_of(network, "ernie_m", weight_decay=0.1, decay_variant=variant)
    moved = changes_in_one_step(network, groups, gradient=0.0)
    for name, exponent in EXPONENTS["ernie_m"].items():
        spared = name.endswith("bias") or "norm" in name
        rate = 0.0 if spared else 1e-2 * (1.0 if variant == "baidu" else 0.8**exponent)
        torch.testing.assert_close(moved[name], -start[name] * 0.1 * rate, rtol=1e-4, atol=1e-7)


def test_baidu_step_equals_their_formula_over_several_steps() -> None:
    """Adam, then the step rescaled by the factor, then p -= p_old * wd * lr: written out by hand."""
    network = network_of("ernie_m")
    name = "ernie_m.encoder.layers.0.linear1.weight"
    optimizer = build_optimizer(groups_of(network, "ernie_m", weight_decay=0.1), (0.9, 0.999), 1e-6)
    scheduler = build_scheduler(optimizer, "baidu", 0.2, 10)
    parameter = network.get_parameter(name)
    expected = parameter.detach().double().clone()
    first, second = torch.zeros_like(expected), torch.zeros_like(expected)
    for step in range(10):
        gradient = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) + step).view_as(expected)
        for other in network.parameters():
            other.grad = torch.zeros_like(other)
        parameter.grad = gradient.float()
        rate = 1e-2 * (step / 2 if step < 2 else 1 - step / 10)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        corrected = first / (1 - 0.9 ** (step + 1)) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-6)
        expected = expected - rate * 0.8**3 * corrected - expected * 0.1 * rate
        optimizer.step()
        scheduler.step()
    torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("schedule", ["linear", "baidu"])
def test_every_group_follows_the_schedule_at_every_step(schedule: str) -> None:
    network = network_of("bert")
    optimizer = build_optimizer(groups_of(network, "bert"), (0.9, 0.999), 1e-12)
    scheduler = build_scheduler(optimizer, schedule, 0.3, 10)
    peak = [group["initial_lr"] for group in optimizer.param_groups]
    factors = {
        "linear": [0, 1 / 3, 2 / 3, 1, 6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7],
        "baidu": [0, 1 / 3, 2 / 3, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1],
    }[schedule]
    for factor in factors:
        before = [group["params"][0].detach().clone() for group in optimizer.param_groups]
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        for group, old, rate in zip(optimizer.param_groups, before, peak, strict=True):
            change = group["params"][0].detach() - old
            torch.testing.assert_close(change, torch.full_like(change, -rate * factor), rtol=1e-3, atol=1e-7)
        scheduler.step()


@pytest.mark.parametrize(("warmup", "total"), [(0, 7), (3, 30), (10, 11)])
def test_linear_schedule_equals_transformers(warmup: int, total: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_linear_schedule_with_warmup(optimizer, warmup, total)
    for step in range(total + 2):
        assert schedule_factor("linear", step, warmup, total) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_baidu_schedule_jumps_at_the_end_of_the_warmup() -> None:
    assert schedule_factor("baidu", 99, 100, 1000) == pytest.approx(0.99)
    assert schedule_factor("baidu", 100, 100, 1000) == pytest.approx(0.9)
    assert schedule_factor("baidu", 1000, 100, 1000) == 0.0


def test_biases_and_layer_norms_of_every_family_are_spared() -> None:
    for family in CONFIGS:
        network = network_of(family)
        one_dimensional = {name for name, parameter in network.named_parameters() if parameter.ndim == 1}
        assert undecayed_names(network) == one_dimensional


def test_large_embeddings_have_the_rate_of_the_reference() -> None:
    # CoNLL's 4e-4 with d = 0.8: 2.2e-5 for the embeddings of base, 1.5e-6 for those of large.
    for layers, rate in ((12, 2.2e-5), (24, 1.5e-6)):
        config = ErnieMConfig(num_hidden_layers=layers, **SIZES)
        network = AutoModelForSequenceClassification.from_config(config)
        groups = parameter_groups(
            network,
            "ernie_m",
            layers,
            learning_rate=4e-4,
            layer_decay=0.8,
            weight_decay=0.01,
            decay_variant="baidu",
        )
        assert groups[0]["lr"] == pytest.approx(rate, rel=0.03)


def test_unknown_family_needs_no_layer_map_without_decay() -> None:
    network = nn.Linear(2, 2)
    groups = parameter_groups(
        network, "gpt2", 1, learning_rate=1.0, layer_decay=1.0, weight_decay=0.5, decay_variant="baidu"
    )
    assert sorted((group["lr"], group["weight_decay"]) for group in groups) == [(1.0, 0.0), (1.0, 0.5)]
    with pytest.raises(InputError, match=r"'gpt2'.*ernie_m"):
        parameter_groups(
            network, "gpt2", 1, learning_rate=1.0, layer_decay=0.9, weight_decay=0.0, decay_variant="baidu"
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"layer_decay": 0.0}, "layer_decay"), ({"learning_rate": 0.0}, "learning_rate"), ({"weight_decay": -1.0}, "-1")],
)
def test_values_out_of_range_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        groups_of(network_of("bert"), "bert", **changes)


def test_schedule_refuses_an_endless_training_and_a_bad_warmup() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(InputError, match="max_steps"):
        build_scheduler(optimizer, "linear", 0.1, math.inf)
    with pytest.raises(InputError, match=r"1\.5"):
        build_scheduler(optimizer, "linear", 1.5, 10)
    with pytest.raises(InputError, match="cosine"):
        build_scheduler(optimizer, "cosine", 0.1, 10)


def test_frozen_parameters_are_left_out_and_others_join_the_head() -> None:
    network = network_of("bert")
    network.bert.embeddings.requires_grad_(False)
    other = nn.Parameter(torch.zeros(()))
    groups = groups_of(network, "bert", weight_decay=0.1, others=[other])
    grouped = {id(parameter): group for group in groups for parameter in group["params"]}
    assert not any(id(parameter) in grouped for parameter in network.bert.embeddings.parameters())
    assert (grouped[id(other)]["lr"], grouped[id(other)]["weight_decay"]) == (1e-2, 0.0)


def stepped() -> tuple[torch.optim.Optimizer, nn.Parameter]:
    parameter = nn.Parameter(torch.ones(3, 2))
    group = {"name": "a", "params": [parameter], "lr": 0.1, "weight_decay": 0.0}
    optimizer = build_optimizer([group], (0.9, 0.999), 1e-6)
    optimizer.register_load_state_dict_pre_hook(check_state)
    parameter.grad = torch.ones(3, 2)
    optimizer.step()
    return optimizer, parameter


def test_a_state_is_taken_over() -> None:
    state = stepped()[0].state_dict()
    state["param_groups"][0] |= {"lr": 0.2, "fused": False, "maximize": True}
    optimizer, parameter = stepped()
    optimizer.load_state_dict(state)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["fused"], group["maximize"]) == (0.2, True, False)
    torch.testing.assert_close(optimizer.state[parameter]["exp_avg"], torch.full((3, 2), 0.1))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("exp_avg", torch.zeros(3)),
        ("exp_avg", torch.zeros(1).expand(3, 2)),
        ("exp_avg_sq", torch.zeros(2, 3).T),
        ("exp_avg_sq", torch.zeros(3, 2).to_sparse()),
        ("exp_avg", torch.zeros(3, 2, dtype=torch.int64)),
        ("exp_avg", 1.0),
        ("step", 1),
        ("step", torch.zeros(3)),
        ("other", torch.zeros(3, 2)),
    ],
)
def test_moments_are_shaped_like_their_parameters(key: str, value: object) -> None:
    """Fused kernels read and write by the parameter's size, whatever the moment's."""
    state = stepped()[0].state_dict()
    state["state"][0] = {**state["state"][0], key: value}
    with pytest.raises(InputError, match="its optimiser's state 0 is not that of a parameter"):
        stepped()[0].load_state_dict(state)


@pytest.mark.parametrize(
    "change", [{"lr": "a"}, {"lr": -1.0}, {"lr": float("nan")}, {"betas": (0.9,)}, {"params": [0, 1]}, {"eps": None}]
)
def test_groups_hold_rates(change: dict[str, object]) -> None:
    optimizer, _ = stepped()
    state = optimizer.state_dict()
    state["param_groups"][0] |= change
    with pytest.raises(InputError, match="a group of its optimiser is not what was written"):
        check_state(optimizer, state)
    for other in ({"state": {}, "param_groups": []}, {"state": [], "param_groups": state["param_groups"]}, {}):
        with pytest.raises(InputError, match="has other groups of parameters"):
            check_state(optimizer, other)


@pytest.mark.parametrize(
    ("key", "value"),
    [("_step_count", "x"), ("last_epoch", 1.5), ("base_lrs", [0.1, 0.2]), ("base_lrs", ["x"]), ("_last_lr", 3)],
)
def test_a_schedule_takes_numbers_alone(key: str, value: object) -> None:
    scheduler = build_scheduler(stepped()[0], "linear", 0.1, 10)
    state = scheduler.state_dict()
    scheduler.load_state_dict({**state, "last_epoch": 4, "get_lr": 5, "optimizer": None})
    assert scheduler.last_epoch == 4
    assert callable(scheduler.get_lr)
    assert scheduler.optimizer is not None
    with pytest.raises(InputError, match=f"{key} of its schedule is not what was written"):
        scheduler.load_state_dict({**state, key: value})
