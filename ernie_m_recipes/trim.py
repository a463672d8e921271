"""`ernie-m trim`: a folder for transformers with the vocabulary of some languages alone."""

import argparse
import gzip
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import ernie_m
from ernie_m.errors import InputError
from ernie_m.trimming import Selection, select, trim_network, trim_tokenizer
from lightning_modules import networks

from .export import FACTS, save
from .targets import RECIPE


def lines_of(paths: Sequence[Path]) -> Iterator[str]:
    """Read texts, one a line.

    Args:
        paths: UTF-8 files, plain or gzipped.

    Raises:
        InputError: A file is missing or not UTF-8.
    """
    for path in paths:
        opened = gzip.open if path.suffix == ".gz" else open
        try:
            with opened(path, "rt", encoding="utf-8") as lines:
                yield from (line.rstrip("\n") for line in lines if line.strip())
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text: {error}; convert it first") from error
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def trim(source: str, target: Path, texts: Sequence[Path]) -> Selection:
    """Write a folder whose vocabulary is that of some texts, whole or not at all.

    Args:
        source: Short name, folder or Hub id of an ERNIE-M.
        target: The folder to make.
        texts: Files with texts in the languages that are to stay, one a line.

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
    selection = select(tokenizer, lines_of(texts))
    name = (config.architectures or ["ErnieMModel"])[0]
    network_class = getattr(ernie_m, name, None)
    if network_class is None:
        raise InputError(f"config.json of {source!r} names the architecture {name}, which this package does not have")
    network = network_class.from_pretrained(ernie_m.resolve(source))
    trim_network(network, selection)
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        save(network, trim_tokenizer(tokenizer, selection, partial), partial)
        for extra in (RECIPE, FACTS, "README.md"):
            if (Path(source) / extra).is_file():
                shutil.copyfile(Path(source) / extra, partial / extra)
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return selection


def main(arguments: Sequence[str]) -> int:
    """Trim a folder and say what is left of it.

    Args:
        arguments: The words after `ernie-m trim`.
    """
    parser = argparse.ArgumentParser(prog="ernie-m trim", description="Keep the vocabulary of some languages alone.")
    parser.add_argument("source", help="exported folder, Hub id or short name of an ERNIE-M")
    parser.add_argument("target", type=Path, help="the folder to make")
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="UTF-8 files, one text a line (.gz too)")
    options = parser.parse_args(arguments)
    before = len(ernie_m.load_tokenizer(options.source))
    kept = trim(options.source, options.target, options.text)
    print(f"{len(kept.ids):,} of {before:,} tokens kept, by {kept.texts:,} texts ({kept.unknown:,} tokens unknown)")
    print(f"written to {options.target}")
    return 0
