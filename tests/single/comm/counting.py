"""A communicator that plays many ranks in one process and keeps a list of what was asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpcsgd.comm.communicator import Done, Pending
from hpcsgd.comm.watchdog import Watchdog


@dataclass(frozen=True)
class Call:
    """One collective: its name, the bytes of its array (0 for objects) and the group that it was called on."""

    name: str
    num_bytes: int = 0
    group: str = "world"


@dataclass
class CountingCommunicator:
    """All ranks hold what this one holds: a sum is a product by ``size``, and a maximum changes nothing.

    ``others`` replaces the values of the other ranks in allgathers of objects, from rank 1 on.
    """

    size: int = 4
    rank: int = 0
    library: str = "counting"
    allreduce_algorithm: str = "counting"
    group: str = "world"
    calls: list[Call] = field(default_factory=list)
    others: Sequence[Any] | None = None
    can_shrink: bool = False

    def __post_init__(self) -> None:
        self.watchdog = Watchdog(self.rank, self.size, self.abort)

    def note(self, name: str, array: np.ndarray | None = None) -> None:
        self.calls.append(Call(name, 0 if array is None else array.nbytes, self.group))

    def sum_(self, array: np.ndarray) -> None:
        assert array.flags.c_contiguous
        self.note("sum", array)
        array *= self.size

    def max_(self, array: np.ndarray) -> None:
        self.note("max", array)

    def start_max(self, array: np.ndarray) -> Pending:
        self.note("start_max", array)
        return Done()

    def broadcast_(self, array: np.ndarray, root: int = 0) -> None:
        self.note("broadcast", array)

    def gather(self, array: np.ndarray, root: int = 0) -> np.ndarray | None:
        self.note("gather", array)
        return np.stack([array] * self.size)

    def allgather(self, array: np.ndarray) -> np.ndarray:
        assert array.flags.c_contiguous
        self.note("allgather", array)
        return np.stack([array] * self.size)

    def alltoall(self, array: np.ndarray) -> np.ndarray:
        assert array.flags.c_contiguous and len(array) == self.size
        self.note("alltoall", array)
        return np.stack([array[self.rank]] * self.size)

    def allgather_object(self, value: Any) -> list[Any]:
        self.note("allgather")
        return [value] * self.size if self.others is None else [value, *self.others]

    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        self.note("broadcast_object")
        return value

    def barrier(self) -> None:
        self.note("barrier")

    def split(self, color: int) -> CountingCommunicator:
        """Half of the ranks."""
        self.note("split")
        return CountingCommunicator(self.size // 2, 0, self.library, group="block", calls=self.calls)

    def duplicate(self) -> CountingCommunicator:
        self.note("duplicate")
        return CountingCommunicator(self.size, self.rank, self.library, group="duplicate", calls=self.calls)

    def clock_offset(self, rounds: int = 20) -> tuple[float, float]:
        return 0.0, 0.0

    def abort(self, code: int) -> None:
        self.note(f"abort {code}")

    def take(self) -> list[Call]:
        """The calls since the last time."""
        calls = self.calls[:]
        self.calls.clear()
        return calls
