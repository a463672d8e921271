"""Score what earlier runs have stored with the code that is here, and compare every number with their results.json.

    python benchmarks/same_stored_scores.py RUNS [--again FOLDER]

RUNS is a folder with runs of `ernie-m fit`, `validate` or `test` somewhere below it, made by another version of this
project. Two ways, and what neither can compare is named:

- stored: the rows of predictions/<stage>/<language>.parquet go, in small batches and the last first, through the metric
  and the task's own `score`. The table that this makes is held against the one that went in. Retrieval stores which
  sentences were found and not their vectors, so `accuracy` counts those; the other tokens of a word are not stored
  either. Hence ties, duplicates, `subtoken_f1` and the scores of single layers do not follow from these rows.
- again: with `--again`, each run's checkpoint is evaluated into FOLDER (`ernie-m validate RUN`, `ernie-m test RUN`) on
  the data that its configuration names, unless FOLDER has that already, and all scores and tables are compared.

Equal means the same 64 bits, and in tables the same values in every row.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from torch import Tensor

from ernie_m_recipes.record import commit
from lightning_modules import QuestionAnswering, SequenceClassification, TokenClassification
from lightning_modules.answer_spans import NO_SPAN
from lightning_modules.metrics import LanguageScores, ScoreOfRows, ScoresByLanguage
from lightning_modules.neighbours import DIRECTIONS
from lightning_modules.scores import accuracy

Rows = dict[str, Tensor]
Tables = dict[str, pa.Table]
STAGES = ("before", "validate", "test")
BATCH = 37
NOT_IN_ROWS = ("subtoken_f1", "ties", "duplicates", "layer_")
# The verdict on a whole training, which no evaluation repeats.
OF_TRAINING = "collapsed"


@dataclass
class Tally:
    """What a comparison found.

    Attributes:
        equal: Numbers that are the same.
        differing: The others, in words.
        absent: Names of scores that were there before and are not now.
        added: Names of scores that are there now and were not before.
    """

    equal: int = 0
    differing: list[str] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    added: set[str] = field(default_factory=set)

    def compare(self, before: LanguageScores, now: LanguageScores) -> None:
        """Compare the scores of all languages, their mean among them."""
        for language in before.keys() | now.keys():
            old, new = before.get(language, {}), now.get(language, {})
            self.absent |= old.keys() - new.keys() - {OF_TRAINING}
            self.added |= new.keys() - old.keys()
            for name in sorted(old.keys() & new.keys()):
                if float(old[name]).hex() == float(new[name]).hex():
                    self.equal += 1
                else:
                    self.differing.append(f"{language} {name}: {old[name]!r}, now {new[name]!r}")


@dataclass
class Stored:
    """One stage of a run: what it scored, and the rows that it scored.

    Attributes:
        folder: The run's.
        stage: `before`, `validate` or `test`.
        task: The class of its model.
        options: What that was built with.
        results: Language to scores.
        tables: Language to predictions; none where the run kept only the scores.
        checkpoint: The run folder or the checkpoint that was scored.
        commit: What the run was made by.
    """

    folder: Path
    stage: str
    task: str
    options: dict[str, Any]
    results: LanguageScores
    tables: Tables
    checkpoint: Path
    commit: str


def name_of(found: Mapping[str, Any] | None) -> str:
    return "unknown" if found is None else str(found["id"]) + (" with changes" if found["changed"] else "")


def read_tables(folder: Path) -> Tables:
    return {file.stem: pq.read_table(file) for file in sorted(folder.glob("*.parquet"))}


def stored_stages(root: Path) -> Iterator[Stored]:
    """Read all stages of all runs below a folder."""
    for file in sorted(root.rglob("results.json")):
        folder, results = file.parent, json.loads(file.read_text(encoding="utf-8"))
        model = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["model"]
        task, options = model["class_path"].rpartition(".")[2], model["init_args"]
        checkpoint = Path(results.get("origin") or folder)
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        for stage in STAGES:
            if results.get(stage):
                tables = read_tables(folder / "predictions" / stage)
                made_by = name_of(record["commit"])
                yield Stored(folder, stage, task, options, results[stage], tables, checkpoint, made_by)


def padded(rows: list[list[Any]], filler: float, dtype: torch.dtype) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows], dtype=dtype)


class SequenceRows:
    """Rows of `SequenceClassification`."""

    lost: tuple[str, ...] = ()

    def __init__(self, stored: Stored) -> None:
        columns = next(iter(stored.tables.values())).column_names
        self.names = [name.removeprefix("probability_") for name in columns if name.startswith("probability_")]
        self.score: ScoreOfRows = SequenceClassification("stored", label_names=self.names).score

    def rows(self, table: pa.Table, language: str) -> Rows:
        """The labels, and the probability of each."""
        labels = [-100 if name is None else self.names.index(name) for name in table["label"].to_pylist()]
        probabilities = [torch.tensor(table[f"probability_{name}"].to_numpy()) for name in self.names]
        return {"labels": torch.tensor(labels), "probabilities": torch.stack(probabilities, dim=1)}


class TokenRows:
    """Rows of `TokenClassification`: each sentence as one window with one token a word."""

    lost: tuple[str, ...] = ()

    def __init__(self, stored: Stored) -> None:
        tags = {
            tag
            for table in stored.tables.values()
            for column in ("labels", "predictions")
            for tag in table[column].combine_chunks().flatten().unique().to_pylist()
        }
        self.names = sorted(tags)
        self.score: ScoreOfRows = TokenClassification("stored", label_names=self.names).score

    def rows(self, table: pa.Table, language: str) -> Rows:
        """The words of each sentence, with what was predicted and what is right."""
        predicted: list[list[str]] = table["predictions"].to_pylist()
        right = [tags or [] for tags in table["labels"].to_pylist()]
        return {
            "sentence": torch.tensor(table["example_id"].to_pylist()),
            "words": padded([list(range(len(tags))) for tags in predicted], -1, torch.int64),
            "predictions": padded([list(map(self.names.index, tags)) for tags in predicted], -1, torch.int64),
            # As many columns as the predictions have, where a language has no labels.
            "labels": padded(
                [
                    [self.names.index(tag) for tag in tags] or [-100] * len(beside)
                    for tags, beside in zip(right, predicted, strict=True)
                ],
                -100,
                torch.int64,
            ),
        }


class AnswerRows:
    """Rows of `QuestionAnswering`: the answers that were kept of each question, one after the other as its context.

    So their places in the context are others.
    """

    lost = ("begin", "end")

    def __init__(self, stored: Stored) -> None:
        self.asked = {language: self.questions(table) for language, table in stored.tables.items()}
        module = QuestionAnswering(
            "stored", protocol=stored.options["protocol"], n_best_size=stored.options["n_best_size"]
        )
        module.languages = list(stored.tables)
        # In place of the data module's.
        module.references = lambda rows: self.asked[module.language_of(rows)]  # type: ignore[method-assign]
        self.score: ScoreOfRows = module.score

    @staticmethod
    def questions(table: pa.Table) -> pa.Table:
        assert table["example_id"].to_pylist() == list(range(len(table)))
        return pa.table(
            {
                "id": table["id"],
                "question": table["question"],
                "context": ["\n".join(texts) for texts in table["n_best"].to_pylist()],
                "answers": [right or [] for right in table["references"].to_pylist()],
            }
        )

    def rows(self, table: pa.Table, language: str) -> Rows:
        """The answers that were kept of each question, as places in a context that is made of them."""
        begins: list[list[int]] = []
        ends: list[list[int]] = []
        for texts in table["n_best"].to_pylist():
            place, begin, end = 0, [], []
            for text in texts:
                begin.append(place)
                end.append(place + len(text))
                place += len(text) + 1
            begins.append(begin)
            ends.append(end)
        return {
            "question": torch.tensor(table["example_id"].to_pylist()),
            "span_begin": padded(begins, NO_SPAN, torch.int64),
            "span_end": padded(ends, NO_SPAN, torch.int64),
            "span_score": padded(table["n_best_scores"].to_pylist(), -torch.inf, torch.float32),
        }


class SentenceRows:
    """Rows of `SentenceRetrieval`: what was found, counted by `accuracy` as that class does."""

    lost = tuple(f"similarity_{direction}" for direction in DIRECTIONS)

    def __init__(self, stored: Stored) -> None:
        self.counted: str = stored.options["counted"]

    def score(self, rows: Rows, missing: int) -> tuple[pa.Table, dict[str, float]]:
        ids = rows["example_ids"].tolist()
        right = {key: key for key in ids}
        found = {direction: rows[direction].tolist() for direction in DIRECTIONS}
        result = {name: accuracy(dict(zip(ids, nearest, strict=True)), right) for name, nearest in found.items()}
        both = sum(result.values()) / len(result)
        result["accuracy"] = both if self.counted == "both" else result[self.counted]
        columns = {"example_id": ids} | {f"prediction_{name}": nearest for name, nearest in found.items()}
        return pa.table(columns), result | {"examples": float(len(ids)), "chance": 1.0 / len(ids)}

    def rows(self, table: pa.Table, language: str) -> Rows:
        """What each sentence found, in either direction."""
        return {name: torch.tensor(table[f"prediction_{name}"].to_pylist()) for name in DIRECTIONS}


KINDS: dict[str, type[SequenceRows | TokenRows | AnswerRows | SentenceRows]] = {
    "SequenceClassification": SequenceRows,
    "TokenClassification": TokenRows,
    "QuestionAnswering": AnswerRows,
    "SentenceRetrieval": SentenceRows,
}


def batches(rows: Rows) -> Iterator[Rows]:
    """Cut rows into batches, the last first; whole numbers lose the columns that none of their rows has."""
    for start in range(0, len(rows["language"]), BATCH)[::-1]:
        batch = {name: values[start : start + BATCH].flip(0) for name, values in rows.items()}
        if "words" in batch:
            width = int((batch["words"] >= 0).sum(dim=1).max())
            batch |= {name: batch[name][:, :width] for name in ("words", "labels", "predictions")}
        yield batch


def score_stored(stored: Stored) -> tuple[LanguageScores, Tables, tuple[str, ...]]:
    """Score stored rows, and say which columns of the tables that makes do not follow from them."""
    kind = KINDS[stored.task](stored)
    metric = ScoresByLanguage(kind.score, list(stored.tables))
    for index, (language, table) in enumerate(stored.tables.items()):
        rows = kind.rows(table, language) | {
            "language": torch.full((len(table),), index),
            "example_ids": torch.tensor(table["example_id"].to_pylist()),
            "weights": torch.ones(len(table)),
        }
        for batch in batches(rows):
            metric.update(**batch)
    return *metric.compute(), kind.lost


def tables_that_differ(before: Tables, now: Tables, lost: tuple[str, ...] = ()) -> list[str]:
    """Name the columns of tables whose values are not the same bits."""
    found = [f"{language}: no table" for language in sorted(before.keys() ^ now.keys())]
    for language in sorted(before.keys() & now.keys()):
        old, new = before[language], now[language]
        for name in old.column_names:
            if name not in lost and not (name in new.column_names and same_values(old[name], new[name])):
                found.append(f"{language} {name}{how_far(old, new, name)}")
    return found


def same_values(old: pa.ChunkedArray, new: pa.ChunkedArray) -> bool:
    return bool(old.cast(new.type).equals(new))


def how_far(old: pa.Table, new: pa.Table, name: str) -> str:
    """Say in how many rows a column differs, and numbers by how much."""
    if name not in new.column_names or len(old) != len(new):
        return ": absent, or of other rows"
    pairs = zip(old[name].to_pylist(), new[name].to_pylist(), strict=True)
    unlike = [(before, now) for before, now in pairs if before != now]
    far = [abs(before - now) for before, now in unlike if isinstance(before, float) and isinstance(now, float)]
    return f": {len(unlike)} of {len(old)} rows" + (f", by up to {max(far):.2g}" if far else "")


def evaluate(stored: Stored, folder: Path) -> tuple[LanguageScores, Tables]:
    """Evaluate a run's checkpoint with the code that is here; where that was done already, take what it left."""
    run = stored.checkpoint
    if run.suffix == ".ckpt":
        run = run.parent.parent
    # A training and a later validation of its checkpoint share one evaluation.
    target = folder / stored.stage / run.relative_to(run.anchor)
    if not list(target.rglob("results.json")):
        words = [stored.stage, str(stored.checkpoint), "--run.directory", str(target)]
        command = [sys.executable, "-m", "ernie_m_recipes", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
    found = next(target.rglob("results.json"))
    results: Mapping[str, LanguageScores] = json.loads(found.read_text(encoding="utf-8"))
    return results[stored.stage], read_tables(found.parent / "predictions" / stored.stage)


def line(way: str, stored: Stored, name: str, tally: Tally, tables: list[str], compared: bool) -> str:
    """What is printed of one comparison."""
    examples = sum(len(table) for table in stored.tables.values())
    rows = f"{examples:,}" if stored.tables else "-"
    beside = "-" if not compared else "equal" if not tables else f"{len(tables)} columns differ"
    verdict = "equal" if not tally.differing else f"{len(tally.differing)} DIFFER"
    languages = len(stored.results) - 1
    scores = tally.equal + len(tally.differing)
    return f"{way:7} {name:10} {stored.stage:9} {languages:9} {rows:>8} {scores:7}  {verdict:10} {beside}"


def main() -> None:
    """Compare all runs, and print a line for each stage of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS")
    parser.add_argument("--again", type=Path, metavar="FOLDER", help="evaluate the checkpoints into this folder")
    args = parser.parse_args()
    print(f"{'way':7} {'run':10} {'stage':9} {'languages':>9} {'rows':>8} {'scores':>7}  {'scores are':10} tables are")
    equal, absent, added, wrong, commits = Counter[str](), set[str](), set[str](), list[str](), set[str]()
    for stored in stored_stages(args.runs.resolve()):
        name = stored.folder.relative_to(args.runs.resolve()).parts[0]
        commits.add(stored.commit)
        if stored.tables:
            results, tables, lost = score_stored(stored)
            tally = Tally()
            tally.compare(stored.results, results)
            unexpected = {score for score in tally.absent if not score.startswith(NOT_IN_ROWS)}
            tally.differing += [f"{score}: not there now" for score in sorted(unexpected)]
            differing = tables_that_differ(stored.tables, tables, lost)
            print(line("stored", stored, name, tally, differing, True), flush=True)
            wrong += [f"stored, {name} {stored.stage}: {what}" for what in [*tally.differing, *differing]]
            equal["stored"] += tally.equal
            absent, added = absent | tally.absent, added | tally.added
        if args.again and stored.stage != "before":
            results, tables = evaluate(stored, args.again.resolve())
            tally = Tally()
            tally.compare(stored.results, results)
            tally.differing += [f"{score}: not there now" for score in sorted(tally.absent)]
            differing = tables_that_differ(stored.tables, tables) if stored.tables else []
            print(line("again", stored, name, tally, differing, bool(stored.tables)), flush=True)
            wrong += [f"again, {name} {stored.stage}: {what}" for what in [*tally.differing, *differing]]
            equal["again"] += tally.equal
            added |= tally.added
    print(f"runs of commit {', '.join(sorted(commits))}, scored by {name_of(commit())}")
    print(f"{equal['stored']} scores of stored rows and {equal['again']} of evaluations are equal to the last bit")
    print(f"{len(wrong)} scores or columns of tables differ")
    for what in wrong:
        print(f"  {what}")
    print(f"do not follow from stored rows: {', '.join(sorted(absent)) or 'none'}")
    print(f"new, without a counterpart: {', '.join(sorted(added)) or 'none'}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
