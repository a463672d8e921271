"""Names of published checkpoints, and the tokenizers of folders that say little about themselves."""

import shutil
from pathlib import Path

import pytest

from ernie_m import ErnieMTokenizer, InputError, load_tokenizer, resolve


def test_short_names_stand_for_hub_ids_and_other_names_for_themselves() -> None:
    assert resolve("ernie-m-base") == "susnato/ernie-m-base_pytorch"
    assert resolve("some/folder") == "some/folder"


def test_two_files_alone_are_ernie_m(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    for name in ("vocab.txt", "sentencepiece.bpe.model"):
        shutil.copy(sample_tokenizer_dir / name, tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    assert isinstance(tokenizer, ErnieMTokenizer)
    assert tokenizer("Insert text").input_ids == load_tokenizer(str(sample_tokenizer_dir))("Insert text").input_ids


def test_other_families_come_as_they_are(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "insert", "text"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', encoding="utf-8")
    tokenizer = load_tokenizer(str(tmp_path))
    assert type(tokenizer).__name__.startswith("BertTokenizer")
    assert tokenizer("insert text").input_ids == [2, 5, 6, 3]


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tokenizer can be loaded .* Give a folder"):
        load_tokenizer(str(tmp_path))
