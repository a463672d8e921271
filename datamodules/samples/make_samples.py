"""Make the bundled samples: parallel text in seven languages with a vocabulary trained on it, and topics in twenty.

    python datamodules/samples/make_samples.py PARALLEL UDHR SIB200

PARALLEL holds `en-<language>.tsv.gz` (LibreOffice's help, English and translation, one pair a line), UDHR holds
`<language>.jsonl` (the Universal Declaration of Human Rights, paragraphs with ids), SIB200 `<language>.<split>.tsv` as
the data set publishes them. README.md beside this file says where they come from. The result is the same on every run.
"""

import argparse
import csv
import gzip
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import sentencepiece

SAMPLES = Path(__file__).resolve().parent
sys.path.insert(0, str(SAMPLES.parents[1]))

from datamodules.sib200 import BUNDLED, CODES  # noqa: E402

LANGUAGES = {"de": "de", "es": "es", "fr": "fr", "ru": "ru", "tr": "tr", "zh": "zh-CN"}
PAIRS = {"train": 9000, "validation": 300, "test": 300}
PIECES = 8000
SHORTEST, LONGEST = 15, 160  # characters of the English side
SPECIAL_TOKENS = ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]


def split_of(english: str) -> str:
    """Tell the split from the English sentence alone, so that no sentence is in two of them in any language."""
    bucket = int(hashlib.sha256(english.casefold().encode()).hexdigest(), 16) % 100
    return "test" if bucket < 5 else "validation" if bucket < 10 else "train"


def pairs_of(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the usable pairs of a file, each sentence of either side once, in an order that the text decides."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        pairs = [(english, other) for english, other in (line.rstrip("\n").split("\t") for line in lines)]
    seen: set[str] = set()
    for english, other in sorted(pairs, key=lambda pair: hashlib.sha256(repr(pair).encode()).digest()):
        keys = {english.casefold(), other.casefold()}
        if SHORTEST <= len(english) <= LONGEST and english.count(" ") >= 2 and len(keys) == 2 and not keys & seen:
            seen |= keys
            yield english, other


def write_parallel(source: Path) -> list[str]:
    """Write the splits as gzipped TSV and return the training text, a sentence a row."""
    text: dict[str, None] = {}
    for language, name in LANGUAGES.items():
        rows: dict[str, list[tuple[str, str]]] = {split: [] for split in PAIRS}
        for pair in pairs_of(source / f"en-{name}.tsv.gz"):
            chosen = split_of(pair[0])
            if len(rows[chosen]) < PAIRS[chosen]:
                rows[chosen].append(pair)
        for split, pairs in rows.items():
            file = SAMPLES / "parallel" / split / f"en-{language}.tsv.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            content = "".join(f"{english}\t{other}\n" for english, other in pairs)
            file.write_bytes(gzip.compress(content.encode(), compresslevel=9, mtime=0))
            if split == "train":
                text.update(dict.fromkeys(sentence for pair in pairs for sentence in pair))
    return list(text)


def write_tokenizer(text: list[str]) -> None:
    """Train the sentencepiece model and write the vocabulary in ERNIE-M's layout: specials, pieces, [MASK]."""
    folder = SAMPLES / "tokenizer"
    folder.mkdir(exist_ok=True)
    prefix = folder / "sentencepiece.bpe"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_prefix=str(prefix),
        vocab_size=PIECES,
        model_type="unigram",
        character_coverage=0.9995,
        normalization_rule_name="nmt_nfkc",
        num_threads=1,  # more would make the result depend on the order in which they finish
        minloglevel=2,
    )
    prefix.with_suffix(".bpe.vocab").unlink()
    processor = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    pieces = [processor.id_to_piece(index) for index in range(3, processor.get_piece_size())]
    vocabulary = "".join(f"{token}\n" for token in [*SPECIAL_TOKENS, *pieces, "[MASK]"])
    (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8", newline="\n")
    settings = {"tokenizer_class": "ErnieMTokenizer", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def write_sib200(source: Path) -> None:
    """Write the English training and validation sentences, and the test sentences of all languages, as on the Hub."""
    for language in BUNDLED:
        for split, theirs in {"train": "train", "validation": "dev", "test": "test"}.items():
            if split != "test" and language != "en":
                continue
            with (source / f"{language}.{theirs}.tsv").open(encoding="utf-8", newline="") as lines:
                rows = list(csv.DictReader(lines, delimiter="\t"))
            columns = {"index_id": [int(row["index_id"]) for row in rows]}
            table = pa.table(columns | {name: [row[name] for row in rows] for name in ("category", "text")})
            file = SAMPLES / "sib200" / CODES[language] / split / "0000.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, file, compression="zstd", compression_level=19)


def main() -> None:
    """Write everything beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parallel", type=Path)
    parser.add_argument("udhr", type=Path)
    parser.add_argument("sib200", type=Path)
    arguments = parser.parse_args()
    write_tokenizer(write_parallel(arguments.parallel))
    (SAMPLES / "udhr").mkdir(exist_ok=True)
    for language in ("en", *LANGUAGES):
        shutil.copyfile(arguments.udhr / f"{language}.jsonl", SAMPLES / "udhr" / f"{language}.jsonl")
    write_sib200(arguments.sib200)


if __name__ == "__main__":
    main()
