"""A run that is cut and resumed, at whatever moment, sees what the uninterrupted run sees. Through a real Trainer."""

import csv
import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint

from datamodules import TextClassification
from ernie_m.errors import InputError

ROWS = 23
BATCH = 4
STEPS = 6  # of an epoch: five of 4 rows, one of 3


class Recorder(LightningModule):
    """Keeps the example ids of each step and has one parameter to step on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps: list[list[int]] = []
        self.validated = 0

    def training_step(self, batch, batch_idx):
        self.steps.append(sorted(i for micro in batch for i in micro["example_ids"].tolist()))
        return self.weight

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.validated += len(batch["example_ids"])
        self.log("rows", float(self.validated), on_epoch=True)

    def configure_optimizers(self):
        # Makes the training loader and its iterator before a checkpoint's position is restored, as schedules do.
        assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "pairs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["premise", "hypothesis", "label"])
        writer.writerows([[f"word {'more ' * (i % 7)}", f"Satz {i}", "ab"[i % 2]] for i in range(ROWS)])
    return {"en": str(path)}


@pytest.fixture
def make_data(files, sample_tokenizer_dir, tmp_path):
    def make(**changes):
        arguments = {"train_files": files, "validation_files": files, "global_batch_size": BATCH, "seed": 3}
        arguments |= {"cache_dir": str(tmp_path / "cache")}
        return TextClassification(str(sample_tokenizer_dir), **arguments | changes)

    return make


def run(data, folder, *callbacks, ckpt_path=None, module=None, **settings):
    module = module or Recorder()
    arguments = {
        "max_epochs": 3,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": bool(callbacks),
        "use_distributed_sampler": False,
    }
    trainer = Trainer(default_root_dir=folder, callbacks=list(callbacks), **arguments | settings)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return module.steps


MOMENTS = {
    "after steps": {"every_n_train_steps": 1},
    "at validation": {"monitor": "rows", "mode": "max", "save_on_train_epoch_end": False},
    "at the end of epochs": {"save_on_train_epoch_end": True},
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_steps": 14, "max_epochs": -1},
        {"max_steps": 14, "max_epochs": -1, "check_val_every_n_epoch": None, "val_check_interval": 4},
    ],
    ids=["by epochs", "by steps", "validating across epochs"],
)
def test_resuming_anywhere_continues_exactly(make_data, tmp_path, moment, settings):
    settings = {"val_check_interval": 2} | settings
    keep = ModelCheckpoint(tmp_path / "kept", filename="{step}", save_top_k=-1, **MOMENTS[moment])
    whole = run(make_data(), tmp_path, keep, **settings)
    assert len(whole) == settings.get("max_steps", 3 * STEPS)
    for epoch in range(len(whole) // STEPS):
        seen = [i for step in whole[epoch * STEPS : (epoch + 1) * STEPS] for i in step]
        assert sorted(seen) == list(range(ROWS))
    checkpoints = sorted((tmp_path / "kept").iterdir())
    assert len(checkpoints) >= 2
    for checkpoint in checkpoints:
        done = int(checkpoint.stem.removeprefix("step=").split("-")[0])
        resumed = run(make_data(), tmp_path, ckpt_path=checkpoint, **settings)
        assert whole[:done] + resumed == whole, f"{moment}, step {done}"


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_that_are_ahead_do_not_count(make_data, tmp_path, workers):
    keep = ModelCheckpoint(tmp_path / "kept", filename="{step}", save_top_k=-1, every_n_train_steps=4)
    whole = run(make_data(num_workers=workers), tmp_path, keep, limit_val_batches=0)
    for done in (4, 8):
        checkpoint = tmp_path / "kept" / f"step={done}.ckpt"
        state = torch.load(checkpoint, weights_only=True)["TextClassification"]
        assert (state["epoch"], state["consumed"]) == divmod(done, STEPS)
        resumed = run(make_data(num_workers=workers), tmp_path, ckpt_path=checkpoint, limit_val_batches=0)
        assert whole[:done] + resumed == whole


def test_micro_batches_may_change_on_resuming(make_data, tmp_path):
    keep = ModelCheckpoint(tmp_path / "kept", filename="{step}", save_top_k=-1, every_n_train_steps=5)
    whole = run(make_data(micro_batch_size=4), tmp_path, keep, limit_val_batches=0)
    resumed = run(make_data(micro_batch_size=1), tmp_path, ckpt_path=tmp_path / "kept" / "step=5.ckpt")
    assert whole[:5] + resumed == whole


def test_limited_epochs_resume_too(make_data, tmp_path):
    keep = ModelCheckpoint(tmp_path / "kept", filename="{step}", save_top_k=-1, every_n_train_steps=5)
    settings = {"limit_train_batches": 3, "limit_val_batches": 0}
    whole = run(make_data(), tmp_path, keep, **settings)
    assert len(whole) == 9
    assert whole[:3] != whole[3:6]
    resumed = run(make_data(), tmp_path, ckpt_path=tmp_path / "kept" / "step=5.ckpt", **settings)
    assert whole[:5] + resumed == whole


def test_overfitting_repeats_the_same_batches(make_data, tmp_path):
    steps = run(make_data(), tmp_path, overfit_batches=2)
    assert steps[:2] == steps[2:4] == steps[4:6]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seed": 4}, "seed was 3 and is 4"), ({"global_batch_size": 8}, "global_batch_size was 4 and is 8")],
)
def test_another_order_is_refused_unless_asked_for(make_data, tmp_path, change, message):
    keep = ModelCheckpoint(tmp_path / "kept", filename="{step}", save_top_k=-1, every_n_train_steps=2)
    run(make_data(), tmp_path, keep, limit_val_batches=0)
    checkpoint = tmp_path / "kept" / "step=2.ckpt"
    with pytest.raises(InputError, match=message):
        run(make_data(**change), tmp_path, ckpt_path=checkpoint, limit_val_batches=0)
    data = make_data(**change)
    data.allow_changes = True
    assert run(data, tmp_path, ckpt_path=checkpoint, limit_val_batches=0)


@pytest.mark.parametrize("split", ["train_files", "validation_files"])
def test_other_data_are_refused_and_moved_ones_are_not(make_data, files, tmp_path, split):
    keep = ModelCheckpoint(tmp_path / "kept", filename="{step}", save_top_k=-1, every_n_train_steps=2)
    whole = run(make_data(), tmp_path, keep, limit_val_batches=0)
    checkpoint = tmp_path / "kept" / "step=2.ckpt"
    moved = Path(shutil.copyfile(files["en"], tmp_path / "moved.csv"))
    elsewhere = {split: {"en": str(moved)}, "cache_dir": str(tmp_path / "other")}
    assert whole[:2] + run(make_data(**elsewhere), tmp_path, ckpt_path=checkpoint, limit_val_batches=0) == whole
    moved.write_text(moved.read_text(encoding="utf-8").replace("Satz", "Wort"), encoding="utf-8")
    with pytest.raises(InputError, match=r"data, or the tokenizer.*not those of the checkpoint"):
        run(make_data(**elsewhere), tmp_path, ckpt_path=checkpoint, limit_val_batches=0)


def test_accumulation_by_the_trainer_is_refused(make_data, tmp_path):
    with pytest.raises(InputError, match="accumulate_grad_batches is 2"):
        run(make_data(), tmp_path, accumulate_grad_batches=2)


class Stumbling(Recorder):
    """Fails in the middle of its fourth step."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if len(self.steps) == 4:
            raise RuntimeError("stumbled")
        return loss


def test_a_step_that_was_not_finished_is_taken_again(make_data, tmp_path):
    whole = run(make_data(), tmp_path)
    with pytest.raises(RuntimeError, match="stumbled"):
        run(make_data(num_workers=1), tmp_path, OnExceptionCheckpoint(tmp_path, "stumbled"), module=Stumbling())
    resumed = run(make_data(), tmp_path, ckpt_path=tmp_path / "stumbled.ckpt")
    assert whole[:3] + resumed == whole
