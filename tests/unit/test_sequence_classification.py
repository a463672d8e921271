"""The classification task through a Trainer, on tiny random models of every family."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from sklearn.metrics import confusion_matrix
from torch.utils.data import DataLoader
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    XLMConfig,
    XLMModel,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from ernie_m import ErnieMConfig, ErnieMForSequenceClassification, ErnieMModel
from ernie_m.errors import InputError
from lightning_modules import SequenceClassification, TaskModule, networks, optimization
from lightning_modules.classifier_labels import labels_of
from lightning_modules.collapse import DevelopmentRecord

LABELS = ["entailment", "neutral", "contradiction"]
SIZES = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
}


def save_encoder(folder: Path, initializer_range: float = 0.02) -> Path:
    torch.manual_seed(0)
    config = ErnieMConfig(num_hidden_layers=2, initializer_range=initializer_range, **SIZES)
    ErnieMModel(config).save_pretrained(folder)
    return folder


def save_classifier(folder: Path, labels: list[str]) -> Path:
    torch.manual_seed(1)
    config = ErnieMConfig(num_hidden_layers=2, initializer_range=0.3, **SIZES)
    config.id2label, config.label2id = dict(enumerate(labels)), {name: i for i, name in enumerate(labels)}
    ErnieMForSequenceClassification(config).save_pretrained(folder)
    return folder


def batch_of(rows: int, seed: int, language: int = 0, first_id: int = 0) -> dict[str, torch.Tensor]:
    """Sentences whose label stands in their second token, so that it can be learnt."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (rows,), generator=generator)
    ids = torch.randint(10, 60, (rows, 6), generator=generator)
    ids[:, 0], ids[:, 1] = 0, 4 + labels
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
        "example_ids": torch.arange(first_id, first_id + rows),
        "language": torch.full((rows,), language),
        "weights": torch.ones(rows),
    }


def training(steps: int, rows: int = 8, micro_batches: int = 1) -> DataLoader:
    items = []
    for step in range(steps):
        total = torch.tensor(float(rows * micro_batches))
        items.append([batch_of(rows, 10 * step + m) | {"normaliser": total} for m in range(micro_batches)])
    return DataLoader(items, batch_size=None)


def evaluation(languages: int = 1, rows: int = 12) -> DataLoader:
    batches = [batch_of(rows, 900 + language, language) for language in range(languages)]
    return DataLoader(batches, batch_size=None)


def module_of(backbone: Path | str, **arguments: Any) -> SequenceClassification:
    module = SequenceClassification(backbone=str(backbone), **({"label_names": LABELS} | arguments))
    module.languages = ["en", "de"]
    return module


def trainer_of(folder: Path, **arguments: Any) -> Trainer:
    return Trainer(**(QUIET | {"max_epochs": 1, "default_root_dir": folder} | arguments))


def test_learns_and_scores_each_language(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = module_of(save_encoder(tmp_path / "backbone", 0.2), learning_rate=1e-2, layer_decay=1.0)
    trainer = trainer_of(tmp_path)
    trainer.fit(module, training(100, rows=16), evaluation(2))
    assert module.results["en"]["accuracy"] > 0.9
    assert module.results["mean"]["accuracy"] == pytest.approx(
        (module.results["en"]["accuracy"] + module.results["de"]["accuracy"]) / 2
    )
    assert module.results["mean"]["collapsed"] == 0.0
    assert float(trainer.callback_metrics["val/en/accuracy"]) == pytest.approx(module.results["en"]["accuracy"])
    table = module.tables["de"]
    assert table.column_names == [
        "example_id",
        "label",
        "prediction",
        "probability_entailment",
        "probability_neutral",
        "probability_contradiction",
    ]
    columns = table.to_pydict()
    right = sum(a == b for a, b in zip(columns["label"], columns["prediction"], strict=True)) / table.num_rows
    assert right == pytest.approx(module.results["de"]["accuracy"])
    known, taken = ([module.label_names.index(name) for name in columns[column]] for column in ("label", "prediction"))
    assert set(module.confusion) == {"en", "de"}
    assert module.confusion["de"] == confusion_matrix(known, taken, labels=range(3)).tolist()
    best = [max(LABELS, key=lambda name: columns[f"probability_{name}"][row]) for row in range(table.num_rows)]
    assert best == columns["prediction"]


def test_trains_with_dropout_and_in_float32(tmp_path: Path) -> None:
    """from_pretrained gives a network in evaluation mode, and in the precision of the file."""
    network = ErnieMModel(ErnieMConfig(num_hidden_layers=1, **SIZES)).half()
    network.save_pretrained(tmp_path)
    module = module_of(tmp_path)
    module.configure_model()
    assert all(part.training for part in module.network.modules())
    assert {parameter.dtype for parameter in module.network.parameters()} == {torch.float32}
    before = module.network
    module.configure_model()
    assert module.network is before


def test_monitoring_a_language_keeps_its_best_checkpoint(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "kept", monitor="val/en/accuracy", mode="max", filename="{step}")
    module = module_of(save_encoder(tmp_path / "backbone"))
    trainer = trainer_of(tmp_path, enable_checkpointing=True, callbacks=[best], max_epochs=2)
    trainer.fit(module, training(2), evaluation())
    assert best.best_model_score is not None
    assert Path(best.best_model_path).exists()


FAMILIES = {
    "xlm-roberta": lambda: XLMRobertaForMaskedLM(XLMRobertaConfig(num_hidden_layers=2, **SIZES)),
    "bert": lambda: BertForMaskedLM(BertConfig(num_hidden_layers=2, **SIZES)),
    "xlm": lambda: XLMModel(
        XLMConfig(vocab_size=60, emb_dim=16, n_layers=2, n_heads=2, n_langs=2, lang2id={"de": 1, "en": 0}, pad_index=1)
    ),
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_other_families_train_and_predict(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    FAMILIES[family]().save_pretrained(tmp_path / "backbone")
    module = module_of(tmp_path / "backbone", gradient_checkpointing=family != "xlm")
    trainer_of(tmp_path).fit(module, training(2, micro_batches=2), evaluation(2))
    assert module.results["mean"]["examples"] == 24
    assert module.network.config.model_type == family


def test_xlm_is_given_the_language_of_each_example(tmp_path: Path) -> None:
    torch.manual_seed(0)
    FAMILIES["xlm"]().save_pretrained(tmp_path)
    module = module_of(tmp_path)
    module.languages = ["de", "en"]  # the data's order, not that of the embeddings
    module.configure_model()
    module.eval()
    batch = batch_of(3, 0)
    batch["language"] = torch.tensor([0, 1, 0])
    langs = torch.tensor([1, 0, 1])[:, None].expand(3, 6)
    expected = module.network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], langs=langs).logits
    torch.testing.assert_close(module.logits(batch), expected)
    assert not torch.equal(module.logits(batch | {"language": torch.tensor([1, 1, 1])}), expected)


def test_xlm_refuses_a_language_it_does_not_know(tmp_path: Path) -> None:
    FAMILIES["xlm"]().save_pretrained(tmp_path)
    module = module_of(tmp_path)
    module.languages = ["en", "sw"]
    with pytest.raises(InputError, match=r"de, en.*sw"):
        module.configure_model()


def test_token_types_go_to_networks_that_have_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    FAMILIES["bert"]().save_pretrained(tmp_path)
    module = module_of(tmp_path)
    module.configure_model()
    module.eval()
    batch = batch_of(3, 0)
    types = torch.tensor([[0, 0, 0, 1, 1, 1]]).expand(3, 6)
    assert not torch.equal(module.logits(batch | {"token_type_ids": types}), module.logits(batch))
    plain = module_of(save_encoder(tmp_path / "ernie"))
    plain.configure_model()
    plain.eval()
    assert torch.equal(plain.logits(batch | {"token_type_ids": types}), plain.logits(batch))


def test_labels_that_do_not_count_the_rows_are_refused() -> None:
    with pytest.raises(InputError, match=r"has the numbers \[0, 5\]; they count rows from 0"):
        labels_of(ErnieMConfig(id2label={0: "a", 5: "b"}))
    for name in ("a\x1b[31m", "a\u202eb"):
        with pytest.raises(InputError, match=r"id2label in a config\.json: 'a\\.*' is no label"):
            labels_of(ErnieMConfig(id2label={0: name}))


def test_labels_of_a_fine_tuned_checkpoint_are_matched_by_name(tmp_path: Path) -> None:
    theirs = ["Contradiction", "ENTAILMENT", "neutral"]
    module = module_of(save_classifier(tmp_path, theirs))
    module.configure_model()
    module.eval()
    batch = batch_of(5, 0)
    reference = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    logits = reference(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(module.logits(batch), logits[:, [1, 2, 0]])
    own = module.network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    names = [module.network.config.id2label[index] for index in range(3)]
    assert names == ["contradiction", "entailment", "neutral"]
    torch.testing.assert_close(own, logits)
    trainer = trainer_of(tmp_path)
    trainer.test(module, evaluation(), verbose=False)
    table = module.tables["en"].to_pydict()
    batch = batch_of(12, 900)
    logits = reference(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert table["prediction"] == [theirs[index].lower() for index in logits.argmax(dim=1)]


@pytest.mark.parametrize("theirs", [["yes", "no", "maybe"], ["entailment", "not_entailment"], ["LABEL_0", "LABEL_1"]])
def test_other_labels_are_refused_with_both_lists(theirs: list[str], tmp_path: Path) -> None:
    module = module_of(save_classifier(tmp_path, theirs))
    with pytest.raises(InputError) as refusal:
        module.configure_model()
    assert str(theirs) in str(refusal.value)
    assert str(LABELS) in str(refusal.value)


def test_new_head_replaces_that_of_another_task(tmp_path: Path) -> None:
    for count in (2, 3):
        folder = save_classifier(tmp_path / str(count), [f"other{index}" for index in range(count)])
        module = module_of(folder, new_head=True)
        module.configure_model()
        old = ErnieMForSequenceClassification.from_pretrained(folder)
        assert module.network.classifier.weight.shape[0] == 3
        assert not torch.equal(module.network.classifier.weight[:2], old.classifier.weight[:2])
        torch.testing.assert_close(module.network.ernie_m.pooler.dense.weight, old.ernie_m.pooler.dense.weight)
        with pytest.raises(InputError, match="no trained head"):
            trainer_of(tmp_path).test(module, evaluation(), verbose=False)


def test_untrained_classifier_is_not_scored(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path / "backbone"))
    with pytest.raises(InputError, match="ckpt_path"):
        trainer_of(tmp_path).test(module, evaluation(), verbose=False)
    with pytest.raises(InputError, match="ckpt_path"):
        trainer_of(tmp_path).predict(module, evaluation())
    with pytest.warns(UserWarning, match="is random"):
        trainer_of(tmp_path).validate(module, evaluation(), verbose=False)
    trainer = trainer_of(tmp_path)
    trainer.fit(module, training(1))
    trainer.test(module, evaluation(), verbose=False)
    assert module.results["en"]["examples"] == 12


def test_checkpoint_loads_without_running_code_and_without_the_backbone(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path / "backbone"))
    trainer = trainer_of(tmp_path)
    trainer.fit(module, training(2), evaluation())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    shutil.rmtree(tmp_path / "backbone")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["hyper_parameters"]["label_names"] == LABELS
    loaded = SequenceClassification.load_from_checkpoint(tmp_path / "last.ckpt")
    for name, value in module.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value)
    again = module_of("gone")
    again.announce(restore_from=tmp_path / "last.ckpt")
    trainer_of(tmp_path).test(again, evaluation(), ckpt_path=tmp_path / "last.ckpt", verbose=False, weights_only=True)
    assert again.results["en"]["accuracy"] == module.results["en"]["accuracy"]
    swapped = module_of("gone", label_names=LABELS[::-1])
    swapped.announce(restore_from=tmp_path / "last.ckpt")
    trainer_of(tmp_path).test(swapped, evaluation(), ckpt_path=tmp_path / "last.ckpt", verbose=False)
    assert swapped.tables["en"]["prediction"] == again.tables["en"]["prediction"]


def test_resuming_gives_the_parameters_of_an_uninterrupted_run(tmp_path: Path) -> None:
    states = []
    for interrupted in (False, True):
        torch.manual_seed(0)
        config = ErnieMConfig(num_hidden_layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **SIZES)
        ErnieMModel(config).save_pretrained(tmp_path / "backbone")
        torch.manual_seed(1)
        module = module_of(tmp_path / "backbone", weight_decay=0.1)
        if interrupted:
            keep = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=4, filename="{step}", save_top_k=-1)
            first = trainer_of(tmp_path, enable_checkpointing=True, callbacks=[keep], max_epochs=2)
            first.fit(module, training(4))
            module = module_of(tmp_path / "backbone", weight_decay=0.1)
            trainer_of(tmp_path, max_epochs=2).fit(module, training(4), ckpt_path=tmp_path / "kept" / "step=4.ckpt")
        else:
            trainer_of(tmp_path, max_epochs=2).fit(module, training(4))
        states.append(module.network.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value)


def test_resuming_with_both_limits_ends_where_the_first_is_reached(tmp_path: Path) -> None:
    backbone = save_encoder(tmp_path / "backbone")
    every = ModelCheckpoint(tmp_path / "kept", filename="{step}", save_top_k=-1, save_on_train_epoch_end=True)
    limits = {"max_epochs": 3, "max_steps": 7, "enable_checkpointing": True}
    trainer_of(tmp_path, callbacks=[every], **limits).fit(module_of(backbone), training(3), evaluation())
    for step in (3, 6):
        trainer = trainer_of(tmp_path, **limits)
        checkpoint = tmp_path / "kept" / f"step={step}.ckpt"
        trainer.fit(module_of(backbone), training(3), evaluation(), ckpt_path=checkpoint, weights_only=True)
        assert trainer.global_step == 7


def test_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path / "backbone"))
    trainer = trainer_of(tmp_path)
    trainer.fit(module, training(1))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    torch.save(checkpoint | {"task": "TokenClassification"}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="TokenClassification"):
        trainer_of(tmp_path).test(module, evaluation(), ckpt_path=tmp_path / "other.ckpt", verbose=False)


def test_init_from_takes_weights_of_a_checkpoint_or_folder(tmp_path: Path) -> None:
    backbone = save_encoder(tmp_path / "backbone")
    module = module_of(backbone, learning_rate=1e-2)
    trainer = trainer_of(tmp_path)
    trainer.fit(module, training(2))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    module.network.save_pretrained(tmp_path / "export")
    for source in ("last.ckpt", "export"):
        taken = module_of(backbone, init_from=str(tmp_path / source))
        taken.configure_model()
        for name, value in module.network.state_dict().items():
            assert torch.equal(taken.network.state_dict()[name], value)
        trainer_of(tmp_path).test(taken, evaluation(), verbose=False)
    swapped = module_of(backbone, init_from=str(tmp_path / "export"), label_names=LABELS[::-1])
    swapped.configure_model()
    batch = batch_of(4, 0)
    torch.testing.assert_close(swapped.eval().logits(batch), module.eval().logits(batch)[:, [2, 1, 0]])


def test_init_from_an_encoder_keeps_the_new_head(tmp_path: Path) -> None:
    encoder = ErnieMModel.from_pretrained(save_encoder(tmp_path / "encoder"))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.5)
    encoder.save_pretrained(tmp_path / "moved")
    module = module_of(tmp_path / "encoder", init_from=str(tmp_path / "moved"))
    with pytest.warns(UserWarning, match=r"classifier\.bias, classifier\.weight"):
        module.configure_model()
    torch.testing.assert_close(module.network.ernie_m.state_dict(), encoder.state_dict())


def test_init_from_names_what_does_not_fit(tmp_path: Path) -> None:
    backbone = save_encoder(tmp_path / "backbone")
    ErnieMModel(ErnieMConfig(num_hidden_layers=1, **(SIZES | {"hidden_size": 8}))).save_pretrained(tmp_path / "small")
    with pytest.raises(InputError, match=r"word_embeddings\.weight is \(60, 8\), expected \(60, 16\)"):
        module_of(backbone, init_from=str(tmp_path / "small")).configure_model()
    (tmp_path / "junk.ckpt").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"junk\.ckpt"):
        module_of(backbone, init_from=str(tmp_path / "junk.ckpt")).configure_model()
    with pytest.raises(InputError, match="no checkpoint"):
        module_of(backbone, init_from=str(tmp_path / "absent.ckpt")).configure_model()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="safetensors"):
        module_of(backbone, init_from=str(tmp_path / "empty")).configure_model()


def test_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Payload()}, tmp_path / "bad.ckpt")
    with pytest.raises(InputError, match="neither a tensor nor a plain value"):
        module_of(save_encoder(tmp_path / "backbone"), init_from=str(tmp_path / "bad.ckpt")).configure_model()
    assert not (tmp_path / "ran").exists()


def test_from_scratch_has_the_size_of_the_tokenizer(sample_tokenizer_dir: Path) -> None:
    fields = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    module = module_of(sample_tokenizer_dir, from_scratch=fields)
    module.configure_model()
    lines = (sample_tokenizer_dir / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert module.network.config.vocab_size == len(lines)
    assert (module.network.config.hidden_size, module.network.config.num_labels) == (16, 3)
    with pytest.raises(InputError, match=r"hiden_size.*hidden_size"):
        module_of(sample_tokenizer_dir, from_scratch={"hiden_size": 16}).configure_model()
    with pytest.raises(InputError, match="vocab_size is 10"):
        module_of(sample_tokenizer_dir, from_scratch={"vocab_size": 10}).configure_model()


def test_backbone_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        module_of(tmp_path / "nowhere").configure_model()
    with pytest.raises(InputError, match="label_names"):
        module_of(save_encoder(tmp_path / "backbone"), label_names=None).configure_model()
    with pytest.raises(InputError, match="fanciful"):
        module_of(tmp_path / "backbone", attn_implementation="fanciful").configure_model()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layer_norm_eps", "x"), ("layer_norm_eps", None), ("act_dropout", float("nan")), ("num_attention_heads", -1),
        ("hidden_size", "x"), ("hidden_size", 10**8), ("num_hidden_layers", 10**8), ("num_labels", 10**9),
        ("vocab_size", 10**12), ("max_position_embeddings", 10**12), ("intermediate_size", 10**12),
    ],
)  # fmt: skip
@pytest.mark.parametrize("family", ["bert", "ernie_m"])
def test_backbone_whose_config_describes_no_network_of_its_weights_is_refused(
    family: str, field: str, value: Any, tmp_path: Path
) -> None:
    """At once: it would be built layer by layer, or fill the memory."""
    network = ErnieMModel(ErnieMConfig(**SIZES)) if family == "ernie_m" else FAMILIES[family]().base_model
    network.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, field: value}), encoding="utf-8")
    source = networks.NetworkSource(str(tmp_path), None, "auto", False)
    with pytest.raises(InputError, match=r"config\.json|configuration"):
        networks.load_network(AutoModel, source, networks.read_config(str(tmp_path), False))


def test_labels_that_are_no_texts_are_refused() -> None:
    with pytest.raises(InputError, match=r"label_names is \[1, 2\]; they are texts"):
        SequenceClassification("unused", label_names=[1, 2])


def test_weights_without_part_of_the_encoder_are_refused(tmp_path: Path) -> None:
    save_encoder(tmp_path)
    config = ErnieMConfig.from_pretrained(tmp_path)
    config.num_hidden_layers = 3
    config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"encoder\.layers\.2"):
        module_of(tmp_path).configure_model()


def test_fillers_and_repeated_examples_do_not_count(tmp_path: Path) -> None:
    module = module_of(save_classifier(tmp_path, LABELS))
    real = batch_of(4, 0)
    filler = {key: values[:1] for key, values in batch_of(4, 1, first_id=77).items()} | {"weights": torch.zeros(1)}
    repeated = {key: values[2:3] for key, values in real.items()}
    trainer_of(tmp_path).test(module, DataLoader([real, filler, repeated], batch_size=None), verbose=False)
    assert module.results["en"]["examples"] == 4
    assert module.tables["en"]["example_id"].to_pylist() == [0, 1, 2, 3]


def test_prediction_without_labels_makes_tables_and_no_scores(tmp_path: Path) -> None:
    module = module_of(save_classifier(tmp_path, LABELS))
    batch = batch_of(4, 0) | {"labels": torch.full((4,), -100)}
    trainer_of(tmp_path).predict(module, DataLoader([batch], batch_size=None))
    assert module.tables["en"]["label"].null_count == 4
    assert module.tables["en"].num_rows == 4
    assert module.results == module.confusion == {}


def test_examples_without_a_prediction_count_as_wrong(tmp_path: Path) -> None:
    class Data(LightningDataModule):
        languages = ("en", "de")

        def eval_languages(self, stage: str) -> list[str]:
            return ["en"]

        def test_dataloader(self) -> DataLoader:
            return DataLoader(Longer(), batch_size=None, sampler=[0])

    class Longer(torch.utils.data.Dataset):
        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            return batch_of(4, 0)

        def __len__(self) -> int:
            return 5

    module = module_of(save_classifier(tmp_path, LABELS))
    rows = batch_of(4, 0) | {"probabilities": torch.nn.functional.one_hot(batch_of(4, 0)["labels"], 3).float()}
    _, complete = module.score(rows, missing=0)
    _, result = module.score(rows, missing=1)
    assert complete["accuracy"] == 1.0
    assert (result["accuracy"], result["examples"], result["missing"]) == (0.8, 5, 1)
    with pytest.warns(UserWarning, match="1 examples got no prediction"):
        trainer_of(tmp_path).test(module, datamodule=Data(), verbose=False)
    assert module.results["en"]["missing"] == 1


@pytest.mark.parametrize("interval", [1, 3])
def test_loss_that_is_not_finite_stops_within_the_log_interval(interval: int, tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path / "backbone"))
    steps = list(training(8).dataset)
    steps[3][0]["normaliser"] = torch.tensor(0.0)
    trainer = trainer_of(tmp_path, log_every_n_steps=interval)
    with pytest.raises(InputError, match="not finite at step 3"):
        trainer.fit(module, DataLoader(steps, batch_size=None))
    assert trainer.global_step - 3 <= interval


def test_loss_that_is_not_finite_in_the_last_step_is_not_missed(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path / "backbone"))
    steps = list(training(4).dataset)
    steps[3][0]["normaliser"] = torch.tensor(0.0)
    with pytest.raises(InputError, match="not finite at step 3"):
        trainer_of(tmp_path, log_every_n_steps=50).fit(module, DataLoader(steps, batch_size=None))


def test_run_at_chance_is_named_as_collapsed(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path / "backbone"), learning_rate=1e-9)
    with pytest.warns(UserWarning, match=r"collapsed.*en.*guessing.*learning_rate"):
        trainer_of(tmp_path).fit(module, training(2), evaluation(rows=500))
    assert module.results["mean"]["collapsed"] == 1.0
    assert "another seed" in module.collapse_report()
    # A handful of examples shows neither that a run learnt nor that it did not.
    few = module_of(tmp_path / "backbone", learning_rate=1e-9)
    trainer_of(tmp_path).fit(few, training(2), evaluation(rows=20))
    assert few.collapse_report() is None
    record = DevelopmentRecord()
    for right, said in ((1 / 6, True), (2 / 12, True), (13 / 60, False)):
        record.note({"en": {"accuracy": right, "examples": 60.0, "chance": 1 / 6}}, "accuracy")
        assert record.verdict(["en"]) is None
        hint = record.hint(["en"])
        assert (hint is not None) == said
        if hint is not None:
            assert "never better than one answer for all examples: en 16.7% (guessing: 16.7%)" in hint


def test_lightning_s_own_accumulation_is_refused(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path / "backbone"))
    with pytest.raises(InputError, match="accumulate_grad_batches"):
        trainer_of(tmp_path, accumulate_grad_batches=2).fit(module, training(2))


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_accumulates_as_whole_batches_do(precision: str, tmp_path: Path) -> None:
    """A loss scale that were applied to the last micro-batch alone would change the sum by far."""
    config = ErnieMConfig(
        num_hidden_layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.3, **SIZES
    )
    torch.manual_seed(0)
    ErnieMModel(config).save_pretrained(tmp_path / "backbone")
    gradients = []
    for pieces in (1, 4):
        torch.manual_seed(1)
        module = module_of(tmp_path / "backbone", learning_rate=1e-6)
        whole = batch_of(8, 0) | {"normaliser": torch.tensor(8.0)}
        parts = [
            {key: value if value.ndim == 0 else value.chunk(pieces)[part] for key, value in whole.items()}
            for part in range(pieces)
        ]
        found: list[torch.Tensor] = []
        module.on_before_optimizer_step = lambda optimizer, m=module, f=found: f.extend(
            parameter.grad.clone() for parameter in m.network.parameters()
        )
        # Given the name alone, Lightning turns 16-mixed into bf16-mixed on a CPU.
        scaler = torch.amp.GradScaler("cpu") if precision == "16-mixed" else None
        plugin = MixedPrecision(precision, "cpu", scaler)
        trainer_of(tmp_path, plugins=[plugin]).fit(module, DataLoader([parts], batch_size=None))
        gradients.append(torch.cat([gradient.flatten() for gradient in found]))
    assert float(gradients[0].norm()) > 1e-2
    difference = float((gradients[0] - gradients[1]).norm() / gradients[0].norm())
    assert difference < 0.03


def plain_adam(*arguments: Any, fused: bool, **others: Any) -> torch.optim.AdamW:
    return torch.optim.AdamW(*arguments, fused=False, **others)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_fused_adam_is_clipped_and_steps_as_adam_does(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = save_encoder(tmp_path / "backbone")
    found = []
    for fused in (True, False):
        if not fused:
            monkeypatch.setattr(optimization, "AdamW", plain_adam)
        torch.manual_seed(0)
        module = module_of(backbone, learning_rate=1e-2, adam_eps=1e-3)
        trainer = trainer_of(tmp_path, precision=precision, gradient_clip_val=0.01)
        trainer.fit(module, training(3))
        assert trainer.optimizers[0].defaults["fused"] is fused
        found.append(dict(module.named_parameters()))
    for name, parameter in found[0].items():
        torch.testing.assert_close(parameter, found[1][name], rtol=0, atol=1e-5)


def test_hyperparameters_are_those_given(tmp_path: Path) -> None:
    module = module_of(tmp_path, learning_rate=3e-4, decay_variant="paddlenlp", from_scratch={"hidden_size": 16})
    assert module.hparams["learning_rate"] == 3e-4
    assert module.hparams["decay_variant"] == "paddlenlp"
    assert module.hparams["from_scratch"] == {"hidden_size": 16}
    kinds = [kind for kind in SequenceClassification.__mro__ if issubclass(kind, TaskModule)]
    stated = {name for kind in kinds for name in kind.__init__.__annotations__}
    assert set(module.hparams) == stated - {"return", "args", "kwargs", "_network_config"}


def test_a_network_has_an_end_whatever_its_layers_are_called() -> None:
    config = GPT2Config(n_layer=10**7, n_embd=1, n_head=1)
    with pytest.raises(InputError, match="a network of more than 20,000 parts"):
        networks.new_network(AutoModel, config, "auto")
