"""Several devices beside one: what the times say, and two real processes on the CPU."""

from __future__ import annotations

import os
import sys

import pytest

from engine.tuning.scaling import PROGRAM, ScalingJob, measure_scaling, scaling_of, ways
from jobs.machine.devices import TORCHRUN, ranks_environment


def job(devices: int = 2, micro_batches: int = 3, **more) -> ScalingJob:
    values = {"precision": {"devices": devices}}
    return ScalingJob(values, 4, (), micro_batches, limit_s=1.0, **more)


def test_one_device_makes_the_update_of_all() -> None:
    assert ways(job()) == [(1, 6), (2, 3), (2, 1)]
    assert ways(job(micro_batches=1)) == [(1, 2), (2, 1)]


def test_speeds_are_those_of_equal_work() -> None:
    scaling = scaling_of(job(), [[1.2] * 8, [0.75] * 8, [0.9] * 8])
    assert [(row.devices, row.micro_batches, row.items) for row in scaling.rows] == [
        (1, 6, 24), (2, 3, 24), (2, 1, 8),
    ]  # fmt: skip
    assert [row.items_per_s for row in scaling.rows] == pytest.approx([20, 32, 24 / 0.9])
    assert scaling.rows[1].ratio.middle == pytest.approx(1.6)
    assert scaling.notes == ("2 devices run at 1.60x the speed of one, 80% of 2x",)


def test_devices_that_do_not_pay_are_told() -> None:
    assert (
        "slower than one here (0.50x): use one"
        in scaling_of(job(), [[1.0] * 8, [2.0] * 8, []]).notes[0]
    )
    noisy = scaling_of(job(), [[1.0, 1.3, 0.8, 1.1], [1.1, 1.0, 1.0, 0.9], []])
    assert noisy.notes[0].startswith("can't tell whether 2 devices are faster than one: ")
    assert noisy.notes[0].endswith("after 4 rounds; raise --budget-s")
    assert noisy.rows[2].ratio is None
    equal = scaling_of(job(), [[1.0, 1.01, 0.99] * 8, [1.0, 0.99, 1.01] * 8, []])
    assert equal.notes[0] == "no difference between 2 devices and one (1.00x)"


def test_unequal_devices_are_told() -> None:
    times = [[1.0] * 8, [0.6] * 8, [0.6] * 8]
    own = [[0.1, 0.14], [0.1, 0.13], [0.12, 0.17], [0.1, 0.15], [0.09, 0.13], [0.1, 0.14]]
    (_, note) = scaling_of(job(), times, own=own).notes
    assert note.startswith("unequal devices: device 1 takes 1.4")
    equal = [[0.1, 0.101], [0.102, 0.1], [0.1, 0.1], [0.1, 0.101]]
    assert len(scaling_of(job(), times, own=equal).notes) == 1


@pytest.mark.slow
def test_two_processes_on_the_cpu_are_timed(make_config) -> None:
    config = make_config(
        batch={"items": 8, "micro_batch": 2}, precision={"devices": 2, "device": "cpu"}
    )
    asked = ScalingJob(config.to_dict(), 2, (), 2, limit_s=2.0, threads=1)
    command = (
        *TORCHRUN,
        "--nproc-per-node=2",
        "--no-python",
        "--",
        sys.executable,
        "-P",
        "-m",
        PROGRAM,
    )
    environment = {**ranks_environment(["cpu"], 2), "OMP_NUM_THREADS": "1"}
    scaling = measure_scaling(asked, command, environment=environment, timeout_s=200)
    assert not [note for note in scaling.notes if "could not be timed" in note], scaling.notes
    assert [(row.devices, row.micro_batches) for row in scaling.rows] == [(1, 4), (2, 2), (2, 1)]
    assert all(row.items_per_s > 0 and row.ratio.rounds >= 1 for row in scaling.rows)
    assert scaling.rows[0].ratio.middle == 1
    assert os.environ.get("RANK") is None
