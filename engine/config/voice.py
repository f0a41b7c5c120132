"""Settings of voices: their utterances, and the objective of the voice model."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from engine.config.data_settings import DataSettings
from engine.config.loss_settings import LossSettings
from engine.config.utterances import UtteranceData
from models.base.settings import setting
from models.configs import ModelConfig
from models.voice.settings import VoiceConfig


class VoiceData(UtteranceData):
    """Voices: utterances with transcripts, and the speaker of each where the manifest names one."""

    recipes: ClassVar[frozenset[str]] = frozenset({"voice"})
    default_loss: ClassVar[str] = "voice"
    takes_tokens_of_base: ClassVar[bool] = True
    # Places that were never trained speak nothing.
    limits_validation: ClassVar[bool] = True

    kind: Literal["voice"] = setting("voice", "Voices: utterances with transcripts and speakers.")
    min_s: float = setting(
        0.5,
        "Minimum duration of an utterance; shorter ones are skipped, in validation as well.",
        unit="s",
        ge=0.05,
        le=3_600,
    )
    max_s: float = setting(
        11.6, "Maximum duration of an utterance; longer ones are skipped, in validation as well.",
        unit="s", gt=0.05, le=3_600,
    )  # fmt: skip
    punctuation: Literal["drop", "plain", "keep"] = setting(
        "plain",
        "Characters other than letters, digits and apostrophes: replaced by a space (drop), kept with "
        "typographic quotes, dashes and ellipses replaced by plain ones (plain), or kept as they are (keep).",
    )
    references: int = setting(
        2,
        "Number of reference clips of each item: parts of other utterances of its speaker, drawn anew in every "
        "epoch; of the utterance itself only where the speaker has no other.",
        ge=1,
        le=16,
    )
    reference_s: float = setting(
        2.0, "Length of a reference clip; shorter utterances are repeated.", unit="s", ge=0.2, le=30
    )


class VoiceLoss(LossSettings):
    """Cross-entropy of the tokens of the text, and of the codes of the speech."""

    recipe: ClassVar[str] = "voice"
    unit: ClassVar[str] = "nats"
    gives_audio: ClassVar[bool] = True
    uses_codec: ClassVar[bool] = True
    speaks: ClassVar[bool] = True

    kind: Literal["voice"] = setting(
        "voice", "Voice: the next token of a text, then the next code of its speech."
    )
    text_loss_weight: float = setting(
        0.01,
        "Weight of the cross-entropy of the text: 0.01 for a new voice, 1 for a new language. It is no learning "
        "rate: Adam divides a gradient by its own size, so what only the text loss reaches (text head, last "
        "text positions) learns as fast with 0.01 as with 1; what both reach follows the heavier one. To slow a "
        "part down, use optimizer.lr_scale.",
        ge=0,
        le=100,
    )
    mel_loss_weight: float = setting(
        1.0,
        "Weight of the cross-entropy of the codes of the mel spectrogram: 1, or 0.01 to learn a language "
        "before a voice. It is no learning rate either.",
        ge=0,
        le=100,
    )

    @model_validator(mode="after")
    def _something_is_learnt(self) -> Self:
        if not (self.text_loss_weight or self.mel_loss_weight):
            raise ValueError(
                "text_loss_weight and mel_loss_weight are both 0, so nothing would be learnt; set "
                "mel_loss_weight = 1.0"
            )
        return self

    def misfit(self, data: DataSettings, model: ModelConfig) -> str:
        """Return whether a reference clip is longer than what it can be cut from."""
        assert isinstance(data, VoiceData)
        assert isinstance(model, VoiceConfig)
        if data.reference_s > data.max_s:
            return (
                f"data.reference_s = {data.reference_s:g} is longer than data.max_s = {data.max_s:g}, and so than "
                "any utterance; lower it"
            )
        return ""
