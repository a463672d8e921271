"""The model held against transformers 4.57's ErnieM: checkpoints it wrote, and what it computed from them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

import ernie_m

pytestmark = pytest.mark.real_data

NAMES = (
    "ErnieMModel",
    "ErnieMForSequenceClassification",
    "ErnieMForTokenClassification",
    "ErnieMForQuestionAnswering",
    "ErnieMForMultipleChoice",
    "ErnieMForInformationExtraction",
)
TARGETS = ("labels", "start_positions", "end_positions")


def load(folder: Path, implementation: str) -> Any:
    model, loading = getattr(ernie_m, folder.name).from_pretrained(
        folder, output_loading_info=True, attn_implementation=implementation
    )
    assert not any(loading.values()), loading
    assert model.dtype == torch.float32
    return model.eval()


def test_every_oracle_is_tested(shared: Path) -> None:
    assert {path.name for path in (shared / "oracle" / "hf").iterdir()} == set(NAMES)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_losses(shared: Path, name: str, implementation: str) -> None:
    recorded = load_file(shared / "oracle" / "hf" / name / "io.safetensors")
    mask = recorded["attention_mask"].bool()
    inputs = {key: value for key, value in recorded.items() if key in ("input_ids", "attention_mask", *TARGETS)}
    expected = {key: value for key, value in recorded.items() if key not in inputs and "." not in key}
    assert expected
    with torch.inference_mode():
        given = load(shared / "oracle" / "hf" / name, implementation)(**inputs)
    for key, values in expected.items():
        assert given[key].shape == values.shape
        real = mask if values.shape[:2] == mask.shape and values.ndim > 1 else ...
        torch.testing.assert_close(given[key][real], values[real], rtol=0, atol=2e-5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_hidden_states(shared: Path, implementation: str) -> None:
    folder = shared / "oracle" / "hf" / "ErnieMModel"
    recorded = load_file(folder / "io.safetensors")
    mask = recorded["attention_mask"].bool()
    with torch.inference_mode():
        given = load(folder, implementation)(
            input_ids=recorded["input_ids"], attention_mask=recorded["attention_mask"], output_hidden_states=True
        )
    assert len(given.hidden_states) == sum(key.startswith("hidden_states.") for key in recorded) == 5
    for number, values in enumerate(given.hidden_states):
        torch.testing.assert_close(values[mask], recorded[f"hidden_states.{number}"][mask], rtol=0, atol=2e-5)


def test_attentions(shared: Path) -> None:
    folder = shared / "oracle" / "hf" / "ErnieMModel"
    recorded = load_file(folder / "io.safetensors")
    with torch.inference_mode():
        given = load(folder, "eager")(
            input_ids=recorded["input_ids"], attention_mask=recorded["attention_mask"], output_attentions=True
        )
    expected = recorded["attentions.0"]
    assert len(given.attentions) == 4
    assert given.attentions[0].shape == expected.shape
    real = recorded["attention_mask"].bool()[:, None, :, None].expand_as(expected)
    torch.testing.assert_close(given.attentions[0][real], expected[real], rtol=0, atol=2e-5)


def test_padding_is_told_by_the_pad_id_without_a_mask(shared: Path) -> None:
    folder = shared / "oracle" / "hf" / "ErnieMModel"
    recorded = load_file(folder / "io.safetensors")
    mask = recorded["attention_mask"].bool()
    ids = recorded["input_ids"].masked_fill(~mask, 1)
    assert not mask.all()
    with torch.inference_mode():
        given = load(folder, "sdpa")(input_ids=ids)
    torch.testing.assert_close(given.last_hidden_state[mask], recorded["last_hidden_state"][mask], rtol=0, atol=2e-5)


def test_auto_model_finds_the_class(shared: Path) -> None:
    assert type(AutoModel.from_pretrained(shared / "oracle" / "hf" / "ErnieMModel")) is ernie_m.ErnieMModel
