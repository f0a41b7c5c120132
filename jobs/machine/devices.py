"""The devices of a run, without torch: NVML lists the GPUs, the environment restricts them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pynvml

from jobs.machine.lease import DeviceLease, DeviceUse, LeaseError

# Without --no-python torchrun would put the current folder on the path of modules.
TORCHRUN = (
    sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--max-restarts=0",
    "--local-addr=127.0.0.1",
)  # fmt: skip
_OF_TORCHRUN = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)


class DeviceError(ValueError):
    """A device that does not exist here or is in use."""


class DevicesBusy(DeviceError):
    """The devices are there, but others use them at the moment."""


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One measurement of a GPU."""

    name: str
    percent: float | None
    used_bytes: int | None
    total_bytes: int | None


class Gpu:
    """A GPU seen through NVML; `index` counts the GPUs in CUDA_VISIBLE_DEVICES."""

    def __init__(self, nvml: ModuleType, index: int) -> None:
        self._nvml = nvml
        visible = visible_gpus()
        name = visible[index] if visible is not None else str(index)
        self._handle: Any = (
            nvml.nvmlDeviceGetHandleByIndex(int(name))
            if name.isdecimal()
            else nvml.nvmlDeviceGetHandleByUUID(name)
        )
        self.name = str(nvml.nvmlDeviceGetName(self._handle))

    def sample(self) -> GpuSample:
        """Measure; values that the GPU does not report are None."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        rates = self._ask("nvmlDeviceGetUtilizationRates")
        return GpuSample(
            self.name,
            float(rates.gpu) if rates is not None else None,
            used_bytes=int(memory.used) if memory is not None else None,
            total_bytes=int(memory.total) if memory is not None else None,
        )

    def _ask(self, function: str) -> Any:
        try:
            return getattr(self._nvml, function)(self._handle)
        except self._nvml.NVMLError:
            return None


def open_gpu(device: str) -> Gpu | None:
    """Return the GPU behind `cuda:0`, None when there is none or the device is the CPU."""
    if not device.startswith("cuda"):
        return None
    try:
        pynvml.nvmlInit()
        return Gpu(pynvml, int(device.partition(":")[2] or 0))
    except (pynvml.NVMLError, IndexError):
        return None


def visible_gpus() -> list[str] | None:
    """Return what CUDA_VISIBLE_DEVICES lists, None when it is not set."""
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def resolve_device(device: str) -> str:
    """Turn `auto`, `cpu`, `cuda` or `cuda:1` into the name of one device.

    Raises:
        DeviceError: when there is no such device here.
    """
    if device == "auto":
        return "cuda:0" if open_gpu("cuda:0") is not None else "cpu"
    if device == "cpu":
        return device
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise DeviceError(f"--device {device}: expected auto, cpu, cuda or cuda:N")
    name = device if ":" in device else f"{device}:0"
    if open_gpu(name) is None:
        raise DeviceError(
            f"--device {device}: this machine has no such GPU; `sepdash doctor` lists the "
            "devices, --device cpu trains without a GPU"
        )
    return name


def num_gpus() -> int:
    """Return the number of GPUs visible to a child process."""
    visible = visible_gpus()
    if visible is not None:
        return len(visible)
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


@contextmanager
def devices_taken(device: str, count: int, *, locks: Path) -> Iterator[list[str]]:
    """Lock the devices of a run: the worker's own, already locked, and as many free ones as needed.

    On the CPU any number of processes share the one device.

    Raises:
        DeviceError: when there are not enough.
        DevicesBusy: when other programs use them at the moment.
    """
    if count == 1 or device == "cpu":
        yield [device]
        return
    names = [f"cuda:{index}" for index in range(num_gpus())]
    if len(names) < count:
        raise DeviceError(
            f"precision.devices = {count}, but this machine has {len(names)} GPU(s); lower this setting"
        )
    taken, held = [device], []
    with ExitStack() as leases:
        for name in names:
            if name == device or len(taken) == count:
                continue
            try:
                with ExitStack() as both:
                    both.enter_context(DeviceLease(locks, name))
                    purpose = f"a run on {count} devices"
                    both.enter_context(DeviceUse(locks, name, purpose=purpose))
                    leases.push(both.pop_all())
            except LeaseError:
                held.append(name)
            else:
                taken.append(name)
        if len(taken) < count:
            raise DevicesBusy(
                f"precision.devices = {count}, but other programs are using {', '.join(held)}; "
                "stop them or lower precision.devices"
            )
        yield taken


def child_environment(*devices: str) -> dict[str, str]:
    """Return the environment of a child that sees these devices only, in this order."""
    # These variables belong to a torchrun or Slurm job that may have started the worker.
    environment = {name: value for name, value in os.environ.items() if name not in _OF_TORCHRUN}
    environment |= {"PYTHONUNBUFFERED": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    # By default, threads that wait for each other spin. With other load on the cores, they then keep each
    # other from running: 2.9 s instead of 0.3 s for an update of two threads, at a load of 7 a core.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if devices[0] == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    else:
        visible = visible_gpus()
        indices = [int(device.partition(":")[2]) for device in devices]
        names = [str(index) if visible is None else visible[index] for index in indices]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(names)
    return environment


def ranks_environment(devices: Sequence[str], count: int) -> dict[str, str]:
    """Return the environment for `count` processes that train together on one machine."""
    environment = child_environment(*devices)
    # Each process gets its part of the cores; their communication stays on this machine.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    environment.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "60")
    environment.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    return environment
