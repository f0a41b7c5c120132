"""Encoders of waveforms of other packages, under the built-in self-supervised recipes; free of torch.

They are named by the entry point group of all encoders, `sepdash.encoders`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from models.base.settings import setting
from models.self_supervised.settings import SelfSupervisedConfig


class PluginWaveformEncoder(SelfSupervisedConfig):
    """Settings of an encoder of waveforms that another package provides.

    A subclass is one of `HubertHead` or `Wav2Vec2Head`, too, which says what is put around the encoder.
    It declares `kind` as a literal equal to the name of its entry point, with a default; its own settings
    by `models.settings.setting`; and the three properties below.

    Attributes:
        takes_padding: whether zeros after an item change none of its frames; otherwise only
            `data.fit = "crop"` is accepted.
    """

    takes_padding: ClassVar[bool] = False

    kind: str
    layers: int = setting(12, "Number of encoder layers.", ge=1, le=96)
    dim: int = setting(768, "Width of the encoder.", ge=8, le=4_096)
    layer_drop: float = setting(
        0.0,
        "Probability that an encoder layer is skipped in an update; drawn once per update.",
        ge=0,
        lt=1,
    )

    @property
    def hop(self) -> int:
        """Samples from one frame to the next: 20 ms, on whose grid crops and labels lie."""
        raise NotImplementedError

    @property
    def receptive_field(self) -> int:
        """Samples that the local features of a frame see: frame k sees those from `hop * k` on."""
        raise NotImplementedError

    @property
    def local_dim(self) -> int:
        """Channels of the local features, from which wav2vec 2.0 draws its codes."""
        raise NotImplementedError

    def frames_of(self, samples: int) -> int:
        """Return how many frames a waveform of `samples` gives, 0 where it is too short for one."""
        return max(0, (samples - self.receptive_field) // self.hop + 1)

    def build(self) -> Any:
        """Return the encoder, a `models.self_supervised.frame_encoder.FrameEncoder`; may import torch."""
        raise NotImplementedError


def missing_parts(encoder: type[PluginWaveformEncoder]) -> list[str]:
    """Return what a subclass has to define and does not."""
    names = ("hop", "receptive_field", "local_dim", "build")
    return [
        name for name in names if getattr(encoder, name) is getattr(PluginWaveformEncoder, name)
    ]
