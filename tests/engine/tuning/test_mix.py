"""What an update is made of: worked out by hand, and against the whole plan."""

from __future__ import annotations

import numpy as np
import pytest

from engine.batching.open_plan import open_plan
from engine.batching.report import micro_batches
from engine.tuning.mix import describe_lengths, mix_of
from engine.tuning.search import search
from engine.tuning.setups import Options, Setup
from engine.tuning.trials import Part
from tests.bench.batch_plans import librispeech_like
from tests.engine.tuning.test_lengths import FACTS, speech


def setup_of(config, goal: float) -> Setup:
    return Setup("preset", config.to_dict(), count=1, goal=goal, shape=(8.0, 40.0))


def sizes_of(durations) -> np.ndarray:
    durations = np.asarray(durations, dtype=float)
    return np.column_stack([durations, np.round(3 * durations)])


def test_parts_worked_out_by_hand() -> None:
    # 24 s a micro-batch: 8 items of 3 s in ones of 8, 6 of 4 s in ones of 6, 4 of 6 s in ones of 4.
    sizes = sizes_of([3.0] * 16 + [4.0] * 12 + [6.0] * 8)
    bins = speech(
        mode="1D-bucketing", cap_s=24.0, micro_batch=64, bin_ends_s=[3.0, 4.0, 6.0], accumulation=6
    )
    parts = mix_of(setup_of(bins, 18.0), sizes)
    assert parts == (
        Part(8, (3.0, 9.0), pytest.approx(1.0)),
        Part(6, (4.0, 12.0), pytest.approx(1.0)),
        Part(4, (6.0, 18.0), pytest.approx(1.0)),
    )


@pytest.mark.parametrize("batch", [{"items": 256, "cap_s": 160.0, "micro_batch": 64}, {"mode": "1D-bucketing-dyn", "cap_s": 200.0, "micro_batch": 64}])  # fmt: skip
def test_three_parts_cost_what_the_whole_plan_costs(batch) -> None:
    """An update of parts takes the time of one of the plan within 1 %, for a law of time that bends."""
    sizes = sizes_of(librispeech_like(4000))
    config = speech(**batch)
    counts, shapes = micro_batches(open_plan(config, sizes, manifest=""), sizes)

    def seconds(count, length):
        return 0.01 + 0.001 * count * (length + length**2 / 30)

    goal = 256.0
    true = seconds(counts, shapes[:, 0]).sum() * goal / counts.sum()
    parts = mix_of(setup_of(config, goal), sizes)
    assert len(parts) == 3
    estimate = sum(seconds(part.count, part.shape[0]) * part.micro_batches for part in parts)
    assert estimate == pytest.approx(true, rel=0.01)


def test_the_middle_length_alone_would_be_wrong() -> None:
    """Why the distribution counts: half short, half long items cost 4.5 times those of median length."""
    sizes = sizes_of([2.0] * 501 + [16.0] * 500)
    config = speech(mode="1D-bucketing", cap_s=32.0, micro_batch=64, bin_ends_s=[2.0, 16.0])
    parts = mix_of(setup_of(config, 64.0), sizes)
    seconds = sum(part.count * part.shape[0] * part.micro_batches for part in parts)
    assert seconds == pytest.approx(64 * sizes[:, 0].mean(), rel=0.01)
    assert seconds > 4 * 64 * np.median(sizes[:, 0])


def test_a_search_times_the_distribution_and_says_so(new_device) -> None:
    sizes = sizes_of(np.linspace(1.0, 16.0, 1000))
    device = new_device(per_s=20 * 2**20, facts=FACTS)
    result = search(speech(), Options(), measurer=device, emit=lambda row: None, sizes=sizes)
    (job, *_) = [job for job in device.jobs if job.timing_s]
    for case in job.cases:
        lengths = [part.shape[0] for part in case.mix]
        assert len(lengths) == 3
        assert lengths == sorted(lengths)
        assert sum(p.count * p.micro_batches for p in case.mix) == pytest.approx(256, rel=0.05)
    assert result.data == (
        "timed on batches as they are made of all 1,000 training items (2.36 h), 1.0 to 16.0 s, median 8.5 s, "
        "95% up to 15.2 s"
    )


@pytest.mark.parametrize("longest", [3.966, 31.407])
def test_updates_that_fit_whole_are_not_timed_against_themselves(new_device, longest) -> None:
    """The limit is rounded, and must not cut the batch of the longest items in two."""
    sizes = sizes_of(np.linspace(1.0, longest, 112))
    facts = {**FACTS, "lengths_s": (1.0, 2.0, longest), "mean_s": 2.5, "num_items": 112}
    device = new_device(total=512 * 2**30, per_s=2**20, facts=facts)
    config = speech(items=16, micro_batch=16)
    result = search(config, Options(), measurer=device, emit=lambda row: None, sizes=sizes)
    assert not [row.label for row in result.rows if "cap_s" in row.label]
    assert result.settings == {}


def test_one_item_is_described() -> None:
    assert describe_lengths(np.array([[2.0]])).startswith(
        "all 1 training item (0.00 h), 2.0 to 2.0 s"
    )


def test_segments_are_described(new_device, make_config) -> None:
    result = search(make_config(), Options(), measurer=new_device(), emit=lambda row: None)
    assert result.data == "timed on segments of 0.25 s, which all training items are"
