"""Number formats and the device: autocast, loss scale, layout, compilation, switches of backends."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from engine.config.sections import PrecisionConfig

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """Return the device to train on.

    Raises:
        ValueError: when the requested GPU does not exist.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"precision.device = {name}: no GPU found; set precision.device to auto or cpu"
        )
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r}: expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r}: this machine has only {torch.cuda.device_count()} GPU(s)"
        )
    return device


def number_format(config: PrecisionConfig, device: torch.device) -> str:
    """Return the number format of a forward pass: fp32, bf16 or fp16.

    auto is bf16 where the device computes in it rather than emulating it, else fp32. Never fp16: its
    range is what makes updates overflow.
    """
    if config.dtype != "auto":
        return config.dtype
    return "bf16" if computes_in_bf16(device) else "fp32"


def computes_in_bf16(device: torch.device) -> bool:
    """Return whether a device has instructions for bf16: a GPU since Ampere, a CPU with AVX-512 BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu._is_avx512_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return any(has for name, has in capabilities.items() if name.endswith("bf16"))


def autocast(config: PrecisionConfig, device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context of a forward pass; reusable."""
    dtype = number_format(config, device)
    return nullcontext() if dtype == "fp32" else torch.autocast(device.type, dtype=_DTYPES[dtype])


@contextmanager
def backend_settings(config: PrecisionConfig) -> Iterator[None]:
    """Set the process-wide backend switches of the config; restored on exit."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, torch.get_num_threads())
    # Only called when it changes something: the call imports torch's compiler, which takes seconds.
    deterministic = config.deterministic and not torch.are_deterministic_algorithms_enabled()
    matmul.allow_tf32 = cudnn.allow_tf32 = config.tf32
    cudnn.benchmark = config.cudnn_benchmark and not config.deterministic
    if config.threads:
        torch.set_num_threads(config.threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, threads = before
        torch.set_num_threads(threads)
        if deterministic:
            torch.use_deterministic_algorithms(False)


def place(model: nn.Module, config: PrecisionConfig, *, device: torch.device) -> nn.Module:
    """Move a network to the device, in its training layout, compiled if the config asks for it.

    Compiling does not change the names in its state.
    """
    model = model.to(device)
    if config.channels_last:
        for param in model.parameters():
            if param.dim() == 4:
                param.data = param.data.contiguous(memory_format=torch.channels_last)
    if config.compile:
        for part in compiled_parts(model):
            part.compile()
    return model


def compiled_parts(model: nn.Module) -> list[nn.Module]:
    """Return the modules to compile: those that the model names in `compiled_parts`, or all of it.

    Compiling a model as a whole has no effect when its parts are called separately, as in a
    transducer.
    """
    names = getattr(model, "compiled_parts", ())
    return [model.get_submodule(name) for name in names] or [model]


@contextmanager
def eagerly(config: PrecisionConfig) -> Iterator[None]:
    """Run a compiled network uncompiled: validation lengths vary, and each would trigger a compilation."""
    if not config.compile:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def without_benchmark() -> Iterator[None]:
    """Disable cuDNN benchmarking: validation lengths vary, and each would be benchmarked again."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class LossScale:
    """The dynamic loss scale of fp16, kept on the device to avoid synchronisation.

    The rule is that of `torch.amp.GradScaler`: halve after a non-finite update, double after 2000
    finite ones. The flag comes from the trainer, which gates every update on it anyway. The initial
    value is lower, since losses are sums over items here.
    """

    def __init__(self, device: torch.device, *, initial: float = 2.0**12) -> None:
        self.value = torch.full((), initial, device=device)
        self._good = torch.zeros((), dtype=torch.int32, device=device)

    def update(self, skipped: Tensor) -> None:
        """Adapt to an update; `skipped` () is 1.0 where it was not finite."""
        torch._amp_update_scale_(self.value, self._good, skipped, 2.0, 0.5, 2000)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the scale and the count of finite updates."""
        return {"value": self.value, "good": self._good}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load both from `state`."""
        self.value.copy_(state["value"])
        self._good.copy_(state["good"])


def card_name(device: torch.device) -> str:
    """Return the model and the memory of a GPU; empty for the CPU."""
    if device.type != "cuda":
        return ""
    memory = torch.cuda.get_device_properties(device).total_memory
    return f"{torch.cuda.get_device_name(device)}, {memory / 2**30:.0f} GiB"


def unequal_cards(cards: Sequence[str]) -> str:
    """Return a warning about devices of one run that are of several models; empty where all are alike."""
    if len(set(cards)) < 2:
        return ""
    named = "; ".join(f"process {rank}: {card or 'CPU'}" for rank, card in enumerate(cards))
    return (
        f"the devices of this run are unequal ({named}): every update waits for the slowest, and the smallest memory "
        "limits all; use equal ones (CUDA_VISIBLE_DEVICES), or measure with `sepdash tune` whether several pay off"
    )
