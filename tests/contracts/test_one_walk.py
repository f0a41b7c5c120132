"""Folders of a person's data are read by `models.folders` alone, so that everybody sees the same files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("engine", "jobs", "models", "presets", "tui")
WALKS = {"walk", "fwalk", "rglob", "glob", "iglob", "iterdir", "scandir", "listdir"}
# Folders that sepdash makes itself, with names it knows. A file that is clean has to leave this table.
OWN = {
    "engine/checkpoints/files.py": "what an interrupted save left behind",
    "engine/checkpoints/layout.py": "the checkpoints of a run",
    "engine/data/corpus/cutting.py": "whether the folder to write is empty",
    "engine/data/corpus/manifests.py": "what is in the folder to write",
    "engine/data/files/cache.py": "resampled copies",
    "engine/data/speech/digit_strings.py": "whether the folder to write is empty",
    "engine/exchange/exporting.py": "whether the folder to write is empty",
    "engine/recipes/codec/item_codes.py": "codes stored by other runs",
    "engine/training/slow_metrics.py": "audio kept for slow metrics",
    "jobs/backup.py": "what a home has, and its locks",
    "jobs/clustering.py": "finished stages",
    "jobs/home.py": "the folders of runs",
    "jobs/searches/definition.py": "the searches of a home",
    "jobs/store/errors.py": "the processes of the system, and what they have open",
    "jobs/sweeps/probe_requests.py": "the requests of a home",
    "models/folders.py": "the walk",
    "tui/cli/speak_inputs.py": "the saved voices of a home",
}


def walks(source: str) -> Iterator[str]:
    """Yield the calls by which a source lists folders; `ast.walk` and our own `walk` are none."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            is_ast = isinstance(owner, ast.Name) and owner.id == "ast"
            if node.func.attr in WALKS and not is_ast:
                yield f"line {node.lineno}: {node.func.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "glob"):
            yield from (f"line {node.lineno}: {a.name}" for a in node.names if a.name in WALKS)


def test_nobody_else_lists_folders_of_data() -> None:
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if calls := list(walks(path.read_text(encoding="utf-8"))):
                found[path.relative_to(ROOT).as_posix()] = calls
    assert {name: found[name] for name in found if name not in OWN} == {}, "use models.folders.walk"
    assert sorted(OWN.keys() - found.keys()) == [], "leaves the table of this test"


def test_the_contract_sees_a_walk() -> None:
    source = (
        "import os\nfrom os import scandir\nos.walk(x)\npath.rglob('*')\nast.walk(t)\nwalk(x)\n"
    )
    assert list(walks(source)) == ["line 2: scandir", "line 3: walk", "line 4: rglob"]
