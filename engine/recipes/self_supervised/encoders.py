"""What gives features to judge: a trained network, the same one untrained, MFCC.

Owns how a checkpoint becomes an encoder, what a waveform goes through before it, and how waveforms of
unequal length are batched. Letters: B batch, T samples, L frames, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from engine.audio.mfcc import HOP, WINDOW, Mfcc
from engine.audio.waveform import normalised
from engine.checkpoints.files import CheckpointError, read_manifest
from engine.checkpoints.find import config_of, find_checkpoint
from engine.config.schema import RunConfig
from engine.recipes.registry import open_recipe
from engine.recipes.trained import load_trained
from engine.torch_random import rng_state, seed_everything, set_rng_state
from models.self_supervised.features import GivesLayerFeatures

_RATE_HZ = 16_000
# Audio of a batch, padding included: bounds memory.
_BATCH_S = 60.0


class FeatureEncoder(Protocol):
    """Turns waveforms into frames of features, layer by layer.

    Attributes:
        name: what people call it.
        rate_hz: of the waveforms.
        hop, window: samples between frames, and samples that a frame sees; frame k begins at `k * hop`.
        num_layers: number of layers beyond entry 0.
    """

    name: str
    rate_hz: int
    hop: int
    window: int
    num_layers: int

    def features(self, waves: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Return of every layer the frames (L, D) float32 of each waveform (T,).

        Entry 0 is the input of layer 1, entry k the output of layer k. A waveform that is shorter than
        one window is padded with zeros to one.
        """


@dataclass(slots=True)
class NetworkEncoder:
    """A network; `pads`: whether waveforms of unequal length may share a batch."""

    name: str
    rate_hz: int
    hop: int
    window: int
    num_layers: int
    model: nn.Module
    normalises: bool
    pads: bool
    device: torch.device

    def features(self, waves: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Return of every layer the frames of each waveform."""
        assert isinstance(self.model, GivesLayerFeatures)
        ready = [prepared(wave, window=self.window, normalises=self.normalises) for wave in waves]
        found: list[list[np.ndarray]] = [
            [np.empty(0)] * len(ready) for _ in range(self.num_layers + 1)
        ]
        longest = round(_BATCH_S * self.rate_hz)
        for batch in batches([len(wave) for wave in ready], most=longest, pads=self.pads):
            lengths = [len(ready[place]) for place in batch]
            wave_BT = np.zeros((len(batch), max(lengths)), dtype=np.float32)
            for row, place in enumerate(batch):
                wave_BT[row, : lengths[row]] = ready[place]
            unequal = min(lengths) < max(lengths)
            with torch.no_grad():
                layers = self.model.layer_features(
                    torch.from_numpy(wave_BT).to(self.device),
                    torch.tensor(lengths, device=self.device) if unequal else None,
                )
            for layer, h_BLD in enumerate(layers):
                values_BLD = h_BLD.float().cpu().numpy()
                for row, place in enumerate(batch):
                    frames = self.model.frames_of(lengths[row])
                    found[layer][place] = values_BLD[row, :frames].copy()
        return found


@dataclass(slots=True)
class MfccEncoder:
    """39 cepstral coefficients of normalised waveforms, as one layer: the baseline to beat.

    Without the normalisation, loudness reaches all coefficients by their floor, which costs the
    left-out-speaker probe 0.1.
    """

    rate_hz: int = _RATE_HZ
    name: str = "MFCC"
    hop: int = HOP
    window: int = WINDOW
    num_layers: int = 0

    def features(self, waves: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Return the frames of each waveform."""
        mfcc = Mfcc(self.rate_hz, window=self.window, hop=self.hop)
        ready = [prepared(wave, window=self.window, normalises=True) for wave in waves]
        return [[mfcc(wave).cpu().numpy() for wave in ready]]


def open_encoder(
    checkpoint: Path, *, name: str = "", device: torch.device | None = None
) -> NetworkEncoder:
    """Return the network of a checkpoint as an encoder.

    Args:
        checkpoint: a checkpoint, or the folder of a run.
        name: what people call it.
        device: where it computes; the CPU by default.

    Raises:
        CheckpointError: when there is none, it is damaged, or its network gives no features.
    """
    folder = find_checkpoint(checkpoint)
    config = config_of(read_manifest(folder))
    _, model = load_trained(folder)
    return network_encoder(model, config, name=name or folder.name, device=device)


def random_encoder(
    config: RunConfig, seed: int, *, name: str = "", device: torch.device | None = None
) -> NetworkEncoder:
    """Return the network of a config as training begins with it, untrained.

    Args:
        config: of a run; with its own seed these are its own initial weights.
        seed: of the weights.
        name: what people call it.
        device: where it computes; the CPU by default.
    """
    before = rng_state()
    try:
        seed_everything(seed)
        model = open_recipe(config).build_model()
    finally:
        set_rng_state(before)
    return network_encoder(model, config, name=name or f"random (seed {seed})", device=device)


def network_encoder(
    model: nn.Module, config: RunConfig, *, name: str = "", device: torch.device | None = None
) -> NetworkEncoder:
    """Return a network that is in memory as an encoder; it is moved to the device, its mode stays.

    Raises:
        CheckpointError: when it gives no features.
    """
    if not isinstance(model, GivesLayerFeatures):
        raise CheckpointError(
            f"{name}: its network (model.kind = {config.model.kind!r}) gives no features of its layers; name a "
            "run of hubert, wav2vec2 or data2vec2"
        )
    window = _shortest(model, frames=1)
    device = device or torch.device("cpu")
    return NetworkEncoder(
        name, config.data.rate_hz, hop=_shortest(model, frames=2) - window, window=window,
        num_layers=model.num_layers, model=model.to(device),
        normalises=bool(getattr(config.data, "normalize_waveform", False)),
        # Group norm measures the whole waveform, padding included.
        pads=getattr(config.model, "extractor_norm", "") == "layer_norm", device=device,
    )  # fmt: skip


def _shortest(model: GivesLayerFeatures, *, frames: int) -> int:
    """Return how many samples give so many frames, at least."""
    low, high = 0, 1
    while model.frames_of(high) < frames:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if model.frames_of(middle) >= frames else (middle, high)
    return high


def prepared(wave_T: np.ndarray, *, window: int, normalises: bool) -> np.ndarray:
    """Return a waveform as an encoder takes it: zero mean and unit variance if asked, one window at least."""
    wave_T = np.asarray(wave_T, dtype=np.float32)
    if normalises:
        wave_T = normalised(wave_T)
    if len(wave_T) < window:
        wave_T = np.pad(wave_T, (0, window - len(wave_T)))
    return wave_T


def batches(lengths: Sequence[int], *, most: int, pads: bool) -> Iterator[list[int]]:
    """Yield places of waveforms that share a batch: sorted by length, of equal length unless `pads`.

    Args:
        lengths: of the waveforms, in samples.
        most: samples of a batch, padding included; a longer waveform is alone.
        pads: whether lengths may differ.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda k: (lengths[k], k)):
        fits = (len(batch) + 1) * lengths[place] <= most
        if batch and not (fits and (pads or lengths[batch[-1]] == lengths[place])):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
