"""What data that `load_dataset` reads may say and hold: they lead nowhere else, and cost no more than they weigh."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml
from huggingface_hub import DatasetCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from ernie_m.errors import InputError
from ernie_m.files import check_way, file_name, is_of_snapshot

from .compat import checked_datasets, streamed_packing
from .opening import check_is_file, check_unpacks

if TYPE_CHECKING:
    from datasets import DatasetBuilder

ADDRESS = re.compile(r"://|::")
"""In `https://...`, and in fsspec's `zip://FILE::ARCHIVE`."""

# What `datasets` reads of a folder beside its README, in its place.
_HIDDEN_METADATA = ".huggingface.yaml"
METADATA = ("README.md", _HIDDEN_METADATA)
"""The files by which a data set says where its data are."""

# What a README may say of a configuration. The rest chooses folders to write to (`version`) and opens what is no text.
_OF_CONFIGURATIONS = (
    *("config_name", "default", "description", "data_dir", "data_files", "features"),
    *("sep", "delimiter", "quotechar", "header", "names", "column_names", "skiprows", "encoding", "field", "sample_by"),
)
# pandas takes longer texts for regular expressions, and skips lines one by one.
_SHORT = ("sep", "delimiter", "quotechar", "header", "skiprows")
_MOST = 1000
# YAML has numbers to the base 60, and reads them in time that grows with the square of their length.
_LONG_NUMBER = re.compile(r"[0-9][0-9_:]{100}")
_EXTENSION = b"ARROW:extension:name"
_FORMATS = ("csv", "json", "parquet", "arrow", "text")


def check_metadata(folder: Path) -> None:
    """Refuses a folder whose README names data by an address, or sets more than what its files are.

    Args:
        folder: The folder, before `datasets` sees it: it asks addresses while it makes a builder.

    Raises:
        InputError: It does, or its README cannot be read.
    """
    if (folder / _HIDDEN_METADATA).exists():
        raise InputError(f"{folder / _HIDDEN_METADATA} would take the README's place; write its configs into that.")
    card = folder / "README.md"
    configs = _configs_in(card) if card.is_file() else None
    for key, value in _settings(configs):
        if key not in _OF_CONFIGURATIONS:
            raise InputError(f"{card}: configs sets {key!r}; there are {', '.join(_OF_CONFIGURATIONS)}.")
        if key == "config_name":
            # Under which `datasets` keeps what it prepares.
            file_name(str(value), f"{card}: config_name")
        if key in _SHORT and not _is_short(value):
            raise InputError(f"{card}: {key} is {value!r}; a single character, or a number below {_MOST:,}, is taken.")
    # As YAML, values that stand in many places are written once.
    if ADDRESS.search(yaml.safe_dump(configs, width=float("inf"))):
        raise InputError(f"{card} names data by an address, which lies outside of the folder.")


def _configs_in(card: Path) -> Any:
    check_way(card)
    try:
        found = REGEX_YAML_BLOCK.search(card.read_text(encoding="utf-8"))
        front = found[2] if found else ""
        if _LONG_NUMBER.search(front):
            raise InputError("a number of more than 100 digits")
        # Written out, aliases within aliases have no end; `datasets` writes them out.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(front, Loader=yaml.SafeLoader)):
            raise InputError("an alias, of which its YAML has none")
        # As `datasets` reads it.
        return DatasetCard.load(card).data.to_dict().get("configs")
    except Exception as error:  # YAML's errors, those of the card's class, and what nested values raise
        raise InputError(f"{card}: {(str(error).strip() or type(error).__name__).splitlines()[0]}") from error


def _settings(configs: Any) -> Iterator[tuple[Any, Any]]:
    """The settings of all configurations; what is none, `datasets` refuses."""
    for config in configs if isinstance(configs, list) else []:
        yield from config.items() if isinstance(config, dict) else []


def _is_short(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) == 1) or (type(value) is int and value < _MOST)


def check_arrow(path: Path) -> None:
    """Refuses an Arrow file that leads out of its own data, before `datasets` copies what is there.

    Args:
        path: A file of Arrow's streaming format, or of its other one.

    Raises:
        InputError: Its columns are not what their types say, have text that is not UTF-8 or types that are not Arrow's
            own, or it is no such file.
    """
    check_is_file(path)
    # It registers types of its own, by which a file of them is read otherwise than without.
    checked_datasets()
    try:
        with pa.memory_map(str(path)) as file:
            try:
                reader: Any = pa.ipc.open_stream(file)
            except pa.ArrowInvalid:
                reader = pa.ipc.open_file(file)
            if foreign := next(_foreign(reader.schema), None):
                raise InputError(f"{path}: column '{foreign}' has a type of its own; Arrow's are read.")
            batches = (
                reader
                if isinstance(reader, pa.RecordBatchReader)
                else map(reader.get_batch, range(reader.num_record_batches))
            )
            for batch in batches:
                batch.validate(full=True)
    except InputError:
        raise
    except Exception as error:  # Arrow's errors, UnicodeDecodeError, and what types that `datasets` registers raise
        raise InputError(f"{path} cannot be read as Arrow: {error}") from error


def _foreign(fields: Iterable[pa.Field]) -> Iterator[str]:
    """The names of fields whose type is not Arrow's own, at any depth."""
    for field in fields:
        if isinstance(field.type, pa.BaseExtensionType) or _EXTENSION in (field.metadata or {}):
            yield field.name
        elif pa.types.is_dictionary(field.type):
            yield from _foreign([pa.field(field.name, field.type.value_type)])
        else:
            yield from _foreign(field.type.field(number) for number in range(field.type.num_fields))


def files_within(builder: "DatasetBuilder", place: str) -> list[str]:
    """The files that a builder reads, by their names within a data set.

    Args:
        builder: What `datasets` made of the data set.
        place: Where the data set lies, as the builder's files are called: a folder, or a commit on the Hub.

    Raises:
        InputError: One lies elsewhere, or they are neither texts nor tables.
    """
    if builder.name not in _FORMATS:
        raise InputError(f"{place} holds files of the kind {builder.name}; {', '.join(_FORMATS)} can be read.")
    names = []
    for path in (str(path) for paths in (builder.config.data_files or {}).values() for path in paths):
        name = path.removeprefix(f"{place}/")
        if name == path or ".." in Path(name).parts or ADDRESS.search(name):
            raise InputError(f"{place}: its README or data_files name {path}, which lies outside of the folder.")
        names.append(name)
    return names


def check_files(kind: str, folder: Path, names: Iterable[str]) -> None:
    """Refuses files that links make of others elsewhere, and packed ones that could fill the disk.

    Args:
        kind: What the builder that reads them is called.
        folder: The folder; a commit's of the Hub's cache has links to files of its own.
        names: The files that are read of it.

    Raises:
        InputError: There is such a file, or one of Arrow's that leads out of its own data.
    """
    from datasets.utils.extract import Extractor

    for path in (folder / name for name in names):
        if not path.resolve().is_relative_to(folder.resolve()) and not is_of_snapshot(path, folder.resolve()):
            raise InputError(f"{folder}: its README or data_files name {path}, which lies outside of the folder.")
        # By its first bytes, as `datasets` finds out what it unpacks, and without end.
        packing = Extractor.infer_extractor_format(path)
        _check_packing(packing, str(path))
        if packing == "gzip":
            check_unpacks(path)
        if kind == "arrow":
            check_arrow(path)


def check_streamed(kind: str, place: str, names: Iterable[str]) -> None:
    """Refuses files of the Hub that are read while they come, where that would need a look at the whole file first.

    Args:
        kind: What the builder that reads them is called.
        place: Where they lie on the Hub.
        names: The files.

    Raises:
        InputError: There is such a file, or one that is packed in other ways than gzip.
    """
    if kind == "arrow":
        raise InputError(f"{place}: Arrow files are not read while they come; leave streaming out.")
    for path in (f"{place}/{name}" for name in names):
        _check_packing(streamed_packing(path), path)


def _check_packing(packing: str | None, path: str) -> None:
    if packing not in (None, "gzip"):
        raise InputError(f"{path} is packed ({packing}); unpack it yourself where you trust it.")
