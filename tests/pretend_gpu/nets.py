"""A network for recipes of the tests."""

from __future__ import annotations

from torch import Tensor, nn


class Plain(nn.Module):
    """Two layers, for 4 numbers and 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, rows: Tensor) -> Tensor:
        """Logits [n, 3]."""
        result: Tensor = self.layers(rows)
        return result
