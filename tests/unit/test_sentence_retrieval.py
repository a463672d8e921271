"""The retrieval task: its loss against the formula, its scores against brute force, through a Trainer."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn.functional import cosine_similarity
from torch.utils.data import DataLoader
from transformers import BertConfig, BertModel, XLMConfig, XLMModel, XLMRobertaConfig, XLMRobertaModel

from ernie_m import ErnieMConfig, ErnieMModel
from ernie_m.errors import InputError
from lightning_modules import SentenceRetrieval

SIZES = {"vocab_size": 80, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
    "max_epochs": 1,
}


def save_encoder(folder: Path, **changes: Any) -> Path:
    torch.manual_seed(0)
    settings = {"num_hidden_layers": 2, "initializer_range": 0.2} | SIZES | changes
    ErnieMModel(ErnieMConfig(**settings)).save_pretrained(folder)
    return folder


def batch_of(rows: int, seed: int, language: int = 0) -> dict[str, torch.Tensor]:
    """Pairs that say the same with other words: a target's tokens are the source's plus 35, in reverse."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(10, 45, (rows, 6), generator=generator)
    lengths = torch.randint(3, 7, (rows,), generator=generator)
    mask = (torch.arange(6)[None] < lengths[:, None]).long()
    target = torch.where(mask > 0, ids + 35, 1).flip(1)
    order = mask.flip(1).argsort(dim=1, descending=True, stable=True)
    return {
        "source_input_ids": torch.where(mask > 0, ids, 1),
        "source_attention_mask": mask,
        "target_input_ids": target.gather(1, order),
        "target_attention_mask": mask.flip(1).gather(1, order),
        "example_ids": torch.arange(rows),
        "language": torch.full((rows,), language),
        "weights": torch.ones(rows),
    }


def module_of(backbone: Path, **arguments: Any) -> SentenceRetrieval:
    module = SentenceRetrieval(backbone=str(backbone), **arguments)
    module.languages = ["de", "fr"]
    return module


def built(backbone: Path, **arguments: Any) -> SentenceRetrieval:
    module = module_of(backbone, **arguments)
    module.configure_model()
    return module.eval()


def training(steps: int, rows: int = 16) -> DataLoader:
    items = [[batch_of(rows, step) | {"normaliser": torch.tensor(float(rows))}] for step in range(steps)]
    return DataLoader(items, batch_size=None)


def trainer_of(folder: Path, **arguments: Any) -> Trainer:
    return Trainer(**(QUIET | {"default_root_dir": folder} | arguments))


def info_nce(source: torch.Tensor, target: torch.Tensor, temperature: float) -> float:
    """The symmetric loss in float64, term by term."""
    total = 0.0
    for queries, candidates in ((source, target), (target, source)):
        for row, query in enumerate(queries):
            scaled = cosine_similarity(query[None], candidates) / temperature
            total -= (scaled[row] - torch.logsumexp(scaled, 0)).item() / 2
    return total / len(source)


def hardest_negative(source: torch.Tensor, target: torch.Tensor, temperature: float) -> float:
    """The binary cross-entropy in float64, term by term."""
    total = 0.0
    for queries, candidates in ((source, target), (target, source)):
        for row, query in enumerate(queries):
            scaled = (cosine_similarity(query[None], candidates) / temperature).tolist()
            total += math.log1p(math.exp(-scaled.pop(row))) / 2
            total += math.log1p(math.exp(max(scaled))) / 2 if scaled else 0.0
    return total / len(source)


FORMULAS = {"softmax": info_nce, "hardest_negative": hardest_negative}


def hidden_states(module: SentenceRetrieval, batch: dict[str, torch.Tensor], side: str) -> tuple[torch.Tensor, ...]:
    return module.network(
        input_ids=batch[f"{side}_input_ids"],
        attention_mask=batch[f"{side}_attention_mask"],
        output_hidden_states=True,
    ).hidden_states


@pytest.mark.parametrize("objective", sorted(FORMULAS))
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("layer", [None, 0, 1, 2])
def test_loss_is_the_formula_at_every_layer(objective: str, pooling: str, layer: int | None, tmp_path: Path) -> None:
    module = built(save_encoder(tmp_path), objective=objective, pooling=pooling, layer=layer, temperature=0.1)
    batch = batch_of(7, 3)
    vectors = []
    for side in ("source", "target"):
        hidden = hidden_states(module, batch, side)[-1 if layer is None else layer].double()
        rows = [
            state[0] if pooling == "cls" else state[mask.bool()].mean(0)
            for state, mask in zip(hidden, batch[f"{side}_attention_mask"], strict=True)
        ]
        vectors.append(torch.stack(rows))
    found = module.loss(batch | {"normaliser": torch.tensor(7.0)})
    assert found.item() == pytest.approx(FORMULAS[objective](*vectors, temperature=0.1), rel=1e-4)


def test_a_pair_alone_has_no_hardest_negative(tmp_path: Path) -> None:
    module = built(save_encoder(tmp_path), objective="hardest_negative", temperature=0.1)
    batch = batch_of(1, 3) | {"normaliser": torch.tensor(1.0)}
    loss = module.loss(batch)
    vectors = [side.detach().double() for side in module.embed_pairs(batch)]
    assert loss.item() == pytest.approx(hardest_negative(*vectors, temperature=0.1), rel=1e-4)
    loss.backward()
    gradients = [p.grad for p in module.network.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)


def test_only_the_hardest_negative_is_pushed_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = built(save_encoder(tmp_path), objective="hardest_negative", temperature=0.1)
    source = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]])).requires_grad_()
    target = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [0.6, 0.8], [-1.0, 0.0]])).requires_grad_()
    monkeypatch.setattr(module, "embed_pairs", lambda batch: (source, target))
    batch = batch_of(3, 3) | {"normaliser": torch.tensor(3.0)}
    assert module.loss(batch).item() == pytest.approx(hardest_negative(source, target, 0.1), rel=1e-5)
    batch["weights"] = torch.tensor([1.0, 0.0, 0.0])  # the loss of the first pair; the others are fillers, no negatives
    (alone,) = torch.autograd.grad(module.loss(batch | {"normaliser": torch.tensor(1.0)}), target)
    assert not alone[1:].any()


def test_similarities_are_float32_under_mixed_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = built(save_encoder(tmp_path), temperature=0.01)
    vectors = module.embed_pairs(batch_of(7, 3))
    monkeypatch.setattr(module, "embed_pairs", lambda batch: vectors)
    batch = batch_of(7, 3) | {"normaliser": torch.tensor(7.0)}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module.loss(batch).item()
    assert found == pytest.approx(module.loss(batch).item(), rel=1e-6)


@pytest.mark.parametrize("objective", sorted(FORMULAS))
def test_fillers_and_duplicates_are_no_wrong_answers(objective: str, tmp_path: Path) -> None:
    module = built(save_encoder(tmp_path), objective=objective)
    batch = batch_of(6, 3)
    expected = module.loss(batch | {"normaliser": torch.tensor(6.0)}).item()
    filled = {key: torch.cat([value, value[:1].roll(1, dims=-1)]) for key, value in batch.items()}
    filled["source_input_ids"][6], filled["target_input_ids"][6] = 55, 77
    assert module.loss(filled | {"normaliser": torch.tensor(6.0)}).item() != pytest.approx(expected, rel=1e-3)
    filled["weights"][6] = 0
    assert module.loss(filled | {"normaliser": torch.tensor(6.0)}).item() == pytest.approx(expected, rel=1e-5)
    # The same pair twice: each has its own answer, and the other is neither right nor wrong.
    one = {key: value[:1] for key, value in batch.items()}
    twice = {key: torch.cat([value, value]) for key, value in one.items()} | {"normaliser": torch.tensor(2.0)}
    alone = module.loss(one | {"normaliser": torch.tensor(1.0)}).item()
    assert module.loss(twice).item() == pytest.approx(alone, abs=1e-6)
    assert alone == pytest.approx(0.0, abs=1e-6) or objective == "hardest_negative"


def test_padding_changes_neither_vectors_nor_duplicates(tmp_path: Path) -> None:
    module = built(save_encoder(tmp_path))
    batch = batch_of(5, 1)
    longer = dict(batch)
    longer["source_input_ids"] = torch.nn.functional.pad(batch["source_input_ids"], (0, 3), value=1)
    longer["source_attention_mask"] = torch.nn.functional.pad(batch["source_attention_mask"], (0, 3))
    for found, expected in zip(module.embed_pairs(longer), module.embed_pairs(batch), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(5))


def test_learns_to_find_translations(tmp_path: Path) -> None:
    without_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    backbone = save_encoder(tmp_path / "backbone", initializer_range=0.05, hidden_size=32, **without_dropout)
    module = module_of(backbone, learning_rate=1e-2, layer_decay=1.0)
    development = DataLoader([batch_of(40, 991, 0), batch_of(40, 992, 1)], batch_size=None)
    trainer = trainer_of(tmp_path)
    trainer.validate(module, development, verbose=False)
    before = module.results["mean"]["accuracy"]
    trainer.fit(module, training(80, 32), development)
    after = module.results
    assert after["mean"]["accuracy"] > 0.9 > before + 0.5
    assert after["mean"]["collapsed"] == 0.0
    for language in ("de", "fr"):
        result = after[language]
        assert result["accuracy"] == pytest.approx((result["source_to_target"] + result["target_to_source"]) / 2)
        assert result["chance"] == 1 / 40
    logged = trainer.callback_metrics
    assert float(logged["val/de/source_to_target"]) == pytest.approx(after["de"]["source_to_target"])
    assert float(logged["val/accuracy"]) == pytest.approx(after["mean"]["accuracy"])
    assert "val/de/ties" not in logged


def test_scores_and_tables_are_those_of_brute_force(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path / "backbone"))
    batch = batch_of(9, 4)
    batch["example_ids"] = torch.tensor([30, 4, 8, 1, 99, 2, 5, 7, 6])
    batch["target_input_ids"][2:5] = batch["target_input_ids"][[3, 4, 2]]
    batch["target_attention_mask"][2:5] = batch["target_attention_mask"][[3, 4, 2]]
    trainer_of(tmp_path).test(module, DataLoader([batch], batch_size=None), verbose=False)
    module.eval()
    order = batch["example_ids"].argsort()
    source, target = (vectors.double()[order] for vectors in module.embed_pairs(batch))
    similarity = source @ target.T
    ids = batch["example_ids"][order]
    table = module.tables["de"].to_pydict()
    assert table["example_id"] == ids.tolist()
    assert [*table] == ["example_id", *module.prediction_columns]
    assert table["prediction_source_to_target"] == ids[similarity.argmax(1)].tolist()
    assert table["prediction_target_to_source"] == ids[similarity.argmax(0)].tolist()
    assert table["similarity_source_to_target"] == pytest.approx(similarity.max(1).values.tolist(), abs=1e-5)
    assert module.results["de"]["source_to_target"] == pytest.approx(
        float((similarity.argmax(1) == torch.arange(9)).double().mean())
    )


def test_duplicates_are_counted_and_the_first_of_them_is_the_answer(tmp_path: Path) -> None:
    """Right is a sentence's own line alone, as in XTREME's code, so that duplicates cannot all be right."""
    module = module_of(save_encoder(tmp_path / "backbone", initializer_range=0.02))
    batch = batch_of(8, 4)
    batch["source_attention_mask"][:] = batch["target_attention_mask"][:] = 1
    batch["target_input_ids"] = batch["source_input_ids"].clone()
    for row in (5, 7):
        for side in ("source", "target"):
            batch[f"{side}_input_ids"][row] = batch[f"{side}_input_ids"][2]
    batch["target_input_ids"] = torch.nn.functional.pad(batch["target_input_ids"], (0, 2), value=1)
    batch["target_attention_mask"] = torch.nn.functional.pad(batch["target_attention_mask"], (0, 2))
    trainer_of(tmp_path).test(module, DataLoader([batch], batch_size=None), verbose=False)
    result = module.results["de"]
    assert (result["ties"], result["duplicates"]) == (6, 6)
    assert module.tables["de"]["prediction_source_to_target"].to_pylist() == [0, 1, 2, 3, 4, 2, 6, 2]
    assert result["accuracy"] == result["source_to_target"] == result["target_to_source"] == 6 / 8
    assert module.results["mean"]["duplicates"] == 6


@pytest.mark.parametrize("counted", ["both", "source_to_target", "target_to_source"])
def test_sweep_of_the_layers_equals_runs_at_each(counted: str, tmp_path: Path) -> None:
    backbone = save_encoder(tmp_path / "backbone")
    rows = {key: torch.cat([batch_of(12, 6)[key], batch_of(12, 7)[key]]) for key in batch_of(12, 6)}
    rows["example_ids"] = torch.arange(24)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    shuffled = {key: values[order] for key, values in rows.items()}
    batches = [{key: values[part] for key, values in shuffled.items()} for part in (slice(0, 10), slice(10, 24))]
    batches += [batch | {"language": torch.ones(len(batch["weights"]), dtype=torch.int64)} for batch in batches[1:]]
    data = DataLoader(batches, batch_size=None)
    found = {}
    for layer in (0, 1, 2):
        module = module_of(backbone, layer=layer, counted=counted)
        trainer_of(tmp_path).test(module, data, verbose=False)
        found[layer] = module.results
        assert "layer_0" not in module.results["de"]
        for result in module.results.values():
            directions = result["source_to_target"], result["target_to_source"]
            expected = sum(directions) / 2 if counted == "both" else result[counted]
            assert result["accuracy"] == pytest.approx(expected)
    swept = module_of(backbone, layer=1, counted=counted, sweep_layers=True)
    for _ in range(2):  # an evaluation begins anew
        trainer_of(tmp_path).test(swept, data, verbose=False)
        for language in ("de", "fr", "mean"):
            layers = [swept.results[language][f"layer_{layer}"] for layer in (0, 1, 2)]
            assert layers == pytest.approx([found[layer][language]["accuracy"] for layer in (0, 1, 2)])
            others = {key: value for key, value in swept.results[language].items() if "layer" not in key}
            assert others == pytest.approx(found[1][language])
    # Otherwise the test shows nothing.
    assert len({result["mean"]["accuracy"] for result in found.values()}) > 1


def test_a_sweep_keeps_one_layer_beside_its_counts(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path / "backbone"), layer=1, sweep_layers=True)
    module.configure_model()
    rows = module.predict_rows(batch_of(4, 0))
    assert rows["source"].shape == (4, 16)
    # A batch's vectors of both sides, and not those of three layers.
    assert rows["source"].untyped_storage().nbytes() <= 2 * 4 * 16 * 4


def test_random_weights_are_told_where_no_training_follows(tmp_path: Path) -> None:
    fields = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    tokenizer = Path(__file__).resolve().parents[2] / "datamodules" / "samples" / "tokenizer"
    module = module_of(tokenizer, from_scratch=fields)
    data = DataLoader([batch_of(4, 0)], batch_size=None)
    with pytest.warns(UserWarning, match="test: weights of the network are random"):
        trainer_of(tmp_path).test(module, data, verbose=False)


def test_several_micro_batches_are_refused(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path / "backbone"))
    micro = batch_of(4, 0) | {"normaliser": torch.tensor(8.0)}
    with pytest.raises(InputError, match=r"2 micro-batches.*micro_batch_size"):
        trainer_of(tmp_path).fit(module, DataLoader([[micro, micro]], batch_size=None))


FAMILIES = {
    "xlm-roberta": lambda: XLMRobertaModel(XLMRobertaConfig(num_hidden_layers=2, pad_token_id=1, **SIZES)),
    "bert": lambda: BertModel(BertConfig(num_hidden_layers=2, **SIZES)),
    "xlm": lambda: XLMModel(XLMConfig(vocab_size=80, emb_dim=16, n_layers=2, n_heads=2, pad_index=1)),
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_what_the_vectors_do_not_depend_on_is_frozen(family: str, tmp_path: Path) -> None:
    """Otherwise DDP waits for gradients that never come."""
    torch.manual_seed(0)
    FAMILIES[family]().save_pretrained(tmp_path)
    for layer in (None, 1):
        module = built(tmp_path, layer=layer)
        module.loss(batch_of(4, 0) | {"normaliser": torch.tensor(4.0)}).backward()
        for name, parameter in module.network.named_parameters():
            assert parameter.requires_grad == (parameter.grad is not None), name
        assert any(parameter.requires_grad for parameter in module.network.parameters())


def test_languages_of_xlm_are_refused(tmp_path: Path) -> None:
    config = XLMConfig(vocab_size=80, emb_dim=16, n_layers=1, n_heads=2, n_langs=2, lang2id={"en": 0, "de": 1})
    XLMModel(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="language"):
        built(tmp_path)


def test_values_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layers 0 to 2"):
        built(save_encoder(tmp_path), layer=3)
    with pytest.raises(InputError, match="temperature is 0"):
        module_of(tmp_path, temperature=0.0)


def test_learnt_temperature_starts_where_it_is_set_and_moves(tmp_path: Path) -> None:
    fixed = built(save_encoder(tmp_path / "backbone"), temperature=0.2)
    module = module_of(tmp_path / "backbone", temperature=0.2, learn_temperature=True, learning_rate=1e-2)
    module.configure_model()
    batch = batch_of(6, 0) | {"normaliser": torch.tensor(6.0)}
    torch.testing.assert_close(module.eval().loss(batch), fixed.loss(batch))
    module.train()
    trainer = trainer_of(tmp_path)
    trainer.fit(module, training(5))
    assert float(module.log_temperature.exp()) != pytest.approx(0.2, abs=1e-3)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = SentenceRetrieval.load_from_checkpoint(tmp_path / "last.ckpt")
    assert float(loaded.log_temperature) == float(module.log_temperature)
    assert math.isfinite(float(loaded.log_temperature))


def test_from_scratch_with_the_bundled_tokenizer(sample_tokenizer_dir: Path, tmp_path: Path) -> None:
    fields = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    module = module_of(sample_tokenizer_dir, from_scratch=fields)
    trainer_of(tmp_path).test(module, DataLoader([batch_of(6, 0)], batch_size=None), verbose=False)
    assert module.results["de"]["examples"] == 6
    assert isinstance(module.network, ErnieMModel)
