"""Texts with prompts: what a window is trained on, what is refused, and that no character is lost on the way."""

import gzip
import json
import string
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from datamodules import PromptedSpans
from datamodules.prompted_rows import read_prompted
from ernie_m.errors import InputError

CONTENT = "Die Häuser von Anna stehen in Rom, in Wien und, seit gestern, auch in Santiago de Chile. " * 3


def result(content: str, text: str, after: int = 0) -> dict[str, Any]:
    start = content.index(text, after)
    return {"text": text, "start": start, "end": start + len(text)}


def row_of(*results: dict[str, Any], content: str = CONTENT, prompt: str = "Ort") -> dict[str, Any]:
    return {"content": content, "prompt": prompt, "result_list": list(results)}


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def module_of(tokenizer: Path, **options: Any) -> PromptedSpans:
    return PromptedSpans(str(tokenizer), **({"max_length": 40, "max_prompt_length": 8, "doc_stride": 12} | options))


def encoded(data: PromptedSpans, path: str, split: str = "train") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = data.encode(data.read(split, "de", [Path(path)])).to_pylist()
    return rows


def test_every_window_marks_what_starts_and_ends_in_it(sample_tokenizer_dir: Path, tmp_path: Path) -> None:
    results = [
        result(CONTENT, "Rom"),
        result(CONTENT, "Santiago de Chile", after=100),
        result(CONTENT, "Anna", after=150),
    ]
    path = write(tmp_path / "a.jsonl", [row_of(*results), row_of(content="Nichts.")])
    data = module_of(sample_tokenizer_dir)
    windows = encoded(data, path)
    assert [window["row"] for window in windows] == [0] * (len(windows) - 1) + [1]
    whole = set()
    for window in windows:
        assert len(window["input_ids"]) == window["length"] == window["weight"] <= 40
        starts = [window["offsets_begin"][i] for i, mark in enumerate(window["start_positions"]) if mark]
        ends = [window["offsets_end"][i] for i, mark in enumerate(window["end_positions"]) if mark]
        text = [place for place in window["offsets_begin"] if place >= 0]
        held = range(min(text), max(window["offsets_end"]))
        # Of a result that the window cuts, the end that lies in it is marked.
        if window["row"] == 0:
            assert starts == sorted(one["start"] for one in results if one["start"] in held)
            assert ends == sorted(one["end"] for one in results if one["end"] - 1 in held)
            whole |= {(one["start"], one["end"]) for one in results if one["start"] in starts and one["end"] in ends}
        else:
            assert (starts, ends) == ([], [])
    assert whole == {(one["start"], one["end"]) for one in results}
    assert [sum(window[name] for window in windows) for name in ("results", "inexact")] == [3, 0]
    # Prompt and special tokens are no place of a result.
    layout = data.tokenizer("Ort", "Die", add_special_tokens=True)["input_ids"]
    head = len(layout) - 1 - len(data.tokenizer("Die", add_special_tokens=False)["input_ids"])
    assert all(set(window["offsets_begin"][:head]) == {-1} for window in windows)


def test_batches_hold_what_their_stage_needs(sample_tokenizer_dir: Path, tmp_path: Path) -> None:
    files = {"de": write(tmp_path / "a.jsonl", [row_of(result(CONTENT, "Wien"))] * 4)}
    new = write(tmp_path / "new.jsonl", [{"content": CONTENT, "prompt": "Ort"}])
    options = {"global_batch_size": 8, "cache_dir": str(tmp_path / "cache"), "predict_path": new}
    data = module_of(sample_tokenizer_dir, train_files=files, validation_files=files, **options)
    for stage in ("fit", "predict"):
        data.setup(stage)
    common = {"input_ids", "attention_mask", "row", "example_ids", "language", "weights"}
    (micro,) = next(iter(data.train_dataloader()))
    assert set(micro) == common | {"start_positions", "end_positions", "normaliser"}
    assert micro["start_positions"].shape == micro["input_ids"].shape
    assert micro["normaliser"] == micro["attention_mask"].sum()
    assert not (micro["start_positions"] * (1 - micro["attention_mask"])).any()
    for (loader,) in (data.val_dataloader(), data.predict_dataloader()):
        assert set(next(iter(loader))) == common | {"offsets_begin", "offsets_end"}
    assert data.references("validate", "de")["begins"].to_pylist() == [[CONTENT.index("Wien")]] * 4
    assert data.references("predict", "de").to_pylist() == [
        {"content": CONTENT, "prompt": "Ort", "begins": [], "ends": []}
    ]
    assert "4 prompts with 4 results in" in data.fingerprints()["train/de"]


def test_results_that_no_token_begins_or_ends_with_are_counted(sample_tokenizer_dir: Path, tmp_path: Path) -> None:
    inside, longer = result(CONTENT, "äuse"), {"text": CONTENT[:200], "start": 0, "end": 200}
    data = module_of(sample_tokenizer_dir)
    windows = encoded(data, write(tmp_path / "a.jsonl", [row_of(inside, longer, result(CONTENT, "Rom"))]))
    assert [sum(window[name] for window in windows) for name in ("results", "inexact")] == [3, 2]


@pytest.mark.parametrize("ending", ["json", "parquet", "jsonl.gz"])
def test_other_formats_are_read_alike(ending: str, tmp_path: Path) -> None:
    rows = [row_of(result(CONTENT, "Rom") | {"probability": 0.5}), row_of()]
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif ending == "json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    else:
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    found = read_prompted([path], "content", "prompt", "result_list")
    start = CONTENT.index("Rom")
    assert [row.spans for row in found] == [((start, start + 3),), ()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"result_list": [{"text": "Rom", "start": 0, "end": 3}]}, "text is str 'Rom', but from 0 to 3 stands 'Die'"),
        ({"result_list": [{"text": "x", "start": 9999, "end": 10000}]}, "9999 to 10000 is no part of the content"),
        ({"result_list": [{"text": "", "start": 3, "end": 3}]}, "3 to 3 is no part"),
        ({"result_list": [{"text": "x", "start": -7, "end": -6}]}, "start is -7. Offsets that count back into the"),
        ({"result_list": [{"text": " ", "start": 3, "end": 4}]}, "text is blank"),
        ({"result_list": [{"text": "Die", "start": "0", "end": 3}]}, "start and end whole numbers"),
        ({"result_list": [{"text": "Die", "start": False, "end": 3}]}, "start and end whole numbers"),
        ({"result_list": [{"text": "Die", "start": 0}]}, r"\[0\] is dict .* it must be an object with text"),
        ({"result_list": ["Die"]}, "it must be an object with text, start and end"),
        ({"result_list": None}, r"column 'result_list' is NoneType None; it must be a list"),
        ({"result_list": "[]"}, "it must be a list of objects"),
        ({"prompt": "  "}, "column 'prompt' is empty"),
        ({"prompt": 5}, "column 'prompt' is int 5, which is no text"),
        ({"content": ""}, "column 'content' is empty"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [row_of(result(CONTENT, "Rom")), row_of() | change])
    with pytest.raises(InputError, match=rf"a\.jsonl, line 2.*{message}"):
        read_prompted([Path(path)], "content", "prompt", "result_list")


def test_a_row_without_results_is_refused_but_in_prediction(sample_tokenizer_dir: Path, tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.jsonl", [{"content": "a", "prompt": "b"}]))
    data = module_of(sample_tokenizer_dir)
    with pytest.raises(InputError, match=r"a\.jsonl, line 1: no column 'result_list'; it has 'content', 'prompt'"):
        data.read("validation", "de", [path])
    assert data.read("predict", "de", [path])["begins"].to_pylist() == [[]]


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="max_prompt_length is 40; it must be below max_length, 40"):
        PromptedSpans("unused", max_length=40, max_prompt_length=40)


letters = st.sampled_from(string.ascii_letters + " äß中文é😀\u0301")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.text(letters, min_size=1, max_size=80).filter(lambda text: bool(text.strip())),
    bounds=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), max_size=4),
)
def test_marks_of_windows_are_those_of_the_whole_text(content, bounds, sample_tokenizer_dir: Path, tmp_path_factory):
    """Whatever the window, a token is marked as it would be in one that holds all of the text."""
    spans = {(first, last) for first, last in bounds if first < last <= len(content) and content[first:last].strip()}
    results = [{"text": content[first:last], "start": first, "end": last} for first, last in spans]
    path = write(tmp_path_factory.mktemp("texts") / "a.jsonl", [row_of(*results, content=content)])
    marks = []
    for options in ({"max_length": 16, "doc_stride": 3}, {"max_length": 256}):
        found: dict[str, set[tuple[int, int]]] = {"start_positions": set(), "end_positions": set(), "all": set()}
        for window in encoded(module_of(sample_tokenizer_dir, **options), path):
            places = list(zip(window["offsets_begin"], window["offsets_end"], strict=True))
            for name in ("start_positions", "end_positions"):
                found[name] |= {places[token] for token, mark in enumerate(window[name]) if mark}
            found["all"] |= set(places)
        marks.append(found)
    assert marks[0] == marks[1]
    assert len(marks[0]["start_positions"]) <= len(spans)
