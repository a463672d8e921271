"""Extraction by prompt through a Trainer, on tiny random models: loss, spans over windows, scores, heads."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import BertConfig, BertModel

from datamodules import PromptedSpans
from ernie_m import ErnieMConfig, ErnieMForInformationExtraction, ErnieMForSequenceClassification
from ernie_m.errors import InputError
from lightning_modules import InformationExtraction

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
QUIET: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
    "enable_checkpointing": False, "num_sanity_val_steps": 0, "check_val_every_n_epoch": 1000,
}  # fmt: skip
PEOPLE, PLACES = ("people", "family"), ("house", "school")


def rows_of(count: int, filler: int = 2) -> list[dict[str, Any]]:
    """Persons and places between words; the prompt says which of them to find, in every third row there are none."""
    rows = []
    for number in range(count):
        prompt, wanted = (("person", PEOPLE), ("place", PLACES))[number % 2]
        words = [PEOPLE[number // 2 % 2], *["water"] * (number % 5 * filler), PLACES[number // 4 % 2], "law"]
        words = words if number % 3 else ["water", "law", "peace"]
        content, results = " ".join(words), []
        for place, word in enumerate(words):
            start = len(" ".join([*words[:place], ""]))
            results += [{"text": word, "start": start, "end": start + len(word)}] if word in wanted else []
        rows.append({"content": content, "prompt": prompt, "result_list": results})
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> dict[str, str]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"en": str(path)}


@pytest.fixture
def make(sample_tokenizer_dir: Path, tmp_path: Path):
    def data_of(**options: Any) -> PromptedSpans:
        files = write(tmp_path / "rows.jsonl", rows_of(24))
        lengths = {"max_length": 24, "max_prompt_length": 4, "doc_stride": 6, "eval_tokens_per_batch": 200}
        defaults = {"train_files": files, "validation_files": files, "test_files": files, "global_batch_size": 8}
        return PromptedSpans(
            str(sample_tokenizer_dir), cache_dir=str(tmp_path / "cache"), **(defaults | lengths | options)
        )

    return data_of


def module_of(backbone: Path, **options: Any) -> InformationExtraction:
    return InformationExtraction(backbone=str(backbone), **options)


def from_scratch(tokenizer: Path, **options: Any) -> InformationExtraction:
    return module_of(
        tokenizer, from_scratch=SIZES | {"initializer_range": 0.2}, learning_rate=5e-3, layer_decay=1.0, **options
    )


def test_the_loss_is_the_heads_own_mean_over_tokens_however_the_batch_is_cut(make, sample_tokenizer_dir: Path) -> None:
    """Padding does not count: the head's mean over the tokens of each row by itself, weighted with their number."""
    torch.manual_seed(0)
    module = from_scratch(sample_tokenizer_dir)
    module.configure_model()
    data = make(global_batch_size=64)
    data.setup("fit")
    ((batch,),) = list(data.train_dataloader())
    expected, tokens = torch.zeros(()), batch["attention_mask"].sum()
    for row in range(len(batch["row"])):
        length = int(batch["attention_mask"][row].sum())
        names = ("input_ids", "attention_mask", "start_positions", "end_positions")
        own = {name: batch[name][row : row + 1, :length] for name in names}
        expected = expected + module.network(**own).loss * length / tokens
    reference = torch.autograd.grad(expected, list(module.network.parameters()))
    total = 0.0
    for part in (slice(0, 1), slice(1, 9), slice(9, None)):
        cut = {name: torch.cat([values[part], values[:1]]) for name, values in batch.items() if values.ndim}
        cut["weights"][-1] = 0.0
        loss = module.loss(cut | {"normaliser": batch["normaliser"]})
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(expected.item(), abs=1e-6)
    for parameter, gradient in zip(module.network.parameters(), reference, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-3)


def test_learns_scores_and_predicts_over_windows(make, sample_tokenizer_dir: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, data = from_scratch(sample_tokenizer_dir, max_spans=3), make()
    trainer = Trainer(**QUIET, max_epochs=40, default_root_dir=tmp_path)
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    result = module.results["en"]
    assert result["f1"] > 0.9
    assert (result["examples"], result["chance"]) == (24.0, 0.0)
    rows = rows_of(24)
    table = module.tables["en"].to_pylist()
    assert [row["example_id"] for row in table] == list(range(24))
    right = predicted = true = 0
    for row, given in zip(table, rows, strict=True):
        assert [span["begin"] for span in row["label"]] == [one["start"] for one in given["result_list"]]
        for span in row["prediction"]:
            assert given["content"][span["begin"] : span["end"]] == span["text"]
            assert 0.25 < span["probability"] <= 1
        places = [(span["begin"], span["end"]) for span in row["prediction"]]
        # Several windows hold a span; the table has it once, and in the order of the text.
        assert places == sorted(set(places))
        gold = {(one["start"], one["end"]) for one in given["result_list"]}
        right, predicted, true = right + len(gold & set(places)), predicted + len(places), true + len(gold)
    assert result["precision"] == pytest.approx(right / predicted)
    assert result["recall"] == pytest.approx(right / true)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = InformationExtraction.load_from_checkpoint(tmp_path / "last.ckpt")
    new = write(tmp_path / "new.jsonl", [{name: row[name] for name in ("content", "prompt")} for row in rows])
    Trainer(**QUIET, default_root_dir=tmp_path).predict(again, datamodule=make(predict_path=new["en"]))
    assert again.tables["en"]["prediction"].to_pylist() == [row["prediction"] for row in table]
    assert again.tables["en"]["label"].null_count == 24
    assert again.results == {}


def test_rows_that_were_left_out_are_no_part_of_the_score(make, sample_tokenizer_dir: Path, tmp_path: Path) -> None:
    module = from_scratch(sample_tokenizer_dir)
    trainer = Trainer(**QUIET, limit_val_batches=1, default_root_dir=tmp_path)
    trainer.validate(module, datamodule=make(eval_tokens_per_batch=24), verbose=False)
    assert module.results["en"]["examples"] == 1.0
    assert module.tables["en"].num_rows == 1


def test_only_a_head_of_this_task_counts_as_trained(make, tiny_checkpoint: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ErnieMConfig.from_pretrained(tiny_checkpoint)
    own, other = ErnieMForInformationExtraction(config), ErnieMForSequenceClassification(config)
    own.save_pretrained(tmp_path / "own")
    module = module_of(tmp_path / "own")
    Trainer(**QUIET, default_root_dir=tmp_path).test(module, datamodule=make(), verbose=False)
    torch.testing.assert_close(module.network.linear_end.weight, own.linear_end.weight)
    other.save_pretrained(tmp_path / "other")
    for folder in ("other", tiny_checkpoint):
        module = module_of(tmp_path / folder)
        with pytest.raises(InputError, match="no trained head"):
            Trainer(**QUIET, default_root_dir=tmp_path).test(module, datamodule=make(), verbose=False)
    taken = module_of(tiny_checkpoint, init_from=str(tmp_path / "own"))
    taken.configure_model()
    torch.testing.assert_close(taken.network.linear_start.weight, own.linear_start.weight)


def test_other_families_and_thresholds_outside_are_refused(tmp_path: Path) -> None:
    BertModel(BertConfig(vocab_size=60, **SIZES)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="a head of ERNIE-M alone; the backbone is of type bert"):
        module_of(tmp_path).configure_model()
    with pytest.raises(InputError, match=r"threshold is 1\.5"):
        module_of(tmp_path, threshold=1.5)
