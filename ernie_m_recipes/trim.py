"""`ernie-m trim`: a folder for transformers with the vocabulary of some languages alone."""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import ernie_m
from datamodules.text_files import read_lines
from ernie_m.errors import InputError
from ernie_m.files import check_links, whole, write_text
from ernie_m.trimming import Selection, select, trim_network, trim_tokenizer
from lightning_modules import networks

from . import markdown
from .class_paths import instance_of
from .cli import RecipeCLI
from .documents import read_json, read_text, read_yaml, write_json, write_yaml
from .export import AUTO_CLASSES, CARD, FACTS, WITHOUT_AUTO_CLASS, called, save
from .preparation import prepare
from .sentence_files import write_sentence_files
from .targets import BEST, CONFIG, LAST, RECIPE, parse
from .trust import Values, variables_in


def lines_of(paths: Sequence[Path]) -> Iterator[str]:
    """Read texts, one a line, without blank lines.

    Args:
        paths: UTF-8 files, plain or gzipped.

    Raises:
        InputError: A file is missing, broken or not UTF-8.
    """
    for path in paths:
        yield from (line for line in read_lines(path) if line.strip())


def texts_in(source: str, languages: Sequence[str]) -> Iterator[str]:
    """Read the texts, in some languages, of the data that an exported folder was trained, validated and tested on.

    Args:
        source: A folder that this command exported.
        languages: Languages of its recipe.

    Raises:
        InputError: The folder has no recipe, or its data lack a language.
    """
    if not (Path(source) / RECIPE).is_file():
        raise InputError(f"{source!r} has no {RECIPE} that names data; give texts with --text instead of --languages")
    prepare()
    data = instance_of(RecipeCLI(parse("test", [source]), build=False).config["test"].data.as_dict())
    return chain.from_iterable(data.texts(language) for language in languages)


def export_of(run: Path) -> Path:
    """Return the folder that a run was exported to.

    Args:
        run: A run folder.

    Raises:
        InputError: It was not exported.
    """
    check_links(run)
    folder = run / "export"
    if not folder.is_dir():
        is_trained = any((run / checkpoint).exists() for checkpoint in (BEST, LAST))
        raise InputError(
            f"{run} has no export"
            + (f"; `ernie-m export {run} FOLDER` writes one" if is_trained else " and no checkpoint to make one from")
        )
    return folder


def trim(source: str, target: Path, texts: Iterable[str], chosen_by: Mapping[str, Sequence[str]]) -> Selection:
    """Write a folder whose vocabulary is that of some texts, whole or not at all.

    Args:
        source: Short name, folder or Hub id of an ERNIE-M.
        target: The folder to make.
        texts: Texts in the languages that are to stay.
        chosen_by: What the texts are, for the model card: languages of the data, names of files.

    Returns:
        What was kept.

    Raises:
        InputError: The source is no ERNIE-M, the target exists, or a file cannot be read.
    """
    if target.exists():
        raise InputError(f"{target} exists; name another target or remove it first")
    config = networks.read_config(source, trust_remote_code=False)
    tokenizer = ernie_m.load_tokenizer(source)
    if not isinstance(config, ernie_m.ErnieMConfig) or not isinstance(tokenizer, ernie_m.ErnieMTokenizer):
        raise InputError(f"{source!r} is a {config.model_type} with a {type(tokenizer).__name__}, not an ERNIE-M")
    selection = select(tokenizer, texts)
    name = (config.architectures or ["ErnieMModel"])[0]
    network_class = getattr(ernie_m, name, None) if name in (*AUTO_CLASSES, *WITHOUT_AUTO_CLASS) else None
    if network_class is None:
        raise InputError(f"config.json of {source!r} names the architecture {name}, which this package does not have")
    with networks.reading("weights", source):
        network = network_class.from_pretrained(ernie_m.resolve(source))
    trim_network(network, selection)
    with whole(target.absolute()) as partial:
        partial.mkdir()
        save(network, trim_tokenizer(tokenizer, selection, partial), partial)
        if (recipe := Path(source) / RECIPE).is_file():
            settings = Values(read_yaml(recipe), recipe, variables=variables_in(read_text(recipe))).to_keep()
            write_sentence_files(partial, settings, config.hidden_size)
            write_yaml(partial / RECIPE, f"The settings that made {called(source)}, before it was trimmed", settings)
        describe(source, partial, chosen_by, selection, len(tokenizer))
    return selection


def describe(
    source: str, target: Path, chosen_by: Mapping[str, Sequence[str]], selection: Selection, before: int
) -> None:
    """Write a trimmed folder's model card and facts: those of its source, and how it was trimmed.

    Args:
        source: What was trimmed.
        target: The trimmed folder.
        chosen_by: What the texts are: languages of the data, names of files.
        selection: What was kept.
        before: How many tokens there were.
    """
    name, tokens = called(source), len(selection.ids)
    facts = read_json(Path(source) / FACTS)
    trimmed = {"from": name, **chosen_by, "texts": selection.texts, "tokens": tokens, "tokens_before": before}
    earlier = facts.get("trimmed")
    write_json(target / FACTS, {**facts, "trimmed": [*(earlier if isinstance(earlier, list) else []), trimmed]})
    if not (Path(source) / CARD).is_file():
        return
    card = read_text(Path(source) / CARD)
    texts = markdown.plain("; ".join(f"{kind}: {', '.join(names)}" for kind, names in chosen_by.items()))
    note = (
        f"**Trimmed** from {markdown.code(name)} to the vocabulary of {selection.texts:,} texts ({texts}): {tokens:,} "
        f"of {before:,} tokens. Scores given here are those of the whole vocabulary."
    )
    # Above the first section, which the scores are where there are any.
    place = card.find("\n## ") + 1 or len(card)
    write_text(target / CARD, f"{card[:place].rstrip()}\n\n{note}\n\n{card[place:]}")


def main(arguments: Sequence[str]) -> int:
    """Trim a folder and say what is left of it.

    Args:
        arguments: The words after `ernie-m trim`.
    """
    parser = argparse.ArgumentParser(prog="ernie-m trim", description="Keep the vocabulary of some languages alone.")
    parser.add_argument("source", help="run folder, exported folder, Hub id or short name of an ERNIE-M")
    parser.add_argument("target", type=Path, help="the folder to make")
    parser.add_argument("--text", type=Path, nargs="+", default=[], help="UTF-8 files, one text a line (.gz too)")
    parser.add_argument("--languages", nargs="+", default=[], help="languages of the data in the source's recipe")
    options = parser.parse_args(arguments)
    if not options.text and not options.languages:
        raise InputError("trim needs texts to choose a vocabulary by: --text FILE..., or --languages of the run's data")
    source = options.source
    if (Path(source) / CONFIG).is_file():
        source = str(export_of(Path(source)))
    texts = chain(texts_in(source, options.languages) if options.languages else (), lines_of(options.text))
    chosen_by = {"languages": options.languages, "files": [path.name for path in options.text]}
    kept = trim(source, options.target, texts, {kind: names for kind, names in chosen_by.items() if names})
    before = read_json(options.target / FACTS)["trimmed"][-1]["tokens_before"]
    print(f"{len(kept.ids):,} of {before:,} tokens kept, by {kept.texts:,} texts ({kept.unknown:,} tokens unknown)")
    print(f"written to {options.target}")
    return 0
