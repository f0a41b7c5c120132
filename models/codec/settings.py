"""The settings of the mel codec, free of torch."""

from __future__ import annotations

from math import log2, prod
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from models.base.settings import ParameterGroups, Section, setting

# Frames of 256 samples at 22.05 kHz, as published, at every rate; in multiples of 8 samples.
_HOP_S, _HOP_STEP = 256 / 22_050, 8
# Stored codes are 16-bit numbers, of which the highest means "none".
_MOST_CODES = 65_535

# Settings that say how a codec is trained, and nothing of one that is.
TRAINING_ONLY = ("codebook_decay", "kmeans_start", "revive_below")
# Settings that came later: with their defaults, a codec is what it was before.
ADDED = ("spectrum", "mel_scale", "activation", "encoder_norm", "output_kernel")

Level = Annotated[int, Field(ge=3, le=64)]
Width = Annotated[int, Field(ge=8, le=4_096)]
Stride = Annotated[int, Field(ge=1, le=8)]


class MelCodecConfig(Section):
    """A discrete codec of log-mel spectrograms; defaults have the size of TorToiSe's DVAE.

    Source of sizes: neonbjb/DL-Art-School, `lucidrains_dvae.py` and its 22.05 kHz config.
    """

    recipes: ClassVar[frozenset[str]] = frozenset({"codec"})
    rates_hz: ClassVar[tuple[int, int]] = (8_000, 48_000)
    parameter_groups: ClassVar[ParameterGroups] = {
        "encoder": ("encoder.", "norm.", "to_codes."), "decoder": ("from_codes.", "decoder."),
    }  # fmt: skip

    kind: Literal["mel_codec"] = setting(
        "mel_codec", "Mel codec: log-mel spectrogram to codes and back, by 1-D convolutions."
    )
    mel_bands: int = setting(80, "Number of mel bands.", ge=8, le=256)
    n_fft: int | None = setting(
        None,
        "Window and transform length; empty: the power of two nearest to four hops (1024 at 22.05 and "
        "16 kHz, 512 at 8 kHz).",
        unit="samples",
        ge=64,
        le=8_192,
    )
    hop: int | None = setting(
        None,
        "Distance of frames; empty: 11.6 ms (256 at 22.05 kHz, 184 at 16 kHz, 96 at 8 kHz).",
        unit="samples",
        ge=16,
        le=4_096,
    )
    f_min_hz: float = setting(0.0, "Lower edge of the mel bands.", unit="Hz", ge=0, le=2_000)
    f_max_hz: float | None = setting(
        None, "Upper edge of the mel bands; empty: half the sampling rate.", unit="Hz", gt=0,
        le=24_000,
    )  # fmt: skip
    spectrum: Literal["magnitude", "power"] = setting(
        "magnitude",
        "What the mel bands sum: magnitudes, or their squares (power), as TorToiSe does.",
    )
    mel_scale: Literal["slaney", "htk"] = setting(
        "slaney", "Mel scale of the bands: Slaney's, or HTK's, as TorToiSe has it."
    )
    channels: tuple[Width, ...] = setting(
        (512, 1024), "Channels after each strided convolution.", min_length=1, max_length=4
    )
    strides: tuple[Stride, ...] = setting(
        (2, 2),
        "Frames that each strided convolution merges into one; a code stands for as many frames as their "
        "product.",
        min_length=1,
        max_length=4,
    )
    residual_blocks: int = setting(
        3, "Residual blocks (kernels 3, 3, 1) of the encoder, and of the decoder.", ge=0, le=32
    )
    activation: Literal["silu", "relu"] = setting(
        "silu", "Activation function behind the convolutions: silu, or relu, as in TorToiSe."
    )
    encoder_norm: Literal["layer_norm", "none"] = setting(
        "layer_norm",
        "Normalisation of the encoder's output before it is quantised: layer norm, which keeps fsq from "
        "saturating, or none, as in TorToiSe.",
    )
    output_kernel: Literal[1, 3] = setting(
        3, "Kernel of the last convolution of the decoder: 3, or 1, as in TorToiSe.", unit="frames"
    )
    quantiser: Literal["fsq", "vq"] = setting(
        "fsq",
        "fsq: finite scalar quantisation, which has no codebook and so none that collapses; vq: nearest "
        "vectors of a codebook that follows the encoder as a moving average.",
    )
    levels: tuple[Level, ...] = setting(
        (8, 5, 5, 5),
        "Levels of each dimension of fsq, 3 to 64; the number of codes is their product.",
        min_length=1,
        max_length=8,
    )
    codes: int = setting(1_024, "Number of codes of vq.", ge=2, le=_MOST_CODES)
    code_dim: int = setting(64, "Dimensions of a code of vq.", ge=2, le=2_048)
    codebook_decay: float = setting(
        0.99, "Decay per update of the moving averages that make the codebook of vq.", ge=0, lt=1
    )
    kmeans_start: bool = setting(
        True,
        "Start the codebook of vq at the k-means centroids of encoder outputs; without, it is drawn at "
        "random and most codes are never used.",
    )
    revive_below: float = setting(
        0.1,
        "Use of a code of vq, relative to the mean over all codes, below which it is moved beside one of "
        "the most used ones; 0: never.",
        ge=0,
        le=0.5,
    )

    @property
    def frames_per_code(self) -> int:
        """Frames that a code stands for."""
        return prod(self.strides)

    @property
    def num_codes(self) -> int:
        """Number of codes."""
        return prod(self.levels) if self.quantiser == "fsq" else self.codes

    def hop_at(self, rate_hz: int) -> int:
        """Return the distance of frames in samples."""
        return self.hop or max(2, round(rate_hz * _HOP_S / _HOP_STEP)) * _HOP_STEP

    def n_fft_at(self, rate_hz: int) -> int:
        """Return the length of window and transform in samples."""
        return self.n_fft or 1 << round(log2(4 * self.hop_at(rate_hz)))

    def f_max_at(self, rate_hz: int) -> float:
        """Return the upper edge of the mel bands in Hz."""
        return self.f_max_hz or rate_hz / 2

    @property
    def power(self) -> int:
        """Exponent of the magnitudes that the mel bands sum."""
        return 2 if self.spectrum == "power" else 1

    def samples_per_code(self, rate_hz: int) -> int:
        """Return how many audio samples a code stands for."""
        return self.frames_per_code * self.hop_at(rate_hz)

    @model_validator(mode="after")
    def _levels_of_the_stack_agree(self) -> Self:
        if len(self.channels) != len(self.strides):
            raise ValueError(
                f"channels = {list(self.channels)} and strides = {list(self.strides)} must have as many "
                "entries as each other, one for each strided convolution"
            )
        return self

    @model_validator(mode="after")
    def _codes_can_be_counted(self) -> Self:
        if prod(self.levels) > _MOST_CODES:
            raise ValueError(
                f"levels = {list(self.levels)} are {prod(self.levels)} codes, and at most {_MOST_CODES} are "
                "supported; use fewer levels, like [8, 5, 5, 5]"
            )
        return self

    @model_validator(mode="after")
    def _window_covers_the_hop(self) -> Self:
        if self.n_fft is not None and self.n_fft % 2:
            raise ValueError(f"n_fft = {self.n_fft} must be even")
        if self.n_fft is not None and self.hop is not None and 2 * self.hop > self.n_fft:
            raise ValueError(f"hop = {self.hop} must be at most half of n_fft = {self.n_fft}")
        return self
