"""Settings and records: YAML and JSON, read within bounds and written whole.

A run folder may come from a stranger. Nothing here takes longer or more memory than a file of the size that it has
should, and whatever is wrong with one is said in a sentence.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ernie_m.errors import InputError
from ernie_m.files import check_way, write_text

from .lines import one_line
from .registry import UnknownNameError

# The longest settings that this command writes have some 10 kB, the longest records some MB.
_FRONT_MATTER = re.compile(r"---\r?\n(.*?)\r?\n---", re.DOTALL)
LARGEST_YAML = 2**20
LARGEST_JSON = 2**26
DEEPEST = 50
MOST_VALUES = 200_000
LONGEST_KEY = 200
LONGEST_NUMBER = 100
_TRUTH = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads values; numbers, which YAML 1.1 also has to the base 60, take time that grows with the square of length."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node."""
        if isinstance(node, yaml.ScalarNode) and len(node.value) > LONGEST_NUMBER and not node.tag.endswith(":str"):
            raise yaml.constructor.ConstructorError(None, None, "a number that is too long", node.start_mark)
        return super().construct_object(node, deep)


def only_true_and_false(loader: type[yaml.SafeLoader]) -> None:
    """Let a loader take true and false alone for truths, as YAML 1.2 has it: `no` is Norwegian, and a label.

    Args:
        loader: Changed in place.
    """
    kept = {
        first: [(tag, pattern) for tag, pattern in found if tag != _TRUTH]
        for first, found in loader.yaml_implicit_resolvers.items()
    }
    loader.yaml_implicit_resolvers = kept
    loader.add_implicit_resolver(_TRUTH, re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"))


only_true_and_false(_Loader)


@contextmanager
def as_written(place: Path | str) -> Iterator[None]:
    """Turn what follows from content of a wrong kind into an error that names the place.

    Args:
        place: The folder or file that is read.

    Raises:
        InputError: Something was not of the kind that this command writes.
    """
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError) as error:
        if isinstance(error, UnknownNameError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{place}: holds something else than this command writes there ({type(error).__name__}: {reason})"
        ) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read settings.

    Args:
        path: A YAML file in UTF-8.

    Raises:
        InputError: It cannot be read, is too large, nested or repetitive, or holds no mapping.
    """
    content = _parsed(read_text(path, LARGEST_YAML), path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no settings; `ernie-m cat quickstart` shows what a recipe looks like")
    return content


def read_front_matter(path: Path) -> dict[str, Any]:
    """Read the settings at the head of a model card, between two lines of hyphens; none where there are none.

    Args:
        path: A Markdown file in UTF-8.

    Raises:
        InputError: It cannot be read, is too large, nested or repetitive.
    """
    head = _FRONT_MATTER.match(read_text(path, LARGEST_YAML))
    content = _parsed(head[1], path) if head else None
    return content if isinstance(content, dict) else {}


def _parsed(text: str, path: Path) -> Any:
    try:
        _check_bounds(text, path)
        content = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{path}{line}: not valid YAML: {error.problem}") from error
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, ArithmeticError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    _check_characters(content, path)
    return content


def _check_bounds(text: str, path: Path) -> None:
    """Refuse what is nested too deeply, or has too many values once its aliases are written out.

    The parser's events come one by one, so that nothing is built of a file that is refused.
    """
    sizes: dict[str, int] = {}
    # The anchor and the number of values of every collection that is open, the document first.
    opened: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if getattr(event, "tag", None) is not None:
            raise InputError(
                f"{path}, line {event.start_mark.line + 1}: not valid YAML here: no tags such as {event.tag}"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, 1))
            if len(opened) > DEEPEST:
                raise InputError(f"{path}, line {event.start_mark.line + 1}: nested more than {DEEPEST} deep")
            continue
        anchor: str | None = None
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = opened.pop()
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                line = event.start_mark.line + 1
                raise InputError(f"{path}, line {line}: *{event.anchor} stands for nothing, or is part of itself")
            size = sizes[event.anchor]
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        outer, values = opened[-1]
        opened[-1] = outer, values + size
        if values + size > MOST_VALUES:
            raise InputError(f"{path}: more than {MOST_VALUES:,} values, aliases written out")


def read_json(path: Path) -> dict[str, Any]:
    """Read a record; an empty one where there is no file.

    Args:
        path: A JSON file in UTF-8.

    Raises:
        InputError: It cannot be read, is damaged, too large or too deeply nested, or holds no object.
    """
    if not path.is_file():
        return {}
    text = read_text(path, LARGEST_JSON)
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{path}: damaged, not valid JSON: {error}; write it anew or take another copy") from error
    _check_characters(content, path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not an object with the parts of a record")
    return content


def _check_characters(content: Any, path: Path) -> None:
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if long := [key for key in value if len(str(key)) > LONGEST_KEY]:
                raise InputError(f"{path}: the key {str(long[0])[:40]}... has more than {LONGEST_KEY} characters")
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
    try:
        json.dumps(content, ensure_ascii=False, default=str, skipkeys=True).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: holds half a surrogate pair, which is no text") from error


def read_text(path: Path, largest: int = LARGEST_YAML) -> str:
    """Read a text in UTF-8.

    Args:
        path: The file.
        largest: How many bytes it may have.

    Raises:
        InputError: It cannot be read, is larger, is no UTF-8, or a link leads elsewhere.
    """
    check_way(path)
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > largest:
        raise InputError(f"{path}: larger than {largest:,} bytes, which no such file of this command is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def write_json(path: Path, content: Mapping[str, Any] | list[Any]) -> None:
    """Write JSON for people to read."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_yaml(path: Path, header: str, content: Mapping[str, Any]) -> None:
    """Write settings below a comment of one line, whatever characters that has."""
    settings = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
    write_text(path, f"# {one_line(header)}\n{settings}")
