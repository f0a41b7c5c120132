"""HuBERT's masks and logits beside torchaudio's: `python tests/bench/hubert_parts.py [--device cuda]`.

Masks for a batch of crops (best of a few repeats); logits and loss of masked frames, forward and
backward, each in a process of its own: seconds, and the peak of memory beyond that of the start (on a
GPU the allocator's, on a CPU that of the process, on Linux). On a CPU, seconds are those of one core, so
other load changes little. Ratios are torchaudio's over ours. With 2000 frames and 500 classes, torchaudio
needs 6 GB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import torch
from torchaudio.models.wav2vec2.components import _compute_logits, _compute_mask_indices

from engine.item_random import item_generator
from engine.recipes.self_supervised.masked_prediction import is_correct
from engine.recipes.self_supervised.span_masks import span_masks
from models.self_supervised.hubert import Hubert
from models.self_supervised.settings import HubertConfig

_REPEATS = 5
_DIM, _FINAL = 768, 256
_TINY = {"conv_channels": (4,) * 7, "layers": 1, "heads": 1, "ffn": 8}


def main() -> None:
    """Print a line for masks and one for each number of classes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=2000, help="masked frames of a batch")
    parser.add_argument("--classes", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--one", nargs=2, metavar=("WHO", "CLASSES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one:
        print(json.dumps(logits(options.one[0], int(options.one[1]), options)))
        return
    for items, seconds in ((32, 15), (64, 2.5), (8, 10)):
        ours, theirs = masks(items, int(seconds * 50) - 1)
        print(
            f"masks {items} x {seconds} s: {1e3 * ours:.2f} ms, torchaudio {1e3 * theirs:.1f} ms, "
            f"ratio {theirs / ours:.0f}",
            flush=True,
        )
    for classes in options.classes:
        (ours, our_bytes), (theirs, their_bytes) = (
            in_a_process(who, classes, options) for who in ("ours", "torchaudio")
        )
        print(
            f"logits {options.frames} frames, C = {classes}: {ours:.3f} s and {our_bytes / 2**20:.0f} "
            f"MiB, torchaudio {theirs:.3f} s and {their_bytes / 2**20:.0f} MiB, ratios "
            f"{theirs / ours:.0f} and {their_bytes / max(our_bytes, 1):.0f}",
            flush=True,
        )


def masks(items: int, frames: int) -> tuple[float, float]:
    """Return seconds for the masks of a batch, ours and torchaudio's."""

    def ours() -> None:
        generators = [item_generator(0, 0, index, "train-mask") for index in range(items)]
        span_masks(generators, frames=[frames] * items, prob=0.8, length=10, min_spans=2)

    def theirs() -> None:
        _compute_mask_indices((items, frames), None, 0.8, 10, min_masks=2)

    return best(ours), best(theirs)


def best(function: Callable[[], None]) -> float:
    """Return the shortest of a few runs."""
    times = []
    for _ in range(_REPEATS):
        started = process_time()
        function()
        times.append(process_time() - started)
    return min(times)


def in_a_process(who: str, classes: int, options: argparse.Namespace) -> tuple[float, float]:
    """Return seconds and bytes, measured where nothing else was allocated before."""
    command = [
        sys.executable, __file__, "--device", options.device, "--frames", str(options.frames),
        "--one", who, str(classes),
    ]  # fmt: skip
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, size = json.loads(found.stdout)
    return seconds, size


def logits(who: str, classes: int, options: argparse.Namespace) -> tuple[float, float]:
    """Return seconds and peak bytes of one forward and backward pass."""
    device = torch.device(options.device)
    torch.manual_seed(0)
    model = Hubert(HubertConfig(dim=_DIM, final_dim=_FINAL, **_TINY), clusters=classes).to(device)
    context = torch.randn(options.frames, _DIM, device=device, requires_grad=True)
    label = torch.randint(classes, (options.frames,), device=device)

    def one_pass(count: int) -> None:
        x, y = context[:count], label[:count]
        if who == "ours":
            found = model.logits(x)
            loss = torch.nn.functional.cross_entropy(found, y, reduction="sum")
            is_correct(found.detach(), y)
        else:
            found = _compute_logits(model.final_proj(x), y, model.label_embeddings)
            loss = torch.nn.functional.cross_entropy(found, torch.zeros_like(y), reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]

    one_pass(8)
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        allocated = torch.cuda.memory_allocated()
        started = perf_counter()
        one_pass(options.frames)
        torch.cuda.synchronize()
        return perf_counter() - started, float(torch.cuda.max_memory_allocated() - allocated)
    before = peak_bytes(forget=True)
    started = process_time()
    one_pass(options.frames)
    return process_time() - started, float(peak_bytes() - before)


def peak_bytes(*, forget: bool = False) -> int:
    """Return the peak of this process's memory on Linux; `forget` that of before."""
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return 1024 * int(peak)


if __name__ == "__main__":
    main()
