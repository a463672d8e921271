"""The official CoNLL-2002 files and PAN-X's: words, sentences and entities counted without our reader."""

import re
from collections import Counter
from pathlib import Path

import pytest

from datamodules import CoNLL, TokenLabels

pytestmark = pytest.mark.real_data

# Per type, as the files' own B- tags count them. Each Spanish file has one entity more: an I- behind an empty line.
EXPECTED = {
    "esp.train": (8323, 264715, {"LOC": 4914, "MISC": 2173, "ORG": 7390, "PER": 4321}),
    "esp.testa": (1915, 52923, {"LOC": 985, "MISC": 445, "ORG": 1700, "PER": 1222}),
    "esp.testb": (1517, 51533, {"LOC": 1084, "MISC": 340, "ORG": 1400, "PER": 735}),
    "ned.train": (15806, 202644, {"LOC": 3208, "MISC": 3338, "ORG": 2082, "PER": 4716}),
    "ned.testa": (2895, 37687, {"LOC": 479, "MISC": 748, "ORG": 686, "PER": 703}),
    "ned.testb": (5195, 68875, {"LOC": 774, "MISC": 1187, "ORG": 882, "PER": 1098}),
}


def counted(path: Path) -> tuple[int, int, Counter[str]]:
    """Sentences, words and entities by regular expressions over the raw text."""
    text = re.sub(r"-DOCSTART-.*\n", "\n", path.read_text(encoding="utf-8"))
    sentences = re.findall(r"(?:^\S.*\n)+", text, flags=re.MULTILINE)
    words = sum(sentence.count("\n") for sentence in sentences)
    entities = Counter(re.findall(r"[ \t]B-(\S+)\n", text))
    orphans = re.findall(r"(?:(?:^|[ \t]O)\n|\n\n)\S+.*[ \t]I-(\S+)\n", "\n\n" + text)
    return len(sentences), words, entities + Counter(orphans)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_official_files_are_read_whole(shared: Path, name: str) -> None:
    path = shared / "data" / "conll2002" / name
    assert counted(path) == EXPECTED[name]
    data = CoNLL(str(shared / "tokenizer"), {"es": str(path.parent), "nl": str(path.parent)})
    table = data.read("test", "es", [path])
    words, labels = table.column("words").to_pylist(), table.column("labels").to_pylist()
    assert (len(words), sum(map(len, words))) == EXPECTED[name][:2]
    names = Counter(data.label_names[label] for sentence in labels for label in sentence)
    assert {kind: names[f"B-{kind}"] for kind in ("LOC", "MISC", "ORG", "PER")} == EXPECTED[name][2]
    lines = [
        line.split(" ")[0]
        for line in path.read_text(encoding="utf-8").split("\n")
        if line.strip() and not line.startswith("-DOCSTART-")
    ]
    assert [word for sentence in words for word in sentence] == lines


def test_labels_of_a_real_file_are_found_in_it(shared: Path) -> None:
    path = shared / "data" / "panx" / "dev-zh.tsv"
    data = TokenLabels(str(shared / "tokenizer"), validation_files={"zh": str(path)})
    assert data.label_names == ["O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER"]


def test_every_word_of_a_real_file_is_predicted_once(shared: Path, tmp_path: Path) -> None:
    folder = str(shared / "data" / "conll2002")
    data = CoNLL(
        str(shared / "tokenizer"), {"es": folder}, test_languages=["es"], max_length=48, cache_dir=str(tmp_path)
    )
    data.setup("test")
    seen = Counter()
    for batch in data.test_dataloader()[0]:
        assert batch["input_ids"].shape[1] <= 48
        for sentence, words in zip(batch["sentence"].tolist(), batch["words"], strict=True):
            seen.update((sentence, word) for word in words[words >= 0].tolist())
    assert len(seen) == 51533
    assert set(seen.values()) == {1}
