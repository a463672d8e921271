"""Two processes share the data as the plan says, through Lightning, and may hand over to one and back."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "tests" / "distributed" / "data_worker.py"
ROWS = 23
STEPS = 4  # of an epoch: three of 6 rows, one of 5


Ranks = list[dict[str, list[list[int]]]]


@pytest.fixture(scope="module")
def inputs(sample_tokenizer_dir, tmp_path_factory) -> tuple[str, str]:
    data = tmp_path_factory.mktemp("data") / "pairs.csv"
    lines = [f"word {'more ' * (i % 7)},Satz {i},{'ab'[i % 2]}" for i in range(ROWS)]
    data.write_text("\n".join(["premise,hypothesis,label", *lines]), encoding="utf-8")
    return str(sample_tokenizer_dir), str(data)


def run(inputs: tuple[str, str], folder: Path, world_size: int, *checkpoint: Path) -> Ranks:
    folder.mkdir()
    arguments = [*inputs, str(folder), str(world_size), *map(str, checkpoint)]
    if world_size == 1:
        runpy.run_path(str(WORKER))["main"](*arguments)
    else:
        # Lightning starts the other processes of a script itself.
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(WORKER), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in range(world_size)]


def whole_steps(ranks: Ranks) -> list[list[int]]:
    return [sorted(i for share in step for i in share) for step in zip(*(r["steps"] for r in ranks), strict=True)]


def test_two_processes_share_out_and_hand_over(inputs, tmp_path):
    one, two = run(inputs, tmp_path / "one", 1), run(inputs, tmp_path / "two", 2)
    steps = whole_steps(two)
    assert steps == whole_steps(one)
    for epoch in (steps[:STEPS], steps[STEPS:]):
        assert sorted(i for step in epoch for i in step) == list(range(ROWS))
    for ranks in (one, two):
        assert sorted(i for rank in ranks for batch in rank["validated"] for i in batch) == list(range(ROWS))
    assert len({len(rank["validated"]) for rank in two}) == 1

    handed_over = run(inputs, tmp_path / "over", 1, tmp_path / "two" / "kept" / "step=3.ckpt")
    assert whole_steps(handed_over) == steps[3:]
