"""Progress of long work: a bar with rate and time left on a terminal, two plain log lines elsewhere."""

import logging
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

logger = logging.getLogger(__name__)


class _Rate(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} rows/s")


def in_chunks(what: str, rows: int, chunk: int) -> Iterator[tuple[int, int]]:
    """Walks through rows in chunks and says how far it got.

    Args:
        what: What is being done, in two words.
        rows: How many rows there are.
        chunk: Rows at once.

    Yields:
        Start and number of rows of each chunk.
    """
    console = Console(stderr=True)
    shown = console.is_terminal and rows > 4 * chunk
    began = time.monotonic()
    if rows > 4 * chunk and not shown:
        logger.info("%s: %s rows", what, f"{rows:,}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not shown) as progress:
        task = progress.add_task(what, total=rows)
        for start in range(0, rows, chunk):
            count = min(chunk, rows - start)
            yield start, count
            progress.advance(task, count)
    seconds = time.monotonic() - began
    logger.info("%s: %s rows in %.1f s", what, f"{rows:,}", seconds)
