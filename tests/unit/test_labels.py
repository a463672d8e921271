"""What labels mean: the same in every format, whatever numbers, case and order a file has."""

import json
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given
from hypothesis import strategies as st

from datamodules import TextClassification, TokenLabels
from datamodules.labels import position
from ernie_m.errors import InputError
from lightning_modules.classifier_labels import match_labels


@pytest.fixture
def labels_of(tmp_path: Path, sample_tokenizer_dir: Path):
    """The names, and the names of the labels of some files' rows, one list a file."""

    def read(*files: Path, **arguments) -> tuple[list[str], list[list[str]]]:
        data = TextClassification(
            str(sample_tokenizer_dir),
            {f"l{number}": str(file) for number, file in enumerate(files)},
            first_column="text",
            second_column=None,
            cache_dir=str(tmp_path / "cache"),
            **arguments,
        )
        data.load("train", download=True)
        names = data.label_names
        rows = [data.row_set("train", [language]).all_scalars("labels") for language in data.split_languages("train")]
        return names, [[names[label] for label in labels] for labels in rows]

    return read


def csv(path: Path, *labels: str) -> Path:
    path.write_text("text,label\n" + "".join(f"text {i},{label}\n" for i, label in enumerate(labels)), encoding="utf-8")
    return path


def jsonl(path: Path, *labels: object) -> Path:
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def parquet(path: Path, names: list[str] | None, *labels: int | bool) -> Path:
    """With the names of classes, as `datasets` writes them, or without."""
    rows = {"text": [f"text {i}" for i in range(len(labels))], "label": list(labels)}
    if names is None:
        pq.write_table(pa.table(rows), path)
    else:
        features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
        Dataset.from_dict(rows, features=features).to_parquet(path)
    return path


def test_numbers_mean_the_names_of_their_own_file(labels_of, tmp_path):
    """As it was, the second file's numbers were taken for positions in the first one's names."""
    one = parquet(tmp_path / "a.parquet", ["bad", "good"], 0, 1, 1)
    two = parquet(tmp_path / "b.parquet", ["Good", "bad", "so"], 0, 1, 2)
    three = csv(tmp_path / "c.csv", "good", "BAD", "1")
    names, found = labels_of(one, two, three, label_names=["bad", "good", "so"])
    assert found == [["bad", "good", "good"], ["good", "bad", "so"], ["good", "bad", "good"]]
    names, found = labels_of(one, parquet(tmp_path / "d.parquet", ["so", "good"], 0, 1))
    assert names == ["bad", "good", "so"]
    assert found == [["bad", "good", "good"], ["so", "good"]]
    names, found = labels_of(one, parquet(tmp_path / "e.parquet", ["GOOD", "so"], 0, 1))
    assert names == ["bad", "good", "so"]
    assert found == [["bad", "good", "good"], ["good", "so"]]
    assert labels_of(parquet(tmp_path / "f.parquet", ["IT", "it"], 0, 1))[1] == [["IT", "it"]]
    with pytest.raises(InputError, match=r"b\.parquet, row 3: unknown label 2 in column 'label'; known are bad, good"):
        labels_of(one, two, label_names=["bad", "good"])


@pytest.mark.parametrize(
    ("names", "values", "meant"),
    [
        (["1", "0"], [0, 1], ["0", "1"]),
        (["1", "2", "3"], [1, 3, 2], ["1", "3", "2"]),
        (["-1", "0", "1"], [-1, 1, 0], ["-1", "1", "0"]),
        (["0.5", "1.5"], [1.5, 0.5], ["1.5", "0.5"]),
        (["no", "yes"], [1, 0], ["yes", "no"]),
        (["true", "false"], [True, False], ["true", "false"]),
        (["IT", "it"], ["it", "IT"], ["it", "IT"]),
        (["Sport", "news"], ["sport", "NEWS"], ["Sport", "news"]),
    ],
)
def test_one_value_means_the_same_in_every_format(labels_of, tmp_path, names, values, meant):
    spelled = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    files = [csv(tmp_path / "a.csv", *spelled), jsonl(tmp_path / "a.jsonl", *values)]
    files.append(parquet(tmp_path / "a.parquet", None, *values))
    assert labels_of(*files, label_names=names)[1] == [meant] * 3


@pytest.mark.parametrize(
    ("names", "label"),
    [(["1", "2", "3"], 0), (["bad", "good"], -1), (["bad", "good"], 2), (["bad", "good"], True), (["IT", "it"], "It")],
)
def test_a_number_is_a_place_only_among_names_that_are_none(labels_of, tmp_path, names, label):
    with pytest.raises(InputError, match=r"a\.jsonl, line 1: unknown label .* known are"):
        labels_of(jsonl(tmp_path / "a.jsonl", label), label_names=names)


def test_numbers_that_a_file_does_not_name_are_no_labels(labels_of, tmp_path):
    """-1 is what `datasets` writes where there is none."""
    rows = parquet(tmp_path / "a.parquet", ["a", "b"], 0, -1)
    with pytest.raises(InputError, match=r"a\.parquet, row 2: the label in column 'label' is -1, which has no name"):
        labels_of(rows)
    with pytest.raises(InputError, match=r"a\.parquet, row 2: unknown label -1"):
        labels_of(rows, label_names=["-1", "a"])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([1, 5, 2], ["1", "2", "3", "4", "5"]),
        ([-1, 0, 1], ["-1", "0", "1"]),
        ([True, False], ["false", "true"]),
        (["b", " a ", "b"], ["a", "b"]),
    ],
)
def test_names_that_nobody_gave(labels_of, tmp_path, values, names):
    found, labels = labels_of(jsonl(tmp_path / "a.jsonl", *values))
    assert found == names
    assert labels == [[str(value).strip().lower() for value in values]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", ""], r"a\.jsonl, line 2: the label in column 'label' is empty; give the row a label, or remove it"),
        (["a", "  "], r"a\.jsonl, line 2: the label in column 'label' is empty"),
        (["a", None], r"a\.jsonl, line 2: the label in column 'label' is null"),
        (["0.25", "1.5", "2"], r"holds \['0\.25', '1\.5', '2'\], but labels are names or numbers without a fraction"),
        ([0, 5000], "holds numbers from 0 to 5000, which do not count labels"),
        (["a", "b\x00c"], r"a\.jsonl, line 2: 'b\\x00c' is no label"),
        (["a", "b" * 201], r"a\.jsonl, line 2: 'b{40}' is no label: labels have at most 200 characters"),
    ],
)
def test_what_is_no_label_is_refused(labels_of, tmp_path, values, message):
    with pytest.raises(InputError, match=message):
        labels_of(jsonl(tmp_path / "a.jsonl", *values))


def test_likely_mistakes_are_said_with_their_lines(labels_of, tmp_path, caplog):
    files = [csv(tmp_path / "a.csv", "a", "b ", "b", "a", "ok"), csv(tmp_path / "b.csv", "a", "c", "c", "A", "A")]
    with pytest.warns(UserWarning, match="may be mistakes|blanks") as warned, caplog.at_level(logging.INFO):
        assert labels_of(*files)[0] == ["A", "a", "b", "c", "ok"]
    text = " ".join(str(one.message) for one in warned)
    assert "a.csv, line 3: 1 labels, this the first, have blanks around them" in text
    assert "'ok' once" in text
    assert "a.csv, line 6" in text
    assert "'b' in l0 alone, 2 times" in text
    assert "'c' in l1 alone, 2 times, first" in text
    assert "'a' and 'A', which differ in case alone" in text
    assert "train/l0: 5 texts: a 2, b 2, ok 1" in caplog.text
    assert "train/l1: 5 texts: c 2, A 2, a 1" in caplog.text
    labels_of(csv(tmp_path / "c.csv", "A", "b"), label_names=["a", "b"])
    assert "c.csv: labels are taken for names of another case: 'A' for 'a'" in caplog.text


@given(st.lists(st.text(max_size=4), min_size=2, max_size=6, unique=True), st.data())
def test_a_name_always_means_itself(names, data):
    number = data.draw(st.integers(0, len(names) - 1))
    assert position(names[number], names) == number


def test_tags_of_another_case_are_those_of_the_names(tmp_path, sample_tokenizer_dir, caplog):
    (tmp_path / "a.train").write_text("Anna B-PER\nSmith I-Per\nin O\nRom B-Loc\n", encoding="utf-8")
    names = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    options = {"cache_dir": str(tmp_path / "cache")}
    data = TokenLabels(str(sample_tokenizer_dir), {"en": str(tmp_path / "a.train")}, label_names=names, **options)
    with caplog.at_level(logging.INFO):
        rows = data.read("train", "en", [tmp_path / "a.train"])
    assert [names[label] for label in rows.column("labels")[0].as_py()] == ["B-PER", "I-PER", "O", "B-LOC"]
    assert "'I-Per' for 'I-PER', 'B-Loc' for 'B-LOC'" in caplog.text
    data = TokenLabels(str(sample_tokenizer_dir), {"en": str(tmp_path / "a.train")}, **options)
    with pytest.warns(UserWarning, match=r"'Per' and 'PER', which differ in case alone, .*a\.train, line 2"):
        assert data.label_names == ["O", "B-Loc", "I-Loc", "B-PER", "I-PER", "B-Per", "I-Per"]


def test_a_classifiers_names_that_differ_in_case_alone():
    assert match_labels(["IT", "it", "en"], ["en", "it", "IT"], "folder") == [2, 1, 0]
    assert match_labels(["Yes", "no"], ["NO", "yes"], "folder") == [1, 0]
    with pytest.raises(InputError, match="they must be the same names"):
        match_labels(["IT", "it"], ["It", "no"], "folder")
