"""Writes a trained network as a folder that transformers loads, with this package or without it."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import ernie_m
from ernie_m.errors import InputError
from ernie_m.files import check_links, whole
from lightning_modules import TaskModule

from . import markdown
from .base_model import Base, base_of, checked
from .compat import auto_classes, class_path_of
from .documents import as_written, read_json, read_yaml, write_json, write_yaml
from .model_index import model_index
from .record import read_results, shown_config, versions
from .references import taken
from .resume import load
from .sentence_files import write_sentence_files
from .tables import MEAN, rows_of
from .targets import CONFIG, RECIPE, RECORD, chosen_checkpoint, run_folder_of
from .trust import Values, task_at, tokenizer_of

_PAIR = re.compile(r"[a-z]{2,3}-[a-z]{2,3}")
# A file and a class in it; transformers takes what stands before `--` for a repository.
_CODE = re.compile(r"([A-Za-z_]\w*)\.[A-Za-z_]\w*")
FACTS = "export.json"
CARD = "README.md"
AUTO_CLASSES = {
    "ErnieMModel": "AutoModel",
    "ErnieMForSequenceClassification": "AutoModelForSequenceClassification",
    "ErnieMForTokenClassification": "AutoModelForTokenClassification",
    "ErnieMForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ErnieMForMultipleChoice": "AutoModelForMultipleChoice",
    "ErnieMForMaskedLM": "AutoModelForMaskedLM",
}

WITHOUT_AUTO_CLASS = ("ErnieMForInformationExtraction",)
"""Heads that transformers knows no task of; they are loaded by their own names."""


def export_target(
    source: Path, target: Path, values_of: Callable[[Mapping[str, Any], Path], Values], tokenizer: str | None = None
) -> Path:
    """Export a run's checkpoint that counts, or a checkpoint.

    Args:
        source: A run folder, or a `.ckpt` file in one.
        target: The folder to make.
        values_of: Takes the content of the run's config.yaml, and that file.
        tokenizer: The tokenizer to take along, as `trust.tokenizer_of` finds it unless it is given.

    Raises:
        InputError: The source is neither, or the target exists.
    """
    if (source / CONFIG).is_file():
        run, checkpoint = source, chosen_checkpoint(source)
    elif source.is_file():
        found = run_folder_of(source)
        if found is None:
            raise InputError(
                f"{source}: no {CONFIG} beside the checkpoint or one folder up, so its tokenizer is unknown"
            )
        run, checkpoint = found, source
    else:
        raise InputError(f"{source}: neither a run folder (it holds no {CONFIG}) nor a checkpoint file")
    if target.exists():
        raise InputError(f"{target} exists; name another target or remove it first")
    check_links(run)
    with as_written(run):
        values = values_of(read_yaml(run / CONFIG), run / CONFIG)
        config = values.to_keep()
        results = read_results(run)
        scored = (results.get("checkpoint") or {}).get("path")
        if scored is None or (run / str(scored)).resolve() != checkpoint.resolve():
            results = {}
        taken.forget(set(values.variables))
        resolved = taken.resolved(config)
        tokenizer = tokenizer or tokenizer_of(run, resolved["data"]["init_args"]["tokenizer"], "--tokenizer")
        return export_checkpoint(
            checkpoint, target, resolved, results, task_of(checkpoint, values.trusted), config, tokenizer
        )


def export_checkpoint(
    checkpoint: Path,
    target: Path,
    config: Mapping[str, Any],
    results: Mapping[str, Any],
    task: type[TaskModule],
    written: Mapping[str, Any] | None = None,
    tokenizer: str | None = None,
) -> Path:
    """Write a checkpoint's network, tokenizer, model card and recipe into a folder, whole or not at all.

    Args:
        checkpoint: A checkpoint of this command.
        target: The folder; replaced where it exists.
        config: The run's settings.
        results: What the run's results.json says; empty where this checkpoint was not scored.
        task: The class that made it.
        written: The settings as they are written, where they refer to environment variables.
        tokenizer: Short name, folder or Hub id of the tokenizer; that of the settings by default.

    Returns:
        The folder.
    """
    network = task.load_from_checkpoint(checkpoint, map_location="cpu").eval().network_to_export()
    arguments = config["data"].get("init_args", {})
    name, trust_remote_code = tokenizer or arguments["tokenizer"], bool(arguments.get("trust_remote_code"))
    loaded = ernie_m.load_tokenizer(name, trust_remote_code)
    if arguments.get("single_separator") and hasattr(loaded, "pair_separators"):
        loaded = ernie_m.load_tokenizer(name, trust_remote_code, pair_separators=1)
    target = target.absolute()
    written = config if written is None else written
    with whole(target) as partial:
        save(network, loaded, partial)
        write_sentence_files(partial, written, network.config.hidden_size)
        header = f"The settings that made this network. Score it: ernie-m test {target.name}"
        write_yaml(partial / RECIPE, header, shown_config(written))
        write_json(partial / FACTS, taken.hidden({"versions": versions(), "results": results}))
        card = taken.hidden(model_card(network, written, results, recorded_base(checkpoint, config)))
        (partial / CARD).write_text(card, encoding="utf-8")
    return target


def recorded_base(checkpoint: Path, config: Mapping[str, Any]) -> Base | None:
    """Return what a run's record says of the backbone: its card was read when the run began, and is not read again.

    Args:
        checkpoint: A checkpoint of the run.
        config: The run's settings.

    Returns:
        The base; None where the network was trained from random weights.
    """
    arguments = config["model"]["init_args"]
    if arguments.get("from_scratch") and not arguments.get("init_from"):
        return None
    if (name := arguments.get("backbone")) in (ernie_m.BUNDLED, *ernie_m.PUBLISHED):
        return base_of(name)
    run = run_folder_of(checkpoint)
    facts = {} if run is None else read_json(run / RECORD).get("network")
    found = facts if isinstance(facts, dict) else {}
    return checked(found.get("license"), found.get("base_model"))


def task_of(checkpoint: Path, trusted: Sequence[str] = ()) -> type[TaskModule]:
    """Return the class that made a checkpoint.

    Args:
        checkpoint: A checkpoint of this command.
        trusted: Classes and modules that the command line trusts.

    Raises:
        InputError: It does not say which class made it, or names one that is none of this project's.
    """
    class_path = class_path_of(load(checkpoint))
    if class_path is None:
        raise InputError(f"{checkpoint}: does not say which class made it, so it is not of this command's fit")
    task: type[TaskModule] = task_at(class_path, str(checkpoint), trusted)
    return task


def save(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save network and tokenizer; those of ERNIE-M with the code that a Python without this package needs.

    Args:
        network: Any transformers model.
        tokenizer: Its tokenizer.
        folder: The folder to write into.
    """
    with carrying_code(network, tokenizer):
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            write_json(folder / name, taken.hidden(without_foreign_code(read_json(folder / name), folder)))
    if not isinstance(network, ernie_m.ErnieMPreTrainedModel):
        return
    config = read_json(folder / "config.json")
    # A pipeline asks for the Auto class of its own task: feature extraction, say, for AutoModel.
    for name, auto_class in AUTO_CLASSES.items():
        module = getattr(ernie_m, name).__module__.rsplit(".", 1)[-1]
        if (folder / f"{module}.py").is_file():
            config["auto_map"][auto_class] = f"{module}.{name}"
    write_json(folder / "config.json", config)


def without_foreign_code(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return settings that name no code but files that were saved beside them: who loads an export trusts it whole.

    Args:
        settings: The content of config.json or tokenizer_config.json.
        folder: Where it lies.
    """

    def is_here(reference: Any) -> bool:
        parts = [part for part in (reference if isinstance(reference, list) else [reference]) if part is not None]
        found = [_CODE.fullmatch(part) if isinstance(part, str) else None for part in parts]
        return all(match is not None and (folder / f"{match[1]}.py").is_file() for match in found)

    def kept(content: Mapping[str, Any], is_outer: bool) -> dict[str, Any]:
        found = {
            key: kept(value, False) if isinstance(value, Mapping) else value
            for key, value in content.items()
            if key not in ("custom_pipelines", "processor_class", "auto_map")
        }
        auto_map = content.get("auto_map") if is_outer else None
        ours = {name: part for name, part in auto_map.items() if is_here(part)} if isinstance(auto_map, Mapping) else {}
        return found | ({"auto_map": ours} if ours else {})

    return kept(settings, True)


def carrying_code(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> AbstractContextManager[None]:
    """Make `save_pretrained` copy ERNIE-M's code, through transformers' own mechanism, for the time of an export."""
    wanted: list[tuple[Any, str]] = []
    if isinstance(network, ernie_m.ErnieMPreTrainedModel):
        wanted.append((type(network), AUTO_CLASSES.get(type(network).__name__, "AutoModel")))
        wanted.append((type(network.config), "AutoConfig"))
    if isinstance(tokenizer, ernie_m.ErnieMTokenizer):
        wanted.append((type(tokenizer), "AutoTokenizer"))
    return auto_classes(wanted)


def model_card(
    network: PreTrainedModel, config: Mapping[str, Any], results: Mapping[str, Any], base: Base | None = None
) -> str:
    """Return the README of an exported folder.

    Args:
        network: The network.
        config: The run's settings.
        results: Its results.json; may be empty.
        base: What it was made of; None where it was trained from random weights.
    """
    arguments = config["data"].get("init_args", {})
    names = set(results.get("test") or results.get("validate") or {}) - {MEAN}
    # What is scored may be a pair of languages.
    parts = [name.split("-") if _PAIR.fullmatch(name) else [name] for name in names]
    languages = sorted({language for part in parts for language in part})
    code = isinstance(network, ernie_m.ErnieMPreTrainedModel)
    front: dict[str, Any] = {"library_name": "transformers"}
    if base is not None:
        front |= {name: value for name, value in base._asdict().items() if value is not None}
    front["tags"] = [network.config.model_type, "cross-lingual"]
    if languages:
        front["language"] = languages
    name = str(config["run"].get("name") or "Fine-tuned encoder")
    if results.get("test") and (index := model_index(name, config, results["test"])):
        front["model-index"] = index
    auto = AUTO_CLASSES.get(type(network).__name__, "AutoModel")
    found = versions()
    lines = ["---", yaml.safe_dump(front, sort_keys=False).strip(), "---", ""]
    lines += [f"# {markdown.plain(name)}", ""]
    lines += [f"A `{type(network).__name__}`, {origin(config['model']['init_args'])} by the recipe in `{RECIPE}` with"]
    lines += [f"ernie-m-recipes {found.get('ernie-m-recipes', '')}.", "", "```python"]
    lines += ["import ernie_m  # registers ERNIE-M; or pass trust_remote_code=True below"] if code else []
    if type(network).__name__ in WITHOUT_AUTO_CLASS:
        auto = type(network).__name__
        lines[-1] = f"from ernie_m import {auto}  # no Auto class of transformers has this head"
        lines += ["from transformers import AutoTokenizer", ""]
    else:
        lines += [f"from transformers import {auto}, AutoTokenizer", ""]
    lines += [f'model = {auto}.from_pretrained(".")', 'tokenizer = AutoTokenizer.from_pretrained(".")', "```", ""]
    lines += usage(config["model"], str(arguments.get("prefix") or ""), getattr(network.config, "null_threshold", None))
    lines += applied(config, network)
    if results:
        lines += scores_section(results)
    lines += ["## Made with", ""]
    lines += [f"- {name} {version}" for name, version in found.items()]
    lines += [
        "",
        "sentencepiece's versions break ties between segmentations differently: use the one above for the same ids.",
    ]
    lines += (
        [f"Longest input: {markdown.plain(arguments['max_length'])} tokens."] if arguments.get("max_length") else []
    )
    return "\n".join(lines) + "\n"


def origin(arguments: Mapping[str, Any]) -> str:
    """Say what a network was trained from."""
    if arguments.get("init_from"):
        return f"fine-tuned from {markdown.code(called(str(arguments['init_from'])))}"
    if arguments.get("from_scratch"):
        return "trained from random weights"
    return f"fine-tuned from {markdown.code(called(str(arguments.get('backbone'))))}"


def called(source: str) -> str:
    """Return what to call weights: a Hub id as it is, a folder or file by its name and its run's, without a path."""
    path = Path(source).resolve()
    if not path.exists():
        return source
    run = run_folder_of(path)
    return path.name if run is None else f"{run.name}/{path.name}"


def usage(model: Mapping[str, Any], prefix: str = "", null_threshold: float | None = None) -> list[str]:
    """Return the lines that say how the network was used for its scores, where a pipeline does not know it by itself.

    Args:
        model: The class of the task and its arguments.
        prefix: What stood before every text.
        null_threshold: Of questions that may have no answer, the difference of scores above which none is given.
    """
    before = [f"Before every text stood {markdown.code(repr(prefix))}; it is part of the text.", ""] if prefix else []
    task, arguments = model["class_path"].rpartition(".")[2], model["init_args"]
    if task == "TokenClassification":
        text = "Words are tokenised one by one, and a word has the label of its first token."
    elif task == "QuestionAnswering":
        text = (
            "transformers 5 has no pipeline for question answering: `ernie-m predict FOLDER --input questions.json "
            "--output answers.json` cuts long contexts into windows and takes the best span of all."
        )
        if arguments.get("version_2_with_negative") and null_threshold is not None:
            text += (
                " A question may have no answer: of each window take `start_logits[0] + end_logits[0]`, of these the "
                "lowest, and from it the score of the best span, its two logits added. Where that is above "
                f"{null_threshold:.6g} (`null_threshold` in config.json), the answer is empty."
            )
    elif task == "InformationExtraction":
        text = (
            "Prompt and text are a pair, the prompt first. A token starts a span where the sigmoid of its "
            f"`start_logits` is above {markdown.plain(arguments.get('threshold'))}, and ends one by its `end_logits`; "
            "an end goes with the nearest start before it. `ernie-m predict FOLDER --input texts.jsonl --output "
            "spans.jsonl` does it, and cuts long texts into windows."
        )
    elif task == "MultipleChoice":
        text = (
            "Each choice is a pair of its own, the context and the choice, before which stands what is asked; "
            "`input_ids` are `(batch, choices, length)`, and the choice with the highest logit counts."
        )
    elif task == "SentenceRetrieval":
        layer = arguments.get("layer")
        vectors = "`last_hidden_state`" if layer is None else f"{markdown.code(f'hidden_states[{layer}]')}"
        pooled = "the first token" if arguments.get("pooling") == "cls" else "the mean over all tokens but padding"
        text = f"A sentence's vector is {pooled} of {vectors}, scaled to length 1; the nearest by cosine counts."
    elif task == "Pretraining":
        text = "It completes masked tokens; other tasks are fine-tuned from it, with this folder as `--model.backbone`."
        if arguments.get("language_embeddings"):
            text += " Its scores are those with embeddings of languages, which are no part of this folder."
    else:
        return before
    return [*before, text, ""]


def applied(config: Mapping[str, Any], network: PreTrainedModel) -> list[str]:
    """Return the lines that show a classifier at work; none for other tasks, whose use takes more than a line.

    Args:
        config: The run's settings.
        network: The network.
    """
    if not type(network).__name__.endswith("ForSequenceClassification"):
        return []
    arguments = config["data"].get("init_args", {})
    text = json.dumps(f"{arguments.get('prefix') or ''}A text.", ensure_ascii=False)
    length = json.dumps(arguments.get("max_length"))
    shown = {
        "regression": ["print(model(**batch).logits.item())"],
        "multi_label_classification": [
            "probabilities = dict(zip(model.config.id2label.values(), model(**batch).logits.sigmoid()[0].tolist()))",
            "print([name for name, value in probabilities.items() if value >= model.config.label_thresholds[name]])",
        ],
    }
    return [
        "```python",
        "# Pairs: tokenizer(first, second, ...)",
        f'batch = tokenizer({text}, truncation=True, max_length={length}, return_tensors="pt")',
        *shown.get(
            str(network.config.problem_type), ["print(model.config.id2label[model(**batch).logits.argmax().item()])"]
        ),
        "```",
        "",
    ]


def scores_section(results: Mapping[str, Any]) -> list[str]:
    """Return the lines of the model card's table of scores."""
    stages = [stage for stage in ("before", "validate", "test") if results.get(stage)]
    if not stages:
        return []
    chosen = results.get("checkpoint", {})
    rule = markdown.plain(f"{chosen.get('rule')}, step {chosen.get('step')}")
    table = markdown.table(*rows_of({stage: results[stage] for stage in stages}))
    return ["## Scores, in percent", "", f"Checkpoint: {rule}.", "", *table, ""]
