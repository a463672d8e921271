"""Questions from every format: the right ones come out, and whatever is broken is named with its place."""

import copy
import csv
import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.questions import Columns, as_table, check_impossible, check_texts, read_questions, trainable
from ernie_m.errors import InputError

CONTEXT = "Der Rhein ist 1.233 km lang. Er mündet in die Nordsee."
DOCUMENT: dict[str, Any] = {
    "version": "1.1",
    "data": [
        {
            "title": "Rhein",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {"id": "a", "question": "Wie lang?", "answers": [{"text": "1.233 km", "answer_start": 14}]},
                        {
                            "id": "b",
                            "question": "Wohin?",
                            "answers": [
                                {"text": "Nordsee", "answer_start": 46},
                                {"text": "in die Nordsee", "answer_start": 39},
                            ],
                        },
                    ],
                }
            ],
        },
        {
            "paragraphs": [
                {
                    "context": "水是生命",
                    "qas": [{"id": "c", "question": "什么？", "answers": [{"text": "水", "answer_start": 0}]}],
                }
            ]
        },
    ],
}
EXPECTED = [
    ("a", "Wie lang?", CONTEXT, (("1.233 km", 14),)),
    ("b", "Wohin?", CONTEXT, (("Nordsee", 46), ("in die Nordsee", 39))),
    ("c", "什么？", "水是生命", (("水", 0),)),
]
FLAT = Columns(answer="answer", answer_start="at")


def flat_rows(rows: list[tuple]) -> list[dict[str, Any]]:
    return [
        {"id": name, "question": question, "context": context}
        | dict(zip(("answer", "at"), answers[0] if answers else (None, None), strict=True))
        for name, question, context, answers in rows
    ]


def nested_rows(rows: list[tuple]) -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "title": "",
            "context": context,
            "question": question,
            "answers": {"text": [text for text, _ in answers], "answer_start": [start for _, start in answers]},
        }
        for name, question, context, answers in rows
    ]


def write(folder: Path, name: str, rows: list[tuple] = EXPECTED) -> tuple[Path, Columns]:
    """The same questions in the format that a name stands for."""
    path = folder / name
    if name.endswith(".json"):
        path.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    elif name.endswith(".json.gz"):
        path.write_bytes(gzip.compress(json.dumps(DOCUMENT, ensure_ascii=False).encode("utf-8-sig")))
    elif name == "nested.jsonl":
        path.write_text("\n".join(map(json.dumps, nested_rows(rows))), encoding="utf-8")
    elif name == "nested.parquet":
        pq.write_table(pa.Table.from_pylist(nested_rows(rows)), path)
    elif name.endswith((".csv", ".tsv")):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(flat_rows(rows)[0]), delimiter="\t" if name.endswith("tsv") else ",")
            writer.writeheader()
            writer.writerows(flat_rows(rows))
    elif name == "flat.jsonl":
        path.write_text("\n".join(map(json.dumps, flat_rows(rows))), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(flat_rows(rows)), path)
    return path, FLAT if name.startswith("flat") else Columns()


def contents(questions: list[Any]) -> list[tuple]:
    return [(q.id, q.text, q.context, q.answers) for q in questions]


NAMES = ("squad.json", "squad.json.gz", "nested.jsonl", "nested.parquet")
FLAT_NAMES = ("flat.csv", "flat.tsv", "flat.jsonl", "flat.parquet")


@pytest.mark.parametrize("name", NAMES + FLAT_NAMES)
def test_every_format_gives_the_same_questions(name: str, tmp_path: Path) -> None:
    path, columns = write(tmp_path, name)
    expected = [(*row[:3], row[3][:1]) if name in FLAT_NAMES else row for row in EXPECTED]
    for answered in (True, False):
        questions = read_questions([path], columns, answered)
        assert contents(questions) == expected
    assert trainable(questions, "stop") == [0, 1, 2]
    check_texts(questions)
    table = as_table(questions, [0, 2])
    assert table.column("number").to_pylist() == [0, 2]
    assert table.column("id").to_pylist() == ["a", "c"]
    assert [(row["begin"], row["end"]) for row in table.to_pylist()] == [(14, 22), (0, 1)]


@pytest.mark.parametrize("name", ["flat.csv", "flat.jsonl", "flat.parquet", "nested.parquet"])
def test_files_without_answers_can_be_predicted_on_and_not_trained_on(name: str, tmp_path: Path) -> None:
    path, _ = write(tmp_path, name)
    columns = Columns(answer="gold", answer_start="from") if name.startswith("flat") else Columns(answers="gold")
    questions = read_questions([path], columns, answered=False)
    assert [question.answers for question in questions] == [(), (), ()]
    with pytest.raises(InputError, match=r"no column 'gold'; it has 'id'"):
        read_questions([path], columns, answered=True)


def test_rows_may_be_numbered_and_ids_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 7, "question": "q", "context": "c"}\n{"id": 8, "question": "q", "context": "c"}\n')
    assert [q.id for q in read_questions([path], Columns(), False)] == ["7", "8"]
    assert [q.id for q in read_questions([path, path], Columns(id=None), False)] == ["0", "1", "2", "3"]


def xquad(document: dict[str, Any]) -> None:
    """XQuAD's files: SQuAD's, with a version and no title."""


def tydiqa(document: dict[str, Any]) -> None:
    """TyDiQA-GoldP's: one question a paragraph, one paragraph an article, ids and version of another kind."""
    document["version"] = "TyDiQA-GoldP-1.1-for-SQuAD-1.1"
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = [{**qa, "id": f"german-{qa['id']}"} for qa in paragraph["qas"][:1]]
    document["data"] = [{"paragraphs": [p]} for article in document["data"] for p in article["paragraphs"]]


@pytest.mark.parametrize(("shape", "ids"), [(xquad, ["a", "b", "c"]), (tydiqa, ["german-a", "german-c"])])
def test_xquad_and_tydiqa_are_read_by_the_same_code(shape: Callable, ids: list[str], tmp_path: Path) -> None:
    document = copy.deepcopy(DOCUMENT)
    for article in document["data"]:
        article.pop("title", None)
    shape(document)
    path = tmp_path / "xquad.de.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert [question.id for question in read_questions([path], Columns(), True)] == ids


BROKEN = {
    "cut": ('{"data": [\n  {"para', r"a\.json, line 2, column 4: not valid JSON"),
    "a list": ("[]", r"a\.json, the document: expected an object with 'data', found list \[\]"),
    "no data": ('{"dat": []}', r"a\.json, the document: no key 'data'; it has 'dat'"),
    "twice": ('{"data": [], "data": []}', r"the key 'data' stands twice"),
    "no paragraphs": ('{"data": [{}]}', r"a\.json, data\[0\]: no key 'paragraphs'; it has none"),
    "a number": ('{"data": [{"paragraphs": 3}]}', r"data\[0\]\.paragraphs: expected a list, found int 3"),
    "no object": ('{"data": [[]]}', r"data\[0\]: expected an object with 'paragraphs', found list"),
    "context": (
        '{"data": [{"paragraphs": [{"context": null, "qas": []}]}]}',
        r"data\[0\]\.paragraphs\[0\]\.context: expected a text, found NoneType None",
    ),
    "half a character": (
        '{"data": [{"paragraphs": [{"context": "\\ud800", "qas": []}]}]}',
        r"paragraphs\[0\]\.context has half a surrogate pair",
    ),
    "id": (
        '{"data": [{"paragraphs": [{"context": "x", "qas": [{"id": true, "question": "q"}]}]}]}',
        r"paragraphs\[0\]\.qas\[0\]\.id: expected a text or a whole number, found bool True",
    ),
    "empty id": (
        '{"data": [{"paragraphs": [{"context": "x", "qas": [{"id": "", "question": "q"}]}]}]}',
        r"paragraphs\[0\]\.qas\[0\]: the id is str ''",
    ),
    "answers": (
        '{"data": [{"paragraphs": [{"context": "x", "qas": [{"id": 1, "question": "q", "answers": "x"}]}]}]}',
        r"qas\[0\]\.answers: expected answers, found str 'x'",
    ),
    "answer": (
        '{"data": [{"paragraphs": [{"context": "x", "qas": [{"id": 1, "question": "q", "answers": [{}]}]}]}]}',
        r"qas\[0\]\.answers\[0\]: expected an object with 'text', found dict",
    ),
    "start": (
        '{"data": [{"paragraphs": [{"context": "x", "qas":'
        ' [{"id": 1, "question": "q", "answers": [{"text": "x", "answer_start": "0"}]}]}]}]}',
        r"qas\[0\]\.answers: an answer_start is str '0'; it must be a whole number",
    ),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_document_is_refused_with_its_place(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_questions([path], Columns(), False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"id": 1, "question": "q", "context": "c", "answers": {"text": ["c"], "answer_start": []}}',
            r"1 texts but 0",
        ),
        (
            '{"id": 1, "question": "q", "context": "c", "answers": {"txt": []}}',
            r"line 1, column 'answers': expected li",
        ),
        ('{"id": 1.5, "question": "q", "context": "c", "answers": null}', r"line 1: the id is float 1\.5"),
        ('{"id": 1, "question": null, "context": "c", "answers": null}', r"line 1: column 'question' is null"),
    ],
)
def test_a_broken_row_is_refused_with_its_line(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_questions([path], Columns(), True)


def test_a_start_that_is_no_number_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,question,context,answer,at\n1,q,c,c,first\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.csv, line 2: the answer's start is 'first'"):
        read_questions([path], FLAT, True)


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], Any], negatives: bool = False) -> list[Any]:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return read_questions([path], Columns(), True, negatives)


def qa(document: dict[str, Any], number: int = 0) -> dict[str, Any]:
    return document["data"][0]["paragraphs"][0]["qas"][number]


BAD = {
    "offset": (lambda d: qa(d)["answers"][0].update(answer_start=15), r"1 whose answer does not stand at its answer_s"),
    "negative": (lambda d: qa(d)["answers"][0].update(answer_start=-8), r"at -8, where '' stands"),
    "beyond": (lambda d: qa(d)["answers"][0].update(answer_start=10**20), r"does not stand"),
    "no start": (lambda d: qa(d)["answers"][0].pop("answer_start"), r"1 whose answer has no answer_start"),
    "none": (lambda d: qa(d).update(answers=[], is_impossible=True), r"1 without an answer \(as SQuAD 2\.0 has them\)"),
    "no key": (lambda d: qa(d).pop("answers"), r"1 without an answer"),
    "empty": (lambda d: qa(d)["answers"][0].update(text=""), r"1 whose answer is empty"),
    "empty question": (lambda d: qa(d).update(question=" "), r"1 where the question is empty"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_a_question_that_cannot_be_trained_on_stops_the_run_or_is_left_out(
    change: Callable, message: str, tmp_path: Path
) -> None:
    questions = changed(tmp_path, change)
    with pytest.raises(InputError, match=message) as caught:
        trainable(questions, "stop")
    assert re.search(
        r"1 of 3 questions .*\n.*question 'a' \(.*a\.json, data\[0\]\.paragraphs\[0\]\.qas\[0\]\)", str(caught.value)
    )
    assert "on_bad_answer: skip" in str(caught.value)
    with pytest.warns(UserWarning, match=message):
        assert trainable(questions, "skip") == [1, 2]


def test_many_bad_answers_are_counted_and_three_of_them_named(tmp_path: Path) -> None:
    def shift(document: dict[str, Any]) -> None:
        paragraph = document["data"][0]["paragraphs"][0]
        paragraph["qas"] = [
            {**qa(document), "id": f"n{k}", "answers": [{"text": "x", "answer_start": 0}]} for k in range(9)
        ]

    with pytest.raises(InputError) as caught:
        trainable(changed(tmp_path, shift), "stop")
    assert "9 of 10 questions" in str(caught.value)
    assert [name in str(caught.value) for name in ("'n0'", "'n2'", "'n3'")] == [True, True, False]


def test_to_predict_on_ids_differ_and_nothing_is_empty_while_offsets_do_not_matter(tmp_path: Path) -> None:
    check_texts(changed(tmp_path, lambda d: qa(d)["answers"][0].update(answer_start=99)))
    with pytest.raises(InputError, match=r"the id 'a' stands twice, at .*qas\[0\] and at .*qas\[1\]"):
        check_texts(changed(tmp_path, lambda d: qa(d, 1).update(id="a")))
    with pytest.raises(InputError, match=r"question 'b' \(.*qas\[1\]\): the question is empty"):
        check_texts(changed(tmp_path, lambda d: qa(d, 1).update(question="")))
    with pytest.raises(InputError, match=r"question 'c' .*: the context is empty"):
        check_texts(changed(tmp_path, lambda d: d["data"][1]["paragraphs"][0].update(context="\n")))


# Questions without an answer, as SQuAD 2.0 has them.


def squad_2(tmp_path: Path, **changes: Any) -> list[Any]:
    """The second question has no answer, and is changed; the others have one."""

    def change(document: dict[str, Any]) -> None:
        document["version"] = "v2.0"
        qa(document).update(is_impossible=False)
        plausible = [{"text": "x", "answer_start": 99}]
        qa(document, 1).update({"is_impossible": True, "answers": [], "plausible_answers": plausible} | changes)
        for name in [name for name, value in qa(document, 1).items() if value == "absent"]:
            del qa(document, 1)[name]

    return changed(tmp_path, change, negatives=True)


@pytest.mark.parametrize(
    "changes",
    [{}, {"answers": "absent"}, {"answers": None}, {"is_impossible": "absent"}, {"plausible_answers": "absent"}],
    ids=str,
)
def test_a_question_said_to_have_no_answer_is_trained_on_where_that_is_asked_for(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    questions = squad_2(tmp_path, **changes)
    assert [question.is_impossible for question in questions] == [False, True, False]
    check_impossible(questions)
    assert trainable(questions, "stop", negatives=True) == [0, 1, 2]
    rows = as_table(questions, [0, 1, 2], negatives=True).to_pylist()
    assert [(row["begin"], row["end"], row["answers"]) for row in rows[:2]] == [(14, 22, ["1.233 km"]), (-1, -1, [])]
    with pytest.raises(
        InputError, match=r"1 without an answer \(as SQuAD 2\.0 has(?s:.)*version_2_with_negative: true"
    ):
        trainable(questions, "stop")


CONTRADICTORY = {
    "impossible, and answered": (
        {"answers": [{"text": "Nordsee", "answer_start": 46}]},
        "with an answer, though is_impossible says otherwise",
    ),
    "possible, and not answered": ({"is_impossible": False}, "without an answer, though is_impossible says otherwise"),
    "possible, and nothing": ({"is_impossible": False, "answers": "absent"}, "without an answer, though is_impossible"),
}


@pytest.mark.parametrize(("changes", "message"), CONTRADICTORY.values(), ids=CONTRADICTORY)
def test_what_contradicts_itself_is_neither_trained_on_nor_scored(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    questions = squad_2(tmp_path, **changes)
    with pytest.raises(InputError, match=rf"question 'b' \(.*qas\[1\]\) is one {message}.*; correct"):
        check_impossible(questions)
    with pytest.raises(InputError, match=f"1 {message}"):
        trainable(questions, "stop", negatives=True)
    with pytest.warns(UserWarning, match=message):
        assert trainable(questions, "skip", negatives=True) == [0, 2]


def test_of_a_question_of_which_nothing_is_said_nothing_is_known(tmp_path: Path) -> None:
    questions = squad_2(tmp_path, answers="absent", is_impossible="absent")
    check_impossible(questions)
    with pytest.raises(InputError, match=r"1 with neither an answer nor an empty list of them: question 'b'"):
        trainable(questions, "stop", negatives=True)
    assert as_table(questions, None, negatives=True)["answers"].to_pylist()[1] is None
    assert as_table(questions, None)["answers"].to_pylist()[1] == []


@pytest.mark.parametrize("value", ["true", 1, 0, None, []])
def test_is_impossible_is_true_or_false(value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.json, .*qas\[1\]\.is_impossible: expected true or false, found"):
        squad_2(tmp_path, is_impossible=value)


def test_questions_that_have_no_answer_at_all_teach_nothing(tmp_path: Path) -> None:
    questions = squad_2(tmp_path)[1:2]
    with pytest.raises(InputError, match=r"qas\[1\] and all after it have no answer, so there is nothing to learn"):
        trainable(questions, "stop", negatives=True)


@pytest.mark.parametrize("name", ["nested.jsonl", "nested.parquet", *FLAT_NAMES])
def test_rows_say_so_by_an_empty_list_or_text(name: str, tmp_path: Path) -> None:
    path, columns = write(tmp_path, name, [EXPECTED[0], (*EXPECTED[1][:3], ()), EXPECTED[2]])
    questions = read_questions([path], columns, answered=True, negatives=True)
    assert [question.is_impossible for question in questions] == [False, True, False]
    assert trainable(questions, "stop", negatives=True) == [0, 1, 2]
    absent = Columns(answers="gold", answer="gold" if name in FLAT_NAMES else None)
    questions = read_questions([path], absent, answered=False, negatives=True)
    assert [question.is_impossible for question in questions] == [None] * 3


# Mutations. Whatever is done to a document: a clear error, or every question that is still there.


def paths_in(value: Any, here: tuple = ()) -> Iterator[tuple]:
    """The paths of all values in a document, its own but for the root."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*here, key)
        yield from paths_in(child, (*here, key))


def parent_of(document: Any, path: tuple) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document


def count_plainly(document: Any) -> int:
    """Questions by plain loops, for documents whose shape is right."""
    return sum(len(paragraph["qas"]) for article in document["data"] for paragraph in article["paragraphs"])


def unless_refused(path: Path, call: Callable[[], Any]) -> Any:
    """What a call gives, or None where it refuses the file by its name."""
    try:
        return call()
    except InputError as error:
        message = str(error)
    assert str(path) in message
    return None


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 99), st.floats(allow_nan=False), st.text(max_size=3), st.just([]),
    st.just({}), st.lists(st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_document_is_refused_or_read_completely(data: st.DataObject, tmp_path: Path) -> None:
    document = copy.deepcopy(DOCUMENT)
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(paths_in(document))
        if not places:
            break
        place = data.draw(st.sampled_from(places))
        target = parent_of(document, place)
        kind = data.draw(st.sampled_from(["drop", "replace", "rename", "double"]))
        if kind == "drop":
            del target[place[-1]]
        elif kind == "replace":
            target[place[-1]] = data.draw(VALUES)
        elif kind == "rename" and isinstance(target, dict):
            target[f"{place[-1]}_"] = target.pop(place[-1])
        elif isinstance(target, list):
            target.append(copy.deepcopy(target[place[-1]]))
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    questions = unless_refused(path, lambda: read_questions([path], Columns(), True))
    if questions is None:
        return
    assert len(questions) == count_plainly(document)
    good = unless_refused(path, lambda: trainable(questions, "stop"))
    assert good in (None, list(range(len(questions))))
    for question in questions if good else ():
        text, start = question.answers[0]
        assert question.context[start : start + len(text)] == text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NAMES + FLAT_NAMES), where=st.floats(0, 1), byte=st.integers(-1, 255))
def test_a_damaged_file_is_refused_or_read_completely(name: str, where: float, byte: int, tmp_path: Path) -> None:
    """A file that is cut (-1) or in which one byte is another."""
    path, columns = write(tmp_path, name)
    content = path.read_bytes()
    place = min(int(where * len(content)), len(content) - 1)
    path.write_bytes(content[:place] if byte < 0 else content[:place] + bytes([byte]) + content[place + 1 :])
    questions = unless_refused(path, lambda: read_questions([path], columns, True))
    if questions is None:
        return
    if name.endswith((".json", ".json.gz", ".parquet")):
        assert len(questions) == 3
    else:
        # A line less is a file with a line less; what is there is read.
        assert len(questions) >= len([line for line in path.read_bytes().splitlines() if line.strip()]) - 2


def test_optional_fields_within_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": 1, "question": "q", "context": "c", "ann": {"answers": {"text": ["c"]}}}\n', encoding="utf-8"
    )
    (question,) = read_questions([path], Columns(answers="ann.answers"), answered=False)
    assert question.answers == (("c", None),)
