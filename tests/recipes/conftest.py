"""Data and arguments that make the real command finish in seconds."""

import csv
import json
import logging
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from pyarrow import parquet

from datamodules import panx, udpos
from ernie_m_recipes.__main__ import main

LANGUAGES = ("ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")
WORDS = ("house", "water", "peace", "right", "freedom", "law", "people", "work", "school", "family")


def pairs(count: int, seed: int, labels: int, columns: tuple[str, str]) -> pyarrow.Table:
    """Pairs whose label follows from whether the second text repeats, replaces or denies the first."""
    draw = random.Random(seed)
    first, second = columns
    rows: dict[str, list[object]] = {first: [], second: [], "label": []}
    for number in range(count):
        label = number % labels
        text = " ".join(draw.choices(WORDS, k=draw.randint(2, 8)))
        rows[first].append(text)
        rows[second].append([text, " ".join(draw.choices(WORDS, k=4)), f"no {text}"][label])
        rows["label"].append(label)
    return pyarrow.table(rows)


def make_folder(root: Path, labels: int, columns: tuple[str, str]) -> Path:
    """Lay a data set of pairs out as the Hub does: 48 training pairs a language, 12 to validate and 12 to test."""
    for number, language in enumerate(LANGUAGES):
        (root / language).mkdir()
        for split, count in (("train", 48), ("validation", 12), ("test", 12)):
            table = pairs(count, 100 * number + count + len(split), labels, columns)
            parquet.write_table(table, root / language / f"{split}-00000-of-00001.parquet")
    return root


@pytest.fixture(scope="session")
def tiny_xnli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in XNLI's layout."""
    return make_folder(tmp_path_factory.mktemp("xnli"), 3, ("premise", "hypothesis"))


@pytest.fixture(scope="session")
def tiny_paws_x(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in PAWS-X's layout."""
    return make_folder(tmp_path_factory.mktemp("paws_x"), 2, ("sentence1", "sentence2"))


def choices(count: int, seed: int) -> list[dict[str, object]]:
    """Rows as XCOPA has them; the right choice repeats the premise."""
    draw = random.Random(seed)
    rows: list[dict[str, object]] = []
    for number in range(count):
        premise, other = (" ".join(draw.choices(WORDS, k=draw.randint(2, 8))) for _ in range(2))
        label = draw.randrange(2)
        first, second = (other, premise) if label else (premise, other)
        asked = ["cause", "effect"][number % 2]
        rows.append({"premise": premise, "choice1": first, "choice2": second, "question": asked, "label": label})
    return rows


@pytest.fixture(scope="session")
def tiny_xcopa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with XCOPA's official files of two languages, COPA's, and what `custom/multiple_choice` names."""
    root = tmp_path_factory.mktemp("xcopa")
    (root / "data").mkdir()
    files = {"train": 24, "val": 8, "val.it": 8, "test.it": 8, "test.zh": 8, "data/dev.en": 8, "data/dev.de": 8}
    for seed, (name, count) in enumerate(files.items()):
        lines = "".join(json.dumps(row) + "\n" for row in choices(count, seed))
        (root / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    with (root / "data" / "train.en.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(choices(1, 1)[0]))
        writer.writeheader()
        writer.writerows(choices(24, 8))
    for seed, language in enumerate(("en", "de"), start=9):
        parquet.write_table(pyarrow.Table.from_pylist(choices(8, seed)), root / "data" / f"test.{language}.parquet")
    return root


def prompted(count: int, seed: int) -> list[dict[str, object]]:
    """Words with a prompt for the persons, or for the places, among them; some texts are longer than a window."""
    draw = random.Random(seed)
    kinds = {"person": ("people", "family"), "place": ("house", "school")}
    rows: list[dict[str, object]] = []
    for number in range(count):
        prompt = ["person", "place"][number % 2]
        words = draw.choices(WORDS, k=500 if number % 8 == 7 else draw.randint(4, 20))
        results, start = [], 0
        for word in words:
            results += [{"text": word, "start": start, "end": start + len(word)}] if word in kinds[prompt] else []
            start += len(word) + 1
        rows.append({"content": " ".join(words), "prompt": prompt, "result_list": results})
    return rows


@pytest.fixture(scope="session")
def own_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that `custom/information_extraction` names."""
    root = tmp_path_factory.mktemp("own_prompts")
    (root / "data").mkdir()
    for seed, (name, count) in enumerate({"train.en": 24, "dev.en": 8, "dev.de": 8, "test.en": 8}.items()):
        lines = "".join(json.dumps(row) + "\n" for row in prompted(count, seed))
        (root / "data" / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(prompted(8, 9)), root / "data" / "test.de.parquet")
    return root


def questions(count: int, seed: int) -> list[dict[str, object]]:
    """Questions on contexts of the words above, some longer than a window; the answer follows the word asked for."""
    draw = random.Random(seed)
    found: list[dict[str, object]] = []
    for number in range(count):
        text = draw.choices(WORDS, k=500 if number % 8 == 7 else draw.randint(4, 40))
        place = draw.randrange(len(text) - 1)
        start = len(" ".join(text[: place + 1])) + 1
        found.append(
            {
                "id": f"{seed}-{number}",
                "context": " ".join(text),
                "question": f"{text[place]} ?",
                "answer": text[place + 1],
                "answer_start": start,
            }
        )
    return found


def as_squad(rows: list[dict[str, object]]) -> str:
    """The same in SQuAD's JSON."""
    paragraphs = [
        {
            "context": row["context"],
            "qas": [
                {
                    "id": row["id"],
                    "question": row["question"],
                    "answers": [{"text": row["answer"], "answer_start": row["answer_start"]}],
                }
            ],
        }
        for row in rows
    ]
    return json.dumps({"version": 1.0, "data": [{"title": "words", "paragraphs": paragraphs}]})


@pytest.fixture(scope="session")
def tiny_mlqa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of MLQA's official layout with 16 questions a pair, `train.json`, 48 to train on, and translations."""
    root = tmp_path_factory.mktemp("mlqa")
    for name in ("train.json", "squad.translate.train.en-de.json"):
        (root / name).write_text(as_squad(questions(48, 1)), encoding="utf-8")
    for split in ("dev", "test"):
        (root / split).mkdir()
        for number, (context, asked) in enumerate([*zip(LANGUAGES, LANGUAGES, strict=True), ("de", "en")]):
            file = root / split / f"{split}-context-{context}-question-{asked}.json"
            file.write_text(as_squad(questions(16, 10 * number + len(split))), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def tiny_squad_2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SQuAD 2.0 in the Hub's layout, and in its own JSON: every second question asks for a word that is not there."""
    root = tmp_path_factory.mktemp("squad_2")
    (root / "squad_v2").mkdir()
    for name, count in (("train", 48), ("validation", 16)):
        document = json.loads(as_squad(questions(count, count)))
        rows = []
        for number, paragraph in enumerate(document["data"][0]["paragraphs"]):
            (qa,) = paragraph["qas"]
            qa["is_impossible"] = number % 2 == 0
            if qa["is_impossible"]:
                qa |= {"question": "zebra ?", "plausible_answers": qa["answers"], "answers": []}
            answers = {key: [answer[key] for answer in qa["answers"]] for key in ("text", "answer_start")}
            row = {"id": qa["id"], "title": "words", "context": paragraph["context"], "question": qa["question"]}
            rows.append({**row, "answers": answers})
        (root / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
        table = pyarrow.Table.from_pylist(rows)
        parquet.write_table(table, root / "squad_v2" / f"{name}-00000-of-00001.parquet")
    return root


@pytest.fixture(scope="session")
def own_questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that `custom/question_answering` names."""
    root = tmp_path_factory.mktemp("own_questions")
    (root / "data").mkdir()
    with (root / "data" / "train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(questions(1, 1)[0]))
        writer.writeheader()
        writer.writerows(questions(24, 1))
    lines = [json.dumps(row) for row in questions(8, 2)]
    (root / "data" / "dev.en.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for seed, language in enumerate(("en", "de"), start=3):
        parquet.write_table(pyarrow.Table.from_pylist(questions(8, seed)), root / "data" / f"test.{language}.parquet")
    return root


@pytest.fixture(scope="session")
def tiny_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentence pairs: LASER's files of Tatoeba, OPUS-100's layout, and what custom/sentence_retrieval names."""
    root = tmp_path_factory.mktemp("pairs")
    draw = random.Random(5)
    english = list(dict.fromkeys(" ".join(draw.choices(WORDS, k=draw.randint(2, 6))) for _ in range(80)))
    rows = [{"english": text, "translation": " ".join(reversed(text.split()))} for text in english]
    for language, code in (("de", "deu"), ("zh", "cmn"), ("fr", "fra")):
        for side, column in (("eng", "english"), (code, "translation")):
            lines = "".join(f"{row[column]}\n" for row in rows[:12])
            (root / f"tatoeba.{code}-eng.{side}").write_text(lines, encoding="utf-8")
        for split, part in (("train", rows[12:44]), ("validation", rows[44:56])):
            pair = root / "-".join(sorted(("en", language)))
            pair.mkdir(exist_ok=True)
            objects = [{"translation": {"en": row["english"], language: row["translation"]}} for row in part]
            parquet.write_table(pyarrow.Table.from_pylist(objects), pair / f"{split}-00000-of-00001.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows[44:56]), root / f"validation.{language}.parquet")
    lines = "".join(f"{row['english']},{row['translation']}\n" for row in rows[12:44])
    (root / "train.de.csv").write_text(f"english,translation\n{lines}", encoding="utf-8")
    (root / "train.fr.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[12:44]), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def tiny_articles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Wikipedia's layout: a configuration for each language, named in its README."""
    root = tmp_path_factory.mktemp("articles")
    configurations = []
    for seed, language in enumerate(LANGUAGES):
        draw = random.Random(seed)
        rows = [{"title": word, "text": " ".join(draw.choices(WORDS, k=60))} for word in WORDS]
        parquet.write_table(pyarrow.Table.from_pylist(rows), root / f"{language}.parquet")
        configurations.append({"config_name": f"20231101.{language}", "data_files": f"{language}.parquet"})
    (root / "README.md").write_text(f"---\n{json.dumps({'configs': configurations})}\n---\n", encoding="utf-8")
    return root


def column_file(count: int, seed: int, columns: int) -> str:
    """Sentences in which houses are places and people persons, tags last."""
    draw = random.Random(seed)
    tags = {"house": "B-LOC", "school": "B-LOC", "people": "B-PER", "family": "B-PER"}
    sentences = ["-DOCSTART- " + " ".join(["-X-"] * (columns - 2)) + " O\n"]
    for _ in range(count):
        words = draw.choices(WORDS, k=draw.randint(2, 9))
        middle = " X" * (columns - 2)
        sentences.append("".join(f"{word}{middle} {tags.get(word, 'O')}\n" for word in words))
    return "\n".join(sentences)


@pytest.fixture(scope="session")
def tiny_conll(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CoNLL's official files of four languages, and the files that `custom/token_labels` names."""
    root = tmp_path_factory.mktemp("conll")
    for seed, (prefix, columns) in enumerate({"eng": 4, "deu": 5, "esp": 3, "ned": 3}.items()):
        for ending, count in (("train", 48), ("testa", 12), ("testb", 12)):
            text = column_file(count, 10 * seed + len(ending) + count, columns)
            (root / f"{prefix}.{ending}").write_text(text, encoding="utf-8")
    (root / "data").mkdir()
    rows = [
        {"tokens": [line.split()[0] for line in lines], "ner_tags": [line.split()[-1] for line in lines]}
        for lines in (text.splitlines() for text in column_file(24, 7, 2).split("\n\n")[1:])
    ]
    for name in ("train.en", "dev.en", "test.en", "test.de"):
        (root / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return root


def write_split(rows: Dataset, root: Path, config: str, split: str) -> None:
    (root / config).mkdir(exist_ok=True)
    rows.to_parquet(root / config / f"{split}-00000-of-00001.parquet")


@pytest.fixture(scope="session")
def tiny_xtreme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the layout of `google/xtreme`: words and questions of English and German, and SQuAD beside them."""
    root = tmp_path_factory.mktemp("xtreme")
    for name in ("train.json", "squad.translate.train.en-de.json", "tydiqa.translate.train.en-ar.json"):
        (root / name).write_text(as_squad(questions(24, 1)), encoding="utf-8")
    for name, column, labels, folders in (
        ("PAN-X", "ner_tags", panx.LABELS, {"en": "PAN-X.en", "de": "PAN-X.de"}),
        ("udpos", "pos_tags", udpos.LABELS, {"en": "udpos.English", "de": "udpos.German"}),
    ):
        features = Features({"tokens": Sequence(Value("string")), column: Sequence(ClassLabel(names=list(labels)))})
        for seed, (split, count) in enumerate((("train", 24), ("validation", 8), ("test", 8))):
            for language, folder in folders.items():
                lines = [one.splitlines() for one in column_file(count, 2 * seed + len(language), 2).split("\n\n")[1:]]
                rows = {"tokens": [[line.split()[0] for line in one] for one in lines]}
                found = [[line.split()[1] for line in one] for one in lines]
                as_labels = {"O": "DET", "B-LOC": "NOUN", "B-PER": "PROPN"} if name == "udpos" else {}
                rows[column] = [[labels.index(as_labels.get(tag, tag)) for tag in one] for one in found]
                write_split(Dataset.from_dict(rows, features=features), root, folder, split)
    for split, count in (("train", 24), ("validation", 8)):
        asked = [
            {
                **row,
                "id": f"{name}-{number}",
                "answers": {"text": [row["answer"]], "answer_start": [row["answer_start"]]},
            }
            for name in ("english", "arabic")
            for number, row in enumerate(questions(count, len(name)))
        ]
        table = pyarrow.Table.from_pylist(asked).drop(["answer", "answer_start"])
        for config in ("tydiqa", "XQuAD.en", "XQuAD.de"):
            (root / config).mkdir(exist_ok=True)
            parquet.write_table(table, root / config / f"{split}-00000-of-00001.parquet")
    return root


@pytest.fixture(scope="session")
def quick(tiny_checkpoint: Path, tiny_xnli: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that turn an XNLI recipe into twelve steps with a tiny network on tiny data."""
    return [
        f"--model.backbone={tiny_checkpoint}",
        "--model.from_scratch=null",
        f"--data.path={tiny_xnli}",
        "--data.validation_languages=[de, en]",
        "--data.test_languages=[de, en, zh]",
        "--data.global_batch_size=8",
        "--data.micro_batch_size=4",
        "--data.num_workers=0",
        f"--data.cache_dir={tmp_path_factory.mktemp('cache')}",
        "--trainer.accelerator=cpu",
        "--trainer.devices=1",
        # Recipes ask for bf16-mixed, and would compute in what the processor is faster in.
        "--trainer.precision=32-true",
        "--trainer.max_epochs=2",
        "--trainer.max_steps=-1",
        "--trainer.val_check_interval=3",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_model_summary=false",
    ]


@pytest.fixture(autouse=True)
def lightning_writes_to_this_tests_stderr() -> None:
    """Lightning's log goes to the stderr of the moment it was imported, which pytest has closed by the next test."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            if type(handler) is logging.StreamHandler:
                handler.stream = sys.stderr


@pytest.fixture
def ernie_m(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command in this process: returns its exit code, and what it wrote to stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random BERT weights, as mBERT's would lie there, and a tokenizer that knows the words above."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny_bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "no"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder)
    return folder
