"""Every recipe that is there: it parses alone and with its fragments, keeps the rules, and runs a step."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pyarrow
import pytest
import torch
import yaml
from pyarrow import parquet
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForMultipleChoice, AutoTokenizer, pipeline

from ernie_m_recipes.card import figures_of
from ernie_m_recipes.check import RULES, check_recipe, parser, problems
from ernie_m_recipes.registry import Entry, entries
from ernie_m_recipes.rules import trains
from ernie_m_recipes.settings import CardRow
from ernie_m_recipes.tables import MEAN
from ernie_m_recipes.targets import parse

ROOT = Path(__file__).resolve().parents[2]
RECIPES = entries("recipe")
FRAGMENTS = entries("fragment")


def test_every_file_is_found() -> None:
    files = sorted((ROOT / "recipes").rglob("*.yaml")) + sorted((ROOT / "configs").rglob("*.yaml"))
    assert sorted(entry.path for entry in RECIPES + FRAGMENTS) == sorted(files)
    assert len({entry.name for entry in RECIPES + FRAGMENTS}) == len(files)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda entry: entry.name)
def test_a_recipe_keeps_its_rules(recipe: Entry) -> None:
    assert problems([recipe.path]) == []


# One of each kind of data and of training; `ernie-m check` takes all recipes, which takes minutes.
WITH_FRAGMENTS = [
    "mlqa/transfer_large",
    "tatoeba/after_squad_base",
    "tatoeba/fine_tuned_base",
    "xnli/smoke",
    "xnli/transfer_base",
    "xquad/transfer_base",
]


@pytest.mark.parametrize("name", WITH_FRAGMENTS)
def test_a_recipe_keeps_its_rules_with_every_fragment(name: str) -> None:
    (recipe,) = (entry for entry in RECIPES if entry.name == name)
    count, found = check_recipe(recipe.name, recipe.path, FRAGMENTS)
    assert found == []
    assert count == 1 + sum(fragment.fits(recipe.name) for fragment in FRAGMENTS)


def test_every_fragment_is_checked_with_a_recipe() -> None:
    assert all(any(fragment.fits(name) for name in WITH_FRAGMENTS) for fragment in FRAGMENTS)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda entry: entry.name)
def test_a_recipe_says_what_it_reproduces_and_states_what_matters(recipe: Entry) -> None:
    header = "\n".join(recipe.header)
    content = yaml.safe_load(recipe.text)
    command = f"ernie-m {'fit' if trains(content) else 'test'} --config {recipe.name}"
    for word in ("Reproduces:", "Run:", "Hardware:", "Sources:", "Data:", command):
        assert word in header
    stated = set(content["model"]["init_args"]) | set(content["data"]["init_args"]) | set(content["trainer"])
    assert type(content["seed_everything"]) is int
    assert "monitor" in content["checkpoint"]
    if not trains(content):
        assert stated >= {"backbone", "layer", "pooling", "counted", "max_length", "test_languages", "precision"}
        return
    assert stated >= {
        "backbone", "learning_rate", "layer_decay", "decay_variant", "weight_decay", "warmup_ratio", "schedule",
        "max_length", "global_batch_size", "precision", "strategy", "gradient_clip_val", "val_check_interval",
    }  # fmt: skip
    assert {"max_epochs", "max_steps"} & set(content["trainer"])


def test_published_figures_in_headers_are_the_cards() -> None:
    for recipe in RECIPES:
        folder, _, name = recipe.name.partition("/")
        if not name.startswith("trans"):
            continue
        setting = "Cross-lingual Transfer" if name.startswith("transfer") else "Translate-Train-All"
        model = "ERNIE-M Large" if name.endswith("large") else "ERNIE-M"
        figures = figures_of(CardRow(folder.replace("_", "-"), setting, model))
        header = " ".join(recipe.header)
        if figures is None:
            assert "nothing: the card has no figure" in header
            continue
        assert f"row {model}, {setting}," in header
        # The first metric of a row is the one that headers give.
        metric, mean = next(iter(figures[MEAN].items()))
        assert f"test {metric} {mean} " in header
        assert f"English {figures['en'][metric]}" in header


def commands_of_the_documents() -> list[str]:
    """Commands with a recipe in README and docs, and options that stand alone, tried with one."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    whole = re.findall(r"ernie-m (?:fit|test|estimate) (?:--config )?([a-z_]+(?:/[a-z_]+| |\n)[^`|#\n]*)", text)
    options = re.findall(r"`(--(?:config|model|data|trainer|run|checkpoint)[^`]* [^`]*)`", text)
    names = {entry.name for entry in RECIPES}
    # Recipes alone are parsed by the tests above.
    found = [command for command in whole if command.split()[0] in names and len(command.split()) > 1]
    return sorted({*map(str.strip, found), *(f"xnli/transfer_base {option}" for option in options)})


@pytest.mark.parametrize("command", commands_of_the_documents())
def test_a_command_of_the_documents_parses(command: str) -> None:
    words = shlex.split(re.sub(r" N$", " 2", command))
    settings = parser().settings_of(parse("fit", ["--config", *words]))
    assert [problem for rule in RULES for problem in rule(settings)] == []


def test_the_table_of_recipes_is_not_stale(ernie_m) -> None:
    code, out, _ = ernie_m("ls", "--markdown")
    assert code == 0
    table = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    assert table == out, "write it again: ernie-m ls --markdown > recipes/README.md"
    assert "| `xnli/transfer_large` |" in table
    assert table.count("\n| `") == len(RECIPES)


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda entry: entry.name)
def test_a_fragment_has_a_description_and_goes_with_a_recipe(fragment: Entry) -> None:
    assert len(fragment.description) > 10
    assert any(fragment.fits(recipe.name) for recipe in RECIPES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"init_args": {"seed": 2}}}, "data.seed is 2"),
        ({"data": {"init_args": {"tokenizer": "other"}}}, "data.tokenizer is 'other'"),
        ({"data": {"init_args": {"max_length": 513}}}, "data.max_length is 513"),
        ({"data": {"init_args": {"micro_batch_size": 64}}}, "micro_batch_size is 64"),
        ({"data": {"init_args": {"train_languages": ["xx"]}}}, "'xx'"),
        ({"model": {"init_args": {"warmup_ratio": 1.5}}}, "model.warmup_ratio is 1.5"),
        ({"model": {"init_args": {"learning_rate": 0.0}}}, "model.learning_rate is 0"),
        ({"trainer": {"max_steps": -1}}, "no end"),
        ({"trainer": {"use_distributed_sampler": True}}, "use_distributed_sampler"),
        ({"trainer": {"check_val_every_n_epoch": 2}}, "check_val_every_n_epoch 2; give one of them"),
        ({"run": {"keep_checkpoints": False, "export": False}}, "nothing would be left of the training"),
        ({"checkpoint": {"monitor": "val/xx/accuracy"}}, "validation is on"),
        ({"checkpoint": {"monitor": "accuracy"}}, "scores are called"),
        ({"checkpoint": {"monitor": "val/en/f1"}}, "this task's scores are val/en/accuracy, val/en/macro_f1"),
        ({"checkpoint": {"monitor": "val/loss"}}, "this task's scores are val/accuracy, "),
        ({"data": {"init_args": {"validation_languages": []}}}, "but there are no validation data; name some"),
        ({"run": {"exprt": True}}, "did you mean run.export"),
    ],
)
def test_check_finds_what_breaks_a_rule(change: dict, message: str, tmp_path: Path) -> None:
    (smoke,) = (entry for entry in RECIPES if entry.name == "xnli/smoke")
    content = yaml.safe_load(smoke.text)
    for part, values in change.items():
        target = content[part]
        for key, value in values.items():
            if isinstance(value, dict):
                target.setdefault(key, {}).update(value)
            else:
                target[key] = value
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(content), encoding="utf-8")
    found = problems([mine])
    assert len(found) == 1
    assert message in found[0]


def test_check_prints_all_problems_at_once_and_exits_2(tmp_path: Path, ernie_m) -> None:
    (smoke,) = (entry for entry in RECIPES if entry.name == "xnli/smoke")
    text = smoke.text.replace("warmup_ratio: 0.1", "warmup_ratio: 2.0").replace("max_length: 128", "max_length: 600")
    mine = tmp_path / "mine.yaml"
    mine.write_text(text, encoding="utf-8")
    code, out, _ = ernie_m("check", mine)
    assert code == 2
    assert "model.warmup_ratio is 2.0" in out
    assert "data.max_length is 600" in out
    assert ernie_m("check", "trainer/fsdp")[0] == 2


def test_check_reads_the_data_of_a_recipe_that_is_named(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, ernie_m
) -> None:
    """It says of them what `fit` would; of a template of the package's, that it did not look."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ernie_m_recipes.check.entries", lambda kind: [] if kind == "fragment" else RECIPES)
    code, out, _ = ernie_m("check", "custom/pair_classification")
    assert code == 0
    assert "train/en: not looked at: data/train.en.csv: no file" in out
    assert ernie_m("cp", "custom/pair_classification", "mine.yaml")[0] == 0
    code, out, _ = ernie_m("check", "mine.yaml")
    assert code == 2
    assert "train/en: data/train.en.csv: no file" in out
    rows = [f"{'a house ' * (5 * number)},b,{'yes' if number % 4 else 'no'}" for number in range(1, 9)]
    Path("a.csv").write_text("question,answer,verdict\n" + "\n".join(rows) + "\n", encoding="utf-8")
    recipe = yaml.safe_load(Path("mine.yaml").read_text(encoding="utf-8"))
    recipe["model"]["init_args"]["backbone"] = str(tiny_checkpoint)
    files = {"train_files": {"en": "a.csv"}, "validation_files": {"en": "a.csv"}, "test_files": None}
    recipe["data"]["init_args"] |= {**files, "max_length": 32}
    for column, expected in (("verdict", 0), ("label", 2)):
        recipe["data"]["init_args"]["label_column"] = column
        Path("mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        code, out, _ = ernie_m("check", "mine.yaml")
        assert code == expected, out
        if expected:
            assert "train/en: a.csv: no column 'label'" in out
        else:
            assert "train/en: 8 rows of a.csv: 8 texts: yes 6, no 2; " in out
            assert "fill max_length and may be cut" in out


PAIRS = [entry for entry in RECIPES if entry.name.startswith(("tatoeba/", "custom/sentence_retrieval"))]
NAMED_ENTITIES = [entry for entry in RECIPES if entry.name.startswith(("conll/", "custom/token_labels"))]
PRETRAINING = [entry for entry in RECIPES if entry.name.startswith("pretraining/")]
# In test_xtreme.py.
XTREME = [entry for entry in RECIPES if entry.name.startswith(("panx/", "udpos/", "xquad/", "tydiqa/", "sib200/"))]
WITH_A_DATA_SET = [
    entry
    for entry in RECIPES
    if entry not in PAIRS + NAMED_ENTITIES + PRETRAINING + XTREME
    and entry.name
    not in (
        "quickstart",
        "quickstart_retrieval",
        "custom/question_answering",
        "custom/multiple_choice",
        "custom/information_extraction",
        "custom/pair_classification",
        "custom/text_classification",
        # In test_text_tasks.py.
        "custom/text_multi_label",
        "custom/text_regression",
        # In test_questions_without_answers.py.
        "squad_v2/english_base",
    )
]


@pytest.mark.parametrize("recipe", WITH_A_DATA_SET, ids=lambda entry: entry.name)
def test_a_recipe_runs_a_step(
    recipe: Entry,
    quick: list[str],
    tiny_xnli: Path,
    tiny_paws_x: Path,
    tiny_mlqa: Path,
    tiny_xcopa: Path,
    tmp_path: Path,
    monkeypatch,
    ernie_m,
) -> None:
    monkeypatch.chdir(tmp_path)
    task = recipe.name.partition("/")[0]
    folders = {"xnli": tiny_xnli, "paws_x": tiny_paws_x, "mlqa": tiny_mlqa, "xcopa": tiny_xcopa}
    assert task in folders, f"a step of {recipe.name} needs tiny data: a fixture in conftest.py, and a place here"
    folder = folders[task]
    data = [f"--data.path={folder}", "--data.train_languages=[en]"]
    data += [f"--data.train_path={folder / 'train.json'}"] if task == "mlqa" else []
    if recipe.name.startswith("mlqa/translate"):
        data += ["--data.train_languages=[en, de]", f"--data.translations_path={folder}"]
    if task == "xcopa":
        data += [f"--data.english_path={folder}", "--data.validation_languages=[en, it]", "--data.test_languages=[zh]"]
        data += ["--trainer.check_val_every_n_epoch=null"]
    code, _, err = ernie_m("fit", "--config", recipe.name, "--config", "debug/fast_dev_run", *quick, *data)
    assert code == 0, err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("recipe", PAIRS, ids=lambda entry: entry.name)
def test_a_recipe_of_sentence_pairs_runs_a_step(
    recipe: Entry, quick: list[str], tiny_pairs: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch, ernie_m
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [word for word in quick if not word.startswith(("--data.micro", "--data.validation", "--data.test"))]
    options += [f"--data.path={tiny_pairs}"]
    if recipe.name.startswith("tatoeba/"):
        options += ["--data.test_languages=[de, zh]"]
    if recipe.name.startswith("tatoeba/fine_tuned"):
        options += [f"--data.train_path={tiny_pairs}", "--data.max_train_pairs=16"]
    if recipe.name.startswith(("tatoeba/fine_tuned", "tatoeba/smoke")):
        options += ["--data.train_languages=[de, zh]", "--data.validation_languages=[de]"]
    if not (is_trained := trains(yaml.safe_load(recipe.text))):
        options += ["--model.layer=1"]
    if recipe.name.startswith("tatoeba/after_"):
        options += [f"--model.init_from={tiny_checkpoint}"]
    stage = "fit" if is_trained else "test"
    code, out, err = ernie_m(stage, "--config", recipe.name, "--config", "debug/fast_dev_run", *options)
    assert code == 0, err
    assert ("accuracy by layer" in out) != is_trained
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("recipe", PRETRAINING, ids=lambda entry: entry.name)
def test_a_recipe_of_pre_training_runs_a_step(
    recipe: Entry, quick: list[str], tiny_articles: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch, ernie_m
) -> None:
    """The small ones on two of their own files, the large ones on a folder of each data set's layout."""
    monkeypatch.chdir(tmp_path)
    if recipe.name.endswith("_base"):
        options = [word for word in quick if not word.startswith(("--data.path", "--data.validation", "--data.test"))]
        options += [f"--data.path={tiny_articles}", f"--data.pairs_path={tiny_pairs}", "--data.held_out=0.3"]
        options += ["--data.train_files={en: {name: 20231101.en}, de: {name: 20231101.de}}"]
        files = "de-en/{split}-*.parquet"
    else:
        options = [word for word in quick if word.startswith(("--data.cache", "--trainer."))]
        options += ["--data.train_files={en: train/en-de.tsv.gz, de: train/en-de.tsv.gz}", "--data.max_lines=100"]
        options += ["--data.global_batch_size=8", "--data.micro_batch_size=4", "--data.eval_tokens_per_batch=256"]
        files = "{split}/en-de.tsv.gz"
    for split in ("train", "validation"):
        options += [f"--data.{split}_pairs={{en-de: {files.replace('{split}', split)}}}"]
    code, _, err = ernie_m("fit", "--config", recipe.name, "--config", "debug/fast_dev_run", *options)
    assert code == 0, err
    assert list(tmp_path.iterdir()) == []


def test_a_pre_training_through_the_commands(tmp_path: Path, monkeypatch, ernie_m) -> None:
    """Its export completes texts, and is what a task goes on from."""
    monkeypatch.chdir(tmp_path)
    options = ["--data.train_files={en: train/en-de.tsv.gz, de: train/en-de.tsv.gz}", "--data.max_lines=200"]
    options += [f"--data.{split}_pairs={{en-de: {split}/en-de.tsv.gz}}" for split in ("train", "validation", "test")]
    options += ["--model.from_scratch.hidden_size=32", "--model.from_scratch.num_hidden_layers=1"]
    options += ["--trainer.max_steps=2", "--trainer.val_check_interval=1", "--run.test_after_fit=true"]
    options += ["--data.max_length=48", f"--data.cache_dir={tmp_path / 'cache'}", "--data.eval_tokens_per_batch=2048"]
    code, out, err = ernie_m("fit", "--config", "pretraining/tiny", *options)
    assert code == 0, err
    assert "test camlm_accuracy  test retrieval" in out
    (run,) = (tmp_path / "runs" / "pretraining" / "tiny").iterdir()
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    scores = {"accuracy", "loss", "camlm_accuracy", "camlm_loss", "retrieval", "examples"}
    assert scores <= results["test"]["en-de"].keys()
    card = (run / "export" / "README.md").read_text(encoding="utf-8")
    assert "language:\n- de\n- en\n" in card
    assert "It completes masked tokens" in card
    assert "language" not in (run / "export" / "config.json").read_text(encoding="utf-8")
    found = pipeline("fill-mask", model=str(run / "export"), top_k=2)("Opens a [MASK].")
    assert len(found) == 2
    for words, expected, message in (
        (["test", run / "export"], 0, "test camlm_accuracy"),
        (["report", run], 0, "camlm_accuracy  retrieval"),
        (["predict", run, "--input", run / "config.yaml"], 2, "A pre-training predicts no file"),
    ):
        code, out, err = ernie_m(*words)
        assert code == expected, err
        assert message in out + err
    retrieval = [f"--data.{split}_files={{de: {split}/en-de.tsv.gz}}" for split in ("train", "validation", "test")]
    retrieval += [f"--model.backbone={run / 'export'}", "--model.from_scratch=null"]
    retrieval += [f"--data.cache_dir={tmp_path / 'cache'}"]
    code, _, err = ernie_m("fit", "--config", "quickstart_retrieval", "--config", "debug/fast_dev_run", *retrieval)
    assert code == 0, err


@pytest.mark.parametrize("recipe", NAMED_ENTITIES, ids=lambda entry: entry.name)
def test_a_recipe_of_named_entities_runs_a_step(
    recipe: Entry, quick: list[str], tiny_conll: Path, tmp_path: Path, monkeypatch, ernie_m
) -> None:
    """In a folder where the files lie that the recipe for one's own data names."""
    monkeypatch.chdir(tiny_conll)
    options = [word for word in quick if not word.startswith(("--data.path", "--data.validation", "--data.test"))]
    options += ["--trainer.check_val_every_n_epoch=null"]
    if recipe.name.startswith("conll/"):
        options += [f"--data.paths.{language}={tiny_conll}" for language in ("en", "de", "es", "nl")]
    before = sorted(tiny_conll.rglob("*"))
    code, _, err = ernie_m("fit", "--config", recipe.name, "--config", "debug/fast_dev_run", *options)
    assert code == 0, err
    assert sorted(tiny_conll.rglob("*")) == before


def test_named_entities_through_every_command(
    quick: list[str], tiny_conll: Path, tmp_path: Path, monkeypatch, ernie_m
) -> None:
    """Trained and tested, then predicted into columns: the same tags as in the table of the test."""
    monkeypatch.chdir(tmp_path)
    options = [word for word in quick if not word.startswith(("--data.path", "--data.validation", "--data.test"))]
    options += [f"--data.paths.{language}={tiny_conll}" for language in ("en", "de", "es", "nl")]
    code, out, err = ernie_m("fit", "--config", "conll/english_base", *options)
    assert code == 0, err
    (run,) = (tmp_path / "runs" / "conll" / "english_base").iterdir()
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert "(12 sentences, " in record["data"]["test/de"]
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert list(results["test"]["de"])[:4] == ["f1", "precision", "recall", "subtoken_f1"]
    assert "a word has the label of its first token" in (run / "export" / "README.md").read_text(encoding="utf-8")
    code, out, err = ernie_m("predict", run, "--input", tiny_conll / "deu.testb", "--output", "out.conll")
    assert code == 0, err
    table = parquet.read_table(run / "predictions" / "test" / "de.parquet").to_pylist()
    written = (tmp_path / "out.conll").read_text(encoding="utf-8")
    lines = [line.split(" ") for line in written.splitlines() if line]
    assert [line[-1] for line in lines] == [tag for row in table for tag in row["predictions"]]
    assert [line[-2] for line in lines] == [tag for row in table for tag in row["labels"]]
    assert {len(line) for line in lines} == {6}
    code, out, err = ernie_m("report", run, "--output", "report.html")
    assert code == 0, err
    assert "card: the card's row ERNIE-M, Fine-tune on English dataset, for conll; presumably over tokens" in out
    code, _, err = ernie_m("predict", run, "--input", tiny_conll / "deu.testb", "--output", "out.csv")
    assert code == 2
    assert "--output out.csv: unknown format '.csv'; the name must end in .conll, .txt, .jsonl" in err


@pytest.mark.parametrize("command", ["fit", "estimate"])
def test_a_recipe_without_training_says_so(command: str, tmp_path: Path, monkeypatch, ernie_m) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = ernie_m(command, "--config", "tatoeba/zero_shot_base")
    assert code == 2
    assert "this recipe has no training data: it scores a network as it is, with `ernie-m test`" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_the_quickstart_runs_a_step_from_the_weights_that_come_along(tmp_path: Path, monkeypatch, ernie_m) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--data.test_languages=[zh]", f"--data.cache_dir={tmp_path / 'cache'}", "--data.micro_batch_size=4"]
    code, _, err = ernie_m("fit", "--config", "quickstart", "--config", "debug/fast_dev_run", *options)
    assert code == 0, err


def test_an_export_for_retrieval_is_a_sentence_transformer(tmp_path: Path, monkeypatch, ernie_m) -> None:
    monkeypatch.chdir(tmp_path)
    options = [
        "--data.train_files={de: train/en-de.tsv.gz}",
        "--data.validation_files={de: validation/en-de.tsv.gz}",
        "--data.test_files={de: test/en-de.tsv.gz}",
        "--data.global_batch_size=8",
        "--data.prefix=query: ",
        "--model.from_scratch.hidden_size=32",
        "--model.pooling=cls",
        "--trainer.max_steps=1",
        "--trainer.val_check_interval=1",
        "--run.evaluate_before_fit=false",
        f"--data.cache_dir={tmp_path / 'cache'}",
    ]
    code, _, err = ernie_m("fit", "--config", "quickstart_retrieval", *options)
    assert code == 0, err
    (export,) = tmp_path.rglob("export")
    texts = ["Opens a dialog.", "Öffnet einen Dialog, in dem Sie die Tabelle umwandeln können. " * 9]
    model = SentenceTransformer(str(export))
    assert model.max_seq_length == 64
    tokenizer, network = AutoTokenizer.from_pretrained(export), AutoModel.from_pretrained(export).eval()
    prefixed = [f"query: {text}" for text in texts]
    batch = tokenizer(prefixed, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.inference_mode():
        first = network(**batch).last_hidden_state[:, 0]
    expected = torch.nn.functional.normalize(first, dim=-1)
    torch.testing.assert_close(model.encode(texts, convert_to_tensor=True).cpu(), expected, atol=1e-5, rtol=0)
    assert "Before every text stood `'query: '`" in (export / "README.md").read_text(encoding="utf-8")
    code, _, err = ernie_m("trim", export, "small", "--languages", "de")
    assert code == 0, err
    trimmed = SentenceTransformer("small").encode(texts[:1], convert_to_tensor=True).cpu()
    torch.testing.assert_close(trimmed, expected[:1], atol=1e-5, rtol=0)
    # A folder's settings are read again: what looks like YAML there is a text.
    code, _, err = ernie_m("test", export)
    assert code == 0, err


def test_question_answering_on_own_files_runs_a_step(
    quick: list[str], own_questions: Path, tmp_path: Path, monkeypatch, ernie_m
) -> None:
    """The recipe's own file names and columns: CSV to train, JSONL to validate, Parquet to test."""
    monkeypatch.chdir(own_questions)
    of_a_data_set = ("--data.path", "--data.validation_languages", "--data.test_languages")
    options = [option for option in quick if not option.startswith(of_a_data_set)]
    options += ["--trainer.check_val_every_n_epoch=null"]
    before = sorted(own_questions.rglob("*"))
    code, _, err = ernie_m("fit", "--config", "custom/question_answering", "--config", "debug/fast_dev_run", *options)
    assert code == 0, err
    assert sorted(own_questions.rglob("*")) == before


def test_pairs_of_own_files_run_a_step(quick: list[str], tmp_path: Path, monkeypatch, ernie_m) -> None:
    """The recipe's own file names and columns: CSV to train, JSONL to validate, Parquet to test."""
    data = tmp_path / "data"
    data.mkdir()
    rows = [
        {"question": f"water {i}", "answer": f"law {i % 3}", "verdict": ["wrong", "right"][i % 2]} for i in range(16)
    ]
    lines = "".join(",".join(row.values()) + "\n" for row in rows)
    (data / "train.en.csv").write_text(f"question,answer,verdict\n{lines}", encoding="utf-8")
    for language in ("en", "de"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (data / f"dev.{language}.jsonl").write_text(text, encoding="utf-8")
        parquet.write_table(pyarrow.Table.from_pylist(rows), data / f"test.{language}.parquet")
    monkeypatch.chdir(tmp_path)
    options = [word for word in quick if not word.startswith(("--data.path", "--data.validation", "--data.test"))]
    options += ["--trainer.check_val_every_n_epoch=null"]
    code, _, err = ernie_m("fit", "--config", "custom/pair_classification", "--config", "debug/fast_dev_run", *options)
    assert code == 0, err


@pytest.mark.parametrize(
    "name",
    [
        "text_classification",
        "pair_classification",
        "multiple_choice",
        "information_extraction",
        "question_answering",
        "sentence_retrieval",
        "token_labels",
    ],
)
def test_the_command_in_the_header_of_a_recipe_for_own_data(
    name: str,
    quick: list[str],
    own_questions: Path,
    tiny_conll: Path,
    tiny_xcopa: Path,
    own_prompts: Path,
    tmp_path: Path,
    monkeypatch,
    ernie_m,
) -> None:
    """With files for FILE: training, test and export."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"question": f"water {i}", "answer": f"law {i % 3}", "verdict": ["wrong", "right"][i % 2]} for i in range(16)
    ]
    pairs = [{"english": f"water {i}", "translation": f"law {i}"} for i in range(32)]
    texts = [{"text": row["question"], "label": row["verdict"]} for row in rows]
    for file, table in (("rows", rows), ("pairs", pairs), ("texts", texts * 2)):
        parquet.write_table(pyarrow.Table.from_pylist(table), tmp_path / f"{file}.parquet")
    folders = (own_questions, tiny_conll, tiny_xcopa, own_prompts)
    questions, words, choices, prompts = (folder / "data" for folder in folders)
    files = {
        "text_classification": [tmp_path / "texts.parquet"],
        "pair_classification": [tmp_path / "rows.parquet"] * 3,
        "multiple_choice": [choices / "train.en.csv", choices / "dev.en.jsonl", choices / "test.en.parquet"],
        "information_extraction": [prompts / f"{split}.en.jsonl" for split in ("train", "dev", "test")],
        "question_answering": [questions / "train.csv", questions / "dev.en.jsonl", questions / "test.en.parquet"],
        "sentence_retrieval": ["pairs.parquet"] * 3,
        "token_labels": [words / f"{split}.en.jsonl" for split in ("train", "dev", "test")],
    }[name]
    (recipe,) = (entry for entry in RECIPES if entry.name == f"custom/{name}")
    (line,) = (line for line in recipe.header if line.startswith("Run:"))
    command = line.removeprefix("Run:").replace("FOLDER", str(tmp_path))
    for file in files:
        command = command.replace("FILE", str(file), 1)
    program, *arguments = shlex.split(command)
    assert program == "ernie-m"
    options = [word for word in quick if not word.startswith("--data.")]
    options += ["--data.global_batch_size=8", f"--data.cache_dir={tmp_path / 'cache'}", "--trainer.max_epochs=1"]
    options += ["--trainer.check_val_every_n_epoch=null"]
    options += ["--data.micro_batch_size=8"] if name != "sentence_retrieval" else []
    code, out, err = ernie_m(*arguments, *options)
    assert code == 0, err
    assert "exported: " in out


def test_multiple_choice_through_the_commands(
    quick: list[str], tiny_xcopa: Path, tmp_path: Path, monkeypatch, ernie_m
) -> None:
    """The recipe's own file names; its export scores as the run did, loads in transformers, and predicts."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_xcopa / "data", tmp_path / "data")
    options = [word for word in quick if not word.startswith(("--data.path", "--data.validation", "--data.test"))]
    options += ["--trainer.check_val_every_n_epoch=null", '--data.questions.cause="Reason: why?"']
    code, _, err = ernie_m("fit", "--config", "custom/multiple_choice", *options)
    assert code == 0, err
    (run,) = (tmp_path / "runs" / "custom" / "multiple_choice").iterdir()
    scores = json.loads((run / "results.json").read_text(encoding="utf-8"))["test"]
    assert set(scores) == {"en", "de", "mean"}
    code, _, err = ernie_m("test", run / "export", "--run.directory=again")
    assert code == 0, err
    (again,) = (path.parent for path in Path("again").rglob("results.json"))
    assert json.loads((again / "results.json").read_text(encoding="utf-8"))["test"] == scores
    rows = [json.loads(line) for line in (tmp_path / "data" / "dev.de.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({name: value for name, value in row.items() if name != "label"}) + "\n" for row in rows]
    (tmp_path / "new.jsonl").write_text("".join(lines), encoding="utf-8")
    code, _, err = ernie_m("predict", run / "export", "--input", "new.jsonl", "--output", "out.jsonl")
    assert code == 0, err
    network = AutoModelForMultipleChoice.from_pretrained(run / "export").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    asked = {"cause": "Reason: why?", "effect": "What happened as a result?"}
    for row, line in zip(rows, (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines(), strict=True):
        seconds = [f"{asked[row['question']]} {row[choice]}" for choice in ("choice1", "choice2")]
        batch = tokenizer([row["premise"]] * 2, seconds, padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits = network(**{name: values[None] for name, values in batch.items()}).logits
        predicted = json.loads(line)
        probabilities = [predicted[f"probability_{choice}"] for choice in ("choice1", "choice2")]
        assert probabilities == pytest.approx(logits.softmax(dim=-1)[0].tolist(), abs=1e-5)
        assert predicted["prediction"] == f"choice{1 + probabilities.index(max(probabilities))}"


def test_information_extraction_through_the_commands(
    quick: list[str], own_prompts: Path, tmp_path: Path, monkeypatch, ernie_m
) -> None:
    """The recipe's own file names; its export scores as the run did, predicts, is trimmed, loads as its card says."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(own_prompts / "data", tmp_path / "data")
    options = [word for word in quick if not word.startswith(("--data.path", "--data.validation", "--data.test"))]
    # Untrained as it is the network finds something at a low threshold alone.
    options += ["--trainer.check_val_every_n_epoch=null", "--model.threshold=0.3", "--model.max_spans=4"]
    code, _, err = ernie_m("fit", "--config", "custom/information_extraction", *options)
    assert code == 0, err
    (run,) = (tmp_path / "runs" / "custom" / "information_extraction").iterdir()
    scores = json.loads((run / "results.json").read_text(encoding="utf-8"))["test"]
    assert set(scores["de"]) == {"f1", "precision", "recall", "examples", "chance"}
    code, _, err = ernie_m("test", run / "export", "--run.directory=again")
    assert code == 0, err
    (again,) = (path.parent for path in Path("again").rglob("results.json"))
    assert json.loads((again / "results.json").read_text(encoding="utf-8"))["test"] == scores
    rows = [json.loads(line) for line in (tmp_path / "data" / "dev.de.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({name: row[name] for name in ("content", "prompt")}) + "\n" for row in rows]
    (tmp_path / "new.jsonl").write_text("".join(lines), encoding="utf-8")
    code, _, err = ernie_m("predict", run / "export", "--input", "new.jsonl", "--output", "out.jsonl")
    assert code == 0, err
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [set(row) for row in found] == [{"content", "prompt", "prediction"}] * len(rows)
    spans = [(row["content"], span) for row in found for span in row["prediction"]]
    assert spans
    assert all(content[span["begin"] : span["end"]] == span["text"] for content, span in spans)
    card = (run / "export" / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(run / "export")
    loaded: dict[str, object] = {}
    exec(card.partition("```python\n")[2].partition("```")[0], loaded)
    assert type(loaded["model"]).__name__ == "ErnieMForInformationExtraction"
    monkeypatch.chdir(tmp_path)
    code, _, err = ernie_m("trim", run, "small", "--text", "new.jsonl")
    assert code == 0, err


def test_mistakes_in_test_data_are_found_before_training(
    quick: list[str], tiny_conll: Path, tmp_path: Path, monkeypatch, ernie_m
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_conll / "data", tmp_path / "data")
    (tmp_path / "data" / "test.de.jsonl").write_text('{"words": ["a"], "ner_tags": ["O"]}\n', encoding="utf-8")
    options = [word for word in quick if not word.startswith(("--data.path", "--data.validation", "--data.test"))]
    options += ["--trainer.check_val_every_n_epoch=null"]
    code, out, err = ernie_m("fit", "--config", "custom/token_labels", *options)
    assert code == 2
    assert "test.de.jsonl, line 1: no column 'tokens'" in err
    assert "step" not in out + err
    assert not (tmp_path / "runs").exists()


def test_an_export_needs_no_training_data_for_its_labels(
    quick: list[str], tiny_conll: Path, tmp_path: Path, monkeypatch, ernie_m
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_conll / "data", tmp_path / "data")
    options = [word for word in quick if not word.startswith(("--data.path", "--data.validation", "--data.test"))]
    options += ["--trainer.check_val_every_n_epoch=null"]
    code, _, err = ernie_m("fit", "--config", "custom/token_labels", *options)
    assert code == 0, err
    (run,) = (tmp_path / "runs" / "custom" / "token_labels").iterdir()
    recipe = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert recipe["data"]["init_args"]["label_names"] == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    (tmp_path / "data" / "test.en.jsonl").rename("new.jsonl")
    shutil.rmtree(tmp_path / "data")
    code, _, err = ernie_m("predict", run / "export", "--input", "new.jsonl", "--output", "out.txt")
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "new.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines if line] == [word for row in rows for word in row["tokens"]]
    code, _, err = ernie_m("trim", run, "small", "--text", "new.jsonl")
    assert code == 0, err
