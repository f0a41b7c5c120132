"""Import hygiene, proved on `sys.modules` of a fresh interpreter."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ["tui", "jobs", "engine", "models", "presets"]
HEAVY = {"torch", "torchaudio", "sqlite_utils", "huey", "wandb", "pydantic", "pandas", "scipy"}


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {line.partition(".")[0] for line in result.stdout.splitlines()}


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_the_one_of_this_checkout(package: str, repository: Path) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().is_relative_to(repository)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_init_files_are_empty(package: str, repository: Path) -> None:
    filled = [str(path) for path in (repository / package).rglob("__init__.py") if path.read_text()]
    assert filled == []


@pytest.mark.parametrize(
    "code",
    [
        "import tui.apps.dashboard",
        "import tui.main",
        "import tui.live.feed",
        "import jobs.store.reader",
        "import tui.dialogs.comparison",
    ],
)
def test_start_of_the_dashboard_loads_nothing_heavy(code: str) -> None:
    assert modules_after(code) & HEAVY == set()


@pytest.mark.parametrize(
    "code", ["import jobs.submit", "import engine.config.loading", "import jobs.worker.serve"]
)
def test_enqueueing_and_serving_load_no_torch(code: str) -> None:
    assert modules_after(code) & {"torch", "torchaudio", "textual"} == set()


def test_guard_sees_a_heavy_import() -> None:
    assert "pydantic" in modules_after("import engine.config.schema")
