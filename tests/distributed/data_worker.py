"""A run that notes which rows each process sees: `data_worker.py TOKENIZER DATA FOLDER WORLD_SIZE [CHECKPOINT]`."""

import json
import sys
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules import TextClassification


class Recorder(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps = []
        self.validated = []

    def training_step(self, batch, batch_idx):
        self.steps.append([i for micro in batch for i in rows(micro)])
        return self.weight

    def validation_step(self, batch, batch_idx):
        self.validated.append(rows(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def rows(batch):
    return batch["example_ids"][batch["weights"] > 0].tolist()


def main(tokenizer, path, folder, world_size, *checkpoint):
    files = {"en": path}
    data = TextClassification(
        tokenizer,
        files,
        files,
        global_batch_size=6,
        micro_batch_size=2,
        eval_tokens_per_batch=60,
        cache_dir=f"{folder}/cache",
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=int(world_size),
        strategy="ddp" if int(world_size) > 1 else "auto",
        max_epochs=2,
        callbacks=[ModelCheckpoint(f"{folder}/kept", filename="{step}", save_top_k=-1, every_n_train_steps=3)],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=2,
    )
    module = Recorder()
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint[0] if checkpoint else None, weights_only=True)
    found = {"steps": module.steps, "validated": module.validated}
    Path(folder, f"rank{trainer.global_rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
