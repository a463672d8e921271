"""The labelling of words through a Trainer: its loss, its tables, and its scores against plain counting."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from seqeval.metrics import f1_score
from torch.utils.data import DataLoader
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaForTokenClassification

from ernie_m import ErnieMConfig, ErnieMForSequenceClassification, ErnieMForTokenClassification, ErnieMModel
from ernie_m.errors import InputError
from lightning_modules import TokenClassification
from lightning_modules.scores import span_scores

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
SIZES = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
    "max_epochs": 1,
}


def spans(tags: list[str]) -> set[tuple[int, int, str]]:
    """Begin, end and type of every span: from a B-, or an I- that no tag of its type stands before, to its last I-."""
    found = set()
    for begin, tag in enumerate(tags):
        starts = tag[0] == "B" or (tag[0] == "I" and (begin == 0 or tags[begin - 1][2:] != tag[2:]))
        if starts:
            end = begin + 1
            while end < len(tags) and tags[end] == f"I-{tag[2:]}":
                end += 1
            found.add((begin, end, tag[2:]))
    return found


TAG = st.sampled_from(LABELS)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), max_size=8), min_size=1, max_size=5)
)
def test_spans_are_counted_as_conlleval_does(sentences: list[list[tuple[str, str]]]) -> None:
    references = {number: [pair[0] for pair in sentence] for number, sentence in enumerate(sentences)}
    predictions = {number: [pair[1] for pair in sentence] for number, sentence in enumerate(sentences)}
    true = {(number, *span) for number, tags in references.items() for span in spans(tags)}
    found = {(number, *span) for number, tags in predictions.items() for span in spans(tags)}
    right = len(true & found)
    result = span_scores(predictions, references)
    assert result["precision"] == pytest.approx(right / len(found) if found else 0.0)
    assert result["recall"] == pytest.approx(right / len(true) if true else 0.0)
    assert result["f1"] == pytest.approx(2 * right / (len(true) + len(found)) if right else 0.0)


def test_sentences_without_prediction_have_no_spans_and_lengths_must_agree() -> None:
    references = {0: ["B-PER", "O"], 1: ["B-LOC"]}
    assert span_scores({0: ["B-PER", "O"]}, references)["recall"] == 0.5
    with pytest.raises(InputError, match="sentence 1 has 1 words but 2 predictions"):
        span_scores({1: ["O", "O"]}, references)
    with pytest.raises(InputError, match="no references"):
        span_scores({}, {})
    with pytest.raises(InputError, match="sentence 7 has 0 words but 1 predictions"):
        span_scores({7: ["O"]}, references)


def test_labels_of_single_words_are_scored_as_such(tmp_path: Path) -> None:
    """Words without a label do not count; F1 is what XTREME's script, seqeval over labels as they are, says."""
    names = ["NOUN", "SYM", "VERB"]
    module = TokenClassification(str(tmp_path), label_names=names)
    rows = {
        "language": torch.zeros(2, dtype=torch.int64),
        "example_ids": torch.arange(2),
        "sentence": torch.arange(2),
        "words": torch.tensor([[-1, 0, -1, 1, 2], [-1, 0, 1, -1, 2]]),
        "labels": torch.tensor([[-100, 0, -100, 0, 1], [-100, 2, -100, -100, 2]]),
        "predictions": torch.tensor([[2, 0, 2, 1, 1], [2, 2, 0, 2, 0]]),
    }
    table, result = module.score(rows, missing=0)
    assert module.headline == "accuracy"
    assert result["accuracy"] == 3 / 5
    assert result["chance"] == 2 / 5
    assert table["labels"].to_pylist() == [["NOUN", "NOUN", "SYM"], ["VERB", None, "VERB"]]
    assert table["predictions"].to_pylist() == [["NOUN", "SYM", "SYM"], ["VERB", "NOUN", "NOUN"]]
    true, found = [["NOUN", "NOUN", "SYM"], ["VERB", "VERB"]], [["NOUN", "SYM", "SYM"], ["VERB", "NOUN"]]
    with pytest.warns(UserWarning, match="seems not to be NE tag"):
        assert result["f1"] == f1_score(true, found)
    assert module.score(rows | {"labels": torch.full_like(rows["labels"], -100)}, missing=0)[1] == {}


def batch_of(sentences: int, seed: int, language: int = 0) -> dict[str, torch.Tensor]:
    """Sentences of 5 words in two windows, the second of which shows the last word of the first again.

    Tokens 10 to 19 are persons' names, 20 to 29 places, 30 to 39 nothing; each is followed by a token 50.
    """
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(10, 40, (sentences, 5), generator=generator)
    label = torch.tensor([1, 3, 0])[words // 10 - 1]
    rest = torch.tensor([2, 4, 0])[words // 10 - 1]
    rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "words": []}
    for s in range(sentences):
        for shown, own in ((range(3), range(3)), (range(2, 5), range(3, 5))):
            ids, labels, numbers = [0], [-100], [-1]
            for w in shown:
                ids += [int(words[s, w]), 50]
                labels += [int(label[s, w]), int(rest[s, w])] if w in own else [-100, -100]
                numbers += [w if w in own else -1, -1]
            for column, values in zip(rows, (ids, labels, numbers), strict=True):
                rows[column].append(values)
    batch = {column: torch.tensor(values) for column, values in rows.items()}
    return batch | {
        "attention_mask": torch.ones_like(batch["input_ids"]),
        "sentence": torch.arange(sentences).repeat_interleave(2),
        "example_ids": torch.arange(2 * sentences),
        "language": torch.full((2 * sentences,), language),
        "weights": torch.ones(2 * sentences),
    }


def first_only(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch | {"labels": batch["labels"].masked_fill(batch["words"] < 0, -100)}


def save_encoder(folder: Path) -> Path:
    torch.manual_seed(0)
    ErnieMModel(ErnieMConfig(num_hidden_layers=1, initializer_range=0.2, **SIZES)).save_pretrained(folder)
    return folder


def module_of(backbone: Path, **arguments: Any) -> TokenClassification:
    module = TokenClassification(str(backbone), **({"label_names": LABELS} | arguments))
    module.languages = ["en", "de"]
    return module


def training(steps: int) -> DataLoader:
    items = []
    for step in range(steps):
        batch = batch_of(8, step)
        items.append([batch | {"normaliser": (batch["labels"] != -100).sum().float()}])
    return DataLoader(items, batch_size=None)


def test_learns_and_scores_words_of_windows(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path), learning_rate=1e-2, layer_decay=1.0)
    evaluation = [DataLoader([batch_of(6, 900 + i, i)], batch_size=None) for i in range(2)]
    trainer = Trainer(**QUIET, default_root_dir=tmp_path)
    trainer.fit(module, training(80), evaluation)
    assert module.results["en"]["f1"] > 0.9
    assert module.results["mean"]["f1"] == pytest.approx((module.results["en"]["f1"] + module.results["de"]["f1"]) / 2)
    assert module.results["mean"]["examples"] == 12
    assert module.results["mean"]["collapsed"] == 0.0
    assert float(trainer.callback_metrics["val/en/f1"]) == pytest.approx(module.results["en"]["f1"])
    table = module.tables["de"].to_pydict()
    words = batch_of(6, 901)["input_ids"]
    for sentence in range(6):
        ids = [*words[2 * sentence, [1, 3, 5]].tolist(), *words[2 * sentence + 1, [3, 5]].tolist()]
        assert table["labels"][sentence] == [["B-PER", "B-LOC", "O"][token // 10 - 1] for token in ids]
        assert len(table["predictions"][sentence]) == 5
    assert table["example_id"] == list(range(6))


def test_a_run_that_calls_nothing_an_entity_collapsed(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path), learning_rate=1e-9)
    module.configure_model()
    with torch.no_grad():
        module.network.classifier.bias[0] = 1e3
    trainer = Trainer(**QUIET, default_root_dir=tmp_path)
    with pytest.warns(UserWarning, match=r"this run collapsed.*en 0\.0% \(guessing: 0\.0%\)"):
        trainer.fit(module, training(1), DataLoader([batch_of(30, 900)], batch_size=None))
    assert module.results["en"]["f1"] == 0.0


@pytest.mark.parametrize("all_tokens", [True, False])
def test_scores_over_tokens_where_all_of_them_are_labelled(all_tokens: bool, tmp_path: Path) -> None:
    """Baidu's F1: the tokens of a word are one span, and a wrong second token makes it wrong."""
    module = module_of(save_encoder(tmp_path))
    batch = batch_of(4, 3)
    batch = batch if all_tokens else first_only(batch)
    predictions = batch_of(4, 3)["labels"].clone()
    wrong = (predictions == 2).nonzero()[0]
    predictions[wrong[0], wrong[1]] = 0
    rows = {key: batch[key] for key in ("language", "example_ids", "sentence", "words", "labels")}
    table, result = module.score(rows | {"predictions": predictions.clamp(min=0)}, missing=0)
    assert table["labels"].to_pylist() == table["predictions"].to_pylist()
    assert result["f1"] == 1.0
    entities = int(((batch["labels"] == 1) | (batch["labels"] == 3)).sum())
    assert ("subtoken_f1" in result) == all_tokens
    if all_tokens:
        # One span is missing and another, one token shorter, is found in its place.
        assert result["subtoken_f1"] == pytest.approx((entities - 1) / entities)


def test_the_loss_is_the_mean_over_labelled_tokens_however_the_batch_is_cut(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path))
    module.configure_model()
    module.eval().requires_grad_(False)
    batch = batch_of(4, 5)
    whole = batch | {"normaliser": (batch["labels"] != -100).sum().float()}
    logits = module.network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    chosen = batch["labels"] != -100
    expected = torch.nn.functional.cross_entropy(logits[chosen], batch["labels"][chosen])
    assert float(module.loss(whole)) == pytest.approx(float(expected), rel=1e-5)
    parts = [{key: value[i : i + 3] if value.dim() else value for key, value in whole.items()} for i in (0, 3, 6)]
    assert sum(float(module.loss(part)) for part in parts) == pytest.approx(float(expected), rel=1e-5)
    filler = whole | {"weights": torch.zeros(8)}
    assert float(module.loss(filler)) == 0.0


def test_the_watched_accuracy_is_that_of_labelled_tokens(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path))
    module.configure_model()
    batch = first_only(batch_of(4, 5)) | {"normaliser": torch.tensor(1.0)}
    batch["weights"] = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    module.eval().loss(batch)
    assert not module.train_accuracy.update_called
    for part in module.network.modules():
        part.training = part is module.network  # without dropout, to compare
    predicted = module.logits(batch).argmax(-1)
    module.training = True
    module.loss(batch)
    counts = (batch["labels"] >= 0) & (batch["weights"] > 0)[:, None]
    expected = (predicted == batch["labels"])[counts].float().mean()
    assert float(module.train_accuracy.compute()) == pytest.approx(float(expected))
    assert int(module.train_accuracy.total) == int(counts.sum()) < int((batch["labels"] >= 0).sum())


def test_predicts_without_labels(tmp_path: Path) -> None:
    backbone = tmp_path / "fine_tuned"
    torch.manual_seed(0)
    config = ErnieMConfig(num_hidden_layers=1, **SIZES, id2label=dict(enumerate(reversed(LABELS))))
    ErnieMForTokenClassification(config).save_pretrained(backbone)
    module = module_of(backbone)
    batch = batch_of(3, 7)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    Trainer(**QUIET, default_root_dir=tmp_path).predict(module, DataLoader([batch], batch_size=None))
    assert module.results == {}
    table = module.tables["en"].to_pydict()
    assert table["labels"] == [None] * 3
    network = ErnieMForTokenClassification.from_pretrained(backbone).eval()
    raw = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1)
    names = [list(reversed(LABELS))[label] for label in raw[batch["words"] >= 0].tolist()]
    assert [name for sentence in table["predictions"] for name in sentence] == names


def test_a_backbone_without_head_is_not_scored(tmp_path: Path) -> None:
    module = module_of(save_encoder(tmp_path))
    with pytest.raises(InputError, match=r"test: .* has no trained head"):
        Trainer(**QUIET, default_root_dir=tmp_path).test(module, DataLoader([batch_of(2, 1)], batch_size=None))


def test_other_families_train(tmp_path: Path) -> None:
    settings = {"num_hidden_layers": 1, **SIZES}
    torch.manual_seed(0)
    BertModel(BertConfig(**settings)).save_pretrained(tmp_path / "bert")
    labels = {"id2label": dict(enumerate(["X", "Y"])), "label2id": {"X": 0, "Y": 1}}
    XLMRobertaForTokenClassification(XLMRobertaConfig(**settings, **labels)).save_pretrained(tmp_path / "xlm-roberta")
    for family, arguments in (("bert", {}), ("xlm-roberta", {"new_head": True})):
        module = module_of(tmp_path / family, **arguments)
        evaluation = DataLoader([batch_of(2, 1)], batch_size=None)
        Trainer(**QUIET, default_root_dir=tmp_path).fit(module, training(1), evaluation)
        assert module.network.config.num_labels == 5
        assert module.results["en"]["examples"] == 2


def test_the_encoder_of_another_tasks_classifier_is_taken(tmp_path: Path) -> None:
    """Both tasks call their layer `classifier`; with as many labels the weights would even fit."""
    torch.manual_seed(0)
    config = ErnieMConfig(num_hidden_layers=1, **SIZES, id2label=dict(enumerate("abcde")))
    trained = ErnieMForSequenceClassification(config)
    trained.save_pretrained(tmp_path)
    module = module_of(tmp_path)
    module.configure_model()
    assert module.label_names == LABELS
    own, theirs = module.network.state_dict(), trained.state_dict()
    assert not torch.equal(own["classifier.weight"], theirs["classifier.weight"])
    name = "ernie_m.encoder.layers.0.linear1.weight"
    assert torch.equal(own[name], theirs[name])
    with pytest.raises(InputError, match="no trained head"):
        Trainer(**QUIET, default_root_dir=tmp_path).test(module, DataLoader([batch_of(2, 1)], batch_size=None))


def test_initial_weights_without_the_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ErnieMConfig(num_hidden_layers=1, **SIZES, id2label=dict(enumerate("abc")))
    trained = ErnieMForTokenClassification(config)
    trained.save_pretrained(tmp_path / "trained")
    module = module_of(save_encoder(tmp_path / "bare"), init_from=str(tmp_path / "trained"), new_head=True)
    module.configure_model()
    assert module.label_names == LABELS
    name = "ernie_m.encoder.layers.0.linear1.weight"
    assert torch.equal(module.network.state_dict()[name], trained.state_dict()[name])
