"""Gradient allreduce by messages that have less than the gradient, in one piece after the backward pass."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hpcsgd.comm.gradients import Buckets, GradientAllreduce
from hpcsgd.comm.lossy import LossySum


class WireGradients(GradientAllreduce):
    """What a rank sends is the sum of its learners' gradients: an error memory is one a rank."""

    def __init__(self, buckets: Buckets, lossy: LossySum, name: str) -> None:
        """
        Args:
            buckets: the gradient.
            lossy: sums messages over the ranks.
            name: of what carries them.
        """
        super().__init__(buckets, overlap=False)
        self.name = name
        self.lossy = lossy

    def finish(self) -> int:
        """See :class:`~hpcsgd.comm.gradients.GradientAllreduce`; the bytes are those of this rank's messages."""
        flat = self.buckets.flat
        num_bytes = self.lossy.sum_(flat[None], 1.0, self.guard)
        if self.guard is not None and flat.device.type == "cpu":
            self.guard.after(self.lossy.heads(flat).sum(), "the gradient is")
        return num_bytes

    def launch(self, index: int, bucket: Tensor) -> None:
        """Nothing goes ahead."""

    def wait(self) -> None:
        """Nothing to wait for."""

    def shut_down(self) -> None:
        """Nothing to end."""

    def state_dict(self) -> dict[str, Any]:
        """The error memory of this rank."""
        return {"errors": self.lossy.errors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~hpcsgd.comm.gradients.GradientAllreduce`."""
        if self.lossy.errors is not None:
            self.lossy.errors.copy_(state["errors"])
