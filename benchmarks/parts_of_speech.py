"""Parts of speech from ernie-m-mini: trained on 800 English sentences, tested on Arabic, German, Hindi and Chinese.

    python benchmarks/parts_of_speech.py UDPOS FOLDER > results/...

UDPOS is a folder of Parallel Universal Dependencies (`en_pud-ud-test.conllu` and so on), 1,000 sentences a language,
the same in all: those that are trained on are tested on in translation. English sentences 801 to 900 choose the
checkpoint, and 901 to 1,000 are its test. FOLDER keeps the run, and the parts of the English file.

Two baselines stand beside: the most frequent part of speech for every word, and each word's own most frequent one in
the training sentences (the most frequent of all where it does not occur there).
"""

import argparse
import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

LANGUAGES = ("ar", "de", "hi", "zh")
PARTS = {"train": (0, 800), "dev": (800, 900), "test": (900, 1000)}
OPTIONS = (
    "--model.backbone=ernie-m-mini",
    "--data.prefix=query: ",
    "--model.learning_rate=2e-4",
    "--model.layer_decay=0.9",
    "--data.global_batch_size=16",
    "--data.micro_batch_size=16",
    "--data.max_length=192",
    "--trainer.max_epochs=3",
    "--checkpoint.monitor=val/accuracy",
)


def words_of(text: str) -> list[tuple[str, str]]:
    """The words of some sentences with their parts of speech."""
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return [(row[1], row[3]) for row in rows if row[0].isdigit()]


def main() -> None:
    """Train, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("udpos", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    place = options.udpos.absolute()
    sentences = (place / "en_pud-ud-test.conllu").read_text(encoding="utf-8").strip().split("\n\n")
    for name, (first, last) in PARTS.items():
        (folder / f"{name}.conllu").write_text("\n\n".join(sentences[first:last]) + "\n\n", encoding="utf-8")
    tests = {"en": folder / "test.conllu"} | {name: place / f"{name}_pud-ud-test.conllu" for name in LANGUAGES}
    files = {
        "train_files": {"en": str(folder / "train.conllu")},
        "validation_files": {"en": str(folder / "dev.conllu")},
        "test_files": {name: str(path) for name, path in tests.items()},
    }
    if not list((folder / "runs").rglob("results.json")):
        command = [sys.executable, "-m", "ernie_m_recipes", "fit", "--config", "custom/token_labels", *OPTIONS]
        command += [f"--data.{name}={json.dumps(value)}" for name, value in files.items()]
        subprocess.run([*command, f"--run.directory={folder / 'runs'}"], check=True, stdout=sys.stderr)
    (results,) = (folder / "runs").rglob("results.json")
    reached = json.loads(results.read_text(encoding="utf-8"))["test"]
    train = words_of((folder / "train.conllu").read_text(encoding="utf-8"))
    most = Counter(tag for _, tag in train).most_common(1)[0][0]
    by_word: dict[str, Counter[str]] = defaultdict(Counter)
    for word, tag in train:
        by_word[word][tag] += 1
    print("language  accuracy  XTREME's F1  most frequent  by word  (percent of words)")
    for name, path in tests.items():
        words = words_of(path.read_text(encoding="utf-8"))
        always = sum(tag == most for _, tag in words) / len(words)
        own = sum(tag == (by_word[word].most_common(1)[0][0] if word in by_word else most) for word, tag in words)
        figures = (reached[name]["accuracy"], reached[name]["f1"], always, own / len(words))
        print(f"{name:8}", *(f"{100 * figure:9.2f}" for figure in figures))
    print(f"{'mean':8}", *(f"{100 * reached['mean'][score]:9.2f}" for score in ("accuracy", "f1")))


if __name__ == "__main__":
    main()
