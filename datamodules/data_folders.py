"""What a folder that `load_dataset` reads may say and hold: it leads nowhere else, and costs no more than it weighs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml
from huggingface_hub import DatasetCard

from ernie_m.errors import InputError
from ernie_m.files import check_way, file_name

from .opening import check_unpacks

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder

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
_FRONT = re.compile(r"\A\s*---[\r\n].*?[\r\n]---", re.DOTALL)
# YAML has numbers to the base 60, and reads them in time that grows with the square of their length.
_LONG_NUMBER = re.compile(r"[0-9][0-9_:]{100}")
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
    _check_addresses(configs, card)


def check_addresses(snapshot: Path) -> None:
    """Refuses a data set of the Hub whose metadata name data by an address.

    Args:
        snapshot: The files of `METADATA` that it has, before `datasets` sees them.

    Raises:
        InputError: They do, or cannot be read.
    """
    for card in (snapshot / name for name in METADATA):
        if card.is_file():
            _check_addresses(_configs_in(card), card)


def _check_addresses(configs: Any, card: Path) -> None:
    # As YAML, values that stand in many places are written once.
    if ADDRESS.search(yaml.safe_dump(configs, width=float("inf"))):
        raise InputError(f"{card} names data by an address, which lies outside of the folder.")


def _configs_in(card: Path) -> Any:
    check_way(card)
    try:
        text = card.read_text(encoding="utf-8")
        is_yaml = card.suffix == ".yaml"
        front = text if is_yaml else "".join(_FRONT.findall(text)[:1])
        if _LONG_NUMBER.search(front):
            raise InputError("a number of more than 100 digits")
        # Written out, aliases within aliases have no end; `datasets` writes them out.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(front, Loader=yaml.SafeLoader)):
            raise InputError("an alias, of which its YAML has none")
        if is_yaml:
            return (yaml.safe_load(text) or {}).get("configs")
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


def validated(dataset: "Dataset", name: str) -> "Dataset":
    """A data set whose columns are what their types say, all of them: Arrow itself reads wherever a file points to.

    Args:
        dataset: The data set.
        name: What to call it.

    Raises:
        InputError: A column leads out of its own data, or has text that is not UTF-8.
    """
    _validate(dataset.data.table, name)
    return dataset


def _validate(rows: pa.Table | pa.RecordBatch, name: str) -> None:
    try:
        rows.validate(full=True)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{name} cannot be read: {error}") from error


def _check_arrow(path: Path) -> None:
    """Refuses an Arrow file that leads out of its own data, before `datasets` copies what is there."""
    try:
        with pa.memory_map(str(path)) as file:
            try:
                reader: Any = pa.ipc.open_stream(file)
            except pa.ArrowInvalid:
                reader = pa.ipc.open_file(file)
            batches = (
                reader
                if isinstance(reader, pa.RecordBatchReader)
                else map(reader.get_batch, range(reader.num_record_batches))
            )
            for batch in batches:
                _validate(batch, str(path))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Arrow: {error}") from error


def check_files(builder: "DatasetBuilder", folder: Path) -> None:
    """Refuses files elsewhere, and packed ones that could fill the disk.

    Args:
        builder: What `datasets` made of the folder.
        folder: The folder.

    Raises:
        InputError: There is such a file, or one that is no text and no table.
    """
    from datasets.utils.extract import Extractor

    if builder.name not in _FORMATS:
        raise InputError(f"{folder} holds files of the kind {builder.name}; {', '.join(_FORMATS)} can be read.")
    for path in (Path(path) for paths in (builder.config.data_files or {}).values() for path in paths):
        if ADDRESS.search(str(path)) or not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{folder}: its README or data_files name {path}, which lies outside of the folder.")
        # By its first bytes, as `datasets` finds out what it unpacks, and without end.
        packing = Extractor.infer_extractor_format(path)
        if packing not in (None, "gzip"):
            raise InputError(f"{path} is packed ({packing}); unpack it yourself where you trust it.")
        if packing == "gzip":
            check_unpacks(path)
        if builder.name == "arrow":
            _check_arrow(path)
