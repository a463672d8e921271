"""Data modules of multiple choice: what a batch holds, what a label means, what is refused, and XCOPA's layouts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from transformers import AutoTokenizer

from datamodules import XCOPA, AnswerChoices
from ernie_m.errors import InputError

CHOICES = ["a", "b", "c"]
QUESTIONS = {"cause": "Why?", "effect": "So what?"}


def rows_of(count: int) -> list[dict[str, Any]]:
    """Choices of different lengths within a row and between rows."""
    return [
        {
            "context": f"the house {number} " + "and the water " * (number * 5 % 7),
            **{name: f"{name} {number} " + "peace " * ((number + 3 * place) % 8) for place, name in enumerate(CHOICES)},
            "asked": ["cause", "effect"][number % 2],
            "label": number % 3,
        }
        for number in range(count)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> dict[str, str]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"en": str(path)}


@pytest.fixture
def make(sample_tokenizer_dir: Path, tmp_path: Path):
    def data_of(rows: list[dict[str, Any]] | None = None, **options: Any) -> AnswerChoices:
        files = {} if rows is None else {"validation_files": write(tmp_path / "rows.jsonl", rows)}
        defaults = {"choice_columns": CHOICES, "cache_dir": str(tmp_path / "cache"), **files}
        return AnswerChoices(str(sample_tokenizer_dir), **(defaults | options))

    return data_of


def test_a_batch_holds_a_pair_for_every_choice(make, sample_tokenizer_dir: Path) -> None:
    rows = rows_of(30)
    asked = {"question_column": "asked", "questions": QUESTIONS}
    data = make(rows, max_length=24, eval_tokens_per_batch=300, prefix="query: ", **asked)
    data.setup("validate")
    tokenizer = AutoTokenizer.from_pretrained(sample_tokenizer_dir)
    seen = []
    for batch in data.val_dataloader()[0]:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        assert ids.shape == mask.shape == (len(batch["labels"]), 3, ids.shape[2])
        assert {batch[key].dtype for key in ("input_ids", "attention_mask", "labels")} == {torch.int64}
        # The budget is that of what goes through the network, padding of short choices included.
        assert ids.numel() <= 300
        for place, number in enumerate(batch["example_ids"].tolist()):
            row = rows[number]
            seen.append(number)
            assert batch["labels"][place] == row["label"]
            for choice, name in enumerate(CHOICES):
                second = f"query: {QUESTIONS[row['asked']]} {row[name]}"
                expected = tokenizer("query: " + row["context"], second, truncation="longest_first", max_length=24)[
                    "input_ids"
                ]
                real = mask[place, choice].bool()
                assert ids[place, choice][real].tolist() == expected
                assert (ids[place, choice][~real] == tokenizer.pad_token_id).all()
    assert sorted(seen) == list(range(30))
    in_rows = {int(one) for batch in data.val_dataloader()[0] for one in batch["input_ids"].flatten()}
    assert in_rows <= set(data.token_ids().tolist())


def test_training_is_cut_by_the_tokens_of_all_choices(make, tmp_path: Path) -> None:
    files = write(tmp_path / "train.jsonl", rows_of(32))
    data = make(train_files=files, max_length=32, global_batch_size=16, micro_batch_tokens=400)
    data.load("train", download=False)
    steps = list(data.train_dataloader())
    assert [sum(len(micro["labels"]) for micro in step) for step in steps] == [16, 16]
    assert all(len(step) > 1 for step in steps)
    assert all(micro["input_ids"].numel() <= 400 for step in steps for micro in step)


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([0, 2, 1], None, [0, 2, 1]),
        (["a", "C", "1"], None, [0, 2, 1]),
        (["3", "1", "2"], ["1", "2", "3"], [2, 0, 1]),
        (["z", "x", "y"], ["x", "y", "z"], [2, 0, 1]),
    ],
)
def test_a_label_is_a_name_or_a_place(make, labels: list[Any], names: list[str] | None, expected: list[int]) -> None:
    rows = [row | {"label": label} for row, label in zip(rows_of(3), labels, strict=True)]
    data = make(rows, label_names=names)
    table = data.read("validation", "en", data.files("validation", "en", download=False).parts)
    assert table["labels"].to_pylist() == expected
    assert data.label_names == (names or CHOICES)


def test_a_file_to_predict_on_needs_no_label(make, tmp_path: Path) -> None:
    rows = [{name: row[name] for name in ("context", "asked", *CHOICES)} for row in rows_of(4)]
    write(tmp_path / "new.jsonl", rows)
    data = make(predict_path=str(tmp_path / "new.jsonl"), question_column="asked")
    data.setup("predict")
    (loader,) = data.predict_dataloader()
    assert next(iter(loader))["labels"].tolist() == [-100] * 4
    table = data.read("predict", "und", [tmp_path / "new.jsonl"])
    assert table["question"].to_pylist() == [row["asked"] for row in rows]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"label": 3}, {}, r"rows\.jsonl, line 2: unknown label 3 in column 'label'; known are a, b, c"),
        ({"label": -1}, {}, r"rows\.jsonl, line 2: unknown label -1"),
        ({"b": None}, {}, r"rows\.jsonl, line 2: column 'b' is null"),
        (
            {"asked": "reason"},
            {"question_column": "asked", "questions": QUESTIONS},
            r"rows\.jsonl, line 2: column 'asked' is 'reason'; questions has 'cause', 'effect'",
        ),
        ({}, {"choice_columns": ["a", "b", "d"]}, r"rows\.jsonl, line 1: no column 'd'"),
        ({}, {"choice_columns": ["a"]}, "must name two or more"),
        ({}, {"choice_columns": ["a", "a"]}, "must name two or more different"),
        ({}, {"label_names": ["x", "y"]}, "a name of its own for each of the 3 choices"),
        ({}, {"questions": QUESTIONS}, "questions is set without question_column"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(make, change, options: dict[str, Any], message: str) -> None:
    first, second = rows_of(2)
    with pytest.raises(InputError, match=message):
        make([first, second | change], **options).load("validation", download=False)


def test_empty_choices_are_kept_and_said(make, recwarn) -> None:
    first, second = rows_of(2)
    data = make([first, second | {"b": " "}])
    data.load("validation", download=False)
    assert len(data.row_set("validation", ["en"])) == 2
    assert any("line 2" in str(warning.message) and "is empty" in str(warning.message) for warning in recwarn)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12), st.integers(0, 1)), min_size=1, max_size=5))
def test_whatever_the_texts_every_row_has_a_pair_for_each_choice(rows, sample_tokenizer_dir: Path) -> None:
    data = AnswerChoices(str(sample_tokenizer_dir), choice_columns=["a", "b"], max_length=16)
    table = pyarrow.table(
        {
            "context": [first for first, _, _ in rows],
            "choice_0": [second for _, second, _ in rows],
            "choice_1": [first for first, _, _ in rows],
            "labels": pyarrow.array([label for _, _, label in rows], pyarrow.int32()),
        }
    )
    encoded = data.encode(table)
    lengths = [[len(ids) for ids in row] for row in encoded["input_ids"].to_pylist()]
    assert [len(row) for row in lengths] == [2] * len(rows)
    assert encoded["length"].to_pylist() == [2 * max(row) for row in lengths]
    assert np.max(lengths) <= 16


def xcopa_rows(count: int, columns: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return [
        {"premise": f"p {n}", "choice1": "one", "choice2": "two", "question": "cause", "label": n % 2, "idx": n}
        | (columns or {})
        for n in range(count)
    ]


@pytest.mark.parametrize("layout", ["official", "flat", "hub"])
def test_xcopa_is_read_in_each_of_its_layouts(layout: str, sample_tokenizer_dir: Path, tmp_path: Path) -> None:
    splits = {"it": {"validation": 3, "test": 4}, "zh": {"validation": 5, "test": 6}}
    for language, counts in splits.items():
        (tmp_path / language).mkdir()
        for split, count in counts.items():
            short = {"validation": "val"}.get(split, split)
            if layout == "hub":
                table = pyarrow.Table.from_pylist(xcopa_rows(count))
                parquet.write_table(table, tmp_path / language / f"{split}-00000-of-00001.parquet")
            else:
                folder = tmp_path / language if layout == "official" else tmp_path
                write(folder / f"{short}.{language}.jsonl", xcopa_rows(count))
    english = tmp_path / "english"
    for split, name, count in (("train", "train", 8), ("validation", "val", 7)):
        if layout == "hub":
            (english / "copa" / split).mkdir(parents=True)
            parquet.write_table(pyarrow.Table.from_pylist(xcopa_rows(count)), english / "copa" / split / "0000.parquet")
        else:
            english.mkdir(exist_ok=True)
            write(english / f"{name}.jsonl", xcopa_rows(count))
    data = XCOPA(
        str(sample_tokenizer_dir),
        path=str(tmp_path),
        english_path=str(english),
        validation_languages=["en", "it"],
        test_languages=["zh", "it"],
        cache_dir=str(tmp_path / "cache"),
    )
    for split in ("train", "validation", "test"):
        data.load(split, download=False)
    counts = {place: int(said.split()[0]) for place, said in data.fingerprints().items()}
    assert counts == {"train/en": 8, "validation/en": 7, "validation/it": 3, "test/zh": 6, "test/it": 4}
    assert data.languages == ["en", "et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh"]
    table = data.read("test", "it", data.files("test", "it", download=False).parts)
    assert set(table["question"].to_pylist()) == {"What was the cause of this?"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_languages": ["it"]}, "train_languages names 'it'; COPA has en"),
        ({"test_languages": ["en"]}, "test_languages names 'en'; XCOPA has et"),
        ({"validation_languages": ["de"]}, "validation_languages names 'de'; XCOPA has en, et"),
    ],
)
def test_languages_without_data_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        XCOPA("unused", **options)
