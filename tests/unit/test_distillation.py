"""How `ernie-m-mini` learnt: parts that two vocabularies share, and weights that stay what blocks of 4 bits hold."""

import re
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ernie_m import ErnieMConfig, ErnieMModel, ErnieMTokenizer
from ernie_m.mini import distillation
from ernie_m.mini.distillation import LONGEST, distil, example, made_up
from ernie_m.packed import pack, unpack
from ernie_m.trimming import Selection, select, trim_network, trim_tokenizer

TEXTS = ["All human beings are born free and equal in dignity and rights.", "Alle Menschen sind frei geboren."]


@pytest.fixture(scope="module")
def tokenizers(
    sample_tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ErnieMTokenizer, ErnieMTokenizer, Selection]:
    whole = ErnieMTokenizer.from_pretrained(sample_tokenizer_dir, segmentation="raw")
    # Other texts are cut into smaller pieces.
    selection = select(whole, TEXTS[:1])
    return whole, trim_tokenizer(whole, selection, tmp_path_factory.mktemp("small")), selection


@settings(max_examples=60)
@given(text=st.text(alphabet="abdeghimnoqrst rn.,é中ßq\t", max_size=200) | st.sampled_from([" ".join(TEXTS * 9), ""]))
def test_parts_are_the_same_text_on_both_sides(text: str, tokenizers: tuple) -> None:
    whole, small, _ = tokenizers
    found = example(text, whole, small)
    pieces = [tokenizer.sp_model.Encode(text, out_type=str) for tokenizer in (whole, small)]
    if found is None:
        # Nothing to read, or no place in reach where both end.
        assert min(map(len, pieces)) == 0 or max(map(len, pieces)) > LONGEST
        return
    texts = []
    for own, ids, parts in zip(pieces, (found.theirs, found.ours), (found.their_parts, found.our_parts), strict=True):
        assert len(ids) == len(parts) <= LONGEST
        runs = [[piece for _, piece in run] for _, run in groupby(zip(parts, own, strict=False), lambda pair: pair[0])]
        texts.append(["".join(run) for run in runs])
        assert sorted(set(parts.tolist())) == list(range(found.parts))
    assert texts[0] == texts[1]
    assert "".join(pieces[0]).startswith("".join(texts[0]))


def test_a_network_learns_the_vectors_of_another_and_stays_in_blocks(
    tokenizers: tuple, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, small, selection = tokenizers
    torch.manual_seed(0)
    config = ErnieMConfig(
        vocab_size=len(whole), hidden_size=32, num_hidden_layers=12, num_attention_heads=2, intermediate_size=64,
        initializer_range=0.3,
    )  # fmt: skip
    teacher = ErnieMModel(config, add_pooling_layer=False)
    teacher.load_state_dict(
        {name: torch.from_numpy(tensor) for name, tensor in unpack(pack(_arrays(teacher.state_dict()))).items()}
    )
    pupil = ErnieMModel(config, add_pooling_layer=False)
    pupil.load_state_dict(teacher.state_dict())
    trim_network(pupil, selection)
    before = _arrays(pupil.state_dict())
    monkeypatch.setattr(distillation, "TOKENS", 256)
    model = whole.sp_model
    pieces = [model.IdToPiece(number) for number in range(model.GetPieceSize())]
    invent = made_up(pieces, np.zeros(len(pieces)), {"": np.arange(4, len(pieces))}, [1])
    texts = {"en": [f"{TEXTS[0]} {number}" for number in range(30)], "de": [f"{TEXTS[1]} {n}" for n in range(30)]}
    distil(teacher, pupil, (whole, small), texts, invent, steps=60, learning_rate=3e-3)
    found = re.findall(r"held-out parts ([\d.]+), texts ([\d.]+)", capsys.readouterr().out)
    (parts_before, texts_before), (parts_after, texts_after) = ([float(number) for number in two] for two in found)
    assert parts_after < 0.9 * parts_before
    assert texts_after < 0.9 * texts_before
    after = _arrays(pupil.state_dict())
    assert after.keys() == before.keys()
    assert not np.array_equal(after["encoder.layers.0.linear1.weight"], before["encoder.layers.0.linear1.weight"])
    packed = unpack(pack(after))
    assert all(np.array_equal(packed[name], after[name]) for name in after)


def _arrays(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
