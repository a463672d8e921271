"""Notices when another project's package of the same name stands in the way; imported before anything else."""

from importlib.util import find_spec
from pathlib import Path


def check_not_shadowed() -> None:
    """Refuses to go on where `lightning_modules` would come from elsewhere than this package.

    Both names are generic, and a second distribution or a folder in the working directory that has one of them takes
    its place without a word.

    Raises:
        ImportError: The two packages do not lie side by side.
    """
    here = Path(__file__).resolve().parents[1]
    spec = find_spec("lightning_modules")
    locations = list(spec.submodule_search_locations or ()) if spec is not None else []
    if locations and here not in {Path(location).resolve().parent for location in locations}:
        raise ImportError(
            f"datamodules comes from {here}, but lightning_modules from {Path(locations[0]).resolve().parent}: another"
            " project's package of that name is in the way. Run from a directory without it, or use an environment of"
            " its own for ernie-m-recipes."
        )


check_not_shadowed()
