"""An exported folder in a Python that has transformers, torch and sentencepiece, and nothing of this project."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ernie_m_recipes.export import save

ALONE = """
import json, sys
for name in ("ernie_m", "ernie_m_recipes", "lightning", "datasets", "omegaconf", "jsonargparse", "pyarrow", "pandas"):
    sys.modules[name] = None
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline

folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
batch = tokenizer(["peace and water", "law"], ["no peace", "school"], padding=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**batch).logits
classify = pipeline("text-classification", folder, trust_remote_code=True)
zero_shot = pipeline("zero-shot-classification", folder, trust_remote_code=True)
vectors = pipeline("feature-extraction", folder, trust_remote_code=True)("peace and water")
encoder = AutoModel.from_pretrained(folder, trust_remote_code=True)
print(json.dumps({
    "ids": batch["input_ids"].tolist(),
    "logits": logits.tolist(),
    "label": classify({"text": "peace and water", "text_pair": "no peace"}),
    "zero_shot": zero_shot("peace and water", candidate_labels=["law", "school"])["scores"],
    "width": len(vectors[0][0]),
    "encoder": type(encoder).__name__,
    "module": type(model).__module__,
}))
"""


@pytest.fixture
def exported(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    labels = {0: "entailment", 1: "neutral", 2: "contradiction"}
    network = AutoModelForSequenceClassification.from_pretrained(
        tiny_checkpoint, id2label=labels, label2id={name: number for number, name in labels.items()}
    )
    save(network, AutoTokenizer.from_pretrained(tiny_checkpoint), tmp_path / "exported")
    return tmp_path / "exported"


def test_it_computes_the_same_without_this_project(exported: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(exported)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    alone = json.loads(done.stdout.splitlines()[-1])
    tokenizer = AutoTokenizer.from_pretrained(exported)
    model = AutoModelForSequenceClassification.from_pretrained(exported)
    batch = tokenizer(["peace and water", "law"], ["no peace", "school"], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits
    assert type(model).__module__ == "ernie_m.heads"
    assert alone["module"].startswith("transformers_modules.")
    assert alone["ids"] == batch["input_ids"].tolist()
    torch.testing.assert_close(torch.tensor(alone["logits"]), logits, rtol=0, atol=1e-6)
    assert alone["encoder"] == "ErnieMModel"
    assert alone["width"] == 32
    assert sum(alone["zero_shot"]) == pytest.approx(1)


def test_exporting_leaves_later_saving_as_it_was(exported: Path, tmp_path: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(exported).save_pretrained(tmp_path / "again")
    assert not list((tmp_path / "again").glob("*.py"))
