"""Fixtures for all tests: real audio where it is at hand, and the order fast, slow, end to end."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import pytest

# Tests run side by side: two threads each would wait for one another, ten times as long. Torch reads
# this when it is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# glibc would give each large tensor back to the system, and get it again page by page: a ninth of the time of a
# small training. A process reads this when it starts: those that run tests side by side, and what they start.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(64 * 2**20))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(256 * 2**20))

_MOST_WORKERS = 4
ROOT = Path(__file__).resolve().parents[1]

# Containers often forbid bytecode beside the sources. Without any, each of hundreds of processes compiles
# torch and all else anew, two seconds each time: keep it in a folder of our own then.
if sys.dont_write_bytecode:
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(ROOT / ".pytest_cache" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
# A shell that starts the tests in the background lets them ignore Ctrl-C, and so every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share the whole suite among the cores; a choice of tests runs in this process.

    One more than there are cores: tests of screens and of several processes wait for a seventh of their time.
    """
    whole = config.args == config.getini("testpaths") and not config.option.keyword
    return min((os.cpu_count() or 1) + 1, _MOST_WORKERS) if whole else 0


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among test modules and all they import, now or later: they live until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run fast tests first, then slow ones, then the end-to-end ones; the long ones of a kind first."""

    def place(item: pytest.Item) -> tuple[bool, bool, bool]:
        e2e, slow, long = (
            item.get_closest_marker(name) is not None for name in ("e2e", "slow", "long")
        )
        return e2e, slow, not long

    items.sort(key=place)


@pytest.fixture
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Return a function that finds a folder of real audio, or skips the test with the reason."""

    def find(name: str) -> Path:
        folder = SHARED_DATA / name
        if not folder.is_dir():
            pytest.skip(f"no real audio: ../shared/data/{name} is not beside this checkout")
        return folder

    return find


@pytest.fixture
def write_tone() -> Callable[[Path], Path]:
    """Return a function that writes a short tone, at 48 kHz, and the folders above it."""

    def write(path: Path) -> Path:
        import numpy as np
        import soundfile

        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.5 * np.sin(np.arange(4_800) * 0.05), 48_000)
        return path

    return write


@pytest.fixture(autouse=True)
def _private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test, and the children it starts, out of the user's own sepdash home."""
    monkeypatch.setenv("SEPDASH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")


class Site:
    """A folder of installed packages, and a way to run Python that sees them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self, name: str, points: Mapping[str, Mapping[str, str]], files: Mapping[str, str]
    ) -> None:
        """Write a package: `points` maps a group to its entry points, `files` a path to its text."""
        info = self.folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [
            line
            for group, parts in points.items()
            for line in (f"[{group}]", *(f"{key} = {value}" for key, value in parts.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for path, text in files.items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def environment(self) -> dict[str, str]:
        """The variables of a process that sees the packages."""
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.folder)])}

    def run(self, code: str) -> str:
        """Run code in a fresh interpreter and return what it prints."""
        return self.start("-c", code)

    def start(self, *arguments: str, code: int = 0) -> str:
        """Start Python with arguments and return what it prints; `code` is the expected exit code."""
        result = subprocess.run(
            [sys.executable, "-P", *arguments],
            capture_output=True, text=True, env=self.environment(), check=False,
        )  # fmt: skip
        assert result.returncode == code, f"{result.stdout}{result.stderr}"
        return result.stdout + (result.stderr if code else "")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty folder of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder)
