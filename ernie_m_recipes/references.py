"""Environment variables in recipes: `${oc.env:NAME}` is resolved for use, and written as the reference that it was.

Run folders and exports are passed around. So config.yaml and recipe.yaml keep the reference, and in every other text
that a command writes the value is replaced by it.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from ernie_m.errors import InputError

# A shorter value stands in texts by chance, and is no secret.
_SHORTEST = 4
_UNSET = object()


class References:
    """The environment variables that settings took, since they were last forgotten."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self._unresolved: Any = None
        self._admitted: set[str] | None = None
        self._marks: list[str] | None = None

    def forget(self, admitted: set[str] | None = None) -> None:
        """Begin anew, before settings are parsed.

        Args:
            admitted: The variables that they may take; None for all.
        """
        self.values, self._unresolved, self._admitted = {}, None, admitted

    def resolve(self, name: str, default: Any = _UNSET, *, _root_: Any) -> Any:
        """Return what OmegaConf's own `oc.env` returns, and take note of it.

        Args:
            name: The variable.
            default: What stands for it where it is not set.
            _root_: All settings, given by OmegaConf.

        Raises:
            InputError: The settings may not take it.
        """
        reference = f"${{oc.env:{name}}}" if default is _UNSET else f"${{oc.env:{name},{_as_text(default)}}}"
        if self._marks is not None:
            self._marks.append(reference)
            return f"\0{len(self._marks) - 1}\0"
        if self._admitted is not None and name not in self._admitted:
            raise InputError(f"settings of a folder ask for the environment variable {name}: see --trust-env")
        self._unresolved = _root_
        value = oc.env(name) if default is _UNSET else oc.env(name, default)
        if name in os.environ:
            self.values |= dict.fromkeys(_spellings(os.environ[name]), f"${{oc.env:{name}}}")
        return value

    def resolved(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings with the values of what they refer to."""
        content = OmegaConf.to_container(OmegaConf.create(dict(settings)), resolve=True)
        assert isinstance(content, dict)
        return {str(key): value for key, value in content.items()}

    def put_back(self, settings: dict[str, Any], part: str) -> None:
        """Write references over the values that settings have of them, in place.

        Args:
            settings: Resolved settings.
            part: The key under which they were parsed.
        """
        if self._unresolved is None:
            return
        self._marks = []
        try:
            marked = OmegaConf.to_container(OmegaConf.create(OmegaConf.to_container(self._unresolved)), resolve=True)
            assert isinstance(marked, dict)
            _overwrite(settings, marked[part], self._marks)
        finally:
            self._marks = None

    def hidden(self, content: Any) -> Any:
        """Return texts, alone or within mappings and lists, with references in place of the values."""
        if isinstance(content, str):
            for value in sorted(self.values, key=len, reverse=True):
                if len(value) >= _SHORTEST:
                    content = content.replace(value, self.values[value])
            return content
        if isinstance(content, Mapping):
            return {self.hidden(key): self.hidden(value) for key, value in content.items()}
        return [self.hidden(value) for value in content] if isinstance(content, list | tuple) else content


def _spellings(value: str) -> list[str]:
    """Return a value, and where it may be a path what else the path is called in what is written."""
    found = [value]
    if os.sep in value:
        # Of characters that no path has, or of a user who is not here.
        with suppress(OSError, ValueError, RuntimeError):
            path = Path(value).expanduser()
            found += [str(Path(value)), str(path), str(path.absolute()), str(path.resolve())]
    return found


def _as_text(default: Any) -> str:
    return "null" if default is None else str(default)


def _overwrite(settings: Any, marked: Any, references: list[str]) -> None:
    """Put references where marks are, wherever both have the same shape."""
    places = marked.items() if isinstance(marked, dict) else enumerate(marked)
    for key, value in places:
        if (key not in settings) if isinstance(settings, dict) else key >= len(settings):
            continue
        if isinstance(value, str) and "\0" in value:
            parts = value.split("\0")
            settings[key] = "".join(references[int(p)] if i % 2 else p for i, p in enumerate(parts))
        elif isinstance(value, dict | list) and type(settings[key]) is type(value):
            _overwrite(settings[key], value, references)


taken = References()
OmegaConf.register_resolver("oc.env", taken.resolve, replace=True)
