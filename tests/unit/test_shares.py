"""One file divided into training, validation and test data: every row once, labels in proportion, groups together."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules import (
    AnswerChoices,
    ExtractiveQuestions,
    ParallelText,
    PromptedSpans,
    TaskDataModule,
    TextClassification,
    TokenLabels,
)
from datamodules.shares import checked_shares, divided, drawn
from datamodules.splits import Split
from ernie_m.errors import InputError

SHARES = {Split.TEST: 0.1, Split.VALIDATION: 0.2}


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=1, max_size=80), st.booleans(), st.integers(0, 9)
)
def test_parts_are_apart_and_groups_whole(rows: list[tuple[int, int]], grouped: bool, seed: int) -> None:
    labels, groups = np.array(rows).T
    found = divided(labels, groups if grouped else None, SHARES, seed)
    chosen = np.concatenate(list(found.values()))
    assert len(np.unique(chosen)) == len(chosen)
    if grouped:
        rest = set(range(len(rows))) - set(chosen.tolist())
        parts = [{rows[row][1] for row in part} for part in (*(p.tolist() for p in found.values()), rest)]
        assert sum(map(len, parts)) == len(set.union(*parts))
    else:
        for label, count in Counter(labels.tolist()).items():
            for split, share in SHARES.items():
                assert abs((labels[found[split]] == label).sum() - share * count) <= 1
    again = divided(labels, groups if grouped else None, SHARES, seed)
    assert all((again[split] == found[split]).all() for split in SHARES)


def test_groups_reach_their_share_too() -> None:
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 200, 2000)
    labels = groups % 3
    found = divided(labels, groups, SHARES, 1)
    for split, share in SHARES.items():
        for label in range(3):
            assert abs((labels[found[split]] == label).mean() - (labels == label).mean()) < 0.05
        assert abs(len(found[split]) / 2000 - share) < 0.02


@pytest.mark.parametrize("shares", [(0.5, 0.5), (-0.1, 0.0), (1.0, 0.0), (float("nan"), 0.0)])
def test_shares_leave_training_data(shares: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="validation_share is"):
        checked_shares(*shares)


def data_of(tokenizer: Path, folder: Path, **arguments: object) -> TextClassification:
    return TextClassification(
        str(tokenizer), {"en": str(folder / "a.csv"), "de": str(folder / "a.csv")}, second_column=None,
        cache_dir=str(folder / "cache"), **{"first_column": "text"} | arguments,
    )  # fmt: skip


def test_one_file_is_enough(tmp_path: Path, sample_tokenizer_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"text {number},{'ab'[number % 2]},d{number // 4}" for number in range(40)]
    (tmp_path / "a.csv").write_text("text,label,document\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("text,label,document\nx,a,y\n", encoding="utf-8")
    others = {"test_files": {"de": str(tmp_path / "b.csv")}}
    for options in ({}, {"group_column": "document"}, {"split_seed": 2}):
        data = data_of(sample_tokenizer_dir, tmp_path, validation_share=0.2, test_share=0.1, **others, **options)
        with caplog.at_level("INFO"):
            for stage in ("fit", "test"):
                data.setup(stage)
        assert data.eval_languages("validate") == ["en", "de"]
        assert data.eval_languages("test") == ["de", "en"]
        found = {
            split: data.row_set(split, ["en"]).all_scalars("labels").tolist()
            for split in ("train", "validation", "test")
        }
        assert {split: len(labels) for split, labels in found.items()} == {"train": 28, "validation": 8, "test": 4}
        assert {split: sum(labels) for split, labels in found.items()} == {"train": 14, "validation": 4, "test": 2}
        prints = data.fingerprints()
        assert prints["validation/en"].startswith("8 rows, ")
        assert {"a 4", "b 4"} <= set(re.findall("[ab] 4", prints["validation/en"]))
        # A file of its own stays whole, and a language keeps for training what it does not test on.
        assert prints["test/de"].startswith("1 rows, ")
        assert prints["train/de"].startswith("32 rows, ")
    with pytest.raises(
        InputError, match=r"test_share 0\.01 of 40 rows of 'en' is none of them: raise it, name test_files"
    ):
        data_of(sample_tokenizer_dir, tmp_path, test_files=None, validation_share=0.2, test_share=0.01).setup("fit")
    with pytest.raises(InputError, match="no column 'documents'"):
        data_of(sample_tokenizer_dir, tmp_path, test_files=None, test_share=0.1, group_column="documents").setup("fit")


@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(1, 10), st.booleans())
def test_what_is_drawn_is_whole_examples(numbers: list[int], most: int, some: bool) -> None:
    examples = np.sort(np.array(numbers))
    kept = np.arange(0, len(examples), 2) if some else None
    rows = drawn(len(examples), kept, examples, most)
    possible = np.arange(len(examples)) if kept is None else kept
    rows = possible if rows is None else rows
    assert len(set(examples[rows].tolist())) == min(most, len(set(examples[possible].tolist())))
    assert rows.tolist() == [row for row in possible.tolist() if examples[row] in examples[rows]]


def test_sentences_stay_whole_and_rare_labels_are_in_all_parts(tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    """Windows of a sentence belong together; every tenth sentence has a name."""
    rows = [" ".join(["word"] * 40) for _ in range(60)]
    tags = [" ".join(["B-PER" if number % 10 == 0 else "O"] + ["O"] * 39) for number in range(60)]
    lines = ["tokens,ner_tags", *map(",".join, zip(rows, tags, strict=True))]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = TokenLabels(
        str(sample_tokenizer_dir), {"en": str(tmp_path / "a.csv")}, validation_share=0.3, test_share=0.1,
        cache_dir=str(tmp_path / "cache"), max_length=24,
    )  # fmt: skip
    for stage in ("fit", "test"):
        data.setup(stage)
    sentences = {
        split: set(data.row_set(split, ["en"]).all_scalars("sentence").tolist())
        for split in ("train", "validation", "test")
    }
    assert sum(map(len, sentences.values())) == len(set.union(*sentences.values())) == 60
    assert {split: len(found) for split, found in sentences.items()} == {"train": 36, "validation": 18, "test": 6}
    named = {split: sum(number % 10 == 0 for number in found) for split, found in sentences.items()}
    assert named == {"train": 4, "validation": 1, "test": 1}


@pytest.mark.parametrize("kind", ["questions", "prompts", "choices", "pairs"])
def test_what_belongs_together_stays_in_one_part(kind: str, tmp_path: Path, sample_tokenizer_dir: Path) -> None:
    """40 rows, four on each text; every fifth answer is of another kind."""
    rows = []
    for number in range(40):
        text, is_other = f"text number {number // 4} says word{number // 4}", number % 5 == 0
        answers = {"text": [] if is_other else ["text"], "answer_start": [] if is_other else [0]}
        rows.append({
            "questions": {"id": number, "context": text, "question": f"what {number}", "answers": answers},
            "prompts": {"content": text, "prompt": f"what {number}",
                        "result_list": [] if is_other else [{"text": "text", "start": 0, "end": 4}]},
            "choices": {"context": f"{text} no{number}", "choice1": "a", "choice2": "b", "label": int(is_other)},
            "pairs": {"source": text, "target": "" if number == 7 else f"Satz {number}"},
        }[kind])  # fmt: skip
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {"source_column": "source", "target_column": "target"} if kind == "pairs" else {}
    columns |= {"version_2_with_negative": True} if kind == "questions" else {}
    make = {"questions": ExtractiveQuestions, "prompts": PromptedSpans, "choices": AnswerChoices, "pairs": ParallelText}
    data = make[kind](
        str(sample_tokenizer_dir), {"de": str(path)}, validation_share=0.2, test_share=0.1, max_length=96,
        cache_dir=str(tmp_path / "cache"), **columns,
    )  # fmt: skip
    for stage in ("fit", "test"):
        data.setup(stage)
    # The same cached rows are told apart by what they were divided into.
    texts = {split: _texts_of(data, split) for split in ("train", "validation", "test")}
    assert {split: len(found) for split, found in texts.items()} == {
        "train": 27 if kind == "pairs" else 28, "validation": 8, "test": 4
    }  # fmt: skip
    distinct = [set(found) for found in texts.values()]
    assert sum(map(len, distinct)) == len(set.union(*distinct)) == (40 if kind == "choices" else 10)
    if kind in ("questions", "prompts"):
        name = {"questions": "context", "prompts": "content"}[kind]
        for stage in ("validate", "test"):
            assert set(data.references(stage, "de").column(name).to_pylist()) == {
                data.references(stage, "de").column(name)[int(number)].as_py()
                for number in data.row_set(stage.replace("validate", "validation"), ["de"]).all_scalars(
                    {"questions": "question", "prompts": "row"}[kind]
                )
            }


def _texts_of(data: TaskDataModule, split: str) -> list[str]:
    """What the examples of a split are about."""
    rows = data.row_set(split, ["de"])
    table = rows.rows(np.arange(len(rows)))
    ids = table.column("source_input_ids" if isinstance(data, ParallelText) else "input_ids").to_pylist()
    flat = [one[0] if isinstance(data, AnswerChoices) else one for one in ids]
    texts = data.tokenizer.batch_decode(flat, skip_special_tokens=True)
    return texts if isinstance(data, AnswerChoices) else [re.findall(r"word\d+", text)[0] for text in texts]
