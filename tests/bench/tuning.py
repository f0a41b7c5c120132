"""How often `sepdash tune` chooses a slow size, on devices of arithmetic with noise: `python -m tests.bench.tuning [N]`.

A search is the one of the product, with its budget, child processes replaced by `Device` of the tests and
clocks by the device's. Each timing is disturbed by 10 % independent noise, drift that neighbours share and
a spike in 3 % of cases. Laws of time:

- calls: a cost per call, log-uniform between 0.1 and 30 ms, and one per item;
- middle: the same, and a batch of 4 to 16 is the fastest, others are 4 % slower a step (caches);
- equal: sizes make no difference;
- edge: one size is 3.2 % faster than all others, the worst case of a limit at 3 %.

Counted are searches that end with a size more than 3 % slower than the fastest of those timed: it was
recommended; the preset was kept, and the search said that sizes could not be told apart; or it was kept
without a word. And those that recommend a size more than 3 % slower than the preset.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import log2, sqrt
from random import Random

from engine.config.loading import load_config
from engine.tuning.search import search
from engine.tuning.setups import Options
from engine.tuning.trials import Case
from tests.engine.tuning.conftest import MIB, Device, Noise

GOAL = 64
_LIMIT = 1.03


@dataclass
class LawDevice(Device):
    """A device whose best size can be set."""

    fastest: int = 0
    step: float = 0.0

    def seconds(self, case: Case, micro_batches: int) -> float:
        base = super().seconds(case, micro_batches)
        if not self.fastest:
            return base
        if self.step < 0:
            return base * (1.0 if case.count == self.fastest else 1.032)
        return base * (1 + self.step * abs(log2(case.count / self.fastest)))


def device_of(law: str, seed: int, *, scale: float) -> LawDevice:
    """Return a device; `scale` is the seconds of an update of 64 items."""
    random = Random(seed)
    more = {
        "calls": {"call_s": 10 ** random.uniform(-4, -1.5)},
        "middle": {"call_s": 1e-4, "fastest": random.choice([4, 8, 16]), "step": 0.04},
        "equal": {"call_s": 0.0},
        "edge": {"call_s": 0.0, "fastest": random.choice([4, 8, 16, 32, 64]), "step": -1.0},
    }[law]
    times = {"item_s": scale / GOAL, "step_s": 0.0, "per_item": random.choice([20, 60]) * MIB}
    return LawDevice(noise=Noise(seed), **times, **more)


def main() -> None:
    num = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(
        f"{num} searches a row, standard error of 5 %: {100 * sqrt(0.05 * 0.95 / num):.1f} points"
    )
    print("                 >3 % slower than the fastest     >3 % slower")
    print("law      update  recommended  kept, said  kept     than preset  changed  rounds    time")
    for scale in (0.06, 0.5):
        for law in ("calls", "middle", "equal", "edge"):
            print(f"{law:7} {scale:5.2f} s {row(law, scale, num)}", flush=True)


def row(law: str, scale: float, num: int) -> str:
    recommended = said = silent = slower = changed = 0
    rounds, seconds = 0.0, 0.0
    for seed in range(num):
        device = device_of(law, seed, scale=scale)
        preset = Random(seed + 1).choice([1, 4, 16, 64])
        config = load_config(
            {
                "data": {"kind": "bandwidth", "train": "t", "valid": "v", "segment_s": 1.0},
                "batch": {"items": GOAL, "micro_batch": preset},
            }
        )
        found = search(
            config, Options(), measurer=device, emit=lambda row: None, clock=device.clock
        )
        times = {
            one.count: device.update_s(Case(config.to_dict(), one.count, micro_batches=-(-GOAL // one.count)))
            for one in found.rows if one.items_per_s
        }  # fmt: skip
        chosen = times[found.settings.get("batch.micro_batch", preset)]
        is_slow = chosen > _LIMIT * min(times.values())
        has_said = any("told apart" in note or "no difference" in note for note in found.notes)
        recommended += is_slow and bool(found.settings)
        said += is_slow and not found.settings and has_said
        silent += is_slow and not found.settings and not has_said
        slower += preset in times and chosen > _LIMIT * times[preset]
        changed += bool(found.settings)
        rounds += max(one.ratio.rounds for one in found.rows if one.ratio)
        seconds += device.now
    shares = [recommended, said, silent, slower, changed]
    return (
        "{:11.1%} {:11.1%} {:8.1%} {:13.1%} {:9.0%}".format(*(share / num for share in shares))
        + f"{rounds / num:8.0f} {seconds / num:6.0f} s"
    )


if __name__ == "__main__":
    main()
