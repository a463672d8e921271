"""What a network was made of, and under which licence that is: from the backbone's own model card."""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import ernie_m
from ernie_m.errors import InputError

from .compat import without_the_hub
from .documents import read_front_matter

UNKNOWN = "unknown"
"""The Hub's own word for it."""

# A licence's identifier, and a repository's: what else a card may say is not taken along.
_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.\-]{0,39}")
_REPOSITORY = re.compile(r"[\w.\-]{1,96}/[\w.\-]{1,96}", re.ASCII)


class Base(NamedTuple):
    """What a backbone's card says.

    Attributes:
        license: The identifier of its licence; `UNKNOWN` where the card, or the licence, is not there.
        base_model: Its id on the Hub, or that of what it was made of; None where there is none.
        revision: The commit of it that was read; None of a folder.
    """

    license: str
    base_model: str | None
    revision: str | None = None


def base_of(backbone: str) -> Base:
    """Look up the card of a backbone, where it is here.

    Args:
        backbone: Short name, folder or Hub id.
    """
    source = ernie_m.PUBLISHED.get(backbone, backbone)
    is_folder = backbone == ernie_m.BUNDLED or Path(source).expanduser().is_dir()
    front: Mapping[str, Any] = {}
    revision = None
    # A card that is not here, or cannot be read, says nothing.
    with suppress(InputError):
        with without_the_hub():
            folder = Path(ernie_m.resolve(backbone, weights=False))
        revision = None if is_folder else folder.name
        if (card := folder / "README.md").is_file():
            front = read_front_matter(card)
    found = checked(front.get("license"), front.get("base_model") if is_folder else source)
    return found._replace(revision=revision)


def checked(license: Any, base_model: Any) -> Base:
    """Return what a card, or a record, says, where it is of the kind that it should be.

    Args:
        license: What stands for the licence.
        base_model: What stands for the repository.
    """
    is_licence = isinstance(license, str) and _IDENTIFIER.fullmatch(license)
    is_repository = isinstance(base_model, str) and _REPOSITORY.fullmatch(base_model)
    return Base(license if is_licence else UNKNOWN, base_model if is_repository else None)


def network_facts(task: Any) -> dict[str, Any]:
    """Return what run.json says of a task's network: its family, its weights, and the base that it was made of.

    Args:
        task: The task; one of the user's own may have neither network nor backbone.
    """
    network = getattr(task, "network", None)
    facts: dict[str, Any] = {}
    if network is not None:
        facts = {"family": network.config.model_type, "weights": sum(part.numel() for part in network.parameters())}
    source = getattr(task, "source", None)
    if source is not None and source.from_scratch is None:
        facts |= base_of(source.backbone)._asdict()
    return facts
