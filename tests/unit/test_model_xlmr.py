"""XLM-R without token types is ERNIE-M: transformers' XLMRobertaModel, which we did not write, as a standing oracle."""

import re

import pytest
import torch
from transformers import XLMRobertaConfig, XLMRobertaModel

from ernie_m import ErnieMConfig, ErnieMModel

SIZES = {
    "vocab_size": 300,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 40,
    "layer_norm_eps": 1e-5,
}


def pair_of_models(implementation: str) -> tuple[XLMRobertaModel, ErnieMModel]:
    """Both models with one set of weights; every parameter is random, so that none can be left out unnoticed."""
    torch.manual_seed(0)
    theirs = XLMRobertaModel(XLMRobertaConfig(**SIZES, type_vocab_size=1, attn_implementation=implementation)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    state = theirs.state_dict()
    token_type = state.pop("embeddings.token_type_embeddings.weight")
    state["embeddings.position_embeddings.weight"] = state["embeddings.position_embeddings.weight"] + token_type[0]
    renames = {
        r"^embeddings\.LayerNorm": "embeddings.layer_norm",
        r"^encoder\.layer\.": "encoder.layers.",
        r"attention\.self\.query": "self_attn.self_attn.q_proj",
        r"attention\.self\.key": "self_attn.self_attn.k_proj",
        r"attention\.self\.value": "self_attn.self_attn.v_proj",
        r"attention\.output\.dense": "self_attn.out_proj",
        r"attention\.output\.LayerNorm": "norm1",
        r"intermediate\.dense": "linear1",
        r"output\.dense": "linear2",
        r"output\.LayerNorm": "norm2",
    }
    for pattern, name in renames.items():
        state = {re.sub(pattern, name, key): value for key, value in state.items()}
    ours = ErnieMModel(ErnieMConfig(**SIZES, attn_implementation=implementation)).eval()
    ours.load_state_dict(state, strict=True)
    return theirs, ours


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("lengths", [(38, 38, 38), (38, 20, 1)])
def test_same_outputs_as_xlmr(implementation: str, lengths: tuple[int, ...]) -> None:
    theirs, ours = pair_of_models(implementation)
    ids = torch.randint(4, 300, (3, 38), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(38)[None] < torch.tensor(lengths)[:, None]
    ids[~mask] = 1
    asked = {"output_hidden_states": True, "output_attentions": implementation == "eager"}
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=mask.long(), **asked)
        given = ours(input_ids=ids, attention_mask=mask.long(), **asked)
    torch.testing.assert_close(given.pooler_output, expected.pooler_output, rtol=0, atol=1e-5)
    assert len(given.hidden_states) == len(expected.hidden_states) == 4
    pairs = [(given.last_hidden_state, expected.last_hidden_state)]
    pairs += zip(given.hidden_states, expected.hidden_states, strict=True)
    for ours_now, theirs_now in pairs:
        torch.testing.assert_close(ours_now[mask], theirs_now[mask], rtol=0, atol=1e-5)
    if implementation == "eager":
        for ours_now, theirs_now in zip(given.attentions, expected.attentions, strict=True):
            real = mask[:, None, :, None].expand_as(ours_now)
            torch.testing.assert_close(ours_now[real], theirs_now[real], rtol=0, atol=1e-6)


def test_same_gradients_as_xlmr() -> None:
    theirs, ours = pair_of_models("sdpa")
    ids = torch.randint(4, 300, (2, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for model in (theirs, ours):
        model(input_ids=ids, attention_mask=mask).pooler_output.square().sum().backward()
    expected = theirs.encoder.layer[0].attention.self.query.weight.grad
    torch.testing.assert_close(
        ours.encoder.layers[0].self_attn.self_attn.q_proj.weight.grad, expected, atol=1e-5, rtol=0
    )
    expected = theirs.embeddings.word_embeddings.weight.grad
    torch.testing.assert_close(ours.embeddings.word_embeddings.weight.grad, expected, atol=1e-5, rtol=0)
    assert expected.abs().max() > 1e-3
