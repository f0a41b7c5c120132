"""How biased the number of a search is, and that of the runs that confirm it: simulated searches.

    uv run python tests/bench/winners_curse.py [SEARCHES]

Everything but training is real: Optuna proposes, the queue runs, the best are confirmed, `compare`
judges. A run's value is a known function of its settings plus the noise of its seed, so the truth is
known. Two worlds: `flat`, where no setting matters, and `peak`, where one rate is best.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import fmean, stdev

import numpy as np
import soundfile

from engine.config.schema import RunConfig
from jobs.comparison.compare import compare
from jobs.home import Home
from jobs.searches.overview import overview
from tests.jobs.searches.simulated import Simulation

# Standard deviation between seeds, and of an item within a run, in dB.
SPREAD, OF_ITEMS = 0.3, 1.0
TRIALS, CONFIRM, SEEDS = 20, 3, 3
SPACE = {"optimizer": {"lr": {"low": 1e-5, "high": 1e-1, "log": True}}}
Truth = Callable[[float], float]


def flat(lr: float) -> float:
    """Return the true value where no setting matters."""
    return 10.0


def peak(lr: float) -> float:
    """Return the true value where 1e-3 is best, by 0.3 dB over the base (1e-4)."""
    return 10.3 - 0.3 * (math.log10(lr) + 3.0) ** 2


@dataclass
class Outcome:
    """What a number of searches came to."""

    searched: list[float] = field(default_factory=list)
    confirmed: list[float] = field(default_factory=list)
    best_confirmed: list[float] = field(default_factory=list)
    gain: list[float] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    any_better: int = 0


def noise(config: RunConfig, salt: int) -> float:
    """Return the noise of a run: of its settings and its seed."""
    return SPREAD * Random(f"{salt} {config.optimizer.lr!r} {config.seed}").gauss(0.0, 1.0)


def search_once(truth: Truth, salt: int, outcome: Outcome) -> None:
    """Make one search and note how far its numbers are from the truth."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("train", "valid"):
            (folder / part).mkdir()
            soundfile.write(folder / part / "tone.wav", np.sin(np.arange(4800) * 0.05), 48_000)
        simulation = Simulation(
            Home(folder / "home"), data=folder, items=50, item_spread=OF_ITEMS, salt=salt,
            curve=lambda config, progress: truth(config.optimizer.lr) + noise(config, salt),
        )  # fmt: skip
        try:
            once = {"set": {"validation": {"every": "100 updates"}}}
            simulation.start(
                file=once, trials=TRIALS, pruner="none", confirm=CONFIRM, confirm_seeds=SEEDS,
                space=SPACE, seed=salt,
            )  # fmt: skip
            simulation.train_all()
            note(simulation, truth, outcome=outcome)
        finally:
            simulation.close()


def note(simulation: Simulation, truth: Truth, *, outcome: Outcome) -> None:
    view = overview(simulation.home, "lr", reader=simulation.reader)
    rates = {row.variant: row.settings["optimizer.lr"] for row in view.trials}
    base, *others = view.confirmed
    true_base = truth(rates["t000"])
    first = others[0]
    true_first = truth(rates[first.variant])
    assert first.searched is not None
    assert first.mean is not None
    assert base.mean is not None
    outcome.searched.append(first.searched - true_first)
    outcome.confirmed.append(first.mean - true_first)
    errors = {
        item.mean: item.mean - truth(rates[item.variant])
        for item in others
        if item.mean is not None
    }
    outcome.best_confirmed.append(errors[max(errors)])
    outcome.gain.append((first.mean - base.mean) - (true_first - true_base))
    comparison = compare(simulation.reader, view.runs, by="items", when="final", metrics=["si_sdr"])
    verdicts = {row.variant: row.verdict for row in comparison.tables["si_sdr"]}
    outcome.verdicts[verdicts[first.variant]] += 1
    outcome.any_better += "better" in verdicts.values()


def line(what: str, values: list[float]) -> str:
    """Return a mean with its standard error."""
    error = stdev(values) / math.sqrt(len(values))
    return f"  {what:<44} {fmean(values):+.3f} dB ± {error:.3f}"


def main() -> None:
    """Print the table of both worlds."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print(
        f"{count} searches of {TRIALS} trials each, best {CONFIRM} confirmed with {SEEDS} seeds; spread "
        f"between seeds {SPREAD} dB"
    )
    for truth in (flat, peak):
        outcome, started = Outcome(), time.monotonic()
        for salt in range(count):
            search_once(truth, salt, outcome)
        print(f"{truth.__name__} ({time.monotonic() - started:.0f} s)")
        print(line("winner, value in the search minus truth", outcome.searched))
        print(line("winner, confirmed mean minus truth", outcome.confirmed))
        print(line("winner minus base, confirmed minus truth", outcome.gain))
        print(line("best of the three confirmed minus truth", outcome.best_confirmed))
        words = ", ".join(f"{name} {n}" for name, n in outcome.verdicts.most_common())
        print(f"  verdicts on the winner: {words}; any of three better: {outcome.any_better}")


if __name__ == "__main__":
    main()
