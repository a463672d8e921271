"""Data modules on small files of one's own: what comes out, and what is kept on disk."""

import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from transformers import AutoTokenizer

import datamodules
import datamodules.sources
from datamodules import XNLI, ParallelText, TextClassification
from ernie_m.errors import InputError

LABELS = ["entailment", "neutral", "contradiction"]
ROOT = Path(__file__).resolve().parents[2]


def pairs(count: int, language: str = "en") -> list[dict[str, object]]:
    return [
        {
            "premise": f"{language} premise {i} " + "and so on " * (i * 7 % 11),
            "hypothesis": f"hypothesis {i}",
            "label": i % 3,
        }
        for i in range(count)
    ]


def write_xnli(folder: Path, present: dict[str, list[str]], rows: int = 10) -> Path:
    """A folder of the Hub's layout, with the label names where `datasets` puts them."""
    features = {"label": {"names": LABELS, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    for split, languages in present.items():
        for language in languages:
            (folder / language).mkdir(parents=True, exist_ok=True)
            table = pa.Table.from_pylist(pairs(rows, f"{split} {language}")).replace_schema_metadata(metadata)
            pq.write_table(table, folder / language / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture
def tokenizer_name(sample_tokenizer_dir) -> str:
    return str(sample_tokenizer_dir)


@pytest.fixture
def cache(tmp_path) -> str:
    return str(tmp_path / "cache")


def ready(data, *stages):
    data.prepare_data()
    for stage in stages or ("fit",):
        data.setup(stage)
    return data


def rows_of(loader) -> dict[int, dict[str, object]]:
    """Example id to its unpadded ids, label and language; every example once."""
    rows = {}
    for batch in loader:
        for i, example in enumerate(batch["example_ids"].tolist()):
            assert batch["weights"][i] == 1
            assert example not in rows
            ids = batch["input_ids"][i][batch["attention_mask"][i].bool()].tolist()
            rows[example] = {"ids": ids, "label": int(batch["labels"][i]), "language": int(batch["language"][i])}
    return rows


def test_batches_hold_what_the_tokenizer_gives(tmp_path, tokenizer_name, cache):
    rows = pairs(40)
    path = tmp_path / "en.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    files = {"en": str(path)}
    data = TextClassification(
        tokenizer_name, files, files, label_names=LABELS, max_length=24, global_batch_size=8, cache_dir=cache
    )
    ready(data)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_name)
    (loader,) = data.val_dataloader()
    found = rows_of(loader)
    assert sorted(found) == list(range(40))
    for i, row in enumerate(rows):
        expected = tokenizer(row["premise"], row["hypothesis"], truncation="longest_first", max_length=24)["input_ids"]
        assert found[i] == {"ids": expected, "label": row["label"], "language": 0}
    assert max(len(row["ids"]) for row in found.values()) == 24

    steps = list(data.train_dataloader())
    assert [len(step) for step in steps] == [1] * 5
    for step in steps:
        micro = step[0]
        assert set(micro) == {
            *("input_ids", "attention_mask", "labels", "example_ids", "language", "weights", "normaliser")
        }
        assert {micro[key].dtype for key in ("input_ids", "attention_mask", "labels", "example_ids", "language")} == {
            torch.int64
        }
        assert micro["weights"].dtype == micro["normaliser"].dtype == torch.float32
        assert micro["normaliser"] == 8
        assert (micro["input_ids"][micro["attention_mask"] == 0] == tokenizer.pad_token_id).all()


def test_segment_ids_go_along_where_the_tokenizer_has_them(tmp_path, cache):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "premise", "hypothesis", "and", "so", "on"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', encoding="utf-8")
    rows = pairs(10)
    path = tmp_path / "en.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    files = {"en": str(path)}
    data = ready(
        TextClassification(
            str(tmp_path), files, files, label_names=LABELS, max_length=16, global_batch_size=4, cache_dir=cache
        )
    )
    texts = [row["premise"] for row in rows], [row["hypothesis"] for row in rows]
    expected = AutoTokenizer.from_pretrained(tmp_path)(*texts, truncation="longest_first", max_length=16)
    assert any(1 in types for types in expected["token_type_ids"])
    for batch in [*data.val_dataloader()[0], *(step[0] for step in data.train_dataloader())]:
        for i, example in enumerate(batch["example_ids"].tolist()):
            real = batch["attention_mask"][i].bool()
            for name in ("input_ids", "token_type_ids"):
                assert batch[name][i][real].tolist() == expected[name][example]
                assert not batch[name][i][~real].any()


def test_an_empty_language_is_left_out_of_training_and_refused_in_scores(tmp_path, tokenizer_name, cache):
    for language, count in (("en", 5), ("de", 0), ("fr", 3)):
        table = pa.Table.from_pylist(pairs(5, language)).slice(0, count)
        pq.write_table(table, tmp_path / f"{language}.parquet")
    files = {language: str(tmp_path / f"{language}.parquet") for language in ("en", "de", "fr")}
    scored = {language: files[language] for language in ("en", "fr")}
    data = TextClassification(tokenizer_name, files, scored, label_names=LABELS, global_batch_size=32, cache_dir=cache)
    with pytest.warns(UserWarning, match=r"de\.parquet: the train split of 'de' is empty; it is left out"):
        ready(data)
    assert data.train_languages == data.eval_languages("validate") == ["en", "fr"]
    assert [len(rows_of(loader)) for loader in data.val_dataloader()] == [5, 3]
    # All there is is less than a batch.
    (step,) = data.train_dataloader()
    assert len(step[0]["input_ids"]) == step[0]["normaliser"] == 8
    assert sorted(set(step[0]["language"].tolist())) == [0, 2]
    data = TextClassification(tokenizer_name, scored, files, label_names=LABELS, cache_dir=cache)
    with pytest.raises(InputError, match=r"de\.parquet: the validation split of 'de' is empty"):
        data.prepare_data()


def test_batches_of_one_and_one_example_longer_than_all(tmp_path, tokenizer_name, cache):
    rows = [*pairs(6), {"premise": "word " * 300, "hypothesis": "end", "label": 1}]
    path = tmp_path / "en.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    files = {"en": str(path)}
    sizes = {"global_batch_size": 1, "eval_tokens_per_batch": 16, "micro_batch_tokens": 16, "max_length": 128}
    data = ready(TextClassification(tokenizer_name, files, files, label_names=LABELS, cache_dir=cache, **sizes))
    steps = list(data.train_dataloader())
    assert sorted(step[0]["example_ids"].item() for step in steps) == list(range(7))
    assert all(len(step) == 1 and step[0]["normaliser"] == 1 for step in steps)
    assert max(len(row["ids"]) for row in rows_of(data.val_dataloader()[0]).values()) == 128


def test_all_formats_give_the_same(tmp_path, tokenizer_name, cache):
    import csv
    import gzip

    rows = pairs(12)
    rows[3]["premise"] = 'a "quoted", premise'
    names = list(rows[0])
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    lines = "\n".join("\t".join(map(str, row)) for row in [names, *[list(row.values()) for row in rows]]) + "\n"
    (tmp_path / "a.tsv").write_text(lines, encoding="utf-8")
    with gzip.open(tmp_path / "a.tsv.gz", "wt", encoding="utf-8") as file:
        file.write(lines)
    by_name = [row | {"label": LABELS[row["label"]], "more": None} for row in rows]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, by_name)), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink:
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)

    found = []
    for name in ("a.csv", "a.tsv", "a.tsv.gz", "a.jsonl", "a.parquet", "a.arrow"):
        files = {"en": str(tmp_path / name)}
        data = ready(TextClassification(tokenizer_name, files, files, label_names=LABELS, cache_dir=cache))
        found.append(rows_of(data.val_dataloader()[0]))
    assert all(other == found[0] for other in found[1:])


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["no", "yes", "no"], ["no", "yes"]),
        ([0, 2, 2], ["0", "1", "2"]),
        (["10", "0", "10"], [str(i) for i in range(11)]),
    ],
)
def test_label_names_come_from_the_data(tmp_path, tokenizer_name, cache, labels, names):
    rows = [row | {"label": label} for row, label in zip(pairs(3), labels, strict=True)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    files = {"en": str(tmp_path / "a.jsonl")}
    data = TextClassification(tokenizer_name, files, files, cache_dir=cache)
    assert data.label_names == names
    found = rows_of(ready(data).val_dataloader()[0])
    assert [names[found[i]["label"]] for i in range(3)] == list(map(str, labels))


def test_label_names_come_from_the_features(tmp_path, tokenizer_name, cache):
    folder = write_xnli(tmp_path, {"train": ["en"]})
    data = TextClassification(tokenizer_name, {"en": "en/train-*.parquet"}, path=str(folder), cache_dir=cache)
    assert data.label_names == LABELS


def test_single_texts(tmp_path, tokenizer_name, cache):
    (tmp_path / "a.csv").write_text("text,label\none,a\ntwo,b\n", encoding="utf-8")
    files = {"en": str(tmp_path / "a.csv")}
    data = TextClassification(tokenizer_name, files, files, first_column="text", second_column=None, cache_dir=cache)
    found = rows_of(ready(data).val_dataloader()[0])
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_name)
    assert found[1]["ids"] == tokenizer("two")["input_ids"]


def test_xnli_mixes_training_languages_and_separates_evaluation(tmp_path, tokenizer_name, cache):
    folder = write_xnli(tmp_path / "xnli", {"train": ["en", "zh"], "validation": ["de", "en", "zh"], "test": ["zh"]})
    data = XNLI(
        tokenizer_name,
        path=str(folder),
        train_languages=["zh", "en"],
        validation_languages=["zh", "de"],
        test_languages=["zh"],
        global_batch_size=4,
        cache_dir=cache,
    )
    assert data.label_names == LABELS
    assert len(data.languages) == 15
    assert data.train_languages == ["zh", "en"]
    assert data.eval_languages("validate") == ["zh", "de"]
    assert data.eval_languages("test") == ["zh"]
    ready(data, "fit", "test")
    seen = []
    for (micro,) in data.train_dataloader():
        seen += list(zip(micro["language"].tolist(), micro["example_ids"].tolist(), strict=True))
    expected = [(data.languages.index(language), i) for language in ("en", "zh") for i in range(10)]
    assert sorted(seen) == sorted(expected)
    assert any(len(micro["language"].unique()) == 2 for (micro,) in data.train_dataloader())
    for language, loader in zip(["zh", "de"], data.val_dataloader(), strict=True):
        assert {row["language"] for row in rows_of(loader).values()} == {data.languages.index(language)}
        assert len(loader.dataset) == 10
    prints = data.fingerprints()
    assert set(prints) == {"train/zh", "train/en", "validation/zh", "validation/de", "test/zh"}
    assert "10 rows" in prints["test/zh"]
    assert str(folder) in prints["test/zh"]


def test_xnli_from_the_hub_asks_for_the_files_it_needs(tmp_path, tokenizer_name, cache, monkeypatch):
    folder = write_xnli(tmp_path / "0123abc", {"train": ["en"], "validation": ["fr"], "test": ["fr"]})
    asked = []

    def snapshot_download(name, **arguments):
        asked.append((name, arguments))
        return str(folder)

    monkeypatch.setattr(datamodules.sources, "snapshot_download", snapshot_download)
    data = XNLI(tokenizer_name, revision="v1", validation_languages=["fr"], test_languages=["fr"], cache_dir=cache)
    assert asked == [], "nothing is downloaded before it is needed"
    ready(data)
    assert [(name, a["allow_patterns"], a["revision"], a["repo_type"]) for name, a in asked] == [
        ("facebook/xnli", ["en/train-*.parquet"], "v1", "dataset"),
        ("facebook/xnli", ["fr/validation-*.parquet"], "v1", "dataset"),
    ]
    assert data.fingerprints()["validation/fr"].endswith(
        "facebook/xnli@0123abc (10 texts: entailment 4, neutral 3, contradiction 3)"
    )


def test_prediction_keeps_the_order_of_the_file(tmp_path, tokenizer_name, cache):
    rows = [{key: row[key] for key in ("premise", "hypothesis")} for row in pairs(30)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data = XNLI(tokenizer_name, predict_path=str(tmp_path / "p.jsonl"), predict_language="sw", cache_dir=cache)
    assert data.eval_languages("predict") == ["sw"]
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    batches = trainer.predict(Echo(), datamodule=data)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_name)
    found = rows_of(batches)
    assert sorted(found) == list(range(30))
    for i, row in enumerate(rows):
        ids = tokenizer(row["premise"], row["hypothesis"])["input_ids"]
        assert found[i] == {"ids": ids, "label": -100, "language": data.languages.index("sw")}


class Echo(LightningModule):
    def predict_step(self, batch, batch_idx):
        return batch


def arrow_files(cache: str) -> list[Path]:
    return sorted(Path(cache).iterdir()) if Path(cache).exists() else []


def test_cache_is_used_and_keyed_by_what_it_depends_on(tmp_path, tokenizer_name, cache, monkeypatch):
    folder = write_xnli(tmp_path / "xnli", {"train": ["en"], "validation": ["en"]})
    changed_tokenizer = tmp_path / "tokenizer"
    shutil.copytree(tokenizer_name, changed_tokenizer)

    def data(name=tokenizer_name, **changes):
        arguments = {"path": str(folder), "validation_languages": ["en"], "cache_dir": cache} | changes
        return ready(XNLI(name, **arguments))

    before = rows_of(data().val_dataloader()[0])
    assert len(arrow_files(cache)) == 2
    with monkeypatch.context() as patch:
        patch.setattr(TextClassification, "encode", None)
        assert rows_of(data().val_dataloader()[0]) == before
        # The same content is the same data and tokenizer, whatever it is called.
        moved = shutil.copytree(folder, tmp_path / "moved")
        assert rows_of(data(str(changed_tokenizer), path=str(moved)).val_dataloader()[0]) == before
    data(max_length=16)
    assert len(arrow_files(cache)) == 4
    vocabulary = (changed_tokenizer / "vocab.txt").read_text(encoding="utf-8").splitlines()
    vocabulary[100], vocabulary[101] = vocabulary[101], vocabulary[100]
    (changed_tokenizer / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    data(str(changed_tokenizer))
    assert len(arrow_files(cache)) == 6
    write_xnli(folder, {"validation": ["en"]}, rows=9)
    assert len(rows_of(data().val_dataloader()[0])) == 9
    assert len(arrow_files(cache)) == 7


def test_cached_rows_lie_in_the_mapped_file(tmp_path, tokenizer_name, cache):
    folder = write_xnli(tmp_path / "xnli", {"train": ["en"], "validation": ["en"]})
    data = ready(XNLI(tokenizer_name, path=str(folder), validation_languages=["en"], cache_dir=cache))
    before = pa.total_allocated_bytes()
    rows = data.train_dataloader().dataset
    lists = rows.rows(np.array([0, 9])).column("input_ids").to_pylist()
    assert pa.total_allocated_bytes() - before < 10_000
    again = pickle.loads(pickle.dumps(rows))
    assert again.rows(np.array([9, 0])).column("input_ids").to_pylist() == lists[::-1]
    assert rows.all_scalars("length")[[0, 9]].tolist() == [len(ids) for ids in lists]
    import datasets

    found = [datasets.Dataset.from_file(str(path)) for path in arrow_files(cache)]
    assert lists[1] in [one[9]["input_ids"] for one in found]


def leads_out(content: bytes) -> bytes:
    """An Arrow file whose last list of tokens ends behind its data."""
    (column, *_) = pa.ipc.open_stream(content).read_all()["input_ids"].chunks
    offsets = column.buffers()[1].to_pybytes()[: 4 * (len(column) + 1)]
    assert content.count(offsets) >= 1
    further = offsets[:-4] + (int.from_bytes(offsets[-4:], "little") + 3000).to_bytes(4, "little")
    return content.replace(offsets, further)


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"", lambda content: content[: len(content) // 2], lambda content: content[:-8], leads_out],
)
def test_a_damaged_cache_is_made_again(tmp_path, tokenizer_name, cache, damage, caplog):
    folder = write_xnli(tmp_path / "xnli", {"train": ["en"], "validation": ["en"]})

    def rows():
        return rows_of(
            ready(
                XNLI(tokenizer_name, path=str(folder), validation_languages=["en"], cache_dir=cache)
            ).val_dataloader()[0]
        )

    before = rows()
    for path in arrow_files(cache):
        path.write_bytes(damage(path.read_bytes()))
    assert rows() == before
    assert "is damaged and is made again" in caplog.text


def test_a_full_disk_leaves_nothing_behind(tmp_path, tokenizer_name, cache):
    folder = write_xnli(tmp_path / "xnli", {"train": ["en"], "validation": ["en"]}, rows=3000)
    data = XNLI(tokenizer_name, path=str(folder), validation_languages=["en"], cache_dir=cache)
    data._tokenizer_digest  # noqa: B018 -- writes files of its own, which the limit below would hit first
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cache folder .*cannot be written to: .*with cache_dir"):
            data.prepare_data()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert arrow_files(cache) == []
    data.prepare_data()
    assert len(arrow_files(cache)) == 2


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs /proc, where nobody can make a folder")
def test_a_cache_folder_that_cannot_be_made(tmp_path, tokenizer_name):
    folder = write_xnli(tmp_path / "xnli", {"train": ["en"], "validation": ["en"]})
    data = XNLI(tokenizer_name, path=str(folder), validation_languages=["en"], cache_dir="/proc/no/such")
    with pytest.raises(InputError, match=r"/proc/no/such cannot be written to"):
        data.prepare_data()


def test_default_cache_folder(monkeypatch, tmp_path, tokenizer_name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert XNLI(tokenizer_name).cache_dir == tmp_path / "ernie-m-recipes"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert XNLI(tokenizer_name).cache_dir == tmp_path / "home" / ".cache" / "ernie-m-recipes"


def test_command_line_arguments(tmp_path):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    text = "data:\n  class_path: datamodules.XNLI\n  init_args: {tokenizer: x, train_languages: [en, de], seed: 5}\n"
    data = parser.instantiate(parser.parse_string(text)).data
    assert data.train_languages == ["en", "de"]
    assert len(data.eval_languages("validate")) == 15
    text = "data:\n  class_path: datamodules.TextClassification\n  init_args: {tokenizer: x, train_files: {en: a}}\n"
    assert parser.instantiate(parser.parse_string(text)).data.train_languages == ["en"]


@pytest.fixture(scope="module")
def parallel_cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


class TestParallelText:
    def data(self, tokenizer_name, cache, **changes):
        files = {
            f"{split}_files": {language: f"{split}/en-{language}.tsv.gz" for language in ("de", "zh")}
            for split in ("train", "validation", "test")
        }
        arguments = {"path": "bundled", "global_batch_size": 256, "cache_dir": cache} | files | changes
        return ParallelText(tokenizer_name, **arguments)

    def test_rows_are_pairs(self, tokenizer_name, parallel_cache):
        import gzip

        data = ready(self.data(tokenizer_name, parallel_cache))
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_name)
        assert data.eval_languages("validate") == data.languages == ["de", "zh"]
        for language, loader in zip(["de", "zh"], data.val_dataloader(), strict=True):
            path = ROOT / "datamodules" / "samples" / "parallel" / "validation" / f"en-{language}.tsv.gz"
            with gzip.open(path, "rt", encoding="utf-8") as file:
                lines = [line.rstrip("\n").split("\t") for line in file]
            seen = set()
            for batch in loader:
                for i, example in enumerate(batch["example_ids"].tolist()):
                    for side, text in zip(("source", "target"), lines[example], strict=True):
                        ids = batch[f"{side}_input_ids"][i][batch[f"{side}_attention_mask"][i].bool()]
                        assert ids.tolist() == tokenizer(text)["input_ids"]
                    seen.add(example)
            assert seen == set(range(len(lines)))

    @pytest.mark.parametrize("apart", [False, True])
    def test_no_false_counter_examples(self, tokenizer_name, parallel_cache, apart):
        data = ready(self.data(tokenizer_name, parallel_cache, one_language_per_batch=apart))
        languages = []
        for (micro,) in data.train_dataloader():
            for side in ("source", "target"):
                rows = {tuple(row) for row in micro[f"{side}_input_ids"].tolist()}
                assert len(rows) == len(micro["example_ids"])
            languages.append(len(micro["language"].unique()))
        assert (max(languages) == 1) == apart

    def test_named_columns(self, tmp_path, tokenizer_name, cache):
        (tmp_path / "a.csv").write_text("id,de,en\n1,eins,one\n2,zwei,two\n", encoding="utf-8")
        files = {"de": str(tmp_path / "a.csv")}
        data = ParallelText(tokenizer_name, files, files, source_column="en", target_column="de", cache_dir=cache)
        ((batch,),) = (list(loader) for loader in ready(data).val_dataloader())
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_name)
        order = batch["example_ids"].tolist()
        texts = tokenizer.batch_decode(batch["source_input_ids"], skip_special_tokens=True)
        assert [texts[order.index(i)] for i in (0, 1)] == ["one", "two"]


def test_a_package_in_the_way_is_named(tmp_path):
    (tmp_path / "lightning_modules").mkdir()
    (tmp_path / "lightning_modules" / "__init__.py").write_text("", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", "import datamodules"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert found.returncode != 0
    assert f"ImportError: datamodules comes from {ROOT}, but lightning_modules from {tmp_path}" in found.stderr
