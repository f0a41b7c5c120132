"""What only a GPU can show, in one script: `python tests/bench/gpu.py [--device cpu] [--quick]`.

Ratios of things run in turn: the trainer over a plain loop, number formats, cuDNN's benchmark and
channels-last; how far the memory law is off; what slices of a joint network save; copies from pinned
memory. Without a GPU it says so and does nothing; `--device cpu` runs what a CPU can run of it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from engine.config.schema import RunConfig
from engine.recipes.transducer.rnnt_loss import Lattices, transducer_loss
from engine.training.trainer import Trainer
from engine.tuning.law import Probe, fit_law
from engine.tuning.measuring import Subject, Timed, measure_peaks
from engine.tuning.trials import Case
from jobs.tuning import tunable_config
from presets.catalogue import Catalogue
from tests.bench.trainer_overhead import BenchRecipe, RunOn, bench_config

MIB = 2**20
ROUNDS = 5


class Moved(BenchRecipe):
    """The toy problem of the overhead benchmark, on a device."""

    def __init__(self, size: str, device: torch.device) -> None:
        super().__init__(size)
        self.weight = self.weight.to(device)
        self.x = self.x.to(device)


def overhead(device: torch.device, *, quick: bool) -> Iterator[str]:
    """Microseconds of an update of the trainer over those of a plain loop."""
    updates = 200 if quick else 4000
    recipe = Moved("tiny", device)

    def bare() -> float:
        model = recipe.build_model().to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        started = perf_counter()
        for _ in range(updates):
            optimizer.zero_grad()
            recipe.loss(model).mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        settle(device)
        return (perf_counter() - started) / updates

    def trained() -> float:
        config = bench_config(updates)
        with tempfile.TemporaryDirectory() as folder:
            started = perf_counter()
            Trainer(
                config, recipe, folder=Path(folder), observers=[], control=RunOn(), device=device
            ).fit()
            return (perf_counter() - started) / updates

    bare(), trained()
    plain, ours, ratio = side_by_side(bare, trained)
    yield f"trainer: {ours * 1e6:.0f} us an update, plain loop {plain * 1e6:.0f} us, ratio {ratio:.2f}"


def switches(device: torch.device, *, quick: bool) -> Iterator[str]:
    """Speed of each switch over the preset as it is."""
    on_gpu = device.type == "cuda"
    found = {"bf16": "precision.dtype=bf16", "channels-last": "precision.channels_last=true"}
    if on_gpu:
        found |= {
            "tf32": "precision.tf32=true", "fp16": "precision.dtype=fp16",
            "cudnn.benchmark": "precision.cudnn_benchmark=true", "compile": "precision.compile=true",
        }  # fmt: skip
    for preset, count in (("bandwidth/audio-unet", 16), ("bandwidth/spec-unet", 16)):
        small = ["model.width=4", "data.segment_s=0.25"] if quick else []
        plain = Subject(preset_config(preset, small), device)
        case = Case({}, 2 if quick else count)
        for name, assignment in found.items():
            subject = Subject(preset_config(preset, [*small, assignment]), device)
            one, other = Timed(plain, case), Timed(subject, case)
            for timed in (one, other):
                timed.warm_up()
            for _ in range(2 if quick else ROUNDS):
                one.run(0.05 if quick else 0.5)
                other.run(0.05 if quick else 0.5)
            pairs = zip(one.update_s, other.update_s, strict=True)
            yield f"{preset}, {name}: {statistics.median(a / b for a, b in pairs):.2f} x"
            subject.clear()


def law(device: torch.device, *, quick: bool) -> Iterator[str]:
    """Error of the memory law, fitted to 1 and 2 items, at larger batches."""
    counts = (4, 8) if quick else (8, 32, 64)
    for preset in ("bandwidth/audio-unet", "bandwidth/spec-unet", "denoise/small"):
        small = ["model.width=4", "data.segment_s=0.25"] if quick else []
        subject = Subject(preset_config(preset, small), device)

        def peak(count: int, subject: Subject = subject) -> int:
            found = max(
                measure_peaks(subject, Case({}, count, shape=(), micro_batches=2), others_bytes=0)
            )
            subject.clear()
            return found

        measured = {count: peak(count) for count in (1, 2, *counts)}
        fitted = fit_law([Probe(count, 1.0, peak_bytes=measured[count]) for count in (1, 2)])
        off = [f"B = {n}: {fitted.peak(n, 1.0) / measured[n] - 1:+.2%}" for n in counts]
        yield f"memory law, {preset}: {', '.join(off)}"


def joint(device: torch.device, *, quick: bool) -> Iterator[str]:
    """Peak memory of a joint network and its loss, whole and in slices."""
    from models.speech_configs import ConformerRnntConfig
    from models.transducer import build_transducer

    count, frames, tokens = (4, 40, 10) if quick else (32, 420, 60)
    config = ConformerRnntConfig()
    model = build_transducer(config, num_mels=80, num_tokens=32).to(device)
    enc = torch.randn(count, frames, config.encoding_dim, device=device, requires_grad=True)
    pred = torch.randn(count, tokens + 1, config.encoding_dim, device=device, requires_grad=True)
    targets = torch.ones(count, tokens, dtype=torch.int32, device=device)
    lattices = Lattices(
        enc, pred, tokens_BU=targets, enc_lengths=[frames] * count, token_lengths=[tokens] * count
    )
    for slices in (1, 2, 4, 8):
        if slices <= count:
            peak = peak_of(device, lambda s=slices: transducer_loss(model, lattices, slices=s))
            yield f"joint network in {slices} slices: {peak / MIB:.0f} MiB"


def copies(device: torch.device, *, quick: bool) -> Iterator[str]:
    """Bytes a second of copies to the device, from pinned memory and from any."""
    if device.type != "cuda":
        return
    source = torch.empty(64 * MIB, dtype=torch.uint8)
    pinned = source.pin_memory()
    target = torch.empty_like(source, device=device)

    def copy(tensor: Tensor) -> float:
        started = perf_counter()
        for _ in range(10):
            target.copy_(tensor, non_blocking=True)
        settle(device)
        return (perf_counter() - started) / 10

    copy(source), copy(pinned)
    plain, fast, ratio = side_by_side(lambda: copy(source), lambda: copy(pinned))
    yield (
        f"copies: pinned {64 / 1024 / fast:.1f} GiB/s, any {64 / 1024 / plain:.1f} GiB/s, "
        f"ratio {1 / ratio:.2f}"
    )


def peak_of(device: torch.device, loss: Callable[[], Tensor]) -> int:
    """Return the peak of a forward and backward pass above what was held before."""
    from torch.autograd.profiler import profile

    from engine.tuning.measuring import split_peaks

    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        loss().backward()  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(use_kineto=True, profile_memory=True) as profiler:
        loss().backward()  # type: ignore[no-untyped-call]
    assert profiler.kineto_results is not None
    events = profiler.kineto_results.events()
    return max(split_peaks((e.start_ns(), e.name(), e.nbytes()) for e in events))


def side_by_side(
    one: Callable[[], float], other: Callable[[], float]
) -> tuple[float, float, float]:
    """Return the median seconds of both, run in turn, and the median of `other` over `one`."""
    pairs = [(one(), other()) for _ in range(ROUNDS)]
    first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
    return first, second, statistics.median(b / a for a, b in pairs)


def preset_config(preset: str, assignments: list[str]) -> RunConfig:
    """Return the config of a shipped preset."""
    return tunable_config(Catalogue().read(preset), assignments)


def settle(device: torch.device) -> None:
    """Wait for the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


PARTS: dict[str, Any] = {
    "overhead": overhead, "switches": switches, "law": law, "joint": joint, "copies": copies,
}  # fmt: skip


def main() -> None:
    """Print every ratio; a part that fails says so and ends alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: is the script in order?")
    parser.add_argument("--only", choices=list(PARTS), action="append")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU: nothing to measure; --device cpu runs what a CPU can")
        return
    device = torch.device(options.device)
    if device.type == "cuda":
        print(torch.cuda.get_device_name(), torch.__version__)
    for name in options.only or PARTS:
        try:
            for line in PARTS[name](device, quick=options.quick):
                print(line, flush=True)
        except Exception as error:  # noqa: BLE001  the other parts still tell something
            print(f"{name}: failed, {error!r}", flush=True)


if __name__ == "__main__":
    main()
