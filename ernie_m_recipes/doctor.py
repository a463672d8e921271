"""`ernie-m doctor`: what a run finds here: versions, devices and what they compute in, memory, disk, caches, extras."""

import argparse
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import Requirement

from ernie_m.files import default_cache_dir

from . import record
from .devices import cpu_has_bf16
from .lines import one_line

PACKAGE = "ernie-m-recipes"
# What the tests and the lint need, nobody else does.
_OF_DEVELOPERS = ("test", "lint")
_GIGABYTE = 1e9


def main(arguments: Sequence[str]) -> int:
    """Print what is here, what is missing and how to get it.

    Args:
        arguments: Behind `ernie-m doctor`.

    Returns:
        The exit code: 2 where a package that is needed is missing, or has a version that is not taken.
    """
    argparse.ArgumentParser(
        "ernie-m doctor", description="Say what a run finds here: versions, devices, memory, disk, caches, extras."
    ).parse_args(arguments)
    problems = list(wrong_versions())
    sections = {
        "versions": versions(),
        "devices": devices(),
        "places": places(),
        "extras": extras(),
        "problems": iter(problems or [("none", "")]),
    }
    for title, lines in sections.items():
        print(title)
        for name, said in lines:
            print(one_line(f"  {name:18} {said}").rstrip())
    return 2 if problems else 0


def versions() -> Iterator[tuple[str, str]]:
    """Yield the packages that a result depends on, and their versions."""
    yield from record.versions().items()
    commit = record.commit()
    if commit is not None:
        yield "commit", f"{commit['id'][:12]}{', changed' if commit['changed'] else ''}"


def devices() -> Iterator[tuple[str, str]]:
    """Yield the processor and the GPUs, and whether 16 bits pay there."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    pays = "bf16-mixed pays" if cpu_has_bf16() else "bf16-mixed falls back to 32-true"
    yield "CPU", f"{platform.machine()}, {usable} processors, {memory / _GIGABYTE:.0f} GB of memory; {pays}"
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        pays = "bf16-mixed pays" if has_bf16 else "take --config trainer/fp16"
        yield f"GPU {number}", f"{properties.name}, {properties.total_memory / _GIGABYTE:.0f} GB; {pays}"
    if not torch.cuda.device_count():
        yield "GPU", f"none that this torch sees (it was built {built_for()})"


def built_for() -> str:
    """Say for which GPUs torch was built."""
    if torch.version.cuda:
        return f"for CUDA {torch.version.cuda}"
    return f"for ROCm {torch.version.hip}" if torch.version.hip else "for none"


def places() -> Iterator[tuple[str, str]]:
    """Yield where things are kept, and what room there is."""
    from datasets import config
    from huggingface_hub import constants

    for name, place in (
        ("runs", Path("runs")),
        ("own cache", default_cache_dir()),
        ("Hub's cache", Path(constants.HF_HUB_CACHE)),
        ("data sets' cache", Path(config.HF_DATASETS_CACHE)),
    ):
        there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
        can = "" if os.access(there, os.W_OK) else "; not to be written to"
        yield name, f"{place.absolute()}, {shutil.disk_usage(there).free / _GIGABYTE:.0f} GB free{can}"
    yield (
        "Hub",
        "not asked: HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "asked for what is not in its cache",
    )


def requirements() -> Iterator[tuple[str, Requirement]]:
    """Yield what the package requires, with the extra that it belongs to or an empty text."""
    names = metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    for line in metadata.requires(PACKAGE) or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            yield "", requirement
        else:
            yield from ((name, requirement) for name in names if marker.evaluate({"extra": name}))


def installed(requirement: Requirement) -> str | None:
    """Return the version of a package, None where there is none."""
    try:
        return metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return None


def wrong_versions() -> Iterator[tuple[str, str]]:
    """Yield the packages that are missing, or have a version that was not tested and is not taken."""
    for extra, requirement in requirements():
        version = installed(requirement)
        is_wrong = version is not None and not requirement.specifier.contains(version, prereleases=True)
        if is_wrong or (version is None and not extra):
            yield (
                requirement.name,
                f"{version or 'missing'}, but {requirement.specifier} is needed: pip install {PACKAGE}",
            )


def extras() -> Iterator[tuple[str, str]]:
    """Yield the extras, and the command that installs what is missing of them."""
    found: dict[str, list[Requirement]] = {}
    for extra, requirement in requirements():
        if extra and extra not in _OF_DEVELOPERS:
            found.setdefault(extra, []).append(requirement)
    for extra, wanted in sorted(found.items()):
        missing = [requirement.name for requirement in wanted if installed(requirement) is None]
        yield extra, f"{', '.join(missing)} missing: pip install '{PACKAGE}[{extra}]'" if missing else "installed"
