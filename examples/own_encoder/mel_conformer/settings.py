"""The settings of the encoder. Presets are checked without torch, so only `build` may import it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from models.self_supervised.plugin_settings import PluginWaveformEncoder
from models.self_supervised.settings import HubertHead
from models.self_supervised.wav2vec2_settings import Wav2Vec2Head
from models.settings import setting

# 25 ms every 20 ms at 16 kHz: the grid on which audio is cropped and labelled.
WINDOW, HOP = 400, 320


class MelConformer(PluginWaveformEncoder):
    """Log-mel frames and Conformer layers; no convolutions on the waveform."""

    rates_hz: ClassVar[tuple[int, int]] = (16_000, 16_000)
    takes_padding: ClassVar[bool] = True

    num_mels: int = setting(64, "Number of mel bands.", ge=16, le=80)
    heads: int = setting(4, "Number of attention heads per layer.", ge=1, le=64)
    ffn: int = setting(512, "Hidden width of the feed-forward blocks.", ge=8, le=16_384)
    kernel: int = setting(
        15, "Kernel size of the depthwise convolution, odd.", unit="frames", ge=3, le=99
    )
    dropout: float = setting(0.1, "Dropout probability in the encoder.", ge=0, lt=1)

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return HOP

    @property
    def receptive_field(self) -> int:
        """Samples that a frame sees before the layers."""
        return WINDOW

    @property
    def local_dim(self) -> int:
        """Channels of a frame before its projection."""
        return self.num_mels

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim = {self.dim} must be a multiple of heads = {self.heads}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel = {self.kernel} must be odd")
        return self

    def build(self) -> Any:
        """Return the encoder; torch may be imported here."""
        from mel_conformer.network import Network

        return Network(self)


# What is put around the encoder, and so the recipe, follows from the first base.
class MelHubert(HubertHead, MelConformer):
    """The encoder under HuBERT."""

    kind: Literal["mel_hubert"] = setting(
        "mel_hubert", "HuBERT on log-mel frames, with a Conformer."
    )


class MelWav2Vec2(Wav2Vec2Head, MelConformer):
    """The encoder under wav2vec 2.0."""

    kind: Literal["mel_wav2vec2"] = setting(
        "mel_wav2vec2", "wav2vec 2.0 on log-mel frames, with a Conformer."
    )
