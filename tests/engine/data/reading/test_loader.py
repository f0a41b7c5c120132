"""The loader: the same batches however they are read, and processes that never outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from engine.batching.batch import Batch
from engine.batching.items import ItemDraw, MicroBatch
from engine.batching.plan import FixedPlan
from engine.config.errors import DataError
from engine.config.schema import RunConfig
from engine.data.kinds import open_dataset
from engine.data.reading.loader import Loader
from engine.data.reading.reader_processes import ReaderDied, ReaderFailed
from engine.data.separation.dataset import Dataset, fetch

DEADLINE_S = 60.0


@pytest.fixture
def dataset(
    make_config: Callable[..., RunConfig], write_audio: Callable[..., np.ndarray]
) -> Dataset:
    for number in range(3):
        write_audio(f"train/{number}.wav", frames=4000, seed=number)
    return open_dataset(make_config("bandwidth"), "train")


def take(loader: Loader, count: int) -> list[Batch]:
    return [next(loader) for _ in range(count)]


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    for left, right in zip(first, second, strict=True):
        assert left.tensors.keys() == right.tensors.keys() == {"mix", "target"}
        assert all(torch.equal(left.tensors[name], right.tensors[name]) for name in left.tensors)


def wait_until(done: Callable[[], bool]) -> bool:
    end = time.monotonic() + DEADLINE_S
    while not done() and time.monotonic() < end:
        threading.Event().wait(0.02)
    return done()


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_batches_have_the_named_shapes(dataset: Dataset) -> None:
    with Loader(
        partial(fetch, dataset), FixedPlan(len(dataset), 5, micro_batch=3, seed=0)
    ) as loader:
        first, second = take(loader, 2)
    assert first.tensors["mix"].shape == (3, 1, 800)
    assert first.tensors["target"].shape == (3, 1, 1, 800)
    assert second.tensors["mix"].shape == (2, 1, 800)
    assert first.tensors["mix"].dtype == torch.float32


def test_batches_follow_the_plan(dataset: Dataset) -> None:
    plan = FixedPlan(len(dataset), 5, micro_batch=3, seed=0)
    with Loader(partial(fetch, dataset), plan, start_update=4) as loader:
        batches = take(loader, 4)
    expected = [fetch(dataset, draws) for k in (4, 5) for draws in plan.micro_batches(k)]
    assert_equal(batches, expected)


@pytest.mark.parametrize(("workers", "background"), [(0, True), (1, False), (2, True), (3, False)])
def test_any_number_of_readers_gives_the_same_batches(
    workers: int, background: bool, dataset: Dataset
) -> None:
    plan = FixedPlan(len(dataset), 5, micro_batch=2, seed=7)
    read = partial(fetch, dataset)
    with Loader(read, plan, start_update=3) as plain:
        expected = take(plain, 20)
    with Loader(
        read, plan, workers=workers, background=background, prefetch=1, start_update=3
    ) as loader:
        assert len(loader.process_ids) == workers
        assert_equal(take(loader, 20), expected)


def test_closing_ends_processes_and_threads(dataset: Dataset) -> None:
    before = threading.active_count()
    plan = FixedPlan(len(dataset), 5, micro_batch=2, seed=7)
    for workers in (0, 2):
        loader = Loader(partial(fetch, dataset), plan, workers=workers, background=True)
        take(loader, 1)
        pids = loader.process_ids
        loader.close()
        loader.close()
        assert wait_until(lambda pids=pids: all(is_gone(pid) for pid in pids))
        assert threading.active_count() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_problem_reaches_the_trainer_as_it_is(
    workers: int, dataset: Dataset, tmp_path: Path
) -> None:
    for file in (tmp_path / "train").iterdir():
        file.unlink()
    plan = FixedPlan(len(dataset), 2, micro_batch=2, seed=0)
    with Loader(partial(fetch, dataset), plan, workers=workers, background=True) as loader:
        with pytest.raises(DataError, match="it does not exist") as caught:
            next(loader)
        assert len(caught.value.problems) == 1


def test_a_bug_in_a_reader_comes_with_its_traceback(dataset: Dataset) -> None:
    plan = FixedPlan(10_000, 2, micro_batch=2, seed=0)
    with (
        Loader(partial(fetch, dataset), plan, workers=1) as loader,
        pytest.raises(ReaderFailed, match=r"IndexError"),
    ):
        take(loader, 10)


def test_a_killed_reader_is_named(dataset: Dataset) -> None:
    plan = FixedPlan(len(dataset), 5, micro_batch=5, seed=0)
    with Loader(partial(fetch, dataset), plan, workers=2) as loader:
        take(loader, 2)
        os.kill(loader.process_ids[0], signal.SIGKILL)
        with pytest.raises(
            ReaderDied, match=r"reader process 0 exited unexpectedly .*batch\.workers"
        ):
            take(loader, 1000)


def test_readers_stand_apart_from_signals_to_the_group(dataset: Dataset) -> None:
    with Loader(
        partial(fetch, dataset), FixedPlan(len(dataset), 5, micro_batch=5, seed=0), workers=1
    ) as loader:
        take(loader, 1)
        assert os.getpgid(loader.process_ids[0]) != os.getpgid(0)


def test_reading_survives_a_signal_to_the_server_of_the_readers(dataset: Dataset) -> None:
    """A SIGTERM to the trainer's group hits the fork server, too: the update can still be ended."""
    plan = FixedPlan(len(dataset), 5, micro_batch=5, seed=0)
    with Loader(partial(fetch, dataset), plan, workers=1) as loader:
        take(loader, 1)
        pids = loader.process_ids
        server = psutil.Process(pids[0]).parent()
        assert server is not None
        assert server.pid != os.getpid()
        server.terminate()
        assert wait_until(lambda: is_gone(server.pid))
        assert len(take(loader, 50)) == 50
    assert wait_until(lambda: all(is_gone(pid) for pid in pids))
    with Loader(partial(fetch, dataset), plan, workers=1) as loader:
        assert len(take(loader, 2)) == 2


def test_loading_leaves_the_global_generators_alone(dataset: Dataset) -> None:
    before = (torch.get_rng_state(), np.random.get_state(legacy=True)[1].copy())
    plan = FixedPlan(len(dataset), 5, micro_batch=5, seed=0)
    for workers in (0, 1):
        with Loader(partial(fetch, dataset), plan, workers=workers) as loader:
            take(loader, 3)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state(legacy=True)[1], before[1])


SCRIPT = """
import sys, time
from functools import partial
from pathlib import Path
from engine.batching.plan import FixedPlan
from engine.config.loading import load_config
from engine.data.separation.dataset import fetch
from engine.data.reading.loader import Loader
from engine.data.kinds import open_dataset

if __name__ == "__main__":
    config = load_config({"data": {"kind": "bandwidth", "train": sys.argv[1], "valid": sys.argv[1],
        "rate_hz": 8000, "segment_s": 0.1, "input_rates_hz": [4000]}})
    dataset = open_dataset(config, "train")
    loader = Loader(partial(fetch, dataset), FixedPlan(len(dataset), 5, 5, 0), workers=2)
    next(loader)
    print(*loader.process_ids, flush=True)
    if sys.argv[2] == "wait":
        time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill", "exit"])
def test_readers_die_with_their_trainer(end: str, dataset: Dataset, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [
        sys.executable,
        "-P",
        str(script),
        str(tmp_path / "train"),
        "wait" if end == "kill" else "",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        pids = [int(pid) for pid in trainer.stdout.readline().split()]
        assert len(pids) == 2
        if end == "kill":
            trainer.kill()
        assert trainer.wait(DEADLINE_S) == (-signal.SIGKILL if end == "kill" else 0)
    assert wait_until(lambda: all(is_gone(pid) for pid in pids))


def test_items_of_unequal_length_are_not_batched(dataset: Dataset) -> None:
    class Unequal:
        def item(self, epoch: int, index: int) -> object:
            item = dataset.item(epoch, index)
            return type(item)(item.mix_CT[:, : 100 + index], item.target_SCT[..., : 100 + index])

    with pytest.raises(ValueError, match="same shape"):
        fetch(Unequal(), MicroBatch((ItemDraw(0, 0), ItemDraw(0, 1))))  # type: ignore[arg-type]
