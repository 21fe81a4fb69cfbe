"""A slower network than there is: a communicator whose collectives take as long as they would there.

A collective begins when the last rank has come to it, and ends, on all ranks, no earlier than the model of
:mod:`hpcsgd.study.machine` says after that; what it really takes here is a part of that time. Ranks sleep, so that the
processor is free for others: a transfer in a thread occupies the link, and not the compute. What ranks say to each
other beside the training (objects, what is gathered for the log, flags) goes as fast as it can.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from hpcsgd.comm.communicator import Array, Communicator, Pending
from hpcsgd.config.emulate import EmulatedNetworkConfig
from hpcsgd.errors import UsageError
from hpcsgd.study.machine import Duration, Level, Network

T = TypeVar("T")

SHORTEST_POLL_SECONDS = 50e-6
LONGEST_POLL_SECONDS = 2e-3
"""Between two looks whether all ranks are there: waiting in MPI itself would take the whole core from the others."""

POLLS_OF_A_TRANSFER = 16
"""A look comes no later than such a part of the transfer that follows, which hides it."""


def emulate_network(comm: Communicator, config: EmulatedNetworkConfig) -> Communicator:
    """``comm`` as on the network of ``config``; as it is, where none is emulated or one rank is alone. Collective.

    Raises:
        UsageError: on all ranks: they are on several machines, whose clocks differ.
    """
    if not config.is_on or comm.size == 1:
        return comm
    hosts = sorted(set(comm.allgather_object(socket.gethostname())))
    if len(hosts) > 1:
        raise UsageError(
            f"emulate.network is for ranks on one machine, and these are on {len(hosts)} ({', '.join(hosts)}): start "
            "all on one, or leave emulate.network out"
        )
    return EmulatedCommunicator(comm, network_of(config), emulated_nodes(config, comm.size), Links())


def network_of(config: EmulatedNetworkConfig) -> Network:
    """How long collectives take on the network of a recipe."""
    return Network(
        within=Level(config.node_latency_seconds, config.node_bytes_per_second),
        between=Level(config.latency_seconds, config.bytes_per_second),
    )


def emulated_nodes(config: EmulatedNetworkConfig, num_ranks: int) -> list[int]:
    """The node of each rank on it."""
    return [rank // config.ranks_per_node for rank in range(num_ranks)]


class Links:
    """This rank's links, which transfers of several threads take in turns, in the order in which they come to them."""

    def __init__(self) -> None:
        """They are free."""
        self._lock = threading.Lock()
        self._within_free = 0.0
        self._between_free = 0.0

    def take(self, begin: float, duration: Duration) -> float:
        """Occupy the links that a collective needs from ``begin`` on, or once they are free; gives its end."""
        with self._lock:
            if duration.within:
                begin = max(begin, self._within_free)
            if duration.between:
                begin = max(begin, self._between_free)
            end = begin + duration.seconds
            if duration.within:
                self._within_free = end
            if duration.between:
                self._between_free = end
            return end


class EmulatedCommunicator:
    """The ranks of another communicator on an emulated network; see :class:`~hpcsgd.comm.communicator.Communicator`."""

    can_shrink = False

    def __init__(self, real: Communicator, network: Network, nodes: Sequence[int], links: Links) -> None:
        """
        Args:
            real: the ranks.
            network: how long their collectives take.
            nodes: the emulated node of each.
            links: this rank's, shared by all of its communicators.
        """
        self.real = real
        self.network = network
        self.nodes = list(nodes)
        self.links = links
        self.rank, self.size, self.library = real.rank, real.size, real.library
        self.watchdog, self.allreduce_algorithm = real.watchdog, real.allreduce_algorithm

    def sum_(self, array: Array) -> None:
        """See :class:`Communicator`."""
        self._take_time("sum", self.network.allreduce(array.nbytes, self.nodes), lambda: self.real.sum_(array))

    def max_(self, array: Array) -> None:
        """See :class:`Communicator`."""
        self._take_time("maximum", self.network.allreduce(array.nbytes, self.nodes), lambda: self.real.max_(array))

    def broadcast_(self, array: Array, root: int = 0) -> None:
        """See :class:`Communicator`."""
        duration = self.network.broadcast(array.nbytes, self.nodes)
        self._take_time("broadcast", duration, lambda: self.real.broadcast_(array, root))

    def allgather(self, array: Array) -> Array:
        """See :class:`Communicator`."""
        return self._take_time(
            "allgather", self.network.allgather(array.nbytes, self.nodes), lambda: self.real.allgather(array)
        )

    def alltoall(self, array: Array) -> Array:
        """See :class:`Communicator`."""
        return self._take_time(
            "alltoall", self.network.alltoall(array.nbytes, self.nodes), lambda: self.real.alltoall(array)
        )

    def start_max(self, array: Array) -> Pending:
        """See :class:`Communicator`."""
        return self.real.start_max(array)

    def gather(self, array: Array, root: int = 0) -> Array | None:
        """See :class:`Communicator`."""
        return self.real.gather(array, root)

    def allgather_object(self, value: T) -> list[T]:
        """See :class:`Communicator`."""
        return self.real.allgather_object(value)

    def broadcast_object(self, value: T, root: int = 0) -> T:
        """See :class:`Communicator`."""
        return self.real.broadcast_object(value, root)

    def barrier(self) -> None:
        """See :class:`Communicator`."""
        self.real.barrier()

    def split(self, color: int) -> Communicator:
        """See :class:`Communicator`."""
        part = self.real.split(color)
        return EmulatedCommunicator(part, self.network, part.allgather_object(self.nodes[self.rank]), self.links)

    def duplicate(self) -> Communicator:
        """See :class:`Communicator`."""
        return EmulatedCommunicator(self.real.duplicate(), self.network, self.nodes, self.links)

    def confirm(self) -> None:
        """See :class:`Communicator`."""
        self.real.confirm()

    def shrink(self) -> Communicator:
        """See :class:`Communicator`."""
        raise AssertionError("a run with an emulated network does not go on without lost ranks")

    def clock_offset(self, rounds: int = 20) -> tuple[float, float]:
        """See :class:`Communicator`."""
        return self.real.clock_offset(rounds)

    def abort(self, code: int) -> None:
        """See :class:`Communicator`."""
        self.real.abort(code)

    def _take_time(self, name: str, duration: Duration, collective: Callable[[], T]) -> T:
        """Do the collective, so that from the arrival of the last rank on it takes ``duration``, or longer."""
        with self.watchdog.watch(name):
            if self.size == 1:
                return collective()
            end = self.links.take(self._meet(duration.seconds), duration)
            result = collective()
            sleep_until(end)
        return result

    def _meet(self, seconds: float) -> float:
        """Wait for all ranks; when the last of them came, by ``time.perf_counter()``, the same clock for all.

        ``seconds``: those that the ranks will be together.
        """
        came = np.array([time.perf_counter()])
        pending = self.real.start_max(came)
        longest = min(max(seconds / POLLS_OF_A_TRANSFER, SHORTEST_POLL_SECONDS), LONGEST_POLL_SECONDS)
        pause = SHORTEST_POLL_SECONDS
        while not pending.is_done():
            time.sleep(pause)
            pause = min(1.5 * pause, longest)
        return float(came[0])


def sleep_until(moment: float) -> None:
    """Sleep until ``time.perf_counter()`` is ``moment``, or later."""
    while (left := moment - time.perf_counter()) > 0:
        time.sleep(left)
