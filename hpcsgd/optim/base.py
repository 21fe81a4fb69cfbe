"""What steps: an optimizer of all learners of a rank, whose state tensors are rows beside the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

Factor = float | Tensor
"""One number for all learners, or a tensor [m, 1] with one of each."""

Values = float | Sequence[float] | Tensor
"""One number for all learners, or one of each."""


class RowOptimizer(Protocol):
    """Steps the learners of a rank, each by its own gradient.

    Attributes:
        states: names of its state tensors: rows of the size of the parameters, where others average, keep and copy
            them. Whatever else it remembers is in its :meth:`state_dict`.
    """

    states: tuple[str, ...]

    def step(self, count: int, rate: Values) -> None:
        """Update the first ``count`` learners with learning rate ``rate``; the others stay as they are."""

    def reset(self, states: Sequence[str]) -> None:
        """Put ``states`` back to zero; all of them: be as it was before the first step."""

    def keep(self, rows: Sequence[int]) -> None:
        """Follow :meth:`~hpcsgd.optim.rows.Rows.keep`, after it."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the rows."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` gave, of as many learners."""

    def load_first(self, state: dict[str, Any]) -> None:
        """Let all learners go on as the first one of another :meth:`state_dict`, whose rows they share."""
