"""Texts and pairs to pre-train on: nothing lost, nothing in two splits, batches as they are planned."""

import gzip
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from pyarrow import parquet

from datamodules import Multilingual
from datamodules.mixture import MixtureSampler
from datamodules.packing import packed, sentence_ends, token_kinds
from ernie_m import load_tokenizer
from ernie_m.errors import InputError
from lightning_modules import Pretraining

WORDS = (("dialog", "Fenster"), ("menu", "Menü"), ("button", "Feld"))
ENGLISH = [f"The {word} opens the file number {number}." for number in range(20) for word, _ in WORDS]
GERMAN = [f"Das {word} öffnet die Datei Nummer {number}." for number in range(20) for _, word in WORDS]
PAIRS = list(zip(ENGLISH, GERMAN, strict=True))


@pytest.fixture
def make(tmp_path: Path, sample_tokenizer_dir: Path) -> Any:
    """Makes data of texts in two languages and of pairs of them."""
    (tmp_path / "en.txt").write_text("\n".join(ENGLISH) + "\n", encoding="utf-8")
    (tmp_path / "de.txt.gz").write_bytes(gzip.compress("\n".join(GERMAN).encode()))
    (tmp_path / "en-de.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS), encoding="utf-8")

    def made(**changes: Any) -> Multilingual:
        arguments: dict[str, Any] = {
            "train_files": {"en": str(tmp_path / "en.txt"), "de": str(tmp_path / "de.txt.gz")},
            "train_pairs": {"en-de": str(tmp_path / "en-de.tsv")},
            "max_length": 48,
            "global_batch_size": 8,
            "cache_dir": str(tmp_path / "cache"),
        }
        return Multilingual(str(sample_tokenizer_dir), **arguments | changes)

    return made


def loaded(data: Multilingual, split: str = "train") -> dict[str, list[list[int]]]:
    """The rows of each language."""
    data.load(split, download=True)
    return {
        language: data.row_set(split, [language])._dataset[:].column("input_ids").to_pylist()
        for language in data.split_languages(split)
    }


def texts(data: Multilingual, rows: list[list[int]]) -> str:
    return data.tokenizer.decode([i for row in rows for i in row], skip_special_tokens=True)


def test_lines_are_packed_and_pairs_are_joined(make) -> None:
    data = make()
    rows = loaded(data)
    tokenizer = data.tokenizer
    for language, lines in (("en", ENGLISH), ("de", GERMAN)):
        assert len(rows[language]) < len(lines) / 2
        ids = [i for row in rows[language] for i in row[1:]]
        assert ids == [i for line in lines for i in [*tokenizer(line, add_special_tokens=False)["input_ids"], 2]]
        assert all(row[0] == 0 and len(row) <= 48 for row in rows[language])
    assert rows["en-de"] == [tokenizer(a, b)["input_ids"] for a, b in PAIRS]
    single = loaded(make(pack=False))
    assert single["en"] == [tokenizer(line)["input_ids"] for line in ENGLISH]
    (batch,) = list(make_loader(data, "en-de"))[:1]
    second = batch["input_ids"].gather(1, batch["target_start"][:, None] - 1)
    assert second.flatten().tolist() == [2] * len(second)
    first = tokenizer(PAIRS[0][0])["input_ids"]
    assert len(first) in batch["target_start"].tolist()


def make_loader(data: Multilingual, language: str) -> Any:
    data._files["test"] = {language: data._files["train"][language]}
    data.load("test", download=True)
    (loader,) = data.test_dataloader()
    return loader


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(5, 99), min_size=1, max_size=40), max_size=20), st.integers(4, 30))
def test_packing_loses_nothing(lines: list[list[int]], longest: int) -> None:
    rows = list(packed(lines, 0, 2, longest))
    assert [i for row in rows for i in row if i not in (0, 2)] == [i for line in lines for i in line]
    assert all(row[0] == 0 and row[-1] == 2 and len(row) <= longest for row in rows)
    # Where no line is spread over several rows, no two rows would have had room in one.
    if all(len(line) <= longest - 2 for line in lines):
        assert all(len(row) + row_after.index(2) > longest for row, row_after in pairwise(rows))


def test_what_begins_a_word(sample_tokenizer_dir: Path) -> None:
    tokenizer = load_tokenizer(str(sample_tokenizer_dir), False)
    kinds = dict(zip(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))), token_kinds(tokenizer), strict=True))
    assert [kinds[token] for token in ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")] == [0] * 5
    words = MagicMock(all_special_ids=[0])
    words.__len__.return_value = 5
    words.convert_ids_to_tokens.return_value = ["[CLS]", "Th", "##e", ".", "的"]
    assert token_kinds(words).tolist() == [0, 2, 1, 2, 2]
    assert (kinds["▁the"], kinds["ing"], kinds["."], kinds["的"], kinds["1"]) == (2, 1, 2, 2, 2)


def test_a_pair_that_is_too_long_is_cut_at_the_end_of_a_sentence(make, tmp_path: Path, caplog) -> None:
    source = [f"Opens the dialog number {number}." for number in range(9)]
    target = [f"Öffnet den Dialog Nummer {number}!" for number in range(9)]
    word = "Donaudampfschifffahrtsgesellschaft " * 9
    rows = [(" ".join(source), " ".join(target)), ("Short.", "Kurz."), ("One sentence", word), (word * 3, word)]
    (tmp_path / "long.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")
    data = make(train_files=None, train_pairs={"en-de": str(tmp_path / "long.tsv")})
    found = loaded(data)["en-de"]
    assert "(3 of 4 pairs were longer than max_length 48 and are cut)" in data.fingerprints()["train/en-de"]
    row = found[0]
    middle = row.index(2)
    count = texts(data, [row[:middle]]).count("dialog")
    assert 1 < count < 9
    assert row == data.tokenizer(" ".join(source[:count]) + " ", " ".join(target[:count]) + " ")["input_ids"]
    # One sentence more would not have fitted.
    assert len(data.tokenizer(" ".join(source[: count + 1]), " ".join(target[: count + 1]))["input_ids"]) > 48
    assert found[2][: found[2].index(2)] == data.tokenizer("One sentence")["input_ids"][:-1]
    assert len(found[2]) == len(found[3]) == 48


def test_ends_of_sentences() -> None:
    assert sentence_ends("One. Two! Three? Four") == [5, 10, 17]
    assert sentence_ends("他来了。她走了。") == [4]
    assert sentence_ends('He said "no." Then he left.') == [14]
    assert sentence_ends("Version 3.14 is at www.a.com for 2.50 €") == []
    assert sentence_ends("यह है। वह है।") == [7]
    assert sentence_ends("") == []
    assert sentence_ends('One... "Two!?" Three') == [7, 15]
    # In time that grows with the length alone: with its square, these would take hours.
    assert sentence_ends("." * 400_000 + "x") == []
    assert sentence_ends("." + '"' * 400_000 + "x") == []


def test_what_is_held_out_is_told_by_the_text(make, tmp_path: Path) -> None:
    """Together all of it, none of it twice, also where a text stands twice or a file is in another order."""
    data = make(held_out=0.2, pack=False)
    train, held_out = loaded(data), loaded(data, "validation")
    for language, whole in loaded(make(pack=False)).items():
        assert sorted(train[language] + held_out[language]) == sorted(whole)
        assert 0 < len(held_out[language]) < len(whole) / 2
    (tmp_path / "twice.txt").write_text("\n".join([*ENGLISH[::-1], *ENGLISH]), encoding="utf-8")
    twice = make(held_out=0.2, pack=False, train_files={"en": str(tmp_path / "twice.txt")}, train_pairs=None)
    assert sorted(loaded(twice, "validation")["en"]) == sorted(held_out["en"] * 2)
    given = Multilingual.from_dataset_dicts(
        {"en": {"train": Dataset.from_dict({"text": ENGLISH})}}, data.tokenizer_name, held_out=0.2, pack=False,
        max_length=48, cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    assert loaded(given, "validation")["en"] == held_out["en"]
    own = make(held_out=0.2, validation_files={"en": str(tmp_path / "en.txt")}, pack=False)
    assert len(loaded(own, "validation")["en"]) == len(loaded(own)["en"]) == len(ENGLISH)


def test_only_the_first_lines_and_columns_by_their_number(make, tmp_path: Path) -> None:
    whole = loaded(make(pack=False))
    for held_out in (0.0, 0.2):
        data = make(pack=False, max_lines=20, held_out=held_out)
        rows = loaded(data)
        for language, found in rows.items():
            assert sorted(found + (loaded(data, "validation")[language] if held_out else [])) == sorted(
                whole[language][:20]
            )
    # The same file to validate on has another number of lines, although the rows of both are kept.
    apart = make(pack=False, max_lines=20, validation_files={"en": str(tmp_path / "en.txt")}, train_pairs=None)
    assert [len(loaded(apart, split)["en"]) for split in ("train", "validation", "train")] == [20, 60, 20]
    pairs = str(tmp_path / "en-de.tsv")
    by_number = {"train_files": {"en": pairs, "de": pairs}, "text_column": {"en": 1, "de": 2}, "pack": False}
    assert loaded(make(**by_number)) == whole
    assert loaded(make(train_files={"de": pairs}, text_column="2", pack=False))["de"] == whole["de"]
    with pytest.raises(InputError, match="no column '3'; it has '1', '2'"):
        loaded(make(**by_number | {"text_column": 3}))
    with pytest.raises(InputError, match="text_column names no column for 'de'"):
        make(**by_number | {"text_column": {"en": 1}})


def test_all_formats_give_the_same_rows(make, tmp_path: Path) -> None:
    table = pa.table({"text": ENGLISH, "translation": [{"en": a, "de": b} for a, b in PAIRS]})
    (tmp_path / "hub" / "en").mkdir(parents=True)
    parquet.write_table(table, tmp_path / "hub" / "en" / "train-00000-of-00001.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist())
    (tmp_path / "rows.jsonl").write_text(lines, encoding="utf-8")
    expected = {name: rows for name, rows in loaded(make()).items() if name != "de"}
    columns = {"source_column": "translation.{source}", "target_column": "translation.{target}"}
    file = str(tmp_path / "rows.jsonl")
    assert loaded(make(train_files={"en": file}, train_pairs={"en-de": file}, **columns)) == expected
    hub = {"path": str(tmp_path / "hub"), "train_files": {"en": "en/train-*.parquet"}}
    assert loaded(make(**hub, train_pairs={"en-de": "en/train-*.parquet"}, **columns)) == expected
    named = {"name": "default", "data_dir": "en"}
    hub |= {"train_files": {"en": named}, "train_pairs": {"en-de": named}}
    assert loaded(make(**hub, **columns)) == expected
    streamed = make(**hub, **columns, streaming=True)
    assert loaded(streamed) == expected
    assert loaded(make(**hub, **columns, streaming=True)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the train split of 'en-de' is empty"),
        ("one\ttwo\nthree\n", "line 2: 1 fields where 2 are expected"),
        (b"one\ttwo\n\x80\x81\xfe\tfour\n", "line 2, byte 8: 0x80 is not UTF-8"),
    ],
)
def test_pairs_that_cannot_be_read(make, tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "bad.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        loaded(make(train_files=None, train_pairs={"en-de": str(tmp_path / "bad.tsv")}))


def test_texts_that_cannot_be_read(make, tmp_path: Path, caplog) -> None:
    (tmp_path / "junk.txt").write_bytes(b"fine\n" + bytes(range(256)) * 10)
    with pytest.raises(InputError, match=r"junk.txt, line \d+, byte \d+: 0x80 is not UTF-8"):
        loaded(make(train_files={"en": str(tmp_path / "junk.txt")}, train_pairs=None))
    assert not list((tmp_path / "cache").glob("*"))
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"text\n" * 999)[:30])
    with pytest.raises(InputError, match=r"cut.txt.gz is not a whole gzip file"):
        loaded(make(train_files={"en": str(tmp_path / "cut.txt.gz")}, train_pairs=None))
    (tmp_path / "blank.txt").write_text("one\n\n  \ntwo\n", encoding="utf-8")
    with caplog.at_level("INFO"):
        found = loaded(make(train_files={"en": str(tmp_path / "blank.txt")}, train_pairs=None, pack=False))
    assert len(found["en"]) == 2
    assert "train/en: 2 lines without text are skipped" in caplog.text
    (tmp_path / "marks.txt").write_text("hello [MASK] there [SEP] and [PAD]\n\u200b\n", encoding="utf-8")
    (row,) = loaded(make(train_files={"en": str(tmp_path / "marks.txt")}, train_pairs=None))["en"]
    assert [i for i in row if i in (0, 1, 2, 8001)] == [0, 2]
    with pytest.raises(InputError, match=r"en.txt: cannot tell its format"):
        loaded(make(train_files=None, train_pairs={"en-de": str(tmp_path / "en.txt")}))


def test_a_language_with_one_sentence_is_trained_on_and_not_validated(make, tmp_path: Path) -> None:
    (tmp_path / "sw.txt").write_text("Habari ya leo.\n", encoding="utf-8")
    files = {"en": str(tmp_path / "en.txt"), "sw": str(tmp_path / "sw.txt")}
    data = make(train_files=files, held_out=0.2)
    with pytest.warns(UserWarning, match="the validation split of 'sw' is empty; it is left out"):
        held_out = loaded(data, "validation")
    assert list(held_out) == ["en", "en-de"]
    assert len(loaded(data)["sw"]) == 1
    assert data.train_languages == ["en", "sw", "en-de"]
    # What is validated on by its own files must be there.
    (tmp_path / "none.txt").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="the validation split of 'en' is empty"):
        loaded(make(train_files=files, held_out=0.2, validation_files={"en": str(tmp_path / "none.txt")}), "validation")
    all_held_out = make(train_files={"sw": str(tmp_path / "sw.txt")}, train_pairs=None, held_out=0.999)
    with (
        pytest.warns(UserWarning, match="sw: all 1 texts are held out for validation"),
        pytest.raises(InputError, match="the train split of 'sw' is empty"),
    ):
        loaded(all_held_out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": 1.0}, "held_out is 1.0; it must lie between 0 and 1"),
        ({"alpha": -1.0}, "alpha is -1.0"),
        ({"train_files": {"zh-CN": "x"}}, "train_files names 'zh-CN'; a language of texts has no '-'"),
        ({"train_pairs": {"de": "x"}}, "train_pairs names 'de'; a pair is two languages"),
        ({"source_column": "a"}, "name both, or neither"),
        ({"predict_path": "a.txt"}, "A pre-training predicts no file"),
    ],
)
def test_options_that_cannot_be_meant(make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**changes)


def sampler(
    sizes: list[int], is_pair: list[bool], rank: int = 0, world_size: int = 1, **changes: Any
) -> MixtureSampler:
    lengths = np.random.default_rng(0).integers(3, 60, sum(sizes))
    part_of = np.repeat(np.arange(len(sizes)), sizes)
    arguments = {"part_of": part_of, "is_pair": is_pair, "pair_share": 0.5, "alpha": 0.5} | changes
    return MixtureSampler(lengths, 8, None, 1, rank, world_size, **arguments)


def test_batches_have_the_shares_that_were_asked_for() -> None:
    sizes, is_pair = [900, 100, 4, 400, 100], [False, False, False, True, True]
    plan = sampler(sizes, is_pair, pair_share=0.25)
    part_of = np.repeat(np.arange(5), sizes)
    seen: Counter[int] = Counter()
    for epoch in range(8):
        batches = plan.global_batches(epoch)
        assert len(batches) == len(plan) == 1504 // 8
        for batch in batches:
            assert len(batch) == 8
            assert sum(part_of[batch] >= 3) == 2
            assert (np.diff(plan.lengths[batch]) >= 0).all()
        seen.update(np.concatenate(batches).tolist())
    drawn = np.bincount(part_of[np.asarray(list(seen.elements()))])
    for parts in ([0, 1, 2], [3, 4]):
        wanted = np.sqrt(np.asarray(sizes)[parts])
        np.testing.assert_allclose(drawn[parts] / drawn[parts].sum(), wanted / wanted.sum(), rtol=0.01)
    # A language goes through all of its rows before any of them comes again.
    for part, start in enumerate(np.cumsum([0, *sizes[:-1]])):
        times = [seen[row] for row in range(start, start + sizes[part])]
        assert max(times) - min(times) <= 1


def test_one_kind_alone_and_a_batch_without_room() -> None:
    assert sum(map(len, sampler([50, 30], [True, True]).global_batches(0))) == 80
    assert len(sampler([3], [False]).global_batches(5)) == 1
    with pytest.raises(InputError, match=r"8 rows with a pair_share of 0.01 has 0 pairs"):
        sampler([50, 30], [False, True], pair_share=0.01)


def test_the_order_does_not_depend_on_the_processes() -> None:
    sizes, is_pair = [90, 10, 40], [False, False, True]
    whole = list(sampler(sizes, is_pair))
    shares = [list(sampler(sizes, is_pair, rank, 2)) for rank in range(2)]
    for step, batches in enumerate(zip(*shares, strict=True)):
        rows = sorted(row for (micro,) in batches for row in micro.indices.tolist())
        assert rows == sorted(whole[step][0].indices.tolist())
    state = sampler(sizes, is_pair).state_dict()
    with pytest.raises(InputError, match="plan was"):
        sampler(sizes, is_pair, alpha=1.0).load_state_dict(state)


def test_a_training_goes_on_to_the_bit(make, tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    """Stopped in the middle of an epoch: the same weights at the end, whatever was hidden and made up on the way."""

    def trained(name: str, start: Path | None) -> dict[str, Any]:
        seed_everything(1, verbose=False)
        module = Pretraining(
            str(sample_tokenizer_dir),
            from_scratch={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
            | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
            shares={"mmlm": 0.5, "btmlm": 0.5, "tlm": 0.5, "camlm": 0.5},
            language_embeddings=True,
            learning_rate=1e-2,
            layer_decay=1.0,
        )
        keep = ModelCheckpoint(tmp_path / name, filename="{step}", save_top_k=-1, every_n_train_steps=4)
        trainer = Trainer(
            max_steps=12, accelerator="cpu", logger=False, callbacks=[keep], enable_progress_bar=False,
            enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, datamodule=make(held_out=0.2, max_length=24), ckpt_path=start, weights_only=True)
        return {name: values.clone() for name, values in module.state_dict().items()}

    whole = trained("whole", None)
    again = trained("again", tmp_path / "whole" / "step=8.ckpt")
    assert whole.keys() == again.keys()
    assert all(whole[name].equal(again[name]) for name in whole)
    assert whole["language_embeddings.weight"].any()
    module = Pretraining.load_from_checkpoint(tmp_path / "again" / "step=12.ckpt")
    assert module.language_embeddings.weight.equal(again["language_embeddings.weight"])
    assert module.token_languages == ["en", "de"]
    further = Pretraining(
        str(sample_tokenizer_dir),
        from_scratch={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
        init_from=str(tmp_path / "again" / "step=12.ckpt"),
        shares={"btmlm": 1.0},
        language_embeddings=True,
    )
    further.languages = ["fr", "de"]
    further.read_vocabulary(make())
    further.configure_model()
    assert not further.language_embeddings.weight[0].any()
    assert further.language_embeddings.weight[1].equal(again["language_embeddings.weight"][1])
    assert further.network.lm_head.bias.equal(again["network.lm_head.bias"])
