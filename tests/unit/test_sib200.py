"""SIB-200's bundled sample: what is there, and what is asked for in vain."""

import re
from collections import Counter
from pathlib import Path

import pytest

from datamodules import SIB200
from datamodules.sib200 import BUNDLED, LABELS
from ernie_m import InputError


def test_the_sample_is_whole_and_the_same_in_every_language(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    data = SIB200(str(sample_tokenizer_dir), path="bundled", cache_dir=str(tmp_path))
    data.setup("fit")
    data.setup("test")
    assert [len(data.row_set(split, ["en"])) for split in ("train", "validation")] == [701, 99]
    assert len(BUNDLED) == 20
    labels = {language: data.row_set("test", [language]).all_scalars("labels").tolist() for language in BUNDLED}
    # Counted in the published English file.
    names = [LABELS[label] for label in labels["en"]]
    assert Counter(names) == {
        "science/technology": 51, "travel": 40, "politics": 30, "sports": 25, "health": 22, "entertainment": 19,
        "geography": 17,
    }  # fmt: skip
    assert all(found == labels["en"] for found in labels.values())


def test_a_language_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    data = SIB200(str(sample_tokenizer_dir), path="bundled", cache_dir=str(tmp_path), test_languages=["fao_Latn"])
    with pytest.raises(InputError, match=re.escape("such a file is there for arb_Arab, bul_Cyrl,")):
        data.setup("test")
    with pytest.raises(InputError, match="test_languages names a language twice"):
        SIB200(str(sample_tokenizer_dir), path="bundled", test_languages=["en", "en"])
