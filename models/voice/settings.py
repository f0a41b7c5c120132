"""The settings of the voice model, free of torch."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from models.base.settings import ParameterGroups, Section, require_multiples, setting


class VoiceConfig(Section):
    """A GPT-style model of text and of the codes of a mel codec; defaults have TorToiSe's size.

    Source of sizes: neonbjb/tortoise-tts, `autoregressive.py`; 422 million parameters.
    """

    recipes: ClassVar[frozenset[str]] = frozenset({"voice"})
    rates_hz: ClassVar[tuple[int, int]] = (8_000, 48_000)
    # Weights of other sizes can't be started from.
    sizes: ClassVar[tuple[str, ...]] = (
        "layers", "dim", "heads", "max_text", "max_codes", "reference_layers",
    )  # fmt: skip
    parameter_groups: ClassVar[ParameterGroups] = {
        "text": ("text_embedding.", "text_positions.", "text_head."),
        "mel": ("code_embedding.", "code_positions.", "code_head."),
        "trunk": ("stack.", "final_norm."),
        "reference": ("reference_encoder.",),
    }

    kind: Literal["voice_gpt"] = setting(
        "voice_gpt",
        "Voice: one causal transformer over reference clips, text, and the codes of speech.",
    )
    layers: int = setting(30, "Number of transformer layers.", ge=1, le=96)
    dim: int = setting(
        1_024, "Width of the transformer, a multiple of 8 and of heads.", ge=16, le=8_192
    )
    heads: int = setting(16, "Number of attention heads.", ge=1, le=128)
    dropout: float = setting(
        0.1, "Dropout probability of embeddings, attention and residuals.", ge=0, lt=1
    )
    max_text: int = setting(
        404,
        "Maximum length of a text, START and STOP included; each place has an embedding of its own.",
        unit="tokens",
        ge=8,
        le=16_384,
    )
    max_codes: int = setting(
        608,
        "Maximum length of speech, START and STOP included; each place has an embedding of its own.",
        unit="codes",
        ge=16,
        le=65_536,
    )
    reference_layers: int = setting(
        6, "Number of attention layers of the encoder of reference clips.", ge=1, le=32
    )
    reference_vectors: Literal["one", "each"] = setting(
        "one",
        "What stands for several reference clips: one vector, their mean, or a vector for each, one after "
        "another.",
    )

    @property
    def text_room(self) -> int:
        """Tokens that the longest text has, without START and STOP."""
        return self.max_text - 2

    @property
    def code_room(self) -> int:
        """Codes that the longest speech has, without START and STOP."""
        return self.max_codes - 2

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        require_multiples(self, ("dim", "heads"))
        if self.dim % 8:
            raise ValueError(f"dim = {self.dim} must be a multiple of 8")
        return self
