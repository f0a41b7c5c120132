"""What looking ahead costs an update: `python tests/bench/look_ahead.py [--micro-batches N]`.

An encoder of waveforms in N micro-batches of 4 x 2 s (4; one alone isn't looked at), by three recipes in turn: one that doesn't look ahead,
one whose look counts frames (HuBERT), one that looks through the convolutions (wav2vec 2.0, whose mean code
needs them). CPU time of this thread, the least of several rounds each; ratios to the first.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from time import thread_time

import torch
from torch import Tensor

from engine.batching.batch import Batch
from engine.config.loading import load_config
from engine.recipes.base import StepContext, StepOutput
from engine.training.optimizer import FusedAdamW
from engine.training.updates import Updater
from models.self_supervised.settings import WaveformEncoderSettings
from models.self_supervised.waveform_encoder import WaveformEncoder

CPU = torch.device("cpu")
SIZES = WaveformEncoderSettings(
    conv_channels=(64,) * 7, dim=128, heads=4, ffn=512, layers=4, pos_conv_groups=4
)
SAMPLES = 32_000


class Plain:
    """Predicts each frame from itself."""

    loss_unit = ""

    def step(self, model: WaveformEncoder, batch: Batch, *, context: StepContext) -> StepOutput:
        feat_BLC, _ = model.local_features(batch.tensors["wave"], None)
        h_BLD = model.context(model.project(model.normalised(feat_BLC)), None)
        return StepOutput(h_BLD.square().mean(2).sum(), torch.tensor(float(h_BLD[..., 0].numel())))


class Counting(Plain):
    """Counts frames."""

    ahead_shapes: Mapping[str, tuple[int, ...]] = {"frames": ()}

    def look(
        self, model: WaveformEncoder, batch: Batch, *, context: StepContext
    ) -> Mapping[str, Tensor]:
        wave_BT = batch.tensors["wave"]
        return {"frames": torch.tensor(float(len(wave_BT) * model.frames_of(wave_BT.shape[1])))}


class Convolving(Plain):
    """Sums local features."""

    ahead_shapes: Mapping[str, tuple[int, ...]] = {"sum": (SIZES.conv_channels[-1],)}

    def look(
        self, model: WaveformEncoder, batch: Batch, *, context: StepContext
    ) -> Mapping[str, Tensor]:
        return {"sum": model.local_features(batch.tensors["wave"], None)[0].sum((0, 1))}


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--micro-batches", type=int, default=4)
    options = parser.parse_args()
    rounds = options.rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = load_config({"data": {"kind": "bandwidth", "train": "unused", "valid": "unused"}})
    batches = [Batch({"wave": torch.randn(4, SAMPLES)}) for _ in range(options.micro_batches)]
    arms = {"no look": Plain(), "count frames": Counting(), "convolutions": Convolving()}
    updaters: dict[str, Updater] = {}
    for name, recipe in arms.items():
        model = WaveformEncoder(SIZES)
        optimizer = FusedAdamW(model, config.optimizer)
        updaters[name] = Updater(recipe, model, optimizer, config=config, device=CPU, ema=None)
    best = dict.fromkeys(arms, float("inf"))
    for number in range(1, rounds + 2):
        for name, updater in updaters.items():
            started = thread_time()
            updater.run(number, batches, lr=1e-5)
            # The first round warms up.
            best[name] = min(best[name], thread_time() - started) if number > 1 else best[name]
    for name, seconds in best.items():
        print(f"{name}: {seconds * 1e3:.0f} ms an update, ratio {seconds / best['no look']:.3f}")


if __name__ == "__main__":
    main()
