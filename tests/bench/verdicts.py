"""How often verdicts are right, over the whole grid of experiments: false ones, coverage, power.

    python tests/bench/verdicts.py [--repeats 1000] [--processes 2] [--part grid|power|best]

Every experiment is drawn and compared by the product's own `compare` (`tests/jobs/comparison/simulation.py`).
A rate is the share of experiments: its standard error is printed. Cells of the grid whose false verdicts exceed
5.5 % are repeated with four times as many experiments, since the worst of 200 noisy rates looks worse than it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jobs.comparison.compare import compare
from tests.jobs.comparison.simulation import Cell, answers, learning_curves, paired_t, welch

SEEDS = (2, 3, 5)
ITEMS = (10, 40, 200, 800)
VARIANTS = (2, 3, 6)
# Reference first; dB.
SPREADS: dict[str, Callable[[int], tuple[float, ...]]] = {
    "none": lambda count: (0.0,) * count,
    "equal 0.1": lambda count: (0.1,) * count,
    "equal 0.5": lambda count: (0.5,) * count,
    "reference steady": lambda count: (0.0, *(0.5,) * (count - 1)),
    "reference varies": lambda count: (0.5, *(0.0,) * (count - 1)),
    "all different": lambda count: tuple(np.linspace(0.5, 0.05, count).round(3).tolist()),
}  # fmt: skip
MOST = 0.07


def grid() -> list[tuple[str, Cell]]:
    """Return the cells with their names: seeds independent, then shared, then items that suit variants."""
    cells = []
    for seeds, count, items, (name, spreads) in product(SEEDS, VARIANTS, ITEMS, SPREADS.items()):
        cell = Cell(seeds=seeds, items=items, spreads=spreads(count))
        cells.append((name, cell))
        if items == 40:
            cells.append((f"{name}, shared 0.9", replace(cell, correlation=0.9)))
            cells.append((f"{name}, interaction 1", replace(cell, interaction=1.0)))
        if items == 200 and seeds > 2:
            cells.append((f"{name}, 2 of the reference", replace(cell, seeds_of_first=2)))
    return cells


def false_rates(job: tuple[Cell, int, int]) -> tuple[int, int]:
    """Return how many experiments had a false verdict, and an interval without the truth."""
    cell, repeats, seed = job
    false = missed = 0
    for answer in answers(cell, repeats, seed=seed, margins={"si_sdr": 0.0}):
        rows = answer.tables["si_sdr"][1:]
        false += any(row.verdict in ("better", "worse") for row in rows)
        missed += any(
            row.difference is None or not row.difference.low <= 0 <= row.difference.high
            for row in rows
        )
    return false, missed


def show_grid(repeats: int, processes: int) -> int:
    """Print the grid; return the number of cells beyond the promise."""
    cells = grid()
    with get_context("spawn").Pool(processes) as pool:
        first = pool.map(false_rates, [(cell, repeats, 1) for _, cell in cells], chunksize=1)
        again = [place for place, (false, _) in enumerate(first) if false / repeats > 0.055]
        # Other seeds than before: a cell is not judged by the draws it was chosen for.
        jobs = [(cells[place][1], repeats, 100 + part) for place in again for part in range(4)]
        more = pool.map(false_rates, jobs, chunksize=1)
    print(
        f"{'SEEDS':>5} {'VARIANTS':>8} {'ITEMS':>5}  {'FALSE %':>7} {'COVER %':>7} {'ERROR':>5} {'OF':>6}  SPREADS"
    )
    beyond = 0
    for place, (name, cell) in enumerate(cells):
        count, (false, missed) = repeats, first[place]
        if place in again:
            own = more[again.index(place) * 4 : again.index(place) * 4 + 4]
            count, false, missed = repeats * 4, sum(a for a, _ in own), sum(b for _, b in own)
        rate = false / count
        error = (max(rate, 1 / count) * (1 - rate) / count) ** 0.5
        beyond += rate > MOST
        print(
            f"{cell.seeds:>5} {len(cell.spreads):>8} {cell.items:>5}  {100 * rate:>7.1f} "
            f"{100 * (1 - missed / count):>7.1f} {100 * error:>5.1f} {count:>6}  {name}",
            flush=True,
        )
    print(f"\ncells: {len(cells)}; beyond 7 %: {beyond}")
    return beyond


def power_rates(job: tuple[Cell, int]) -> tuple[int, int, int]:
    """Return how often a true difference is seen: by us, by Welch's test, by the paired one."""
    cell, repeats = job
    ours = sum(
        answer.tables["si_sdr"][1].verdict == "better"
        for answer in answers(cell, repeats, seed=4, margins={"si_sdr": 0.0})
    )
    generator = np.random.default_rng(4)
    drawn = [cell.draw(generator) for _ in range(repeats)]
    return ours, sum(welch(*pair) for pair in drawn), sum(paired_t(*pair) for pair in drawn)


def show_power(repeats: int, processes: int) -> int:
    """Print the power beside the textbook's tests; return the number of cells more than 5 points below."""
    cells = [
        Cell(
            seeds=seeds, items=40, spreads=(spread, spread), deltas=(0.0, delta),
            correlation=correlation,
        )
        for seeds, (spread, delta), correlation in product(
            SEEDS, [(0.0, 0.4), (0.2, 0.4), (0.2, 0.8), (0.5, 0.8)], (0.0, 0.5, 0.95)
        )
    ]  # fmt: skip
    with get_context("spawn").Pool(processes) as pool:
        rates = pool.map(power_rates, [(cell, repeats) for cell in cells], chunksize=1)
    print(
        f"{'SEEDS':>5} {'SPREAD':>6} {'SHARED':>6} {'DELTA':>5}  {'OURS %':>6} {'WELCH %':>7} {'PAIRED %':>8}"
    )
    below = 0
    for cell, counts in zip(cells, rates, strict=True):
        ours, by_welch, by_pairs = (100 * count / repeats for count in counts)
        below += ours < max(by_welch, by_pairs) - 5
        print(
            f"{cell.seeds:>5} {cell.spreads[0]:>6} {cell.correlation:>6} {cell.deltas[1]:>5}  "
            f"{ours:>6.1f} {by_welch:>7.1f} {by_pairs:>8.1f}"
        )
    print(f"\ncells: {len(cells)}; more than 5 points below the better of the two: {below}")
    return below


def show_best(repeats: int) -> int:
    """Print what `--at best` does where one variant is evaluated ten times as often."""
    generator = np.random.default_rng(7)
    print(f"{'SEEDS':>5} {'AT':>6} {'FALSE %':>7} {'MEAN GAP dB':>11}")
    for seeds, when in product((3, 5), ("best", "final")):
        wrong, gap = 0, 0.0
        for _ in range(repeats):
            reader = learning_curves({"often": 50, "seldom": 5}, seeds=seeds, generator=generator)
            answer = compare(
                reader, reader.records, metrics=["si_sdr"], when=when, margins={"si_sdr": 0.0}
            )  # type: ignore[arg-type]
            row = answer.tables["si_sdr"][1]
            wrong += row.verdict in ("better", "worse")
            gap += row.difference.mean / repeats if row.difference else 0.0
        print(f"{seeds:>5} {when:>6} {100 * wrong / repeats:>7.1f} {gap:>11.3f}")
    return 0


def main(arguments: Iterable[str] | None = None) -> int:
    """Print what was asked for; return 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--part", choices=["grid", "power", "best"], action="append")
    options = parser.parse_args(None if arguments is None else list(arguments))
    parts = options.part or ["grid", "power", "best"]
    broken = 0
    if "grid" in parts:
        broken += show_grid(options.repeats, options.processes)
    if "power" in parts:
        broken += show_power(options.repeats, options.processes)
    if "best" in parts:
        broken += show_best(max(100, options.repeats // 5))
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main())
