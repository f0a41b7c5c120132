"""How often `stop_when.reference` ends a run that would have reached its reference, and what it saves.

    uv run python tests/bench/stop_rules.py [--pairs 4000] [--seed 0]

Pairs of curves are drawn: gains that follow a power law or an exponential in the updates, with seeds
that differ in the final value (0.1 dB) and in speed (10 %), evaluations with noise of 0.03 to 0.3 dB,
maybe a learning rate that decays at the end, and settings that are as good as the reference, worse,
slower, or late (behind until the decay, then ahead). A stop is false where the run would have ended at
or above the reference's best less the tolerance. The script prints the rate of false stops with its
95 % interval (Wilson) for each kind of pair, how many of the hopeless runs are ended, and the share of
their updates that this saves.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.training.reference_rule import shortfall

KINDS = ("same", "worse", "slower", "late", "diverged")
ITEMS = 1.0e6


@dataclass(frozen=True, slots=True)
class Outcome:
    """One pair: when it was stopped (share of the run, or 1), and how far it would have ended below."""

    stopped_at: float
    below: float


def gains(rng: np.random.Generator) -> Callable[[np.ndarray, float], np.ndarray]:
    """Return a shape of learning: progress 0 to 1 and a speed give the gain, about 1 at the end."""
    if rng.random() < 0.5:
        power = rng.uniform(0.2, 0.6)
        return lambda t, speed: 1.35 * (1 - (1 + 30 * speed * t) ** -power)
    rate = rng.uniform(3, 10)
    return lambda t, speed: 1 - np.exp(-rate * speed * t)


def decay(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Return what the decay of the learning rate adds over the run, 0 to 1: nothing, or at its end."""
    kind = rng.choice(["none", "hold", "cosine"])
    if kind == "none":
        return lambda t: 0 * t
    if kind == "hold":
        return lambda t: np.clip((t - 0.8) / 0.2, 0, 1)
    return lambda t: 0.5 * (1 - np.cos(np.pi * np.clip(t, 0, 1))) ** 2 / 2


def pair(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return progress (N,), and the values of reference and run (N,), in dB."""
    count = int(rng.integers(10, 101))
    at = np.arange(1, count + 1) / count
    shape, falls = gains(rng), decay(rng)
    scale, jump = rng.uniform(3, 15), rng.uniform(0.3, 1.5)
    noise = float(np.exp(rng.uniform(np.log(0.03), np.log(0.3))))

    def curve(level: float, speed: float, *, late: float = 0.0) -> np.ndarray:
        speed *= float(np.exp(rng.normal(0, 0.1)))
        level += rng.normal(0, 0.1)
        added = (jump + late) * falls(at) - late
        # Evaluations share the slow part of the noise: weights wander.
        wander = np.zeros(count)
        for i in range(1, count):
            wander[i] = 0.7 * wander[i - 1] + rng.normal(0, 0.7 * noise)
        return scale * shape(at, speed) + added + level + wander + rng.normal(0, noise, count)

    reference = curve(0.0, 1.0)
    match kind:
        case "same":
            return at, reference, curve(0.0, 1.0)
        case "worse":
            return at, reference, curve(-rng.uniform(0.2, 3), 1.0)
        case "slower":
            return at, reference, curve(rng.uniform(-0.5, 1.0), rng.uniform(0.3, 0.9))
        case "late":
            return at, reference, curve(rng.uniform(-0.3, 0.6), 1.0, late=rng.uniform(0.3, 2))
        case _:
            run = curve(0.0, 1.0)
            begin = int(rng.uniform(0.1, 0.5) * count)
            run[begin:] = run[begin] - rng.uniform(1, 8) + rng.normal(0, noise, count - begin)
            return at, reference, run


def outcome(at: np.ndarray, reference: np.ndarray, run: np.ndarray, *, tolerance: float) -> Outcome:
    """Apply the rule at every evaluation but the last."""
    below = float(reference.max() - run.max())
    known = list(zip(ITEMS * at, reference, strict=True))
    for count in range(1, len(at)):
        own = list(zip(ITEMS * at[:count], run[:count], strict=True))
        missing = shortfall(own, known, end=ITEMS)
        if missing is not None and missing > tolerance:
            return Outcome(float(at[count - 1]), below)
    return Outcome(1.0, below)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share."""
    z, p = 1.96, hits / count
    middle, half = (
        p + z * z / (2 * count),
        z * (p * (1 - p) / count + z * z / (4 * count**2)) ** 0.5,
    )
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def simulate(pairs: int, *, seed: int, tolerance: float = 0.0) -> dict[str, list[Outcome]]:
    """Return the outcomes of `pairs` pairs of each kind."""
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    for number, kind in enumerate(KINDS):
        for index in range(pairs):
            rng = np.random.default_rng([seed, number, index])
            outcomes[kind].append(outcome(*pair(rng, kind), tolerance=tolerance))
    return outcomes


def false_stops(outcomes: list[Outcome], *, tolerance: float = 0.0) -> tuple[int, int]:
    """Return how many of the runs that reach the reference are stopped, and how many of those there are."""
    able = [one for one in outcomes if one.below <= tolerance]
    return sum(one.stopped_at < 1 for one in able), len(able)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for tolerance in (0.0, 0.3):
        print(f"tolerance {tolerance} dB: false stops | > 1 dB worse: ended, updates saved")
        for kind, outcomes in simulate(
            options.pairs, seed=options.seed, tolerance=tolerance
        ).items():
            hits, able = false_stops(outcomes, tolerance=tolerance)
            low, high = wilson(hits, able) if able else (0.0, 1.0)
            lost = [one.stopped_at for one in outcomes if one.below > 1]
            ended = np.mean([at < 1 for at in lost]) if lost else float("nan")
            saved = 1 - np.mean(lost) if lost else float("nan")
            share = hits / able if able else float("nan")
            print(
                f"  {kind:<9} {share:6.2%} of {able:5} ({low:.2%} to {high:.2%}) | "
                f"{ended:6.1%} of {len(lost):5}, {saved:5.1%}"
            )


if __name__ == "__main__":
    main()
