"""The network. Letters: B batch, F frequency bands, N frames, H channels."""

from __future__ import annotations

from torch import Tensor, nn


class Network(nn.Module):
    """Predicts every frame from its neighbours."""

    def __init__(self, *, num_bands: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(num_bands, width, 1)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, 5, padding=2) for _ in range(num_layers)
        )
        self.last = nn.Conv1d(width, num_bands, 1)

    def forward(self, x_BFN: Tensor) -> Tensor:
        """Map frames, hidden ones set to 0, to predictions (B, F, N)."""
        h_BHN = self.first(x_BFN)
        for layer in self.layers:
            h_BHN = h_BHN + layer(nn.functional.gelu(h_BHN))
        return self.last(h_BHN)
