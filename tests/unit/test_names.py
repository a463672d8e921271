"""One word for one thing: no two classes or aliases of the four packages have the same name."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ernie_m", "lightning_modules", "datamodules", "ernie_m_recipes")


def defined(statement: ast.stmt) -> str | None:
    """The name of a class, or of an alias of a type, that a statement defines at the top of a module."""
    if isinstance(statement, ast.ClassDef):
        return statement.name
    target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
    is_alias = isinstance(target, ast.Name) and target.id[0].isupper() and not target.id.isupper()
    return target.id if is_alias else None


def test_names_are_used_once():
    places = defaultdict(set)
    for package in PACKAGES:
        for path in (ROOT / package).glob("*.py"):
            for statement in ast.parse(path.read_text(encoding="utf-8")).body:
                if name := defined(statement):
                    places[name].add(f"{package}/{path.name}")
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
