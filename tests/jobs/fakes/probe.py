"""Stands in for `engine.programs.probe`: answers at once, or waits where the data are called `slow`."""

from __future__ import annotations

import json
import sys
import time

job = json.loads(sys.stdin.readline())


def say(**values: object) -> None:
    """Write an answer."""
    print(json.dumps(values), flush=True)


if "bad" in job["data"]:
    say(problem="nothing can be probed with it")
    sys.exit(2)
units = {f"s{s} {t}": f"s{s}" for s in range(4) for t in range(5)}
say(
    rule="by take",
    notes=[],
    labels=["a", "b"],
    speakers=["s0", "s1"],
    units=units,
    train=9,
    test=20,
)
say(encoder="one", what="features", done=1, total=2)
if "slow" in job["data"]:
    time.sleep(60)


def scores(level: float) -> dict[str, object]:
    """Return the layers of an encoder."""
    adds = {unit: level + 0.002 * k for k, unit in enumerate(units)}
    value = sum(adds.values()) / len(adds)
    return {
        "1": {"held_out": 0.5, "scores": {"left_out_segments": {"value": value, "units": adds}}}
    }


for number, model in enumerate(job["models"]):
    say(
        scores_of=f"trained {number}",
        name=model["name"],
        chosen=1,
        layers=scores(0.8 + 0.01 * number),
    )
    if "random" in job["baselines"]:
        say(
            scores_of=f"random {number}",
            name=f"random, {model['name']}",
            chosen=1,
            layers=scores(0.3),
        )
if "mfcc" in job["baselines"]:
    say(scores_of="mfcc", name="MFCC", chosen=1, layers=scores(0.5))
say(done=True)
