"""The settings of the network. Presets are checked without torch, so only `build` may import it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from models.plugins import PluginModel
from models.settings import setting


class FrameConv(PluginModel):
    """A stack of convolutions over frames."""

    recipes: ClassVar[frozenset[str]] = frozenset({"masked_frames"})

    kind: Literal["frame_conv"] = setting("frame_conv", "Convolutions over frames.")
    width: int = setting(128, "Channels of each layer.", ge=1, le=4_096)
    layers: int = setting(4, "Number of layers.", ge=1, le=64)

    # What `build` receives is agreed between the models and the recipe of a package.
    def build(self, *, num_bands: int) -> Any:  # type: ignore[override]
        """Return the network, from frames (B, F, N) to frames (B, F, N)."""
        from masked_frames.network import Network

        return Network(num_bands=num_bands, width=self.width, num_layers=self.layers)
