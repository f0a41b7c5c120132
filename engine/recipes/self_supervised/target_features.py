"""The features whose clusters are targets: MFCCs, or a layer of an earlier run.

Owns where frames come from and what identifies them. Frames of an item are computed of the whole item
alone, so they depend on no batch. Letters: T samples, L frames, D numbers of a frame.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from engine.audio.mfcc import DIM, Mfcc
from engine.audio.waveform import normalised
from engine.checkpoints.files import MODEL, Manifest, read_manifest
from engine.checkpoints.find import config_of, fill, find_checkpoint
from engine.checkpoints.layout import IMPORTED
from engine.config.errors import ConfigError, Problem
from engine.config.schema import RunConfig
from engine.config.target_fit import TARGETS_FROM
from engine.recipes.base import Opening, Recipe
from engine.recipes.specs import spec_of
from models.self_supervised.features import GivesLayerFeatures

_LAYER = "loss.targets_layer"
_CPU = torch.device("cpu")


class FrameSource(Protocol):
    """Where frames come from; can be sent to a reader process."""

    @property
    def hash(self) -> str:
        """Sixteen hex digits: equal ones give equal frames."""

    @property
    def text(self) -> str:
        """What it is, for people."""

    @property
    def chunk_s(self) -> float:
        """Seconds of audio that take about half a second."""

    def frames_of(self, samples: int) -> int:
        """Return how many frames a waveform gives."""

    def frames(self, wave_T: np.ndarray, *, device: torch.device = _CPU) -> Tensor:
        """Return (L, D) float32 on the device."""

    def close(self) -> None:
        """Free the memory that it holds; it may be used again."""


class MfccSource:
    """39-dimensional MFCC on the grid of an encoder."""

    chunk_s = 120.0

    def __init__(self, rate_hz: int, *, window: int, hop: int) -> None:
        self._mfcc = Mfcc(rate_hz, window=window, hop=hop)

    @property
    def hash(self) -> str:
        """Over the parameters of the transform."""
        return sha256(self._mfcc.name.encode()).hexdigest()[:16]

    @property
    def text(self) -> str:
        """What it is."""
        return f"{DIM}-dimensional MFCC"

    def frames_of(self, samples: int) -> int:
        """Return L."""
        return self._mfcc.frames(samples)

    def frames(self, wave_T: np.ndarray, *, device: torch.device = _CPU) -> Tensor:
        """Return (L, 39)."""
        return self._mfcc(wave_T, device=device)

    def close(self) -> None:
        """Nothing worth freeing."""


class LayerSource:
    """A layer of the network in a checkpoint, without masks and dropout; loaded when it is first used.

    Args:
        checkpoint: a checkpoint folder, or the folder of a run.
        layer: whose output; 0 is the input of the first one.

    Raises:
        CheckpointError: when there is no checkpoint, or it is damaged.
        ConfigError: when it was saved before its first update.
    """

    chunk_s = 15.0

    def __init__(self, checkpoint: Path, *, layer: int) -> None:
        self._folder = find_checkpoint(checkpoint)
        self._layer = layer
        manifest = read_manifest(self._folder)
        imported = manifest.values.get("kind") == IMPORTED
        if not imported and not manifest.values["counters"]["updates"]:
            message = (
                f"{self._folder} was saved before the first update, so its frames are those of a random "
                "network; name a run that has been trained"
            )
            raise ConfigError([Problem(TARGETS_FROM, message)])
        config = config_of(manifest)
        self.rate_hz = config.data.rate_hz
        self._normalise = bool(getattr(config.data, "normalize_waveform", False))
        about = [
            manifest.values["files"][MODEL]["sha256"], config.to_dict()["model"], self.rate_hz,
            self._normalise, layer,
        ]  # fmt: skip
        self._hash = sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        self._network: GivesLayerFeatures | None = None

    def __getstate__(self) -> dict[str, object]:
        """Pickle without the network: it is read again on first use."""
        return {**self.__dict__, "_network": None}

    @property
    def hash(self) -> str:
        """Over the weights, the settings of the network, and the layer."""
        return self._hash

    @property
    def text(self) -> str:
        """What it is."""
        return f"layer {self._layer} of {self._folder}"

    def frames_of(self, samples: int) -> int:
        """Return L.

        Raises:
            ConfigError: when the checkpoint has no such layer, or no layers.
        """
        return self._opened().frames_of(samples)

    @torch.no_grad()
    def frames(self, wave_T: np.ndarray, *, device: torch.device = _CPU) -> Tensor:
        """Return (L, D)."""
        network = self._opened()
        cast(nn.Module, network).to(device)
        count = network.frames_of(len(wave_T))
        wave_T = normalised(wave_T) if self._normalise else np.asarray(wave_T, np.float32)
        wave_BT = torch.from_numpy(np.ascontiguousarray(wave_T))[None].to(device)
        return network.layer_features(wave_BT)[self._layer][0, :count].float()

    def close(self) -> None:
        """Free the network."""
        self._network = None

    def _opened(self) -> GivesLayerFeatures:
        if self._network is None:
            self._network = open_network(read_manifest(self._folder))
            layers = self._network.num_layers
            if self._layer > layers:
                message = (
                    f"{self._layer}, but {self._folder} has {layers} layers; expected 0 to {layers}"
                )
                raise ConfigError([Problem(_LAYER, message)])
        return self._network


def open_network(manifest: Manifest) -> GivesLayerFeatures:
    """Return the network of a checkpoint, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: when it doesn't match the program.
        ConfigError: when it gives no frames of its layers.
    """
    config = config_of(manifest)
    recipe: Recipe = spec_of(config.recipe).open(config, opening=Opening())
    model = recipe.build_model()
    if not isinstance(model, GivesLayerFeatures):
        message = (
            f"{manifest.folder} has a model of kind {config.model.kind!r}, whose layers can't be clustered; "
            "name a run of hubert, wav2vec2 or data2vec2"
        )
        raise ConfigError([Problem(TARGETS_FROM, message)])
    fill(cast(nn.Module, model), manifest)
    cast(nn.Module, model).eval().requires_grad_(False)
    return model


def open_source(
    config: RunConfig, checkpoint: Path | None, *, layer: int, window: int, hop: int
) -> FrameSource:
    """Return the source of a run's targets, on the grid of its own encoder.

    Args:
        config: the run.
        checkpoint: of the earlier run; None for MFCCs.
        layer: of the earlier run.
        window: samples that a frame of the encoder sees.
        hop: samples from one frame to the next.

    Raises:
        CheckpointError: when the checkpoint is missing or damaged.
        ConfigError: when it was never trained, has no such layer, or another grid of frames.
    """
    rate_hz = config.data.rate_hz
    if checkpoint is None:
        return MfccSource(rate_hz, window=window, hop=hop)
    source = LayerSource(checkpoint, layer=layer)
    second = [(samples - window) // hop + 1 for samples in (rate_hz, 3 * rate_hz + hop - 1)]
    found = [source.frames_of(samples) for samples in (rate_hz, 3 * rate_hz + hop - 1)]
    if source.rate_hz != rate_hz or found != second:
        message = (
            f"{checkpoint} has {found[0]} frames in a second of {source.rate_hz} Hz, but this run has "
            f"{second[0]} in a second of {rate_hz} Hz; set data.rate_hz and the strides of the convolutions as there"
        )
        raise ConfigError([Problem(TARGETS_FROM, message)])
    return source
