"""Which device a worker takes, found without torch: NVML knows the GPUs, the environment limits them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pynvml


class DeviceError(ValueError):
    """A device that this machine does not have."""


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One look at a GPU."""

    name: str
    percent: float | None
    used_bytes: int | None
    total_bytes: int | None


class Gpu:
    """A GPU seen through NVML; `index` counts those that CUDA_VISIBLE_DEVICES leaves."""

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
        """Measure; what the GPU does not tell is None."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        rates = self._ask("nvmlDeviceGetUtilizationRates")
        return GpuSample(
            self.name,
            float(rates.gpu) if rates is not None else None,
            int(memory.used) if memory is not None else None,
            int(memory.total) if memory is not None else None,
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
            f"--device {device}: no such GPU was found on this machine; `sepdash doctor` lists the "
            "devices, --device cpu trains without one"
        )
    return name


def child_environment(device: str) -> dict[str, str]:
    """Return the environment in which a child sees this device and no other."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    else:
        index = int(device.partition(":")[2])
        visible = visible_gpus()
        environment["CUDA_VISIBLE_DEVICES"] = str(index) if visible is None else visible[index]
    return environment
