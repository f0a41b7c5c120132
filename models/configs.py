"""The settings of every model, free of torch.

Owns what a user may choose about a network. What follows from the data (channels, sources, sampling
rate) is not here: `models.registry.build_model` receives it from the recipe.
"""

from __future__ import annotations

from math import prod
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from models.settings import Section, setting


class AudioUNetConfig(Section):
    """Waveform U-Net: strided convolutions down, transposed convolutions up, skips between."""

    rates_hz: ClassVar[tuple[int, int]] = (4_000, 192_000)

    kind: Literal["audio_unet"] = setting("audio_unet", "Audio U-Net on the waveform.")
    width: int = setting(
        16, "Channels of the first level; they double at each level below.", ge=4, le=256
    )
    strides: tuple[Annotated[int, Field(ge=1, le=64)], ...] = setting(
        (2, 2, 8, 8),
        "Down-sampling factor of each level, 1 to 64; audio is padded to a multiple of the product.",
        unit="samples",
        min_length=1,
        max_length=8,
    )
    residual_units: int = setting(
        3, "Residual units before each strided convolution, with dilations 1, 3, 9, ...", ge=1, le=6
    )
    norm: Literal["none", "weight", "group"] = setting(
        "none", "Normalisation: none, weight norm on every convolution, or group norm."
    )
    prediction: Literal["clean", "difference"] = setting(
        "difference", "What the network puts out: the clean signal, or what to add to the input."
    )

    @property
    def hop(self) -> int:
        """Product of the strides, in samples: the internal length is a multiple of it."""
        return prod(self.strides)


class ConvTasNetConfig(Section):
    """Conv-TasNet as in torchaudio (Luo and Mesgarani, 2019); channels are processed one by one."""

    rates_hz: ClassVar[tuple[int, int]] = (8_000, 48_000)

    kind: Literal["conv_tasnet"] = setting("conv_tasnet", "Conv-TasNet, from torchaudio.")
    kernel_size: int = setting(16, "Length of an encoder filter.", unit="samples", ge=4, le=128)
    features: int = setting(512, "Number of encoder filters.", ge=16, le=2048)
    mask_features: int = setting(128, "Bottleneck channels of the mask network.", ge=8, le=1024)
    mask_hidden: int = setting(512, "Channels inside a mask block.", ge=8, le=2048)
    mask_kernel_size: int = setting(3, "Kernel of the mask convolutions, odd.", ge=3, le=9)
    mask_layers: int = setting(8, "Dilated layers in a stack.", ge=1, le=12)
    mask_stacks: int = setting(3, "Number of stacks.", ge=1, le=8)
    mask_activation: Literal["sigmoid", "relu"] = setting("sigmoid", "Mask activation.")

    @field_validator("mask_kernel_size")
    @classmethod
    def _kernel_is_odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd, so that a frame lies in the middle of its kernel")
        return value


ModelConfig = Annotated[AudioUNetConfig | ConvTasNetConfig, Field(discriminator="kind")]
