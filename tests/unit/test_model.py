"""What the model must do beyond its outputs, which the oracles check: dtypes, masks, compilation, bad input."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

import ernie_m
from ernie_m import ErnieMConfig, ErnieMForMaskedLM, ErnieMForQuestionAnswering, ErnieMModel, InputError

HEADS = {
    "ErnieMModel": {},
    "ErnieMForSequenceClassification": {"labels": torch.tensor([0, 1, 2])},
    "ErnieMForTokenClassification": {"labels": torch.arange(33).view(3, 11) % 3},
    "ErnieMForQuestionAnswering": {
        "start_positions": torch.tensor([1, 2, 3]),
        "end_positions": torch.tensor([4, 5, 6]),
    },
    "ErnieMForInformationExtraction": {
        "start_positions": (torch.arange(33).view(3, 11) == 4).long(),
        "end_positions": (torch.arange(33).view(3, 11) == 6).long(),
    },
    "ErnieMForMaskedLM": {"labels": torch.arange(33).view(3, 11)},
}


def config_of(name: str = "", **overrides: Any) -> ErnieMConfig:
    sizes = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    labels = 2 if name == "ErnieMForQuestionAnswering" else 3
    return ErnieMConfig(**(sizes | {"intermediate_size": 64, "num_labels": labels} | overrides))


def build(name: str, **overrides: Any) -> nn.Module:
    torch.manual_seed(0)
    return getattr(ernie_m, name)(config_of(name, **overrides)).eval()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    ids = torch.randint(4, 99, (3, 11), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    mask[2, 3:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 1), "attention_mask": mask}


def first_output(outputs: Any) -> Tensor:
    return next(value for key, value in outputs.items() if key != "loss")


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_whole_model_in_half_precision_is_close_to_float32(
    name: str, dtype: torch.dtype, attention: str, batch: dict[str, Tensor]
) -> None:
    model = build(name, attn_implementation=attention)
    expected = first_output(model(**batch))
    outputs = model.to(dtype)(**batch, **HEADS[name])
    assert first_output(outputs).dtype == dtype
    real = batch["attention_mask"].bool() if expected.shape[:2] == (3, 11) else slice(None)
    torch.testing.assert_close(first_output(outputs).float()[real], expected[real], atol=0.06, rtol=0.05)
    if "loss" in outputs:
        assert torch.isfinite(outputs.loss)


@pytest.mark.parametrize("name", HEADS)
def test_gradient_checkpointing_gives_the_same_gradients(name: str, batch: dict[str, Tensor]) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = build(name, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert all(layer.gradient_checkpointing for layer in model.base_model.encoder.layers)
        outputs = model(**batch, **HEADS[name])
        (outputs.loss if "loss" in outputs else outputs.pooler_output.sum()).backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 30
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_two_and_four_dimensional_masks_agree(attention: str, batch: dict[str, Tensor]) -> None:
    model = build("ErnieMModel", attn_implementation=attention)
    mask = batch["attention_mask"]
    expected = model(**batch).last_hidden_state
    boolean = mask[:, None, None, :].bool().expand(3, 1, 11, 11)
    additive = torch.zeros(3, 1, 11, 11).masked_fill(~boolean, torch.finfo(torch.float32).min)
    for four in (boolean, boolean.long(), additive):
        outputs = model(batch["input_ids"], four)
        torch.testing.assert_close(outputs.last_hidden_state[mask.bool()], expected[mask.bool()])
    # A mask of its own per query: the first token sees itself alone, so nothing else moves it.
    own = boolean.clone()
    own[:, :, 0, 1:] = False
    changed = batch["input_ids"].clone()
    changed[:, 1:] = 5
    one_layer = build("ErnieMModel", attn_implementation=attention, num_hidden_layers=1)
    first, second = (one_layer(ids, own).last_hidden_state[:, 0] for ids in (batch["input_ids"], changed))
    torch.testing.assert_close(first, second)


def test_padding_is_told_by_its_id_where_no_mask_is_given(batch: dict[str, Tensor]) -> None:
    model = build("ErnieMModel")
    real = batch["attention_mask"].bool()
    without = model(batch["input_ids"]).last_hidden_state
    torch.testing.assert_close(without[real], model(**batch).last_hidden_state[real])
    # [CLS] is id 0 and must not be taken for padding.
    ids = batch["input_ids"].clone()
    ids[:, 0] = 0
    alone = model(ids[:1, :]).last_hidden_state
    torch.testing.assert_close(alone, model(ids[:1, :], torch.ones(1, 11, dtype=torch.long)).last_hidden_state)


def test_embeddings_stand_for_ids_and_padding_changes_nothing(batch: dict[str, Tensor]) -> None:
    model = build("ErnieMModel")
    ids = batch["input_ids"][:1]
    vectors = model.get_input_embeddings()(ids)
    expected = model(ids).last_hidden_state
    torch.testing.assert_close(model(inputs_embeds=vectors).last_hidden_state, expected)
    padded = torch.nn.functional.pad(ids, (0, 5), value=1)
    torch.testing.assert_close(model(padded).last_hidden_state[:, :11], expected)


def test_inputs_are_left_as_they_were(batch: dict[str, Tensor]) -> None:
    positions = torch.arange(11).expand(3, 11).contiguous()
    given = batch | {"position_ids": positions}
    copies = {key: value.clone() for key, value in given.items()}
    model = build("ErnieMModel")
    outputs = model(**given)
    for key, value in given.items():
        assert torch.equal(value, copies[key]), key
    torch.testing.assert_close(outputs.last_hidden_state, model(**batch).last_hidden_state)
    shifted = model(**batch, position_ids=positions + 1)
    assert not torch.allclose(shifted.last_hidden_state, outputs.last_hidden_state, atol=1e-4)


def test_multiple_choice_is_sequence_classification_of_each_choice(batch: dict[str, Tensor]) -> None:
    model = build("ErnieMForMultipleChoice")
    choices = {key: torch.stack([value, value.flip(0)], dim=1) for key, value in batch.items()}
    outputs = model(**choices, labels=torch.tensor([0, 1, 0]))
    assert outputs.logits.shape == (3, 2)
    pooled = model.ernie_m(**batch).pooler_output
    torch.testing.assert_close(outputs.logits[:, 0], model.classifier(pooled).squeeze(-1))
    vectors = model.get_input_embeddings()(choices["input_ids"])
    by_vectors = model(inputs_embeds=vectors, attention_mask=choices["attention_mask"])
    torch.testing.assert_close(by_vectors.logits, outputs.logits)


def test_sequence_classification_losses_by_kind_of_label(batch: dict[str, Tensor]) -> None:
    model = build("ErnieMForSequenceClassification")
    several = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    outputs = model(**batch, labels=several)
    expected = nn.functional.binary_cross_entropy_with_logits(outputs.logits, several)
    torch.testing.assert_close(outputs.loss, expected)
    # The kind of one batch's labels says nothing about the next one's.
    assert model.config.problem_type is None
    regression = build("ErnieMForSequenceClassification", num_labels=1)
    numbers = torch.tensor([0.5, -1.0, 2.0])
    outputs = regression(**batch, labels=numbers)
    torch.testing.assert_close(outputs.loss, ((outputs.logits[:, 0] - numbers) ** 2).mean())


@pytest.mark.parametrize("name", HEADS)
def test_compiles_without_graph_breaks(name: str, batch: dict[str, Tensor]) -> None:
    torch.compiler.reset()  # otherwise the heads share one limit of recompilations
    model = build(name)
    expected = first_output(model(**batch))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(first_output(compiled(**batch)), expected)
    torch.testing.assert_close(first_output(compiled(batch["input_ids"])), first_output(model(batch["input_ids"])))


@pytest.mark.parametrize("name", HEADS)
def test_exports_with_dynamic_shapes(name: str, batch: dict[str, Tensor]) -> None:
    model = build(name)
    shape = {0: torch.export.Dim("batch", max=64), 1: torch.export.Dim("length", max=512)}
    program = torch.export.export(model, (), batch, dynamic_shapes={"input_ids": shape, "attention_mask": shape})
    wider = {key: torch.nn.functional.pad(value, (0, 2), value=int(key == "input_ids")) for key, value in batch.items()}
    for inputs in (batch, wider):
        torch.testing.assert_close(first_output(program.module()(**inputs)), first_output(model(**inputs)))


def test_flex_attention_agrees_with_sdpa(batch: dict[str, Tensor]) -> None:
    real = batch["attention_mask"].bool()
    # The kernel's own arithmetic without compiling it, which takes half a minute on a CPU.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        outputs = [
            build("ErnieMModel", attn_implementation=name, num_hidden_layers=1)(**batch).last_hidden_state[real]
            for name in ("sdpa", "flex_attention")
        ]
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-5)


def computed_tokens(model: nn.Module, **inputs: Any) -> int:
    """How many tokens of each text the last layer computes."""
    seen = []
    hook = model.ernie_m.encoder.layers[-1].linear1.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(**inputs)
    hook.remove()
    return int(seen[0].shape[1])


def masks_of(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same texts without padding, and masks of every form; the last is another one for each query."""
    own = torch.rand(3, 1, 11, 11, generator=torch.Generator().manual_seed(3)) < 0.6
    own[..., 0] = True
    two = batch["attention_mask"]
    return {
        "no padding": torch.ones_like(two),
        "two-dimensional": two,
        "boolean": two[:, None, None, :].bool(),
        "of each query": own,
        "additive": torch.zeros(3, 1, 11, 11).masked_fill(~own, torch.finfo(torch.float32).min),
    }


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("form", ["no padding", "two-dimensional", "boolean", "of each query", "additive"])
def test_a_classifier_computes_one_token_in_the_last_layer_and_the_same_result(
    attention: str, layers: int, form: str, batch: dict[str, Tensor]
) -> None:
    model = build("ErnieMForSequenceClassification", attn_implementation=attention, num_hidden_layers=layers)
    batch = {"input_ids": batch["input_ids"], "attention_mask": masks_of(batch)[form]}
    assert computed_tokens(model, **batch) == 1
    assert computed_tokens(model, **batch, first_token_only=False) == 11
    logits = model(**batch).logits
    logits.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    expected = model.classifier(model.ernie_m(**batch).pooler_output)
    expected.square().sum().backward()
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-6, rtol=1e-4)


def test_all_tokens_are_computed_where_they_are_asked_for(batch: dict[str, Tensor]) -> None:
    model = build("ErnieMForSequenceClassification", attn_implementation="eager")
    for asked in ({"output_hidden_states": [0]}, {"is_causal": True}, {"position_bias": torch.zeros(3, 4, 11, 11)}):
        assert computed_tokens(model, **batch, **asked) == 11
    for asked in ("output_hidden_states", "output_attentions"):
        assert computed_tokens(model, **batch, **{asked: True}) == 11
        named = build("ErnieMForSequenceClassification", attn_implementation="eager", **{asked: True})
        assert computed_tokens(named, **batch) == 11
    outputs = model(**batch, output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in outputs.hidden_states] == [(3, 11, 32)] * 3
    assert [tuple(state.shape) for state in outputs.attentions] == [(3, 4, 11, 11)] * 2
    torch.testing.assert_close(outputs.logits, model(**batch).logits, atol=1e-6, rtol=1e-5)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        flex = build("ErnieMForSequenceClassification", attn_implementation="flex_attention")
        assert computed_tokens(flex, **batch) == 11


def test_published_sizes() -> None:
    with torch.device("meta"):
        for config, tensors, parameters in (
            (ErnieMConfig.base(), 198, 278_042_880),
            (ErnieMConfig.large(), 390, 559_889_408),
        ):
            model = ErnieMModel(config)
            assert len(model.state_dict()) == tensors
            assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_auto_classes_load_a_published_folder(tiny_checkpoint: Path) -> None:
    assert isinstance(AutoConfig.from_pretrained(tiny_checkpoint), ErnieMConfig)
    model, report = AutoModel.from_pretrained(tiny_checkpoint, output_loading_info=True)
    assert isinstance(model, ErnieMModel)
    assert not any(report.values())
    head = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint, num_labels=5)
    assert head.classifier.out_features == 5
    for name, tensor in model.state_dict().items():
        assert torch.equal(head.state_dict()[f"ernie_m.{name}"], tensor), name


def test_masked_language_model_is_tied_and_survives_saving(tmp_path: Path, batch: dict[str, Tensor]) -> None:
    model = build("ErnieMForMaskedLM")
    assert isinstance(model, ErnieMForMaskedLM)
    nn.init.normal_(model.lm_head.bias)
    assert model.lm_head.decoder.weight is model.get_input_embeddings().weight
    assert model.lm_head.decoder.bias is model.lm_head.bias
    model.save_pretrained(tmp_path)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert again.lm_head.decoder.weight is again.get_input_embeddings().weight
    torch.testing.assert_close(again(**batch).logits, model(**batch).logits)
    again.resize_token_embeddings(120)
    assert again(**batch).logits.shape == (3, 11, 120)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model(torch.full((1, 513), 5)), "513 tokens, this model takes 512"),
        (lambda model: model(inputs_embeds=torch.zeros(1, 513, 32)), "513 tokens"),
        (lambda model: model(torch.tensor([[5, 99]])), "holds 99, outside the vocabulary of 99"),
        (lambda model: model(torch.tensor([[5, -1]])), "holds -1"),
        (lambda model: model(), "exactly one of input_ids and inputs_embeds"),
        (lambda model: model(torch.tensor([[5]]), torch.ones(1, 1, 1)), r"shape \(1, 1, 1\)"),
    ],
)
def test_bad_input_is_named(call: Callable[[nn.Module], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(build("ErnieMModel"))


def test_bad_configurations_are_named() -> None:
    with pytest.raises(InputError, match="hidden_size 30 is not a multiple of num_attention_heads 4"):
        config_of(hidden_size=30)
    with pytest.raises(InputError, match="needs num_labels 2"):
        ErnieMForQuestionAnswering(config_of())
    with pytest.raises(InputError, match="takes no 4-D attention_mask"):
        build("ErnieMModel", attn_implementation="flex_attention")(torch.tensor([[5, 6]]), torch.ones(1, 1, 2, 2))


def test_masked_positions_alone_give_the_same_logits_loss_and_gradient() -> None:
    model = build("ErnieMForMaskedLM", vocab_size=90)
    ids, labels = torch.randint(4, 90, (3, 11)), torch.full((3, 11), -100)
    labels[0, 2], labels[0, 7], labels[2, 10] = 5, 60, 89
    positions = torch.tensor([2, 7, 32])
    whole, alone = model(ids, labels=labels), model(ids, labels=labels, predicted_positions=positions)
    assert alone.logits.shape == (3, 90)
    torch.testing.assert_close(alone.logits, whole.logits.flatten(0, 1)[positions], rtol=0, atol=1e-6)
    gradients = []
    for output in (whole, alone):
        model.zero_grad()
        output.loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(model(ids, predicted_positions=positions).logits, alone.logits)
