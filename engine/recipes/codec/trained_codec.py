"""A trained codec: from audio to codes and from codes to audio, with a hash over all that fixes either.

Opened from a checkpoint of the codec recipe, or of a run that uses a codec, which carries the whole of it as
the result of a stage: so what was trained on codes can speak, and be trained further, without that other run.
Letters: B batch, T samples, F mel bands, L frames, N codes of an item.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from engine.audio.mel_spectrogram import MelSpectrogram
from engine.checkpoints.files import CheckpointError, read_manifest
from engine.checkpoints.find import config_of, fill, find_checkpoint
from engine.checkpoints.layout import IMPORTED
from engine.checkpoints.recipe_files import RecipeState, read_recipe_parts
from engine.config.codec_fit import CODEC
from engine.config.errors import ConfigError, Problem
from engine.recipes.codec.mel_statistics import in_whole_codes
from engine.recipes.codec.transform import transform_of
from models.codec.codebook import MOVING
from models.codec.mel_codec import MelCodec
from models.codec.settings import ADDED, TRAINING_ONLY, MelCodecConfig

# Name of the stage whose result is the codec of a run.
STAGE = "codec"


@dataclass(frozen=True, slots=True)
class CodecFacts:
    """What there is to know of a codec without its network.

    Attributes:
        hash: sixteen hex digits over weights, transform, statistics of the bands and levels: codecs with equal
            ones give equal codes, and equal audio of codes.
        rate_hz: sampling rate.
        num_codes: how many codes there are.
        frames_per_code: frames that a code stands for.
        transform: from audio to log-mel frames and back.
        source: where it comes from, for people.
    """

    hash: str
    rate_hz: int
    num_codes: int
    frames_per_code: int
    transform: MelSpectrogram
    source: str

    @property
    def samples_per_code(self) -> int:
        """Audio samples that a code stands for."""
        return self.frames_per_code * self.transform.hop

    @property
    def codes_per_s(self) -> float:
        """Codes of a second of audio."""
        return self.rate_hz / self.samples_per_code

    def codes_of(self, samples: int) -> int:
        """Return N for a waveform of so many samples; 0 where it is too short for a code."""
        return self.transform.frames_of(samples) // self.frames_per_code


class TrainedCodec:
    """A codec to apply; its network is never trained, and computes in float32 whatever the autocast.

    Args:
        config: of the network.
        network: with its weights.
        rate_hz: of its audio.
        source: where it comes from, for people.

    Attributes:
        facts: what there is to know of it.
        network: in evaluation mode, without gradients.
    """

    def __init__(
        self, config: MelCodecConfig, network: MelCodec, *, rate_hz: int, source: str
    ) -> None:
        self._config = config
        self.network = network.eval().requires_grad_(False)
        transform = transform_of(config, rate_hz)
        self.facts = CodecFacts(
            _hash(config, network, transform=transform), rate_hz, network.num_codes, config.frames_per_code,
            transform=transform, source=source,
        )  # fmt: skip

    def to(self, device: torch.device) -> TrainedCodec:
        """Move the network, and return this."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def encode(self, wave_BT: Tensor) -> Tensor:
        """Return (B, N) int64, the codes of audio at the rate of the codec; what fills no code is left out.

        Waveforms must not be padded: codes at the end of an item see what follows it.
        """
        if not self.facts.codes_of(wave_BT.shape[-1]):
            return torch.zeros(len(wave_BT), 0, dtype=torch.int64, device=wave_BT.device)
        mel_BFL = self.facts.transform.log_mel(wave_BT)
        with torch.autocast(wave_BT.device.type, enabled=False):
            return self.network.encode(in_whole_codes(mel_BFL, self.facts.frames_per_code))

    @torch.no_grad()
    def decode(self, index_BN: Tensor) -> Tensor:
        """Return log-mel frames (B, F, L) in nats of codes (B, N), N at least 1."""
        with torch.autocast(index_BN.device.type, enabled=False):
            return self.network.decode(index_BN)

    def audio(self, index_BN: Tensor) -> Tensor:
        """Return (B, T) float32 audio of codes (B, N); the same codes give the same audio (Griffin-Lim from phase 0)."""
        if not index_BN.shape[-1]:
            return torch.zeros(len(index_BN), 0, device=index_BN.device)
        return self.facts.transform.waveform(self.decode(index_BN))

    def to_result(self) -> RecipeState:
        """Return it as the result of a stage, to travel in the checkpoints of another run."""
        values = {
            "hash": self.facts.hash, "rate_hz": self.facts.rate_hz, "source": self.facts.source,
            "config": self._config.model_dump(mode="json"),
        }  # fmt: skip
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.network.state_dict().items()
        }
        return RecipeState(tensors, values)

    @classmethod
    def of_result(cls, result: RecipeState) -> TrainedCodec:
        """Return the codec that a stage has as its result.

        Raises:
            ValueError: when it does not fit this version, or is not the one that was saved.
        """
        values = result.values
        config = MelCodecConfig.model_validate_json(json.dumps(values["config"]))
        network = MelCodec(config)
        try:
            network.load_state_dict(result.tensors)
        except RuntimeError as error:
            raise ValueError(
                f"the embedded codec does not fit this version of sepdash: {error}"
            ) from None
        codec = cls(config, network, rate_hz=values["rate_hz"], source=values["source"])
        if codec.facts.hash != values["hash"]:
            raise ValueError(
                f"the embedded codec has hash {codec.facts.hash}, but was saved with {values['hash']}: it was saved "
                "by a version of sepdash whose codecs sound different, or the checkpoint is damaged"
            )
        return codec


def load_codec(path: Path, *, setting: str = CODEC) -> TrainedCodec:
    """Return the codec of a checkpoint, on the CPU.

    Args:
        path: a checkpoint, or the folder of a run: of the codec recipe, or of one that uses a codec.
        setting: names it in messages.

    Raises:
        CheckpointError: when there is no checkpoint, or it is damaged.
        ConfigError: when it has no codec, or one that was never trained.
    """
    manifest = read_manifest(find_checkpoint(path))
    result = read_recipe_parts(manifest).stages.get(STAGE)
    if result is not None:
        try:
            return TrainedCodec.of_result(result)
        except ValueError as error:
            raise CheckpointError(f"{manifest.folder}: {error}") from None
    config = config_of(manifest)
    if not isinstance(config.model, MelCodecConfig):
        message = (
            f"{manifest.folder} has a model of kind {config.model.kind!r} and no codec; name a run of the recipe "
            "codec, or one that uses a codec"
        )
        raise ConfigError([Problem(setting, message)])
    if not manifest.values["counters"]["updates"] and manifest.values.get("kind") != IMPORTED:
        message = f"{manifest.folder} was saved before its first update; name a codec that has been trained"
        raise ConfigError([Problem(setting, message)])
    network = MelCodec(config.model)
    fill(network, manifest)
    return TrainedCodec(
        config.model, network, rate_hz=config.data.rate_hz, source=str(manifest.folder)
    )


def codec_hash_of(checkpoint: Path) -> str | None:
    """Return the hash of the codec that travels in a checkpoint; None where there is none.

    Raises:
        CheckpointError: when there is no checkpoint, or it is damaged.
    """
    result = read_recipe_parts(read_manifest(find_checkpoint(checkpoint))).stages.get(STAGE)
    return None if result is None else str(result.values["hash"])


def _hash(config: MelCodecConfig, network: MelCodec, *, transform: MelSpectrogram) -> str:
    values = config.model_dump(mode="json", exclude=set(TRAINING_ONLY))
    fields = type(config).model_fields
    kept = {
        name: value
        for name, value in values.items()
        if name not in ADDED or value != fields[name].default
    }
    about = [kept, transform.name]
    digest = sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        if name.rpartition(".")[2] in MOVING:
            continue
        shape = "x".join(map(str, tensor.shape))
        digest.update(f" {name} {tensor.dtype} {shape} ".encode())
        if prod(tensor.shape):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
