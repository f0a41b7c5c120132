"""The settings of the model. Presets are checked without torch, so this file must not import it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from models.plugins import PluginModel
from models.settings import setting


class GatedConv(PluginModel):
    """A stack of dilated, gated convolutions on the waveform."""

    rates_hz: ClassVar[tuple[int, int]] = (8_000, 48_000)

    kind: Literal["gated_conv"] = setting("gated_conv", "Dilated, gated convolutions.")
    width: int = setting(16, "Channels of each layer.", ge=1, le=512)
    layers: int = setting(6, "Number of layers; layer n has dilation 2 ** n.", ge=1, le=12)

    def build(self, *, channels: int, sources: int) -> Any:
        """Return the network; torch may be imported here."""
        from gated_conv.network import Network

        return Network(channels=channels, sources=sources, width=self.width, num_layers=self.layers)
