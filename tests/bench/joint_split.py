"""What slices of the joint network cost and save: `python tests/bench/joint_split.py [--device cuda]`.

One forward and backward pass of joint network and loss over noise, in 1, 2, 4, ... slices in turn; time
is the best of a few. Memory is that beyond encodings and predictions: on a GPU the allocator's peak, on
a CPU the largest tensor that the joint network puts out.
"""

from __future__ import annotations

import argparse
from time import perf_counter

import torch

from engine.recipes.transducer.rnnt_loss import Lattices, transducer_loss
from models.speech_configs import ConformerRnntConfig
from models.transducer import Transducer, build_transducer

_REPEATS = 3


def main() -> None:
    """Print a line for each number of slices, as ratios to one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--items", type=int, default=16)
    parser.add_argument("--frames", type=int, default=200, help="encoder frames of the longest")
    parser.add_argument("--tokens", type=int, default=60, help="tokens of the longest")
    parser.add_argument("--vocabulary", type=int, default=256)
    parser.add_argument("--dim", type=int, default=256)
    options = parser.parse_args()
    device = torch.device(options.device)
    config = ConformerRnntConfig(layers=1, dim=8, heads=1, ffn=8, encoding_dim=options.dim)
    model = build_transducer(config, num_mels=8, num_tokens=options.vocabulary).to(device)
    base: tuple[float, float] | None = None
    print("slices  seconds   time  memory MiB  memory")
    for slices in (1, 2, 4, 8, 16):
        if slices > options.items:
            break
        seconds, size = measure(model, options, device, slices)
        base = base or (seconds, size)
        ratios = f"{seconds / base[0]:6.2f}  {size / 2**20:10.1f}  {size / base[1]:6.3f}"
        print(f"{slices:6}  {seconds:7.3f} {ratios}", flush=True)


def measure(
    model: Transducer, options: argparse.Namespace, device: torch.device, slices: int
) -> tuple[float, float]:
    """Return the seconds and the bytes of one pass."""
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(options.items, generator=generator) * 0.5 + 0.5
    enc_lengths = [options.frames, *(low[1:] * options.frames).int().tolist()]
    token_lengths = [options.tokens, *(low[1:] * options.tokens).int().tolist()]
    enc = torch.randn(options.items, options.frames, options.dim, device=device)
    pred = torch.randn(options.items, options.tokens + 1, options.dim, device=device)
    tokens = torch.randint(1, options.vocabulary, (options.items, options.tokens), device=device)
    sizes: list[int] = []
    hook = model.joiner.register_forward_hook(
        lambda module, inputs, output: sizes.append(output[0].nbytes)
    )
    times = []
    for _ in range(_REPEATS):
        lattices = Lattices(
            enc.requires_grad_(),
            pred.requires_grad_(),
            tokens_BU=tokens,
            enc_lengths=enc_lengths,
            token_lengths=token_lengths,
        )
        if device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        started = perf_counter()
        transducer_loss(model, lattices, slices=slices).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
            sizes.append(torch.cuda.max_memory_allocated() - before)
        times.append(perf_counter() - started)
    hook.remove()
    return min(times), float(max(sizes))


if __name__ == "__main__":
    main()
