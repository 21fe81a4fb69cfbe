"""Gradients of bounded norm (Pascanu, Mikolov and Bengio 2013)."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-6
"""Added to the norm, as ``torch.nn.utils.clip_grad_norm_`` does."""


@torch.no_grad()
def clip_(gradients: Tensor, max_norm: float, *, alike: bool = False) -> Tensor:
    """Scale each of the rows ``gradients`` [m, P] to a Euclidean norm of at most ``max_norm``, in place.

    Args:
        gradients: changed in place.
        max_norm: positive.
        alike: all rows are the same: one norm is taken for all.

    Returns:
        The largest norm of a row before, 0-d; nothing waits for a GPU.
    """
    # Row by row, so that a learner's norm has the same bits whoever stands beside it.
    rows = gradients[:1] if alike else gradients
    norms = torch.stack([torch.linalg.vector_norm(row) for row in rows])
    gradients.mul_((max_norm / (norms + TINY)).clamp_(max=1.0).unsqueeze(1))
    return norms.max()
