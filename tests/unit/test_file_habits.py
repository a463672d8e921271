"""Habits of files that people bring: capitals, arrays, UTF-16, comments, empty sides. Read right, or refused truly."""

import gzip
import json
import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules import ParallelText, TextClassification, TokenLabels
from datamodules.columns import read_columns
from datamodules.json_files import objects_in
from datamodules.reading import read_rows, read_whole
from ernie_m.errors import InputError

ROWS = [{"text": "a house", "label": "x"}, {"text": "no [water, {", "label": "y"}]


@pytest.mark.parametrize("name", ["A.CSV", "A.Csv.GZ", "A.JSONL", "A.JSON", "a.json.gz", "A.TSV"])
def test_names_of_formats_in_capitals(name: str, tmp_path: Path) -> None:
    kind = name.lower().removesuffix(".gz").rpartition(".")[2]
    separator = "\t" if kind == "tsv" else ","
    lines = [
        separator.join(ROWS[0]),
        *(separator.join(f'"{v}"' if kind == "csv" else v for v in row.values()) for row in ROWS),
    ]
    text = (
        "\n".join(lines)
        if kind in ("csv", "tsv")
        else "\n".join(map(json.dumps, ROWS))
        if kind == "jsonl"
        else json.dumps(ROWS, indent=1)
    )
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
    assert read_rows([tmp_path / name], ["text", "label"]).table.to_pylist() == ROWS
    assert read_whole(tmp_path / name).to_pylist() == ROWS


def test_an_array_is_read_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('\n\n [ {"a": 1},\n\n{"a":\n2}\n, {"a": 3} ]\n\n', encoding="utf-8")
    assert list(objects_in(path)) == [(3, {"a": 1}), (5, {"a": 2}), (7, {"a": 3})]
    path.write_text(" [ ]", encoding="utf-8")
    assert list(objects_in(path)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1},\n{"a": 2]', "line 2: not valid JSON"),
        ('[{"a": 1}\n{"a": 2}]', "line 1: not valid JSON: expected a comma or the end of the array"),
        ('[{"a": 1}', "line 1: not valid JSON: expected a comma or the end"),
        ('[{"a": 1}, ]', "line 1: not valid JSON"),
        ('[{"a": 1}] x', "line 1: not valid JSON"),
        ('[{"a": 1},\n5]', "line 2: expected a JSON object, found int"),
        ("[" * 2000, "line 1: not valid JSON|line 1: expected a JSON object"),
    ],
)
def test_broken_arrays_are_named_with_the_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        list(objects_in(tmp_path / "a.json"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab[]{},", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(st.dictionaries(st.text("ab", max_size=2), JSON, max_size=3), max_size=5),
    indent=st.sampled_from([None, 1]),
    ascii_alone=st.booleans(),
)
def test_any_array_is_what_json_says(records, indent, ascii_alone, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    text = json.dumps(records, indent=indent, ensure_ascii=ascii_alone)
    path.write_bytes(text.encode())
    assert [record for _, record in objects_in(path)] == records
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    assert [record for _, record in objects_in(path)] == records


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_called_by_its_name(encoding: str, tmp_path: Path) -> None:
    mark = "\ufeff" if encoding.endswith("be") else ""
    (tmp_path / "a.csv").write_bytes(f"{mark}text,label\nä,b\n".encode(encoding))
    (tmp_path / "a.train").write_bytes(f"{mark}Änna B-PER\n".encode(encoding))
    for read in (lambda: read_rows([tmp_path / "a.csv"], ["text"]), lambda: read_columns(tmp_path / "a.train")):
        with pytest.raises(InputError, match="is UTF-16"):
            read()


def test_comments_of_column_files_are_no_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of CoNLL-U and MultiCoNER; a word may be # too."""
    path = tmp_path / "a.conll"
    path.write_text("# id 7\tdomain=en\nAnna _ _ B-PER\n# _ _ O\n\n# id 8\n# _ _ O\nRom _ _ B-LOC\n")
    with caplog.at_level(logging.INFO):
        file = read_columns(path)
    assert [[columns[0] for columns in sentence] for sentence in file.sentences] == [["Anna", "#"], ["#", "Rom"]]
    assert file.lines == [[2, 3], [6, 7]]
    assert "a.conll: 2 lines that begin with # are comments" in caplog.text
    path.write_text("# sent_id = 1\n# text = a b\n1\ta\tX\n2\tb\tO\n", encoding="utf-8")
    assert [len(sentence) for sentence in read_columns(path).sentences] == [2]
    path.write_text("a O\n# b c\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.conll, line 2: 3 columns where the lines before have 2"):
        read_columns(path)


def test_tags_are_read_from_an_array_of_records(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"tokens": ["Anna", "sleeps"], "ner_tags": ["B-PER", "O"]}]), encoding="utf-8")
    data = TokenLabels(str(sample_tokenizer_dir), {"en": str(path)}, cache_dir=str(tmp_path / "cache"))
    assert data.label_names == ["O", "B-PER", "I-PER"]
    assert data.read("train", "en", [path]).column("words").to_pylist() == [["Anna", "sleeps"]]


def test_empty_sides_are_counted(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    """Nothing can be learnt of a pair of translations without one; of a labelled pair the label stays."""
    path = tmp_path / "a.csv"
    path.write_text("a,b,label\nx,y,0\n,y,1\nx, ,1\nx,z,0\n", encoding="utf-8")
    options = {"cache_dir": str(tmp_path / "cache"), "train_files": {"de": str(path)}, "test_files": {"de": str(path)}}
    pairs = ParallelText(str(sample_tokenizer_dir), source_column="a", target_column="b", **options)
    with pytest.warns(
        UserWarning, match=r"a\.csv, line 3: 'a' or 'b' is empty, in 2 rows from here on; these pairs are"
    ):
        assert pairs.read("train", "de", [path]).to_pylist() == [
            {"source": "x", "target": "y"}, {"source": "x", "target": "z"},
        ]  # fmt: skip
    assert pairs.read("test", "de", [path]).num_rows == 4
    labelled = TextClassification(str(sample_tokenizer_dir), first_column="a", second_column="b", **options)
    with pytest.warns(UserWarning, match=r"line 3: 'a' or 'b' is empty, in 2 rows from here on; they are kept"):
        assert labelled.read("train", "de", [path]).num_rows == 4
