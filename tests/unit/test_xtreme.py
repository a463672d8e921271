"""XTREME's data sets in the Hub's layout and in their official ones, on files of a few rows."""

import json
import re
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from datamodules import MLQA, PANX, UDPOS, TyDiQA, XQuAD, panx, tydiqa, udpos
from ernie_m.errors import InputError

TAGS = {"PAN-X": ("ner_tags", panx.LABELS), "udpos": ("pos_tags", udpos.LABELS)}


def write_words(root: Path, config: str, split: str, words: list[list[str]], tags: list[list[str]]) -> None:
    """Sentences as the Hub holds them: tags are numbers that the file has the names of."""
    column, names = TAGS[config.partition(".")[0]]
    features = Features({"tokens": Sequence(Value("string")), column: Sequence(ClassLabel(names=list(names)))})
    rows = {"tokens": words, column: [[names.index(tag) for tag in sentence] for sentence in tags]}
    folder = root / config
    folder.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")


def asked(identifier: str, answer: str = "sleeps") -> dict[str, object]:
    """A question as the Hub holds it."""
    answers = {"answer_start": [5 if answer else 0], "text": [answer]}
    return {"id": identifier, "context": "Anna sleeps", "question": "what ?", "answers": answers}


def write_questions(root: Path, config: str, split: str, identifiers: list[str]) -> None:
    folder = root / config
    folder.mkdir(parents=True, exist_ok=True)
    Dataset.from_list([asked(one) for one in identifiers]).to_parquet(folder / f"{split}-00000-of-00001.parquet")


def as_json(*identifiers: str, answer: str = "sleeps") -> str:
    """The same in SQuAD's JSON."""
    questions = [asked(one, answer) for one in identifiers]
    paragraphs = [
        {
            "context": one["context"],
            "qas": [{**one, "answers": [{"answer_start": 5 if answer else 0, "text": answer}]}],
        }
        for one in questions
    ]
    return json.dumps({"version": "1.1", "data": [{"paragraphs": paragraphs}]})


@pytest.fixture
def options(sample_tokenizer_dir: Path, tmp_path: Path) -> dict[str, str]:
    return {"tokenizer": str(sample_tokenizer_dir), "cache_dir": str(tmp_path / "cache")}


def read(data, split: str, language: str) -> dict[str, list]:
    return data.read(split, language, data.files(split, language, download=False).parts).to_pydict()


def named(data, split: str, language: str) -> list[list[tuple[str, str]]]:
    """The words of every sentence with the names of their labels."""
    table = read(data, split, language)
    return [
        [(word, data.label_names[label]) for word, label in zip(*sentence, strict=True)]
        for sentence in zip(table["words"], table["labels"], strict=True)
    ]


def test_pan_x_is_the_same_from_the_hub_and_from_both_kinds_of_its_files(options, tmp_path):
    words, tags = [["Anna", "Bo", "sleeps"], ["Rome"]], [["B-PER", "I-PER", "O"], ["B-LOC"]]
    write_words(tmp_path / "hub", "PAN-X.de", "test", words, tags)
    lines = "\n".join(
        "".join(f"de:{word}\t{tag}\n" for word, tag in zip(*one, strict=True)) for one in zip(words, tags, strict=True)
    )
    for file, text in (("published/de/test", lines), ("made/test-de.tsv", lines.replace("de:", ""))):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
    expected = [[("Anna", "B-PER"), ("Bo", "I-PER"), ("sleeps", "O")], [("Rome", "B-LOC")]]
    for folder in ("hub", "published", "made"):
        assert named(PANX(path=str(tmp_path / folder), **options), "test", "de") == expected, folder
    (tmp_path / "made" / "test-de.tsv").write_text("Anna\nBo\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"test-de\.tsv, line 1: one column, 'Anna', where a word and its tag"):
        read(PANX(path=str(tmp_path / "made"), **options), "test", "de")
    with pytest.raises(InputError, match=r"made holds neither zh/test nor test-zh\.tsv, and .*PAN-X\.zh/test-"):
        read(PANX(path=str(tmp_path / "made"), **options), "test", "zh")


def conllu(*rows: tuple[str, str]) -> str:
    lines = [f"{number}\t{word}\t_\t{tag}" + "\t_" * 6 + "\n" for number, (word, tag) in enumerate(rows, start=1)]
    return "# text = ...\n1-2\tzum" + "\t_" * 8 + "\n" + "".join(lines) + "\n"


def test_a_part_of_the_training_file_is_of_that_file(options, tmp_path):
    """Not of the file of development data that lies beside it."""
    for split, word in (("train", "theirs"), ("validation", "ours")):
        write_words(tmp_path, "PAN-X.en", split, [[word]] * 10, [["O"]] * 10)
    data = PANX(path=str(tmp_path), validation_languages=[], test_languages=[], validation_share=0.3, **options)
    data.setup("fit")
    digests = {re.search("sha256 ([0-9a-f]+)", text)[1] for text in data.fingerprints().values()}
    assert len(digests) == 1
    assert [len(data.row_set(split, ["en"])) for split in ("train", "validation")] == [7, 3]


def test_udpos_takes_all_treebanks_of_a_language_that_have_words(options, tmp_path):
    write_words(tmp_path / "hub", "udpos.French", "test", [["la", "paix"]], [["DET", "NOUN"]])
    assert named(UDPOS(path=str(tmp_path / "hub"), **options), "test", "fr") == [[("la", "DET"), ("paix", "NOUN")]]
    files = {
        "UD_French-GSD/fr_gsd-ud-test.conllu": conllu(("zu", "ADP"), ("dem", "DET")),
        "UD_French-PUD/fr_pud-ud-test.conllu": conllu(("la", "DET")),
        "UD_French-FTB/fr_ftb-ud-test.conllu": conllu(("_", "DET")),
        "UD_Old_French-SRCMF/fro_srcmf-ud-test.conllu": conllu(("rois", "NOUN")),
    }
    for file, text in files.items():
        (tmp_path / "ud" / file).parent.mkdir(parents=True)
        (tmp_path / "ud" / file).write_text(text, encoding="utf-8")
    expected = [[("zu", "ADP"), ("dem", "DET")], [("la", "DET")]]
    assert named(UDPOS(path=str(tmp_path / "ud"), **options), "test", "fr") == expected
    with pytest.raises(InputError, match=r"ud holds no treebank with words \(fr_\*-ud-train\.conllu\)"):
        read(UDPOS(path=str(tmp_path / "ud"), train_languages=["fr"], **options), "train", "fr")
    with pytest.raises(InputError, match="train_languages names 'th'; UDPOS's train split has af, ar"):
        UDPOS(train_languages=["th"], **options)


def test_xquad_is_tested_on_what_the_hub_calls_validation(options, tmp_path):
    write_questions(tmp_path / "hub", "XQuAD.de", "validation", ["a", "b"])
    (tmp_path / "official").mkdir()
    (tmp_path / "official" / "xquad.de.json").write_text(as_json("a", "b"), encoding="utf-8")
    (tmp_path / "train.json").write_text(as_json("c"), encoding="utf-8")
    for folder in ("hub", "official"):
        data = XQuAD(path=str(tmp_path / folder), train_path=str(tmp_path / "train.json"), **options)
        assert read(data, "test", "de")["id"] == ["a", "b"], folder
        assert read(data, "train", "en")["begin"] == [5]
        assert data.eval_languages("validate") == []
    (tmp_path / "official" / "xquad.de.json").write_text(as_json("a", "b", answer=""), encoding="utf-8")
    with pytest.raises(InputError, match="have an empty answer, as in the test files that XTREME's script writes"):
        read(data, "test", "de")


def test_translations_are_trained_on_from_a_folder_of_xtremes(options, tmp_path):
    """With the ids of the English questions, and answers that do not all stand where they say."""
    bad = json.loads(as_json("english-1", "english-2"))
    bad["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] = 3
    for name in ("squad", "tydiqa"):
        (tmp_path / f"{name}.translate.train.en-ar.json").write_text(json.dumps(bad), encoding="utf-8")
    (tmp_path / "train.json").write_text(as_json("1"), encoding="utf-8")
    (tmp_path / "tydiqa-goldp-v1.1-train.json").write_text(as_json("english-1", "arabic-9"), encoding="utf-8")
    both = {"train_languages": ["en", "ar"], "translations_path": str(tmp_path), "on_bad_answer": "skip"} | options
    for data in (
        XQuAD(train_path=str(tmp_path / "train.json"), **both),
        MLQA(train_path=str(tmp_path / "train.json"), **both),
        TyDiQA(path=str(tmp_path), **both),
    ):
        assert [name.removeprefix("english-") for name in read(data, "train", "en")["id"]] == ["1"]
        with pytest.warns(UserWarning, match="1 of 2 questions cannot be trained on"):
            assert len(read(data, "train", "ar")["id"]) == 1
    # Without translations TyDiQA has languages of its own.
    assert read(TyDiQA(path=str(tmp_path), train_languages=["ar"], **options), "train", "ar")["id"] == ["arabic-9"]
    with pytest.raises(InputError, match=r"translations_path is 'away', which is no folder here.*train\.en-ar\.json"):
        read(TyDiQA(**both | {"translations_path": "away"}), "train", "ar")
    with pytest.raises(InputError, match="the others need the folder of their translations: translations_path"):
        XQuAD(train_languages=["en", "de"], **options)


LAYOUTS = {
    "mixed": {
        "tydiqa-goldp-v1.1-train.json": as_json("arabic-1", "english-2"),
        "tydiqa-goldp-v1.1-dev.json": as_json("arabic-3", "english-4", "arabic-5"),
    },
    "by name": {
        "tydiqa-goldp-v1.1-train.json": as_json("arabic-1", "english-2"),
        "tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-arabic.json": as_json("arabic-3", "arabic-5"),
    },
    # XTREME's script leaves the number of an id in its training files.
    "made": {
        "tydiqa.goldp.en.train.json": as_json("2"),
        "tydiqa-goldp-v1.1-dev/tydiqa.goldp.ar.dev.json": as_json("arabic-3", "arabic-5"),
    },
}


@pytest.mark.parametrize("layout", ["hub", *LAYOUTS])
def test_tydiqas_languages_are_told_apart_by_what_ids_begin_with(layout, options, tmp_path):
    if layout == "hub":
        write_questions(tmp_path, "tydiqa", "train", ["arabic-1", "english-2"])
        write_questions(tmp_path, "tydiqa", "validation", ["arabic-3", "english-4", "arabic-5"])
    for file, text in LAYOUTS.get(layout, {}).items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
    data = TyDiQA(path=str(tmp_path), test_languages=["ar"], **options)
    assert read(data, "test", "ar")["id"] == ["arabic-3", "arabic-5"]
    assert [one.removeprefix("english-") for one in read(data, "train", "en")["id"]] == ["2"]
    data.setup("test")
    assert len(data.row_set("test", ["ar"])) == 2
    assert data.references("test", "ar")["id"].to_pylist() == ["arabic-3", "arabic-5"]


def test_two_languages_of_one_file_are_two_sets_of_rows(options, tmp_path):
    """They share the file's digest, and would share the cached rows."""
    write_questions(tmp_path, "tydiqa", "validation", ["arabic-3", "english-4", "arabic-5"])
    data = TyDiQA(path=str(tmp_path), test_languages=["ar", "en"], **options)
    data.setup("test")
    assert [len(data.row_set("test", [language])) for language in ("ar", "en")] == [2, 1]
    with pytest.raises(InputError, match=re.escape("test_languages names 'ja'; TyDiQA has en, ar, bn")):
        TyDiQA(path=str(tmp_path), test_languages=["ja"], **options)
    absent = TyDiQA(path=str(tmp_path), test_languages=["fi"], **options)
    with pytest.raises(InputError, match="fi"):
        absent.setup("test")
    assert tuple(data.languages) == tydiqa.LANGUAGES
