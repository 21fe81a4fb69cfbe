"""Flat buffers: many tensors as views of one contiguous tensor.

One operation on the flat tensor is one operation on all of them: averaging, the optimizer's step, hashing, checks for
NaN, checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ALIGNMENT_BYTES = 64
"""Every view starts at a multiple of this, a cache line, for the kernels' sake; the gaps hold zeros."""


@dataclass(frozen=True)
class Slot:
    """The place of one tensor in a flat buffer, in elements, with its memory order."""

    start: int
    numel: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def view(self, flat: Tensor) -> Tensor:
        """The tensor as a view of ``flat``."""
        return flat.as_strided(self.shape, self.stride, flat.storage_offset() + self.start)


def layout(tensors: Sequence[Tensor]) -> tuple[list[Slot], int]:
    """Places of ``tensors`` one after another, and the number of elements of a buffer that holds them all.

    The tensors' memory order is kept (channels-last too).

    Raises:
        ValueError: a tensor is not dense, so that its elements are not one stretch of memory.
    """
    slots = []
    start = 0
    for tensor in tensors:
        if tensor.numel() and not _is_dense(tensor):
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} and strides {tensor.stride()} is not dense")
        slots.append(Slot(start, tensor.numel(), tuple(tensor.shape), tuple(tensor.stride())))
        align = ALIGNMENT_BYTES // tensor.element_size()
        start += -(-tensor.numel() // align) * align
    return slots, start


def _is_dense(tensor: Tensor) -> bool:
    """True if the elements fill one stretch of memory, each once, in some order of the axes."""
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def move_into(flat: Tensor, tensors: Sequence[Tensor], slots: Sequence[Slot]) -> None:
    """Copy ``tensors`` into ``flat`` and make each of them a view of its slot there."""
    with torch.no_grad():
        for tensor, slot in zip(tensors, slots, strict=True):
            view = slot.view(flat)
            view.copy_(tensor)
            tensor.data = view
