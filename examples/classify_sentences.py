"""Load an exported classifier with transformers and let it name the topic of sentences in any of its languages.

    python examples/classify_sentences.py [--export FOLDER] [SENTENCE ...]

Without a folder it takes the newest run of the quickstart; without sentences some of the test set, and then what you
type. For many sentences use the command: `ernie-m predict EXPORT --input texts.jsonl --output topics.jsonl`.
"""

import argparse
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
from transformers import pipeline

import ernie_m  # noqa: F401 -- registers ERNIE-M with transformers

SAMPLES = Path(__file__).resolve().parents[1] / "datamodules" / "samples" / "sib200"
EXAMPLES = {"swh_Latn": 85, "hin_Deva": 111, "arb_Arab": 169, "zho_Hans": 194}
PREFIX = "query: "  # the export's README.md says so
LONGEST = 128


def newest_export() -> Path:
    """Return the export of the last quickstart."""
    exports = sorted(Path("runs/quickstart").glob("*/export"), key=lambda folder: folder.stat().st_mtime)
    if not exports:
        sys.exit("no export in runs/quickstart; run `ernie-m fit --config quickstart` first, or name one with --export")
    return exports[-1]


def main() -> None:
    """Print the topic of every sentence and how sure the network is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", nargs="*", metavar="SENTENCE")
    parser.add_argument("--export", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    export = arguments.export or newest_export()
    classify = pipeline("text-classification", str(export))

    def show(sentence: str, truth: str = "") -> None:
        (found,) = classify([PREFIX + sentence], truncation=True, max_length=LONGEST)
        print(f"  {found['label']:20} {found['score']:.0%}  {sentence}{truth}")

    print(f"\n{export}, loaded with transformers:")
    for sentence in arguments.sentences:
        show(sentence)
    if arguments.sentences:
        return
    for folder, row in EXAMPLES.items():
        example = pq.read_table(SAMPLES / folder / "test").to_pylist()[row]
        show(example["text"], f"  (SIB-200: {example['category']})")
    if not sys.stdin.isatty():
        return
    print("Your own sentences, in any language; an empty line ends:")
    with suppress(EOFError):
        while sentence := input("> ").strip():
            show(sentence)


if __name__ == "__main__":
    main()
