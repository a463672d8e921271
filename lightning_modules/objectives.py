"""Which objective of a pre-training each row of a batch is given."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ernie_m.errors import InputError

from .networks import Batch

# There are some seven thousand.
_MOST_LANGUAGES = 10_000

OF_TEXTS = ("mmlm", "btmlm")
OF_PAIRS = ("tlm", "camlm", "xlco")


def check_data(
    shares: Mapping[str, float],
    trained: Sequence[str],
    languages: Sequence[str],
    pseudo_languages: Sequence[str] | None,
) -> None:
    """Refuse data that do not fit the objectives.

    Args:
        shares: Objective to its share of the rows of its kind.
        trained: The languages of the training data's texts and pairs.
        languages: All languages of tokens.
        pseudo_languages: Those that btmlm makes tokens of; None for all.

    Raises:
        InputError: There are no texts, or no pairs, for an objective; no objective for them; or no language for btmlm.
    """
    texts = [name for name in trained if len(languages_of(name)) == 1]
    for kind, names, count in (("texts", OF_TEXTS, len(texts)), ("pairs", OF_PAIRS, len(trained) - len(texts))):
        wanted = [name for name in names if name in shares]
        if count and not wanted:
            raise InputError(f"the data have {kind}, but shares names none of {', '.join(names)}, which train them")
        if wanted and not count:
            remedy = "train_files" if kind == "texts" else "train_pairs"
            raise InputError(f"shares has {wanted[0]}, which needs {kind}; name some with data.{remedy}")
    if unknown := [name for name in pseudo_languages or () if name not in languages]:
        raise InputError(f"pseudo_languages names {unknown[0]!r}; the data have {', '.join(languages)}")
    for name in texts if "btmlm" in shares else ():
        if not set(pseudo_languages or languages) - {name}:
            raise InputError(
                f"btmlm makes tokens of another language than a text's own, and there is none beside {name!r}; name "
                "some with pseudo_languages, or give the texts to mmlm alone"
            )


def check_room(longest: int, separators: int, ratio: float, limit: int) -> None:
    """Refuse texts behind which pseudo tokens have no room.

    Args:
        longest: Tokens of a text at most, special ones included.
        separators: How many separators stand between the sentences of a pair.
        ratio: Pseudo tokens for each token of a text.
        limit: Tokens that the network takes.

    Raises:
        InputError: They have none.
    """
    needed = longest + separators + max(1, round((longest - 2) * ratio))
    if needed > limit:
        raise InputError(
            f"a text of data.max_length {longest} and {ratio} pseudo tokens for each of its own take {needed} tokens; "
            f"the network has {limit}. Lower data.max_length or model.pseudo_tokens"
        )


def stored_languages(checkpoint: Mapping[str, Any]) -> list[str]:
    """Return the languages that a checkpoint has embeddings of.

    Args:
        checkpoint: The content of the file.

    Raises:
        InputError: They are no list of some names.
    """
    found = checkpoint.get("languages", [])
    if not isinstance(found, list) or len(found) > _MOST_LANGUAGES or not all(isinstance(name, str) for name in found):
        raise InputError("the checkpoint is damaged: its languages are no list of names")
    return found


def languages_of(name: str) -> list[str]:
    """Return the language of a text, or both of a pair.

    Args:
        name: One of the data module's languages: "de", or "en-de" for pairs.
    """
    return name.split("-")


def check_shares(shares: Mapping[str, float], weights: Mapping[str, float]) -> None:
    """Refuse shares and weights of losses that cannot be meant.

    Args:
        shares: Objective to its share of the rows of its kind.
        weights: Objective to what its loss is multiplied with.

    Raises:
        InputError: An objective is unknown, a number is negative, or the shares of a kind do not sum to 1.
    """
    known = (*OF_TEXTS, *OF_PAIRS)
    for option, values in (("shares", shares), ("loss_weights", weights)):
        if unknown := [name for name in values if name not in known]:
            raise InputError(f"{option} names {unknown[0]!r}; the objectives are {', '.join(known)}")
        if any(value < 0 for value in values.values()):
            raise InputError(f"{option} is {dict(values)}; none may be negative")
    for kind, names in (("texts", OF_TEXTS), ("pairs", OF_PAIRS)):
        own = {name: shares[name] for name in names if name in shares}
        if own and abs(sum(own.values()) - 1) > 1e-6:
            raise InputError(f"shares gives the {kind} {own}, which sum to {sum(own.values())}; they must sum to 1")
    if not any(shares.values()):
        raise InputError(f"shares is {dict(shares)}; give at least one of {', '.join(known)} a share")


def is_target(batch: Batch) -> Tensor:
    """Return which tokens belong to a row's second sentence. (batch, length) bool."""
    places = torch.arange(batch["input_ids"].shape[1], device=batch["input_ids"].device)
    return places >= batch["target_start"][:, None]


def _rows(batch: Batch, chosen: Tensor) -> Batch:
    """Return some rows of a batch, without the padding that none of them needs."""
    part = {key: values[chosen] if values.ndim else values for key, values in batch.items()}
    length = int(part["attention_mask"].sum(dim=1).max())
    return {key: values[:, :length] if values.ndim == 2 else values for key, values in part.items()}


def shared_out(
    batch: Batch, rows: Tensor, place: Tensor, shares: Mapping[str, float], everywhere: bool
) -> Iterator[tuple[str, Batch, Tensor]]:
    """Yield the objectives that rows of a batch are given, with these rows and their draws.

    Args:
        batch: Texts and pairs.
        rows: A draw for each row. (batch,) int64
        place: A number from 0 to below 1 for each row, which says among its kind's objectives where it falls. (batch,)
        shares: Objective to its share of the rows of its kind.
        everywhere: Whether an objective without rows gets one of weight 0: several processes must each come by every
            parameter, and by what they do together.
    """
    is_pair = batch["target_start"] < batch["attention_mask"].sum(dim=1)
    for kind, of_kind in ((OF_TEXTS, ~is_pair), (OF_PAIRS, is_pair)):
        own = [name for name in kind if name in shares]
        end = 0.0
        for name in own:
            start, end = end, end + shares[name] if name != own[-1] else 1.0
            chosen = of_kind & (place >= start) & (place < end)
            if bool(chosen.any()):
                yield name, _rows(batch, chosen), rows[chosen]
            elif everywhere:
                first = torch.arange(len(chosen), device=chosen.device) == 0
                yield name, _rows(batch | {"weights": torch.zeros_like(batch["weights"])}, first), rows[:1]
