"""A trimmed vocabulary: the same tokens and outputs for the texts it was chosen by, sensible ones for others."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import sentencepiece
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForMaskedLM, AutoTokenizer

from ernie_m import ErnieMConfig, ErnieMForMaskedLM, ErnieMModel, ErnieMTokenizer
from ernie_m.errors import InputError
from ernie_m.trimming import Selection, keep_pieces, select, trim_tokenizer
from ernie_m_recipes.__main__ import main
from ernie_m_recipes.trim import lines_of

TEXTS = [
    "Opens a dialog where you can convert the current table to text.",
    "All human beings are born free and equal in dignity and rights, in 1948 and 2026.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "所有人在尊严和权利上一律平等。",
]


@pytest.fixture(scope="module")
def whole(sample_tokenizer_dir: Path) -> ErnieMTokenizer:
    return ErnieMTokenizer.from_pretrained(sample_tokenizer_dir)


@pytest.fixture(scope="module")
def selection(whole: ErnieMTokenizer) -> Selection:
    return select(whole, TEXTS)


@pytest.fixture(scope="module")
def trimmed(whole: ErnieMTokenizer, selection: Selection, tmp_path_factory: pytest.TempPathFactory) -> ErnieMTokenizer:
    return trim_tokenizer(whole, selection, tmp_path_factory.mktemp("trimmed"))


def test_its_texts_keep_their_tokens(whole: ErnieMTokenizer, trimmed: ErnieMTokenizer, selection: Selection) -> None:
    assert len(trimmed) == len(selection.ids) < len(whole) / 4
    pairs = (TEXTS, TEXTS[::-1])
    expected, found = whole(*pairs)["input_ids"], trimmed(*pairs)["input_ids"]
    assert [[selection.ids[i] for i in row] for row in found] == expected
    for text in TEXTS:
        assert trimmed.tokenize(text) == whole.tokenize(text)
        assert trimmed.decode(trimmed(text)["input_ids"]) == whole.decode(whole(text)["input_ids"])
    names = ("cls_token_id", "pad_token_id", "sep_token_id", "unk_token_id")
    assert [getattr(trimmed, name) for name in names] == [getattr(whole, name) for name in names] == [0, 1, 2, 3]
    assert trimmed.mask_token_id == len(trimmed) - 1


@pytest.mark.parametrize("options", [{"do_lower_case": True}, {"segmentation": "raw"}, {"segmentation": "paddle"}])
def test_its_texts_keep_their_tokens_under_every_setting(
    options: dict, sample_tokenizer_dir: Path, tmp_path: Path
) -> None:
    whole = ErnieMTokenizer.from_pretrained(sample_tokenizer_dir, **options)
    texts = [*TEXTS, "OPENS THE TABLE[SEP]Menschen"]
    selection = select(whole, texts)
    trimmed = trim_tokenizer(whole, selection, tmp_path)
    found = [[selection.ids[i] for i in row] for row in trimmed(texts)["input_ids"]]
    assert found == whole(texts)["input_ids"]


def test_other_words_of_the_same_letters_are_cut_smaller(whole: ErnieMTokenizer, trimmed: ErnieMTokenizer) -> None:
    text = "Under no circumstances did the librarian forget her keys"
    assert trimmed.unk_token_id not in trimmed(text)["input_ids"]
    assert len(trimmed.tokenize(text)) > len(whole.tokenize(text))
    assert "".join(trimmed.tokenize(text)).replace("▁", " ").strip() == text


def test_characters_that_were_not_kept_are_unknown(trimmed: ErnieMTokenizer) -> None:
    assert trimmed.unk_token_id in trimmed("свобода")["input_ids"]


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_has_ids_of_the_trimmed_vocabulary(trimmed: ErnieMTokenizer, text: str) -> None:
    encoding = trimmed(text, return_offsets_mapping=True)
    assert all(0 <= i < len(trimmed) for i in encoding["input_ids"])
    ends = [end for _, end in encoding["offset_mapping"]]
    assert max(ends) <= len(text)


def test_a_model_keeps_its_normalisation_and_scores(whole: ErnieMTokenizer, selection: Selection) -> None:
    model = sentencepiece.SentencePieceProcessor()
    model.LoadFromSerializedProto(keep_pieces(whole.sp_model.serialized_model_proto(), set(selection.pieces)))
    assert model.GetPieceSize() == len(selection.pieces)
    for new, old in enumerate(selection.pieces):
        assert model.IdToPiece(new) == whole.sp_model.IdToPiece(old)
        assert model.GetScore(new) == whole.sp_model.GetScore(old)
    assert model.Normalize("ﬁne  ２０") == whole.sp_model.Normalize("ﬁne  ２０")


def save_all(folder: Path, network: torch.nn.Module, tokenizer: ErnieMTokenizer) -> Path:
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_command_makes_a_folder_with_the_same_outputs(
    whole: ErnieMTokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    network = ErnieMForMaskedLM(ErnieMConfig(vocab_size=len(whole), **sizes)).eval()
    with torch.no_grad():
        network.lm_head.bias.normal_()
    source, target = save_all(tmp_path / "source", network, whole), tmp_path / "target"
    (tmp_path / "a.txt").write_text("\n".join(TEXTS[:2]) + "\n\n", encoding="utf-8")
    with gzip.open(tmp_path / "b.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(TEXTS[2:]))
    words = ["trim", str(source), str(target), "--text", str(tmp_path / "a.txt"), str(tmp_path / "b.txt.gz")]
    assert main(words) == 0
    ids = select(whole, TEXTS).ids
    unknown = sum(row.count(whole.unk_token_id) for row in whole(TEXTS)["input_ids"])
    said = f"{len(ids):,} of {len(whole):,} tokens kept, by 4 texts ({unknown} tokens unknown)"
    assert said in capsys.readouterr().out
    small, tokenizer = AutoModelForMaskedLM.from_pretrained(target).eval(), AutoTokenizer.from_pretrained(target)
    assert small.config.vocab_size == len(ids) == len(tokenizer)
    batch = whole(TEXTS, padding=True, return_tensors="pt")
    trimmed_batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected, found = network(**batch).logits, small(**trimmed_batch).logits
    torch.testing.assert_close(found, expected[:, :, ids], rtol=0, atol=1e-6)
    assert (target / "model.safetensors").stat().st_size < (source / "model.safetensors").stat().st_size / 3
    assert main(words) == 2
    assert "exists" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*partial"))


def test_what_cannot_be_trimmed_is_said(whole: ErnieMTokenizer, tmp_path: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(InputError, match="no texts"):
        select(whole, [])
    added = ErnieMTokenizer.from_pretrained(tiny_checkpoint)
    added.add_tokens(["<new>"])
    with pytest.raises(InputError, match="1 added tokens"):
        select(added, TEXTS)


def test_bad_input_is_named(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes("Würde".encode("latin-1"))
    for text, said in ((latin, "not UTF-8"), (tmp_path / "absent.txt", "absent.txt does not exist")):
        assert main(["trim", str(tiny_checkpoint), str(tmp_path / "out"), "--text", str(text)]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert main(["trim", str(tiny_checkpoint), str(tmp_path / "out"), "--languages", "de"]) == 2
    assert "has no recipe.yaml" in capsys.readouterr().err


def test_a_byte_order_mark_is_no_character_and_a_cut_file_is_named(tmp_path: Path) -> None:
    marked, cut = tmp_path / "marked.txt", tmp_path / "cut.txt.gz"
    marked.write_bytes("\ufeffWürde\r\n \n\nRechte".encode())
    assert list(lines_of([marked])) == ["Würde", "Rechte"]
    cut.write_bytes(gzip.compress(b"Rechte\n" * 100)[:-9])
    with pytest.raises(InputError, match=r"cut\.txt\.gz is not a whole gzip file"):
        list(lines_of([cut]))


def test_a_damaged_sentencepiece_model_is_said_to_be_one(whole: ErnieMTokenizer) -> None:
    model = whole.sp_model.serialized_model_proto()
    every = set(range(whole.sp_model.GetPieceSize()))
    unknown = b"\xf8\x07\x01" + b"\xf9\x07" + b"x" * 8 + b"\xfd\x07" + b"x" * 4
    assert keep_pieces(model + unknown, every) == keep_pieces(model, every) + unknown
    for damaged in (model[:-3], model + b"\x0a", model + b"\x0a" + b"\xff" * 20, model + b"\x0b", model + b"\xfd\x07x"):
        with pytest.raises(InputError, match="the sentencepiece model is damaged"):
            keep_pieces(damaged, every)


def test_a_run_without_an_export_is_told_to_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "1-run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").touch()
    words = ["trim", str(run), str(tmp_path / "out"), "--languages", "de"]
    assert main(words) == 2
    assert f"{run} has no export and no checkpoint to make one from" in capsys.readouterr().err
    (run / "checkpoints" / "last.ckpt").touch()
    assert main(words) == 2
    assert f"{run} has no export; `ernie-m export {run} FOLDER` writes one" in capsys.readouterr().err


def test_a_trimmed_folder_says_from_what(tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny_checkpoint, source)
    card = "---\nlicense: x\n---\n\n# Title\n\nText.\n\n## Scores, in percent\n\n| de | 50 |\n"
    (source / "README.md").write_text(card, encoding="utf-8")
    (source / "export.json").write_text('{"results": {"test": 1}}', encoding="utf-8")
    for number, texts in enumerate((TEXTS, TEXTS[:2]), start=1):
        (tmp_path / f"{number}.txt").write_text("\n".join(texts), encoding="utf-8")
    once, twice = tmp_path / "once", tmp_path / "twice"
    assert main(["trim", str(source), str(once), "--text", str(tmp_path / "1.txt")]) == 0
    assert main(["trim", str(once), str(twice), "--text", str(tmp_path / "2.txt")]) == 0
    sizes = [len(AutoTokenizer.from_pretrained(folder)) for folder in (source, once, twice)]
    facts = json.loads((twice / "export.json").read_text(encoding="utf-8"))
    assert facts == {"results": {"test": 1}, "trimmed": [
        {"from": "source", "files": ["1.txt"], "texts": 4, "tokens": sizes[1], "tokens_before": sizes[0]},
        {"from": "once", "files": ["2.txt"], "texts": 2, "tokens": sizes[2], "tokens_before": sizes[1]},
    ]}  # fmt: skip
    front, body = card.split("## ")
    written = (once / "README.md").read_text(encoding="utf-8")
    assert written.startswith(front)
    assert written.endswith(f"## {body}")
    said = f"from `source` to the vocabulary of 4 texts (files: 1.txt): {sizes[1]:,} of {sizes[0]:,} tokens."
    assert said in written
    assert "scores given here are those of the whole vocabulary" in written.lower()
    again = (twice / "README.md").read_text(encoding="utf-8")
    assert again.index("`source`") < again.index("`once`") < again.index("## Scores")


def test_an_encoder_is_trimmed_too(tiny_checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(TEXTS), encoding="utf-8")
    assert main(["trim", str(tiny_checkpoint), str(tmp_path / "out"), "--text", str(text)]) == 0
    assert len(ErnieMModel.from_pretrained(tmp_path / "out").embeddings.word_embeddings.weight) < 4000
