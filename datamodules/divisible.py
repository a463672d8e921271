"""Data modules that can make validation and test data of a part of the training file."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ernie_m.errors import InputError

from .base import TaskDataModule
from .shares import checked_shares, divided
from .sources import Source
from .splits import Split

if TYPE_CHECKING:
    from datasets import Dataset

    from .sources import Reference


class Divisible(TaskDataModule):
    """A data module for which one file is enough.

    Args:
        validation_share: Share of a language's training file that is validation data, where it has no file of that
            split. The labels keep their proportions; what an example belongs to depends on `split_seed` alone.
        test_share: The same for the test.
        split_seed: Of that division; the same for runs of several seeds, so that they can be compared.
        args: What `TaskDataModule` takes, as `kwargs`.
        kwargs: See `args`.
    """

    def __init__(
        self,
        *args: Any,
        validation_share: float = 0.0,
        test_share: float = 0.0,
        split_seed: int = 1,
        **kwargs: Any,
    ) -> None:
        # Needed as soon as files are.
        self._shares = checked_shares(validation_share, test_share)
        super().__init__(*args, **kwargs)
        self.split_seed = split_seed

    def _use(self, files: Mapping[Split, "Mapping[str, Reference | Dataset] | None"]) -> None:
        train = files.get(Split.TRAIN) or {}
        self._divided = {
            split: {name: train[name] for name in train if name not in (files.get(split) or {})}
            for split in self._shares
        }
        super()._use({**files, **{split: {**(files.get(split) or {}), **own} for split, own in self._divided.items()}})

    def source(self, split: str, language: str, download: bool) -> Source:
        """The training file, where the split is a part of it."""
        is_part = language in self._divided.get(Split(split), {})
        return super().source(Split.TRAIN if is_part else split, language, download)

    def part(
        self, split: str, language: str, division: Callable[[], tuple[NDArray[np.int64], NDArray[np.int64] | None]]
    ) -> NDArray[np.int64] | None:
        """Which examples of a file that is divided belong to a split.

        Args:
            split: The split.
            language: The language.
            division: Gives a number for each example, of which all parts have the same proportions; and one that
                examples share which stay in one part, None where each is by itself.

        Returns:
            Their numbers, ascending; None for all.

        Raises:
            InputError: A part has no examples.
        """
        shares = self._shares_of(language)
        if split not in (Split.TRAIN, *shares) or not shares:
            return None
        strata, groups = division()
        found = divided(strata, groups, shares, self.split_seed)
        if empty := [part for part in shares if not len(found[part])]:
            raise InputError(
                f"{empty[0]}_share {shares[empty[0]]:g} of {len(strata):,} rows of '{language}' is none of them: raise"
                f" it, name {empty[0]}_files, or set it to 0."
            )
        if split in found:
            return found[Split(split)]
        return np.setdiff1d(np.arange(len(strata)), np.concatenate(list(found.values())))

    def settings_of_part(self, split: str, language: str) -> dict[str, Any]:
        """What rows depend on that are divided as they are read, for `settings`; nothing where they are not."""
        shares = self._shares_of(language)
        if split not in (Split.TRAIN, *shares) or not shares:
            return {}
        return {"part": [str(split), {str(part): share for part, share in shares.items()}, self.split_seed]}

    def _shares_of(self, language: str) -> dict[Split, float]:
        return {part: share for part, share in self._shares.items() if language in self._divided[part]}
