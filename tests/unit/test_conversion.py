"""Conversion from Paddle: every tensor in its place or named, nothing half-written, and every fault one clear error."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

from ernie_m import conversion, hub
from ernie_m.conversion import convert, main
from ernie_m.conversion_sources import HEADS
from ernie_m.errors import InputError
from ernie_m.tokenization import ErnieMTokenizer

WORDS, POSITIONS, WIDTH, LAYERS = 50, 20, 8, 2
PADDLE_CONFIG = {
    "vocab_size": WORDS,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": 16,
    "hidden_act": "gelu",
}


def paddle_state(classifier: int | None = None, uie: bool = False) -> dict[str, np.ndarray]:
    """A PaddleNLP state dict; its Linear weights are (inputs, outputs)."""
    prefix = "" if classifier is None and not uie else "ernie_m."
    linears = {f"{prefix}pooler.dense": (WIDTH, WIDTH)}
    norms = [f"{prefix}embeddings.layer_norm"]
    for layer in range(LAYERS):
        start = f"{prefix}encoder.layers.{layer}."
        linears |= {f"{start}self_attn.{part}": (WIDTH, WIDTH) for part in ("q_proj", "k_proj", "v_proj", "out_proj")}
        linears |= {f"{start}linear1": (WIDTH, 4 * WIDTH), f"{start}linear2": (4 * WIDTH, WIDTH)}
        norms += [f"{start}norm1", f"{start}norm2"]
    if classifier is not None:
        linears["classifier"] = (WIDTH, classifier)
    if uie:
        linears |= {"linear_start": (WIDTH, 1), "linear_end": (WIDTH, 1)}
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}embeddings.word_embeddings.weight": (WORDS, WIDTH),
        f"{prefix}embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
    }
    shapes |= {f"{name}.weight": shape for name, shape in linears.items()}
    shapes |= {f"{name}.bias": shape[1:] for name, shape in linears.items()}
    shapes |= {f"{name}.{part}": (WIDTH,) for name in norms for part in ("weight", "bias")}
    draw = np.random.default_rng(0)
    return {name: draw.standard_normal(shape).astype("float32") for name, shape in shapes.items()}


def write_paddle(
    folder: Path, state: dict[str, np.ndarray], config: object = None, name: str = "config.json", protocol: int = 4
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(PADDLE_CONFIG if config is None else config), encoding="utf-8")
    table = {"StructuredToParameterName@@": {key: f"parameter_{key}" for key in state}}
    (folder / "model_state.pdparams").write_bytes(pickle.dumps({**state, **table}, protocol=protocol))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_paddle(tmp_path / "source", paddle_state())


def assert_nothing_written(folder: Path, *expected: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(expected)


# From Paddle


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_paddle_tensors_are_renamed_and_turned(tmp_path: Path, protocol: int) -> None:
    state = paddle_state()
    write_paddle(tmp_path / "source", state, protocol=protocol)
    report = convert(tmp_path / "source", tmp_path / "target")
    assert (report.origin, report.head, report.dropped) == ("paddle", "base", ())
    written = load_file(tmp_path / "target" / "model.safetensors")
    assert report.tensors == len(written) == len(state)
    assert report.parameters == sum(array.size for array in state.values())
    for key, array in state.items():
        name = re.sub(r"self_attn\.([qkv]_proj)", r"self_attn.self_attn.\1", key)
        turned = array.T if array.ndim == 2 and "embeddings" not in key else array
        np.testing.assert_array_equal(written[name].numpy(), turned, err_msg=key)
    with safe_open(tmp_path / "target" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    config = json.loads((tmp_path / "target" / "config.json").read_text(encoding="utf-8"))
    assert config["intermediate_size"] == 4 * WIDTH
    assert config["architectures"] == ["ErnieMModel"]
    assert config["dtype"] == "float32"


@pytest.mark.parametrize(
    ("architecture", "head", "classifier"),
    [
        ("ErnieMForSequenceClassification", "sequence-classification", 5),
        ("ErnieMForTokenClassification", "token-classification", 7),
        ("ErnieMForQuestionAnswering", "question-answering", 2),
        ("ErnieMForMultipleChoice", "multiple-choice", 1),
        ("UIEM", "information-extraction", None),
    ],
)
@pytest.mark.parametrize("told_by", ["architectures", "init_class", "argument"])
def test_every_paddle_head_loads_strictly(
    tmp_path: Path, architecture: str, head: str, classifier: int | None, told_by: str
) -> None:
    state = paddle_state(classifier, uie=architecture == "UIEM")
    told: dict[str, Any] = {"architectures": {"architectures": [architecture]}, "argument": {}}.get(told_by, {})
    if told_by == "init_class":
        inner = {**PADDLE_CONFIG, "init_class": "ErnieMModel"}
        old = {"init_args": [inner], "init_class": architecture, "dropout": 0.25}
        write_paddle(tmp_path / "source", state, old, "model_config.json")
    else:
        write_paddle(tmp_path / "source", state, {**PADDLE_CONFIG, **told})
    report = convert(tmp_path / "source", tmp_path / "target", head=head if told_by == "argument" else None)
    assert report.head == head
    model, loading = HEADS[head].from_pretrained(tmp_path / "target", output_loading_info=True)
    assert not any(loading.values())
    pooler = ("ernie_m.pooler.dense.bias", "ernie_m.pooler.dense.weight")
    assert report.dropped == (() if head in ("sequence-classification", "multiple-choice") else pooler)
    if head in ("sequence-classification", "token-classification"):
        assert len(model.config.id2label) == model.config.num_labels == classifier
        np.testing.assert_array_equal(model.classifier.weight.detach(), state["classifier.weight"].T)
    if head == "question-answering":
        np.testing.assert_array_equal(model.qa_outputs.weight.detach(), state["classifier.weight"].T)
    assert model.config.classifier_dropout == (0.25 if told_by == "init_class" else None)


@pytest.mark.parametrize(
    ("classifier", "choices"),
    [
        (1, "sequence-classification, token-classification, multiple-choice"),
        (2, "sequence-classification, token-classification, question-answering"),
        (3, "sequence-classification, token-classification"),
    ],
)
def test_a_head_that_cannot_be_told_is_asked_for(tmp_path: Path, classifier: int, choices: str) -> None:
    write_paddle(tmp_path / "ErnieMForTokenClassification", paddle_state(classifier))
    with pytest.raises(InputError, match=rf"--head .*one of {choices}$"):
        convert(tmp_path / "ErnieMForTokenClassification", tmp_path / "target")
    assert_nothing_written(tmp_path, "ErnieMForTokenClassification")


def test_base_leaves_the_head_behind(tmp_path: Path) -> None:
    write_paddle(
        tmp_path / "source", paddle_state(3), {**PADDLE_CONFIG, "architectures": ["ErnieMForTokenClassification"]}
    )
    report = convert(tmp_path / "source", tmp_path / "target", head="base")
    assert report.dropped == ("classifier.bias", "classifier.weight")
    _, loading = HEADS["base"].from_pretrained(tmp_path / "target", output_loading_info=True)
    assert not any(loading.values())


def test_label_names_come_along(tmp_path: Path) -> None:
    names = {"0": "entailment", "1": "neutral", "2": "contradiction"}
    config = {**PADDLE_CONFIG, "architectures": ["ErnieMForSequenceClassification"], "id2label": names}
    convert(write_paddle(tmp_path / "source", paddle_state(3), config), tmp_path / "target")
    read = transformers.AutoConfig.from_pretrained(tmp_path / "target")
    assert read.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}
    assert read.label2id["contradiction"] == 2


@pytest.mark.parametrize(("dtype", "written"), [("float16", torch.float16), ("uint16", torch.bfloat16)])
def test_half_precision_stays(tmp_path: Path, dtype: str, written: torch.dtype) -> None:
    state = paddle_state()
    if dtype == "uint16":
        state = {key: (array.view("uint32") >> 16).astype("uint16") for key, array in state.items()}
    else:
        state = {key: array.astype(dtype) for key, array in state.items()}
    convert(write_paddle(tmp_path / "source", state), tmp_path / "target")
    model = HEADS["base"].from_pretrained(tmp_path / "target")
    assert model.dtype == written
    expected = torch.from_numpy(state["pooler.dense.weight"].T.copy().view("int16")).view(written)
    assert torch.equal(model.pooler.dense.weight, expected)


def test_positions_buffer_of_old_paddle_is_dropped_by_name(tmp_path: Path) -> None:
    state = paddle_state() | {"embeddings.position_ids": np.arange(POSITIONS)[None]}
    report = convert(write_paddle(tmp_path / "source", state), tmp_path / "target")
    assert report.dropped == ("embeddings.position_ids",)


# Tokenizers


def test_paddle_tokenizer_comes_along_with_paddles_rule(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    words = len((sample_tokenizer_dir / "vocab.txt").read_text(encoding="utf-8").splitlines())
    state = paddle_state() | {"embeddings.word_embeddings.weight": np.zeros((words, WIDTH), "float32")}
    source = write_paddle(tmp_path / "source", state, {**PADDLE_CONFIG, "vocab_size": words})
    shutil.copy(sample_tokenizer_dir / "vocab.txt", source / "ernie_m.vocab.txt")
    shutil.copy(sample_tokenizer_dir / "sentencepiece.bpe.model", source / "ernie_m.sentencepiece.bpe.model")
    report = convert(source, tmp_path / "target")
    assert report.segmentation == "paddle"
    for name in ("vocab.txt", "sentencepiece.bpe.model"):
        assert (tmp_path / "target" / name).read_bytes() == (sample_tokenizer_dir / name).read_bytes()
    tokenizer = ErnieMTokenizer.from_pretrained(tmp_path / "target")
    assert tokenizer.segmentation == "paddle"
    assert tokenizer.model_max_length == POSITIONS - 2
    assert convert(source, tmp_path / "other", segmentation="hf").segmentation == "hf"
    assert ErnieMTokenizer.from_pretrained(tmp_path / "other").segmentation == "hf"


def test_vocabulary_of_another_length_is_refused(tmp_path: Path, source: Path, sample_tokenizer_dir: Path) -> None:
    for name in ("vocab.txt", "sentencepiece.bpe.model"):
        shutil.copy(sample_tokenizer_dir / name, source)
    with pytest.raises(
        InputError, match=rf"vocab\.txt: \d+ tokens, the embedding in model_state\.pdparams has {WORDS}"
    ):
        convert(source, tmp_path / "target")
    assert_nothing_written(tmp_path, "source")


# Bad input


def check(tmp_path: Path, source: Path, said: str, head: str | None = None) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError, match=said):
        convert(source, tmp_path / "target", head=head)
    assert_nothing_written(tmp_path, *before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pooler.dense.bias": None}, r"model_state\.pdparams: .*lacks pooler\.dense\.bias"),
        ({"encoder.layers.1.norm2.bias": None}, r"lacks encoder\.layers\.1\.norm2\.bias"),
        ({"embeddings.word_embeddings.weight": None}, r"no tensor embeddings\.word_embeddings\.weight"),
        ({"encoder.layers.0.extra": (3,)}, r"also holds encoder\.layers\.0\.extra"),
        ({"word_embedding": (WORDS, WIDTH)}, r"also holds word_embedding"),
        ({"pooler.dense.weight": (WIDTH, 3)}, r"pooler\.dense\.weight: shape \(3, 8\).*\(8, 8\) expected"),
        ({"encoder.layers.0.linear1.weight": (4 * WIDTH, WIDTH)}, r"linear1\.weight: shape \(8, 32\)"),
        ({"embeddings.word_embeddings.weight": (WORDS + 1, WIDTH)}, r"config\.json: vocab_size is 50, .* make it 51"),
        ({"embeddings.word_embeddings.weight": (WORDS * WIDTH,)}, r"word_embeddings\.weight: shape \(400,\)"),
        ({"ernie_m.pooler.dense.bias": (WIDTH,)}, r"holds both pooler\.dense\.bias and ernie_m\.pooler\.dense\.bias"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, change: dict[str, tuple[int, ...] | None], said: str
) -> None:
    state = paddle_state()
    for key, shape in change.items():
        if shape is None:
            del state[key]
        else:
            state[key] = np.zeros(shape, "float32")
    check(tmp_path, write_paddle(tmp_path / "source", state), said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "bert"}, r"config\.json: model_type 'bert'"),
        ({"architectures": ["BertModel"]}, r"config\.json: architectures says 'BertModel'"),
        ({"init_class": "ErnieModel"}, r"config\.json: init_class says 'ErnieModel'"),
        ({"num_attention_heads": None}, r"config\.json: no num_attention_heads"),
        ({"num_attention_heads": 3}, r"config\.json: .*hidden_size 8 .*num_attention_heads 3"),
        ({"num_attention_heads": "two"}, r"config\.json: .*num_attention_heads"),
        ({"num_hidden_layers": 3}, r"num_hidden_layers is 3, .* make it 2"),
        ({"hidden_size": 768}, r"hidden_size is 768, .* make it 8"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    check(tmp_path, write_paddle(tmp_path / "source", paddle_state(), {**PADDLE_CONFIG, **change}), said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_labels": 4}, r"config\.json: 4 labels, .* has 3; correct num_labels"),
        ({"id2label": {"0": "a", "1": "b"}}, r"config\.json: 2 labels, .* has 3; correct id2label"),
        ({"id2label": {"0": "a", "1": "b", "3": "c"}}, r"id2label has the keys \[0, 1, 3\]"),
        ({"id2label": {"a": 0, "b": 1, "c": 2}}, r"id2label has the key 'a'"),
        ({"architectures": ["UIEM"]}, r"its tensors are those of .*, not of information-extraction"),
        (
            {"architectures": ["ErnieMForTokenClassification"]},
            r"names ErnieMForTokenClassification, but the head asked",
        ),
    ],
)
def test_labels_and_heads_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    source = write_paddle(tmp_path / "source", paddle_state(3), {**PADDLE_CONFIG, **change})
    check(tmp_path, source, said, head=None if "UIEM" in str(change) else "sequence-classification")


@pytest.mark.parametrize(
    ("head", "said"), [("masked-lm", "not of masked-lm"), ("ner", "head 'ner' is unknown; choose among base, ")]
)
def test_impossible_heads_are_refused(tmp_path: Path, source: Path, head: str, said: str) -> None:
    check(tmp_path, source, said, head=head)


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_truncated_pickle_is_refused(tmp_path: Path, source: Path, length: int) -> None:
    path = source / "model_state.pdparams"
    path.write_bytes(path.read_bytes()[:length])
    check(tmp_path, source, r"model_state\.pdparams: .*(ends|no valid pickle).* fetch")


def test_a_pickle_that_calls_is_refused(tmp_path: Path, source: Path) -> None:
    (source / "model_state.pdparams").write_bytes(b"\x80\x02cos\nsystem\nX\x09\x00\x00\x00touch ran\x85R.")
    check(tmp_path, source, r"model_state\.pdparams: asks for os\.system")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"no config\.json or model_config\.json"),
        (b"{", r"config\.json: not JSON"),
        (b"\xff", r"config\.json: not JSON"),
        (b"[1]", r"config\.json: holds a list"),
    ],
)
def test_a_bad_configuration_file_is_refused(tmp_path: Path, source: Path, content: bytes | None, said: str) -> None:
    (source / "config.json").unlink()
    if content is not None:
        (source / "config.json").write_bytes(content)
    check(tmp_path, source, said)


def test_targets_in_the_way_are_refused(tmp_path: Path, source: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(InputError, match="target: exists already"):
        convert(source, tmp_path / "target")
    with pytest.raises(InputError, match="there is no folder"):
        convert(source, tmp_path / "no" / "target")
    assert_nothing_written(tmp_path, "source", "target")


# Writing, the Hub and the command


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_failure_while_writing_leaves_nothing(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, failure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path, tensors: object) -> None:
        path.write_bytes(b"half")
        raise failure

    monkeypatch.setattr(conversion, "write_safetensors", fail)
    status = main([str(source), str(tmp_path / "target")])
    assert status == (130 if failure is KeyboardInterrupt else 2)
    said = capsys.readouterr().err
    assert ("interrupted" in said) == (status == 130)
    assert ("No space left" in said) == (status == 2)
    assert_nothing_written(tmp_path, "source")


def test_the_target_has_ordinary_permissions(tmp_path: Path, source: Path) -> None:
    convert(source, tmp_path / "target")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "target").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_hub_id_is_downloaded_with_one_kind_of_weights(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(name: str, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns[0]))
        snapshot = tmp_path / "0123abc"
        snapshot.mkdir(exist_ok=True)
        shutil.copy(source / "config.json", snapshot)
        if "*.pdparams" in allow_patterns:
            shutil.copy(source / "model_state.pdparams", snapshot)
        return str(snapshot)

    monkeypatch.setattr(hub, "snapshot_download", download)
    report = convert("someone/ernie-m", tmp_path / "target")
    assert report.source == "someone/ernie-m"
    assert asked == [
        ("someone/ernie-m", None, "*.json"),
        ("someone/ernie-m", "0123abc", "model.safetensors"),
        ("someone/ernie-m", "0123abc", "pytorch_model.bin"),
        ("someone/ernie-m", "0123abc", "*.pdparams"),
    ]


def test_the_hub_out_of_reach_says_how_to_work_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["someone/else", str(tmp_path / "target")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: someone/else: no such folder here, and the Hub did not give it")
    assert "give its folder" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["./missing", "/missing/folder", "a/b/c"])
def test_a_path_that_is_not_there_is_not_looked_up_on_the_hub(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"no such folder$"):
        convert(name, tmp_path / "target")


def test_a_file_as_source_is_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(InputError, match=r"model_state\.pdparams: is a file; give the folder"):
        convert(source / "model_state.pdparams", tmp_path / "target")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_paddle(tmp_path / "source", paddle_state(2))
    assert main([str(source), str(tmp_path / "target")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: {source}")
    assert main([str(source), str(tmp_path / "target"), "--head", "question-answering"]) == 0
    printed = capsys.readouterr().out
    assert "dropped" in printed
    assert "ernie_m.pooler.dense.weight" in printed


def test_the_module_runs_as_a_command(tmp_path: Path, source: Path) -> None:
    # sentencepiece 0.2.1 crashes where a warning of its own wrapper becomes an error.
    strict = ["-W", "error", "-W", "ignore:builtin type:DeprecationWarning"]
    command = [sys.executable, *strict, "-m", "ernie_m.conversion", str(source), str(tmp_path / "target")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])
    assert (done.returncode, done.stderr) == (0, "")
    assert f"ErnieMModel: {len(paddle_state())} tensors" in done.stdout
    HEADS["base"].from_pretrained(tmp_path / "target")
