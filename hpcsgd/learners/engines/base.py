"""What an engine is, and the loss of all of them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from hpcsgd.errors import UsageError

Normaliser = float | Tensor
"""What a learner's sum of losses is divided by: one for all, or [m]."""


class NotPossibleError(UsageError):
    """The engine cannot take this model or this device."""


class Engine(Protocol):
    """Takes the passes of all learners of one stack. It follows the stack when learners are dropped."""

    name: str

    def forward_backward(self, images: Tensor, labels: Tensor, normaliser: Normaliser) -> Tensor:
        """Add each learner's gradient of (sum of its losses / ``normaliser``) to its row of the gradients.

        Args:
            images: [m, n, C, H, W], learner j's batch at j.
            labels: int64 [m, n].
            normaliser: one for all learners, or a tensor [m].

        Returns:
            The sum of the losses of each learner, [m].
        """

    def logits(self, images: Tensor) -> Tensor:
        """Logits [m, n, classes] in evaluation mode, without gradient, of [n, C, H, W] for all or [m, n, C, H, W]."""


def normaliser_of(normaliser: Normaliser, learner: int) -> Normaliser:
    """Learner ``learner``'s own."""
    return normaliser[learner] if isinstance(normaliser, Tensor) and normaliser.dim() else normaliser
