"""PAN-X, Universal Dependencies, XQuAD and TyDiQA: their own files, counted without our reader."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from datamodules import PANX, UDPOS, TyDiQA, XQuAD

pytestmark = pytest.mark.real_data


def tagged(data: PANX | UDPOS, split: str, language: str) -> tuple[int, list[str], list[str]]:
    """How many sentences there are, and the words and names of labels of all of them."""
    parts = data.files(split, language, download=False).parts
    table = data.read(split, language, parts)
    words = [word for sentence in table.column("words").to_pylist() for word in sentence]
    labels = [data.label_names[label] for sentence in table.column("labels").to_pylist() for label in sentence]
    return table.num_rows, words, labels


@pytest.mark.parametrize("language", ["en", "de", "zh", "ar"])
def test_pan_x_is_read_whole(shared: Path, language: str) -> None:
    folder = shared / "data" / "panx"
    data = PANX(
        str(shared / "tokenizer"), path=str(folder), train_languages=[language], validation_languages=[language]
    )
    for split, file, sentences in (("train", "train", 20_000), ("validation", "dev", 10_000)):
        found = tagged(data, split, language)
        text = (folder / f"{file}-{language}.tsv").read_text(encoding="utf-8")
        rows = [line.split("\t") for line in text.split("\n") if line]
        assert found[0] == sentences
        assert found[1] == [row[0].strip(" ") for row in rows]
        # Chinese has entities that begin with I-: their tag follows none of the same type.
        tags = [line.split("\t")[1] if line else "O" for line in ["", *text.split("\n")]]
        begun = Counter(
            tag[2:] for before, tag in pairwise(tags) if tag[0] == "B" or (tag[0] == "I" and before[2:] != tag[2:])
        )
        assert Counter(label[2:] for label in found[2] if label.startswith("B-")) == begun


@pytest.mark.parametrize("language", ["en", "de", "zh", "ar", "hi"])
def test_parallel_treebanks_are_read_whole(shared: Path, language: str) -> None:
    folder = shared / "data" / "udpos"
    found = tagged(UDPOS(str(shared / "tokenizer"), path=str(folder)), "test", language)
    text = (folder / f"{language}_pud-ud-test.conllu").read_text(encoding="utf-8")
    rows = [row for line in text.split("\n") if (row := line.split("\t"))[0].isdecimal()]
    assert found == (1000, [row[1] for row in rows], [row[3] for row in rows])


def identifiers(path: Path) -> list[str]:
    document = json.loads(path.read_text(encoding="utf-8"))
    return [qa["id"] for article in document["data"] for one in article["paragraphs"] for qa in one["qas"]]


def test_questions_are_read_whole(shared: Path) -> None:
    folder, train = shared / "data" / "xquad", shared / "data" / "squad_format" / "tydiqa.goldp.en.train.json"
    data = XQuAD(str(shared / "tokenizer"), path=str(folder), train_path=str(train))
    for language in ("en", "zh"):
        table = data.read("test", language, data.files("test", language, download=False).parts)
        assert table.num_rows == 1190
        assert table.column("id").to_pylist() == identifiers(folder / f"xquad.{language}.json")
    asked = TyDiQA(str(shared / "tokenizer"), path=str(train.parent))
    for trained in (data, asked):
        table = trained.read("train", "en", trained.files("train", "en", download=False).parts)
        assert table.num_rows == 3696
        assert table.column("id").to_pylist() == identifiers(train)
