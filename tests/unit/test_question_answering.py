"""Question answering from files to answers: the data's batches, the task through a Trainer, and the written answers."""

import importlib.util
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from lightning.pytorch import Trainer
from transformers import AutoModelForQuestionAnswering, BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from datamodules import MLQA
from datamodules import QuestionAnswering as Questions
from ernie_m import ErnieMConfig, ErnieMForQuestionAnswering, ErnieMForSequenceClassification, load_tokenizer
from ernie_m.errors import InputError
from ernie_m_recipes.export import export_checkpoint
from lightning_modules import QuestionAnswering

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "answer_questions.py"
WORDS = ("house", "water", "peace", "right", "freedom", "law", "people", "work", "school", "family")
NUMBERS = ("1", "2", "3", "4", "5", "10")
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
}
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
SMALL = {"max_length": 48, "max_query_length": 8, "doc_stride": 12}


def paragraphs(count: int, seed: int) -> list[dict[str, Any]]:
    """One number stands in every context: it is the answer. Each third context is longer than a window."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        text = draw.choices(WORDS, k=45 if number % 3 == 2 else draw.randint(3, 12))
        place = draw.randrange(len(text))
        answer = draw.choice(NUMBERS)
        text[place] = answer
        start = len(" ".join(text[:place])) + (place > 0)
        answers = [{"text": answer, "answer_start": start}]
        qas = [{"id": f"{seed}/{number}", "question": "How many?", "answers": answers}]
        found.append({"context": " ".join(text), "qas": qas})
    return found


def write(path: Path, content: list[dict[str, Any]]) -> str:
    path.write_text(json.dumps({"data": [{"paragraphs": content}]}, ensure_ascii=False), encoding="utf-8")
    return str(path)


def without_answers(content: list[dict[str, Any]], which: slice = slice(None)) -> list[dict[str, Any]]:
    for paragraph in content[which]:
        for qa in paragraph["qas"]:
            qa["answers"] = []
    return content


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("questions")
    for name, count in (("train", 64), ("dev", 12), ("test", 12)):
        write(root / f"{name}.json", paragraphs(count, count + len(name)))
    return root


@pytest.fixture
def make(files: Path, sample_tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory):
    """Data of the files above, or of others."""
    cache = tmp_path_factory.mktemp("cache")

    def build(**changes: Any) -> Questions:
        arguments: dict[str, Any] = {
            "train_files": {"en": str(files / "train.json")},
            "validation_files": {"en": str(files / "dev.json")},
            "test_files": {"en": str(files / "test.json"), "de-en": str(files / "dev.json")},
            "global_batch_size": 16,
            "cache_dir": str(cache),
        }
        return Questions(**({"tokenizer": str(sample_tokenizer_dir)} | SMALL | arguments | changes))

    return build


def task(backbone: Path | str, **changes: Any) -> QuestionAnswering:
    arguments: dict[str, Any] = {
        "from_scratch": {**SIZES, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        "learning_rate": 5e-3,
        "layer_decay": 1.0,
    }
    return QuestionAnswering(str(backbone), **(arguments | changes))


def plain(path: Path) -> dict[str, dict[str, Any]]:
    """Id to context, question and answers, by plain loops."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return {
        qa["id"]: {"context": paragraph["context"], **qa}
        for article in document["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }


# Data


def test_training_batches_hold_the_answers_tokens(make, files: Path) -> None:
    data = make()
    data.setup("fit")
    expected = list(plain(files / "train.json").values())
    seen = set()
    for (batch,) in data.train_dataloader():
        assert float(batch["normaliser"]) == len(batch["question"])
        assert {values.dtype for name, values in batch.items() if name not in ("weights", "normaliser")} == {
            torch.int64
        }
        for row, question in enumerate(batch["question"].tolist()):
            start, end = int(batch["start_positions"][row]), int(batch["end_positions"][row])
            if start:
                seen.add(question)
                text = data.tokenizer.decode(batch["input_ids"][row, start : end + 1])
                assert text.replace(" ", "") == expected[question]["answers"][0]["text"]
    assert seen == set(range(64))


def test_evaluation_batches_say_which_characters_tokens_stand_for(make, files: Path) -> None:
    data = make()
    data.setup("test")
    contexts = [row["context"] for row in plain(files / "test.json").values()]
    windows: dict[int, int] = {}
    for batch in data.test_dataloader()[0]:
        for row, question in enumerate(batch["question"].tolist()):
            windows[question] = windows.get(question, 0) + 1
            for token, begin, end in zip(
                batch["input_ids"][row].tolist(),
                batch["offsets_begin"][row].tolist(),
                batch["offsets_end"][row].tolist(),
                strict=True,
            ):
                piece = data.tokenizer.convert_ids_to_tokens(token).replace("▁", "")
                assert piece in ("", contexts[question][begin:end]) if begin >= 0 else end == -1
    assert sorted(windows) == list(range(12))
    assert {question for question, count in windows.items() if count > 1} == {2, 5, 8, 11}


def test_what_was_left_out_is_said_also_where_the_cache_holds_the_rest(make, tmp_path: Path, caplog) -> None:
    content = paragraphs(9, 5)
    content[3]["qas"][0]["answers"][0]["answer_start"] += 1
    content[8]["qas"][0]["answers"] = []
    train = {"en": write(tmp_path / "train.json", content)}
    with pytest.raises(InputError, match=r"2 of 9 questions cannot be trained on"):
        make(train_files=train).setup("fit")
    with pytest.warns(UserWarning, match=r"2 of 9 questions(?s:.)*'5/3'(?s:.)*'5/8'(?s:.)*left out"):
        make(train_files=train, on_bad_answer="skip").setup("fit")
    again = make(train_files=train, on_bad_answer="skip")
    again.setup("fit")
    summary = again.fingerprints()["train/en"]
    assert "7 questions in" in summary
    assert "2 of 9 questions are left out (on_bad_answer: skip)" in summary
    assert 3 not in again.row_set("train", ["en"]).all_scalars("question")


def test_data_without_any_answer_are_told_before_anything_is_computed(make, tmp_path: Path) -> None:
    row = {"id": 1, "question": "q", "context": "c d", "answers": {"text": ["c"], "answer_start": [0]}}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    changes = {"answers_column": "answer", "cache_dir": str(tmp_path / "cache")}
    with pytest.warns(UserWarning, match=r"rows\.jsonl, line 1 and all after it have no answer.* and not scored"):
        make(test_files={"en": str(path)}, **changes).setup("test")
    data = make(train_files={"en": str(path)}, validation_files={"en": str(path)}, **changes)
    with pytest.raises(InputError, match=r"no column 'answer'"):
        data.setup("fit")
    data = make(validation_files={"en": str(path)}, **changes)
    with pytest.raises(InputError, match=r"no answer.*Validation needs them"):
        data.setup("validate")


def test_an_answer_longer_than_any_window_is_counted(make, tmp_path: Path) -> None:
    content = paragraphs(3, 6)
    text = content[2]["context"]
    content[2]["qas"][0]["answers"] = [{"text": text, "answer_start": 0}]
    data = make(train_files={"en": write(tmp_path / "train.json", content)})
    data.setup("fit")
    assert data.fingerprints()["train/en"].endswith("; no window holds the whole answer of 1)")


def test_ids_may_repeat_in_training_only(make, tmp_path: Path) -> None:
    content = paragraphs(4, 7)
    for paragraph in content:
        paragraph["qas"][0]["id"] = "1"
    file = {"en": write(tmp_path / "same.json", content)}
    make(train_files=file).setup("fit")
    with pytest.raises(InputError, match="the id '1' stands twice"):
        make(validation_files=file).setup("fit")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_query_length": 48}, "max_query_length is 48; it must be below max_length, 48"),
        ({"doc_stride": 0}, "doc_stride is 0"),
        ({"answer_start_column": "at"}, "answer_start_column is set without answer_column"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**changes)


def test_one_separator_is_ernie_ms_option(make, sample_tokenizer_dir: Path) -> None:
    one, two = make(single_separator=True), make()
    for data in (one, two):
        data.setup("validate")
    sep = two.tokenizer.sep_token_id
    counts = [
        (batch["input_ids"] == sep).sum(1).unique().tolist()
        for data in (one, two)
        for batch in data.val_dataloader()[0]
    ]
    assert counts[0] == [2]
    assert counts[-1] == [3]


# MLQA


@pytest.fixture(scope="module")
def mlqa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mlqa")
    for split in ("dev", "test"):
        (root / split).mkdir()
        for context, asked in (("en", "en"), ("de", "de"), ("de", "en")):
            content = paragraphs(4, sum(map(ord, split + context + asked)))
            write(root / split / f"{split}-context-{context}-question-{asked}.json", content)
    write(root / "train.json", paragraphs(8, 1))
    return root


def test_mlqas_files_are_found_by_pair(mlqa: Path, sample_tokenizer_dir: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"path": str(mlqa), "train_path": str(mlqa / "train.json"), "cache_dir": str(tmp_path)}
    data = MLQA(str(sample_tokenizer_dir), test_languages=["de", "de-en"], **options)
    assert data.languages[:8] == ["en", "es", "de", "ar", "hi", "vi", "zh", "en-es"]
    assert len(data.languages) == 49
    assert data.split_languages("test") == ["de", "de-en"]
    assert data.files("test", "de-en", False)[0] == [mlqa / "test" / "test-context-de-question-en.json"]
    assert data.files("validation", "en", False)[0] == [mlqa / "dev" / "dev-context-en-question-en.json"]
    assert data.files("train", "en", False)[0] == [mlqa / "train.json"]
    on_dev = MLQA(str(sample_tokenizer_dir), test_languages=["de"], test_split="dev", **options)
    assert on_dev.files("test", "de", False)[0] == [mlqa / "dev" / "dev-context-de-question-de.json"]
    assert MLQA(str(sample_tokenizer_dir), **options).split_languages("test") == data.languages[:7]
    for wrong, hint in ((["de-de"], "write 'de'"), (["fr"], "MLQA has en, es"), (["de", "de"], "twice")):
        with pytest.raises(InputError, match=hint):
            MLQA(str(sample_tokenizer_dir), test_languages=wrong, **options)


def test_a_folder_with_development_sets_alone_is_told_of_them(
    mlqa: Path, sample_tokenizer_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(mlqa / "dev", tmp_path / "dev")
    data = MLQA(str(sample_tokenizer_dir), str(tmp_path), test_languages=["en"], cache_dir=str(tmp_path / "cache"))
    with pytest.raises(InputError, match="set test_split to dev"):
        data.setup("test")


def test_mlqa_and_squad_in_the_hubs_layout(mlqa: Path, sample_tokenizer_dir: Path, tmp_path: Path) -> None:
    rows = [
        {"id": name, "context": row["context"], "question": row["question"],
         "answers": {"text": [a["text"] for a in row["answers"]], "answer_start": [0]}}
        for name, row in plain(mlqa / "test" / "test-context-de-question-en.json").items()
    ]  # fmt: skip
    for name in ("plain_text/train-00000-of-00001.parquet", "MLQA.de.en/test-00000-of-00001.parquet"):
        (tmp_path / name).parent.mkdir()
        pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    data = MLQA(
        str(sample_tokenizer_dir), path=str(tmp_path), train_path=str(tmp_path), test_languages=["de-en"],
        cache_dir=str(tmp_path / "cache"), on_bad_answer="skip",
    )  # fmt: skip
    data.setup("test")
    assert data.references("test", "de-en")["id"].to_pylist() == [row["id"] for row in rows]
    assert data.files("train", "en", False)[0] == [tmp_path / "plain_text" / "train-00000-of-00001.parquet"]


# The task


def test_the_loss_is_transformers_and_does_not_depend_on_padding(tiny_checkpoint: Path, make) -> None:
    data = make()
    data.setup("fit")
    (batch,) = next(iter(data.train_dataloader()))
    model = task(tiny_checkpoint, from_scratch=None)
    model.configure_model()
    model.eval()
    own = model.loss(batch)
    alone = [
        model.network(
            input_ids=batch["input_ids"][row : row + 1, :length],
            start_positions=batch["start_positions"][row : row + 1],
            end_positions=batch["end_positions"][row : row + 1],
        ).loss
        for row, length in enumerate(batch["attention_mask"].sum(1).tolist())
    ]
    torch.testing.assert_close(own, torch.stack(alone).mean(), rtol=1e-5, atol=1e-5)
    parts = [
        {key: values[rows] if values.ndim else values for key, values in batch.items()}
        for rows in (slice(0, 5), slice(5, None))
    ]
    torch.testing.assert_close(sum(map(model.loss, parts)), own, rtol=1e-5, atol=1e-5)


def test_learns_scores_and_answers(make, files: Path, sample_tokenizer_dir: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = task(sample_tokenizer_dir)
    data = make()
    trainer = Trainer(max_steps=80, check_val_every_n_epoch=100, **QUIET)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    assert list(model.results) == ["en", "de-en", "mean"]
    assert list(model.results["en"]) == ["f1", "exact_match", "examples"]
    assert model.results["en"]["f1"] > 0.7
    assert model.results["en"]["examples"] == 12
    assert model.results["mean"]["examples"] == 24
    references = plain(files / "test.json")
    rows = model.tables["en"].to_pylist()
    assert [row["id"] for row in rows] == list(references)
    right = 0
    for number, row in enumerate(rows):
        context = references[row["id"]]["context"]
        assert row["example_id"] == number
        assert row["prediction"] == context[row["begin"] : row["end"]] == row["n_best"][0]
        assert row["references"] == [references[row["id"]]["answers"][0]["text"]]
        assert len(set(row["n_best_scores"])) > 1
        assert row["n_best_scores"] == sorted(row["n_best_scores"], reverse=True)
        assert row["score"] == row["n_best_scores"][0]
        # Spans that begin with a lone "▁" stand for the same characters as those without it, and count once.
        assert len(row["n_best"]) <= 20
        assert all(text in context for text in row["n_best"])
        right += row["prediction"] == row["references"][0]
    assert model.results["en"]["exact_match"] == pytest.approx(right / 12)

    # The same answers from a file without answers, and from the export without a trainer.
    asked = write(tmp_path / "asked.json", without_answers(paragraphs(12, 12 + len("test"))))
    answering = make(predict_path=asked)
    trainer.predict(model, datamodule=answering, return_predictions=False)
    written = json.loads(answering.predictions_as_text(model.tables, ".json"))
    assert written == {row["id"]: row["prediction"] for row in rows}
    assert model.results == {}
    model.network.save_pretrained(tmp_path / "export")
    load_tokenizer(str(sample_tokenizer_dir)).save_pretrained(tmp_path / "export")
    spec = importlib.util.spec_from_file_location("answer_questions", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    network = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "export").eval()
    tokenizer = load_tokenizer(str(sample_tokenizer_dir))
    for row in rows[:2]:
        # One window holds these contexts, there and here.
        ((text, begin, end, score), *_) = example.answers(
            network, tokenizer, row["question"], references[row["id"]]["context"]
        )
        assert (text, begin, end) == (row["prediction"], row["begin"], row["end"])
        assert score == pytest.approx(row["score"], abs=1e-4)


def test_questions_without_right_answers_are_predicted_and_not_scored(
    make, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    some = {"en": write(tmp_path / "some.json", without_answers(paragraphs(5, 3), slice(0, 2)))}
    none = {"en": write(tmp_path / "none.json", without_answers(paragraphs(5, 4)))}
    model = task(tiny_checkpoint, from_scratch=None)
    model.announce(training_follows=True)
    trainer = Trainer(**QUIET)
    with pytest.warns(
        UserWarning, match="en: 2 of 5 questions have no right answers in the data; the score is that of"
    ):
        trainer.test(model, datamodule=make(test_files=some), verbose=False)
    assert model.results["en"]["examples"] == 3
    assert len(model.tables["en"]) == 5
    with pytest.warns(UserWarning, match="en: 5 of 5 questions have no right answers in the data; there is no score"):
        trainer.test(model, datamodule=make(test_files=none), verbose=False)
    assert model.results == {}
    assert model.tables["en"]["references"].to_pylist() == [None] * 5


def test_a_context_without_tokens_is_answered_with_nothing(make, tiny_checkpoint: Path, tmp_path: Path) -> None:
    content = paragraphs(2, 3)
    content[1]["context"] = "\u200b"
    data = make(test_files={"en": write(tmp_path / "empty.json", content)})
    model = task(tiny_checkpoint, from_scratch=None)
    model.announce(training_follows=True)
    Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    row = model.tables["en"].to_pylist()[1]
    assert (row["prediction"], row["score"], row["begin"], row["end"], row["n_best"]) == ("", None, -1, -1, [])
    assert model.results["en"]["examples"] == 2


def test_questions_of_which_no_window_came_back_count_as_wrong(make, tiny_checkpoint: Path) -> None:
    data = make()
    model = task(tiny_checkpoint, from_scratch=None)
    model.announce(training_follows=True)
    trainer = Trainer(**QUIET)
    trainer.test(model, datamodule=data, verbose=False)
    rows = {"language": torch.zeros(2, dtype=torch.int64), "question": torch.tensor([0, 4])}
    spans = {
        "span_begin": torch.tensor([[0], [0]]),
        "span_end": torch.tensor([[2], [2]]),
        "span_score": torch.ones(2, 1),
    }
    table, result = model.score(rows | spans, 3)
    assert len(table) == 2
    assert result["examples"] == 12
    assert result["missing"] == 10
    # A part of the data on purpose: what was not run is not scored.
    assert model.score(rows | spans, 0)[1]["examples"] == 2


@pytest.mark.parametrize("family", ["xlm-roberta", "bert"])
def test_other_families_answer_too(family: str, make, tmp_path: Path) -> None:
    if family == "bert":
        BertModel(BertConfig(vocab_size=40, **SIZES)).save_pretrained(tmp_path / "backbone")
        vocabulary = [
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            "[MASK]",
            *WORDS,
            *"0123456789",
            *(f"##{n}" for n in range(10)),
        ]
        (tmp_path / "backbone" / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        (tmp_path / "backbone" / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
        data = make(tokenizer=str(tmp_path / "backbone"), single_separator=True)
    else:
        config = XLMRobertaConfig(vocab_size=8002, max_position_embeddings=80, **SIZES)
        XLMRobertaModel(config).save_pretrained(tmp_path / "backbone")
        data = make()
    model = task(tmp_path / "backbone", from_scratch=None, layer_decay=0.8)
    trainer = Trainer(max_steps=2, **QUIET)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    assert model.results["en"]["examples"] == 12


def test_a_random_head_is_not_scored_and_a_classifiers_encoder_is_taken(make, tmp_path: Path) -> None:
    config = ErnieMConfig(vocab_size=8002, num_labels=3, **SIZES)
    ErnieMForSequenceClassification(config).save_pretrained(tmp_path / "classifier")
    data = make()
    model = task(tmp_path / "classifier", from_scratch=None)
    with pytest.raises(InputError, match="no trained head"):
        Trainer(**QUIET).test(model, datamodule=data, verbose=False)
    assert model.network.config.num_labels == 2
    network = ErnieMForQuestionAnswering(ErnieMConfig(vocab_size=8002, **SIZES))
    network.save_pretrained(tmp_path / "answering")
    trained = task(tmp_path / "answering", from_scratch=None)
    Trainer(**QUIET).test(trained, datamodule=data, verbose=False)
    for name, values in network.state_dict().items():
        torch.testing.assert_close(trained.network.state_dict()[name], values)


def test_an_export_encodes_pairs_as_the_training_did(
    make, sample_tokenizer_dir: Path, tmp_path: Path, monkeypatch
) -> None:
    module = torch.nn.Module()
    monkeypatch.setattr(QuestionAnswering, "load_from_checkpoint", lambda *_, **__: module)
    module.network = ErnieMForQuestionAnswering(ErnieMConfig(vocab_size=8002, **SIZES))
    module.network_to_export = lambda: module.network
    arguments = {"tokenizer": str(sample_tokenizer_dir), "single_separator": True}
    settings = {
        "data": {"init_args": arguments},
        "model": {"class_path": "lightning_modules.QuestionAnswering", "init_args": {"from_scratch": SIZES}},
        "run": {},
    }
    folder = export_checkpoint(tmp_path / "x.ckpt", tmp_path / "export", settings, {}, QuestionAnswering)
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer("peace", "law")["input_ids"].count(tokenizer.sep_token_id) == 2
    assert "AutoModelForQuestionAnswering" in (folder / "README.md").read_text(encoding="utf-8")
