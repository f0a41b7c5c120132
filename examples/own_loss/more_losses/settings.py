"""The settings of the losses. Presets are checked without torch, so only `build` may import it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from engine.config.hubert import HubertLoss
from engine.config.losses import PluginLoss
from engine.config.self_supervised import Wav2Vec2Loss
from models.settings import setting


class StftSiSdrLoss(PluginLoss):
    """Distance of magnitude spectra over several windows, and SI-SDR; for separation and denoising."""

    kind: Literal["stft_si_sdr"] = setting("stft_si_sdr", "Multi-resolution STFT loss and SI-SDR.")
    windows: tuple[Annotated[int, Field(ge=16, le=8_192)], ...] = setting(
        (512, 1024, 2048), "Window lengths of the spectra.", unit="samples", min_length=1
    )
    si_sdr_weight: float = setting(
        0.05, "Weight of the negative SI-SDR in dB, beside the STFT loss.", ge=0, le=10
    )

    def build(self) -> Any:
        """Return `loss(est_BSCT, ref_BSCT) -> (B,)`."""
        from more_losses.functions import StftSiSdr

        return StftSiSdr(self.windows, self.si_sdr_weight)


class FocalLoss(PluginLoss):
    """What both focal losses (Lin et al., 2017) have."""

    unit: ClassVar[str] = ""

    focus: float = setting(
        2.0, "Exponent of the probability of other classes; 0: cross-entropy.", ge=0, le=10
    )

    def build(self) -> Any:
        """Return `loss(logits_NK, label_N) -> (N,)`."""
        from more_losses.functions import Focal

        return Focal(self.focus)


class FocalHubertLoss(FocalLoss, HubertLoss):
    """HuBERT by a focal loss; masks, weights and targets are those of HuBERT."""

    # Every kind has a name of its own, so this one replaces that of HuBERT's loss.
    kind: Literal["focal_hubert"] = setting(  # type: ignore[assignment]
        "focal_hubert", "HuBERT whose loss of a frame counts less the surer the network is."
    )


class FocalWav2Vec2Loss(FocalLoss, Wav2Vec2Loss):
    """wav2vec 2.0 by a focal loss; masks, distractors and the other terms are those of wav2vec 2.0."""

    kind: Literal["focal_wav2vec2"] = setting(  # type: ignore[assignment]
        "focal_wav2vec2", "wav2vec 2.0 whose loss of a frame counts less the surer the network is."
    )
