"""No two folders import each other: what a new folder takes from the one above it belongs into a third."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("tui", "jobs", "engine", "models", "presets")


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that a file imports, wherever it does; `from a import b` may be `a` or `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def pairs(root: Path) -> dict[tuple[str, str], list[str]]:
    """Return folders that import each other, with the imports."""
    files = {
        ".".join(path.relative_to(root).with_suffix("").parts): path
        for package in PACKAGES
        for path in (root / package).rglob("*.py")
    }
    imports: dict[tuple[str, str], list[str]] = {}
    for name, path in files.items():
        for found in imported(ast.parse(path.read_text(encoding="utf-8"))):
            target = found if found in files else found.rpartition(".")[0]
            if target in files and files[target].parent != path.parent:
                ends = [str(file.parent.relative_to(root)) for file in (path, files[target])]
                imports.setdefault((ends[0], ends[1]), []).append(f"{name} imports {target}")
    return {
        (one, other): found + imports[other, one]
        for (one, other), found in sorted(imports.items())
        if one < other and (other, one) in imports
    }


def test_no_two_folders_import_each_other(repository: Path) -> None:
    # Settings have theirs in models.base.settings, batches in engine.batching.batch.
    assert pairs(repository) == {}, "move what both need into a folder below both"


def test_a_pair_is_found_however_it_is_imported(tmp_path: Path) -> None:
    for package in PACKAGES:
        (tmp_path / package / "inner").mkdir(parents=True)
    (tmp_path / "jobs" / "base.py").write_text("X = 1\n")
    (tmp_path / "jobs" / "top.py").write_text("import jobs.inner.part\n")
    (tmp_path / "jobs" / "inner" / "part.py").write_text("def late():\n    from jobs import base\n")
    (tmp_path / "engine" / "one.py").write_text("from engine.inner.two import Y\n")
    (tmp_path / "engine" / "inner" / "two.py").write_text("import json\n\nY = json\n")
    assert pairs(tmp_path) == {
        ("jobs", "jobs/inner"): [
            "jobs.top imports jobs.inner.part",
            "jobs.inner.part imports jobs.base",
        ]
    }
