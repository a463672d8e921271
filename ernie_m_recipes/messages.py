"""Turns exceptions that stand for a user's mistake into one clear message."""

import errno
import re
from typing import TypeVar

from ernie_m.errors import InputError

FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
UNREACHABLE = re.compile(
    r"couldn't connect to|couldn't reach|connection error|offline mode|max retries exceeded|name resolution|"
    r"cannot find the requested files in the (disk|local) cache|outgoing traffic has been disabled",
    re.IGNORECASE,
)
NO_SUCH_REPOSITORY = re.compile(
    r"is not a local folder and is not a valid model identifier|repository not found", re.IGNORECASE
)
Kind = TypeVar("Kind", bound=BaseException)
OURS = ("ernie_m", "ernie_m_recipes", "datamodules", "lightning_modules")
FROM_A_FOLDER = (
    "To work without the Hub, download the files elsewhere and name their folders: --model.backbone FOLDER for the "
    "weights and the tokenizer, --data.path FOLDER for the data"
)


def chain(error: BaseException) -> list[BaseException]:
    """Return an exception and what it came from, outermost first."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def found_in(error: BaseException, kind: type[Kind]) -> Kind | None:
    """Return what a class raised while it was built, if that is what an exception is about and it is of a kind.

    Args:
        error: What came of it: jsonargparse wraps it in a message about the types that it tried.
        kind: The kind of exception.
    """
    if isinstance(error, kind):
        return error
    is_wrapped = "Does not validate" in str(error)
    return next((link for link in chain(error) if isinstance(link, kind)), None) if is_wrapped else None


def explain(error: BaseException) -> str | None:
    """Return the message for a mistake of the user's, or None where the error is the program's own.

    Args:
        error: What was raised.
    """
    if (refused := found_in(error, InputError)) is not None:
        return str(refused)
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return f"the disk is full: {error}. Free some space or set another --run.directory; what was there is untouched"
    text = str(error)
    if isinstance(error, RuntimeError) and "Error(s) in loading state_dict" in text:
        return misfit(text)
    if type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: can't allocate memory" in text:
        return (
            f"out of memory: {first_line(text)}. Lower --data.eval_tokens_per_batch in evaluation; in training "
            "--data.micro_batch_tokens where the data have it, or set --model.gradient_checkpointing true"
        )
    absent = found_in(error, ModuleNotFoundError)
    if absent is not None and str(absent.name).partition(".")[0] not in OURS:
        reason = first_line(str(absent))
        return f"these settings need a package that is not installed: {reason}. Install it, or change them"
    if type(error).__name__ == "MisconfigurationException":
        return f"Lightning refuses these settings: {text.strip()}"
    kinds = {type(link).__name__ for link in chain(error)}
    if isinstance(error, (OSError, ConnectionError)) or "HfHubHTTPError" in kinds or "LocalEntryNotFoundError" in kinds:
        if any(UNREACHABLE.search(str(link)) for link in chain(error)):
            return f"the Hugging Face Hub cannot be reached: {first_line(text)}. {FROM_A_FOLDER}"
        if NO_SUCH_REPOSITORY.search(text):
            return f"neither a folder nor a model on the Hub: {first_line(text)}. Check the spelling, or name a folder"
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"there is no file {error.filename}"
    if isinstance(error, PermissionError) and error.filename is not None:
        return f"no permission to use {error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"no name of a file or folder is that long: {str(error.filename)[:60]}..."
    if isinstance(error, RuntimeError) and "determine home directory" in text:
        return "a path in the settings begins with ~ and a name that no user of this machine has; correct it"
    if isinstance(error, ValueError) and "embedded null" in text:
        return "a name of a file or folder in the settings holds a NUL byte; correct it"
    if any(isinstance(link, RecursionError) for link in chain(error)):
        return "settings or files are nested too deeply to be read"
    return None


def misfit(text: str) -> str:
    """Shorten torch's list of the tensors that do not fit."""
    lines = [line.strip() for line in text.splitlines()[1:] if line.strip()]
    shown = [line if len(line) < 300 else f"{line[:300]} ..." for line in lines[:4]]
    more = f" (and {len(lines) - 4} more)" if len(lines) > 4 else ""
    return (
        "the checkpoint does not fit the recipe's network: "
        + "; ".join(shown)
        + more
        + ". Use the recipe that made it (config.yaml in its run folder), or --model.init_from for weights alone"
    )


def first_line(text: str) -> str:
    """Return the first line without its final stop."""
    return text.strip().splitlines()[0].rstrip(".") if text.strip() else "no details"
