"""Numbers of learners, as kernels over rows take them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpcsgd.optim.base import Factor, Values


class Factors:
    """Makes one number for all learners, or one of each, a factor of their rows."""

    def __init__(self, like: Tensor, count: int) -> None:
        """For ``count`` learners, on the device and of the type of ``like``."""
        self._like = like
        self._count = count
        self._last: tuple[list[float], Tensor] | None = None

    def __call__(self, values: Values) -> Factor:
        """A number if all learners have the same, else [m, 1]; a tensor is not looked at: it may be on a GPU."""
        if isinstance(values, (int, float)):
            return float(values)
        like = self._like
        if isinstance(values, Tensor):
            assert len(values) == self._count, f"{len(values)} numbers for {self._count} learners"
            return values.to(dtype=like.dtype, device=like.device).view(-1, 1)
        numbers = list(values)
        if len(set(numbers)) == 1:
            return float(numbers[0])
        assert len(numbers) == self._count, f"{len(numbers)} numbers for {self._count} learners"
        if self._last is None or self._last[0] != numbers:
            self._last = numbers, torch.tensor(numbers, dtype=like.dtype, device=like.device).unsqueeze(1)
        return self._last[1]


def chosen(factor: Factor, rows: Sequence[int]) -> Factor:
    """The numbers of ``rows``."""
    return factor[list(rows)] if isinstance(factor, Tensor) else factor


def add_scaled_(target: Tensor, other: Tensor, factor: Factor) -> None:
    """target <- target + factor other, in one pass over the memory."""
    if isinstance(factor, Tensor):
        target.addcmul_(other, factor)
    else:
        target.add_(other, alpha=factor)
