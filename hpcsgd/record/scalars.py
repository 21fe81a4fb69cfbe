"""A few numbers of each iteration, kept until its row of the log is made."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class HostScalars:
    """Some numbers each of recent iterations, in the order of their steps."""

    def __init__(self) -> None:
        """None yet."""
        self._rows: deque[tuple[float, ...]] = deque()

    def put(self, step: int, *values: Tensor | float) -> None:
        """Keep the scalars ``values``."""
        self._rows.append(tuple(map(float, values)))

    def take(self, steps: Sequence[int]) -> NDArray[np.float64]:
        """The values of the oldest ``steps``, [rows, values]."""
        return np.array([self._rows.popleft() for _ in steps], np.float64)


class QueuedScalars:
    """The same of a GPU, copied to the host without waiting."""

    def __init__(self, device: torch.device, capacity: int, width: int) -> None:
        """Room for ``width`` numbers of each of ``capacity`` iterations."""
        self._host = torch.zeros(capacity, width, dtype=torch.float64, pin_memory=device.type == "cuda")
        # Far quicker to read and write than the tensor, which it is a view of.
        self._values = self._host.numpy()

    def put(self, step: int, *values: Tensor | float) -> None:
        """Keep the scalars ``values``, wherever they are."""
        index = step % len(self._values)
        for column, value in enumerate(values):
            if isinstance(value, Tensor) and value.device.type != "cpu":
                self._host[index, column].copy_(value.detach(), non_blocking=True)
            else:
                self._values[index, column] = float(value)

    def take(self, steps: Sequence[int]) -> NDArray[np.float64]:
        """The values of ``steps``, [rows, values]; only after a stamp behind them was read."""
        found: NDArray[np.float64] = self._values[np.array(steps) % len(self._values)]
        return found
