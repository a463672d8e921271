"""Tatoeba's files come out as the pairs that they are, or are refused; training never sees a sentence of the test."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datamodules.sources
from datamodules import ParallelText, Tatoeba
from datamodules.reading import read_rows, texts_of
from datamodules.tatoeba import CODES, LANGUAGES, _read_aligned
from ernie_m.errors import InputError


@pytest.fixture
def tokenizer_name(sample_tokenizer_dir) -> str:
    return str(sample_tokenizer_dir)


@pytest.fixture
def cache(tmp_path) -> str:
    return str(tmp_path / "cache")


def write_laser(folder: Path, pairs: dict[str, list[tuple[str, str]]]) -> Path:
    """English and translation, line by line."""
    folder.mkdir(exist_ok=True)
    for language, rows in pairs.items():
        code = CODES[language]
        for side, column in (("eng", 0), (code, 1)):
            text = "".join(f"{row[column]}\n" for row in rows)
            (folder / f"tatoeba.{code}-eng.{side}").write_bytes(text.encode())
    return folder


def write_opus(folder: Path, pairs: dict[str, list[tuple[str, str]]], split: str) -> Path:
    """The layout and the one column of objects of OPUS-100 on the Hub."""
    for language, rows in pairs.items():
        place = folder / "-".join(sorted(("en", language)))
        place.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist([{"translation": {"en": english, language: other}} for english, other in rows])
        pq.write_table(table, place / f"{split}-00000-of-00001.parquet")
    return folder


def texts_of_split(data: Tatoeba, split: str, language: str) -> list[tuple[str, str]]:
    """What the tokenised rows of a split say, both sides."""
    rows = data.row_set(split, [language])
    decoded = []
    for side in ("source", "target"):
        ids = rows.rows(np.arange(len(rows))).column(f"{side}_input_ids").to_pylist()
        decoded.append([data.tokenizer.decode(row, skip_special_tokens=True) for row in ids])
    return list(zip(*decoded, strict=True))


def test_xtreme_has_36_languages_in_one_code_each():
    assert len(LANGUAGES) == len(set(CODES.values())) == 36
    card = "ar he vi id jv tl eu ml ta te af nl de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw zh kk tr et fi hu"
    assert set(LANGUAGES) == set(card.split())


def test_both_layouts_give_the_same_pairs_english_first(tmp_path, tokenizer_name, cache):
    pairs = {"de": [("two houses", "zwei"), ("", "eins"), ("one", "drei")], "zh": [("water", "freedom")]}
    laser = write_laser(tmp_path / "laser", pairs)
    hub = tmp_path / "hub"
    for language, rows in pairs.items():
        (hub / f"tatoeba.{CODES[language]}").mkdir(parents=True)
        table = [{"source_sentence": other, "target_sentence": english, "source_lang": "x"} for english, other in rows]
        pq.write_table(pa.Table.from_pylist(table), hub / f"tatoeba.{CODES[language]}" / "validation-0-of-1.parquet")
    for folder in (laser, hub):
        data = Tatoeba(tokenizer_name, str(folder), test_languages=["de", "zh"], cache_dir=cache)
        data.setup("test")
        assert data.eval_languages("test") == ["de", "zh"]
        assert {language: texts_of_split(data, "test", language) for language in pairs} == pairs
        assert len(data.test_dataloader()) == 2


def test_from_the_hub_it_asks_for_the_files_it_needs(tmp_path, tokenizer_name, cache, monkeypatch):
    asked = []

    def snapshot_download(name, **arguments):
        asked.append((name, arguments["allow_patterns"], arguments["revision"]))
        return str(tmp_path)

    monkeypatch.setattr(datamodules.sources, "snapshot_download", snapshot_download)
    data = Tatoeba(tokenizer_name, test_languages=["sw"], train_languages=["de"], train_revision="v2", cache_dir=cache)
    for split, language in (("test", "sw"), ("train", "de")):
        with pytest.raises(InputError, match="no file"):
            data.files(split, language, download=True)
    assert asked == [
        ("google/xtreme", ["tatoeba.swh/validation-*.parquet"], None),
        ("Helsinki-NLP/opus-100", ["de-en/train-*.parquet"], "v2"),
    ]


def test_training_pairs_with_a_sentence_of_the_test_are_left_out_and_counted(tmp_path, tokenizer_name, cache, caplog):
    test = write_laser(tmp_path / "test", {"de": [("the house", "das Haus")], "fr": [("the water", "l'eau")]})
    clean = [(f"number{i}", f"Nummer{i}") for i in range(20)]
    leaks = [("the  house", "ein Haus"), ("house", "das Haus"), ("the water", "das Wasser"), ("l'eau", "das Wasser")]
    opus = write_opus(tmp_path / "opus", {"de": [*clean[:5], *leaks, *clean[5:]], "fr": clean}, "train")
    write_opus(opus, {"de": [leaks[0], *clean[:3]]}, "validation")
    arguments = {
        "path": str(test),
        "train_path": str(opus),
        "train_languages": ["de", "fr"],
        "validation_languages": ["de"],
        "global_batch_size": 4,
        "cache_dir": cache,
    }
    for _ in range(2):  # the second time from the cache
        caplog.clear()
        data = Tatoeba(tokenizer_name, test_languages=["de", "fr"], **arguments)
        with caplog.at_level("INFO"):
            data.prepare_data()
            data.setup("fit")
        said = [record.message for record in caplog.records if "left out" in record.message]
        assert [line.split(" are ")[0] for line in said] == ["train: 4 pairs", "validation: 1 pairs"]
        assert said[0].endswith(": de 4")
        assert texts_of_split(data, "train", "de") == clean
        assert texts_of_split(data, "validation", "de") == clean[:3]
        assert "20 rows" in data.fingerprints()["train/de"]
        seen = [key for (micro,) in data.train_dataloader() for key in micro["example_ids"].tolist()]
        assert sorted(seen) == sorted([*range(20), *range(20)])
    other = Tatoeba(tokenizer_name, test_languages=["fr"], **arguments)
    other.setup("fit")
    assert len(texts_of_split(other, "train", "de")) == 22, "the cached rows do not depend on the test"
    none = Tatoeba(tokenizer_name, test_languages=[], **arguments)
    none.setup("fit")
    assert len(texts_of_split(none, "train", "de")) == 24


def test_data_that_are_all_in_the_test_are_refused_and_others_tell_runs_apart(tmp_path, tokenizer_name, cache):
    test = write_laser(tmp_path / "test", {"de": [("one", "eins")], "fr": [("two", "deux")]})
    opus = write_opus(tmp_path / "opus", {"de": [("one", "x"), ("two", "zwei"), ("three", "drei")]}, "train")
    write_opus(opus, {"de": [("one", "y")]}, "validation")
    arguments = {"path": str(test), "train_path": str(opus), "train_languages": ["de"], "cache_dir": cache}
    data = Tatoeba(tokenizer_name, test_languages=["de"], validation_languages=["de"], **arguments)
    with pytest.raises(InputError, match=r"all 1 validation pairs of 'de' have a sentence of the test data"):
        data.setup("fit")
    rows, digests = [], []
    for language in ("de", "fr"):
        data = Tatoeba(tokenizer_name, test_languages=[language], **arguments)
        data.load("train", download=True)
        rows.append(data.row_set("train", ["de"]))
        digests.append(data._store.digest([("train", "de")]))
    assert len(rows[0]) == len(rows[1]) == 2
    assert digests[0] != digests[1]


def test_rows_left_out_stay_out_in_worker_processes(tmp_path, tokenizer_name, cache):
    test = write_laser(tmp_path / "test", {"de": [("one", "eins")]})
    opus = write_opus(tmp_path / "opus", {"de": [("one", "x"), ("two", "zwei"), ("three", "drei")]}, "train")
    write_opus(opus, {"de": [("four", "vier")]}, "validation")
    languages = {f"{split}_languages": ["de"] for split in ("train", "validation", "test")}
    data = Tatoeba(
        tokenizer_name,
        str(test),
        train_path=str(opus),
        global_batch_size=4,
        num_workers=1,
        cache_dir=cache,
        **languages,
    )
    data.setup("fit")
    ((step,),) = list(data.train_dataloader())
    found = {data.tokenizer.decode(row, skip_special_tokens=True) for row in step["source_input_ids"]}
    assert found == {"two", "three"}


def test_a_limit_takes_pairs_from_the_whole_file(tmp_path, tokenizer_name, cache):
    test = write_laser(tmp_path / "test", {"de": [("one", "eins")]})
    rows = [(f"number{i}", f"Nummer{i}") for i in range(101)]
    for split, count in (("train", 101), ("validation", 9)):
        lines = "".join(f"{english}\t{other}\n" for english, other in rows[:count])
        (tmp_path / f"{split}.de-CH.tsv").write_text(lines, encoding="utf-8")
    data = Tatoeba(
        tokenizer_name,
        str(test),
        test_languages=["de"],
        train_path=None,
        train_files=f"{tmp_path}/train.{{language}}*.tsv",
        validation_files=f"{tmp_path}/validation.{{language}}*.tsv",
        train_languages=["de"],
        validation_languages=["de"],
        source_column=None,
        target_column=None,
        max_train_pairs=5,
        cache_dir=cache,
    )
    data.setup("fit")
    assert texts_of_split(data, "train", "de") == [rows[i] for i in (0, 25, 50, 75, 100)]
    assert texts_of_split(data, "validation", "de") == rows[:9]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test_languages": ["en"]}, "test_languages names 'en'; Tatoeba has af, ar, bg"),
        ({"test_languages": ["de", "de"]}, "test_languages names a language twice"),
        ({"train_languages": ["de", "de"]}, "train_languages names a language twice"),
        ({"max_train_pairs": 0}, "max_train_pairs is 0"),
        ({"source_column": None}, "source_column is None and target_column is 'translation"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        Tatoeba("x", **arguments)


def test_folders_that_hold_something_else_are_named(tmp_path, tokenizer_name, cache):
    data = Tatoeba(tokenizer_name, str(tmp_path), test_languages=["de", "fr"], cache_dir=cache)
    with pytest.raises(InputError, match=r"test data of 'de': .* holds neither LASER's files .*data/tatoeba/v1"):
        data.setup("test")
    write_laser(tmp_path, {"de": [("one", "eins")]})
    with pytest.raises(InputError, match=r"test data of 'fr': .*no file 'tatoeba\.fra-eng\.eng'"):
        data.setup("test")
    (tmp_path / "tatoeba.deu-eng.eng").write_text("one\ntwo\n\n", encoding="utf-8")
    unpaired = Tatoeba(tokenizer_name, str(tmp_path), test_languages=["de"], cache_dir=cache)
    message = r"tatoeba\.deu-eng\.eng has 3 lines and .*tatoeba\.deu-eng\.deu 1; each line must translate"
    with pytest.raises(InputError, match=message):
        unpaired.setup("test")


sentences = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\ufeff"), max_size=6), max_size=6
)


def file_of(lines: list[str], end: str, bom: bool, cut: bool) -> bytes:
    text = "".join(line + end for line in lines)
    if cut and lines and lines[-1]:
        text = text.removesuffix(end)
    return (b"\xef\xbb\xbf" if bom else b"") + text.encode()


@settings(max_examples=100, deadline=None)
@given(sentences, sentences, st.data())
def test_mutated_files_give_an_error_or_exactly_the_right_pairs(tmp_path_factory, first, second, data):
    """The number of lines that a file really has decides, whatever its line ends, byte order mark or last line."""
    folder = tmp_path_factory.mktemp("mutated", numbered=True)
    paths, broken = [], False
    aligned = data.draw(st.booleans())
    for name, lines in (("english", first), ("other", (second + first)[: len(first)] if aligned else second)):
        end, bom, cut = data.draw(st.sampled_from(["\n", "\r\n"])), data.draw(st.booleans()), data.draw(st.booleans())
        content = file_of(lines, end, bom, cut)
        if data.draw(st.integers(0, 9)) == 0:
            place = data.draw(st.integers(0, len(content)))
            content, broken = content[:place] + b"\xff" + content[place:], True
        paths.append((folder / name, lines))
        paths[-1][0].write_bytes(content)
    (english, expected), (other, translations) = paths
    if broken:
        with pytest.raises(InputError, match=r"line \d+, byte \d+: 0x.. is not UTF-8"):
            _read_aligned(english, other)
    elif len(expected) != len(translations):
        with pytest.raises(InputError, match=f"has {len(expected)} lines and .* {len(translations)};"):
            _read_aligned(english, other)
    else:
        assert _read_aligned(english, other).to_pydict() == {"source": expected, "target": translations}


class TestFieldsWithinColumns:
    ROWS = ({"id": 1, "text": {"en": "one", "de": "eins"}}, {"id": 2, "text": {"en": "two", "de": "zwei"}})

    @pytest.fixture(params=["jsonl", "parquet"])
    def path(self, request, tmp_path):
        return self.write(tmp_path / f"a.{request.param}", list(self.ROWS))

    def write(self, path, rows):
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return path

    def test_are_read_by_dotted_names(self, path):
        rows = read_rows([path], ["text.de", "id", "text.en"])
        assert rows.table.to_pydict() == {"text.de": ["eins", "zwei"], "id": [1, 2], "text.en": ["one", "two"]}

    def test_that_are_absent_are_named(self, path):
        place = ", line 1" if path.suffix == ".jsonl" else ""
        message = rf"{path.name}{place}: no column 'text\.fr'; it has 'id', 'text', 'text\.(en|de)', 'text\.(en|de)'\."
        with pytest.raises(InputError, match=message):
            read_rows([path], ["text.fr"])
        with pytest.raises(InputError, match=r"no column 'id\.x'"):
            read_rows([path], ["id.x"])

    def test_within_nothing_are_null(self, path):
        self.write(path, [*self.ROWS, {"id": 3, "text": None}])
        place = "line 3" if path.suffix == ".jsonl" else "row 3"
        with pytest.raises(InputError, match=rf"{place}: column 'text\.en' is null"):
            texts_of(read_rows([path], ["text.en"]), "text.en")

    def test_a_column_of_the_whole_name_comes_first(self, path):
        self.write(path, [{"a.b": "own", "a": {"b": "within", "b.c": "deep"}}])
        assert read_rows([path], ["a.b"]).table.to_pydict() == {"a.b": ["own"]}
        assert read_rows([path], ["a.b.c"]).table.to_pydict() == {"a.b.c": ["deep"]}

    def test_many_languages_in_one_file(self, path, tokenizer_name, cache):
        files = dict.fromkeys(["de", "fr"], str(self.write(path, [{"text": {"en": "one", "de": "eins", "fr": "un"}}])))
        columns = {"source_column": "text.en", "target_column": "text.{language}"}
        data = ParallelText(tokenizer_name, files, files, cache_dir=cache, **columns)
        data.setup("fit")
        assert texts_of_split(data, "train", "de") == [("one", "eins")]
        assert texts_of_split(data, "train", "fr") == [("one", "un")]
