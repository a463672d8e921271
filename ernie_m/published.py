"""Finding published checkpoints, the one that comes with the package, and their tokenizers by name."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase, dynamic_module_utils
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, get_tokenizer_config

from .configuration import FAMILIES, check_family, check_fields
from .errors import InputError
from .files import default_cache_dir
from .hub import WEIGHTS, folder_of
from .packed import unpacked
from .tokenization import ErnieMTokenizer
from .vocabulary import VOCAB_FILES_NAMES

PUBLISHED = {
    "ernie-m-base": "susnato/ernie-m-base_pytorch",
    "ernie-m-large": "susnato/ernie-m-large_pytorch",
}
BUNDLED = "ernie-m-mini"
"""The short name of the checkpoint that comes with the package; `ernie_m/mini/README.md` says what it is."""

_BUNDLED_FOLDER = Path(__file__).resolve().parent / "mini"
_BUNDLED_DIGEST = "48df129fd25d39abfba42cba405131bcbb51638575d82c52ee9e1c73c3a3e44a"

# Settings of a tokenizer that name files, anywhere, for the library below; the first two where they are texts.
_FILES_BY_TEXT = ("vocab", "merges")
_FILES = ("init_inputs", "gguf_file", "tokenizer_object", "fast_tokenizer_files")
# What is part of a tokenizer and a setting of it too.
_SETTINGS = (
    "added_tokens_decoder", "backend", "chat_control_tokens", "chat_template", "clean_up_tokenization_spaces",
    "do_lower_case", "model_input_names", "model_max_length", "name_or_path", "pad_token_type_id", "padding_side",
    "response_template", "special_tokens_pattern", "split_special_tokens", "token_type_ids_include_special_tokens",
    "token_type_ids_pattern", "truncation_side", "verbose",
)  # fmt: skip
_ADAPTER = "adapter_config.json"
_SPECIAL_TOKENS = "special_tokens_map.json"
# A pair in letters that everybody has, and one that nobody has.
_PROBES = ["a b", "a b"], ["c d", "\U000f0000"]
_PROBE_LENGTH = 16
# Either tells transformers which class of tokenizer a folder holds.
_TELLING = ("config.json", "tokenizer_config.json")


def resolve(name: str, weights: bool = True) -> str:
    """Return the folder behind a name, which is fetched where it is here not yet.

    The bundled checkpoint is unpacked into the user's cache when it is first asked for, 160 MB. Of a repository on the
    Hub one commit is fetched into the Hub's cache, so that whatever is checked of a folder is checked of it too.

    Args:
        name: A key of `PUBLISHED`, `BUNDLED`, a local folder or a Hub id.
        weights: Whether the weights of a repository are wanted too.

    Raises:
        InputError: There is no such folder here or on the Hub, or it has links that lead out of it; or the bundled
            checkpoint is damaged or cannot be unpacked.
    """
    if name == BUNDLED:
        target = default_cache_dir() / f"{BUNDLED}-{_BUNDLED_DIGEST[:12]}"
        return str(unpacked(_BUNDLED_FOLDER, _BUNDLED_DIGEST, target))
    return str(folder_of(PUBLISHED.get(name, name), WEIGHTS if weights else ()))


@contextmanager
def refusing_code() -> Iterator[None]:
    """Let transformers refuse code that a folder carries where it would ask at the terminal whether to run it.

    Some of its ways lose `trust_remote_code=False` and ask; a time-out of 0 is what its own tests refuse by.
    """
    before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = before


@refusing_code()
def load_tokenizer(name: str, trust_remote_code: bool = False, **options: Any) -> PreTrainedTokenizerBase:
    """Load a backbone's tokenizer, of whatever family.

    A folder that holds ERNIE-M's two files and nothing that names a class is taken for ERNIE-M's.

    Args:
        name: A key of `PUBLISHED`, `BUNDLED`, a local folder or a Hub id.
        trust_remote_code: Whether to run tokenizer code that the folder or repository carries.
        **options: Arguments of the tokenizer, in place of those that it was saved with.

    Raises:
        InputError: If there is no tokenizer under the name.
    """
    folder = Path(resolve(name, weights=False))
    try:
        _check_special_tokens(folder, name)
        if all((folder / file).is_file() for file in VOCAB_FILES_NAMES.values()) and not any(
            (folder / file).exists() for file in _TELLING
        ):
            tokenizer: PreTrainedTokenizerBase = ErnieMTokenizer.from_pretrained(folder, **options)
        else:
            _check_settings(folder, name, trust_remote_code)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, **options)
            _check_keys(get_tokenizer_config(folder), tokenizer, name)
        _try_out(tokenizer, name)
    except (InputError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # transformers and tokenizers raise anything for files that they did not write
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"no tokenizer can be loaded from {name!r}: {reason} Give a folder with the tokenizer's files, or the Hub "
            "id of a repository that has them"
        ) from error
    return tokenizer


def check_config(folder: Path, name: str, trusted: bool = False) -> None:
    """Refuse a config.json that is no JSON, has numbers that are none, asks for more than can be built, or an adapter.

    Args:
        folder: The folder.
        name: What it was called.
        trusted: Whether its code may run, and so any family of networks be it.

    Raises:
        InputError: There is such a config.json.
    """
    path = folder / _TELLING[0]
    if not path.is_file():
        return
    if (folder / _ADAPTER).is_file():
        raise InputError(
            f"{name!r} has an {_ADAPTER}: an adapter of peft's, which would be loaded, and what it names. "
            "Merge it into its network with peft's merge_and_unload, or take it out of the folder"
        )

    def refuse(constant: str) -> None:
        raise InputError(f"config.json of {name!r} holds {constant}, which is no number")

    try:
        fields = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"config.json of {name!r} is not JSON: {error}; take it from the checkpoint again") from error
    if not isinstance(fields, dict):
        raise InputError(f"config.json of {name!r} holds a {type(fields).__name__}, not the fields of a network")
    check_fields(fields, f"config.json of {name!r}")
    # As transformers reads it, which fills in a family where there is none.
    filled, _ = PreTrainedConfig.get_config_dict(folder)
    if not trusted and (family := filled.get("model_type")) is not None:
        check_family(family, f"config.json of {name!r}")


def _try_out(tokenizer: Any, name: str) -> None:
    """Tokenise a text, since transformers takes settings of any kind and fails by them when they are first used.

    Raises:
        InputError: It is no tokenizer, or does not give rows of ids.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or not isinstance(tokenizer.model_max_length, int | float):
        raise InputError(f"{name!r} holds a {type(tokenizer).__name__}, not a tokenizer with a length.")
    kinds = tokenizer.model_input_names
    if not isinstance(kinds, list | tuple) or "input_ids" not in kinds:
        raise InputError(f"tokenizer_config.json of {name!r} has model_input_names {kinds!r}, without 'input_ids'.")
    rows = tokenizer(*_PROBES, truncation="longest_first", max_length=_PROBE_LENGTH, return_attention_mask=False)
    ids = [index for row in rows["input_ids"] for index in row] + list(tokenizer.added_tokens_decoder)
    if strange := [index for index in ids if type(index) is not int or not 0 <= index < 2**31]:
        raise InputError(
            f"the tokenizer of {name!r} gives the id {strange[0]!r}, which is no row of a network's embedding; is each "
            "special token, the one for unknown text too, in its vocabulary?"
        )


def _check_settings(folder: Path, name: str, trusted: bool) -> None:
    """Refuse settings by which a tokenizer would be made of files elsewhere, or of what is no tokenizer.

    Raises:
        InputError: There are such settings.
    """
    check_config(folder, name, trusted)
    settings = get_tokenizer_config(folder)
    named = [key for key in _FILES_BY_TEXT if isinstance(settings.get(key), str)]
    named += [key for key in _FILES if settings.get(key)]
    if named:
        raise InputError(
            f"tokenizer_config.json of {name!r} has a value for {named[0]}, which would be read as the path of a file "
            "anywhere; take it out, the vocabulary lies beside it"
        )
    for value in _texts_in(settings):
        if _is_file_elsewhere(value, folder):
            raise InputError(
                f"tokenizer_config.json of {name!r} names the file {value}, which lies outside of the folder; take it "
                "out, or move the file into the folder and name it by its own name"
            )
    if trusted:
        return
    path = folder / _TELLING[0]
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kinds = [*_texts_in(settings, "tokenizer_class"), *_texts_in(config, "tokenizer_class")]
    kinds += [TOKENIZER_MAPPING_NAMES.get(family) or "" for family in _texts_in(config, "model_type")]
    for kind in filter(None, kinds):
        # transformers leaves the ending out, or adds it, where it does not find the name.
        if re.sub("(Fast)*$", "", kind) not in _tokenizers():
            raise InputError(
                f"the tokenizer's settings in {name!r} lead to the class {kind!r}, which is no tokenizer of"
                f" {', '.join(FAMILIES)}; others read files, and start libraries, by rules of their own. Where you"
                " trust it, set trust_remote_code to true"
            )


@cache
def _tokenizers() -> frozenset[str]:
    """The classes of the tokenizers of `FAMILIES`, without the ending `Fast`."""
    of_families = (TOKENIZER_MAPPING_NAMES.get(family) or "" for family in FAMILIES)
    # Those of two families have Bert's, and name their own in older files.
    older = ("DistilBertTokenizer", "ElectraTokenizer")
    names = {ErnieMTokenizer.__name__, "PreTrainedTokenizer", "TokenizersBackend", *older, *of_families}
    return frozenset(re.sub("(Fast)*$", "", name) for name in names if name)


def _check_keys(settings: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse settings that are called as a part of the tokenizer: saving it writes that part, places of files among it.

    Raises:
        InputError: There is one.
    """
    arguments = {
        key for kind in type(tokenizer).__mro__ for key in inspect.signature(vars(kind).get("__init__", len)).parameters
    }
    for key in settings:
        if key not in (*_SETTINGS, *arguments) and (key in vars(tokenizer) or hasattr(type(tokenizer), key)):
            raise InputError(
                f"tokenizer_config.json of {name!r} has a value for {key[:40]!r}, which is no setting but a part of "
                "the tokenizer; take it out"
            )


def _texts_in(value: Any, key: str | None = None, is_found: bool = False) -> Iterator[str]:
    """Yield all texts within a value, or those that a key at any depth holds."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts_in(inner, key, key in (None, name))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts_in(inner, key, is_found)
    elif isinstance(value, str) and is_found:
        yield value


def _is_file_elsewhere(value: str, folder: Path) -> bool:
    """Tell whether a text is the path of a file here, but for those of a folder.

    Which settings are read as paths is known to each class of tokenizers alone.
    """
    try:
        return any(
            path.is_file() and not path.resolve().is_relative_to(folder.resolve())
            for path in (Path(value), Path(value).expanduser())
        )
    except (OSError, ValueError, RuntimeError):
        # Longer than a path may be, or with characters that it may not have.
        return False


def _check_special_tokens(folder: Path, name: str) -> None:
    """Refuse what transformers would take for arguments of the tokenizer, paths of its files among them.

    Raises:
        InputError: There is such a thing.
    """
    path = folder / _SPECIAL_TOKENS
    tokens = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if strange := [key for key in tokens if not key.endswith(("_token", "_tokens"))]:
        raise InputError(f"{_SPECIAL_TOKENS} of {name!r} has a value for {strange[0]}, which is no special token")
