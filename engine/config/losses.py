"""Settings of the training objectives: one section for each kind of loss.

A loss belongs to one recipe, and so says how a run is trained; data and models name the recipes that
they suit. Installed packages add theirs by the entry point group `sepdash.losses`.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from engine.config.codec import MelCodecLoss
from engine.config.data2vec2 import Data2Vec2Loss
from engine.config.hubert import HubertLoss
from engine.config.loss_settings import LossSettings
from engine.config.self_supervised import SelfSupervisedLoss, Wav2Vec2Loss
from engine.config.voice import VoiceLoss
from models.base.settings import setting
from models.plugins import accept_section

GROUP = "sepdash.losses"


class SpectralLoss(LossSettings):
    """L1 distance of magnitude spectra and of their logarithms, over several window lengths."""

    kind: Literal["spectral"] = setting("spectral", "Multi-scale spectral loss.")
    windows: tuple[Annotated[int, Field(ge=4, le=65_536)], ...] = setting(
        (2048, 1024, 512, 256, 128, 64, 32),
        "Window lengths of the spectral loss, 4 to 65536; the hop is half a window.",
        unit="samples", min_length=1, max_length=12,
    )  # fmt: skip
    reduction: Literal["mean", "sum"] = setting(
        "mean", "Spectral loss over time and frequency: mean, or the sum of the original notebook."
    )

    @property
    def adds_sources(self) -> bool:
        """Sums add up; means do not."""
        return self.reduction == "sum"


class SiSdrLoss(LossSettings):
    """Negative scale-invariant signal-to-distortion ratio."""

    unit: ClassVar[str] = "dB"

    kind: Literal["si_sdr"] = setting("si_sdr", "Negative SI-SDR.")


class L1Loss(LossSettings):
    """Mean absolute difference of the samples."""

    kind: Literal["l1"] = setting("l1", "Mean absolute error of the waveform.")


class RnntLoss(LossSettings):
    """Transducer loss (Graves, 2012): negative log likelihood of the text over all alignments."""

    recipe: ClassVar[str] = "transducer"
    unit: ClassVar[str] = "nats"
    in_slices: ClassVar[bool] = True

    kind: Literal["rnnt"] = setting("rnnt", "Transducer (RNN-T) loss, for speech with transcripts.")


class CtcLoss(LossSettings):
    """CTC loss (Graves et al., 2006): negative log likelihood of the text over all alignments."""

    recipe: ClassVar[str] = "ctc"
    unit: ClassVar[str] = "nats"

    kind: Literal["ctc"] = setting("ctc", "CTC loss, for speech with transcripts.")


class PluginLoss(LossSettings):
    """Settings of a loss that another package provides.

    A subclass declares `kind` as a literal equal to the name of its entry point, with a default,
    and its settings by `models.settings.setting`; `recipe` names the recipe that trains by it. One for
    HuBERT is a `engine.config.hubert.HubertLoss`, too, and so has its masks, weights and targets; one for
    wav2vec 2.0 a `engine.config.self_supervised.Wav2Vec2Loss`. What a recipe of another package asks for is
    that recipe's to say; other built-in recipes compute their own.
    """

    def build(self) -> Any:
        """Return the loss as a function, called in float32 at least, also under autocast.

        For separation `loss(est_BSCT, ref_BSCT) -> (B,)`, a value for each item; for HuBERT and wav2vec 2.0
        `loss(logits_NK, label_N) -> (N,)`, a value for each frame. Letters: B batch, S sources, C channels,
        T samples; N frames, K clusters, or a frame's own code, which is always first, and its distractors,
        of which those with the same code have a logit of minus infinity.
        """
        raise NotImplementedError


BuiltInLoss = (
    SpectralLoss
    | SiSdrLoss
    | L1Loss
    | RnntLoss
    | CtcLoss
    | Data2Vec2Loss
    | SelfSupervisedLoss
    | MelCodecLoss
    | VoiceLoss
)
LossConfig = BuiltInLoss | PluginLoss
# The built-in recipes that ask a loss for `build`, and what else its settings have to be.
_REPLACEABLE: dict[str, type[LossSettings]] = {
    "separation": PluginLoss,
    "hubert": HubertLoss,
    "wav2vec2": Wav2Vec2Loss,
}


def accept_loss(point: EntryPoint, value: object) -> type[PluginLoss]:
    """Return the settings that an entry point names.

    Raises:
        TypeError: when they break a rule.
    """
    loss = accept_section(point, value, base=PluginLoss)
    if loss.recipe in {cls.recipe for cls in get_args(BuiltInLoss)} - set(_REPLACEABLE):
        raise TypeError(
            f"{point.value}: recipe {loss.recipe} computes its own loss; only the losses of "
            f"{', '.join(_REPLACEABLE)} can be replaced"
        )
    base = _REPLACEABLE.get(loss.recipe, PluginLoss)
    if not issubclass(loss, base):
        raise TypeError(
            f"{point.value} must be a subclass of {base.__module__}.{base.__name__}, too: it is for recipe "
            f"{loss.recipe}"
        )
    if loss.recipe in _REPLACEABLE and loss.build is PluginLoss.build:
        raise TypeError(f"{point.value} has no method `build`, which recipe {loss.recipe} requires")
    return loss
