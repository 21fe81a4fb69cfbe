"""Ranks that must hold the same bits show that they do."""

from __future__ import annotations

import zlib
from collections import Counter

from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.errors import ReplicasDifferError, name_ranks


def check_equal(comm: Communicator, flat: Tensor, what: str) -> None:
    """Compare a checksum of ``flat`` over the ranks. Collective.

    Raises:
        ReplicasDifferError: on all ranks, names those that differ from the most; where no bits are held by more than
            half of the ranks, nobody can say who is wrong.
    """
    own = zlib.crc32(flat.detach().cpu().contiguous().numpy().data)
    sums = comm.allgather_object(own)
    if len(set(sums)) > 1:
        usual, count = Counter(sums).most_common(1)[0]
        odd = [rank for rank, value in enumerate(sums) if value != usual]
        who = f"{name_ranks(odd)} against the rest"
        if 2 * count <= len(sums):
            who = f"{len(set(sums))} versions on {len(sums)} ranks, none on more than half of them"
        raise ReplicasDifferError(
            f"{what} differ between ranks that must hold the same: {who} (a flipped bit, or a defect)"
        )


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
