"""Devices, locks, processes and samples of the machine."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace

import pynvml
import pytest

from jobs.machine.devices import DeviceError, child_environment, open_gpu, resolve_device
from jobs.machine.lease import DeviceLease, FileLock, LeaseError
from jobs.machine.processes import is_alive, own_token, process_token
from jobs.store.errors import StoreError
from jobs.store.reader import StoreReader
from jobs.store.records import SystemRecord
from jobs.store.writer import StoreWriter
from jobs.worker.recovery import recover
from jobs.worker.supervisor import _num_processes
from jobs.worker.system_sampler import SystemProbe, SystemSampler
from models.private_files import ensure_private
from tests.waiting import until

IMPORTS = """
import sys
import {module}
print(*(name for name in {unwanted} if name in sys.modules))
"""


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that NVML knows two GPUs, 0 and 1, and one by the name GPU-abc."""
    known = {0: "first", 1: "second", "GPU-abc": "by name"}

    def find(name):
        if name not in known:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return name

    def rates(handle):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", find)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", find)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", known.get)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", rates)
    memory = SimpleNamespace(used=5, total=9)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: memory)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there is no driver."""

    def fail():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)


def test_devices_without_a_gpu(no_gpu):
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    for wanted in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match="this machine has no such GPU"):
            resolve_device(wanted)
    with pytest.raises(DeviceError, match="--device gpu: expected auto, cpu, cuda or cuda:N"):
        resolve_device("gpu")
    assert child_environment("cpu")["CUDA_VISIBLE_DEVICES"] == ""


def test_devices_with_two_gpus(two_gpus):
    assert resolve_device("auto") == resolve_device("cuda") == "cuda:0"
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(DeviceError, match="--device cuda:2"):
        resolve_device("cuda:2")
    assert child_environment("cuda:1")["CUDA_VISIBLE_DEVICES"] == "1"


def test_the_environment_limits_the_gpus(two_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-abc")

    assert [open_gpu(f"cuda:{index}").name for index in (0, 1)] == ["second", "by name"]
    assert open_gpu("cuda:2") is None
    assert child_environment("cuda:1")["CUDA_VISIBLE_DEVICES"] == "GPU-abc"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert resolve_device("auto") == "cpu"


def test_a_gpu_is_sampled_as_far_as_it_tells(two_gpus):
    sample = SystemProbe("cuda:1", run_id=3, pid=None).sample()

    assert (sample.run, sample.gpu_name, sample.gpu_percent) == (3, "second", None)
    assert (sample.vram_bytes, sample.vram_total_bytes, sample.process_ram_bytes) == (5, 9, None)


def test_the_machine_is_sampled_without_a_gpu(no_gpu):
    sample = SystemProbe("cpu", run_id=None, pid=os.getpid()).sample()

    assert 0 <= sample.cpu_percent <= 100
    assert 0 < sample.process_ram_bytes <= sample.ram_bytes * 2
    assert sample.ram_bytes < sample.ram_total_bytes
    assert sample.gpu_name is sample.vram_bytes is None


def test_a_device_has_one_holder(tmp_path):
    refused = pytest.raises(
        LeaseError, match=rf"process {os.getpid()}\) is using the device 'cuda:0'"
    )
    with DeviceLease(tmp_path, "cuda:0"), DeviceLease(tmp_path, "cuda:1"), refused:
        DeviceLease(tmp_path, "cuda:0").__enter__()
    with DeviceLease(tmp_path, "cuda:0"):
        pass


def test_a_lock_ends_with_its_process(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from jobs.machine.lease import FileLock\n"
        "print(FileLock(Path(sys.argv[1])).acquire(), flush=True); time.sleep(60)"
    )
    path = tmp_path / "lock"
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"True\n"
    lock = FileLock(path)
    assert not lock.acquire()
    assert lock.holder() == str(child.pid)
    child.kill()
    child.wait()
    child.stdout.close()
    assert lock.acquire(timeout_s=5)
    lock.release()


def test_a_zombie_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert process_token(child.pid) == ""
    child.wait()
    assert process_token(child.pid) == ""
    assert is_alive(os.getpid(), own_token())
    assert not is_alive(os.getpid(), "of another time")
    assert not is_alive(None, "")


@pytest.mark.parametrize("pid", [0, 1, -1, 2**40, "1", "self", "../../etc", 1.0, True, b"1"])
def test_what_is_no_number_of_a_process_is_nobody(pid):
    assert not is_alive(pid, own_token())
    assert not is_alive(pid, "")


@pytest.mark.parametrize("token", ["", None, 3, "of another time"])
def test_a_number_without_its_token_gets_no_signal(token, home):
    """A row that others wrote, or a number that was given to another process since."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert not is_alive(stranger.pid, token)
        with StoreWriter(home.store) as store:
            store.insert_run({"name": "a", "config": "{}", "fingerprint": "", "seed": 0})
        with closing(sqlite3.connect(home.store)) as connection, connection:
            row = (stranger.pid, "" if token is None else token)
            connection.execute("UPDATE runs SET state = 'running', pid = ?, pid_token = ?", row)
        with StoreWriter(home.store) as store:
            recover(store, worker=1, grace_s=0.1, echo=lambda text: None)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


class Failing:
    """A probe whose samples are counted."""

    def __init__(self):
        self.number = 0

    def sample(self):
        self.number += 1
        return SystemRecord(
            time=float(self.number), run=None, cpu_percent=0.0, ram_bytes=1, ram_total_bytes=2, process_ram_bytes=None,
            gpu_percent=None, vram_bytes=None, vram_total_bytes=None, gpu_name=None,
        )  # fmt: skip


def test_samples_go_on_after_a_store_that_failed_for_a_moment(home, monkeypatch, caplog):
    real = StoreWriter.add_system
    failures = iter([StoreError("the disk is full")] * 3)

    def add(store, record):
        for error in failures:
            raise error
        real(store, record)

    monkeypatch.setattr(StoreWriter, "add_system", add)
    StoreWriter(home.store).close()
    with SystemSampler(home.store, Failing(), every_s=0.01), StoreReader(home.store) as reader:
        until(lambda: reader._rows("SELECT count(*) FROM system")[0][0] >= 2, "samples are stored")
    assert caplog.text.count("can't be stored") == 1


@pytest.mark.parametrize("count", [0, -1, 10**9, "2", None, 1.5, True, []])
def test_a_number_of_devices_that_no_setting_allows_is_a_message(count):
    with pytest.raises(DeviceError, match="expected 1 to 64"):
        _num_processes({"precision": {"devices": count}})
    assert _num_processes({}) == 1
    assert _num_processes({"precision": {"devices": 64}}) == 64


def test_a_private_file_is_made_once(tmp_path):
    path = tmp_path / "new" / "file.db"
    ensure_private(path)
    path.write_text("content")
    ensure_private(path)

    assert path.read_text() == "content"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        (
            "jobs.store.reader",
            ("torch", "numpy", "sqlite_utils", "huey", "pydantic", "psutil", "textual"),
        ),
        ("jobs.submit", ("torch", "textual", "wandb")),
        ("jobs.worker.serve", ("torch", "textual", "wandb", "scipy", "sqlite_utils", "pandas")),
        ("jobs.child.runner", ("torch", "textual", "wandb", "scipy", "sqlite_utils", "pandas")),
    ],
)
def test_what_is_loaded_stays_small(module, unwanted):
    code = IMPORTS.format(module=module, unwanted=unwanted)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.split() == []
