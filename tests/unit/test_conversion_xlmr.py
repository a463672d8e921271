"""XLM-R's weights become ERNIE-M's: the same outputs from every head, and every fault one clear error."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
import transformers
from safetensors.torch import load_file, save_file

from ernie_m.conversion import convert
from ernie_m.conversion_sources import HEADS
from ernie_m.errors import InputError
from ernie_m.tokenization import ErnieMTokenizer


def xlmr(name: str, **overrides: Any) -> Any:
    sizes = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 48, "max_position_embeddings": 34, "type_vocab_size": 1}
    labels = 2 if name.endswith("QuestionAnswering") else 3
    config = transformers.XLMRobertaConfig(**{**sizes, "layer_norm_eps": 1e-5, "num_labels": labels, **overrides})
    torch.manual_seed(0)
    model = getattr(transformers, name)(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # biases and token types count too
    return model


XLMR_HEADS = pytest.mark.parametrize(
    ("name", "head"),
    [
        ("XLMRobertaModel", "base"),
        ("XLMRobertaForSequenceClassification", "sequence-classification"),
        ("XLMRobertaForTokenClassification", "token-classification"),
        ("XLMRobertaForQuestionAnswering", "question-answering"),
        ("XLMRobertaForMultipleChoice", "multiple-choice"),
        ("XLMRobertaForMaskedLM", "masked-lm"),
    ],
)


def assert_same_outputs(theirs: Any, folder: Path, head: str) -> None:
    ours, loading = HEADS[head].from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values())
    shape = (2, 3, 11) if head == "multiple-choice" else (3, 11)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 90, shape, generator=generator)
    mask = torch.ones_like(ids)
    mask[..., 1, 7:] = 0
    ids[mask == 0] = 1
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=mask)
        given = ours.eval()(input_ids=ids, attention_mask=mask)
    assert list(given) == list(expected)
    for key in expected:
        real = mask.bool() if expected[key].shape[:2] == mask.shape else ...
        torch.testing.assert_close(given[key][real], expected[key][real], rtol=0, atol=1e-5)


@XLMR_HEADS
def test_xlmr_outputs_stay(tmp_path: Path, name: str, head: str) -> None:
    theirs = xlmr(name)
    theirs.save_pretrained(tmp_path / "source")
    report = convert(tmp_path / "source", tmp_path / "target")
    assert (report.origin, report.head) == ("xlm-roberta", head)
    assert_same_outputs(theirs, tmp_path / "target", head)


@pytest.mark.parametrize("layout", ["sharded", "bin", "sharded bin", "legacy bin"])
def test_every_layout_of_xlmr_weights(tmp_path: Path, layout: str) -> None:
    theirs = xlmr("XLMRobertaForMaskedLM")
    source = tmp_path / "source"
    theirs.save_pretrained(source, max_shard_size="20KB" if layout == "sharded" else "1GB")
    if layout == "sharded":
        assert len(list(source.glob("model-*.safetensors"))) > 1
    else:
        (source / "model.safetensors").unlink()
        # As transformers 4 wrote it: the tied decoder and the buffers are there as well.
        state = theirs.state_dict() | {"roberta.embeddings.position_ids": torch.arange(34)[None]}
        if layout == "sharded bin":
            parts = {"pytorch_model-1.bin": sorted(state)[::2], "pytorch_model-2.bin": sorted(state)[1::2]}
            for part, keys in parts.items():
                torch.save({key: state[key] for key in keys}, source / part)
            places = {key: part for part, keys in parts.items() for key in keys}
            (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
        else:
            torch.save(state, source / "pytorch_model.bin", _use_new_zipfile_serialization=layout == "bin")
    report = convert(source, tmp_path / "target")
    tied = ("lm_head.decoder.bias", "lm_head.decoder.weight", "roberta.embeddings.position_ids")
    assert report.dropped == (() if layout == "sharded" else tied)
    assert_same_outputs(theirs, tmp_path / "target", "masked-lm")


def test_untied_decoder_is_kept(tmp_path: Path) -> None:
    theirs = xlmr("XLMRobertaForMaskedLM", tie_word_embeddings=False)
    theirs.save_pretrained(tmp_path / "source")
    assert convert(tmp_path / "source", tmp_path / "target").dropped == ()
    assert_same_outputs(theirs, tmp_path / "target", "masked-lm")


def test_decoder_that_is_not_the_embedding_is_refused(tmp_path: Path) -> None:
    theirs = xlmr("XLMRobertaForMaskedLM")
    theirs.save_pretrained(tmp_path / "source")
    path = tmp_path / "source" / "model.safetensors"
    save_file(load_file(path) | {"lm_head.decoder.weight": torch.zeros(90, 32)}, path)
    with pytest.raises(InputError, match=r"also holds lm_head\.decoder\.weight"):
        convert(tmp_path / "source", tmp_path / "target")


def test_unused_pooler_beside_a_classifier_is_dropped(tmp_path: Path) -> None:
    theirs = xlmr("XLMRobertaForSequenceClassification")
    theirs.save_pretrained(tmp_path / "source")
    path = tmp_path / "source" / "model.safetensors"
    extra = {"roberta.pooler.dense.weight": torch.ones(32, 32), "roberta.pooler.dense.bias": torch.ones(32)}
    save_file(load_file(path) | extra, path)
    report = convert(tmp_path / "source", tmp_path / "target")
    assert report.dropped == ("roberta.pooler.dense.bias", "roberta.pooler.dense.weight")
    assert_same_outputs(theirs, tmp_path / "target", "sequence-classification")


def test_half_precision_positions_are_rounded_once(tmp_path: Path) -> None:
    theirs = xlmr("XLMRobertaModel").to(torch.bfloat16)
    theirs.save_pretrained(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "target")
    embeddings = theirs.embeddings
    exact = embeddings.position_embeddings.weight.double() + embeddings.token_type_embeddings.weight.double()
    written = load_file(tmp_path / "target" / "model.safetensors")["embeddings.position_embeddings.weight"]
    assert torch.equal(written, exact.to(torch.bfloat16))


@pytest.fixture(scope="session")
def xlmr_sentencepiece(tmp_path_factory: pytest.TempPathFactory, sample_tokenizer_dir: Path) -> Path:
    """A sentencepiece model in XLM-R's layout: <unk>, <s>, </s>, pieces."""
    folder = tmp_path_factory.mktemp("xlmr_sentencepiece")
    text = folder / "text.txt"
    udhr = sorted((sample_tokenizer_dir.parent / "udhr").glob("*.jsonl"))
    text.write_text("\n".join(path.read_text(encoding="utf-8") for path in udhr)[:100_000], encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "sentencepiece.bpe"), vocab_size=900, hard_vocab_limit=False,
        minloglevel=2, num_threads=1, character_coverage=0.98,
    )  # fmt: skip
    return folder / "sentencepiece.bpe.model"


def test_xlmr_tokenizer_gives_the_ids_of_xlmr(tmp_path: Path, xlmr_sentencepiece: Path) -> None:
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(xlmr_sentencepiece))
    theirs = xlmr("XLMRobertaModel", vocab_size=len(pieces) + 2)
    theirs.save_pretrained(tmp_path / "source")
    shutil.copy(xlmr_sentencepiece, tmp_path / "source" / "sentencepiece.bpe.model")
    report = convert(tmp_path / "source", tmp_path / "target")
    assert (report.segmentation, report.notes) == ("raw", ())
    tokenizer = ErnieMTokenizer.from_pretrained(tmp_path / "target")
    text = "All human beings are born free, in 1948."
    # fairseq: <s> 0, <pad> 1, </s> 2, <unk> 3, then the pieces one higher than sentencepiece numbers them.
    expected = [0, *(piece + 1 if piece else 3 for piece in pieces.encode(text)), 2]
    assert tokenizer(text)["input_ids"] == expected
    assert tokenizer.convert_tokens_to_ids("[MASK]") == len(pieces) + 1
    assert tokenizer.convert_ids_to_tokens(1) == "[PAD]"


def test_without_sentencepiece_the_report_says_so(tmp_path: Path) -> None:
    xlmr("XLMRobertaModel").save_pretrained(tmp_path / "source")
    (tmp_path / "source" / "tokenizer.json").write_text("{}", encoding="utf-8")
    report = convert(tmp_path / "source", tmp_path / "target")
    assert report.segmentation is None
    assert "only tokenizer.json" in report.notes[0]
    assert report.notes[0] in str(report)
    assert not (tmp_path / "target" / "vocab.txt").exists()


class Uninitialised:
    """What a pickle makes a tensor of that nobody wrote, of memory as it is."""

    def __reduce__(self) -> tuple[type, tuple[int, int]]:
        return torch.Tensor, (80, 32)


def damage_bin(source: Path, state: dict[str, torch.Tensor], damage: str) -> None:
    """Write a pytorch_model.bin that something is wrong with."""
    if damage == "evil bin":
        torch.save({"w": subprocess.Popen}, source / "pytorch_model.bin")
    elif damage == "no bin":
        (source / "pytorch_model.bin").write_bytes(b"nothing")
    elif damage == "not tensors":
        torch.save({"state_dict": state}, source / "pytorch_model.bin")
    elif damage == "locked":
        torch.save(state, source / "pytorch_model.bin")
        content = bytearray((source / "pytorch_model.bin").read_bytes())
        # The flag of encryption, in the entry of the first part.
        content[content.index(b"PK\x01\x02") + 8] |= 1
        (source / "pytorch_model.bin").write_bytes(content)
    elif damage in ("memory", "old memory", "uninitialised"):
        zipped = damage != "old memory"
        content = Uninitialised() if damage == "uninitialised" else bytearray(5)
        torch.save({"a": content}, source / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        if not zipped:
            # Which zipfile would take for the whole.
            with zipfile.ZipFile(source / "pytorch_model.bin", "a") as archive:
                archive.writestr("x.txt", "x")
    elif damage == "other case":
        with zipfile.ZipFile(source / "pytorch_model.bin", "w") as archive:
            archive.writestr("archive/DATA.PKL", b"].")
    elif damage == "old and short":
        torch.save(state, source / "pytorch_model.bin", _use_new_zipfile_serialization=False)
        content = (source / "pytorch_model.bin").read_bytes()
        # The list of storages that follow, and none that does.
        begin = content.index(b"\x80\x02]q\x00(")
        (source / "pytorch_model.bin").write_bytes(content[:begin] + b"\x80\x02].")
    elif damage in ("sparse", "meta", "repeated", "packed", "long list"):
        others = {"sparse": torch.eye(32).to_sparse(), "meta": torch.zeros(32, device="meta")}
        others["repeated"] = torch.zeros(1).expand(10**8)
        torch.save(state | {"pooler.dense.bias": others.get(damage, torch.zeros(32))}, source / "pytorch_model.bin")
        if damage in ("packed", "long list"):
            packed = zipfile.ZIP_DEFLATED if damage == "packed" else zipfile.ZIP_STORED
            with zipfile.ZipFile(source / "pytorch_model.bin", "w", packed) as archive:
                archive.writestr("archive/data.pkl", b"]" * 2**25)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("truncated", r"model\.safetensors: not a readable safetensors file"),
        ("no weights", r"no model\.safetensors or pytorch_model\.bin"),
        ("bert", r"model_type 'bert'"),
        ("already", r"ERNIE-M in the published format already"),
        ("no config", r"no model_state\.pdparams and no config\.json"),
        ("pad", r"pad_token_id 0"),
        ("evil bin", r"pytorch_model\.bin: .* it names '(commands|subprocess)\.Popen'"),
        ("no bin", r"pytorch_model\.bin: not a whole file of torch's"),
        ("not tensors", r"pytorch_model\.bin: holds more than one dict of tensors"),
        ("missing shard", r"names the file \.\./elsewhere\.safetensors, which is not beside it"),
        ("index", r"lm_head\.bias: in the index or in the files"),
        ("no token types", r"no matrix token_type_embeddings\.weight"),
        ("unknown dtype", r"pooler\.dense\.bias: numbers of type F64"),
        ("far layer", r"model\.safetensors: a tensor of layer 9999999, but it has 3 layers"),
        ("no activation", r"no network can be built by the configuration beside it \(KeyError: 'evil'\)"),
        ("no type", r"config\.json: .*evil"),
        ("digits", r"config\.json: not JSON \(Exceeds the limit"),
        ("sparse", r"pytorch_model\.bin: .* it names 'torch\._utils\._rebuild_sparse_tensor'"),
        ("meta", r"pytorch_model\.bin: .* it names 'torch\._utils\._rebuild_meta_tensor_no_storage'"),
        ("repeated", r"a tensor of 100,000,000 numbers does not lie within the 1 of its storage"),
        ("packed", r"pytorch_model\.bin: .*data\.pkl in it is packed, which torch does not do"),
        ("locked", r"pytorch_model\.bin: not a readable archive"),
        ("memory", r"pytorch_model\.bin: .* it names '__builtin__\.bytearray'"),
        ("old memory", r"pytorch_model\.bin: .*\(it names '__builtin__\.bytearray'"),
        ("uninitialised", r"pytorch_model\.bin: .* it names 'torch\.Tensor'"),
        ("long list", r"pytorch_model\.bin: its list of tensors has [\d,]+ bytes"),
        ("other case", r"pytorch_model\.bin: 'archive/DATA\.PKL' in it is no part that torch writes"),
        ("old and short", r"pytorch_model\.bin: not a whole file .*hold the tensors that it lists, each once"),
        ("labels", r"config\.json: num_labels is 1000000000; 100,000 are the most"),
    ],
)
def test_a_bad_xlmr_folder_is_refused(tmp_path: Path, damage: str, said: str) -> None:
    source = tmp_path / "source"
    xlmr("XLMRobertaModel").save_pretrained(source)
    weights, config = source / "model.safetensors", json.loads((source / "config.json").read_text(encoding="utf-8"))
    state = load_file(weights)
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-4])
    elif damage == "no config":
        (source / "config.json").unlink()
    elif damage in ("bert", "already"):
        config["model_type"] = "bert" if damage == "bert" else "ernie_m"
    elif damage == "pad":
        config["pad_token_id"] = 0
    elif damage in ("no activation", "no type", "digits"):
        config |= {"no activation": {"hidden_act": "evil"}, "no type": {"dtype": "evil"}, "digits": {}}[damage]
    elif damage == "labels":
        config["num_labels"] = 10**9
    elif damage == "far layer":
        save_file(state | {"encoder.layer.9999999.attention.self.key.bias": torch.zeros(32)}, weights)
    elif damage == "no token types":
        del state["embeddings.token_type_embeddings.weight"]
        save_file(state, weights)
    elif damage == "unknown dtype":
        save_file(state | {"pooler.dense.bias": torch.zeros(32, dtype=torch.float64)}, weights)
    else:
        weights.unlink()
        if damage in ("missing shard", "index"):
            name = "../elsewhere.safetensors" if damage == "missing shard" else "part.safetensors"
            save_file(state, tmp_path / "elsewhere.safetensors")
            save_file(state, source / "part.safetensors")
            places = {key: name for key in (*state, "lm_head.bias")}
            (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
        else:
            damage_bin(source, state, damage)
    if damage != "no config":
        text = json.dumps(config)
        text = text if damage != "digits" else text.replace("{", f'{{"a": {"1" * 5000}, ', 1)
        (source / "config.json").write_text(text, encoding="utf-8")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError, match=said):
        convert(source, tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
