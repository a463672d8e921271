"""Conversion held against PaddleNLP 2.8.1: the same outputs from every head on the same weights and inputs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from ernie_m.conversion import convert
from ernie_m.conversion_sources import HEADS
from ernie_m.errors import InputError
from ernie_m.paddle_pickle import read_pdparams

pytestmark = pytest.mark.real_data

ORACLES = {
    "ErnieMModel": "base",
    "ErnieMForSequenceClassification": "sequence-classification",
    "ErnieMForTokenClassification": "token-classification",
    "ErnieMForQuestionAnswering": "question-answering",
    "UIEM": "information-extraction",
}
TOLD_BY_THE_WEIGHTS = ("ErnieMModel", "UIEM")


def test_every_oracle_is_tested(shared: Path) -> None:
    assert {path.name for path in (shared / "oracle" / "paddle").iterdir()} == set(ORACLES)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ORACLES)
def test_outputs_are_paddles(shared: Path, tmp_path: Path, name: str, implementation: str) -> None:
    source = shared / "oracle" / "paddle" / name
    head = ORACLES[name]
    report = convert(source, tmp_path / "target", head=None if name in TOLD_BY_THE_WEIGHTS else head)
    assert report.head == head
    model, loading = HEADS[head].from_pretrained(
        tmp_path / "target", output_loading_info=True, attn_implementation=implementation
    )
    assert not any(loading.values())
    recorded = dict(np.load(source / "io.npz"))
    ids, mask = (torch.from_numpy(recorded.pop(key)) for key in ("input_ids", "attention_mask"))
    with torch.inference_mode():
        given = model.eval()(input_ids=ids, attention_mask=mask)
    assert recorded
    for key, expected in recorded.items():
        # PaddleNLP's UIEM gives probabilities, ours the logits.
        values = given[key.replace("_prob", "_logits")]
        values = values.sigmoid() if key.endswith("_prob") else values
        assert values.shape == expected.shape
        real = mask.bool() if expected.shape[:2] == mask.shape else ...
        torch.testing.assert_close(values[real], torch.from_numpy(expected)[real], rtol=0, atol=2e-5)


def test_paddles_safetensors_are_the_same_weights(shared: Path, tmp_path: Path) -> None:
    """PaddleNLP 2.6 and newer write them as numpy's, by Paddle's names and with Paddle's axes."""
    source = Path(shutil.copytree(shared / "oracle" / "paddle" / "ErnieMForTokenClassification", tmp_path / "source"))
    head = "token-classification"
    convert(source, tmp_path / "pickled", head=head)
    tensors = {name: tensor.read() for name, tensor in read_pdparams(source / "model_state.pdparams").items()}
    (source / "model_state.pdparams").unlink()
    config = json.loads((source / "config.json").read_text(encoding="utf-8")) | {"model_type": "ernie_m"}
    (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, source / "model.safetensors", metadata={"format": "np"})
    convert(source, tmp_path / "target", head=head)
    names = ("model.safetensors", "config.json")
    assert [(tmp_path / "target" / name).read_bytes() for name in names] == [
        (tmp_path / "pickled" / name).read_bytes() for name in names
    ]
    with pytest.raises(InputError, match="is ERNIE-M in the published format already"):
        convert(tmp_path / "target", tmp_path / "again")


def test_labels_are_counted_from_the_weights(shared: Path, tmp_path: Path) -> None:
    for name, labels in (("ErnieMForSequenceClassification", 3), ("ErnieMForTokenClassification", 9)):
        convert(shared / "oracle" / "paddle" / name, tmp_path / name, head=ORACLES[name])
        model = HEADS[ORACLES[name]].from_pretrained(tmp_path / name)
        assert sorted(model.config.id2label) == list(range(labels))


@pytest.mark.parametrize("name", ["ErnieMForTokenClassification", "ErnieMForQuestionAnswering", "UIEM"])
def test_the_pooler_is_named_as_dropped(shared: Path, tmp_path: Path, name: str) -> None:
    report = convert(shared / "oracle" / "paddle" / name, tmp_path / "target", head=ORACLES[name])
    assert report.dropped == ("ernie_m.pooler.dense.bias", "ernie_m.pooler.dense.weight")


@pytest.mark.parametrize("name", sorted(set(ORACLES) - set(TOLD_BY_THE_WEIGHTS)))
def test_a_head_that_files_do_not_tell_is_asked_for_whatever_the_folder_is_called(
    shared: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(shared / "oracle" / "paddle" / name, tmp_path / "UIEM")
    with pytest.raises(InputError, match=rf"--head .*{ORACLES[name]}"):
        convert(tmp_path / "UIEM", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["UIEM"]
