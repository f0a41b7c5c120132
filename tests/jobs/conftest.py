"""Fixtures of the job tests: a home of its own, a small config, an open store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.store.writer import StoreWriter

MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path / "home").create()


@pytest.fixture
def make_config(tmp_path: Path, write_tone: Callable[[Path], Path]) -> MakeConfig:
    """Return a function that makes a config on folders with one short file each."""
    for name in ("train", "valid"):
        write_tone(tmp_path / "data" / name / "tone.wav")

    def make(**sections: Any) -> RunConfig:
        folder = tmp_path / "data"
        data = {"kind": "bandwidth", "train": str(folder / "train"), "valid": str(folder / "valid")}
        return load_config({"data": data} | sections)

    return make


@pytest.fixture
def store(home: Home) -> Iterator[StoreWriter]:
    """An open, empty store."""
    with StoreWriter(home.store) as writer:
        yield writer


@pytest.fixture
def reader(home: Home) -> Iterator[StoreReader]:
    """A reader of the same store."""
    with StoreReader(home.store) as opened:
        yield opened
