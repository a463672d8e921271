"""Trained parameters equal those of plain PyTorch on whole batches, however the work is split."""

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

Launch = Callable[..., Any]


def assert_trained_alike(
    worker: ModuleType, found: dict[str, Any], folder: Path, task: str, tolerance: float = 2e-5, **objective: str
) -> None:
    expected = worker.plain_training(folder / "backbone", task, **objective)
    state = {name.removeprefix("network."): value for name, value in found["state"].items()}
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("task", ["classification", "retrieval"])
def test_plain_training_moves_the_parameters(task: str, worker: ModuleType, tmp_path: Path) -> None:
    """The comparison means something only if training changes what it compares."""
    worker.make_backbone(tmp_path / "backbone", task)
    network = worker.ErnieMModel if task == "retrieval" else worker.ErnieMForSequenceClassification
    before = network.from_pretrained(tmp_path / "backbone").state_dict()
    after = worker.plain_training(tmp_path / "backbone", task)
    # The same number on every key changes no attention, so that bias has no gradient.
    moved = {name for name in after if not name.endswith("k_proj.bias") and "pooler" not in name}
    assert min(float((after[name] - before[name]).abs().max()) for name in moved) > 5e-3


@pytest.mark.parametrize(
    ("strategy", "world", "micro_batches"),
    [("auto", 1, 1), ("auto", 1, 3), ("ddp", 2, 1), ("ddp", 2, 3), ("fsdp2", 2, 1), ("fsdp2", 2, 3)],
)
def test_classification(
    strategy: str, world: int, micro_batches: int, launch: Launch, worker: ModuleType, tmp_path: Path
) -> None:
    found = launch(world, task="classification", strategy=strategy, micro_batches=micro_batches)
    assert_trained_alike(worker, found[0], tmp_path, "classification")
    assert all(rank["logged"] == found[0]["logged"] for rank in found)
    assert all(rank["results"] == found[0]["results"] for rank in found)
    assert all(rank["tables"] == found[0]["tables"] for rank in found)
    results, logged = found[0]["results"], found[0]["logged"]
    assert (results["en"]["examples"], results["de"]["examples"]) == (7, 5)
    assert logged["val/de/accuracy"] == pytest.approx(results["de"]["accuracy"])
    assert logged["val/accuracy"] == pytest.approx((results["en"]["accuracy"] + results["de"]["accuracy"]) / 2)
    ids = found[0]["tables"]["en"]["example_id"]
    assert ids == sorted(set(ids))
    # A share of the examples, to which no filler is added.
    right = logged["train/accuracy"] * sum(worker.BATCH_SIZES)
    assert right == pytest.approx(round(right), abs=1e-4)
    assert 0 < right < sum(worker.BATCH_SIZES)


def test_logged_loss_of_several_processes_is_the_global_mean(launch: Launch) -> None:
    together = launch(2, task="classification", strategy="ddp", micro_batches=2)
    alone = launch(1, task="classification", strategy="auto", micro_batches=1)
    assert together[0]["logged"]["train/loss"] == pytest.approx(alone[0]["logged"]["train/loss"], abs=1e-5)
    assert math.isfinite(alone[0]["logged"]["train/loss"])


@pytest.mark.parametrize(("strategy", "world"), [("auto", 1), ("ddp", 2), ("fsdp2", 2)])
def test_retrieval(strategy: str, world: int, launch: Launch, worker: ModuleType, tmp_path: Path) -> None:
    found = launch(world, task="retrieval", strategy=strategy)
    assert_trained_alike(worker, found[0], tmp_path, "retrieval", tolerance=1e-4)
    assert all(rank["results"] == found[0]["results"] for rank in found)


@pytest.mark.parametrize("shares", [{"mmlm": 0.5, "btmlm": 0.5, "tlm": 0.5, "camlm": 0.5}, {"mmlm": 1.0, "xlco": 1.0}])
def test_pre_training_hides_and_learns_the_same_on_any_number_of_processes(
    shares: dict[str, float], launch: Launch, tmp_path: Path
) -> None:
    """Although a process may have no row of some objective."""
    arguments = {"shares": shares, "mask_rate": 0.4, "language_embeddings": True}
    alone = launch(1, task="pretraining", strategy="auto", arguments=arguments, folder=tmp_path / "alone")[0]
    parts = 1 if "xlco" in shares else 2
    together = launch(2, task="pretraining", strategy="ddp", arguments=arguments, micro_batches=parts)
    for found in together:
        assert found["state"].keys() == alone["state"].keys()
        for name, value in alone["state"].items():
            torch.testing.assert_close(found["state"][name], value, rtol=0, atol=1e-4, msg=name)
        assert found["results"]["en"] == pytest.approx(alone["results"]["en"])


@pytest.mark.parametrize(("strategy", "world"), [("auto", 1), ("ddp", 2)])
def test_hardest_negatives_are_those_of_the_whole_batch(
    strategy: str, world: int, launch: Launch, worker: ModuleType, tmp_path: Path
) -> None:
    arguments = {"objective": "hardest_negative", "sweep_layers": True}
    found = launch(world, task="retrieval", strategy=strategy, arguments=arguments)
    assert_trained_alike(worker, found[0], tmp_path, "retrieval", tolerance=1e-4, objective="hardest_negative")
    assert all(rank["results"] == found[0]["results"] for rank in found)
    for result in found[0]["results"].values():
        assert result["layer_2"] == result["accuracy"]


def test_learnt_temperature_gets_the_gradient_of_the_whole_batch(launch: Launch) -> None:
    arguments = {"learn_temperature": True, "temperature": 0.2}
    alone = launch(1, task="retrieval", strategy="auto", arguments=arguments)
    together = launch(2, task="retrieval", strategy="ddp", arguments=arguments)
    found = [float(run[0]["state"]["log_temperature"]) for run in (alone, together)]
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert abs(found[0] - math.log(0.2)) > 1e-3
    assert "learn_temperature" in launch(2, fails=True, task="retrieval", strategy="fsdp2", arguments=arguments)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_checkpoint_of_two_processes_is_scored_alike_by_one_without_the_backbone(
    strategy: str, launch: Launch, worker: ModuleType, tmp_path: Path
) -> None:
    trained = launch(2, task="classification", strategy=strategy)
    (tmp_path / "backbone" / "config.json").unlink()
    alone = launch(1, task="classification", strategy="auto", ckpt_path=str(tmp_path / "last.ckpt"))
    assert alone[0]["results"]["mean"]["accuracy"] == trained[0]["results"]["mean"]["accuracy"]
    assert alone[0]["tables"]["en"]["example_id"] == trained[0]["tables"]["en"]["example_id"]
    for column in (f"probability_{label}" for label in worker.LABELS):
        assert alone[0]["tables"]["en"][column] == pytest.approx(trained[0]["tables"]["en"][column], abs=1e-5)


def test_random_head_is_the_first_process_s_whatever_the_strategy(
    launch: Launch, worker: ModuleType, tmp_path: Path
) -> None:
    """DDP copies the first process's weights; with FSDP2 each process keeps its own shard of what it drew."""
    states = []
    for strategy in ("ddp", "fsdp2"):
        folder = tmp_path / strategy
        folder.mkdir()
        worker.make_backbone(folder / "backbone", "retrieval")
        states.append(launch(2, folder=folder, task="classification", strategy=strategy)[0]["state"])
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=1e-4)


def test_loss_that_is_not_finite_on_one_process_stops_all_and_names_the_step(launch: Launch) -> None:
    printed = launch(2, fails=True, task="classification", strategy="ddp", poisoned=[1], log_every_n_steps=3)
    assert printed.count("InputError: the training loss is not finite at step 1.") == 2


def test_what_cannot_be_exact_is_refused(launch: Launch) -> None:
    assert "static_graph" in launch(2, fails=True, task="classification", strategy="ddp_static", micro_batches=2)
    assert "data_parallel_size" in launch(2, fails=True, task="classification", strategy="tensor_parallel")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_gradient_checkpointing_changes_nothing(
    strategy: str, launch: Launch, worker: ModuleType, tmp_path: Path
) -> None:
    arguments = {"gradient_checkpointing": True}
    found = launch(2, task="classification", strategy=strategy, micro_batches=2, arguments=arguments)
    assert_trained_alike(worker, found[0], tmp_path, "classification")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_compiled_layers_change_nothing(strategy: str, launch: Launch, worker: ModuleType, tmp_path: Path) -> None:
    arguments = {"torch_compile": True}
    found = launch(2, task="classification", strategy=strategy, micro_batches=2, arguments=arguments)
    assert_trained_alike(worker, found[0], tmp_path, "classification")
    assert all(rank["graphs"] > 1 for rank in found)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_active_vocabulary_changes_nothing(
    micro_batches: int, launch: Launch, worker: ModuleType, tmp_path: Path
) -> None:
    arguments = {"active_vocabulary": True}
    found = launch(2, task="classification", strategy="ddp", micro_batches=micro_batches, arguments=arguments)
    assert_trained_alike(worker, found[0], tmp_path, "classification")
    printed = launch(2, fails=True, task="classification", strategy="fsdp2", arguments=arguments)
    assert "active_vocabulary needs" in printed


@pytest.mark.parametrize("strategy", ["fsdp2", "fsdp2_sharded"])
def test_sharded_run_is_scored_alike_by_a_sharded_one(strategy: str, launch: Launch, tmp_path: Path) -> None:
    trained = launch(2, task="classification", strategy=strategy)
    (tmp_path / "backbone" / "config.json").unlink()
    again = launch(2, task="classification", strategy=strategy, ckpt_path=str(tmp_path / "last.ckpt"))
    assert again[0]["results"]["mean"]["accuracy"] == trained[0]["results"]["mean"]["accuracy"]
    for language, table in trained[0]["tables"].items():
        for column, values in table.items():
            expected = pytest.approx(values, abs=1e-5) if column.startswith("probability") else values
            assert again[0]["tables"][language][column] == expected
