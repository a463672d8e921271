"""What can be wrong with files and arguments is named with its place; what is right comes out as it went in."""

import csv
import gzip
import io
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules import XNLI, ParallelText, TextClassification
from datamodules.reading import read_rows, read_whole, texts_of
from ernie_m.errors import InputError

GOOD = "premise,hypothesis,label\none,two,a\nthree,four,b\n"


@pytest.fixture
def tokenizer_name(sample_tokenizer_dir) -> str:
    return str(sample_tokenizer_dir)


@pytest.fixture
def read(tmp_path, tokenizer_name):
    """Prepares training data from a file of the given name and content."""

    def prepare(name: str, content: bytes | str, **changes):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        files = {"en": str(path)}
        arguments = {"train_files": files, "validation_files": files, "cache_dir": str(tmp_path / "cache")} | changes
        data = TextClassification(tokenizer_name, **arguments)
        data.prepare_data()
        assert not list((tmp_path / "cache").glob(".*"))
        return data

    return prepare


def strange_classes() -> bytes:
    """A Parquet file by whose metadata a column's classes are called 5."""
    columns = {"premise": {"dtype": "string", "_type": "Value"}, "hypothesis": {"dtype": "string", "_type": "Value"},
               "label": {"names": 5, "_type": "ClassLabel"}}  # fmt: skip
    table = pa.table({"premise": ["a"], "hypothesis": ["b"], "label": [0]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": columns}})})
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


CASES = {
    "missing column": (
        "a.csv",
        "premise,label\none,a\n",
        r"a\.csv: no column 'hypothesis'; it has 'premise', 'label'\.",
    ),
    "empty file": ("a.csv", "", r"a\.csv: no column 'premise'; it has none"),
    "empty split": ("a.csv", "premise,hypothesis,label\n", r"a\.csv: the train split is empty"),
    "ragged": ("a.csv", GOOD + "five,six\n", r"a\.csv, line 4: 2 fields where 3 are expected \(premise, hypothesis"),
    "ragged after a field of two lines": ("a.csv", GOOD + '"x\ny",z,a\nq\n', r"a\.csv, line 6: 1 fields"),
    "open quotation": ("a.csv", GOOD + '"five,six,a\n', r"a\.csv, line 4: not valid CSV: unexpected end of data"),
    "not UTF-8": (
        "a.csv",
        GOOD.encode() + "fünf,sechs,a".encode("latin-1"),
        r"a\.csv, line 4, byte 49: 0xfc is not UTF-8",
    ),
    "not UTF-8, JSON": ("a.jsonl", b'{"premise": "\xe9"}', r"a\.jsonl, line 1, byte 13: 0xe9 is not UTF-8"),
    "not gzip": ("a.csv.gz", GOOD, r"a\.csv\.gz is not a whole gzip file"),
    "cut gzip": ("a.csv.gz", gzip.compress(GOOD.encode())[:-9], r"a\.csv\.gz is not a whole gzip file"),
    "swollen gzip": ("a.csv.gz", gzip.compress(b"\n" * 2**25), r"a\.csv\.gz unpacks to more than 100 times its size"),
    "deep JSON": ("a.jsonl", '{"premise": ' + "[" * 60 + "]" * 60 + "}", r"a\.jsonl, line 1: nested more than 50 deep"),
    "bad JSON": ("a.jsonl", '{"premise": "a"', r"a\.jsonl, line 1: not valid JSON"),
    "JSON, no object": ("a.jsonl", "[1]", r"a\.jsonl, line 1: expected a JSON object, found list"),
    "JSON, missing key": (
        "a.jsonl",
        '{"premise": "a", "hypothesis": "b", "label": 0}\n{"premise": "a", "label": 0}',
        r"a\.jsonl, line 2: no column 'hypothesis'",
    ),
    "null text": (
        "a.jsonl",
        '{"premise": "a", "hypothesis": "b", "label": 0}\n\n{"premise": null, "hypothesis": "b", "label": 1}',
        r"a\.jsonl, line 3: column 'premise' is null",
    ),
    "text that is a number": (
        "a.jsonl",
        '{"premise": 5, "hypothesis": "b", "label": 0}\n{"premise": 6, "hypothesis": "b", "label": 1}',
        r"a\.jsonl, line 1: column 'premise' holds int64, not text: 5",
    ),
    "mixed types": (
        "a.jsonl",
        '{"premise": "a", "hypothesis": "b", "label": 0}\n{"premise": 6, "hypothesis": "b", "label": 1}',
        r"a\.jsonl, line 2: column 'premise' is 6 \(int\); the rows before have str",
    ),
    "half a surrogate pair": (
        "a.jsonl",
        '{"premise": "\\ud800", "hypothesis": "b", "label": 0}\n{"premise": "a", "hypothesis": "b", "label": 1}',
        r"a\.jsonl, line 1: holds half a surrogate pair",
    ),
    "huge label": (
        "a.jsonl",
        '{"premise": "a", "hypothesis": "b", "label": 99999999999999999999}',
        r"a\.jsonl, line 1: column 'label' is 99999999999999999999, which does not fit",
    ),
    "labels that are lists": (
        "a.jsonl",
        '{"premise": "a", "hypothesis": "b", "label": [0]}',
        r"a\.jsonl: column 'label' holds list",
    ),
    "labels that are fractions": (
        "a.jsonl",
        '{"premise": "a", "hypothesis": "b", "label": 0.5}',
        r"a\.jsonl: column 'label' holds \[0\.5\], but labels are names or numbers",
    ),
    "one label": ("a.csv", "premise,hypothesis,label\na,b,x\n", r"label_names is \['x'\]; it must hold two or more"),
    "not Parquet": ("a.parquet", GOOD, r"a\.parquet cannot be read as Parquet"),
    "number of many digits": ("a.jsonl", f'{{"premise": {"9" * 5000}}}', r"a\.jsonl, line 1: not valid JSON"),
    "names of classes that are none": ("a.parquet", strange_classes(), r"a\.parquet cannot be read as Parquet"),
    "unknown suffix": ("a.xlsx", GOOD, r"a\.xlsx: cannot tell its format; the name must end in \.csv, \.tsv, \.jsonl"),
}


@pytest.mark.parametrize("case", CASES)
def test_broken_files_are_named(read, case):
    name, content, message = CASES[case]
    with pytest.raises(InputError, match=message):
        read(name, content)


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("c", "'c'"),
        ("2", "'2'"),
        ("-1", "'-1'"),
        ("", "''"),
        ("²", "'²'"),
        ("1.0", "'1.0'"),
        ("9" * 5000, f"'{'9' * 5000}'"),
    ],
)
def test_unknown_labels_are_named(read, label, shown):
    message = (
        rf"a\.csv, line 4: unknown label {re.escape(shown)} in column 'label'; known are a, b and their numbers 0 to 1"
    )
    with pytest.raises(InputError, match=message):
        read("a.csv", GOOD + f"five,six,{label}\n", label_names=["a", "b"])


@pytest.mark.parametrize("label", [-1, 2, None])
def test_unknown_labels_in_parquet_are_named(read, tmp_path, label):
    rows = [{"premise": "a", "hypothesis": "b", "label": number} for number in (0, 1, label)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=rf"b\.parquet, row 3: unknown label {label} "):
        read("b.parquet", (tmp_path / "b.parquet").read_bytes(), label_names=["a", "b"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 513}, r"max_length is 513; '.*' allows at most 512 tokens"),
        ({"max_length": 4}, "max_length is 4; two texts with their special tokens take 6"),
        ({"max_length": 0}, "max_length is 0; it must be at least 1"),
        ({"global_batch_size": 0}, "global_batch_size is 0"),
        ({"seed": -1}, "neither may be negative"),
        ({"train_files": {"en": "no/such.csv"}}, r"train data of 'en': no/such\.csv: no file 'no/such\.csv'"),
        ({"train_files": {}}, "There are no data for 'train'; name some with train_files"),
        (
            {"train_files": {"en": "x.csv"}, "path": "no/such/folder"},
            "path is 'no/such/folder', which is neither a folder",
        ),
        ({"label_names": ["a", "a"]}, r"label_names is \['a', 'a'\]; it must hold two or more different"),
        ({"predict_path": "p.csv", "predict_language": "xx"}, "predict_language is 'xx'; it must be one of en"),
    ],
)
def test_arguments_that_cannot_be(read, changes, message):
    with pytest.raises(InputError, match=message):
        read("a.csv", GOOD, **changes)


def test_a_tokenizer_that_is_not_there(tmp_path):
    (tmp_path / "a.csv").write_text(GOOD, encoding="utf-8")
    files = {"en": str(tmp_path / "a.csv")}
    data = TextClassification(str(tmp_path), files, files, cache_dir=str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"no tokenizer can be loaded from '.*Give a folder"):
        data.prepare_data()


def test_languages_that_the_data_lack(tmp_path, tokenizer_name):
    for language in ("de", "sw"):
        (tmp_path / language).mkdir()
        rows = [{"premise": "a", "hypothesis": "b", "label": 0}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / language / "test-00000-of-00001.parquet")
    data = XNLI(tokenizer_name, path=str(tmp_path), test_languages=["de", "fr"], cache_dir=str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"test data of 'fr': .*such a file is there for de, sw, not for fr"):
        data.load("test", download=True)
    assert not (tmp_path / "cache").exists(), "nothing is tokenised when a language is missing"
    with pytest.raises(InputError, match="train_languages names 'xx'; XNLI has ar, bg, de"):
        XNLI(tokenizer_name, train_languages=["en", "xx"])
    with pytest.raises(InputError, match="test_languages names a language twice: en, en"):
        XNLI(tokenizer_name, test_languages=["en", "en"])


def test_the_hub_out_of_reach(tmp_path, tokenizer_name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    data = XNLI(tokenizer_name, cache_dir=str(tmp_path / "cache"))
    message = "path is 'facebook/xnli', which is no folder here, and the Hub gave nothing.*set path to that folder"
    with pytest.raises(InputError, match=message):
        data.prepare_data()


def test_prediction_without_a_file(tokenizer_name):
    with pytest.raises(
        InputError, match="There are no data for 'predict'; name a file with --input, or with predict_path"
    ):
        XNLI(tokenizer_name).setup("predict")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("one\teins\ntwo\n", r"a\.tsv, line 2: 1 fields where 2 are expected"),
        ("one\teins\tuno\n", r"a\.tsv, line 1: 3 fields where 2 are expected"),
        ("\n", r"a\.tsv: the train split of 'de' is empty"),
    ],
)
def test_sentence_pairs_that_are_none(tmp_path, tokenizer_name, content, message):
    (tmp_path / "a.tsv").write_text(content, encoding="utf-8")
    files = {"de": str(tmp_path / "a.tsv")}
    data = ParallelText(tokenizer_name, files, files, cache_dir=str(tmp_path / "cache"))
    with pytest.raises(InputError, match=message):
        data.prepare_data()


def test_one_of_two_columns_named(tokenizer_name):
    with pytest.raises(InputError, match="source_column is 'en' and target_column is None; name both"):
        ParallelText(tokenizer_name, source_column="en")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
records = st.lists(st.tuples(texts, texts), min_size=1, max_size=8)


def columns_of(path: Path, header: bool = True) -> list[tuple[str, str]]:
    rows = read_rows([path], ["first", "second"], header=header)
    return list(zip(*(texts_of(rows, name).to_pylist() for name in ("first", "second")), strict=True))


@given(records)
def test_csv_comes_out_as_it_went_in(tmp_path_factory, rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("first", "second"), *rows])
    path = tmp_path_factory.getbasetemp() / "round.csv"
    path.write_bytes(text.getvalue().encode())
    assert columns_of(path) == rows


@given(records)
def test_jsonl_comes_out_as_it_went_in(tmp_path_factory, rows):
    lines = [json.dumps({"second": second, "x": 1, "first": first}) for first, second in rows]
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert columns_of(path) == rows


@given(st.lists(st.tuples(*[st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]))] * 2)))
def test_tsv_comes_out_as_it_went_in(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "round.tsv"
    path.write_bytes("".join(f"{first}\t{second}\n" for first, second in rows).encode())
    # A byte order mark at the very start of a file is no text.
    if rows and rows[0][0].startswith("\ufeff"):
        rows[0] = (rows[0][0][1:], rows[0][1])
    if rows:
        assert columns_of(path, header=False) == rows


@settings(max_examples=200)
@given(st.sampled_from(["csv", "jsonl", "tsv"]), st.data())
def test_mutated_files_give_an_error_or_rows(tmp_path_factory, kind, data):
    """Never another exception, and never fewer rows in silence: a row is as good as its line."""
    path = tmp_path_factory.getbasetemp() / f"mutated.{kind}"
    rows = [("one", "eins"), ("two, three", "zwei, drei"), ('a "b"', "ü")]
    lines = {
        "csv": "first,second\n" + "".join('"{}","{}"\n'.format(a.replace('"', '""'), b) for a, b in rows),
        "jsonl": "".join(json.dumps({"first": a, "second": b}, ensure_ascii=False) + "\n" for a, b in rows),
        "tsv": "first\tsecond\n" + "".join(f"{a}\t{b}\n" for a, b in rows),
    }
    content = bytearray(lines[kind].encode())
    place = data.draw(st.integers(0, len(content) - 1))
    change = data.draw(st.sampled_from(["replace", "delete", "cut"]))
    if change == "replace":
        content[place] = data.draw(st.integers(0, 255))
    elif change == "delete":
        del content[place]
    else:
        del content[place:]
    path.write_bytes(content)
    try:
        found = columns_of(path)
    except InputError as error:
        named = str(error)
    else:
        named = str(path)
        assert all(isinstance(text, str) for row in found for text in row)
        assert change == "cut" or kind != "jsonl" or len(found) == len(rows)
    assert str(path) in named


def test_tables_far_larger_than_their_files_are_refused(tmp_path):
    """Each line with a key of its own; many columns, which are looked up in time that grows with their number alone."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"k{i}": 1}}\n' for i in range(3000)), encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.jsonl: 3,000 different keys"):
        read_whole(path)
    names = [f"c{i}" for i in range(30_000)]
    (tmp_path / "a.csv").write_text(f"{','.join(names)}\n{'x,' * 29_999}x\n", encoding="utf-8")
    assert read_whole(tmp_path / "a.csv").column_names == names


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the system shows nothing of itself as files")
def test_what_the_system_shows_of_itself_is_no_data(tmp_path, tokenizer_name):
    data = TextClassification(tokenizer_name, {"en": "/proc/self/environ"}, cache_dir=str(tmp_path))
    with pytest.raises(InputError, match=r"/proc/self/environ is no file of data"):
        data.load("train", download=True)
