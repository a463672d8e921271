"""Data sets of `datasets` beside files: the Hub's layout, folders, Python; and what its builders would lose."""

import bz2
import gzip
import json
import re
import shutil
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, arrow_dataset, concatenate_datasets
from lightning.pytorch import Trainer

import datamodules
from datamodules import XNLI, ExtractiveQuestions, ParallelText, TextClassification, TokenLabels
from datamodules.columns import read_columns
from datamodules.compat import plain_progress
from datamodules.prepared import content_digest
from datamodules.reading import read_rows, read_whole, texts_of
from datamodules.sources import Source, find_source
from datamodules.text_files import read_lines
from ernie_m.errors import InputError
from lightning_modules import SequenceClassification

NAMES = ["entailment", "neutral", "contradiction"]
FEATURES = Features({"premise": Value("string"), "hypothesis": Value("string"), "label": ClassLabel(names=NAMES)})


def pairs(count: int, start: int = 0) -> Dataset:
    rows = [
        {"premise": f"a house {i}", "hypothesis": f"no {'water ' * (i % 5)}", "label": i % 3}
        for i in range(start, start + count)
    ]
    return Dataset.from_list(rows, features=FEATURES)


def splits(count: int = 12) -> DatasetDict:
    return DatasetDict({"train": pairs(count), "validation": pairs(6, 100), "test": pairs(6, 200)})


@pytest.fixture(autouse=True)
def own_copies(tmp_path: Path, monkeypatch) -> None:
    """Where `load_dataset` keeps its own copies."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "copies")


@pytest.fixture
def options(sample_tokenizer_dir: Path, tmp_path: Path) -> dict[str, str]:
    return {"tokenizer": str(sample_tokenizer_dir), "cache_dir": str(tmp_path / "cache")}


def rows_of(data, split: str, language: str = "en") -> list[dict[str, object]]:
    data.load(split, download=True)
    rows = data.row_set(split, [language])
    return rows.rows(range(len(rows))).to_pylist()


def test_the_same_rows_wherever_they_lie(options, tmp_path):
    """As a Hub folder whose README names splits, as a folder of `save_to_disk`, at hand, and as a file."""
    parts = splits()
    folder = tmp_path / "hub"
    for split, rows in parts.items():
        (folder / "en").mkdir(parents=True, exist_ok=True)
        rows.to_parquet(folder / "en" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: en/{split}-*\n" for split in parts)
        + "---\n",
        encoding="utf-8",
    )
    parts.save_to_disk(tmp_path / "saved" / "en")
    known = {"validation_languages": ["en"], "test_languages": ["en"]}
    found = {
        "pattern": XNLI(path=str(folder), **known, **options),
        "saved": XNLI(path=str(tmp_path / "saved"), **known, **options),
        "at hand": XNLI.from_dataset_dicts({"en": parts}, **options),
        "named": TextClassification(
            train_files={"en": {"name": "en"}},
            test_files={"en": {"name": "en", "split": "test"}},
            path=str(folder),
            **options,
        ),
        "folder of a split": TextClassification(
            train_files={"en": "en/train"}, test_files={"en": "en/test"}, path=str(tmp_path / "saved"), **options
        ),
    }
    assert all(data.label_names == NAMES for data in found.values())
    expected = {split: rows_of(found["pattern"], split) for split in ("train", "test")}
    assert [row["labels"] for row in expected["train"]] == [i % 3 for i in range(12)]
    for name, data in found.items():
        assert {split: rows_of(data, split) for split in expected} == expected, name
    digests = {data._store.digest([("train", "en")]) for data in found.values()}
    assert len(digests) == 1, "a run goes on wherever its data lie"


def test_other_tasks_take_data_sets_too(options):
    tags = [["B-PER", "O"], ["O", "O"]]
    words = Dataset.from_dict({"tokens": [["Anna", "sleeps"], ["no", "one"]], "ner_tags": tags})
    data = TokenLabels.from_dataset_dicts({"en": DatasetDict({"train": words})}, **options)
    assert [row["sentence"] for row in rows_of(data, "train")] == [0, 1]
    answers = {"text": ["sleeps"], "answer_start": [5]}
    asked = Dataset.from_list([{"id": "1", "context": "Anna sleeps", "question": "what ?", "answers": answers}])
    data = ExtractiveQuestions.from_dataset_dicts({"en": {"train": asked, "validation": asked}}, **options)
    assert rows_of(data, "train")[0]["start_positions"] > 0
    assert len(rows_of(data, "validation")) == 1
    two = Dataset.from_list([{"translation": {"en": "house", "de": "Haus"}}] * 2)
    columns = {"source_column": "translation.en", "target_column": "translation.{language}"}
    data = ParallelText.from_dataset_dicts({"de": {"train": two}}, **columns, **options)
    assert len(rows_of(data, "train", "de")) == 2


def test_the_same_numbers_of_other_classes_are_other_rows(options):
    """What was tokenised under one set of names is not taken for another's."""
    found = []
    for names in (["O", "B-PER", "I-PER"], ["B-PER", "O", "I-PER"]):
        features = Features({"tokens": [Value("string")], "ner_tags": [ClassLabel(names=names)]})
        words = Dataset.from_dict({"tokens": [["Anna", "sleeps"]], "ner_tags": [[1, 0]]}, features=features)
        labels = {"label_names": ["O", "B-PER", "I-PER"]}
        data = TokenLabels.from_dataset_dicts({"en": {"train": words}}, **labels, **options)
        found.append([label for label in rows_of(data, "train")[0]["labels"] if label >= 0])
    assert found == [[1, 0], [0, 1]]


def test_a_notebook(options, tiny_checkpoint, tmp_path):
    """The ten lines of the documentation."""
    data = XNLI.from_dataset_dicts({"en": splits(), "de": splits(9)}, global_batch_size=4, max_length=128, **options)
    model = SequenceClassification(str(tiny_checkpoint), label_names=data.label_names, warmup_ratio=0.0)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, default_root_dir=tmp_path
    )
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    assert trainer.global_step == 6
    assert set(model.results) == {"en", "de", "mean"}
    assert len(model.tables["de"]) == 6


@pytest.mark.parametrize("place", ["named", "current"])
def test_a_readme_names_files_of_its_folder_alone(place, options, tmp_path, monkeypatch):
    pairs(2).to_parquet(tmp_path / "private.parquet")
    folder = tmp_path / "hub"
    folder.mkdir()
    private = tmp_path / "private.parquet"
    if place == "current":
        monkeypatch.chdir(folder)
        folder = Path()
    for path in ("../private.parquet", str(private), f"simplecache::{private}", "https://example.org/x.parquet"):
        front = f"configs:\n- config_name: en\n  data_files:\n  - split: train\n    path: {path}\n"
        (folder / "README.md").write_text(f"---\n{front}---\n", encoding="utf-8")
        data = TextClassification(train_files={"en": {"name": "en"}}, path=str(folder), label_names=NAMES, **options)
        with pytest.raises(InputError, match="outside of the folder"):
            data.load("train", download=True)


@pytest.fixture
def address():
    """A server on this machine, and the paths that it was asked for."""
    asked = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_):
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("file", "text", "root", "reference", "message"),
    [
        (
            ".huggingface.yaml",
            "configs:\n- {{config_name: default, data_files: {address}/x.csv}}",
            "hub",
            {},
            "README's",
        ),
        ("README.md", "---\nconfigs:\n- {{config_name: a, data_dir: '{address}'}}\n---\n", "hub", {}, "by an address"),
        ("a", "", "hub", {"data_files": "{address}/x.csv"}, "data_files is the address"),
        ("a", "", "hub", {"data_files": "zip://x.csv::{address}/x.zip"}, "data_files is the address"),
        ("a", "", "someone/something", {"data_files": "{address}/x.csv"}, "data_files is the address"),
        ("a", "", "csv", {"data_files": "train.csv"}, "neither a folder nor an OWNER/NAME"),
        ("a", "", "{address}/x", {}, "neither a folder nor an OWNER/NAME"),
    ],
)
def test_no_address_is_asked_before_it_is_refused(
    file, text, root, reference, message, streaming, address, tmp_path, monkeypatch
):
    url, asked = address
    monkeypatch.chdir(tmp_path)
    Path("hub").mkdir()
    Path("train.csv").write_text("text\na\n", encoding="utf-8")
    Path("hub/train.csv").write_text("text\na\n", encoding="utf-8")
    Path("hub", file).write_text(text.format(address=url), encoding="utf-8")
    reference = {name: value.format(address=url) for name, value in reference.items()}
    with pytest.raises(InputError, match=message):
        find_source(root.format(address=url), reference, None, True, "train", streaming)
    assert asked == []


@pytest.fixture
def small_hub(tmp_path, monkeypatch):
    """A Hub with one data set, `someone/something`, in one commit: its folder, and the files that were fetched."""
    folder, fetched, commit = tmp_path / "repository", set(), "c" * 40
    folder.mkdir()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            place = unquote(urlparse(self.path).path)
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            name, status, content = place.rpartition("/")[2], 200, b""
            if "/resolve/" not in place:
                asked = json.loads(sent)["paths"] if sent else None
                listed = [
                    {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": path.name}
                    for path in folder.iterdir()
                    if asked is None or path.name in asked
                ]
                is_list = "/tree/" in place or "/paths-info/" in place
                content = json.dumps(listed if is_list else {"id": "someone/something", "sha": commit}).encode()
            elif (folder / name).is_file():
                content = (folder / name).read_bytes()
            else:
                status = 404
            self.send_response(status)
            headers = {"X-Repo-Commit": commit, "ETag": f'"{name}"', "Content-Length": str(len(content))}
            for header, value in (headers | ({"X-Error-Code": "EntryNotFound"} if status == 404 else {})).items():
                self.send_header(header, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
                fetched.update([name] if "/resolve/" in place else [])

        do_HEAD = do_POST = do_GET

        def log_message(self, *_):
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", url)
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "prepared")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield folder, fetched
        server.shutdown()


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "configs", "message"),
    [
        ("x.csv", "- {{config_name: default, data_files: x.csv, version: ../../../outside}}", "configs sets 'version'"),
        ("x.csv", "- {{config_name: default, data_files: {here}/private.csv}}", "lies outside|don't belong to"),
        ("x.csv", "- {{config_name: default, data_files: 'https://example.org/x.csv'}}", "names data by an address"),
        (".huggingface.yaml", "", "would take the README's place"),
        ("x.h5", "", "files of the kind hdf5; csv, json"),
        ("x.csv.bz2", "", r"is packed \(bz2\)"),
    ],
)
def test_a_data_set_of_the_hub_is_held_to_the_rules_of_folders(name, configs, message, streaming, small_hub, tmp_path):
    """As it was: `version` ended in a folder beside the cache, and files of any kind, however packed, were read."""
    folder, _ = small_hub
    (tmp_path / "private.csv").write_text("text\na\n", encoding="utf-8")
    content = b"text\na\n"
    (folder / name).write_bytes(bz2.compress(content) if name.endswith("bz2") else content)
    configs = configs.format(here=tmp_path)
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}\n---\n" if configs else "", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        find_source("someone/something", {}, None, True, "train", streaming)
    assert not [*tmp_path.rglob("outside"), *tmp_path.rglob("*.arrow")]


@pytest.mark.parametrize("streaming", [False, True])
def test_of_a_data_set_of_the_hub_those_files_are_fetched_that_are_read(streaming, small_hub, tmp_path, monkeypatch):
    folder, fetched = small_hub
    configs = [{"config_name": name, "data_files": f"{name}.*"} for name in ("de", "fr")]
    (folder / "README.md").write_text(f"---\n{json.dumps({'configs': configs})}\n---\n", encoding="utf-8")
    (folder / "de.csv").write_text("text\na\n", encoding="utf-8")
    (folder / "fr.csv.gz").write_bytes(gzip.compress(b"text\nb\n"))
    for _ in range(2):
        source = find_source("someone/something", {"name": "fr"}, None, True, "train", streaming)
        assert source.name == f"someone/something@{'c' * 40} (split train, name fr)"
        assert [row["text"] for row in source.parts[0]] == ["b"]
        assert {name for name in fetched if name.endswith((".csv", ".gz"))} == {"fr.csv.gz"}
        # What was prepared of the same commit is there without the Hub too.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", not streaming)


def test_a_folder_chooses_no_place_to_write_to_and_unpacks_nothing_without_measure(tmp_path):
    """As it was: `version` ended in a folder beside the cache, and what is packed was unpacked whatever its name."""

    def found(name: str, content: bytes, readme: str = "", streaming: bool = False) -> Source:
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_bytes(content)
        (folder / "README.md").write_text(f"---\n{readme}---\n", encoding="utf-8")
        return find_source(str(folder), {}, None, True, "train", streaming)

    rows = b'{"text": "a"}\n'
    with pytest.raises(InputError, match=r"config_name"):
        found("named.jsonl", rows, "configs:\n- config_name: ..\n  data_files: '*.jsonl'\n")
    with pytest.raises(InputError, match=r": name"):
        find_source(str(tmp_path), {"name": "../x"}, None, True, "train")
    configs = "configs:\n- config_name: default\n  data_files: '*.jsonl'\n  version: ../../../../outside\n"
    with pytest.raises(InputError, match="configs sets 'version'; there are config_name"):
        found("version.jsonl", rows, configs)
    assert not list(tmp_path.rglob("outside"))
    assert len(found("packed.jsonl.gz", gzip.compress(rows)).parts[0]) == 1
    for streaming in (False, True):
        with pytest.raises(InputError, match="more than 100 times its size"):
            found(f"bomb{streaming}.jsonl", gzip.compress(rows + b" " * 2**25), streaming=streaming)
    with pytest.raises(InputError, match=r"packed \(bz2\); unpack it yourself"):
        found("other.jsonl", bz2.compress(rows))
    with pytest.raises(InputError, match="files of the kind imagefolder; csv, json"):
        found("image.png", b"")
    for number, (stated, message) in enumerate(
        [
            ("sep: '(a+)+$'", r"README\.md: sep is '\(a\+\)\+\$'; a single character"),
            ("skiprows: 300000000", r"README\.md: skiprows is 300000000; a single character, or a number below 1,000"),
            (f"sep: {'1:' * 200_000}1", r"README\.md: a number of more than 100 digits"),
        ]
    ):
        readme = f"configs:\n- config_name: default\n  data_files: '*.csv'\n  {stated}\n"
        with pytest.raises(InputError, match=message):
            found(f"options{number}.csv", b"text\na\n", readme)
    with pytest.raises(InputError, match=r"README\.md: an alias, of which its YAML has none"):
        found("alias.jsonl", rows, "a: &a [1]\nconfigs: [{config_name: x, data_files: *a}]\n")
    with pytest.raises(InputError, match=r"README\.md: an alias, of which its YAML has none"):
        # The block ends at a line of three dashes and nothing else.
        found("later.jsonl", rows, "a: 1\n---x: 2\nb: &a [1]\nconfigs: [{config_name: x, data_files: *a}]\n")
    with pytest.raises(InputError, match=r"README\.md: while parsing"):
        found("readme.jsonl", rows, "configs: [\n")


def test_links_of_a_data_folder_stay_inside(tmp_path, monkeypatch):
    """What they lead to elsewhere, a list of passwords say, would become labels, which go into weights."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for place in (tmp_path / "private.csv", folder / "own.csv"):
        place.write_text("text,label\na,b\n", encoding="utf-8")
    (folder / "linked.csv").symlink_to(tmp_path / "private.csv")
    (folder / "inner.csv").symlink_to("own.csv")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for root, reference in ((str(folder), "linked.csv"), (str(folder), "*.csv"), (None, str(folder / "linked.csv"))):
        with pytest.raises(InputError, match=r"linked\.csv (leads to|is a link to) .*private\.csv"):
            find_source(root, reference, None, True, "train").digest()
    (folder / "fr").mkdir()
    (folder / "fr" / "inner.csv").symlink_to("../own.csv")
    for root, reference in (
        (str(folder), "inner.csv"), (str(folder), "fr/inner.csv"), (None, f"{folder}/*/inner.csv"),
        (str(folder), "../private.csv"), (None, "mine.csv"),
    ):  # fmt: skip
        if reference == "mine.csv":
            # A link in the current folder is the caller's own.
            Path("mine.csv").symlink_to(folder / "own.csv")
        assert find_source(root, reference, None, True, "train").digest()
    Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "saved")
    (folder / "saved").symlink_to(tmp_path / "saved")
    (tmp_path / "more" / "en").mkdir(parents=True)
    Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "more" / "en" / "train")
    (folder / "deep").symlink_to(tmp_path / "more")
    for reference in ("saved", "deep/en/train"):
        with pytest.raises(InputError, match=f"{reference} (is a link|leads) to .* by a link|saved is a link to"):
            find_source(str(folder), reference, None, True, "train")
    # The Hub's cache has its files in another folder of the data set's own.
    snapshot = tmp_path / "datasets--a--b" / "snapshots" / "1234"
    snapshot.mkdir(parents=True)
    (tmp_path / "datasets--a--b" / "blobs").mkdir()
    (folder / "own.csv").rename(tmp_path / "datasets--a--b" / "blobs" / "5678")
    (snapshot / "a.csv").symlink_to("../../blobs/5678")
    for root, reference in (
        (str(snapshot), "a.csv"),
        (str(snapshot.parent), "1234/a.csv"),
        (str(snapshot.parents[1]), "snapshots/*/a.csv"),
        (None, str(snapshot / "a.csv")),
        (None, f"{snapshot.parent}/*/a.csv"),
    ):
        source = find_source(root, reference, None, True, "train")
        assert source.digest()
        assert source.formats == [".csv"]
    # But not another's, to which the folder leads.
    (folder / "sub").mkdir()
    (folder / "sub" / "en").symlink_to(tmp_path / "datasets--a--b")
    for root, reference in (
        (str(folder), "sub/en/snapshots/*/a.csv"),
        (None, f"{folder}/sub/*/snapshots/1234/a.csv"),
    ):
        with pytest.raises(InputError, match=r"a\.csv leads to .*5678 by a link"):
            find_source(root, reference, None, True, "train")
    monkeypatch.chdir(folder / "sub")
    assert find_source(None, "*/snapshots/1234/a.csv", None, True, "train").digest()


def test_a_path_is_a_path_in_every_library(tmp_path, monkeypatch):
    """To fsspec and pyarrow `file:` is a scheme, and what stands before `::` another file."""
    monkeypatch.chdir(tmp_path)
    private = tmp_path / "private.parquet"
    decoy = Path(f"file:{private}")
    decoy.parent.mkdir(parents=True)
    pq.write_table(pa.table({"text": ["private"]}), private)
    pq.write_table(pa.table({"text": ["own"]}), decoy.absolute())
    source = find_source(None, str(decoy), None, True, "train")
    assert read_rows(source.parts, ["text"]).table["text"].to_pylist() == ["own"]
    assert read_whole(decoy)["text"].to_pylist() == ["own"]
    Path("a").symlink_to(private)
    shutil.copy(decoy, "a::x.parquet")
    Dataset.from_dict({"text": ["a"]}).save_to_disk("saved")
    Path("saved").rename("reference::x.json")
    for reference in ("a::x.parquet", "reference::x.json"):
        with pytest.raises(InputError, match="'::' in a path stands for something else"):
            read_rows(find_source(None, reference, None, True, "train").parts, ["text"])


def leading_out(what: str) -> bytes:
    """A file of two rows whose second value, or the length of whose dictionary, lies behind its data."""
    if what == "type":
        # Of numbers, which are read as lists of lists once `datasets` is imported.
        name = {b"ARROW:extension:name": b"datasets.features.features.Array2DExtensionType",
                b"ARROW:extension:metadata": b'[[1, 1], "int8"]'}  # fmt: skip
        schema = pa.schema([pa.field("c", pa.int64(), metadata=name), pa.field("text", pa.string())])
        table = pa.table([pa.array([1, 2]), pa.array(["a", "b"])], schema=schema)
        with pa.BufferOutputStream() as sink:
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
            return sink.getvalue().to_pybytes()
    if what == "offset":
        extra = pa.array([b"A" * 11, b"B" * 13], pa.large_binary())
        before, after = [0, 11, 24], [0, 11, 20_000]
    else:
        # `datasets` makes plain columns of dictionaries, sound ones of what is not, before anybody sees them.
        words = pa.array([7, 8, 9], pa.int64())
        extra = pa.DictionaryArray.from_arrays(pa.array([0, 5000], pa.int32()), words, safe=False)
        before, after = [3, 0], [10_000, 0]
    table = pa.table({"text": ["a"] * 2, "extra": extra})
    with pa.BufferOutputStream() as sink:
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        content = sink.getvalue().to_pybytes()
    numbers = np.array(before, dtype=np.int64).tobytes()
    assert content.count(numbers) == 1
    return content.replace(numbers, np.array(after, dtype=np.int64).tobytes())


@pytest.mark.parametrize("what", ["offset", "dictionary", "type"])
@pytest.mark.parametrize("kind", ["arrow", "saved", "loaded"])
def test_columns_that_lead_out_of_their_data_are_refused(kind, what, tmp_path):
    """Arrow reads wherever a file points to: other memory of the process, its environment say, or none, and dies."""
    folder = tmp_path / "folder"
    Dataset.from_dict({"text": ["a"] * 2}).save_to_disk(folder)
    (file,) = folder.glob("*.arrow")
    file.write_bytes(leading_out(what))
    if kind != "saved":
        for other in folder.glob("*.json"):
            other.unlink()
    reference = {"arrow": f"folder/{file.name}", "saved": "folder", "loaded": {}}[kind]
    root = folder if kind == "loaded" else tmp_path
    with pytest.raises(InputError, match=r"cannot be read as Arrow: .*([Oo]ffset|[Dd]ictionary)|type of its own"):
        read_rows(find_source(str(root), reference, None, True, "train").parts, ["text"])


@pytest.mark.parametrize("kind", ["parquet", "arrow", "saved", "readme"])
def test_a_schema_names_types_and_no_functions(kind, tmp_path, monkeypatch):
    """As it was: whatever of pyarrow bears the name was called; one function writes into the installed package."""
    called = []
    monkeypatch.setattr(pa, "get_library_dirs", lambda: called.append(kind) or pa.string())
    feature = {"dtype": "get_library_dirs", "_type": "Value"}
    features = {"text": feature}
    schema = pa.schema({"text": pa.string()}, {"huggingface": json.dumps({"info": {"features": features}})})
    table = pa.table({"text": ["a"]}, schema)
    folder = tmp_path / "folder"
    folder.mkdir()
    if kind == "parquet":
        pq.write_table(table, folder / "a.parquet")
    elif kind == "arrow":
        with pa.OSFile(str(folder / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            writer.write_table(table)
    elif kind == "saved":
        Dataset.from_dict({"text": ["a"]}).save_to_disk(folder)
        info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
        (folder / "dataset_info.json").write_text(json.dumps({**info, "features": features}), encoding="utf-8")
    else:
        (folder / "a.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
        stated = "dataset_info:\n  features:\n  - name: text\n    dtype: get_library_dirs\n"
        (folder / "README.md").write_text(f"---\n{stated}---\n", encoding="utf-8")
    reference = {"saved": "folder", "readme": {}}.get(kind, f"folder/a.{kind}")
    with pytest.raises(InputError, match=r"'get_library_dirs', which is none of|'GetLibraryDirs' not found"):
        read_rows(find_source(str(tmp_path if reference else folder), reference, None, True, "train").parts, ["text"])
    assert not called


@pytest.mark.parametrize(
    ("reference", "path", "message"),
    [
        ({"name": "en"}, None, "are arguments of load_dataset; name the data set with path"),
        (
            {"trust_remote_code": "true"},
            ".",
            "'trust_remote_code' is no argument that finds data; there are name, split",
        ),
        ({"name": "xx"}, ".", "BuilderConfig 'xx' not found"),
        ("saved", ".", "saved holds several splits; name one of them, such as saved/train"),
    ],
)
def test_what_cannot_be_found_is_named(options, tmp_path, monkeypatch, reference, path, message):
    monkeypatch.chdir(tmp_path)
    splits().save_to_disk("saved")
    pairs(2).to_parquet("train-00000-of-00001.parquet")
    data = TextClassification(train_files={"en": reference}, path=path, label_names=NAMES, **options)
    with pytest.raises(InputError, match=re.escape(message)):
        data.load("train", download=True)


def test_a_wrong_row_of_a_data_set_is_named(options):
    rows = pairs(3).cast_column("label", Value("int64")).to_dict() | {"label": [0, 7, 1]}
    data = TextClassification.from_dataset_dicts(
        {"en": {"train": Dataset.from_dict(rows)}}, label_names=NAMES, **options
    )
    with pytest.raises(InputError, match="the data set, row 2: unknown label 7"):
        data.load("train", download=True)


# What `datasets`' own builders make of such files: nulls, empty texts, timestamps, other lines, other columns.
LOSSES = {
    "missing values": ("a.csv", "text,other\nNA,x\nnull,y\nNone,z\n,w\n", ["NA", "null", "None", ""]),
    "dates": (
        "a.jsonl",
        '{"text": "2020-01-01"}\n{"text": "2020-01-01T00:00:00"}\n',
        ["2020-01-01", "2020-01-01T00:00:00"],
    ),
    "carriage returns": ("a.jsonl", '{"text": "a\\rb"}\n', ["a\rb"]),
}


@pytest.mark.parametrize("case", LOSSES)
def test_text_comes_out_as_it_stands(tmp_path, case):
    name, content, expected = LOSSES[case]
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert texts_of(read_rows([tmp_path / name], ["text"]), "text").to_pylist() == expected


def test_lines_and_columns_end_where_they_do(tmp_path):
    (tmp_path / "lines").write_bytes("one\rtwo\u2028three\nfour\n".encode())
    assert list(read_lines(tmp_path / "lines")) == ["one\rtwo\u2028three", "four"]
    (tmp_path / "columns").write_text("a\u00a0b O\n", encoding="utf-8")
    assert read_columns(tmp_path / "columns").sentences == [[["a\u00a0b", "O"]]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,other\nx,y\nshort\n", "line 3: 1 fields where 2"),
        ("a.jsonl", '{"text": "a"}\n{"te\n', "line 2: not"),
    ],
)
def test_broken_lines_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_rows([tmp_path / name], ["text"])


def test_a_digest_is_that_of_the_content():
    whole = pairs(30)
    chunks = concatenate_datasets([whole.select(range(start, start + 10)) for start in (0, 10, 20)])
    assert content_digest(whole) == content_digest(chunks) == content_digest(whole.select(range(30)))
    assert content_digest(whole) != content_digest(whole.select([1, 0, *range(2, 30)]))
    assert content_digest(whole) != content_digest(whole.rename_column("label", "other"))
    other = FEATURES | {"label": ClassLabel(names=NAMES[::-1])}
    assert content_digest(whole) != content_digest(whole.cast(Features(other)))


def test_progress_is_lines_where_the_output_is_no_terminal(monkeypatch):
    """`Dataset.map` takes its bar from `arrow_dataset.hf_tqdm`: a failure says that `datasets` has moved it."""
    monkeypatch.setattr("datamodules.compat._EVERY", 0.0)
    monkeypatch.setattr("datasets.config.PBAR_REFRESH_TIME_INTERVAL", 0.0)
    lines: list[str] = []
    bar = arrow_dataset.hf_tqdm
    with plain_progress(lines.append):
        Dataset(pa.table({"a": range(100)})).map(lambda batch: batch, batched=True, batch_size=10, desc="tokenising x")
    assert arrow_dataset.hf_tqdm is bar
    assert lines
    assert all(re.fullmatch(r"tokenising x: \d+ of 100 rows, [\d,]+ rows/s, \d\d:\d\d left", line) for line in lines)


def test_former_names_lead_to_the_new_ones():
    with pytest.warns(FutureWarning, match=r"datamodules\.PairClassification is called TextClassification now"):
        assert datamodules.PairClassification is TextClassification
    with pytest.warns(FutureWarning, match="ExtractiveQuestions"):
        assert datamodules.QuestionAnswering is ExtractiveQuestions
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        datamodules.Nothing  # noqa: B018
