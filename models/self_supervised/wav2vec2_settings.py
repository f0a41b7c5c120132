"""The settings of wav2vec 2.0, free of torch. Defaults are those of its BASE size."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from models.base.settings import ParameterGroups, require_multiples, setting
from models.self_supervised.settings import SelfSupervisedConfig, WaveformEncoderSettings


class Wav2Vec2Head(SelfSupervisedConfig):
    """What wav2vec 2.0 has around any encoder: the quantiser, and where predictions are compared."""

    recipes: ClassVar[frozenset[str]] = frozenset({"wav2vec2"})

    code_groups: int = setting(2, "Number of codebooks; a code is one entry of each.", ge=1, le=4)
    code_entries: int = setting(320, "Number of entries of each codebook.", ge=2, le=8_192)
    code_dim: int = setting(
        256,
        "Width of a code, all codebooks side by side, a multiple of code_groups.",
        ge=2,
        le=4_096,
    )
    final_dim: int = setting(
        256, "Width in which predictions and codes are compared.", ge=8, le=4_096
    )
    feature_dropout: float = setting(
        0.1, "Dropout probability of the features that are quantised.", ge=0, lt=1
    )

    @model_validator(mode="after")
    def _groups_share_channels(self) -> Self:
        require_multiples(self, ("code_dim", "code_groups"))
        return self


# Settings of bases come in the reverse order of the bases: the encoder's first.
class Wav2Vec2Config(Wav2Vec2Head, WaveformEncoderSettings):
    """wav2vec 2.0 (Baevski et al., 2020): tells the code of a masked frame from those of others."""

    parameter_groups: ClassVar[ParameterGroups] = {
        "extractor": ("encoder.feature_extractor.",), "encoder": ("",),
        "codes": ("quantiser.", "project_codes."),
    }  # fmt: skip

    kind: Literal["wav2vec2"] = setting(
        "wav2vec2", "wav2vec 2.0: a Transformer or Conformer encoder with a quantiser."
    )
    encoder: Literal["transformer", "conformer"] = setting(
        "transformer",
        "Layers over the frames: Transformer, or Conformer (torchaudio implementation), whose own layer "
        "norms make layer_norm_first irrelevant.",
    )
    conformer_kernel: int = setting(
        31, "Kernel size of the depthwise convolution of a Conformer layer, odd.", unit="frames",
        ge=3, le=99,
    )  # fmt: skip

    @model_validator(mode="after")
    def _kernel_has_a_middle(self) -> Self:
        if self.conformer_kernel % 2 == 0:
            raise ValueError(
                f"conformer_kernel = {self.conformer_kernel} must be odd, so that the kernel is centred "
                "on its frame"
            )
        return self
