"""The planned end of a night against its real end, on real runs on the CPU.

    python tests/bench/night.py [--updates 400] [--seeds 2]

Plans twice: from short measurements (`--measure`), then from the runs of the first night. Prints the
planned and the real time of every run, and how much later or earlier than planned the night ended.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from engine.data.synthetic import write_dataset
from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.sweeps.plan import queue_sweep
from jobs.sweeps.prepare import Wish, prepare_sweep

PRESET = """
[data]
kind = "bandwidth"
train = "{data}/train"
valid = "{data}/valid"
rate_hz = 8000
segment_s = 0.5
input_rates_hz = [2000, 4000]
[model]
kind = "audio_unet"
width = 4
[batch]
items = 2
micro_batch = 2
[loss]
windows = [256, 64]
[precision]
threads = 1
device = "cpu"
[validation]
every = "100 updates"
full_files = true
full_every = "200 updates"
[checkpoint]
every = "100 updates"
"""
VARIANTS = {
    "baseline": {},
    "batch4x": {"batch": {"items": 8, "micro_batch": 8}},
    "wide": {"model": {"width": 8}},
}


def main() -> None:
    """Plan, train, compare; twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home").create()
        write_dataset(Path(folder) / "data", tracks=4, duration_s=4.0)
        (home.presets / "tiny.toml").write_text(PRESET.format(data=Path(folder) / "data"))
        for number, measure in enumerate((True, False)):
            values = {
                "base": "tiny", "variants": VARIANTS, "match": "items",
                "seeds": [number * 100 + seed for seed in range(options.seeds)],
                "set": {"schedule": {"length": f"{options.updates} updates"}},
            }  # fmt: skip
            how = "from short measurements" if measure else "from the runs of the first night"
            print(f"planned {how}")
            night(home, f"night{number}", values, measure=measure)


def night(home: Home, name: str, values: dict, *, measure: bool) -> None:
    """Plan and train one night; print planned and real times."""
    started = time.time()
    wish = Wish(deadline=started + 7200, measure=measure)
    prepare_sweep(home, name, values=values, wish=wish, echo=print)
    if measure:
        print(f"measuring took {time.time() - started:.0f} s")
    # The clock starts when the worker does.
    sweep = prepare_sweep(
        home, name, values=values, wish=Wish(deadline=time.time() + 7200), echo=print
    )
    queue_sweep(home, sweep.plan)
    begun = time.time()
    code = "import sys; from pathlib import Path; from jobs.home import Home; from jobs.worker.serve import serve; serve(Home(Path(sys.argv[1])), device='cpu', drain=True)"
    subprocess.run(
        [sys.executable, "-c", code, str(home.root)], check=True, stdout=subprocess.DEVNULL
    )
    print(f"{'run':<22} {'planned s':>10} {'at most s':>10} {'real s':>8} {'real/planned':>13}")
    with StoreReader(home.store) as reader:
        for item in sweep.runs:
            run, duration = reader.run(item.run.name), item.run.duration
            assert run.started_at is not None
            assert run.ended_at is not None
            assert duration is not None
            real = run.ended_at - run.started_at
            ratio = real / duration.expected_s
            print(
                f"{run.name:<22} {duration.expected_s:10.1f} {duration.slowest_s:10.1f} {real:8.1f} {ratio:13.3f}"
            )
        ended = max(run.ended_at or 0.0 for run in reader.runs())
    end = sweep.runs[-1].end
    assert end is not None
    planned, latest, real = (t - begun for t in (end.expected, end.latest, ended))
    print(
        f"whole night: planned {planned:.1f} s, at the latest {latest:.1f} s, real {real:.1f} s: "
        f"{real / planned - 1:+.1%}, {'inside' if real <= latest else 'OUTSIDE'} the margin\n"
    )


if __name__ == "__main__":
    main()
