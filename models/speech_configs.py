"""The settings of the recognisers of speech, transducers (RNN-T) and CTC models, free of torch.

What follows from the data (mel bands, tokens) is not here: `models.transducer.build_transducer`
receives it from the recipe. Lengths are in frames of 10 ms unless a unit says otherwise.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from models.base.settings import ParameterGroups, Section, require_multiples, setting
from models.plugins import accept_section
from models.self_supervised.data2vec2_settings import Data2Vec2EncoderSettings
from models.self_supervised.plugin_settings import PluginWaveformEncoder, missing_parts
from models.self_supervised.settings import HubertHead, WaveformEncoderSettings
from models.self_supervised.wav2vec2_settings import Wav2Vec2Head

ENCODERS = "sepdash.encoders"
# The convolutions of an encoder of waveforms, apart from its layers.
_EXTRACTOR: ParameterGroups = {"extractor": ("encoder.feature_extractor.",)}


class EncoderDims(Section):
    """The size of a stack of attention layers over frames."""

    stride: int = setting(
        4, "Frame stacking factor at the encoder input.", unit="frames", ge=1, le=16
    )
    layers: int = setting(16, "Number of encoder layers.", ge=1, le=64)
    dim: int = setting(256, "Width of the encoder, a multiple of heads.", ge=8, le=4_096)
    heads: int = setting(4, "Number of attention heads per layer.", ge=1, le=64)
    ffn: int = setting(1024, "Hidden width of the feed-forward blocks.", ge=8, le=16_384)
    dropout: float = setting(0.1, "Dropout probability in the encoder.", ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_share_channels(self) -> Self:
        require_multiples(self, ("dim", "heads"))
        return self


class ConformerDims(EncoderDims):
    """The size of a Conformer (Gulati et al., 2020)."""

    kernel: int = setting(
        31,
        "Kernel size of the depthwise convolution, odd, in stacked frames.",
        unit="frames",
        ge=3,
        le=99,
    )

    @model_validator(mode="after")
    def _kernel_has_a_middle(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(
                f"kernel = {self.kernel} must be odd, so that the kernel is centred on its frame"
            )
        return self


class FeatureMasks(Section):
    """How frames of an encoder of waveforms are masked in training."""

    time_mask_prob: float = setting(
        0.65, "Fraction of frames masked in training, if no two spans overlapped; 0: none.",
        ge=0, le=1,
    )  # fmt: skip
    time_mask_length: int = setting(10, "Length of a masked span.", unit="frames", ge=1, le=1_000)
    channel_mask_prob: float = setting(
        0.5, "Fraction of channels masked in training, if no two spans overlapped; 0: none.",
        ge=0, le=1,
    )  # fmt: skip
    channel_mask_length: int = setting(
        64, "Number of neighbouring channels masked together.", unit="channels", ge=1, le=4_096
    )

    def _require_channels(self, dim: int) -> None:
        """Check that masks leave channels of D."""
        if self.channel_mask_prob and 2 * self.channel_mask_length > dim:
            raise ValueError(
                f"channel_mask_length = {self.channel_mask_length} must be at most half of dim = {dim}; "
                "lower it, or set channel_mask_prob = 0"
            )


class TunedTransformer(FeatureMasks, WaveformEncoderSettings):
    """The encoder of wav2vec 2.0 and HuBERT, with masks."""

    feature_grad_scale: float = setting(
        1.0,
        "Factor on the gradient that reaches the feature extractor; 0 freezes it.",
        ge=0,
        le=1,
    )

    @model_validator(mode="after")
    def _masks_leave_channels(self) -> Self:
        self._require_channels(self.dim)
        return self


class TunedData2Vec(FeatureMasks, Data2Vec2EncoderSettings):
    """The encoder of data2vec 2.0, with masks."""

    @model_validator(mode="after")
    def _masks_leave_channels(self) -> Self:
        self._require_channels(self.dim)
        return self


TunedEncoder = TunedTransformer | TunedData2Vec


class SpeechHead(Section):
    """What all recognisers of speech have; `reads` says what their encoder takes."""

    recipes: ClassVar[frozenset[str]] = frozenset()
    rates_hz: ClassVar[tuple[int, int]] = (4_000, 48_000)
    reads: ClassVar[Literal["log_mel", "waveform"]] = "log_mel"


class TransducerHead(SpeechHead):
    """What all transducers have behind their encoder: the predictor and the joint network."""

    recipes: ClassVar[frozenset[str]] = frozenset({"transducer"})
    parameter_groups: ClassVar[ParameterGroups] = {
        "encoder": ("encoder.",), "predictor": ("predictor.",), "joint": ("joiner.",),
    }  # fmt: skip

    encoding_dim: int = setting(1024, "Width of the joint network.", ge=8, le=8_192)
    joint_activation: Literal["relu", "tanh"] = setting(
        "tanh", "Activation function of the joint network."
    )
    embedding: int = setting(256, "Token embedding size of the predictor.", ge=4, le=4_096)
    lstm_hidden: int = setting(512, "Hidden size of the LSTM predictor.", ge=4, le=4_096)
    lstm_layers: int = setting(2, "Number of LSTM layers of the predictor.", ge=1, le=8)
    lstm_dropout: float = setting(0.3, "Dropout probability in the predictor.", ge=0, lt=1)


# Settings of bases come in the reverse order of the bases: the encoder's first.
class TransducerSettings(TransducerHead, EncoderDims):
    """What the built-in transducers have in common."""


class PluginEncoder(TransducerHead):
    """Settings of an encoder of speech that another package provides (`sepdash.encoders`).

    A subclass declares `kind` as a literal equal to the name of its entry point, with a default, and
    the encoder's own settings by `models.settings.setting`; predictor and joint network are built
    for it. A package may name further `recipes`, which then build the same encoder: `ctc` puts a linear
    layer behind it.
    """

    kind: str

    def build(self, *, num_mels: int) -> Any:
        """Return the encoder, a `torch.nn.Module` that is a `models.transducer.Encoder`.

        It maps normalised log-mel frames (B, L, `num_mels`), one every 10 ms and 0 after the length
        of each item, with lengths (B,) to encodings (B, T, `encoding_dim`) with lengths (B,). An
        item must give the same alone and in any batch. One that has `segments`, too, streams
        (`models.transducer.StreamingEncoder`).
        """
        raise NotImplementedError


def accept_encoder(
    point: EntryPoint, value: object
) -> type[PluginEncoder] | type[PluginWaveformEncoder]:
    """Return the settings that an entry point names: of an encoder of speech, or of waveforms.

    Raises:
        TypeError: when they break a rule.
    """
    if isinstance(value, type) and issubclass(value, PluginWaveformEncoder):
        waveforms = accept_section(point, value, base=PluginWaveformEncoder)
        if missing := missing_parts(waveforms):
            raise TypeError(f"{point.value} does not define {', '.join(missing)}")
        if not issubclass(value, HubertHead | Wav2Vec2Head):
            raise TypeError(f"{point.value} is a subclass of neither HubertHead nor Wav2Vec2Head")
        return waveforms
    encoder = accept_section(point, value, base=PluginEncoder)
    if encoder.build is PluginEncoder.build:
        raise TypeError(f"{point.value} has no method `build`")
    return encoder


class ConformerRnntConfig(TransducerHead, ConformerDims):
    """Conformer transducer: sees the whole utterance; group norm, no batch norm."""

    kind: Literal["conformer_rnnt"] = setting(
        "conformer_rnnt",
        "Conformer transducer (torchaudio implementation); not streaming: needs the whole utterance.",
    )


class CtcHead(SpeechHead):
    """What all CTC models have behind their encoder: one linear layer over the tokens."""

    recipes: ClassVar[frozenset[str]] = frozenset({"ctc"})
    parameter_groups: ClassVar[ParameterGroups] = {"encoder": ("encoder.",), "head": ("head.",)}


class CtcConformerConfig(CtcHead, ConformerDims):
    """Conformer with a CTC head."""

    kind: Literal["ctc_conformer"] = setting(
        "ctc_conformer", "Conformer encoder on log-mel frames with a CTC head."
    )

    @property
    def encoding_dim(self) -> int:
        """Width of the encodings: that of the encoder."""
        return self.dim


class EmformerRnntConfig(TransducerSettings):
    """Emformer transducer (Shi et al., 2021): streams in segments with a bounded look-ahead."""

    kind: Literal["emformer_rnnt"] = setting(
        "emformer_rnnt",
        "Emformer transducer (torchaudio implementation); streaming, segment by segment.",
    )
    layers: int = setting(20, "Number of encoder layers.", ge=1, le=64)
    dim: int = setting(
        512, "Width of the encoder, a multiple of heads and of stride.", ge=8, le=4_096
    )
    heads: int = setting(8, "Number of attention heads per layer.", ge=1, le=64)
    ffn: int = setting(2048, "Hidden width of the feed-forward blocks.", ge=8, le=16_384)
    joint_activation: Literal["relu", "tanh"] = setting(
        "relu", "Activation function of the joint network."
    )
    embedding: int = setting(512, "Token embedding size of the predictor.", ge=4, le=4_096)
    lstm_layers: int = setting(3, "Number of LSTM layers of the predictor.", ge=1, le=8)
    segment: int = setting(
        16, "Segment length, a multiple of stride.", unit="frames", ge=1, le=1_024
    )
    left_context: int = setting(
        30, "Left context of a segment, in stacked frames.", unit="frames", ge=0, le=1_024
    )
    right_context: int = setting(
        4,
        "Right context (look-ahead) of a segment, a multiple of stride.",
        unit="frames",
        ge=0,
        le=256,
    )
    memory: int = setting(
        0,
        "Maximum number of memory vectors (summaries of earlier segments) that a segment attends to.",
        unit="segments",
        ge=0,
        le=64,
    )

    @model_validator(mode="after")
    def _segments_are_whole(self) -> Self:
        require_multiples(self, *((name, "stride") for name in ("dim", "segment", "right_context")))
        return self


class CtcEncoderConfig(CtcHead, TunedTransformer):
    """Waveform encoder of wav2vec 2.0 and HuBERT with a CTC head."""

    reads: ClassVar[Literal["log_mel", "waveform"]] = "waveform"
    parameter_groups: ClassVar[ParameterGroups] = {**CtcHead.parameter_groups, **_EXTRACTOR}

    kind: Literal["ctc_encoder"] = setting(
        "ctc_encoder",
        "Waveform encoder of HuBERT and wav2vec 2.0 with a CTC head, pre-trained (init_from) or not.",
    )

    @property
    def encoding_dim(self) -> int:
        """Width of the encodings: that of the encoder."""
        return self.dim


class CtcData2Vec2Config(CtcHead, TunedData2Vec):
    """Waveform encoder of data2vec 2.0 with a CTC head."""

    reads: ClassVar[Literal["log_mel", "waveform"]] = "waveform"
    parameter_groups: ClassVar[ParameterGroups] = {**CtcHead.parameter_groups, **_EXTRACTOR}

    kind: Literal["ctc_data2vec2"] = setting(
        "ctc_data2vec2",
        "Waveform encoder of data2vec 2.0 with a CTC head, pre-trained (init_from) or not.",
    )

    @property
    def encoding_dim(self) -> int:
        """Width of the encodings: that of the encoder."""
        return self.dim


class WaveformRnntConfig(TransducerHead, TunedTransformer):
    """Transducer with the waveform encoder of wav2vec 2.0 and HuBERT."""

    reads: ClassVar[Literal["log_mel", "waveform"]] = "waveform"
    parameter_groups: ClassVar[ParameterGroups] = {**TransducerHead.parameter_groups, **_EXTRACTOR}

    kind: Literal["waveform_rnnt"] = setting(
        "waveform_rnnt",
        "Transducer with the waveform encoder of HuBERT and wav2vec 2.0, pre-trained (init_from) or not.",
    )


TransducerConfig = ConformerRnntConfig | EmformerRnntConfig | WaveformRnntConfig | PluginEncoder
CtcConfig = CtcConformerConfig | CtcEncoderConfig | CtcData2Vec2Config | PluginEncoder
