"""Names of published checkpoints, and the tokenizers of folders that say little about themselves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast, dynamic_module_utils

from ernie_m import ErnieMTokenizer, InputError, load_tokenizer, resolve
from ernie_m.published import refusing_code


def test_every_name_stands_for_a_folder(of_the_hub: Callable[[str, Path], Path], tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.json").touch()
    assert resolve(str(tmp_path / "own")) == str(tmp_path / "own")
    snapshot = of_the_hub("susnato/ernie-m-base_pytorch", tmp_path / "own")
    assert resolve("ernie-m-base") == str(snapshot)
    snapshot.with_name("b" * 40).mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("b" * 40, encoding="utf-8")
    assert resolve("ernie-m-base") == str(snapshot), "one commit in all of the process"
    for name, said in (
        ("someone/nothing", "the Hub did not give it .*HF_HUB_OFFLINE=1 only what"),
        ("./missing", "no such folder$"),
        (str(tmp_path / "own" / "config.json"), "is a file; give the folder"),
    ):
        with pytest.raises(InputError, match=said):
            resolve(name)
    (snapshot / "own.txt").symlink_to(tmp_path / "own" / "config.json")
    with pytest.raises(InputError, match=r"own\.txt is a link out of"):
        resolve("ernie-m-base", weights=False)


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


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pair_separators": 1.0}, r"pair_separators=1\.0 is neither"),
        ({"segmentation": []}, r"segmentation=\[\] is none of"),
        ({"split_special_tokens": []}, r"split_special_tokens=\[\] is neither true nor false"),
        ({"num_threads": 10**12}, "num_threads=1000000000000 is no number from 1 to"),
        ({"model_input_names": ["x"]}, r"model_input_names \['x'\], without 'input_ids'"),
        ({"added_tokens_decoder": {"-5": {"content": "x"}}}, "added_tokens_decoder has the id -5"),
        ({"added_tokens_decoder": {"99999": {"content": "x"}}}, "added_tokens_decoder has the id 99999"),
        ({"added_tokens_decoder": {"a": {"content": "x"}}}, "no tokenizer can be loaded"),
        ({"model_max_length": [1]}, "no tokenizer can be loaded|not a tokenizer with a length"),
    ],
)
def test_settings_of_a_wrong_kind_are_refused(
    settings: dict[str, Any], said: str, tmp_path: Path, sample_tokenizer_dir: Path
) -> None:
    folder = Path(shutil.copytree(sample_tokenizer_dir, tmp_path / "tokenizer"))
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **settings}), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        load_tokenizer(str(folder))


def test_a_token_for_unknown_text_that_has_no_id_is_refused(tmp_path: Path) -> None:
    words = {word: number for number, word in enumerate(["[PAD]", "a", "b", "c", "d"])}
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="[UNK]"))).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no tokenizer can be loaded .*UNK"):
        load_tokenizer(str(tmp_path))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tokenizer can be loaded .* Give a folder"):
        load_tokenizer(str(tmp_path))


def test_transformers_refuses_where_it_would_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks where `trust_remote_code` was lost on the way; at a terminal a "y" runs the code."""
    monkeypatch.setattr("builtins.input", lambda text: "y")
    settings = {"auto_map": {"AutoTokenizer": ["code.C", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (tmp_path / "code.py").write_text("raise AssertionError('it ran')")
    with pytest.raises(InputError, match="no tokenizer can be loaded"):
        load_tokenizer(str(tmp_path))
    with refusing_code(), pytest.raises(ValueError, match="requires you to execute"):
        AutoTokenizer.from_pretrained(tmp_path)
    assert dynamic_module_utils.TIME_OUT_REMOTE_CODE > 0


@pytest.mark.parametrize("key", ["init_kwargs", "files_loaded", "_auto_class", "sp_model"])
def test_a_part_of_a_tokenizer_is_no_setting(key: str, tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    """Saving the tokenizer would write it: the place that it was loaded from, for one."""
    folder = Path(shutil.copytree(sample_tokenizer_dir, tmp_path / "tokenizer"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {key: None}), encoding="utf-8")
    with pytest.raises(InputError, match=f"has a value for '{key}', which is no setting"):
        load_tokenizer(str(folder))
    written = load_tokenizer(str(sample_tokenizer_dir))
    written.save_pretrained(folder)
    assert load_tokenizer(str(folder)).get_vocab() == written.get_vocab()
