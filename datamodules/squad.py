"""SQuAD v1.1 (Rajpurkar et al., 2016), which models are trained on that are tested on other questions."""

from collections.abc import Sequence
from pathlib import Path

from ernie_m.errors import InputError

from .sources import Source, find_source
from .splits import Split

TRANSLATED = "squad.translate.train.en-{language}.json"
"""What XTREME calls SQuAD's training questions, translated by machine."""


def train_files(languages: Sequence[str], path: str, translations: str | None) -> dict[str, str]:
    """What each language is trained on: the first one on SQuAD, the others on its translations.

    Args:
        languages: The languages to train on.
        path: SQuAD.
        translations: The folder of its translations; None where there is none.

    Raises:
        InputError: There are none, or several without a folder of translations.
    """
    if not languages or (len(languages) > 1 and translations is None):
        raise InputError(
            f"train_languages is {list(languages)}; train_path is in one language, and the others need the folder of"
            " their translations: translations_path."
        )
    first, *others = languages
    return {first: path, **{language: TRANSLATED.format(language=language) for language in others}}


def find_squad(path: str, revision: str | None, download: bool) -> Source:
    """Finds its training questions.

    Args:
        path: A Hub id, a folder of its layout (`plain_text/train-*.parquet`), or a file in SQuAD's JSON.
        revision: Branch, tag or commit on the Hub.
        download: Whether to ask the Hub; False to use what another process downloaded.

    Raises:
        InputError: There is nothing of that name, or the Hub cannot be reached.
    """
    if Path(path).expanduser().is_file():
        return find_source(None, path, None, download, Split.TRAIN)
    return find_source(path, "plain_text/train-*.parquet", revision, download, Split.TRAIN)


def find_translated(folder: str | None, file: str) -> Source:
    """Finds training questions that XTREME translated by machine.

    Args:
        folder: What `translations_path` names.
        file: The file in it.

    Raises:
        InputError: It is no folder, or there is no such file in it.
    """
    if folder is None or not Path(folder).expanduser().is_dir():
        raise InputError(
            f"translations_path is {folder!r}, which is no folder here. XTREME's translations are not on the Hub: fetch"
            f" {file} and the others from its storage, and set translations_path to their folder."
        )
    return find_source(folder, file, None, False, Split.TRAIN)
