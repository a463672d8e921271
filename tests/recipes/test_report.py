"""`ernie-m report`: the card's figures beside runs, and several seeds as one experiment."""

import copy
import csv
import html
import itertools
import json
import re
import shutil
import statistics
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from datamodules.tatoeba import LANGUAGES as TATOEBA
from ernie_m_recipes.card import figures_of, rows_of_setting
from ernie_m_recipes.check import resolved
from ernie_m_recipes.comparison import bootstrap_interval
from ernie_m_recipes.registry import entries
from ernie_m_recipes.settings import CardRow

BROWSERS = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
XNLI = ("en", "fr", "es", "de", "el", "bg", "ru", "tr", "ar", "vi", "th", "zh", "hi", "sw", "ur")


def make_run(folder: Path, seed: int = 1, card: dict[str, str] | None = None, **changes: Any) -> Path:
    """A run folder as `fit` leaves it, with an accuracy of 0.80 in English, 0.70 elsewhere, and a point a seed."""
    settings = copy.deepcopy(resolved("xnli/transfer_base"))
    model, data, trainer = settings["model"]["init_args"], settings["data"]["init_args"], settings["trainer"]
    settings |= {"seed_everything": seed, "run": {"directory": str(folder), "card": card}}
    model |= {name: changes[name] for name in ("backbone", "learning_rate", "from_scratch") if name in changes}
    data["seed"] = seed
    trainer |= {"devices": seed, "limit_test_batches": changes.get("limit"), "max_steps": changes.get("max_steps", -1)}
    languages = changes.get("languages", XNLI)
    results = {
        language: {"accuracy": (0.8 if language == "en" else 0.7) + 0.01 * seed, "examples": 100.0, "chance": 1 / 3}
        for language in languages
    }
    results["mean"] = {"accuracy": statistics.mean(one["accuracy"] for one in results.values())}
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    written = {"recipe": "xnli/transfer_base", changes.get("stage", "test"): results}
    (folder / "results.json").write_text(json.dumps(written), encoding="utf-8")
    record = {"status": "finished", "stage": "fit", "data": {"test/en": "100 rows, sha256 00, /data"}}
    (folder / "run.json").write_text(json.dumps(record | changes.get("record", {})), encoding="utf-8")
    return folder


TRANSFER = {"task": "xnli", "setting": "Cross-lingual Transfer", "model": "ERNIE-M"}


def lines_by_language(out: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}


def test_a_run_stands_beside_its_row(tmp_path: Path, ernie_m) -> None:
    code, out, err = ernie_m("report", make_run(tmp_path / "a", card=TRANSFER))
    assert code == 0, err
    lines = lines_by_language(out)
    assert lines["language"] == ["accuracy", "card", "difference"]
    assert lines["en"] == ["81.00", "85.5", "-4.50"]
    assert lines["ur"] == ["71.00", "68.8", "+2.20"]
    assert lines["mean"] == ["71.67", "77.3", "-5.63"]
    # The card's order, the mean last.
    assert [name for name in lines if name in (*XNLI, "mean")] == [*XNLI, "mean"]
    assert "card: the card's row ERNIE-M, Cross-lingual Transfer, for xnli" in out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"record": {"network": {"family": "xlm-roberta"}}}, "the network is of the family xlm-roberta"),
        ({"backbone": "ernie-m-mini", "record": {"network": {"family": "ernie_m"}}}, "the network is ernie-m-mini"),
    ],
)
def test_other_networks_are_not_set_beside_the_cards(changes: dict[str, Any], said: str, tmp_path: Path, ernie_m):
    code, out, err = ernie_m("report", make_run(tmp_path / "a", card=TRANSFER, **changes))
    assert code == 0, err
    assert lines_by_language(out)["language"] == ["accuracy"]
    assert f"card: {said}, and the card's are ERNIE-M's: not compared" in " ".join(out.split())


def test_what_a_run_changed_in_its_recipe_is_said(tmp_path: Path, ernie_m) -> None:
    same, other = (
        make_run(tmp_path / "same", 3, TRANSFER),
        make_run(tmp_path / "other", 1, TRANSFER, learning_rate=1e-4),
    )
    files = [tmp_path / f"report{suffix}" for suffix in (".md", ".html", ".json")]
    code, out, err = ernie_m("report", same, other, "--output", *files)
    assert code == 0, err
    said = "model.init_args.learning_rate: 5e-05 -> 0.0001"
    # The seed and the number of devices are no change.
    assert [line for line in out.splitlines() if line.startswith("changed")] == [f"changed from the recipe: {said}"]
    assert f"\n\nChanged from the recipe: {said}.\n\n" in files[0].read_text(encoding="utf-8")
    assert f"changed from the recipe: {html.escape(said)}." in files[1].read_text(encoding="utf-8")
    assert [one["changes"] for one in json.loads(files[2].read_text(encoding="utf-8"))] == [[], [said]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # What the recipe leaves to defaults counts too.
        ({"max_steps": 100}, "trainer.max_steps: -1 -> 100"),
        ({"from_scratch": {"hidden_size": 8}}, "model.init_args.from_scratch: None -> {'hidden_size': 8}"),
        (
            {"record": {"precision": {"asked": "bf16-mixed", "used": "32-true"}}},
            "trainer.precision: bf16-mixed -> 32-true",
        ),
    ],
)
def test_every_change_is_seen(changes: dict[str, Any], said: str, tmp_path: Path, ernie_m) -> None:
    code, out, err = ernie_m("report", make_run(tmp_path / "a", card=TRANSFER, **changes))
    assert code == 0, err
    assert [line for line in out.splitlines() if line.startswith("changed")] == [f"changed from the recipe: {said}"]


def test_a_test_by_itself_changed_nothing_of_the_training(tmp_path: Path, ernie_m) -> None:
    code, out, err = ernie_m("report", make_run(tmp_path / "a", max_steps=100, record={"stage": "test"}))
    assert code == 0, err
    assert "changed from the recipe" not in out


def test_a_recipe_of_ones_own_is_compared_with_none(tmp_path: Path, ernie_m) -> None:
    run = make_run(tmp_path / "a", card=TRANSFER)
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    (run / "results.json").write_text(json.dumps(results | {"recipe": "mine"}), encoding="utf-8")
    code, out, _ = ernie_m("report", run)
    assert code == 0
    assert "no packaged recipe is called mine" in out
    assert "\nchanged" not in out


def test_seeds_of_one_experiment_stand_together(tmp_path: Path, ernie_m) -> None:
    runs = [make_run(tmp_path / str(seed), seed, TRANSFER) for seed in (1, 2, 4)]
    other = make_run(tmp_path / "other", 1, TRANSFER, learning_rate=1e-4)
    target = tmp_path / "report.json"
    code, out, err = ernie_m("report", *runs, other, "--output", target, tmp_path / "r.md", tmp_path / "r.csv")
    assert code == 0, err
    together, alone = json.loads(target.read_text(encoding="utf-8"))
    assert together["seeds"] == [1, 2, 4]
    assert alone["seeds"] == [1]
    english = together["scores"]["en"]["accuracy"]
    values = [81.0, 82.0, 84.0]
    assert english["mean"] == pytest.approx(statistics.mean(values))
    assert english["deviation"] == pytest.approx(statistics.stdev(values))
    assert english["published"] == 85.5
    assert english["difference"] == pytest.approx(statistics.mean(values) - 85.5)
    assert values[0] - 1e-9 <= english["low"] < english["mean"] < english["high"] <= values[-1] + 1e-9
    assert alone["scores"]["en"]["accuracy"]["deviation"] is None
    assert "seeds 1, 2, 4" in out
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 16
    assert (rows[0]["seeds"], rows[0]["language"], float(rows[0]["mean"])) == ("1 2 4", "en", pytest.approx(247 / 3))
    assert rows[-1]["deviation"] == ""
    markdown = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert "| en | 82.33 | 1.53 |" in markdown
    assert str(runs[2]) in markdown


def test_runs_that_do_not_go_together_are_shown_as_far_as_they_do(tmp_path: Path, ernie_m) -> None:
    """Confusion of other labels or languages is left out; no cell is a formula; NaN is no score."""
    runs = [make_run(tmp_path / str(seed), seed, languages=("en", "de")) for seed in (1, 2, 3)]
    matrix = {"labels": ["a", "b"], "languages": {"en": [[1, 2], [3, 4]], "de": [[1, 2], [3, 4]]}}
    others = [matrix, {**matrix, "languages": {"en": [[1, 0], [0, 1]]}}]
    others.append({"labels": ["a"], "languages": {"en": [[5]], "de": [[5]]}})
    for run, confusion in zip(runs, others, strict=True):
        results = json.loads((run / "results.json").read_text(encoding="utf-8"))
        results |= {"recipe": "=1+1", "confusion": {"test": confusion}}
        results["test"]["en"] |= {"calibration_error": 0.25 if run.name == "2" else 0.0, "rmse": 3.0}
        (run / "results.json").write_text(json.dumps(results), encoding="utf-8")
    targets = [tmp_path / "r.json", tmp_path / "r.csv"]
    code, _, err = ernie_m("report", *runs[:2], "--output", *targets, tmp_path / "r.html")
    assert code == 0, err
    assert json.loads(targets[0].read_text(encoding="utf-8"))[0]["details"] == {"en": {"calibration_error": 12.5}}
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert '<th scope="col">calibration_error</th>' in page
    assert "rmse" not in page
    assert json.loads(targets[0].read_text(encoding="utf-8"))[0]["confusion"] == {"en": [[2, 2], [3, 5]]}
    with targets[1].open(encoding="utf-8", newline="") as file:
        assert {row["recipe"] for row in csv.DictReader(file)} == {"'=1+1"}
    code, _, err = ernie_m("report", *runs, "--output", *targets)
    assert code == 0, err
    assert json.loads(targets[0].read_text(encoding="utf-8"))[0]["confusion"] == {}
    results["test"]["en"]["accuracy"] = float("nan")
    (runs[2] / "results.json").write_text(json.dumps(results), encoding="utf-8")
    code, _, err = ernie_m("report", runs[2])
    assert code == 2
    assert "its scores are not what a run writes" in err


def test_an_interval_is_that_of_all_resamples() -> None:
    values = [70.0, 71.5, 72.0, 76.0]
    means = [statistics.mean(drawn) for drawn in itertools.product(values, repeat=len(values))]
    expected = np.percentile(means, [2.5, 97.5])
    assert bootstrap_interval(values) == pytest.approx(tuple(expected), abs=0.3)


def test_what_cannot_be_compared_is_said(tmp_path: Path, ernie_m) -> None:
    missing = {"task": "paws-x", "setting": "Cross-lingual Transfer", "model": "ERNIE-M"}
    _, out, _ = ernie_m("report", make_run(tmp_path / "a", card=missing))
    assert "the card has no row ERNIE-M, Cross-lingual Transfer, for paws-x" in out
    assert "difference" not in out
    _, out, _ = ernie_m("report", make_run(tmp_path / "b"))
    assert "names no row of the card" in out
    # A mean over other languages is another figure.
    _, out, _ = ernie_m("report", make_run(tmp_path / "c", card=TRANSFER, languages=("en", "de")))
    assert "its mean is over 15 languages, this one over 2: not compared" in out
    lines = lines_by_language(out)
    assert lines["de"] == ["71.00", "79.2", "-8.20"]
    assert lines["mean"] == ["76.00"]


def test_the_mean_of_tatoeba_is_over_36_languages(tmp_path: Path, ernie_m) -> None:
    """The card has nothing but the mean, so that only the languages can tell another figure."""
    card = {"task": "tatoeba", "setting": "Zero-shot", "model": "ERNIE-M Large"}
    code, out, err = ernie_m("report", make_run(tmp_path / "all", card=card, languages=TATOEBA))
    assert code == 0, err
    assert lines_by_language(out)["mean"] == ["71.00", "87.9", "-16.90"]
    code, out, err = ernie_m("report", make_run(tmp_path / "some", card=card, languages=TATOEBA[:35]))
    assert code == 0, err
    assert "its mean is over 36 languages, this one over 35: not compared" in out
    assert "87.9" not in out


def test_the_cards_f1_stands_beside_words_and_tokens(tmp_path: Path, ernie_m) -> None:
    card = {"task": "conll", "setting": "Fine-tune on all dataset", "model": "ERNIE-M"}
    run = make_run(tmp_path / "a", card=card)
    results = {language: {"f1": 0.9, "subtoken_f1": 0.8} for language in ("en", "de", "es", "nl", "mean")}
    written = {"recipe": "conll/all_base", "test": results}
    (run / "results.json").write_text(json.dumps(written), encoding="utf-8")
    page = tmp_path / "page.html"
    code, out, err = ernie_m("report", run, "--output", page)
    assert code == 0, err
    lines = lines_by_language(out)
    assert lines["mean"] == ["90.00", "89.3", "+0.68", "80.00", "89.3", "-9.32"]
    assert "presumably over tokens, as Baidu's code counts (subtoken_f1); f1 is over words" in out
    tables = Page(page.read_text(encoding="utf-8")).rows
    german = [row for row in tables if row and row[0] == "de"]
    assert [row[1:4] for row in german] == [["90.0", "83.2", "84.2"], ["80.0", "83.2", "84.2"]]


def test_parts_and_development_data_are_not_compared(tmp_path: Path, ernie_m) -> None:
    for limit in (1, 2, 0.5):
        _, out, _ = ernie_m("report", make_run(tmp_path / f"limit {limit}", card=TRANSFER, limit=limit))
        assert "only a part of the test data, or other data, was scored: not compared" in out
        assert "difference" not in out
    _, out, _ = ernie_m("report", make_run(tmp_path / "a", card=TRANSFER, limit=1.0))
    assert "difference" in out
    run = make_run(tmp_path / "b", card=TRANSFER, stage="validate")
    page = tmp_path / "page.html"
    _, out, _ = ernie_m("report", run, "--stage", "validate", "--output", page)
    assert "no scores of development data: not compared" in out
    assert "XLM-R" not in page.read_text(encoding="utf-8")
    # Other data are another experiment, though settings and seed are the same.
    record = {"data": {"test/en": "100 rows, sha256 01, /data"}}
    _, out, _ = ernie_m("report", make_run(tmp_path / "c"), make_run(tmp_path / "d", record=record))
    assert out.count("xnli/transfer_base, test, seed 1") == 2


def test_another_backbone_is_another_experiment(tmp_path: Path, ernie_m) -> None:
    ours = make_run(tmp_path / "a", 1, TRANSFER)
    theirs = make_run(tmp_path / "b", 2, TRANSFER | {"model": "XLM-R"}, backbone="FacebookAI/xlm-roberta-base")
    _, out, _ = ernie_m("report", ours, theirs)
    assert "seed 1, in percent" in out
    assert "seed 2, in percent" in out
    assert "the card's row XLM-R, Cross-lingual Transfer" in out


def test_what_has_no_scores_is_left_out(tmp_path: Path, ernie_m) -> None:
    whole = make_run(tmp_path / "a", card=TRANSFER)
    again = make_run(tmp_path / "a-test", card=TRANSFER, record={"stage": "test"})
    running = make_run(tmp_path / "b", 2, TRANSFER, record={"status": "running"})
    predicted = make_run(tmp_path / "c", 3, TRANSFER, stage="predict")
    code, out, err = ernie_m("report", again, whole, running, predicted)
    assert code == 0
    assert f"run: {whole}" in out
    assert f"run: {again}" not in out
    assert f"{again}: left out, it scored the network of {whole} again" in err
    assert f"{running}: left out, its status is 'running'" in err
    assert f"{predicted}: left out, no scores of test" in err
    # Alone it is shown.
    assert f"run: {again}" in ernie_m("report", again)[1]


def test_bad_input_is_named(tmp_path: Path, ernie_m) -> None:
    run = make_run(tmp_path / "a", card=TRANSFER, stage="validate")
    twin = make_run(tmp_path / "b", card=TRANSFER, stage="validate")
    broken = make_run(tmp_path / "c")
    (broken / "results.json").write_text("{", encoding="utf-8")
    controls = make_run(tmp_path / "e")
    (controls / "results.json").write_text(
        json.dumps({"test": {"en\x1b[2J": {"accuracy": 0.5}, "mean": {"accuracy": 0.5}}}), encoding="utf-8"
    )
    foreign = make_run(tmp_path / "d")
    (foreign / "config.yaml").write_text("a: 1", encoding="utf-8")
    for words, said in (
        ([tmp_path], "no run folder"),
        ([run], "--stage validate"),
        ([run, "--output", tmp_path / "r.pdf", "--stage", "validate"], ".md, .csv, .json, .html"),
        ([run, twin, "--stage", "validate"], "same settings and the same seed"),
        ([broken], f"{broken}/results.json: damaged"),
        ([controls], f"{controls}/results.json: its scores are not what a run writes"),
        ([foreign], "seed_everything"),
    ):
        code, _, err = ernie_m("report", *words)
        assert code == 2
        assert said in err
    assert ernie_m("report", run, "--stage", "validate")[0] == 0


def test_every_figure_of_the_card_is_there() -> None:
    row = figures_of(CardRow("mlqa", "Cross-lingual Transfer", "ERNIE-M Large"))
    assert row is not None
    assert row["mean"] == {"f1": 73.7, "exact_match": 55.3}
    assert figures_of(CardRow("tatoeba", "After fine-tuning", "ERNIE-M Large")) == {"mean": {"accuracy": 93.3}}
    file = Path(figures_of.__code__.co_filename).with_name("card.csv")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 1 + 513


@pytest.mark.real_data
def test_the_card_that_ships_is_the_published_one(shared: Path) -> None:
    file = Path(figures_of.__code__.co_filename).with_name("card.csv")
    assert file.read_bytes() == (shared / "published" / "ernie_m_card.csv").read_bytes()


OF_THE_CARD = ("xnli/", "paws_x/", "conll/", "mlqa/", "tatoeba/")
REPRODUCING = [
    entry
    for entry in entries("recipe")
    if entry.name.endswith(("_base", "_large")) and entry.name.startswith(OF_THE_CARD)
]


@pytest.mark.parametrize("recipe", REPRODUCING, ids=lambda entry: entry.name)
def test_recipes_name_their_row(recipe: Any) -> None:
    card = yaml.safe_load(recipe.text)["run"]["card"]
    assert card["task"].replace("-", "_") == recipe.name.split("/")[0]
    assert card["model"] == ("ERNIE-M Large" if recipe.name.endswith("large") else "ERNIE-M")
    figures = figures_of(CardRow(**card))
    header = " ".join(recipe.header).lower()
    if figures is None:
        assert "the card has no figure" in header
        return
    metric, value = next(iter(figures["mean"].items()))
    assert f"test {metric} {value} " in header


class Page(HTMLParser):
    """Collects the rows of tables, the links, and the tags that are open at the end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.outside: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        self.outside += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] in (["th"], ["td"]):
            self.rows[-1][-1] += data


@pytest.fixture
def page(tmp_path: Path, ernie_m) -> Path:
    runs = [make_run(tmp_path / f"{seed}", seed, TRANSFER) for seed in (1, 2)]
    other = make_run(tmp_path / "<b>other", 1, TRANSFER, learning_rate=1e-4)
    code, _, err = ernie_m("report", *runs, other, "--output", tmp_path / "report.html")
    assert code == 0, err
    return tmp_path / "report.html"


def test_the_heat_map_holds_every_language_and_model(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = Page(text)
    assert found.open == []
    assert found.outside == [], "it needs no network"
    assert "http" not in text
    titles, *rows = found.rows
    card = rows_of_setting("xnli", "Cross-lingual Transfer")
    assert titles[3:] == list(card)
    assert titles[1:3] == ["xnli/transfer_base, 2 seeds (1)", "xnli/transfer_base, seed 1 (<b>other)"]
    assert [row[0] for row in rows] == [*XNLI, "mean"]
    for row in rows:
        assert row[3:] == [f"{figures[row[0]]['accuracy']:.1f}" for figures in card.values()]
    assert rows[0][1:3] == ["81.5", "81.0"]
    # A bar for every language, its mean too, and every model.
    assert text.count('class="fill"') == 16 * (2 + len(card))


@pytest.mark.skipif(not BROWSERS, reason="needs Chromium, which looks at the page")
def test_a_browser_shows_it_without_scrolling_sideways(page: Path) -> None:
    # In frames, since a window cannot be as narrow as a phone.
    widths = (390, 1280)
    script = (
        "const inner = this.contentDocument, cell = inner.querySelector('td');"
        "const fill = inner.querySelector('.fill').getBoundingClientRect();"
        "this.title = [inner.documentElement.scrollWidth, inner.querySelectorAll('td').length, fill.width > 0,"
        " getComputedStyle(cell).backgroundColor].join(' ');"
    )
    frames = "".join(
        f'<iframe width="{width}" height="800" style="border:0" onload="{html.escape(script)}" '
        f'srcdoc="{html.escape(page.read_text(encoding="utf-8"))}"></iframe>'
        for width in widths
    )
    wrapper = page.with_name("wrapper.html")
    wrapper.write_text(f"<body>{frames}</body>", encoding="utf-8")
    command = [BROWSERS[0], "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    command += [f"--user-data-dir={page.parent / 'profile'}", "--window-size=1400,900", wrapper.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    titles = re.findall(r'title="([^"]*)"', shown)
    assert len(titles) == 2
    for width, title in zip(widths, titles, strict=True):
        scrolled, cells, has_width, colour = title.split(" ", 3)
        assert int(scrolled) <= width
        assert int(cells) == 16 * (2 + len(rows_of_setting("xnli", "Cross-lingual Transfer")))
        assert has_width == "true"
        assert colour.startswith("rgb(")
