"""Count how many more tokens text is cut into by `ernie-m-mini`'s vocabulary than by the whole one of 250,002 tokens.

    python benchmarks/mini_vocabulary.py --shared ../shared

Texts are those of the validation sets of XNLI, of PAWS-X (ja, ko) and of CoNLL-2002 (nl). No piece was chosen by them,
but how to choose was: two ways and two weights were compared on XNLI and PAWS-X. Unknown tokens are counted too.
"""

import argparse
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import sentencepiece

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from datamodules.columns import read_columns  # noqa: E402
from datamodules.xnli import LANGUAGES  # noqa: E402

MODEL = "sentencepiece.bpe.model"


def texts_of(language: str, data: Path) -> list[str]:
    """The texts of one language."""
    if language == "nl":
        sentences = read_columns(data / "conll2002" / "ned.testa").sentences
        return [" ".join(columns[0] for columns in sentence) for sentence in sentences]
    of_xnli = language in LANGUAGES
    folder = data / "hub" / ("facebook/xnli" if of_xnli else "google-research-datasets/paws-x") / language
    (file,) = folder.glob("validation-*.parquet")
    names = ("premise", "hypothesis") if of_xnli else ("sentence1", "sentence2")
    table = pq.read_table(file)
    return [text for name in names for text in table.column(name).to_pylist()]


def main() -> None:
    """Print the ratio of every language, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with tokenizer/ and data/")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "mini_vocabulary.json")
    args = parser.parse_args()
    whole = sentencepiece.SentencePieceProcessor(model_file=str(args.shared / "tokenizer" / MODEL))
    mini = sentencepiece.SentencePieceProcessor(model_file=str(ROOT / "ernie_m" / "mini" / MODEL))
    ratios, unknown = {}, {}
    for language in sorted([*LANGUAGES, "ja", "ko", "nl"]):
        texts = texts_of(language, args.shared / "data")
        cut = mini.Encode(texts)
        count = sum(map(len, cut))
        ratios[language] = round(count / sum(map(len, whole.Encode(texts))), 3)
        unknown[language] = round(sum(ids.count(mini.unk_id()) for ids in cut) / count, 6)
        print(f"{language} {ratios[language]:.3f} times the tokens, {unknown[language]:.4%} unknown")
    result = {
        "command": f"python benchmarks/mini_vocabulary.py {' '.join(sys.argv[1:])}",
        "times_the_tokens": ratios,
        "mean": round(sum(ratios.values()) / len(ratios), 3),
        "share_unknown": unknown,
    }
    print(f"mean {result['mean']}")
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
