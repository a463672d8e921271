"""What stands before every text, in each kind of data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import ExtractiveQuestions, ParallelText, TextClassification, TokenLabels
from datamodules.base import TaskDataModule
from datamodules.token_labels import IGNORED, NO_WORD
from datamodules.windows import NO_TEXT
from ernie_m import InputError, load_tokenizer

PREFIX = "query: "


@pytest.fixture
def options(tmp_path: Path, sample_tokenizer_dir: Path) -> dict[str, Any]:
    (tmp_path / "pairs.jsonl").write_text(
        '{"premise": "Insert a table", "hypothesis": "Text", "label": "a"}\n'
        '{"premise": "Text", "hypothesis": "Insert text", "label": "b"}\n',
        encoding="utf-8",
    )
    (tmp_path / "parallel.tsv").write_text("Insert text\tText einfügen\n", encoding="utf-8")
    words = " B-LOC\n".join(f"word{number}" for number in range(40))
    (tmp_path / "words.conll").write_text(f"{words} O\n\n", encoding="utf-8")
    (tmp_path / "questions.jsonl").write_text(
        '{"id": "1", "question": "What opens?", "context": "A dialog opens. Then it closes.", '
        '"answers": {"text": ["A dialog"], "answer_start": [0]}}\n',
        encoding="utf-8",
    )
    return {
        "tokenizer": str(sample_tokenizer_dir),
        "path": str(tmp_path),
        "cache_dir": str(tmp_path / "cache"),
        "max_length": 48,
    }


def loaded(kind: type[TaskDataModule], file: str, prefix: str, options: dict[str, Any], **more: Any) -> Any:
    data = kind(
        train_files={"en": file}, validation_files={"en": file}, test_files={"en": file}, prefix=prefix,
        **options, **more,
    )  # fmt: skip
    data.setup("fit")
    return data


def rows(data: TaskDataModule) -> list[dict[str, Any]]:
    found = data.row_set("train", ["en"])
    return found.rows(np.arange(len(found))).to_pylist()


def test_both_texts_of_a_pair_have_it(options: dict[str, Any]) -> None:
    tokenizer = load_tokenizer(options["tokenizer"])
    data = loaded(TextClassification, "pairs.jsonl", PREFIX, options)
    expected = tokenizer(
        ["query: Insert a table", "query: Text"], ["query: Text", "query: Insert text"], return_attention_mask=False
    )["input_ids"]
    assert [row["input_ids"] for row in rows(data)] == expected
    # Without it the same rows are other rows, of which the cache must not know.
    without = loaded(TextClassification, "pairs.jsonl", "", options)
    assert [row["input_ids"] for row in rows(without)] != expected
    assert next(data.texts("en")) == PREFIX
    assert next(without.texts("en")) == "Insert a table"


def test_both_sentences_have_it(options: dict[str, Any]) -> None:
    tokenizer = load_tokenizer(options["tokenizer"])
    (row,) = rows(loaded(ParallelText, "parallel.tsv", PREFIX, options))
    assert row["source_input_ids"] == tokenizer("query: Insert text")["input_ids"]
    assert row["target_input_ids"] == tokenizer("query: Text einfügen")["input_ids"]


def test_it_is_no_word_and_stands_in_every_window(options: dict[str, Any]) -> None:
    tokenizer = load_tokenizer(options["tokenizer"])
    found = rows(loaded(TokenLabels, "words.conll", PREFIX, options, label_names=["O", "B-LOC", "I-LOC"]))
    before = [tokenizer.cls_token_id, *tokenizer("query:", add_special_tokens=False)["input_ids"]]
    assert len(found) > 1
    for row in found:
        assert len(row["input_ids"]) <= 48
        assert row["input_ids"][: len(before)] == before
        assert row["words"][: len(before)] == [NO_WORD] * len(before)
        assert row["labels"][: len(before)] == [IGNORED] * len(before)
    assert [word for row in found for word in row["words"] if word != NO_WORD] == list(range(40))


def test_question_and_context_have_it_and_the_answer_keeps_its_place(options: dict[str, Any]) -> None:
    tokenizer = load_tokenizer(options["tokenizer"])
    (row,) = rows(loaded(ExtractiveQuestions, "questions.jsonl", PREFIX, options, max_query_length=16))
    expected = tokenizer("query: What opens?", "query: A dialog opens. Then it closes.")["input_ids"]
    assert row["input_ids"] == expected
    answer = tokenizer.convert_ids_to_tokens(row["input_ids"][row["start_positions"] : row["end_positions"] + 1])
    assert tokenizer.convert_tokens_to_string(answer).strip() == "A dialog"
    (window,) = loaded(ExtractiveQuestions, "questions.jsonl", PREFIX, options, max_query_length=16)._windows.cut(
        ["What opens?"], ["A dialog opens. Then it closes."]
    )
    first = next(place for place, begin in enumerate(window.begins) if begin != NO_TEXT)
    assert window.begins[first] == 0
    assert window.input_ids[first - 1] == tokenizer("query:", add_special_tokens=False)["input_ids"][-1]


def test_it_must_leave_room(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="max_length is 48; two texts with their special tokens and 'very very"):
        loaded(TextClassification, "pairs.jsonl", "very " * 40, options)
