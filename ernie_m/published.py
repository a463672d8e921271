"""Finding published checkpoints and their tokenizers by name."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from .errors import InputError
from .files import check_links
from .tokenization import ErnieMTokenizer
from .vocabulary import VOCAB_FILES_NAMES

PUBLISHED = {
    "ernie-m-base": "susnato/ernie-m-base_pytorch",
    "ernie-m-large": "susnato/ernie-m-large_pytorch",
}

_WEIGHTS = (".safetensors", ".bin", ".pdparams", ".ckpt")
# Settings of a tokenizer that the library below takes for a file where they are texts.
_FILES_BY_TEXT = ("vocab", "merges")
# Either tells transformers which class of tokenizer a folder holds.
_TELLING = ("config.json", "tokenizer_config.json")


def resolve(name: str) -> str:
    """Return the Hub id behind a short name; a folder or any other Hub id comes back unchanged.

    Args:
        name: A key of `PUBLISHED`, a local folder or a Hub id.

    Raises:
        InputError: The folder has links that lead out of it, other than to weights.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        check_links(folder, _WEIGHTS)
    return PUBLISHED.get(name, name)


def load_tokenizer(name: str, trust_remote_code: bool = False, **options: Any) -> PreTrainedTokenizerBase:
    """Load a backbone's tokenizer, of whatever family.

    A folder that holds ERNIE-M's two files and nothing that names a class is taken for ERNIE-M's.

    Args:
        name: A key of `PUBLISHED`, a local folder or a Hub id.
        trust_remote_code: Whether to run tokenizer code that the folder or repository carries.
        **options: Arguments of the tokenizer, in place of those that it was saved with.

    Raises:
        InputError: If there is no tokenizer under the name.
    """
    source = resolve(name)
    folder = Path(source)
    try:
        if all((folder / file).is_file() for file in VOCAB_FILES_NAMES.values()) and not any(
            (folder / file).exists() for file in _TELLING
        ):
            tokenizer: PreTrainedTokenizerBase = ErnieMTokenizer.from_pretrained(folder, **options)
        else:
            settings = get_tokenizer_config(source)
            if named := [key for key in _FILES_BY_TEXT if isinstance(settings.get(key), str)]:
                raise InputError(
                    f"tokenizer_config.json of {name!r} has a text for {named[0]}, which would be read as the path of "
                    "a file anywhere; take it out, the vocabulary lies beside it"
                )
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code, **options)
        if not isinstance(tokenizer, PreTrainedTokenizerBase) or not isinstance(
            tokenizer.model_max_length, int | float
        ):
            raise InputError(f"{name!r} holds a {type(tokenizer).__name__}, not a tokenizer with a length.")
    except InputError:
        raise
    except Exception as error:  # transformers raises anything for files that it did not write
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"no tokenizer can be loaded from {name!r}: {reason} Give a folder with the tokenizer's files, or a Hub id "
            "that can be reached; with HF_HUB_OFFLINE=1 only what the Hub's cache holds can be"
        ) from error
    return tokenizer
