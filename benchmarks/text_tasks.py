"""Numbers and several labels of texts from ernie-m-mini: trained in English, tested in languages it was not trained on.

    python benchmarks/text_tasks.py sts STSB FOLDER > results/...
    python benchmarks/text_tasks.py emotions XED FOLDER > results/...

STSB is a folder of the STS benchmark, machine-translated (`stsb-en-train.csv` and so on, without headers): how similar
two sentences are, 0 to 5. Beside the run stands the share of words (of Chinese: pairs of characters) that both have.

XED is a folder of emotions of subtitle lines (`en-annotated.tsv` and so on): text, tab, numbers joined by ", ". It
has no division: of the English lines every tenth is development data and every tenth test. The other languages' lines
are those of the same films, translated: some that are tested were trained on in English. Beside the run stands every
emotion for every line. FOLDER keeps runs and files.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_modules.scores import multi_label_scores, regression_scores

OPTIONS = (
    "--model.backbone=ernie-m-mini",
    "--data.prefix=query: ",
    "--model.learning_rate=2e-4",
    "--model.layer_decay=0.9",
    "--data.global_batch_size=32",
    "--data.micro_batch_size=32",
    "--data.max_length=128",
    "--data.first_column=a",
    "--trainer.max_epochs=3",
)
# In the order of their numbers in the files, as the paper has them (Öhman et al., 2020).
EMOTIONS = ("anger", "anticipation", "disgust", "fear", "joy", "sadness", "surprise", "trust")


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a CSV with a header, and return its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def read(path: Path, delimiter: str) -> list[list[str]]:
    """The rows of a file without a header."""
    with path.open(encoding="utf-8", newline="") as file:
        quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
        return list(csv.reader(file, delimiter=delimiter, quoting=quoting))


def run(folder: Path, recipe: str, files: dict[str, Any], options: Sequence[str]) -> dict[str, dict[str, float]]:
    """Train and test once, and return the scores of the test."""
    if not list((folder / "runs").rglob("results.json")):
        command = [sys.executable, "-m", "ernie_m_recipes", "fit", "--config", recipe, *OPTIONS, *options]
        command += [f"--data.{name}={json.dumps(value)}" for name, value in files.items()]
        subprocess.run([*command, f"--run.directory={folder / 'runs'}"], check=True, stdout=sys.stderr)
    (results,) = (folder / "runs").rglob("results.json")
    scores: dict[str, dict[str, float]] = json.loads(results.read_text(encoding="utf-8"))["test"]
    return scores


def parts_of(text: str) -> set[str]:
    """The words of a text; of one without blanks between them, its pairs of characters."""
    words = set(re.findall(r"\w+", text.casefold()))
    joined = "".join(words)
    is_spaced = not re.search("[\u4e00-\u9fff]", joined)
    return words if is_spaced else {text[place : place + 2] for place in range(len(text) - 1)}


def overlap(first: str, second: str) -> float:
    """The share of words that both texts have, of all that either has."""
    one, other = parts_of(first), parts_of(second)
    return len(one & other) / max(1, len(one | other))


def sts(source: Path, folder: Path) -> None:
    """How similar two sentences are."""
    header = ("a", "b", "score")
    tables = {path.stem: read(path, ",") for path in sorted(source.glob("stsb-*.csv"))}
    paths = {name: write(folder / f"{name}.csv", header, rows) for name, rows in tables.items()}
    languages = ("en", "de", "es", "zh")
    files = {
        "train_files": {"en": paths["stsb-en-train"]},
        "validation_files": {"en": paths["stsb-en-dev"]},
        "test_files": {language: paths[f"stsb-{language}-test"] for language in languages},
    }
    columns = ["--data.second_column=b", "--data.label_column=score"]
    reached = run(folder, "custom/text_regression", files, columns)
    print("language  pearson  spearman  by shared words: pearson  spearman  (in percent)")
    for language in languages:
        rows = tables[f"stsb-{language}-test"]
        shared = torch.tensor([overlap(first, second) for first, second, _ in rows])
        words = regression_scores(shared, torch.tensor([float(score) for *_, score in rows]))
        figures = [reached[language][name] for name in ("pearson", "spearman")]
        figures += [words[name] for name in ("pearson", "spearman")]
        print(f"{language:8}", *(f"{100 * figure:9.2f}" for figure in figures))
    print(f"{'mean':8}", *(f"{100 * reached['mean'][name]:9.2f}" for name in ("pearson", "spearman")))


def emotions(source: Path, folder: Path) -> None:
    """Which emotions are in a line."""
    header = ("a", "labels")
    tables = {}
    for path in sorted(source.glob("*.tsv")):
        # Some lines are several, within quotes, or lack their text.
        rows = [row for row in read(path, "\t") if len(row) == 2 and re.fullmatch("[1-8](, ?[1-8])*", row[1])]
        tables[path.name[:2]] = [
            (text, ",".join(EMOTIONS[int(number) - 1] for number in numbers.split(","))) for text, numbers in rows
        ]
    english = tables.pop("en")
    parts = {
        "train": [row for number, row in enumerate(english) if number % 10 < 8],
        "dev": english[8::10],
        "test": english[9::10],
    }
    tests = {"en": parts["test"], **tables}
    files: dict[str, Any] = {
        "train_files": {"en": write(folder / "train.csv", header, parts["train"])},
        "validation_files": {"en": write(folder / "dev.csv", header, parts["dev"])},
        "test_files": {name: write(folder / f"test-{name}.csv", header, rows) for name, rows in tests.items()},
    }
    reached = run(folder, "custom/text_multi_label", files, [f"--data.label_names=[{', '.join(EMOTIONS)}]"])
    print("language  lines  macro-F1  micro-F1  all right  every emotion: macro-F1  micro-F1  (in percent)")
    for language, rows in tests.items():
        right = torch.tensor([[int(name in labels.split(",")) for name in EMOTIONS] for _, labels in rows])
        every = multi_label_scores(torch.ones_like(right), right)
        figures = [reached[language][name] for name in ("macro_f1", "micro_f1", "exact_match")]
        figures += [every[name] for name in ("macro_f1", "micro_f1")]
        print(f"{language:8} {len(rows):6,}", *(f"{100 * figure:9.2f}" for figure in figures))
    names = ("macro_f1", "micro_f1", "exact_match")
    print(f"{'mean':8} {'':6}", *(f"{100 * reached['mean'][name]:9.2f}" for name in names))


def main() -> None:
    """Train, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["sts", "emotions"])
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (sts if options.task == "sts" else emotions)(options.source.absolute(), folder)


if __name__ == "__main__":
    main()
