"""Labelled words: column files and rows read as they are, whole, and encoded so that every word is predicted once."""

import gzip
import json
import unicodedata
from itertools import chain, pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOBES, Entities

from datamodules import CoNLL, TokenLabels
from datamodules.columns import read_columns
from datamodules.tags import labels_of_tags, to_iob2
from datamodules.token_labels import windows
from datamodules.unlabelled import split_words
from ernie_m import load_tokenizer
from ernie_m.errors import InputError

# The first lines of the four kinds of official files, with made-up text.
ENGLISH = "-DOCSTART- -X- -X- O\n\nAnna NNP I-NP I-PER\nBerlin NNP I-NP I-LOC\nParis NNP I-NP B-LOC\n. . O O\n\n"
GERMAN = "-DOCSTART- -X- -X- -X- O\n\nGrüße Gruß NN I-NC O\nnach nach APPR I-PC O\nKöln Köln NE I-NC I-LOC\n\n"
SPANISH = "El DA O\nAño NC B-MISC\nNuevo AQ I-MISC\n\n- Fg O\n\n"
DUTCH = "-DOCSTART- -DOCSTART- O\nIn Prep O\nItalië N B-LOC\n. Punc O\n"


def labels_of(path: Path, tokenizer: Path, **arguments: object) -> list[tuple[list[str], list[str]]]:
    data = TokenLabels(str(tokenizer), train_files={"en": str(path)}, **arguments)
    table = data.read("train", "en", [path])
    names = data.label_names
    return [
        (row["words"], [names[label] for label in row["labels"]])
        for row in table.select(["words", "labels"]).to_pylist()
    ]


@pytest.mark.parametrize(
    ("content", "encoding", "expected"),
    [
        (ENGLISH, "utf-8", [(["Anna", "Berlin", "Paris", "."], ["B-PER", "B-LOC", "B-LOC", "O"])]),
        (GERMAN, "iso-8859-1", [(["Grüße", "nach", "Köln"], ["O", "O", "B-LOC"])]),
        (SPANISH, "iso-8859-1", [(["El", "Año", "Nuevo"], ["O", "B-MISC", "I-MISC"]), (["-"], ["O"])]),
        (DUTCH, "iso-8859-1", [(["In", "Italië", "."], ["O", "B-LOC", "O"])]),
        (GERMAN, "utf-8-sig", [(["Grüße", "nach", "Köln"], ["O", "O", "B-LOC"])]),
        ("en:New\tB-LOC\nen:York\tI-LOC\n\n", "utf-8", [(["New", "York"], ["B-LOC", "I-LOC"])]),
        ("fr:\tO\nfr:de\tB-PER\n", "utf-8", [(["", "de"], ["O", "B-PER"])]),
        ("simple:a\tO\nsimple:b\tB-PER\n", "utf-8", [(["a", "b"], ["O", "B-PER"])]),
        ("en:a\tO\nb\tB-PER\n", "utf-8", [(["en:a", "b"], ["O", "B-PER"])]),
        (
            "a O\n \t \n\n\nb\u00a0c B-X\n\u2028 I-X",
            "utf-8",
            [(["a"], ["O"]), (["b\u00a0c", "\u2028"], ["B-X", "I-X"])],
        ),
    ],
    ids=[
        "english",
        "german",
        "spanish",
        "dutch",
        "mark",
        "wikiann",
        "wikiann-empty",
        "wikiann-simple",
        "no-prefix",
        "blank-lines",
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_column_files(
    content: str, encoding: str, expected: list, ending: str, tmp_path: Path, sample_tokenizer_dir: Path
) -> None:
    path = tmp_path / "file.train"
    path.write_bytes(content.replace("\n", ending).encode(encoding))
    assert labels_of(path, sample_tokenizer_dir) == expected
    packed = tmp_path / "file.train.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert labels_of(packed, sample_tokenizer_dir) == expected


ROWS = [{"tokens": ["Anna", "in", "New York"], "ner_tags": ["B-PER", "O", "B-LOC"]}, {"tokens": [], "ner_tags": []}]


def test_rows_of_every_kind(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    expected = [(row["tokens"], row["ner_tags"]) for row in ROWS]
    jsonl = tmp_path / "rows.jsonl"
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    assert labels_of(jsonl, sample_tokenizer_dir) == expected
    numbered = [{"tokens": row["tokens"], "ner_tags": [names.index(tag) for tag in row["ner_tags"]]} for row in ROWS]
    features = Features({"tokens": Sequence(Value("string")), "ner_tags": Sequence(ClassLabel(names=names))})
    parquet = tmp_path / "rows.parquet"
    Dataset.from_list(numbered, features=features).to_parquet(parquet)
    assert labels_of(parquet, sample_tokenizer_dir) == expected
    assert TokenLabels(str(sample_tokenizer_dir), train_files={"en": str(parquet)}).label_names == names
    bare = tmp_path / "bare.parquet"
    pq.write_table(pa.Table.from_pylist(numbered), bare)
    assert labels_of(bare, sample_tokenizer_dir, label_names=names) == expected
    with pytest.raises(InputError, match=r"row 1, word 1: the tag 1 is a number.*label_names"):
        labels_of(bare, sample_tokenizer_dir)
    table = tmp_path / "rows.csv"
    table.write_text("words,tags\nAnna in Rom,I-PER O I-LOC\n", encoding="utf-8")
    found = labels_of(table, sample_tokenizer_dir, tokens_column="words", tags_column="tags")
    assert found == [(["Anna", "in", "Rom"], ["B-PER", "O", "B-LOC"])]
    table.write_text("tokens,ner_tags\n10\u00a0000 in Rom,0 0 3\n", encoding="utf-8")
    found = labels_of(table, sample_tokenizer_dir, label_names=names)
    assert found == [(["10\u00a0000", "in", "Rom"], ["O", "O", "B-LOC"])]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"a O\nb X O\n", r"a\.txt, line 2: 3 columns where the lines before have 2"),
        ("a.txt", b"a O\n\nb\n", r"a\.txt, line 3: 1 columns"),
        ("a.txt", b"a\nb\n", r"a\.txt, line 1: one column"),
        ("a.txt", b"a O\nb X-PER\n", r"a\.txt, line 2: 'X-PER' is no tag"),
        ("a.txt", b"a O\nb B-\n", r"a\.txt, line 2: 'B-' is no tag"),
        ("a.txt", b"a O\nb B-DRUG\n", r"a\.txt, line 2: unknown tag 'B-DRUG'; known are O, B-PER"),
        ("a.txt", b"\xc3\xa9 O\n\xe9 O\n", r"a\.txt, line 2, byte 5: 0xe9 is not UTF-8"),
        ("a.txt", b"a O\rb O\n", r"a\.txt, line 1: a carriage return within the line"),
        ("a.gz", b"a O\n", r"a\.gz is not a whole gzip file"),
        (
            "a.JSON",
            b'{"tokens": [\n"a"], "ner_tags": ["O"]}',
            r"a\.JSON, line 1: not valid JSON \(an object on each line",
        ),
        ("a.jsonl", b'{"tokens": ["a"], "ner_tags": [true]}\n', "line 1, word 1: the tag is True"),
        ("a.jsonl", b'{"tokens": ["a"], "ner_tags": []}\n', "line 1: 1 words in 'tokens', 0 tags in 'ner_tags'"),
        ("a.jsonl", b'{"tokens": [1], "ner_tags": ["O"]}\n', "line 1: column 'tokens' holds .1., not a list of words"),
        ("a.jsonl", b'{"tokens": 1, "ner_tags": ["O"]}\n', "line 1: column 'tokens' is 1; it must be a list"),
        ("a.jsonl", b'{"tokens": ["a"], "ner_tags": [7]}\n', "line 1, word 1: '7' is no tag"),
        ("a.jsonl", b'{"tokens": ["a"]}\n', "line 1: no column 'ner_tags'"),
    ],
)
def test_bad_files_are_named_with_the_place(
    name: str, content: bytes, message: str, tmp_path: Path, sample_tokenizer_dir: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        labels_of(tmp_path / name, sample_tokenizer_dir, label_names=["O", "B-PER", "I-PER"])


def test_missing_files_and_labels(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.txt does not exist"):
        read_columns(tmp_path / "nothing.txt")
    with pytest.raises(InputError, match="must hold O once"):
        TokenLabels(str(sample_tokenizer_dir), label_names=["O", "B-PER"])
    only_o = tmp_path / "o.txt"
    only_o.write_text("a O\n")
    with pytest.raises(InputError, match="no tag but O"):
        labels_of(only_o, sample_tokenizer_dir)


def test_iob1_becomes_iob2() -> None:
    """The second LOC of IOB1 begins with B- since it touches the first; an I- behind another type begins an entity."""
    iob1 = ["I-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-LOC", "I-ORG", "O", "I-LOC"]
    iob2 = ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-LOC", "B-ORG", "O", "B-LOC"]
    assert to_iob2(iob1) == iob2
    assert to_iob2(iob2) == iob2
    assert to_iob2(["S-A", "I-A", "_", "I-A", "E-A", "E-A", "_"]) == ["B-A", "B-A", "_", "I-A", "I-A", "B-A", "_"]


@given(st.lists(st.sampled_from(["O", *(f"{letter}-{kind}" for letter in "BIES" for kind in ("A", "B"))])))
def test_spans_of_any_tags_are_those_of_conlleval(tags: list[str]) -> None:
    assert get_entities(to_iob2(tags)) == get_entities(tags)


@given(st.lists(st.tuples(st.sampled_from("OAB"), st.integers(1, 4)), min_size=1, max_size=8))
def test_bioes_and_bilou_hold_the_same_spans(spans: list[tuple[str, int]]) -> None:
    for scheme, single, last in ((IOBES, "S", "E"), (BILOU, "U", "L")):
        tags: list[str] = []
        for kind, size in spans:
            letters = single if size == 1 else f"B{'I' * (size - 2)}{last}"
            tags += ["O"] * size if kind == "O" else [f"{letter}-{kind}" for letter in letters]
        strict = [span.to_tuple()[1:] for span in Entities([tags], scheme).entities[0]]
        assert [(kind, begin, end + 1) for kind, begin, end in get_entities(to_iob2(tags))] == strict


NAMES = ["NOUN", "ADJ", "_", "VERB"]
CONLLU = """# sent_id = 1
# text = Del mar
1-2\tDel\t_\t_\t_\t_\t_\t_\t_\t_
1\tDe\tde\tADP\tsps\t_\t3\tcase\t_\t_
2\tel\tel\tDET\tda\t_\t3\tdet\t_\t_
2.1\tx\tx\tX\t_\t_\t_\t_\t_\t_
3\tmar\tmar\tNOUN\t_\t_\t0\troot\t_\t_

"""


def test_words_with_a_label_each(tmp_path: Path, sample_tokenizer_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same words and parts of speech in every format; two words have none, and one sentence has only such."""
    words, tags = [["Der", "rote", "Ball"], ["rollt"], ["weg"]], [["_", "ADJ", "NOUN"], ["VERB"], ["_"]]
    (tmp_path / "a.conll").write_text(
        "\n\n".join("\n".join(map(" ".join, zip(*rows, strict=True))) for rows in zip(words, tags, strict=True))
    )
    rows = [{"tokens": words, "ner_tags": tags} for words, tags in zip(words, tags, strict=True)]
    numbers = [[-100 if tag == "_" else NAMES.index(tag) for tag in row] for row in tags]
    numbered = [{"tokens": words, "ner_tags": tags} for words, tags in zip(words, numbers, strict=True)]
    for name, content in (("a.jsonl", rows), ("b.jsonl", numbered)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    features = Features({"tokens": Sequence(Value("string")), "ner_tags": Sequence(ClassLabel(names=NAMES))})
    numbered[2]["ner_tags"] = [2]
    Dataset.from_list(numbered, features=features).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("tokens,ner_tags\nDer rote Ball,-100 ADJ NOUN\nrollt,VERB\nweg,_\n")
    for name, label_names in [
        ("a.conll", None), ("a.jsonl", None), ("b.jsonl", NAMES), ("a.parquet", None), ("a.csv", None),
        ("a.csv", NAMES),
    ]:  # fmt: skip
        path = tmp_path / name
        options = {"label_names": label_names, "cache_dir": str(tmp_path / "cache")}
        data = TokenLabels(str(sample_tokenizer_dir), {"de": str(path)}, {"de": str(path)}, **options)
        data.prepare_data()
        data.setup("fit")
        is_named = label_names is not None or name == "a.parquet"
        assert data.label_names == (["NOUN", "ADJ", "VERB"] if is_named else ["ADJ", "NOUN", "VERB"])
        (batch,) = data.val_dataloader()[0]
        found = batch["labels"][batch["words"] >= 0].tolist()
        assert [None if label < 0 else data.label_names[label] for label in found] == [
            None,
            "ADJ",
            "NOUN",
            "VERB",
            None,
        ]
        assert batch["weights"].tolist() == [1.0, 1.0, 1.0]
        (step,) = data.train_dataloader()
        assert sum(float(micro["normaliser"]) for micro in step) == 3.0
        assert "3 sentences, 5 words, 2 of them not labelled: " in data.fingerprints()["train/de"]
    (tmp_path / "a.conllu").write_text(CONLLU, encoding="utf-8")
    expected = [(["De", "el", "mar"], ["ADP", "DET", "NOUN"])]
    assert labels_of(tmp_path / "a.conllu", sample_tokenizer_dir) == expected
    data = TokenLabels(str(sample_tokenizer_dir), {"es": str(tmp_path / "a.conllu")}, tags_column="XPOS")
    table = data.read("train", "es", [tmp_path / "a.conllu"])
    assert [data.label_names[i] if i >= 0 else "_" for i in table["labels"][0].as_py()] == ["sps", "da", "_"]
    (tmp_path / "b.conllu").write_text("1\ta\tNOUN\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.conllu, line 1: 3 columns; CoNLL-U has 10"):
        labels_of(tmp_path / "b.conllu", sample_tokenizer_dir)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a O\nb PER\nc B-PER\nd I-PER\n", r"a\.txt, line 2: 'PER' is no tag of the kind that 'B-PER' is \(.*line 3"),
        ("a NOUN\nb B-X\nc VERB\n", r"a\.txt, line 2: 'B-X' is no tag of the kind that 'NOUN' is"),
        ("a\tNOUN\nb\t\n", r"a\.txt, line 2: the tag is empty; a word that has no label has the tag _ or -100"),
        ("a _\nb O\n", "no tag but O"),
    ],
)
def test_tags_are_of_one_kind(content: str, message: str, tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        labels_of(tmp_path / "a.txt", sample_tokenizer_dir)


def test_labels_without_letters_are_said(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    (tmp_path / "a.txt").write_text("in O\nNew LOC\nYork LOC\n", encoding="utf-8")
    with pytest.warns(UserWarning, match="tags are O and labels without B- and I-"):
        assert labels_of(tmp_path / "a.txt", sample_tokenizer_dir)[0][1] == ["O", "LOC", "LOC"]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["B-X", "O", "I-X"], ["B-X", "O", "I-X"]),
        (["O", "S-X", "B-Y", "E-Y"], ["O", "B-X", "I-X", "B-Y", "I-Y"]),
        (["_", "NOUN", "O"], ["NOUN", "O"]),
        (["O", "B-X"], None), (["B-X", "I-X"], None), (["O", "B-X", "I-X", "Y"], None), (["O"], None), ([], None),
        (["A", "A"], None), (["A", ""], None),
    ],
)  # fmt: skip
def test_names_of_tags_become_labels(names: list[str], labels: list[str] | None) -> None:
    if labels is not None:
        assert labels_of_tags(names) == labels
        return
    with pytest.raises(InputError, match="label_names is"):
        labels_of_tags(names)


def encoded(
    tokenizer: Path, folder: Path, text: str, **arguments: object
) -> tuple[TokenLabels, list[dict[str, torch.Tensor]]]:
    path = folder / "text.train"
    path.write_text(text, encoding="utf-8")
    data = TokenLabels(
        str(tokenizer), train_files={"en": str(path)}, validation_files={"en": str(path)}, cache_dir=str(folder / "c"),
        **arguments,
    )  # fmt: skip
    data.prepare_data()
    data.setup("fit")
    return data, list(data.val_dataloader()[0])


@pytest.mark.parametrize("label_tokens", ["first", "all"])
def test_labels_stand_on_the_words_tokens(label_tokens: str, tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    text = "Menschenrechtserklärung B-X\nVölkerverständigung I-X\nist O\nxylophonisch O\n\u200b B-X\n"
    data, (batch,) = encoded(sample_tokenizer_dir, tmp_path, text, label_tokens=label_tokens)
    tokenizer = data.tokenizer
    words = [line.split(" ")[0] for line in text.splitlines()]
    pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] or [tokenizer.unk_token_id] for word in words]
    assert len(pieces[0]) > 1
    assert pieces[-1] == [tokenizer.unk_token_id]
    assert batch["input_ids"][0].tolist() == [tokenizer.cls_token_id, *chain(*pieces), tokenizer.sep_token_id]
    expected_words, expected = [-1], [-100]
    names = [line.split(" ")[1] for line in text.splitlines()]
    for number, (ids, name) in enumerate(zip(pieces, names, strict=True)):
        label = data.label_names.index(name)
        rest = data.label_names.index(name.replace("B-", "I-")) if label_tokens == "all" else -100
        expected_words += [number] + [-1] * (len(ids) - 1)
        expected += [label] + [rest] * (len(ids) - 1)
    assert batch["words"][0].tolist() == [*expected_words, -1]
    assert batch["labels"][0].tolist() == [*expected, -100]


def test_long_sentences_become_windows_and_lose_no_word(
    tmp_path: Path, sample_tokenizer_dir: Path, recwarn: pytest.WarningsRecorder
) -> None:
    sentences = [["Wort", "Menschenrechtserklärung"] * 20, ["kurz"], ["Donaudampfschifffahrtsgesellschaft" * 5, "Ende"]]
    text = "\n\n".join("\n".join(f"{word} {'B-X' if i % 3 else 'O'}" for i, word in enumerate(s)) for s in sentences)
    data, batches = encoded(sample_tokenizer_dir, tmp_path, text, max_length=16)
    seen: dict[int, list[int]] = {}
    for batch in batches:
        assert batch["input_ids"].shape[1] <= 16
        for row, sentence in enumerate(batch["sentence"].tolist()):
            chosen = batch["words"][row] >= 0
            seen.setdefault(sentence, []).extend(batch["words"][row][chosen].tolist())
            labels = [data.label_names[label] for label in batch["labels"][row][chosen].tolist()]
            assert labels == ["B-X" if i % 3 else "O" for i in batch["words"][row][chosen].tolist()]
            assert bool((batch["labels"][row][~chosen] == -100).all())
    assert {sentence: sorted(words) for sentence, words in seen.items()} == {
        number: list(range(len(sentence))) for number, sentence in enumerate(sentences)
    }
    assert "3 sentences, 43 words" in data.fingerprints()["train/en"]
    assert any("1 words have more tokens than fit" in str(warning.message) for warning in recwarn)


@given(st.lists(st.integers(1, 12), max_size=60), st.integers(12, 40))
def test_windows_predict_every_word_once_and_fit(counts: list[int], room: int) -> None:
    found = list(windows(counts, room))
    assert [word for window in found for word in range(window.first, window.last)] == list(range(len(counts)))
    for window in found:
        assert window.begin <= window.first <= window.last <= window.end
        assert sum(counts[window.begin : window.end]) <= room
        whole = sum(counts) <= room
        assert (window.begin, window.end) == (0, len(counts)) if whole else window.first < window.last
    for before, after in pairwise(found):
        # Unless words are too long for it, a word at the border is seen with words of both sides.
        if max(counts) <= room // 8:
            assert before.end > before.last
            assert after.begin < after.first


def test_words_are_the_texts_that_a_vocabulary_is_trimmed_to(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    path = tmp_path / "a.train"
    path.write_text(ENGLISH, encoding="utf-8")
    data = TokenLabels(str(sample_tokenizer_dir), train_files={"en": str(path)})
    assert list(data.texts("en")) == ["Anna", "Berlin", "Paris", "."]


def test_the_normaliser_counts_labelled_tokens(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    text = "\n\n".join("\n".join(f"Menschenrechte{i} B-X" for i in range(size)) for size in (1, 5, 2, 7, 3, 1))
    data, _ = encoded(sample_tokenizer_dir, tmp_path, text, label_tokens="all", global_batch_size=4, micro_batch_size=2)
    steps = list(data.train_dataloader())
    assert [len(step) for step in steps] == [2, 1]
    for step in steps:
        labelled = sum(int(((micro["labels"] != -100) * micro["weights"][:, None]).sum()) for micro in step)
        assert [float(micro["normaliser"]) for micro in step] == [labelled] * len(step)


OFFICIAL = {"eng": ENGLISH, "deu": GERMAN, "esp": SPANISH, "ned": DUTCH}


def test_conll_finds_the_official_files_and_the_hubs(
    tmp_path: Path, sample_tokenizer_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for prefix, content in OFFICIAL.items():
        for ending in ("train", "testa", "testb"):
            (tmp_path / f"{prefix}.{ending}").write_bytes(content.encode("iso-8859-1"))
    hub = tmp_path / "hub"
    for split in ("train", "validation", "test"):
        (hub / "es" / split).mkdir(parents=True)
        row = {"id": "0", "tokens": ["Madrid", "."], "ner_tags": [5, 0]}
        features = Features(
            {
                "id": Value("string"),
                "tokens": Sequence(Value("string")),
                "ner_tags": Sequence(
                    ClassLabel(names=["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"])
                ),
            }
        )
        Dataset.from_list([row], features=features).to_parquet(hub / "es" / split / "0000.parquet")
    paths = {"en": str(tmp_path), "de": str(tmp_path), "es": str(hub), "nl": str(tmp_path)}
    data = CoNLL(str(sample_tokenizer_dir), paths, cache_dir=str(tmp_path / "cache"))
    data.setup("fit")
    with caplog.at_level("INFO"):
        data.setup("test")
    assert data.eval_languages("test") == ["en", "de", "es", "nl"]
    assert "test/en: 1 sentences, 4 words, 3 entities: LOC 2, PER 1" in caplog.text
    assert "test/es: 1 sentences, 2 words, 1 entities: LOC 1" in caplog.text
    assert "test/de: 1 sentences, 3 words, 1 entities: LOC 1" in caplog.text


def test_conll_says_what_is_missing(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    data = CoNLL(str(sample_tokenizer_dir), {"en": str(tmp_path), "de": None}, cache_dir=str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"test data of 'en'.*holds no eng\.testb, and .*no file 'conll2003/test/"):
        data.setup("test")
    (tmp_path / "eng.testb").write_text(ENGLISH)
    with pytest.raises(InputError, match=r"'de': it is licensed and not on the Hub: set data\.paths\.de"):
        data.setup("test")
    with pytest.raises(InputError, match="train_languages names 'fr'; CoNLL has en, de, es, nl"):
        CoNLL(str(sample_tokenizer_dir), {}, train_languages=["fr"])


def test_predictions_are_written_with_the_files_own_columns(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    table = pa.table({"example_id": [1, 0], "predictions": [["O"], ["B-PER", "O", "B-LOC", "O"]]})
    columns = tmp_path / "in.txt"
    columns.write_text(ENGLISH + "Ende NN I-NP O\n", encoding="utf-8")
    data = TokenLabels(str(sample_tokenizer_dir), predict_path=str(columns), predict_language="en")
    assert data.predictions_as_text({"en": table}, ".conll") == (
        "Anna NNP I-NP I-PER B-PER\nBerlin NNP I-NP I-LOC O\nParis NNP I-NP B-LOC B-LOC\n. . O O O\n\n"
        "Ende NN I-NP O O\n\n"
    )
    rows = tmp_path / "in.jsonl"
    rows.write_text('{"tokens": ["Anna", "in", "New York", "."]}\n{"tokens": ["Ende"]}\n', encoding="utf-8")
    data = TokenLabels(str(sample_tokenizer_dir), predict_path=str(rows), predict_language="en")
    expected = "Anna\tB-PER\nin\tO\nNew York\tB-LOC\n.\tO\n\nEnde\tO\n\n"
    assert data.predictions_as_text({"en": table}, ".conll") == expected
    # Words that would break the columns, and a sentence without words between the two.
    rows.write_text(
        '{"tokens": ["An\\tna", "in", "New\\nYork", "\\n"]}\n{"tokens": []}\n{"tokens": ["Ende"]}\n', "utf-8"
    )
    table = pa.table({"example_id": [2, 0], "predictions": [["O"], ["B-PER", "O", "B-LOC", "O"]]})
    expected = "An na\tB-PER\nin\tO\nNew York\tB-LOC\n_\tO\n\n\nEnde\tO\n\n"
    assert data.predictions_as_text({"en": table}, ".conll") == expected


def predicting(tokenizer: Path, path: Path, labels: list[list[str]], suffix: str = ".jsonl", **options: object) -> str:
    data = TokenLabels(
        str(tokenizer), predict_path=str(path), predict_language="en", cache_dir=str(path.parent / "cache"),
        **{"label_names": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]} | options,
    )  # fmt: skip
    data.setup("predict")
    (batch,) = data.predict_dataloader()[0]
    counts = [sum(int((batch["words"][row] >= 0).sum()) for row in range(len(batch["words"]))
                  if int(batch["sentence"][row]) == number) for number in range(len(labels))]  # fmt: skip
    assert counts == list(map(len, labels))
    table = pa.table({"example_id": range(len(labels)), "predictions": labels})
    return data.predictions_as_text({"en": table}, suffix)


def test_texts_are_split_into_words_and_spans_have_their_places(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    texts = ["Anna  Kowalski's in 東京.", "Ende"]
    labels = [["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"], ["O"]]
    entities = [
        [
            {"type": "PER", "text": "Anna  Kowalski's", "begin": 0, "end": 16},
            {"type": "LOC", "text": "東京", "begin": 20, "end": 22},
        ],
        [],
    ]
    words = [["Anna", "Kowalski's", "in", "東", "京", "."], ["Ende"]]
    expected = [
        {"text": text, "words": found, "prediction": tags, "entities": spans}
        for text, found, tags, spans in zip(texts, words, labels, entities, strict=True)
    ]
    (tmp_path / "a.txt").write_text("\n".join(texts), encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": i, "text": x}) + "\n" for i, x in enumerate(texts)))
    (tmp_path / "a.csv").write_text("id,satz\n" + "".join(f"{i},{x}\n" for i, x in enumerate(texts)), encoding="utf-8")
    pq.write_table(pa.table({"id": [0, 1], "text": texts}), tmp_path / "a.parquet")
    for name in ("a.txt", "a.jsonl", "a.csv", "a.parquet"):
        options = {"text_column": "satz"} if name == "a.csv" else {}
        found = predicting(sample_tokenizer_dir, tmp_path / name, labels, **options)
        for number, (line, row) in enumerate(zip(found.splitlines(), expected, strict=True)):
            own = {key: value for key, value in row.items() if key != "text" or name != "a.csv"}
            more = {} if name == "a.txt" else {"id": str(number) if name == "a.csv" else number}
            more |= {"satz": texts[number]} if name == "a.csv" else {}
            assert json.loads(line) == own | more
    columns = predicting(sample_tokenizer_dir, tmp_path / "a.txt", labels, ".conll")
    assert columns == "Anna\tB-PER\nKowalski's\tI-PER\nin\tO\n東\tB-LOC\n京\tI-LOC\n.\tO\n\nEnde\tO\n\n"
    # Words that were given stay as they are; their places are those in all of them with blanks between.
    (tmp_path / "b.jsonl").write_text('{"id": "x", "tokens": ["in", "New York", "."]}\n', encoding="utf-8")
    (row,) = map(json.loads, predicting(sample_tokenizer_dir, tmp_path / "b.jsonl", [["O", "I-LOC", "O"]]).splitlines())
    assert row["prediction"] == ["O", "I-LOC", "O"]
    assert row["entities"] == [{"type": "LOC", "text": "New York", "begin": 3, "end": 11}]
    assert row.keys() == {"id", "tokens", "prediction", "entities"}
    # Columns, as an empty line says; labels of single words are no spans.
    (tmp_path / "c.txt").write_text("in\nRom\n\n", encoding="utf-8")
    found = predicting(sample_tokenizer_dir, tmp_path / "c.txt", [["ADP", "NOUN"]], label_names=["ADP", "NOUN"])
    assert json.loads(found) == {"tokens": ["in", "Rom"], "prediction": ["ADP", "NOUN"]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a", "entities": []}, r"a\.jsonl: has a column 'entities', which the predictions need"),
        ({"satz": "a"}, r"a\.jsonl, line 1: neither words in column 'tokens' nor a text in 'text'"),
        ({"tokens": 1}, r"a\.jsonl, line 1: column 'tokens' is 1; it must be a list"),
    ],
)
def test_rows_without_words_or_with_predictions_are_refused(
    row: dict[str, object], message: str, tmp_path: Path, sample_tokenizer_dir: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    data = TokenLabels(str(sample_tokenizer_dir), predict_path=str(path), predict_language="en", label_names=["A", "B"])
    with pytest.raises(InputError, match=message):
        data.check_output(".jsonl") or data.read("predict", "en", [path])


@given(st.text())
def test_words_of_a_text_are_all_that_is_no_blank(text: str) -> None:
    spans = split_words(text)
    covered = [place for begin, end in spans for place in range(begin, end)]
    assert covered == sorted(set(covered))
    left = {character for place, character in enumerate(text) if place not in set(covered)}
    assert all(unicodedata.category(character)[0] in "ZC" for character in left)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't, U.S-led 1,000.5 km/h?", ["Don't", ",", "U.S-led", "1,000.5", "km", "/", "h", "?"]),
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया", "।"]),
        ("สวัสดี OK", ["ส", "วั", "ส", "ดี", "OK"]),
        ("a,b 3,4", ["a", ",", "b", "3,4"]),
        ("-x- 'a'", ["-", "x", "-", "'", "a", "'"]),
    ],
)
def test_words_of_many_scripts(text: str, words: list[str]) -> None:
    assert [text[begin:end] for begin, end in split_words(text)] == words


WORD = st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), min_size=1, max_size=5)
TAG = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])


@settings(max_examples=150)
@given(
    st.lists(st.lists(st.tuples(WORD, TAG), min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(0, 10**6),
    st.sampled_from(["none", "drop", "double", "byte", "cut"]),
)
def test_a_mutated_file_is_read_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, sentences: list, place: int, mutation: str
) -> None:
    """Against the plainest reading of the same text: every line that is not blank is a word, in its order."""
    text = "\n".join("".join(f"{word}\t{tag}\n" for word, tag in sentence) for sentence in sentences)
    raw = bytearray(text.encode())
    place %= len(raw)
    if mutation == "drop":
        del raw[place]
    elif mutation == "double":
        raw.insert(place, raw[place])
    elif mutation == "byte":
        raw[place] = 0xFF
    elif mutation == "cut":
        del raw[place:]
    path = tmp_path_factory.getbasetemp() / "mutated.tsv"
    path.write_bytes(raw)
    try:
        found = read_columns(path)
    except InputError:
        return
    lines = bytes(raw).decode(found.encoding).removeprefix("\ufeff").split("\n")
    kept = [line.rstrip("\r") for line in lines if line.rstrip("\r").strip(" \t")]
    kept = [line for line in kept if line.split(found.separator)[0].strip(" ") != "-DOCSTART-"]
    words = [columns for sentence in found.sentences for columns in sentence]
    assert len(words) == len(kept)
    assert [columns[-1] for columns in words] == [line.split(found.separator)[-1].strip(" ") for line in kept]


def test_a_blank_alone_is_no_words_first_token(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    """By sentencepiece's own rule it stands before words that running text has no blank before."""
    folder = tmp_path / "raw"
    load_tokenizer(str(sample_tokenizer_dir), segmentation="raw").save_pretrained(folder)
    data, (batch,) = encoded(folder, tmp_path, "鎮 B-X\nHaus O\n區 I-X\n")
    tokens = data.tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
    assert "\u2581" in data.tokenizer.convert_ids_to_tokens(data.tokenizer("鎮", add_special_tokens=False)["input_ids"])
    assert "\u2581" not in tokens
    assert (batch["words"][0] >= 0).sum() == 3
