"""Collectives on an emulated network last at least as long as it says, and sum the same."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.comm.emulated import EmulatedCommunicator, Links, emulate_network
from hpcsgd.config.emulate import EmulatedNetworkConfig
from hpcsgd.errors import UsageError
from hpcsgd.study.machine import Duration
from tests.single.comm.counting import CountingCommunicator

CONFIG = EmulatedNetworkConfig(1e-4, 1e6, ranks_per_node=2, node_bytes_per_second=4e6)


def emulated(size: int = 4) -> EmulatedCommunicator:
    comm = emulate_network(CountingCommunicator(size), CONFIG)
    assert isinstance(comm, EmulatedCommunicator)
    return comm


def test_nothing_is_wrapped_where_nothing_is_emulated_or_a_rank_is_alone() -> None:
    comm, one = CountingCommunicator(4), SingleCommunicator()
    assert emulate_network(comm, EmulatedNetworkConfig()) is comm
    assert emulate_network(one, CONFIG) is one


def test_ranks_on_several_machines_are_refused() -> None:
    comm = CountingCommunicator(2, others=["another"])
    with pytest.raises(UsageError, match="for ranks on one machine, and these are on 2"):
        emulate_network(comm, CONFIG)


def test_collectives_last_at_least_as_long_as_the_network_says() -> None:
    comm, array = emulated(), np.full(1000, 2.0)
    for name in ("sum_", "max_", "broadcast_"):
        begin = time.perf_counter()
        getattr(comm, name)(array)
        kind = comm.network.broadcast if name == "broadcast_" else comm.network.allreduce
        assert time.perf_counter() - begin >= kind(8000, [0, 0, 1, 1]).seconds >= 0.009
    assert (array == 8.0).all()


def test_a_part_within_a_node_takes_its_faster_link() -> None:
    # The counting communicator plays that all ranks are on this one's node.
    part = emulated().split(0)
    assert isinstance(part, EmulatedCommunicator)
    assert (part.size, part.nodes) == (2, [0, 0])
    assert part.network.allreduce(8000, part.nodes) == Duration(0.002, 0.0)


def test_transfers_at_once_take_turns_on_a_link() -> None:
    links = Links()
    assert links.take(10.0, Duration(1.0, 2.0)) == 13.0
    assert links.take(11.0, Duration(1.0, 0.0)) == 14.0
    assert links.take(11.0, Duration(0.0, 2.0)) == 15.0
    assert links.take(20.0, Duration(0.5, 0.5)) == 21.0


def test_a_duplicate_shares_the_links() -> None:
    comm, array = emulated(), np.ones(1000)
    other = comm.duplicate()
    begin = time.perf_counter()
    thread = threading.Thread(target=other.sum_, args=(np.ones(1000),))
    thread.start()
    comm.sum_(array)
    thread.join()
    assert time.perf_counter() - begin >= 2 * comm.network.allreduce(8000, comm.nodes).seconds
