"""What each objective of a pre-training adds, for the same work: from random weights, or going on from ernie-m-mini.

    python benchmarks/pretraining_objectives.py TATOEBA FOLDER [--steps 1200] [--seeds 1 2 3] > results/...
    python benchmarks/pretraining_objectives.py TATOEBA FOLDER --continued --steps 300

TATOEBA is a folder of LASER's files; FOLDER keeps the runs, and those that are there are not run again. All text is
what comes with the package. From random weights a run has two halves, as in the paper: the second adds btmlm, where the
objectives have it, to the first one's weights. What goes on has the second half alone. The work of a step is counted in
tokens that go through the network, forwards and backwards: a pass without gradient counts a third. Every set of
objectives gets as many steps as its share of the work allows.

Scores, in percent: `found` hidden tokens of unseen pairs with both sentences in sight, `camlm` the same with the other
sentence alone in sight, `pairs` translations found among 300 unseen ones, both directions; `tatoeba` translations found
among up to 1,000; `sib200` topics of sentences in six languages after fine-tuning on English.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import t as student

LANGUAGES = ("de", "es", "fr", "ru", "tr", "zh")
# What texts and pairs are given in the first half, and in the second.
OBJECTIVES: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "mmlm": ({"mmlm": 1.0}, {"mmlm": 1.0}),
    "mmlm tlm": ({"mmlm": 1.0, "tlm": 1.0},) * 2,
    "mmlm camlm": ({"mmlm": 1.0, "camlm": 1.0},) * 2,
    "mmlm camlm btmlm": ({"mmlm": 1.0, "camlm": 1.0}, {"mmlm": 0.5, "btmlm": 0.5, "camlm": 1.0}),
    "all": (
        {"mmlm": 1.0, "tlm": 0.5, "camlm": 0.5},
        {"mmlm": 0.5, "btmlm": 0.5, "tlm": 0.5, "camlm": 0.5},
    ),
    "mmlm xlco": ({"mmlm": 1.0, "xlco": 1.0},) * 2,
}
SCORES = ("found", "camlm", "pairs", "tatoeba", "sib200")


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    Args:
        recipe: Its recipe.
        halves: Which halves it has.
        text: Mean tokens of a row of packed texts, in what the recipe draws.
        pair: The same of pairs.
        settings: What is other than in the recipe.
        prefix: What stands before the texts that are scored.
        fine_tuning: Options of the fine-tuning on SIB-200.
    """

    recipe: str
    halves: tuple[int, ...]
    text: float
    pair: float
    settings: dict[str, object]
    prefix: str
    fine_tuning: tuple[str, ...]


SCRATCH = Start(
    recipe="pretraining/tiny",
    halves=(0, 1),
    text=37.2,
    pair=33.3,
    settings={
        "model.learning_rate": 3e-3,
        "model.mask_rate": 0.3,
        "model.from_scratch.initializer_range": 0.06,
        "model.from_scratch.hidden_size": 128,
        "model.from_scratch.num_hidden_layers": 2,
        "model.from_scratch.num_attention_heads": 4,
        "model.from_scratch.intermediate_size": 512,
        "data.max_length": 48,
    },
    prefix="",
    fine_tuning=("--trainer.precision=32-true", "--model.learning_rate=5e-4"),
)
CONTINUED = Start("pretraining/mini", (1,), text=49.3, pair=46.2, settings={}, prefix="query: ", fine_tuning=())


def work(start: Start, shares: dict[str, float]) -> float:
    """Tokens of a row on average, a text and a pair alternating where there are pairs."""
    # Texts of btmlm are twice as long, and run without gradient first.
    text = start.text * (shares.get("mmlm", 0.0) + shares.get("btmlm", 0.0) * 2 * (1 + 1 / 3))
    return (text + start.pair) / 2 if shares.keys() - {"mmlm", "btmlm"} else text


def ernie_m(folder: Path, *words: object) -> None:
    """Run the command, its output in a file."""
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        command = [sys.executable, "-m", "ernie_m_recipes", *map(str, words)]
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)


def run_of(folder: Path) -> Path:
    """The only run below a folder."""
    (config,) = folder.rglob("config.yaml")
    return config.parent


def trained(start: Start, folder: Path, name: str, seed: int, steps: int) -> Path:
    """All halves; the run of the last."""
    before: Path | None = None
    for half in start.halves:
        shares = OBJECTIVES[name][half]
        place = folder / f"half{half}"
        if not list(place.rglob("export")):
            place.mkdir(parents=True, exist_ok=True)
            number = round(steps * start.text / work(start, shares))
            options = [f"--{key}={value}" for key, value in start.settings.items()]
            options += [f"--model.shares={json.dumps(shares)}", f"--seed_everything={seed}", "--run.export=true"]
            options += [f"--trainer.max_steps={number}", f"--trainer.val_check_interval={number}"]
            options += ["--trainer.log_every_n_steps=200", "--run.test_after_fit=true", f"--run.directory={place}"]
            options += ["--data.test_pairs=" + json.dumps({f"en-{x}": f"test/en-{x}.tsv.gz" for x in LANGUAGES})]
            if not shares.keys() - {"mmlm", "btmlm"}:
                options += ["--data.train_pairs=null"]
            if before is not None:
                options += [f"--model.init_from={before / 'checkpoints' / 'last.ckpt'}"]
            ernie_m(place, "fit", "--config", start.recipe, *options)
        before = run_of(place)
    assert before is not None
    return before


def results(folder: Path) -> dict[str, float]:
    """The mean scores of the only run below a folder."""
    found: dict[str, float] = json.loads((run_of(folder) / "results.json").read_text(encoding="utf-8"))["test"]["mean"]
    return found


def scores(start: Start, folder: Path, run: Path, tatoeba: Path) -> dict[str, float]:
    """What a trained network reaches, in percent."""
    own = json.loads((run / "results.json").read_text(encoding="utf-8"))["test"]["mean"]
    found = {"found": own["accuracy"], "camlm": own["camlm_accuracy"], "pairs": own["retrieval"]}
    return {name: 100 * value for name, value in found.items()} | transfer(start, folder, str(run / "export"), tatoeba)


def transfer(start: Start, folder: Path, backbone: str, tatoeba: Path) -> dict[str, float]:
    """What other tasks make of a network, in percent."""
    languages = json.dumps(LANGUAGES)
    for name, words in {
        "tatoeba": ("test", "--config", "tatoeba/zero_shot_base", "--model.layer=null", f"--data.path={tatoeba}",
                    f"--data.test_languages={languages}", "--data.max_length=64"),
        "sib200": ("fit", "--config", "quickstart", f"--data.test_languages={languages}", "--run.export=false",
                   *start.fine_tuning),
    }.items():  # fmt: skip
        place = folder / name
        if not list(place.rglob("results.json")):
            place.mkdir(parents=True, exist_ok=True)
            options = [f"--model.backbone={backbone}", f"--data.prefix={start.prefix}", f"--run.directory={place}"]
            ernie_m(place, *words, *options)
    both = results(folder / "tatoeba")
    return {
        "tatoeba": 50 * (both["source_to_target"] + both["target_to_source"]),
        "sib200": 100 * results(folder / "sib200")["accuracy"],
    }


def interval(values: list[float]) -> str:
    """Mean and 95 % interval of some runs."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.1f} ±{half:.1f}"


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tatoeba", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1200, help="steps of a half with mmlm alone")
    parser.add_argument("--continued", action="store_true", help="go on from ernie-m-mini")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    start = CONTINUED if options.continued else SCRATCH
    if options.continued:
        plain = transfer(start, options.folder.absolute() / "start", "ernie-m-mini", options.tatoeba.absolute())
        print("ernie-m-mini itself", *(f"{key} {value:5.1f}" for key, value in plain.items()), flush=True)
    reached: dict[str, list[dict[str, float]]] = {name: [] for name in OBJECTIVES}
    for seed in options.seeds:
        for name in OBJECTIVES:
            folder = options.folder.absolute() / name.replace(" ", "-") / str(seed)
            run = trained(start, folder, name, seed, options.steps)
            reached[name].append(scores(start, folder, run, options.tatoeba.absolute()))
            shown = (f"{key} {value:5.1f}" for key, value in reached[name][-1].items())
            print(f"seed {seed}  {name:18}", *shown, flush=True)
    print("\nmean of", len(options.seeds), "seeds, with 95 % intervals; below, what is added to mmlm on the same seed")
    for name, found in reached.items():
        print(f"{name:18}", *(f"{key} {interval([one[key] for one in found]):>10}" for key in SCORES), sep="  ")
        if name != "mmlm":
            pairs = list(zip(found, reached["mmlm"], strict=True))
            more = {key: [one[key] - other[key] for one, other in pairs] for key in SCORES}
            print(f"{'':18}", *(f"{key} {interval(more[key]):>10}" for key in SCORES), sep="  ")


if __name__ == "__main__":
    main()
