"""MLQA's development sets and TyDiQA-GoldP: every question is read, and every right answer can be given."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.questions import Columns, check_texts, read_questions, trainable
from datamodules.windows import Windows
from ernie_m import load_tokenizer

pytestmark = pytest.mark.real_data

# Questions, and how many of every fifth's answers end or begin inside a token: "Kronberg" of "Kronberger", Arabic
# words without their article.
INSIDE = {
    "MLQA_V1/dev/dev-context-ar-question-ar.json": (517, 8),
    "MLQA_V1/dev/dev-context-de-question-de.json": (512, 0),
    "MLQA_V1/dev/dev-context-de-question-en.json": (512, 0),
    "MLQA_V1/dev/dev-context-en-question-en.json": (1148, 1),
    "MLQA_V1/dev/dev-context-en-question-zh.json": (504, 0),
    "MLQA_V1/dev/dev-context-zh-question-zh.json": (504, 0),
    "squad_format/tydiqa.goldp.en.train.json": (3696, 9),
}


def plain(path: Path) -> list[tuple[str, str, dict[str, Any]]]:
    document = json.loads(path.read_text(encoding="utf-8"))
    return [
        (qa["id"], paragraph["context"], qa)
        for article in document["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


@pytest.mark.parametrize("name", INSIDE)
def test_every_question_is_read_and_every_answer_lies_in_a_window(name: str, shared: Path) -> None:
    path = shared / "data" / name
    questions, expected = read_questions([path], Columns(), True), plain(path)
    total, inside = INSIDE[name]
    assert len(questions) == len(expected) == total
    for question, (identifier, context, qa) in zip(questions, expected, strict=True):
        assert (question.id, question.context, question.text) == (identifier, context, qa["question"])
        assert [text for text, _ in question.answers] == [answer["text"] for answer in qa["answers"]]
    assert trainable(questions, "stop") == list(range(total))
    if "MLQA" in name:
        check_texts(questions)
    questions = questions[::5]
    answers = [(start or 0, (start or 0) + len(text)) for text, start in (q.answers[0] for q in questions)]
    cutter = Windows(load_tokenizer(str(shared / "tokenizer")), 384, 64, 128)
    found: dict[int, str] = {}
    seen = set()
    for window in cutter.cut([q.text for q in questions], [q.context for q in questions], answers):
        seen.add(window.question)
        assert len(window.input_ids) <= 384
        if window.start:
            context = questions[window.question].context
            found[window.question] = context[window.begins[window.start] : window.ends[window.end]]
    assert seen == set(found) == set(range(len(questions)))
    differing = [number for number, text in found.items() if text != questions[number].answers[0][0]]
    assert len(differing) == inside
    # One answer begins with a mark of direction, which no token stands for.
    assert all(questions[number].answers[0][0].strip(" \u200e") in found[number] for number in differing)
