"""SQuAD v1.1 (Rajpurkar et al., 2016), which models are trained on that are tested on other questions."""

from pathlib import Path

from .sources import Source, find_source
from .splits import Split


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
