"""What a network computes in: autocast around its passes, and what a GPU makes of float32 products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""The precisions that are torch's autocast."""


@dataclass(frozen=True)
class Autocast:
    """Makes contexts in which torch computes in fewer bits where that does no harm; parameters stay as they are.

    Attributes:
        name: the precision of the recipe.
        device_type: kind of device that computes.
    """

    name: str
    device_type: str

    def __call__(self) -> torch.autocast:
        """A new context: at its end, the casts of parameters that it keeps are dropped."""
        return torch.autocast(self.device_type, AUTOCAST[self.name])


def make_autocast(precision: str, device: torch.device) -> Autocast | None:
    """The autocast of the recipe's ``precision``; None where nothing is cast."""
    return Autocast(precision, device.type) if precision in AUTOCAST else None


def set_float32(precision: str) -> None:
    """Let float32 products on a GPU be IEEE's, or for ``tf32`` have their factors rounded; for the whole process.

    Torch's own default is TF32 in convolutions and recurrent layers alone.
    """
    is_tf32 = precision == "tf32"
    # These first: torch >= 2.9 refuses to read them, as its compiler does, where only the new names were set.
    torch.backends.cuda.matmul.allow_tf32 = is_tf32
    torch.backends.cudnn.allow_tf32 = is_tf32
    for operations in _by_name().values():
        operations.fp32_precision = "tf32" if is_tf32 else "ieee"


def float32_flags() -> dict[str, str]:
    """What float32 products are on a GPU of this process, by kind: ``ieee`` or ``tf32``."""
    by_name = _by_name()
    if by_name:
        # Where a kind says nothing of its own, nothing is rounded.
        return {kind: "tf32" if own.fp32_precision == "tf32" else "ieee" for kind, own in by_name.items()}
    cudnn = torch.backends.cudnn.allow_tf32
    allowed = {"matmul": torch.backends.cuda.matmul.allow_tf32, "conv": cudnn, "rnn": cudnn}
    return {kind: "tf32" if is_tf32 else "ieee" for kind, is_tf32 in allowed.items()}


def _by_name() -> dict[str, Any]:
    """Torch's settings of each kind of operation; none before torch 2.9."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        return {}
    cudnn: Any = torch.backends.cudnn
    return {"matmul": torch.backends.cuda.matmul, "conv": cudnn.conv, "rnn": cudnn.rnn}
