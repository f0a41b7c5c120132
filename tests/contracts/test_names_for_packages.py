"""Names that are kept for packages of others alone: sepdash itself imports what they stand for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

# `tests/plugins` are packages of others as they would be, and so are the examples.
FOLDERS = ("engine", "jobs", "models", "presets", "tui", "tests", "docs")
THEIRS = "tests/plugins/"
KEPT = {"models.settings": "models.base.settings", "engine.data.batch": "engine.batching.batch"}


def imports(source: str) -> Iterator[str]:
    """Yield the names in `KEPT` that a source imports, or imports from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in KEPT)
        elif isinstance(node, ast.ImportFrom):
            names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            yield from sorted(KEPT.keys() & names)


def test_sepdash_imports_no_name_that_is_kept_for_others(repository: Path) -> None:
    importing = {
        name: [f"{kept}: import {KEPT[kept]}" for kept in found]
        for folder in FOLDERS
        for path in sorted((repository / folder).rglob("*.py"))
        if not (name := path.relative_to(repository).as_posix()).startswith(THEIRS)
        if (found := list(imports(path.read_text(encoding="utf-8"))))
    }
    assert importing == {}


def test_every_kept_name_is_imported_by_a_package_of_others(repository: Path) -> None:
    """Where no package of others needs a name any more, it goes."""
    folders = [repository / "examples", repository / THEIRS]
    sources = [path.read_text() for folder in folders for path in folder.rglob("*.py")]
    assert {name for source in sources for name in imports(source)} == set(KEPT)


@pytest.mark.parametrize(
    "line",
    ["import models.settings as s", "from models.settings import x", "from models import settings"],
)
def test_the_contract_sees_an_import(line: str) -> None:
    assert list(imports(f"if True:\n    {line}\n")) == ["models.settings"]
    assert list(imports("from models.base.settings import setting\n")) == []
