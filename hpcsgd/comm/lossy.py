"""Sums and means over ranks by messages that have less than everything; the same bits on all of them.

What a codec encodes element by element is summed as a ring would: every rank gets its part of the buffer from all,
decodes and sums it, and sends the sum, encoded again, to all. Messages that are read as a whole are gathered, decoded
and added by everybody in rank order.

With error memory, what a message leaves out is added to what is sent the next time (Seide 2014; Karimireddy 2019,
algorithm 2):  e <- e + x;  send c(e);  e <- e - c(e).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from hpcsgd.comm.codecs import Cast, Elementwise, Scaled, Signs, TopK, Whole
from hpcsgd.comm.flat import Slot
from hpcsgd.comm.guard import FiniteGuard
from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.config import CommConfig


class LossySum(Protocol):
    """Sums what the learners of all ranks send.

    Attributes:
        errors: error memories of this rank's learners, [m, n]; None: it has none.
    """

    errors: Tensor | None

    def sum_(self, rows: Tensor, factor: float, guard: FiniteGuard | None) -> int:
        """Put ``factor`` times the sum of what is sent of the ``rows`` [m, n] of all ranks into the first one.

        The other rows are used up. Collective.

        Args:
            rows: of this rank's learners.
            factor: 1 leaves the sum.
            guard: looks at what is sent, before it is.

        Returns:
            the bytes of the messages that this rank gave.
        """

    def heads(self, flat: Tensor) -> Tensor:
        """The elements of a sum that tell of something not finite before it."""


class ElementwiseSum:
    """Sums in parts: each rank's learners first, then each part on one rank."""

    errors: Tensor | None = None

    def __init__(self, codec: Elementwise, reducer: FlatReducer) -> None:
        """``reducer`` carries the messages of ``codec``."""
        self.codec = codec
        self.reducer = reducer

    def sum_(self, rows: Tensor, factor: float, guard: FiniteGuard | None) -> int:
        """See :class:`LossySum`."""
        flat = rows[0]
        for row in rows[1:]:
            flat.add_(row)
        return sum(self._sum_block(block, factor, guard) for block in flat.split(self._length(flat)))

    def heads(self, flat: Tensor) -> Tensor:
        """See :class:`LossySum`."""
        return flat[:: self._length(flat)]

    def _length(self, flat: Tensor) -> int:
        """Elements that are summed at a time, in cache: about a chunk of other averagings."""
        chunk = max(1, self.reducer.chunk_bytes // flat.element_size())
        return self._rounded(min(chunk, len(flat)))

    def _rounded(self, numel: int) -> int:
        """``numel`` or a little more, of which each rank has as much."""
        multiple = self.reducer.comm.size * self.codec.multiple
        return -(-numel // multiple) * multiple

    def _sum_block(self, block: Tensor, factor: float, guard: FiniteGuard | None) -> int:
        """Sum a part of the buffer; return the bytes of the messages."""
        if guard is not None:
            guard.before(block)
        missing = self._rounded(len(block)) - len(block)
        padded = pad(block, (0, missing)) if missing else block
        parts = self.codec.encode(padded.view(self.reducer.comm.size, -1))
        own = self.codec.decode(self.reducer.alltoall(parts), block).sum(dim=0, keepdim=True).mul_(factor)
        summed = self.codec.encode(own)
        everyone = self.codec.decode(self.reducer.allgather(summed[0]), block)
        block.copy_(everyone.flatten()[: len(block)])
        return parts.numel() + summed.numel()


class GatheredSum:
    """Everybody gets all messages, one of each learner."""

    def __init__(self, codec: Whole, reducer: FlatReducer, errors: Tensor | None) -> None:
        """``reducer`` carries the messages of ``codec``; ``errors`` is where what they leave out is kept."""
        self.codec = codec
        self.reducer = reducer
        self.errors = errors

    def sum_(self, rows: Tensor, factor: float, guard: FiniteGuard | None) -> int:
        """See :class:`LossySum`."""
        messages = torch.stack([self._message(j, row, guard) for j, row in enumerate(rows)])
        everyone = self.reducer.allgather(messages.flatten()).view(-1, messages.shape[1])
        self.codec.add_(rows[0].zero_(), everyone, factor)
        return messages.numel()

    def heads(self, flat: Tensor) -> Tensor:
        """See :class:`LossySum`."""
        return flat[:1]

    def _message(self, j: int, row: Tensor, guard: FiniteGuard | None) -> Tensor:
        """What learner ``j`` sends of its ``row``."""
        if self.errors is not None:
            row = self.errors[j].add_(row)
        if guard is not None:
            guard.before(row)
        message = self.codec.encode(row)
        if self.errors is not None:
            self.codec.add_(row, message[None], -1.0)
        return message


def make_lossy_sum(
    name: str, config: CommConfig, rows: Tensor, slots: Sequence[Slot], reducer: FlatReducer
) -> LossySum:
    """The sum of tensors like ``rows`` [m, n], which have tensors at ``slots``, by messages of the kind ``name``."""
    if name in ("float32", "bfloat16"):
        return ElementwiseSum(Cast(getattr(torch, name)), reducer)
    if name in ("float16", "int8"):
        return ElementwiseSum(Scaled(getattr(torch, name)), reducer)
    codec = TopK(rows.shape[1], config.top_k_density) if name == "top_k" else Signs(slots, rows.device)
    return GatheredSum(codec, reducer, None if name == "sign" else torch.zeros_like(rows))
