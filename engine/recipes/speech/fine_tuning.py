"""How a waveform encoder is trained in each update: masks, skipped layers, frozen parts, learning rates.

Everything random is keyed, so that it depends on no batch: masks by (seed, epoch, item), layers by
(seed, update). Letters: B batch, L frames, D channels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from engine.batching.batch import Batch
from engine.batching.items import ItemDraw
from engine.config.schema import RunConfig
from engine.config.span import Span
from engine.item_random import item_generator
from engine.recipes.base import StepContext
from engine.recipes.self_supervised.layer_drop import kept_layers
from engine.recipes.self_supervised.span_masks import span_masks
from engine.recipes.weights import ParameterGroup
from models.speech import Tuning
from models.speech_configs import TunedEncoder

_ENCODER = "encoder."
_LAYERS = ("encoder.encoder.transformer.layers.", "encoder.context.layers.")
_TOKENS = "vocabulary"  # what only recognisers keep
_HEADS = ("encoder.output.",)  # part of the module, but not of what was pre-trained


class FineTuning:
    """The training of one waveform encoder, as the settings of a run say."""

    def __init__(self, config: RunConfig) -> None:
        assert isinstance(config.model, TunedEncoder)
        self._model = config.model
        self._settings = config.fine_tuning
        self._seed = config.seed

    def masks(
        self, draws: Sequence[ItemDraw], *, samples: Sequence[int], padded: int
    ) -> dict[str, Tensor]:
        """Return the masks of training items: `time_mask` (B, L) and `channel_mask` (B, D), if any.

        Args:
            draws: the items.
            samples: length of each.
            padded: length of the batch, which decides L.
        """
        model, masks = self._model, {}
        frames = [model.frames_of(count) for count in samples]
        width = model.frames_of(padded)
        if model.time_mask_prob:
            mask_BL = span_masks(
                self._generators(draws, "time-mask"),
                frames=frames,
                prob=model.time_mask_prob,
                length=model.time_mask_length,
                min_spans=0,
            )
            found = torch.from_numpy(mask_BL)
            masks["time_mask"] = nn.functional.pad(found, (0, width - found.shape[1]))
        if model.channel_mask_prob:
            mask_BD = span_masks(
                self._generators(draws, "channel-mask"),
                frames=[model.dim] * len(draws),
                prob=model.channel_mask_prob,
                length=model.channel_mask_length,
                min_spans=0,
            )
            masks["channel_mask"] = torch.from_numpy(mask_BD)
        return masks

    def tuning(self, batch: Batch, context: StepContext) -> Tuning:
        """Return how a step of training runs."""
        return Tuning(
            batch.tensors.get("time_mask"),
            batch.tensors.get("channel_mask"),
            keep_layers=kept_layers(self._seed, context.update, model=self._model),
            train_extractor=not self._settings.freeze_extractor
            or _reached(self._settings.thaw_extractor_at, context),
            train_encoder=self._settings.freeze_encoder_until is None
            or _reached(self._settings.freeze_encoder_until, context),
        )

    def borrowed(self, model: nn.Module, trained: Collection[str]) -> dict[str, str] | None:
        """Return which tensors a self-supervised model gives to the encoder; None for a recogniser."""
        if _TOKENS in trained:
            return None
        # wav2vec 2.0 keeps its encoder in a part of the same name; HuBERT is one.
        return {
            name: name.removeprefix(_ENCODER) if name.removeprefix(_ENCODER) in trained else name
            for name in model.state_dict()
            if name.startswith(_ENCODER) and not name.startswith(_HEADS)
        }

    def freeze(self, model: nn.Module) -> None:
        """Take from training what stays frozen for the whole run."""
        if self._settings.freeze_extractor and self._settings.thaw_extractor_at is None:
            extractor = model.get_submodule("encoder.feature_extractor")
            extractor.requires_grad_(False)

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        """Return the parameters in groups that are trained from different times on, or at different rates.

        The rate falls by `layer_lr_decay` with each layer below the head: the top layer has that of the
        head times the factor, the convolutions have the lowest.
        """
        names: dict[tuple[str, int], list[str]] = {}
        for name, param in model.named_parameters():
            if param.requires_grad:
                names.setdefault(self._place(name), []).append(name)
        decay = self._settings.layer_lr_decay
        return [
            ParameterGroup(f"{part}-{depth}" if decay < 1 else part, members, lr_ratio=decay**depth)
            for (part, depth), members in names.items()
        ]

    def _place(self, name: str) -> tuple[str, int]:
        """Return the part that a parameter belongs to, and how many layers it lies below the head."""
        if not name.startswith(_ENCODER) or name.startswith(_HEADS):
            return "head", 0
        if self._settings.layer_lr_decay == 1:
            return ("extractor" if ".feature_extractor." in name else "encoder"), 0
        count = self._num_layers
        for layers in _LAYERS:
            if name.startswith(layers):
                return "encoder", count - int(name.removeprefix(layers).split(".")[0])
        if name.startswith("encoder.encoder.transformer.layer_norm."):
            # After the layers with layer_norm_first, otherwise before them.
            return "encoder", 1 if getattr(self._model, "layer_norm_first", False) else count + 1
        return ("extractor" if ".feature_extractor." in name else "encoder"), count + 1

    @property
    def _num_layers(self) -> int:
        return self._model.layers + int(getattr(self._model, "prenet_layers", 0))

    def _generators(self, draws: Sequence[ItemDraw], use: str) -> list[np.random.Generator]:
        return [item_generator(self._seed, draw.epoch, draw.index, use) for draw in draws]


def _reached(point: Span | None, context: StepContext) -> bool:
    return point is not None and context.counters.on(point) >= point.amount
