"""What a message has of a flat tensor: fewer bits an element, or fewer elements.

A message is a tensor of bytes on the device of what it was made from. What is not finite stays so: a NaN, or a scale
that is one, tells of it wherever the message is read.

Where elements keep their places (:class:`Elementwise`), ranks can sum parts of a buffer for each other; where each
message has to be read whole (:class:`Whole`), everybody gets all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from hpcsgd.comm.flat import Slot

STRETCH = 256
"""Elements that share a scale."""

SPARSE_STRETCH = 4096
"""Elements of which the largest are sent: those that a cache holds, and that 16 bits number."""

PIECE = 1 << 18
"""Elements that are decoded at a time, in cache."""


class Elementwise(Protocol):
    """Encodes rows of elements one by one, or stretch by stretch.

    Attributes:
        multiple: the length of a row is a multiple of this.
    """

    multiple: int

    def encode(self, rows: Tensor) -> Tensor:
        """The messages, uint8 [k, b], of ``rows`` [k, n]."""

    def decode(self, messages: Tensor, like: Tensor) -> Tensor:
        """The rows, of the type of ``like``, of messages uint8 [k, b]."""


class Cast:
    """Elements in another floating-point type."""

    multiple = 1

    def __init__(self, dtype: torch.dtype) -> None:
        """``dtype`` is that of the wire."""
        self.dtype = dtype

    def encode(self, rows: Tensor) -> Tensor:
        """See :class:`Elementwise`."""
        return rows.to(self.dtype).view(torch.uint8)

    def decode(self, messages: Tensor, like: Tensor) -> Tensor:
        """See :class:`Elementwise`."""
        return messages.view(self.dtype).to(like.dtype)


class Scaled:
    """Elements as parts of the largest one of their stretch, whose scale is a float32 behind the elements."""

    multiple = STRETCH

    def __init__(self, dtype: torch.dtype) -> None:
        """``dtype`` is ``int8``, where the largest is 127, or ``float16``, where it is 1."""
        self.dtype = dtype
        self.largest = 1.0 if dtype.is_floating_point else 127.0

    def encode(self, rows: Tensor) -> Tensor:
        """See :class:`Elementwise`."""
        stretches = rows.view(len(rows), -1, STRETCH)
        scales = stretches.abs().amax(dim=2).div_(self.largest).float()
        parts = stretches / torch.where(scales == 0, 1, scales).unsqueeze(2)
        if not self.dtype.is_floating_point:
            # A scale that was rounded down may give more than the largest.
            parts.round_().clamp_(-self.largest, self.largest)
        values = parts.to(self.dtype).view(torch.uint8).flatten(1)
        return torch.cat([values, scales.view(torch.uint8)], dim=1)

    def decode(self, messages: Tensor, like: Tensor) -> Tensor:
        """See :class:`Elementwise`."""
        size = self.dtype.itemsize
        numel = messages.shape[1] // (STRETCH * size + 4) * STRETCH
        values = _numbers(messages[:, : numel * size], self.dtype).to(like.dtype)
        scales = _numbers(messages[:, numel * size :], torch.float32).to(like.dtype)
        return values.view(len(messages), -1, STRETCH).mul_(scales.unsqueeze(2)).flatten(1)


class Whole(Protocol):
    """Encodes a flat tensor as a whole, to as many bytes on every rank."""

    def encode(self, flat: Tensor) -> Tensor:
        """The message, uint8 [b], of ``flat`` [n]."""

    def add_(self, flat: Tensor, messages: Tensor, factor: float) -> None:
        """Add ``factor`` times what each of ``messages``, uint8 [k, b], says to ``flat`` [n], one after another."""


class Signs:
    """scaled_sign(x) = ||x||_1 / numel * sign(x) of each tensor (Lin 2020; Karimireddy 2019): one bit an element.

    The sign of 0 is positive. The gaps between the tensors of a flat buffer have bits too, which nobody reads.
    """

    def __init__(self, slots: Sequence[Slot], device: torch.device) -> None:
        """``slots`` are the places of the tensors on ``device``, whose starts are multiples of 8."""
        filled = [slot for slot in slots if slot.numel]
        assert all(slot.start % 8 == 0 for slot in filled), "a tensor does not begin with a byte of bits"
        self._numels = torch.tensor([float(slot.numel) for slot in filled], dtype=torch.float64).to(device)
        self._pieces = [
            (index, first, min(first + PIECE, slot.start + slot.numel))
            for index, slot in enumerate(filled)
            for first in range(slot.start, slot.start + slot.numel, PIECE)
        ]
        self._tensor_of = torch.tensor([index for index, _, _ in self._pieces]).to(device)

    def encode(self, flat: Tensor) -> Tensor:
        """The bits, and then the scales as float32."""
        parts = [torch.linalg.vector_norm(flat[start:end], 1, dtype=flat.dtype) for _, start, end in self._pieces]
        norms = torch.zeros_like(self._numels).index_add_(0, self._tensor_of, torch.stack(parts).double())
        scales = norms.div_(self._numels).float()
        return torch.cat([pack_bits(flat < 0), scales.view(torch.uint8)])

    def add_(self, flat: Tensor, messages: Tensor, factor: float) -> None:
        """See :class:`Whole`."""
        tail = 4 * len(self._numels)
        scales = _numbers(messages[:, -tail:], torch.float32).to(flat.dtype).mul_(factor)
        for index, start, end in self._pieces:
            piece = flat[start:end]
            for message, scale in zip(messages, scales[:, index], strict=True):
                signs = unpack_bits(message[start // 8 : -(-end // 8)], end - start).to(flat.dtype).mul_(-2).add_(1)
                piece.addcmul_(signs, scale)


class TopK:
    """The largest elements of each stretch by their absolute values, as float32, and their places as int16."""

    def __init__(self, numel: int, density: float) -> None:
        """``density`` is the part of ``numel`` elements that is sent, of each stretch one at least."""
        self._whole, rest = divmod(numel, SPARSE_STRETCH)
        self._num_whole, self._num_rest = math.ceil(density * SPARSE_STRETCH), math.ceil(density * rest)
        self._count = self._whole * self._num_whole + self._num_rest

    def encode(self, flat: Tensor) -> Tensor:
        """The values, and then the places."""
        values, places = [], []
        end = self._whole * SPARSE_STRETCH
        stretches = flat[:end].view(-1, SPARSE_STRETCH).split(PIECE // SPARSE_STRETCH)
        for part, number in (*((part, self._num_whole) for part in stretches), (flat[end:][None], self._num_rest)):
            found = part.abs().topk(number, dim=1, sorted=False).indices
            values.append(part.gather(1, found).flatten())
            places.append(found.flatten())
        return torch.cat([torch.cat(values).float().view(torch.uint8), torch.cat(places).short().view(torch.uint8)])

    def add_(self, flat: Tensor, messages: Tensor, factor: float) -> None:
        """See :class:`Whole`."""
        starts = torch.arange(self._whole + 1, device=flat.device) * SPARSE_STRETCH
        starts = torch.cat([starts[:-1].repeat_interleave(self._num_whole), starts[-1:].expand(self._num_rest)])
        values = _numbers(messages[:, : 4 * self._count], torch.float32).to(flat.dtype)
        places = _numbers(messages[:, 4 * self._count :], torch.int16).long() + starts
        for own_places, own_values in zip(places, values, strict=True):
            # No place comes twice in one message.
            flat.index_add_(0, own_places, own_values, alpha=factor)


def _numbers(messages: Tensor, dtype: torch.dtype) -> Tensor:
    """Parts of messages, uint8 [k, b], as numbers; copied, as they may begin anywhere in memory."""
    return messages.clone(memory_format=torch.contiguous_format).view(dtype)


def pack_bits(flags: Tensor) -> Tensor:
    """``flags`` [n], bool, as uint8 [ceil(n / 8)], the first one in the highest bit."""
    return torch.from_numpy(np.packbits(flags.numpy())) if flags.device.type == "cpu" else pack_bits_by_torch(flags)


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    """The first ``count`` flags of :func:`pack_bits`, as uint8."""
    if packed.device.type == "cpu":
        return torch.from_numpy(np.unpackbits(packed.numpy(), count=count))
    return unpack_bits_by_torch(packed, count)


def pack_bits_by_torch(flags: Tensor) -> Tensor:
    """:func:`pack_bits` on any device; on a CPU that is slower."""
    padded = pad(flags.to(torch.uint8), (0, -len(flags) % 8)).view(-1, 8)
    return (padded << _shifts(flags.device)).sum(dim=1, dtype=torch.uint8)


def unpack_bits_by_torch(packed: Tensor, count: int) -> Tensor:
    """:func:`unpack_bits` on any device; on a CPU that is slower."""
    return ((packed.unsqueeze(1) >> _shifts(packed.device)) & 1).flatten()[:count]


def _shifts(device: torch.device) -> Tensor:
    """The bits of a byte, the highest first."""
    return torch.arange(7, -1, -1, dtype=torch.uint8, device=device)
