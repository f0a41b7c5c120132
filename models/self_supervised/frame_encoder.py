"""An encoder of waveforms in steps, between which a recipe can mask frames.

Letters: B batch, T samples, L frames, C channels of local features, D width of the layers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from models.self_supervised.features import evaluation_mode
from models.self_supervised.plugin_settings import PluginWaveformEncoder
from models.self_supervised.settings import EncoderSettings


class FrameEncoder(nn.Module):
    """Maps waveforms to frames: local features, their projection, then layers that see all of them.

    A subclass defines `local_features`, `project` and `layer_outputs`. With `local_features` alone a
    frame must not see others, or a masked one could be copied.

    Args:
        settings: where frames lie, and how many layers there are.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.settings = settings

    @property
    def compiled_parts(self) -> Sequence[str]:
        """Names of the parts that `precision.compile` compiles: those whose forward pass is called."""
        return ()

    @property
    def num_layers(self) -> int:
        """Number of layers after the projection."""
        return self.settings.layers

    def frames_of(self, samples: int) -> int:
        """Return how many frames a waveform of `samples` gives."""
        return self.settings.frames_of(samples)

    def local_features(
        self, wave_BT: Tensor, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return local features (B, L, C), whose mean square may be penalised, and the number of frames (B,).

        Args:
            wave_BT: waveforms, padded with anything.
            lengths_B: samples of each; None where all are as long as the batch, and so is then the
                number of frames.
        """
        raise NotImplementedError

    def normalised(self, feat_BLC: Tensor) -> Tensor:
        """Return local features as they are projected and quantised (B, L, C)."""
        return feat_BLC

    def project(self, norm_BLC: Tensor) -> Tensor:
        """Return normalised local features in the width of the layers (B, L, D); masks come after this."""
        raise NotImplementedError

    def layer_outputs(
        self,
        x_BLD: Tensor,
        frame_lengths_B: Tensor | None = None,
        *,
        keep_layers: Sequence[bool] | None = None,
    ) -> Iterator[Tensor]:
        """Yield the input of the first layer (B, L, D), then the output of each layer.

        Args:
            x_BLD: projected frames, masked ones replaced.
            frame_lengths_B: valid frames of each item; None where all are.
            keep_layers: whether each layer is applied; None: all are. One that is not yields its input.
        """
        raise NotImplementedError

    def finish(self, h_BLD: Tensor) -> Tensor:
        """Return what predictions are made of, from the output of the last layer (B, L, D)."""
        return h_BLD

    def forward(
        self,
        wave_BT: Tensor,
        lengths_B: Tensor | None = None,
        *,
        keep_layers: Sequence[bool] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return frames (B, L, D) and their number (B,), None where `lengths_B` is."""
        feat_BLC, frame_lengths_B = self.local_features(wave_BT, lengths_B)
        x_BLD = self.project(self.normalised(feat_BLC))
        return self.context(x_BLD, frame_lengths_B, keep_layers=keep_layers), frame_lengths_B

    def context(
        self,
        x_BLD: Tensor,
        frame_lengths_B: Tensor | None = None,
        *,
        keep_layers: Sequence[bool] | None = None,
    ) -> Tensor:
        """Return projected frames in their context (B, L, D); arguments as in `layer_outputs`."""
        outputs = self.layer_outputs(x_BLD, frame_lengths_B, keep_layers=keep_layers)
        (last_BLD,) = deque(outputs, maxlen=1)
        return self.finish(last_BLD)

    @torch.no_grad()
    def layer_features(self, wave_BT: Tensor, lengths_B: Tensor | None = None) -> list[Tensor]:
        """Return frames (B, L, D) of every layer, as `GivesLayerFeatures` asks for.

        The last entry is before `finish`, as in torchaudio and fairseq.
        """
        with evaluation_mode(self):
            feat_BLC, frame_lengths_B = self.local_features(wave_BT, lengths_B)
            x_BLD = self.project(self.normalised(feat_BLC))
            return list(self.layer_outputs(x_BLD, frame_lengths_B))


class OnEncoder(nn.Module):
    """A network that calls an encoder step by step and offers the frames of its layers (`GivesLayerFeatures`).

    Args:
        encoder: the encoder.
    """

    def __init__(self, encoder: FrameEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def compiled_parts(self) -> Sequence[str]:
        """Names of the parts that are compiled: those of the encoder."""
        return [f"encoder.{name}" for name in self.encoder.compiled_parts]

    @property
    def num_layers(self) -> int:
        """Number of layers of the encoder."""
        return self.encoder.num_layers

    def frames_of(self, samples: int) -> int:
        """Return how many frames a waveform of `samples` gives."""
        return self.encoder.frames_of(samples)

    def layer_features(self, wave_BT: Tensor, lengths_B: Tensor | None = None) -> list[Tensor]:
        """Return frames (B, L, D) of every layer of the encoder (`GivesLayerFeatures`)."""
        return self.encoder.layer_features(wave_BT, lengths_B)


def built_encoder(settings: PluginWaveformEncoder) -> FrameEncoder:
    """Return the encoder that another package builds of its settings.

    Raises:
        ValueError: when it is something else.
    """
    encoder = settings.build()
    if not isinstance(encoder, FrameEncoder):
        raise ValueError(
            f"model.kind = {settings.kind!r}: its package built {type(encoder).__name__}, expected a "
            f"{__name__}.FrameEncoder"
        )
    return encoder
