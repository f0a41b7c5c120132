"""Material for listening tests: two folders of audio that differ audibly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.listening.session import Asked, Material, Session, open_session, prepare
from jobs.listening.sources import files_of
from tests.jobs.listening.sounds import write_sides


@pytest.fixture
def material(tmp_path: Path) -> Material:
    """Three items of 0.4 s, A and B of different levels and noise."""
    a, b = write_sides(tmp_path)
    return prepare(files_of(a, b), excerpt_s=10)


@pytest.fixture
def opened(tmp_path: Path, material: Material) -> Callable[..., Session]:
    """Return a function that opens a session, with a seed, of few trials."""

    def open_it(mode="abx", *, trials=6, seed="7", listener="ann", material=material) -> Session:
        asked = Asked(mode, listener, trials=trials, seed=seed)
        return open_session(tmp_path / "listening", material, asked=asked)

    return open_it
