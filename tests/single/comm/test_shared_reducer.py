"""Which way of averaging a start takes. What the ways do is under mpirun: tests/parallel/laws/in_memory.py."""

from __future__ import annotations

import itertools
import time

import pytest
import torch

from hpcsgd.comm.shared_memory import SharedMemory
from hpcsgd.comm.shared_reducer import SharedReducer, share_memory
from tests.single.comm.counting import Call, CountingCommunicator


def reducer_of(comm: CountingCommunicator, memory: SharedMemory) -> SharedReducer:
    """One whose node has this rank alone, of ``comm``."""
    return SharedReducer(comm, 64, memory, [memory.content], CountingCommunicator(1), None, 1)


@pytest.mark.parametrize(("in_memory", "by_mpi", "faster"), [(1.0, 2.0, "shared"), (2.0, 1.0, "mpi")])
def test_the_faster_way_is_taken_and_an_earlier_one_again(
    monkeypatch: pytest.MonkeyPatch, in_memory: float, by_mpi: float, faster: str
) -> None:
    memory, comm = SharedMemory(80), CountingCommunicator(3)
    flat = memory.tensor((10,), torch.float64).copy_(torch.randn(10))
    before, reducer = flat.clone(), reducer_of(comm, memory)
    # One of the times of each way is much longer: another program was at work.
    durations = itertools.cycle([in_memory, by_mpi, 10 * in_memory, by_mpi])
    clock = itertools.accumulate(itertools.chain.from_iterable((1.0, length) for length in durations))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    reducer.choose(flat, comm)
    assert reducer.name == faster and reducer.seconds == {"shared": in_memory, "mpi": by_mpi}
    assert torch.equal(flat, before)
    reducer.take_up("mpi")
    assert reducer.name == "mpi"
    comm.take()
    reducer.sum_(flat)
    assert comm.take() == [Call("sum", 64), Call("sum", 16)]
    for name in ("shared", "nccl", None):
        reducer.take_up(name)
        assert reducer.name == "shared"


def test_what_the_recipe_asks_for_comes_before_an_earlier_way() -> None:
    reducer = reducer_of(CountingCommunicator(3), SharedMemory(80))
    reducer.take_up("mpi")
    assert reducer.name == "shared"


def test_ranks_without_memory_share_none(monkeypatch: pytest.MonkeyPatch) -> None:
    comm = CountingCommunicator(3)
    assert share_memory(comm, comm, "there is none", 64) == "there is none"
    monkeypatch.setattr(comm, "allgather_object", lambda value: [value, *("ab" if isinstance(value, str) else [1, 1])])
    assert share_memory(comm, comm, SharedMemory(80), 64) is None, "each rank is on a node of its own"
