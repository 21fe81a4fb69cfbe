"""Ranks that must hold the same bits show that they do."""

from __future__ import annotations

import zlib
from collections import Counter

import torch
from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.errors import ReplicasDifferError, name_ranks

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Of as many bytes."""

PIECE = 1 << 22
"""Elements that are weighed at a time: the products take 8 bytes each."""

MULTIPLIER = 6364136223846793005
"""Odd, with bits all over (Knuth, MMIX): the place of a piece counts too."""


def check_equal(comm: Communicator, flat: Tensor, what: str) -> None:
    """Compare a checksum of ``flat`` over the ranks. Collective.

    Raises:
        ReplicasDifferError: on all ranks, names those that differ from the most; where no bits are held by more than
            half of the ranks, nobody can say who is wrong.
    """
    sums = comm.allgather_object(checksum(flat))
    if len(set(sums)) > 1:
        usual, count = Counter(sums).most_common(1)[0]
        odd = [rank for rank, value in enumerate(sums) if value != usual]
        who = f"{name_ranks(odd)} against the rest"
        if 2 * count <= len(sums):
            who = f"{len(set(sums))} versions on {len(sums)} ranks, none on more than half of them"
        raise ReplicasDifferError(
            f"{what} differ between ranks that must hold the same: {who} (a flipped bit, or a defect)"
        )


def checksum(flat: Tensor) -> int:
    """A number that tells the bits of ``flat``, [P] or [m, P]; waits for a GPU, from which 8 bytes come."""
    if flat.device.type == "cpu":
        return zlib.crc32(flat.detach().contiguous().numpy().data)
    return int(sum_of_bits(flat))


def sum_of_bits(flat: Tensor) -> Tensor:
    """The sum of the elements' bits as whole numbers, each times an odd number of its place, modulo 2^64; 0-d.

    A flipped bit changes its term by a power of 2, below 2^64, times an odd number: it changes the sum.

    Args:
        flat: [P] or [m, P], whose rows may lie apart.
    """
    bits = flat.detach().view(INTEGERS[flat.element_size()])
    rows = bits if bits.dim() == 2 else bits.unsqueeze(0)
    odd = torch.arange(1, 2 * min(PIECE, rows.shape[1]), 2, device=flat.device)
    total = torch.zeros((), dtype=torch.int64, device=flat.device)
    for row in rows:
        for piece in row.split(PIECE):
            total.mul_(MULTIPLIER).add_((piece * odd[: len(piece)]).sum())
    return total


class Comparisons:
    """Compares what ranks must hold alike, at every n-th time that it could be done."""

    def __init__(self, comm: Communicator, every: int, what: str) -> None:
        """
        Args:
            comm: the ranks.
            every: n; 0: never.
            what: subject of the message.
        """
        self.comm = comm
        self.every = every
        self.what = what
        self.left = every

    def count(self, flat: Tensor) -> None:
        """One time more; compare ``flat`` if it is the n-th. Collective."""
        if self.every:
            self.left -= 1
            if not self.left:
                self.left = self.every
                self.now(flat)

    def now(self, flat: Tensor) -> None:
        """Compare ``flat``, unless that is never done; raises ``ReplicasDifferError``. Collective."""
        if self.every:
            check_equal(self.comm, flat, self.what)
