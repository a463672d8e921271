"""Load an exported sentence encoder with transformers and let it find translations.

    python examples/find_translations.py [EXPORT]

Without an argument it takes the newest run of `quickstart_retrieval`. English sentences search all sentences of another
language, in the bundled test pairs (the kind of text that it trains on) and in the Universal Declaration
of Human Rights (another kind).
"""

import gzip
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

import ernie_m  # registers ERNIE-M with transformers

SAMPLES = Path(__file__).resolve().parents[1] / "datamodules" / "samples"
LANGUAGES = ("de", "es", "fr", "ru", "tr", "zh")


def newest_export() -> Path:
    """Return the export of the last run."""
    exports = sorted(Path("runs/quickstart_retrieval").glob("*/export"), key=lambda folder: folder.stat().st_mtime)
    if not exports:
        sys.exit("no export there; run `ernie-m fit --config quickstart_retrieval` first, or name a folder")
    return exports[-1]


def test_pairs(language: str) -> list[tuple[str, str]]:
    """Return the bundled test pairs: English, other language."""
    with gzip.open(SAMPLES / "parallel" / "test" / f"en-{language}.tsv.gz", "rt", encoding="utf-8") as lines:
        return [(english, other) for english, other in (line.rstrip("\n").split("\t") for line in lines)]


def declaration(language: str) -> list[tuple[str, str]]:
    """Return the declaration's paragraphs that both languages have."""
    english, other = (
        {row["id"]: row["text"] for row in map(json.loads, file.read_text(encoding="utf-8").splitlines())}
        for file in (SAMPLES / "udhr" / "en.jsonl", SAMPLES / "udhr" / f"{language}.jsonl")
    )
    return [(text, other[name]) for name, text in english.items() if name in other]


def embed(model: torch.nn.Module, tokenizer: ernie_m.ErnieMTokenizer, texts: list[str]) -> torch.Tensor:
    """Return unit vectors, the mean over each text's tokens: (texts, hidden)."""
    batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def main() -> None:
    """Print how often the translation is the nearest of all sentences, and an answer per language."""
    export = Path(sys.argv[1]) if len(sys.argv) > 1 else newest_export()
    model = AutoModel.from_pretrained(export).eval()
    tokenizer = AutoTokenizer.from_pretrained(export)
    print(f"\n{export}, loaded with transformers. English finds its translation:")
    for language in LANGUAGES:
        shares = []
        for pairs in (declaration(language), test_pairs(language)):
            english, others = zip(*pairs, strict=True)
            queries, answers = embed(model, tokenizer, list(english)), embed(model, tokenizer, list(others))
            found = (queries @ answers.T).argmax(1).tolist()
            shares.append(f"{sum(i == j for i, j in enumerate(found))} of {len(found)}")
        print(
            f"\n{language}: {shares[1]} in the test pairs, {shares[0]} in the Declaration of Human Rights; for instance"
        )
        print(f"  {english[0]}\n  {others[found[0]]}  ({'right' if found[0] == 0 else 'wrong'})")


if __name__ == "__main__":
    main()
