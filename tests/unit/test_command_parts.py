"""The command's parts that need no run: differences, tables, predictions, files written whole, messages."""

import csv
import datetime
import gzip
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from transformers import BertConfig, BertForSequenceClassification

from datamodules.reading import read_whole
from ernie_m import ErnieMConfig, ErnieMForSequenceClassification
from ernie_m.errors import InputError
from ernie_m_recipes import predictions, record, resume
from ernie_m_recipes.base_model import Base, base_of
from ernie_m_recipes.callbacks import PlainProgress, StepSeed, clock
from ernie_m_recipes.checkpoints import AtomicCheckpointIO, CheckpointThatCounts
from ernie_m_recipes.devices import BF16_VARIABLE, cpu_has_bf16, runs_alone, supported_precision
from ernie_m_recipes.export import model_card, origin, usage
from ernie_m_recipes.messages import explain
from ernie_m_recipes.parsing import shorten
from ernie_m_recipes.tables import print_scores, rows_of

SETTINGS = {
    "seed_everything": 1,
    "trainer": {"devices": 1, "max_epochs": 5, "precision": "bf16-mixed", "logger": {"class_path": "a"}},
    "model": {"class_path": "M", "init_args": {"learning_rate": 5e-5, "attn_implementation": "auto"}},
    "data": {"class_path": "D", "init_args": {"path": "a", "num_workers": 0, "train_languages": ["en"]}},
    "run": {"directory": "runs"},
    "ckpt_path": None,
}


def changed(key: str, value: object) -> dict:
    copied = json.loads(json.dumps(SETTINGS))
    *parents, last = key.split(".")
    target = copied
    for parent in parents:
        target = target[parent]
    target[last] = value
    return copied


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed_everything", 2),
        ("trainer.max_epochs", 6),
        ("trainer.precision", "32-true"),
        ("model.init_args.learning_rate", 1e-5),
        ("model.class_path", "N"),
        ("data.init_args.train_languages", ["en", "de"]),
    ],
)
def test_what_changes_the_result_is_a_difference(key: str, value: object) -> None:
    (found,) = resume.differences(SETTINGS, changed(key, value), Path("last.ckpt"))
    assert found.startswith(f"{key}: ")
    assert found.endswith(f"-> {value}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.devices", 8),
        ("trainer.logger", None),
        ("model.init_args.attn_implementation", "eager"),
        ("data.init_args.path", "b"),
        ("data.init_args.num_workers", 4),
        ("run.directory", "elsewhere"),
        ("ckpt_path", "x.ckpt"),
    ],
)
def test_where_and_how_a_run_is_computed_is_none(key: str, value: object) -> None:
    assert resume.differences(SETTINGS, changed(key, value), Path("last.ckpt")) == []


def test_files_may_lie_elsewhere_but_not_those_of_the_test() -> None:
    def settings_with(split: str, path: str) -> dict:
        return SETTINGS | {"data": {"class_path": "D", "init_args": {f"{split}_files": {"en": path}}}}

    for split, expected in (("train", []), ("validation", []), ("test", ["data.init_args.test_files.en: a -> b"])):
        found = resume.differences(settings_with(split, "a"), settings_with(split, "b"), Path("last.ckpt"))
        assert found == expected


def test_results_stand_side_by_side_in_percent_with_the_mean_last() -> None:
    before = {"mean": {"accuracy": 0.25, "examples": 4.0}, "de": {"accuracy": 0.25, "examples": 4.0, "chance": 0.1}}
    after = {
        "de": {"accuracy": 0.5, "examples": 4.0},
        "zh": {"accuracy": 1.0, "examples": 2.0},
        "mean": {"accuracy": 0.75, "examples": 6.0},
    }
    titles, rows = rows_of({"before": before, "test": after})
    assert titles == ["language", "before", "test", "examples"]
    assert rows == [["de", "25.00", "50.00", "4"], ["zh", "", "100.00", "2"], ["mean", "25.00", "75.00", "6"]]


def test_layers_ties_and_duplicates_stand_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    language = {"accuracy": 0.5, "target_to_source": 0.25, "examples": 4.0, "ties": 1.0, "duplicates": 2.0}
    results = {"de": language | {"layer_0": 0.25, "layer_1": 0.5}}
    print_scores("title", {"before": {"de": {"accuracy": 0.1}}, "test": results | {"mean": results["de"]}})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[2:4]] == [
        ["de", "10.00", "50.00", "25.00", "4"],
        ["mean", "50.00", "25.00", "4"],
    ]
    assert lines[4] == "accuracy by layer, mean of the languages"
    assert [line.split() for line in lines[5:8]] == [["layer", "test"], ["0", "25.00"], ["1", "50.00"]]
    assert lines[8:] == ["test: 1 ties, 2 sentences that stand more than once on their side"]


def test_of_several_metrics_the_last_evaluation_alone_shows_all() -> None:
    scores = {"de": {"accuracy": 0.5, "forth": 0.25, "back": 0.75, "examples": 4.0, "chance": 0.1}}
    titles, rows = rows_of({"before": scores, "test": scores})
    assert titles == ["language", "before", "test", "test forth", "test back", "examples"]
    assert rows == [["de", "50.00", "50.00", "25.00", "75.00", "4"]]


def test_files_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "results.json"
    record.write_json(target, {"a": 1})
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        record.write_json(target, {"a": 2})
    assert json.loads(target.read_text(encoding="utf-8")) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    target = tmp_path / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"state_dict": {"w": torch.ones(3)}}, target)

    class Unwritable:
        def __reduce__(self) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        writer.save_checkpoint({"state_dict": {"w": torch.zeros(3)}, "x": Unwritable()}, target)
    assert torch.equal(writer.load_checkpoint(target)["state_dict"]["w"], torch.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_loading_a_checkpoint_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    class Uninitialised:
        def __reduce__(self) -> tuple:
            return (torch.FloatTensor, (2, 2))

    def load(path: Path) -> Any:
        return AtomicCheckpointIO().load_checkpoint(path, weights_only=False)

    torch.save({"state_dict": {}, "x": Evil()}, tmp_path / "evil.ckpt")
    # Memory as it is, which torch itself admits.
    torch.save({"state_dict": {"w": Uninitialised()}}, tmp_path / "filled.ckpt")
    for name, read in itertools.product(("evil", "filled"), (resume.load, load)):
        with pytest.raises(InputError, match=rf"{name}\.ckpt: its list of tensors cannot be read"):
            read(tmp_path / f"{name}.ckpt")
    assert not (tmp_path / "ran").exists()


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).map(str.strip).filter(bool)


@settings(deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=5), st.sampled_from([".jsonl", ".csv", ".parquet"]))
def test_predictions_keep_every_text_whatever_the_format(texts: list[str], suffix: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.jsonl", Path(folder) / f"out{suffix}"
        source.write_text("".join(json.dumps({"premise": text}) + "\n" for text in texts), encoding="utf-8")
        order = list(reversed(range(len(texts))))
        table = pyarrow.table(
            {"example_id": order, "label": [None] * len(texts), "prediction": [f"p{i}" for i in order]}
        )
        rows = predictions.read(source, target)
        assert predictions.write(source, rows, target, {"en": table}) == len(texts)
        written = read_whole(target).to_pydict()
        assert written == {"premise": texts, "prediction": [f"p{i}" for i in range(len(texts))]}


def test_predictions_refuse_a_column_of_their_own_and_a_changed_file(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    table = {"en": pyarrow.table({"example_id": [0], "prediction": ["a"]})}
    target = tmp_path / "out.jsonl"
    source.write_text('{"prediction": "b"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="'prediction'"):
        predictions.read(source, target, ["prediction"])
    with pytest.raises(InputError, match="'prediction'"):
        predictions.write(source, predictions.read(source, target), target, table)
    source.write_text('{"text": "b"}\n{"text": "c"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="2 rows but 1"):
        predictions.write(source, predictions.read(source, target), target, table)
    assert not target.exists()


def test_the_last_step_counts_where_nothing_is_monitored() -> None:
    last = CheckpointThatCounts(monitor=None)
    last.saved_step = 7
    assert last.describe() == {"path": "checkpoints/last.ckpt", "rule": "the last step", "step": 7, "value": None}
    best = CheckpointThatCounts(monitor="val/accuracy", mode="max")
    best.best_step, best.best_value, best.saved_step = 3, 0.5, 7
    assert best.describe() == {"path": "checkpoints/best.ckpt", "rule": "highest val/accuracy", "step": 3, "value": 0.5}


def test_noise_is_a_function_of_seed_step_and_process() -> None:
    class At:
        def __init__(self, step: int, rank: int) -> None:
            self.global_step, self.global_rank = step, rank

    def draw(seed: int, step: int, rank: int) -> float:
        StepSeed(seed).on_train_batch_start(At(step, rank), None, None, 0)  # type: ignore[arg-type]
        return float(torch.rand(1, dtype=torch.float64))

    places = [(1, 0, 0), (1, 1, 0), (1, 0, 1), (2, 0, 0)]
    drawn = [draw(*place) for place in places]
    assert len(set(drawn)) == 4
    torch.rand(5)
    assert [draw(*place) for place in places] == drawn


def test_sixteen_bits_fall_back_only_where_they_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ernie_m_recipes.devices.cpu_has_bf16", lambda: False)
    with pytest.warns(UserWarning, match="falls back to 32-true"):
        assert supported_precision("bf16-mixed", "cpu") == "32-true"
    with pytest.warns(UserWarning, match="falls back to 32-true"):
        assert supported_precision("16-mixed", "cpu") == "32-true"
    assert supported_precision("32-true", "cpu") == "32-true"
    assert supported_precision("bf16-mixed", "tpu") == "bf16-mixed"
    monkeypatch.setattr("ernie_m_recipes.devices.cpu_has_bf16", lambda: True)
    assert supported_precision("bf16-mixed", "cpu") == "bf16-mixed"
    assert supported_precision("bf16-true", "cpu") == "bf16-true"
    with pytest.warns(UserWarning, match="falls back to 32-true"):
        assert supported_precision("16-mixed", "cpu") == "32-true"


@pytest.mark.parametrize(
    ("capabilities", "stated", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "", True),
        ({"avx512_bf16": False, "amx_bf16": True}, "", True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, "", False),
        ({"bf16": True, "sve_bf16": True}, "", False),
        ({}, "", False),
        ({}, "yes", True),
        ({"avx512_bf16": True}, "no", False),
    ],
)
def test_bfloat16_is_used_where_it_was_measured_to_pay(
    capabilities: dict[str, bool], stated: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setenv(BF16_VARIABLE, stated)
    assert cpu_has_bf16() is expected


def test_a_wrong_word_about_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BF16_VARIABLE, "1")
    with pytest.raises(InputError, match="ERNIE_M_CPU_BF16 is '1'; set it to yes or no"):
        cpu_has_bf16()


@pytest.mark.parametrize(
    ("devices", "nodes", "world", "alone"),
    [
        (1, 1, "", True),
        ("1", 1, "", True),
        (2, 1, "", False),
        ([0], 1, "", True),
        ([0, 1], 1, "", False),
        (1, 2, "", False),
        (1, 1, "4", False),
        ("auto", 1, "", True),
    ],
)
def test_data_parallelism_falls_away_on_one_device(
    devices: object, nodes: int, world: str, alone: bool, monkeypatch
) -> None:
    class Settings:
        accelerator = "cpu"

    trainer = Settings()
    trainer.devices, trainer.num_nodes = devices, nodes  # type: ignore[attr-defined]
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    if world:
        monkeypatch.setenv("WORLD_SIZE", world)
    assert runs_alone(trainer) is alone


def test_long_parser_messages_become_one_line() -> None:
    message = (
        "Parser key \"model\":\n  Does not validate against any of the Union subtypes\n  Subtypes: [<class 'x.Y'>]\n"
        "  Errors:\n    - Expected a <class 'float'>. Got value: abc\n    - Expected a <class 'NoneType'>\n"
        "  Given value type: <class 'dict'>\n"
        "  Given value: {'class_path': 'a.very.long.path.to.a.Class', 'init_args': {'x': 1, 'y': 2, 'z': 3}}"
    )
    assert shorten(message) == "model: expected float, got abc"


def test_only_the_users_mistakes_are_explained() -> None:
    assert explain(InputError("look here")) == "look here"
    assert explain(FileNotFoundError(2, "No such file", "a.csv")) == "there is no file a.csv"
    for error in (KeyError("x"), RuntimeError("shape"), ValueError("x"), AssertionError()):
        assert explain(error) is None


@pytest.mark.parametrize(
    ("stage", "done", "batches"),
    [("validation", "validated", "num_val_batches"), ("test", "tested", "num_test_batches"),
     ("predict", "predicted", "num_predict_batches")],
)  # fmt: skip
def test_an_evaluation_says_how_far_it_is_in_all_languages(
    stage: str, done: str, batches: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = SimpleNamespace(sanity_checking=False, **{batches: [3, 5]})
    now = [100.0]
    monkeypatch.setattr("ernie_m_recipes.callbacks.time.monotonic", lambda: now[0])
    progress = PlainProgress()
    getattr(progress, f"on_{stage}_start")(trainer, None)
    for number in range(8):
        now[0] += 8.0
        # The second loader begins with the fourth batch.
        getattr(progress, f"on_{stage}_batch_end")(trainer, None, None, {}, number % 3, number // 3)
    assert capsys.readouterr().out.splitlines() == [
        f"{done} batch 3 of 8, 0.12 batches/s, 0:40 left",
        f"{done} batch 6 of 8, 0.12 batches/s, 0:16 left",
    ]


def test_nothing_is_said_of_a_sanity_check_nor_in_other_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = PlainProgress(every_seconds=0.0)
    trainer = SimpleNamespace(sanity_checking=True, num_val_batches=[2], num_test_batches=[2])
    progress.on_validation_start(trainer, None)
    progress.on_validation_batch_end(trainer, None, None, {}, 0, 0)
    progress.disable()
    progress.on_test_batch_end(trainer, None, None, {}, 0, 0)
    assert capsys.readouterr().out == ""


def test_time_left_is_readable() -> None:
    assert [clock(seconds) for seconds in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]


def test_an_export_says_how_its_vectors_were_made() -> None:
    def said(**arguments: object) -> str:
        return usage({"class_path": "lightning_modules.SentenceRetrieval", "init_args": arguments})[0]

    assert "the mean over all tokens but padding of `last_hidden_state`" in said(layer=None, pooling="mean")
    assert "the first token of `hidden_states[8]`" in said(layer=8, pooling="cls")
    classification = {"class_path": "lightning_modules.SequenceClassification", "init_args": {}}
    assert usage(classification) == []
    assert usage(classification, "query: ")[0] == "Before every text stood `'query: '`; it is part of the text."


def test_predictions_beside_rows_without_a_header(tmp_path: Path) -> None:
    source, target = tmp_path / "in.tsv", tmp_path / "out.tsv"
    source.write_text("a\tx\nb\ty\n", encoding="utf-8")
    table = pyarrow.table({"example_id": [0, 1], "prediction": [1, 0]})
    rows = predictions.read(source, target, header=["source", "target"])
    assert predictions.write(source, rows, target, {"de": table}) == 2
    assert target.read_text(encoding="utf-8") == "source\ttarget\tprediction\na\tx\t1\nb\ty\t0\n"


def written_beside(table: pyarrow.Table, folder: Path, suffix: str) -> str:
    """What is written beside the rows of a Parquet file, one prediction a row."""
    source, target = folder / "in.parquet", folder / f"out{suffix}"
    parquet.write_table(table, source)
    predicted = pyarrow.table({"example_id": range(table.num_rows), "prediction": ["p"] * table.num_rows})
    predictions.write(source, predictions.read(source, target, ["prediction"]), target, {"en": predicted})
    return target.read_bytes().decode()


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_dates_and_times_are_written_in_iso_8601(suffix: str, tmp_path: Path) -> None:
    day, moment = datetime.date(2026, 2, 3), datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    table = pyarrow.table({"day": [day, None], "moment": [moment] * 2, "days": [[day]] * 2})
    (first, second) = written_beside(table, tmp_path, suffix).splitlines()[-2:]
    if suffix == ".jsonl":
        expected = {"day": "2026-02-03", "moment": "2026-02-03T04:05:06+00:00", "days": ["2026-02-03"]}
        assert json.loads(first) == expected | {"prediction": "p"}
        assert json.loads(second)["day"] is None
    elif suffix == ".csv":
        assert first == '2026-02-03,2026-02-03T04:05:06+00:00,"[""2026-02-03""]",p'
        assert second.startswith(",2026")
    else:
        assert first.split("\t") == ["2026-02-03", "2026-02-03T04:05:06+00:00", '["2026-02-03"]', "p"]
        assert second.startswith("\t2026")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
@pytest.mark.parametrize("value", [b"\x89PNG", {"path": "a", "bytes": b"\x89PNG"}])
def test_bytes_are_refused_but_for_parquet(suffix: str, value: object, tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["a"], "image": [value]})
    with pytest.raises(InputError, match=r"in\.parquet: column 'image' .* bytes"):
        written_beside(table, tmp_path, suffix)
    predicted = {"en": pyarrow.table({"example_id": [0], "prediction": ["p"]})}
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    predictions.write(source, predictions.read(source, target), target, predicted)
    assert read_whole(target).column("image").to_pylist() == [value]


def test_what_parquet_cannot_hold_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a", "meta": {}}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"in\.jsonl: column 'meta'"):
        predictions.read(source, tmp_path / "out.parquet")
    assert predictions.read(source, tmp_path / "out.jsonl").to_pylist() == [{"text": "a", "meta": {}}]


def test_nulls_are_empty_fields(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["a", None], "number": [None, 2]})
    assert written_beside(table, tmp_path, ".tsv") == "text\tnumber\tprediction\na\t\tp\n\t2\tp\n"
    assert written_beside(table, tmp_path, ".csv") == "text,number,prediction\na,,p\n,2,p\n"


def test_line_ends_within_a_field_are_kept_in_csv_and_spaces_in_tsv(tmp_path: Path) -> None:
    texts = ["a\rb", "a\nb", "a\r\nb", "a\tb"]
    table = pyarrow.table({"text": texts})
    written_beside(table, tmp_path, ".csv")
    assert read_whole(tmp_path / "out.csv").column("text").to_pylist() == texts
    written_beside(table, tmp_path, ".tsv")
    assert read_whole(tmp_path / "out.tsv").column("text").to_pylist() == ["a b"] * 4


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".parquet", ".arrow"])
def test_rows_of_every_format_keep_columns_and_order(suffix: str, tmp_path: Path) -> None:
    long = "x" * 200_000
    table = pyarrow.table({"z": ["1", "2"], "a.b": ["é", "中"], "m": [long, ""]})
    path = tmp_path / f"in{suffix}"
    names, records = table.column_names, table.to_pylist()
    if suffix == ".parquet":
        parquet.write_table(table, path)
    elif suffix == ".arrow":
        with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    else:
        separator = "," if "csv" in suffix else "\t"
        lines = [separator.join(names), *(separator.join(row.values()) for row in records)]
        if "jsonl" in suffix:
            lines = [json.dumps(row) for row in records]
        content = "".join(f"{line}\n" for line in lines).encode()
        path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    limit = csv.field_size_limit(131_072)
    try:
        rows = predictions.read(path, tmp_path / "out.csv")
    finally:
        csv.field_size_limit(limit)
    assert rows.column_names == names
    assert rows.to_pylist() == records


def test_objects_of_many_kinds_become_a_table(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"b": 1, "a": "x"}\n\n{"a": 5, "c": [1]}\n{"a": null}\n', encoding="utf-8")
    rows = predictions.read(source, tmp_path / "out.jsonl")
    assert rows.to_pydict() == {"b": [1, None, None], "a": ['"x"', "5", None], "c": [None, [1], None]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", b"a,b,a\n1,2,3\n", r"in\.csv: two columns are called 'a'"),
        ("in.csv", b"a,b\n1,2,3\n", r"in\.csv, line 2: 3 fields where 2 are expected"),
        ("in.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "is not a whole gzip file"),
        ("in.jsonl", b'{"a": "\\ud800"}\n', r"in\.jsonl, line 1: holds half a surrogate pair"),
        (
            "in.jsonl",
            b'{"a": {"\\udfff": 1}, "\\ud83d\\ude00": 2}\n',
            r"in\.jsonl, line 1: holds half a surrogate pair",
        ),
        ("in.jsonl", b'{"a": 1}\n[]\n', r"in\.jsonl, line 2: expected a JSON object"),
        ("in.arrow", b"a,b\n1,2\n", r"in\.arrow cannot be read as Arrow"),
        ("in.xlsx", b"", "cannot tell its format"),
        ("in.parquet.gz", b"", "cannot tell its format"),
    ],
)
def test_rows_that_cannot_be_read_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        predictions.read(tmp_path / name, tmp_path / "out.csv")


def test_an_export_says_what_its_weights_came_from(tmp_path: Path) -> None:
    run, other = tmp_path / "1-run", tmp_path / "weights"
    for folder in (run / "checkpoints", run / "export", other):
        folder.mkdir(parents=True)
    (run / "config.yaml").touch()
    (run / "checkpoints" / "best.ckpt").touch()
    scratch = {"backbone": "some/tokenizer", "from_scratch": {"hidden_size": 8}, "init_from": None}
    assert origin(scratch) == "trained from random weights"
    for source, name in (
        (run / "checkpoints" / "best.ckpt", "1-run/best.ckpt"),
        (run / "export", "1-run/export"),
        (other, "weights"),
        ("some/model", "some/model"),
    ):
        assert origin(scratch | {"init_from": str(source)}) == f"fine-tuned from `{name}`"
        assert origin({"backbone": str(source)}) == f"fine-tuned from `{name}`"


def test_a_model_card_has_the_licence_of_the_backbones_card(tmp_path: Path) -> None:
    """Of whatever family: a licence and a base that nobody states are not made up."""
    config = {
        "run": {"name": "x"},
        "data": {"class_path": "datamodules.XNLI", "init_args": {"prefix": 'say "', "max_length": 8}},
        "model": {"class_path": "lightning_modules.SequenceClassification", "init_args": {"backbone": "some/model"}},
    }
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    for network, family in (
        (ErnieMForSequenceClassification(ErnieMConfig(**sizes)), "ernie_m"),
        (BertForSequenceClassification(BertConfig(**sizes)), "bert"),
    ):
        for base, stated in (
            (None, {}),
            (Base("unknown", None), {"license": "unknown"}),
            (Base("mit", "a/b"), {"license": "mit", "base_model": "a/b"}),
        ):
            card = model_card(network, config, {}, base)
            front = yaml.safe_load(card.split("---\n")[1])
            assert front == {"library_name": "transformers", **stated, "tags": [family, "cross-lingual"]}
            assert r'tokenizer("say \"A text.", truncation=True, max_length=8' in card
    # As the Hub reads it: shares, of every language and their mean, and no place on this machine.
    scores = {
        name: {"accuracy": 0.12345, "macro_f1": 0.1, "examples": 3.0, "chance": 0.5} for name in ("de", "en", "mean")
    }
    for path, kind in (("facebook/xnli", "facebook/xnli"), (str(tmp_path), "xnli"), ("../a", "xnli"), (None, "xnli")):
        config["data"]["init_args"]["path"] = path
        card = model_card(network, config, {"test": scores, "validate": scores})
        found = ModelCard(card).data.eval_results
        assert [(one.dataset_type, one.dataset_name, one.metric_type, one.metric_value) for one in found] == [
            (kind, f"XNLI ({name})", "accuracy", 0.1235) for name in ("de", "en", "mean of 2 languages")
        ]  # fmt: skip
        assert {one.task_type for one in found} == {"text-classification"}
    card = tmp_path / "README.md"
    for text, base in (
        ("", Base("unknown", None)),
        ("---\nlicense: cc-by-4.0\nbase_model: x/y\n---\nText", Base("cc-by-4.0", "x/y")),
        ("---\nlicense: [a]\nbase_model: a/b/../c\n---\n", Base("unknown", None)),
        ("---\nlicense: *x\n---\n", Base("unknown", None)),
    ):
        card.write_text(text, encoding="utf-8")
        assert base_of(str(tmp_path)) == base
    assert base_of("ernie-m-mini") == Base("mit", "intfloat/multilingual-e5-small")
    assert base_of("nobody/nothing") == Base("unknown", "nobody/nothing")
