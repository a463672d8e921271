"""Scores a test run's answers beside what needs no network, and holds our scores against MLQA's official script.

    python benchmarks/answer_baselines.py RUN [--official mlqa_evaluation_v1.py]

RUN is a folder of `ernie-m fit` or `ernie-m test` with `datamodules.MLQA` on the official JSON files. Baselines on the
same questions, by the same scorer: a span drawn at random (seed 1; its length in tokens is that of an answer of the
training data, its place is uniform), and the first sentence of the context. With `--official` each set of answers also
goes through the script's `evaluate`, as do right answers that were changed at random, and all digits are compared.
"""

import argparse
import importlib.util
import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import yaml

from datamodules import MLQA
from lightning_modules.answer_scores import answer_scores

Answers = list[str]
SENTENCE = re.compile(r".+?(?:[.!?؟](?=\s)|[。！？।])", re.DOTALL)


def data_of(run: Path) -> MLQA:
    arguments = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]["init_args"]
    return MLQA(**arguments)


def answer_lengths(data: MLQA) -> list[int]:
    """The lengths in tokens of the training data's answers."""
    data.setup("fit")
    rows = data.row_set("train", data.train_languages)
    starts, ends = rows.all_scalars("start_positions"), rows.all_scalars("end_positions")
    return (ends - starts + 1)[starts > 0].tolist()


def random_spans(data: MLQA, contexts: Sequence[str], lengths: Sequence[int]) -> Answers:
    draw = random.Random(1)
    encoded = data.tokenizer(list(contexts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    spans = []
    for context, offsets in zip(contexts, encoded["offset_mapping"], strict=True):
        first = draw.randrange(len(offsets))
        last = min(first + draw.choice(lengths), len(offsets)) - 1
        spans.append(context[offsets[first][0] : offsets[last][1]].strip())
    return spans


def first_sentence(context: str) -> str:
    found = SENTENCE.match(context.strip())
    return found[0] if found else context


def changed(answers: Sequence[str]) -> Answers:
    """Right answers with words dropped, doubled, upper-cased or wrapped in punctuation."""
    draw = random.Random(2)
    changes = [
        lambda text: text[: draw.randrange(len(text) + 1)],
        lambda text: f"{text} {text}",
        lambda text: f"the {text.upper()}!",
        lambda text: f"«{text}», ال{text} der 的",
        lambda text: " ".join(draw.sample(text.split(), len(text.split()))),
        lambda text: text,
    ]
    return [draw.choice(changes)(answer) for answer in answers]


def official_scores(script: ModuleType, file: Path, answers: Mapping[str, str], language: str) -> dict[str, float]:
    document = json.loads(file.read_text(encoding="utf-8"))
    scores: dict[str, float] = script.evaluate(document["data"], answers, language)
    return scores


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("official", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Print the scores of baselines beside those of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--official", type=Path)
    options = parser.parse_args()
    data, script = data_of(options.run), load(options.official) if options.official else None
    lengths = answer_lengths(data)
    totals: dict[str, list[tuple[float, float]]] = {}
    compared, differing = 0, 0
    print(f"{'language':9} {'answers':15} {'f1':>7} {'exact match':>12} {'questions':>10}")
    for language in data.split_languages("test"):
        asked: list[dict[str, Any]] = data.references("test", language).to_pylist()
        table = pq.read_table(options.run / "predictions" / "test" / f"{language}.parquet")
        contexts = [row["context"] for row in asked]
        kinds: dict[str, Answers] = {
            "trained": table["prediction"].to_pylist(),
            "random span": random_spans(data, contexts, lengths),
            "first sentence": [first_sentence(context) for context in contexts],
        }
        if script is not None:
            kinds["changed gold"] = changed([row["answers"][0] for row in asked])
        right = {number: row["answers"] for number, row in enumerate(asked)}
        for kind, answers in kinds.items():
            ours = answer_scores(dict(enumerate(answers)), right, language, scale=100.0)
            totals.setdefault(kind, []).append((ours["f1"], ours["exact_match"]))
            print(f"{language:9} {kind:15} {ours['f1']:7.2f} {ours['exact_match']:12.2f} {len(asked):10}", end="")
            if script is not None:
                by_id = {row["id"]: answer for row, answer in zip(asked, answers, strict=True)}
                file = data.files("test", language, download=False).parts[0]
                theirs = official_scores(script, file, by_id, language.partition("-")[0])
                compared, differing = compared + 1, differing + (ours != theirs)
                print(f"   official script: {theirs['f1']!r} {theirs['exact_match']!r}", end="")
            print("" if script is None else "   equal" if ours == theirs else f"   DIFFERS: {ours}")
    for kind, scores in totals.items():
        f1, exact = (sum(values) / len(scores) for values in zip(*scores, strict=True))
        print(f"{'mean':9} {kind:15} {f1:7.2f} {exact:12.2f}")
    if script is not None:
        print(f"{compared} sets of answers, {differing} of them scored otherwise than by the official script")


if __name__ == "__main__":
    main()
