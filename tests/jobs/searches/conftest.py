"""A simulated worker for searches, on a home of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.jobs.searches.simulated import Curve, Simulation


@pytest.fixture
def simulate(
    home, tmp_path: Path, write_tone: Callable[[Path], Path]
) -> Iterator[Callable[..., Simulation]]:
    """Return a function that opens a simulation with a curve."""
    for name in ("train", "valid"):
        write_tone(tmp_path / "data" / name / "tone.wav")
    opened: list[Simulation] = []

    def make(curve: Curve, metric: str = "si_sdr") -> Simulation:
        opened.append(Simulation(home, data=tmp_path / "data", curve=curve, metric=metric))
        return opened[-1]

    yield make
    for simulation in opened:
        simulation.close()
