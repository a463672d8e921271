"""Pre-training: what a masked token sees, what is hidden, and each objective's loss against the plain computation."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

from ernie_m import ErnieMConfig, ErnieMForMaskedLM
from ernie_m.errors import InputError
from lightning_modules import Pretraining, SentenceRetrieval, pretraining, token_losses
from lightning_modules.cross_attention import check_attention, check_dropout, cross_attention, for_attention
from lightning_modules.masking import BERT, ONLY_MASKS, Masker, choose, draws, pick, uniform
from lightning_modules.objectives import check_data, check_room, is_target
from lightning_modules.pair_rows import sides, with_placeholders

# ERNIE-M's special ids, 46 ordinary ones, and the mask at the end.
CLS, PAD, SEP, UNK, MASK = 0, 1, 2, 3, 50
VOCABULARY = 51
KINDS = torch.tensor([0] * 4 + [2, 1] * 23 + [0], dtype=torch.int8)
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
DATA = SimpleNamespace(token_kinds=KINDS.numpy, mask_token_id=MASK, pair_separators=2)
LANGUAGES = ["en", "de", "en-de"]

Batch = dict[str, torch.Tensor]


def ernie_m(layers: int = 2, **changes: Any) -> ErnieMForMaskedLM:
    torch.manual_seed(0)
    config = ErnieMConfig(num_hidden_layers=layers, initializer_range=0.3, **SIZES, **NO_DROPOUT)
    return ErnieMForMaskedLM._from_config(config, **changes)


def xlm_r(layers: int = 2, **changes: Any) -> XLMRobertaForMaskedLM:
    torch.manual_seed(0)
    settings = {
        "num_hidden_layers": layers,
        "initializer_range": 0.3,
        "max_position_embeddings": 514,
        "pad_token_id": PAD,
    }
    config = XLMRobertaConfig(**settings, **SIZES, **NO_DROPOUT)
    return XLMRobertaForMaskedLM._from_config(config, **changes)


def batch_of(lengths: list[tuple[int, int]], seed: int = 0) -> Batch:
    """Rows of texts (second length 0) and pairs, padded: tokens are drawn from the ordinary ones."""
    generator = torch.Generator().manual_seed(seed)
    rows, starts = [], []
    for first, second in lengths:
        tokens = torch.randint(4, MASK, (first + second,), generator=generator).tolist()
        row = [CLS, *tokens[:first], SEP]
        starts.append(len(row))
        rows.append(row + ([SEP, *tokens[first:], SEP] if second else []))
    longest = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    ordinary = float(sum(first + second for first, second in lengths))
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "target_start": torch.tensor(starts),
        "language": torch.tensor([2 if second else 0 for _, second in lengths]),
        "example_ids": torch.arange(len(rows)),
        "weights": torch.ones(len(rows)),
        "normaliser": torch.tensor(ordinary),
    }


def module_of(network: Any, shares: dict[str, float], **arguments: Any) -> Pretraining:
    module = Pretraining("none", shares=shares, **arguments)
    module.languages = LANGUAGES
    module.read_vocabulary(DATA)
    network.config._name_or_path = ""
    module.build_network = lambda restored: (network, [])
    module.configure_model()
    return module


def own_gradient(network: Any, batch: Batch, chosen: torch.Tensor, allowed: torch.Tensor) -> float:
    """The largest gradient of a masked position's vector with respect to unmasked embeddings of its own sentence."""
    embedded = network.get_input_embeddings()(batch["input_ids"].masked_fill(chosen, MASK)).detach().requires_grad_()
    mask = for_attention(allowed, network.config._attn_implementation)
    hidden = network.base_model(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
    second, present = is_target(batch), batch["attention_mask"].bool()
    # Not the square, which LayerNorm keeps constant.
    probe = torch.randn(hidden.shape[-1])
    worst = 0.0
    for row, place in chosen.nonzero().tolist():
        (gradient,) = torch.autograd.grad(hidden[row, place] @ probe, embedded, retain_graph=True)
        words = ~chosen[row] & present[row]
        is_own = second[row] == second[row, place]
        worst = max(worst, float(gradient[row, words & is_own].abs().max()))
        # The other sentence is what it is predicted from.
        assert float(gradient[row, words & ~is_own].abs().max()) > 1e-3
    return worst


def parts(masked: torch.Tensor, second: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Same sentence, and whether the asking and the asked token are masked."""
    same = second[:, :, None] == second[:, None, :]
    return same, masked[:, :, None], masked[:, None, :], present[:, None, :]


def sees_own_masks(masked: torch.Tensor, second: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    same, asking, asked, there = parts(masked, second, present)
    return (torch.where(asking, same == asked, same) & there)[:, None]


def sees_everything(masked: torch.Tensor, second: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    same, asking, asked, there = parts(masked, second, present)
    return (torch.where(asking, same == asked, torch.ones_like(same)) & there)[:, None]


def bipartite(masked: torch.Tensor, second: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Every token sees the other sentence alone, and itself."""
    same, _, _, there = parts(masked, second, present)
    return ((~same | torch.eye(masked.shape[1], dtype=torch.bool)) & there)[:, None]


@pytest.mark.parametrize("network", [ernie_m, xlm_r])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_masked_token_never_sees_the_words_of_its_own_sentence(network: Any, attention: str) -> None:
    """Through 4 layers, with padding, to the bit; and the rules that look alike do leak."""
    built = network(4, attn_implementation=attention).eval()
    batch = batch_of([(5, 7), (3, 2), (8, 8)])
    chosen, _ = Masker(KINDS, MASK, 0.4, whole_words=False)(batch, draws(torch.arange(3)), ONLY_MASKS)
    arguments = chosen, is_target(batch), batch["attention_mask"].bool()
    assert own_gradient(built, batch, chosen, cross_attention(*arguments)) == 0.0
    for mistake in (sees_own_masks, sees_everything, bipartite):
        assert own_gradient(built, batch, chosen, mistake(*arguments)) > 1e-3, mistake.__name__


def test_flex_attention_obeys_the_rule() -> None:
    """It has no gradients on a CPU: the vectors are those of SDPA, and do not move with their own sentence's words."""
    batch = batch_of([(5, 7), (3, 2)])
    chosen, given_ids = Masker(KINDS, MASK, 0.4, whole_words=False)(batch, draws(torch.arange(2)), ONLY_MASKS)
    allowed = cross_attention(chosen, is_target(batch), batch["attention_mask"].bool())
    moved = torch.where(is_target(batch) | (given_ids < 4) | (given_ids == MASK), given_ids, 53 - given_ids)
    found = {}
    for name in ("sdpa", "flex_attention"):
        built = ernie_m(4, attn_implementation=name).eval()
        with torch.no_grad():
            found[name] = [
                built.base_model(ids, for_attention(allowed, name)).last_hidden_state[chosen & ~is_target(batch)]
                for ids in (given_ids, moved)
            ]
    torch.testing.assert_close(found["flex_attention"][0], found["sdpa"][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["flex_attention"][0], found["flex_attention"][1], atol=0, rtol=0)


def test_the_rule_by_hand() -> None:
    """The paper's figure: x1 x2 M x3 | y4 y5 M5 y6 M6 y7, and one row of padding."""
    masked = torch.tensor([[0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0]]).bool()
    second = torch.arange(11)[None] >= 4
    present = torch.arange(11)[None] < 10
    allowed = cross_attention(masked, second, present)[0, 0]
    sees = {place: allowed[place].nonzero()[:, 0].tolist() for place in range(10)}
    assert sees[2] == [2, 4, 5, 7, 9]
    assert sees[6] == sees[8] == [0, 1, 3, 6, 8]
    assert sees[0] == sees[1] == sees[3] == [0, 1, 3]
    assert sees[4] == sees[5] == sees[7] == sees[9] == [4, 5, 7, 9]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_hidden_depends_on_the_row_alone(data: st.DataObject) -> None:
    """Not on the rows beside it, nor on padding; the rate is kept in every row, and words stay whole."""
    lengths = data.draw(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=5))
    rate = data.draw(st.sampled_from([0.05, 0.15, 0.5, 0.95]))
    whole_words = data.draw(st.booleans())
    batch = batch_of(lengths, data.draw(st.integers(0, 99)))
    masker = Masker(KINDS, MASK, rate, whole_words)
    rows = draws(batch["example_ids"], 7)
    chosen, ids = masker(batch, rows, BERT)
    for row, (first, second) in enumerate(lengths):
        length = int(batch["attention_mask"][row].sum())
        alone = {key: values[row : row + 1] for key, values in batch.items() if values.ndim}
        alone |= {key: alone[key][:, :length] for key in ("input_ids", "attention_mask")}
        again, same_ids = masker(alone, rows[row : row + 1], BERT)
        assert again[0].equal(chosen[row, :length])
        assert same_ids[0].equal(ids[row, :length])
        assert not chosen[row, length:].any()
        for is_second, tokens in ((False, first), (True, second)):
            count = int((chosen[row] & (is_target(batch)[row] == is_second)).sum())
            wanted = max(1, round(tokens * rate)) if tokens else 0
            assert count >= wanted if whole_words else count == wanted
    assert not (chosen & ~masker.is_ordinary(batch)).any()
    assert ids[~chosen].equal(batch["input_ids"][~chosen])
    if whole_words:
        continues = (KINDS[batch["input_ids"]] == 1)[:, 1:] & masker.is_ordinary(batch)[:, :-1]
        assert (chosen[:, 1:] == chosen[:, :-1])[continues].all()


def test_draws_are_even() -> None:
    numbers = draws(torch.arange(100_000), 3)
    assert numbers.unique().numel() == 100_000
    values = uniform(numbers)
    assert 0 <= float(values.min()) < float(values.max()) < 1
    assert abs(float(values.mean()) - 0.5) < 0.005
    assert torch.bincount(pick(numbers, 7)).float().div(100_000 / 7).sub(1).abs().max() < 0.05
    chosen = choose(numbers[:2000], torch.arange(20).expand(2000, 20), torch.ones(2000, 20, dtype=torch.bool), 0.15)
    assert chosen.float().mean(dim=0).sub(0.15).abs().max() < 0.04


def test_most_become_masks_some_others_and_some_stay() -> None:
    batch = batch_of([(400, 0)] * 20)
    chosen, ids = Masker(KINDS, MASK, 0.5, whole_words=False)(batch, draws(torch.arange(20)), BERT)
    hidden, old = ids[chosen], batch["input_ids"][chosen]
    assert float((hidden == MASK).float().mean()) == pytest.approx(0.8, abs=0.02)
    # One in 46 of the others is the same by chance.
    assert float((hidden == old).float().mean()) == pytest.approx(0.1 + 0.1 / 46, abs=0.02)
    assert not (KINDS[hidden[hidden != MASK]] == 0).any()


def plain_loss(network: Any, ids: torch.Tensor, batch: Batch, chosen: torch.Tensor, mask: Any) -> torch.Tensor:
    """From the network's own forward: of each sentence the mean of its hidden tokens times its ordinary ones."""
    logits = network(input_ids=ids, attention_mask=mask).logits
    total = torch.zeros(())
    for row, start in enumerate(batch["target_start"].tolist()):
        for side in (slice(start), slice(start, None)):
            hidden = chosen[row, side]
            if hidden.any():
                labels = batch["input_ids"][row, side]
                ordinary = int((KINDS[labels] > 0).sum())
                total = total + cross_entropy(logits[row, side][hidden], labels[hidden]) * ordinary
    return total


@pytest.mark.parametrize("network", [ernie_m, xlm_r])
@pytest.mark.parametrize("objective", ["mmlm", "tlm", "camlm"])
def test_losses_are_those_of_the_networks_own_forward(network: Any, objective: str) -> None:
    module = module_of(network(), {objective: 1.0}, mask_rate=0.3).eval()
    batch = batch_of([(9, 0), (4, 0)] if objective == "mmlm" else [(9, 5), (3, 8)])
    rows = module._draws_of(batch, 0)
    chosen, ids = module.masker(batch, rows, ONLY_MASKS if objective == "camlm" else BERT)
    mask = batch["attention_mask"]
    if objective == "camlm":
        mask = for_attention(cross_attention(chosen, is_target(batch), mask.bool()), "sdpa")
    expected = plain_loss(module.network, ids, batch, chosen, mask) / batch["normaliser"]
    torch.testing.assert_close(module.loss(batch), expected, atol=1e-6, rtol=1e-5)
    doubled = module_of(network(), {objective: 1.0}, mask_rate=0.3, loss_weights={objective: 2.0}).eval()
    torch.testing.assert_close(doubled.loss(batch), 2 * expected, atol=1e-6, rtol=1e-5)


def test_back_translation_makes_tokens_without_gradient_and_learns_from_them() -> None:
    """Against each text by itself, its placeholders one row at a time."""
    module = module_of(ernie_m(), {"btmlm": 1.0}, mask_rate=0.3, pseudo_tokens=0.5).eval()
    batch = batch_of([(9, 0), (4, 0), (1, 0)])
    rows = module._draws_of(batch, 0)
    longer = module._with_pseudo_tokens(batch, rows)
    network = module.network
    for row, (tokens, count) in enumerate([(9, 4), (4, 2), (1, 1)]):
        text = batch["input_ids"][row, : tokens + 2]
        given_ids = torch.cat([text, torch.tensor([SEP] + [MASK] * count + [SEP])])[None]
        allowed = torch.zeros(1, 1, given_ids.shape[1], given_ids.shape[1], dtype=torch.bool)
        masks = (given_ids[0] == MASK).nonzero()[:, 0]
        allowed[0, 0, : tokens + 2, : tokens + 2] = True
        allowed[0, 0, masks, : tokens + 2] = True
        allowed[0, 0, masks[:, None], masks] = True
        allowed[0, 0, [tokens + 2, -1], tokens + 2] = True
        logits = network(input_ids=given_ids, attention_mask=allowed).logits[0, masks]
        made = logits.masked_fill(KINDS == 0, -torch.inf).argmax(dim=-1)
        expected = given_ids[0].clone()
        expected[masks] = made
        assert longer["input_ids"][row, : len(expected)].tolist() == expected.tolist()
        assert int(longer["attention_mask"][row].sum()) == len(expected)
        assert int(longer["target_start"][row]) == tokens + 2
    chosen, ids = module.masker(longer, rows, BERT, targets=False)
    assert not (chosen & is_target(longer)).any()
    expected_loss = plain_loss(network, ids, longer, chosen, longer["attention_mask"]) / 14
    expected_loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    network.zero_grad()
    loss = module.loss(batch)
    torch.testing.assert_close(loss, expected_loss.detach(), atol=1e-6, rtol=1e-5)
    loss.backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-6, rtol=1e-4, msg=name)


def test_languages_say_which_pseudo_tokens_are_made() -> None:
    """Zero at the start, and then another vector for the text and for its pseudo tokens; never part of the network."""
    batch = batch_of([(6, 0)] * 4)
    plain = module_of(ernie_m(), {"btmlm": 1.0}).eval()
    module = module_of(ernie_m(), {"btmlm": 1.0}, language_embeddings=True).eval()
    torch.testing.assert_close(module.loss(batch), plain.loss(batch))
    assert module.token_languages == ["en", "de"]
    assert module._pseudo_languages(batch, module._draws_of(batch, 0)).tolist() == [1] * 4
    with torch.no_grad():
        module.language_embeddings.weight[1] += 5 * torch.randn(16)
    changed = module._with_pseudo_tokens(batch, module._draws_of(batch, 0))
    same = plain._with_pseudo_tokens(batch, plain._draws_of(batch, 0))
    assert not changed["input_ids"].equal(same["input_ids"])
    assert changed["token_languages"].equal(is_target(changed).long())
    assert not any("language" in name for name in module.network.state_dict())
    module.loss(batch).backward()
    assert module.language_embeddings.weight.grad[1].any()


def test_the_contrast_is_that_of_sentence_retrieval() -> None:
    module = module_of(ernie_m(), {"xlco": 1.0}, temperature=0.1).eval()
    batch = batch_of([(6, 6), (6, 6), (6, 6)])
    retrieval = SentenceRetrieval("none", temperature=0.1)
    retrieval.build_network = lambda restored: (module.network.base_model, [])
    retrieval.configure_model()
    own = {}
    for side, (ids, mask) in sides(batch, 2, PAD).items():
        own |= {f"{side}_input_ids": ids, f"{side}_attention_mask": mask}
    expected = retrieval.eval().loss(own | {"weights": torch.ones(3), "normaliser": torch.tensor(3.0)})
    torch.testing.assert_close(module.loss(batch), expected)
    assert not any(p.requires_grad for name, p in module.network.named_parameters() if name.startswith("lm_head."))


@pytest.mark.parametrize("separators", [1, 2])
def test_pairs_come_apart_and_texts_get_placeholders(separators: int) -> None:
    between = [SEP] * separators
    ids = torch.tensor([[CLS, 5, 6, *between, 7, 8, 9, SEP], [CLS, 5, *between, 7, SEP, *[PAD] * 3]])
    batch = {"input_ids": ids, "attention_mask": (ids != PAD).long(), "target_start": torch.tensor([4, 3])}
    apart = sides(batch, separators, PAD)
    assert apart["source"][0].tolist() == [[CLS, 5, 6, SEP], [CLS, 5, SEP, PAD]]
    assert apart["source"][1].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert apart["target"][0].tolist() == [[CLS, 7, 8, 9, SEP], [CLS, 7, SEP, PAD, PAD]]
    texts = {"input_ids": apart["source"][0], "attention_mask": apart["source"][1]}
    longer = with_placeholders(texts, torch.tensor([1, 3]), MASK, separators, PAD)
    assert longer["input_ids"].tolist() == [
        [CLS, 5, 6, *between, MASK, SEP, PAD],
        [CLS, 5, *between, MASK, MASK, MASK, SEP],
    ]
    assert longer["placeholders"].equal((longer["input_ids"] == MASK).long())
    assert longer["target_start"].tolist() == [4, 3]


def test_parts_of_a_batch_add_up_to_it() -> None:
    """All objectives at once: whatever the micro-batches, the same gradient."""
    shares = {"mmlm": 0.5, "btmlm": 0.5, "tlm": 0.5, "camlm": 0.5}
    batch = batch_of([(9, 0), (4, 0), (7, 3), (2, 6), (5, 5), (6, 0), (8, 0), (3, 3)])
    gradients = []
    for at_once in (8, 3, 1):
        module = module_of(ernie_m(), shares, language_embeddings=True)
        for start in range(0, 8, at_once):
            part = {key: values[start : start + at_once] if values.ndim else values for key, values in batch.items()}
            module.loss(part).backward()
        gradients.append({name: p.grad for name, p in module.named_parameters()})
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_a_step_that_runs_out_of_memory_leaves_dropout_on(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(ernie_m(), {"btmlm": 1.0})
    module.train()

    def fails(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(pretraining, "likeliest", fails)
    with pytest.raises(torch.OutOfMemoryError):
        module.loss(batch_of([(6, 0)]))
    assert module.network.training


def test_an_evaluation_counts_what_plain_passes_find() -> None:
    """The same tokens for every seed and order of languages; both ways of looking at a pair, and its vectors."""
    module = module_of(ernie_m(), {"tlm": 1.0}).eval()
    batch = batch_of([(9, 5), (3, 8), (1, 1)])
    with torch.no_grad():
        rows = module.predict_rows(batch)
        other = module_of(ernie_m(), {"camlm": 1.0}, mask_seed=9).eval().predict_rows(batch)
    assert all(rows[name].equal(other[name]) for name in rows)
    table, found = module.score(rows, missing=1)
    chosen, ids = module.masker(batch, draws(batch["example_ids"]), ONLY_MASKS)
    masks = {"": batch["attention_mask"]}
    masks["camlm_"] = for_attention(cross_attention(chosen, is_target(batch), masks[""].bool()), "sdpa")
    for name, mask in masks.items():
        logits = module.network(input_ids=ids, attention_mask=mask).logits[chosen]
        labels = batch["input_ids"][chosen]
        assert found[f"{name}loss"] == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-5)
        assert found[f"{name}accuracy"] == pytest.approx(float((logits.argmax(dim=-1) == labels).float().mean()))
    assert table.column("hidden").to_pylist() == chosen.sum(dim=1).tolist()
    assert (found["examples"], found["missing"]) == (4, 1)
    text = batch_of([(4, 0)])
    with torch.no_grad():
        assert "retrieval" not in module.score(module.predict_rows(text), missing=0)[1]
    nothing = text | {"input_ids": torch.tensor([[CLS, UNK, UNK, UNK, UNK, SEP]])}
    assert module.score(module.predict_rows(nothing), missing=0)[1]["accuracy"] == 0.0


def test_embeddings_keep_their_languages_whatever_the_data_have() -> None:
    module = module_of(ernie_m(), {"mmlm": 1.0}, language_embeddings=True)
    module.languages = ["de", "de-en"]
    module.read_vocabulary(DATA)
    assert module.token_languages == ["en", "de"]
    assert module._languages_of.tolist() == [[1, 1], [1, 0]]
    module.languages = ["fr"]
    with pytest.raises(InputError, match="has embeddings of en, de, none of fr; leave it out"):
        module.read_vocabulary(DATA)


@pytest.mark.parametrize(
    ("shares", "trained", "pseudo", "message"),
    [
        ({"tlm": 1.0}, ["en", "en-de"], None, "the data have texts, but shares names none of mmlm, btmlm"),
        ({"mmlm": 1.0, "tlm": 1.0}, ["en"], None, "shares has tlm, which needs pairs; name some with data.train_pairs"),
        ({"btmlm": 1.0}, ["en", "de"], ["fr"], "pseudo_languages names 'fr'; the data have en, de"),
        ({"btmlm": 1.0}, ["en", "de"], ["en"], "there is none beside 'en'"),
    ],
)
def test_data_that_do_not_fit_the_objectives(
    shares: dict[str, float], trained: list[str], pseudo: list[str] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_data(shares, trained, ["en", "de"], pseudo)


@pytest.mark.parametrize("languages", [5, ["en", 3], {"en": 1}, ["en"] * 20_000])
def test_languages_of_a_damaged_checkpoint(languages: Any) -> None:
    module = module_of(ernie_m(), {"mmlm": 1.0}, language_embeddings=True)
    with pytest.raises(InputError, match="its languages are no list of names"):
        module.on_load_checkpoint({"languages": languages})


def test_networks_and_lengths_that_do_not_fit() -> None:
    check_room(256, 2, 1.0, 512)
    with pytest.raises(InputError, match=r"257 and 1\.0 pseudo tokens for each of its own take 514 tokens"):
        check_room(257, 2, 1.0, 512)
    flash = SimpleNamespace(_attn_implementation="flash_attention_2")
    with pytest.raises(InputError, match="camlm says token by token what is seen, which 'flash_attention_2' cannot"):
        check_attention(flash, "camlm")
    flex = SimpleNamespace(_attn_implementation="flex_attention", attention_probs_dropout_prob=0.1)
    with pytest.raises(InputError, match="flex_attention has no dropout"):
        check_dropout(flex)


def test_a_large_vocabulary_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 40)
    hidden, labels = torch.randn(23, 8, requires_grad=True), torch.randint(40, (23,))
    found = []
    for limit in (10_000, 200):
        monkeypatch.setattr(token_losses, "_LOGITS", limit)
        losses, right = token_losses.token_losses(head, hidden, labels, 40)
        (losses * torch.arange(23)).sum().backward()
        best = token_losses.likeliest(head, hidden.detach(), torch.tensor([3, 9, 30]))
        found.append([losses.detach(), right, hidden.grad, head.weight.grad, best])
        hidden.grad = head.weight.grad = None
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert set(found[0][-1].tolist()) <= {3, 9, 30}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shares": {"mlm": 1.0}}, "shares names 'mlm'; the objectives are mmlm, btmlm, tlm, camlm, xlco"),
        ({"shares": {"tlm": 0.5, "camlm": 0.2}}, "sum to 0.7; they must sum to 1"),
        ({"shares": {"mmlm": 1.5, "btmlm": -0.5}}, "none may be negative"),
        ({"shares": {}}, "give at least one of mmlm"),
        ({"shares": {"mmlm": 1.0}, "mask_rate": 0.0}, "mask_rate is 0.0; it must lie between 0 and 1"),
        ({"shares": {"mmlm": 1.0}, "mask_rate": 1.0}, "mask_rate is 1.0; it must lie between 0 and 1"),
        ({"shares": {"mmlm": 1.0}, "pseudo_tokens": 0.0}, "pseudo_tokens is 0.0"),
        ({"shares": {"mmlm": 1.0}, "active_vocabulary": True}, "here it would change the result"),
    ],
)
def test_arguments_that_cannot_be_meant(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Pretraining("none", **arguments)
