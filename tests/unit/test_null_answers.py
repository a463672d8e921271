"""Questions without an answer: scores and threshold against SQuAD 2.0's published rules, and through a training."""

import importlib.util
import json
import math
import random
import re
import string
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import PreTrainedConfig

from datamodules import QuestionAnswering as Questions
from ernie_m import ErnieMConfig, ErnieMForQuestionAnswering
from ernie_m.errors import InputError
from lightning_modules import QuestionAnswering
from lightning_modules.answer_scores import answer_scores
from lightning_modules.collapse import DevelopmentRecord
from lightning_modules.null_answers import best_threshold, null_scores, threshold_in

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "answer_questions.py"

# SQuAD 2.0's evaluation, from its published rules: what `evaluate-v2.0.py` computes, written anew.


def normalised(text: str) -> str:
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def official_f1(right: str, predicted: str) -> float:
    gold, found = normalised(right).split(), normalised(predicted).split()
    if not gold or not found:
        return float(gold == found)
    same = sum((Counter(gold) & Counter(found)).values())
    precision, recall = same / len(found), same / len(gold)
    return (2 * precision * recall) / (precision + recall) if same else 0.0


def official_raw(predictions: dict[int, str], references: dict[int, list[str]]) -> dict[int, tuple[float, float]]:
    """F1 and exact match of every question."""
    raw = {}
    for question, answers in references.items():
        gold = [answer for answer in answers if normalised(answer)] or [""]
        predicted = predictions[question]
        exact = max(float(normalised(answer) == normalised(predicted)) for answer in gold)
        raw[question] = max(official_f1(answer, predicted) for answer in gold), exact
    return raw


def official(predictions: dict[int, str], references: dict[int, list[str]]) -> dict[str, float]:
    """All figures in percent, by our names."""
    raw = official_raw(predictions, references)
    figures = {}
    for prefix, kept in (
        ("", list(references)),
        ("has_answer_", [question for question in references if references[question]]),
        ("no_answer_", [question for question in references if not references[question]]),
    ):
        for place, name in enumerate(("f1", "exact_match")):
            total = 0.0
            for question in kept:
                total += raw[question][place]
            if kept:
                figures[prefix + name] = 100.0 * total / len(kept)
    assert figures.get("no_answer_f1") == figures.pop("no_answer_exact_match", None)
    return figures


def official_threshold(raw: list[float], answered: list[bool], texts: list[str], odds: list[float]) -> float:
    """`find_best_thresh` for F1."""
    score = best = float(answered.count(False))
    threshold = 0.0
    for number in sorted(range(len(odds)), key=odds.__getitem__):
        score += raw[number] if answered[number] else (-1 if texts[number] else 0)
        if score > best:
            best, threshold = score, odds[number]
    return threshold


# Answers of which no word is left are among them.
TEXTS = st.sampled_from(["", "The", "a", "!", "red", "the Red!", "red house", "blue", "an", "blue, red house"])
ROWS = st.lists(st.tuples(TEXTS, st.lists(TEXTS, max_size=3)), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_scores_are_those_of_squad_2(rows: list[tuple[str, list[str]]]) -> None:
    predictions = dict(enumerate(text for text, _ in rows))
    references = dict(enumerate(right for _, right in rows))
    ours = answer_scores(predictions, references, "de", "squad", scale=100.0, negatives=True)
    assert ours == official(predictions, references)
    # What our protocols have in common with it is as it was.
    answered = {question: right for question, right in references.items() if right}
    if answered and all(normalised(text) for text in (*predictions.values(), *chain(*references.values()))):
        plain = answer_scores(predictions, answered, "en", "squad", scale=100.0)
        assert plain == {name: ours[f"has_answer_{name}"] for name in plain}


def test_a_question_without_a_prediction_counts_as_wrong() -> None:
    scores = answer_scores({0: "", 2: "red"}, {0: [], 1: [], 2: ["red"], 3: ["x"]}, "en", "squad", negatives=True)
    assert scores == {
        "f1": 0.5, "exact_match": 0.5, "has_answer_f1": 0.5, "has_answer_exact_match": 0.5, "no_answer_f1": 0.5,
    }  # fmt: skip


def sum_of_f1(threshold: float, differences: list[float], gains: list[float]) -> float:
    return math.fsum(gain for difference, gain in zip(differences, gains, strict=True) if not difference > threshold)


# Eighths, so that sums are exact; differences repeat.
EIGHTHS = st.integers(-40, 40).map(lambda number: number / 8)
GAINS = st.one_of(st.just(-1.0), st.integers(0, 8).map(lambda number: number / 8))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(EIGHTHS | st.just(math.inf), GAINS), max_size=12))
def test_no_threshold_is_better(pairs: list[tuple[float, float]]) -> None:
    differences, gains = [pair[0] for pair in pairs], [pair[1] if pair[0] < math.inf else 0.0 for pair in pairs]
    threshold = best_threshold(differences, gains)
    assert math.isfinite(threshold)
    reached = sum_of_f1(threshold, differences, gains)
    assert reached == max(sum_of_f1(other, differences, gains) for other in (-1e9, *differences))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(EIGHTHS, st.integers(-1, 8)), min_size=1, max_size=12, unique_by=lambda pair: pair[0]))
def test_it_is_the_official_scripts_where_differences_are_as_probabilities(pairs: list[tuple[float, int]]) -> None:
    """Above 0, each once: where no answer at all is best, the script has 0 too."""
    odds = [difference + 6 for difference, _ in pairs]
    gains = [gain / 8 if gain >= 0 else -1.0 for _, gain in pairs]
    theirs = official_threshold([max(gain, 0.0) for gain in gains], [gain >= 0 for gain in gains], ["x"] * 12, odds)
    assert best_threshold(odds, gains) == theirs


def test_the_lowest_score_of_a_questions_windows_counts() -> None:
    assert null_scores(torch.tensor([3, 1, 3, 3]), torch.tensor([2.0, 0.5, -1.0, 4.0])) == {3: -1.0, 1: 0.5}


@pytest.mark.parametrize("value", ["0.5", True, math.nan, math.inf, 10**400, [1.0]])
def test_a_strangers_threshold_is_a_finite_number(value: Any) -> None:
    config = PreTrainedConfig()
    assert threshold_in(config, "x") is None
    config.null_threshold = 3
    assert threshold_in(config, "x") == 3.0
    config.null_threshold = value
    with pytest.raises(InputError, match=r"the configuration of 'x': null_threshold is .*must be a finite number"):
        threshold_in(config, "x")


# Through a training


WORDS = ("house", "water", "peace", "right", "freedom", "law", "people", "work", "school", "family")
NUMBERS = ("1", "2", "3", "4", "5", "10")
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}


def write(path: Path, count: int, impossible: Callable[[int], bool] = lambda number: number % 3 == 0) -> dict[str, str]:
    """Questions for the number in a context, some in contexts without one; each fourth is longer than a window."""
    draw = random.Random(count)
    paragraphs = []
    for number in range(count):
        text = draw.choices(WORDS, k=45 if number % 4 == 3 else draw.randint(3, 12))
        place, answer = draw.randrange(len(text)), draw.choice(NUMBERS)
        qa: dict[str, Any] = {"id": f"{number}", "question": "How many?", "is_impossible": impossible(number)}
        qa["answers"] = []
        if not impossible(number):
            text[place] = answer
            qa["answers"] = [{"text": answer, "answer_start": len(" ".join(text[:place])) + (place > 0)}]
        paragraphs.append({"context": " ".join(text), "qas": [qa]})
    path.write_text(json.dumps({"version": "v2.0", "data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    return {"en": str(path)}


@pytest.fixture
def make(sample_tokenizer_dir: Path, tmp_path: Path):
    """Data of 96 questions to train on and 24 to validate and test on, or others."""

    def build(**changes: Any) -> Questions:
        arguments: dict[str, Any] = {
            "train_files": write(tmp_path / "train.json", 96),
            "validation_files": write(tmp_path / "dev.json", 24),
            "test_files": write(tmp_path / "dev.json", 24),
            "version_2_with_negative": True,
            "global_batch_size": 16,
            "cache_dir": str(tmp_path / "cache"),
            "max_length": 48,
            "max_query_length": 8,
            "doc_stride": 12,
        }
        return Questions(**({"tokenizer": str(sample_tokenizer_dir)} | arguments | changes))

    return build


def task(backbone: Path | str, **changes: Any) -> QuestionAnswering:
    arguments: dict[str, Any] = {
        "from_scratch": {**SIZES, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        "learning_rate": 5e-3,
        "layer_decay": 1.0,
        "protocol": "squad",
        "version_2_with_negative": True,
    }
    return QuestionAnswering(str(backbone), **(arguments | changes))


def test_learns_when_to_give_no_answer_and_keeps_the_threshold(
    make, sample_tokenizer_dir: Path, tmp_path: Path, caplog
) -> None:
    torch.manual_seed(0)
    both = {"en": write(tmp_path / "dev.json", 24)["en"], "de": write(tmp_path / "de.json", 9)["en"]}
    model, data = task(sample_tokenizer_dir), make(validation_files=both)
    keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, save_weights_only=True)
    trainer = Trainer(max_steps=120, callbacks=[keep], check_val_every_n_epoch=None, val_check_interval=60, **QUIET)
    trainer.fit(model, datamodule=data)
    threshold = model.network.config.null_threshold
    # Of the training's language.
    assert f"null_threshold: {threshold:.4f}, chosen on 24 questions of the development data" in caplog.text
    assert list(model.results) == ["en", "de", "mean"]
    scores = model.results["en"]
    assert scores["f1"] > 0.7
    assert min(scores["no_answer_f1"], scores["has_answer_f1"]) > 0.5
    assert scores["chance"] == pytest.approx(1 / 3)
    assert scores["examples"] == 24
    assert model.collapse_report() is None

    rows = model.tables["en"].to_pylist()
    assert official(
        {row["example_id"]: row["prediction"] for row in rows}, {row["example_id"]: row["references"] for row in rows}
    ) == pytest.approx({name: 100 * scores[name] for name in list(scores)[:5]})
    for row in rows:
        assert row["score_difference"] == pytest.approx(row["null_score"] - row["score"], abs=1e-5)
        assert row["score"] == row["n_best_scores"][0]
        if row["score_difference"] > threshold:
            assert (row["prediction"], row["begin"], row["end"]) == ("", -1, -1)
        else:
            assert row["prediction"] == row["n_best"][0]
    tables = {"en": model.tables["en"]}
    written = json.loads(data.predictions_as_text(tables, ".json"))
    assert written == {row["id"]: row["prediction"] for row in rows}
    lines = [json.loads(line) for line in data.predictions_as_text(tables, ".jsonl").splitlines()]
    assert [line["score_difference"] for line in lines] == [row["score_difference"] for row in rows]
    spec = importlib.util.spec_from_file_location("answer_questions", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    contexts = data.references("validate", "en")["context"].to_pylist()
    # One window holds these contexts, there and here.
    for row in rows[:2]:
        ((text, begin, _, _), *_) = example.answers(
            model.network.eval(), data.tokenizer, row["question"], contexts[row["example_id"]]
        )
        assert (text, begin) == (row["prediction"], row["begin"])
    assert [row["prediction"] == "" for row in rows[:2]] == [True, False]

    # Weights of another step bring their own threshold, whether they are put into this network or build one.
    first = QuestionAnswering.load_from_checkpoint(tmp_path / "step=60.ckpt").network.config.null_threshold
    assert first != threshold
    trainer.test(model, datamodule=data, ckpt_path=str(tmp_path / "step=60.ckpt"), weights_only=True, verbose=False)
    assert model.network.config.null_threshold == first
    trainer.test(model, datamodule=data, ckpt_path=str(tmp_path / "step=120.ckpt"), weights_only=True, verbose=False)
    assert model.results["en"] == scores
    assert model.tables["en"].to_pylist() == rows


def test_the_score_of_no_answer_is_the_first_tokens_lowest_of_the_windows(make, tiny_checkpoint: Path) -> None:
    data, model = make(), task(tiny_checkpoint, from_scratch=None, null_threshold=0.25)
    model.announce(training_follows=True)
    trainer = Trainer(enable_checkpointing=False, **QUIET)
    trainer.test(model, datamodule=data, verbose=False)
    lowest: dict[int, float] = {}
    network = model.network.eval()
    for batch in data.test_dataloader()[0]:
        with torch.inference_mode():
            output = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        for question, start, end in zip(
            batch["question"].tolist(), output.start_logits[:, 0], output.end_logits[:, 0], strict=True
        ):
            lowest[question] = min(lowest.get(question, math.inf), float(start + end))
    assert model.tables["en"]["null_score"].to_pylist() == pytest.approx(
        [lowest[number] for number in range(24)], abs=1e-5
    )
    assert network.config.null_threshold == 0.25


def test_windows_of_questions_without_an_answer_train_the_first_token(make) -> None:
    data = make()
    data.setup("fit")
    assert "; 32 of 96 questions have no answer" in data.fingerprints()["train/en"]
    for (batch,) in data.train_dataloader():
        impossible = batch["question"] % 3 == 0
        assert not batch["start_positions"][impossible].any()
        assert not batch["end_positions"][impossible].any()


def test_a_threshold_is_of_its_own_weights_and_0_where_nothing_chose_it(
    make, sample_tokenizer_dir: Path, tmp_path: Path
) -> None:
    network = ErnieMForQuestionAnswering(ErnieMConfig(vocab_size=8002, null_threshold=7.0, **SIZES))
    network.save_pretrained(tmp_path / "backbone")
    model = task(tmp_path / "backbone", from_scratch=None)
    trainer = Trainer(max_steps=1, limit_val_batches=0, enable_checkpointing=False, **QUIET)
    trainer.test(model, datamodule=make(), verbose=False)
    assert model.network.config.null_threshold == 7.0
    with pytest.warns(UserWarning, match="there were no development data to choose null_threshold on: it is 0"):
        trainer.fit(model, datamodule=make())
    assert model.network.config.null_threshold == 0.0
    # Where all questions have an answer none is left out, and the old threshold is forgotten.
    plain = task(tmp_path / "backbone", from_scratch=None, version_2_with_negative=False)
    everything = write(tmp_path / "all.json", 16, lambda number: False)
    files = {"train_files": everything, "validation_files": everything, "version_2_with_negative": False}
    of_each_step = {"check_val_every_n_epoch": None, "val_check_interval": 1}
    Trainer(max_steps=1, enable_checkpointing=False, **of_each_step, **QUIET).fit(plain, datamodule=make(**files))
    assert not hasattr(plain.network.config, "null_threshold")
    assert list(plain.results["en"]) == ["f1", "exact_match", "examples"]
    fresh = task(sample_tokenizer_dir, from_scratch=SIZES)
    fresh.announce(restore_from=None)
    fresh.configure_model()
    fresh._random_parameters = []
    with pytest.warns(UserWarning, match="keeps no null_threshold.*it is 0 here"):
        Trainer(enable_checkpointing=False, **QUIET).test(fresh, datamodule=make(), verbose=False)


def test_data_without_any_right_answer_choose_no_answer_at_all_and_tell_no_chance(
    make, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    none = write(tmp_path / "none.json", 12, lambda number: True)
    model = task(tiny_checkpoint, from_scratch=None)
    trainer = Trainer(
        max_steps=1, check_val_every_n_epoch=None, val_check_interval=1, enable_checkpointing=False, **QUIET
    )
    with pytest.warns(UserWarning, match=r"and all after it have no answer, as the file says: a threshold that is"):
        trainer.fit(model, datamodule=make(validation_files=none))
    assert model.results["en"] == {"f1": 1.0, "exact_match": 1.0, "no_answer_f1": 1.0, "examples": 12.0}
    with pytest.raises(InputError, match="have no answer, so there is nothing to learn but to give none"):
        make(train_files=none).setup("fit")


@pytest.mark.parametrize(
    ("of_task", "of_data", "message"),
    [
        ({"version_2_with_negative": False}, {}, "version_2_with_negative is True in data and False in model"),
        ({}, {"version_2_with_negative": False}, "version_2_with_negative is False in data and True in model"),
        ({"null_threshold": math.nan}, {}, "null_threshold is 'nan'; it must be a finite number"),
        ({"null_threshold": 0.5, "version_2_with_negative": False}, {}, "null_threshold is set without"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    of_task: dict[str, Any], of_data: dict[str, Any], message: str, make, tiny_checkpoint: Path
) -> None:
    with pytest.raises(InputError, match=message):
        Trainer(max_steps=1, enable_checkpointing=False, **QUIET).validate(
            task(tiny_checkpoint, from_scratch=None, **of_task), datamodule=make(**of_data)
        )


def test_a_run_that_never_answers_has_collapsed() -> None:
    """With a threshold chosen on the same data a run is never below that, so a little above it says nothing."""
    for f1, has_collapsed in ((0.5, True), (0.52, True), (0.6, False)):
        record = DevelopmentRecord()
        record.note({"en": {"f1": f1, "examples": 1000.0, "chance": 0.5}}, "f1")
        assert (record.verdict(["en"]) is not None) == has_collapsed
