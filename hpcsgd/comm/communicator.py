"""The communicator that the rest of the package sees, and the one of a single process.

All arrays are C-contiguous NumPy arrays and are changed in place. Every method but ``abort`` is collective: all
ranks call it in the same order. Where a rank has died and the MPI library can live with that, they raise
``RanksLostError``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcsgd.comm.watchdog import Watchdog
from hpcsgd.errors import JointError, UsageError, is_out_of_memory

T = TypeVar("T")
Array = NDArray[Any]


class Pending(Protocol):
    """A collective under way."""

    def wait(self) -> object:
        """Wait for its end."""

    def is_done(self) -> bool:
        """Whether it has ended; moves it on."""


class Done:
    """A collective that has ended already."""

    def wait(self) -> None:
        """Nothing to wait for."""

    def is_done(self) -> bool:
        """It has."""
        return True


class Communicator(Protocol):
    """A group of ranks."""

    rank: int
    size: int
    library: str
    watchdog: Watchdog
    allreduce_algorithm: str
    """By which algorithm MPI sums, as far as it is pinned."""
    can_shrink: bool
    """Whether the ranks that are left can go on when one dies."""

    def sum_(self, array: Array) -> None:
        """Replace ``array`` by its sum over the ranks: the same bits on all of them."""

    def max_(self, array: Array) -> None:
        """Replace ``array`` by its maximum over the ranks, element by element."""

    def start_max(self, array: Array) -> Pending:
        """Begin to replace ``array`` by its maximum over the ranks; it is there after the result's ``wait``."""

    def broadcast_(self, array: Array, root: int = 0) -> None:
        """Replace ``array`` by that of ``root``."""

    def gather(self, array: Array, root: int = 0) -> Array | None:
        """Stack the ranks' arrays, all of one shape, to ``[size, *shape]`` on ``root``; None elsewhere."""

    def allgather(self, array: Array) -> Array:
        """The ranks' arrays, all of one shape, stacked to ``[size, *shape]`` in rank order, on all ranks."""

    def alltoall(self, array: Array) -> Array:
        """Of ``array`` [size, ...] each row goes to its rank; row j of the result [size, ...] comes from rank j."""

    def allgather_object(self, value: T) -> list[T]:
        """The ranks' values, in rank order, on all ranks."""

    def broadcast_object(self, value: T, root: int = 0) -> T:
        """The value of ``root``."""

    def barrier(self) -> None:
        """Wait for all ranks."""

    def split(self, color: int) -> Communicator:
        """The ranks that gave the same ``color``, in rank order."""

    def duplicate(self) -> Communicator:
        """The same ranks with a message space of their own, for another thread."""

    def confirm(self) -> None:
        """Return on all ranks, or raise ``RanksLostError`` on all that are left."""

    def shrink(self) -> Communicator:
        """The ranks that are left, in rank order; ends what others of them wait for in this one or a part of it."""

    def clock_offset(self, rounds: int = 20) -> tuple[float, float]:
        """This rank's ``time.perf_counter()`` minus rank 0's, and the largest error of that, in seconds."""

    def abort(self, code: int) -> None:
        """End all ranks of the job at once with this exit code."""


class SingleCommunicator:
    """The communicator of one process; needs no MPI."""

    rank = 0
    size = 1
    library = "none (single process)"
    allreduce_algorithm = "none (single process)"
    can_shrink = False

    def __init__(self) -> None:
        self.watchdog = Watchdog(0, 1, self.abort)

    def sum_(self, array: Array) -> None:
        """The sum over one rank is the array itself."""

    def max_(self, array: Array) -> None:
        """The maximum over one rank is the array itself."""

    def start_max(self, array: Array) -> Pending:
        """The maximum over one rank is the array itself."""
        return Done()

    def broadcast_(self, array: Array, root: int = 0) -> None:
        """The one rank has it already."""

    def gather(self, array: Array, root: int = 0) -> Array | None:
        """``array`` with a leading axis of length 1, copied."""
        return np.array(array[None])

    def allgather(self, array: Array) -> Array:
        """``array`` with a leading axis of length 1, copied."""
        return np.array(array[None])

    def alltoall(self, array: Array) -> Array:
        """The one row, copied."""
        return np.array(array)

    def allgather_object(self, value: T) -> list[T]:
        """A list of the one value."""
        return [value]

    def broadcast_object(self, value: T, root: int = 0) -> T:
        """The value itself."""
        return value

    def barrier(self) -> None:
        """Nobody to wait for."""

    def split(self, color: int) -> Communicator:
        """The one rank again."""
        return self

    def duplicate(self) -> Communicator:
        """The one rank again."""
        return self

    def confirm(self) -> None:
        """The one rank is here."""

    def shrink(self) -> Communicator:
        """The one rank again."""
        return self

    def clock_offset(self, rounds: int = 20) -> tuple[float, float]:
        """Rank 0's clock is the reference."""
        return 0.0, 0.0

    def abort(self, code: int) -> None:
        """End the process."""
        os._exit(code)


def clock_offset(
    rank: int, size: int, send: Callable[[Array, int], None], receive: Callable[[Array, int], None], rounds: int
) -> tuple[float, float]:
    """See :class:`Communicator`: the round trip with the least delay, its middle taken as simultaneous. Collective.

    Args:
        rank, size: of the communicator.
        send, receive: an array to, or from, a rank.
        rounds: round trips of each rank.
    """
    stamp = np.zeros(1)
    if rank == 0:
        for peer in range(1, size):
            for _ in range(rounds):
                receive(stamp, peer)
                stamp[0] = time.perf_counter()
                send(stamp, peer)
        return 0.0, 0.0
    best = (np.inf, 0.0)
    for _ in range(rounds):
        start = time.perf_counter()
        send(stamp, 0)
        receive(stamp, 0)
        end = time.perf_counter()
        best = min(best, (end - start, (start + end) / 2 - float(stamp[0])))
    return best[1], best[0] / 2


def agree(comm: Communicator, function: Callable[[], T]) -> T:
    """Call ``function`` on every rank; if it raised a ``JointError`` on any, raise the first one's on all.

    So what one rank alone can see (a file missing on its node, a full disk, too little memory) ends all ranks in the
    same way.
    """
    result: T | None = None
    failure: tuple[type[JointError], str] | None = None
    try:
        result = function()
    except JointError as error:
        failure = type(error), str(error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        failure = UsageError, f"there is not enough memory: {' '.join(str(error).split())}"
    for rank, told in enumerate(comm.allgather_object(failure)):
        if told is not None:
            kind, message = told
            raise kind(f"{message}{f' (rank {rank})' if rank else ''}")
    return result  # type: ignore[return-value]
