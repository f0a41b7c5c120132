"""Settings of the toy's network."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from models.plugins import PluginModel
from models.settings import setting


class ToyNetwork(PluginModel):
    """Two layers."""

    recipes: ClassVar[frozenset[str]] = frozenset({"masked_toy"})

    kind: Literal["masked_toy"] = setting("masked_toy", "Two layers.")
    dropout: float = setting(0.1, "Dropout.", ge=0, lt=1)

    def build(self) -> Any:  # type: ignore[override]
        from masked_toy.recipe import Network

        return Network(self.dropout)
