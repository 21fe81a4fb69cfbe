"""The communicator of a single process, and agreement among ranks."""

from __future__ import annotations

import numpy as np
import pytest

from hpcsgd.comm.communicator import SingleCommunicator, agree
from hpcsgd.errors import CheckpointError, UsageError
from tests.single.comm.counting import CountingCommunicator


def fail() -> int:
    raise UsageError("no such file")


def test_one_rank_is_its_own_sum_and_maximum() -> None:
    comm = SingleCommunicator()
    for collective in (comm.sum_, comm.max_, comm.broadcast_):
        values = np.array([3, -1])
        collective(values)
        assert values.tolist() == [3, -1]
    assert comm.allgather_object("a") == ["a"]
    assert comm.broadcast_object("a") == "a"
    assert comm.clock_offset() == (0.0, 0.0)
    comm.barrier()
    for other in (comm.split(3), comm.duplicate()):
        assert (other.rank, other.size) == (0, 1)


def test_a_gather_of_one_rank_is_a_copy_with_an_axis() -> None:
    values = np.zeros((2, 3))
    gathered = SingleCommunicator().gather(values)
    assert gathered is not None and gathered.shape == (1, 2, 3)
    gathered[0, 0, 0] = 1.0
    assert not values.any()


def test_agreement_gives_each_rank_its_own_result() -> None:
    assert agree(SingleCommunicator(), lambda: 7) == 7
    assert agree(CountingCommunicator(others=[None, None, None]), lambda: 7) == 7
    assert agree(SingleCommunicator(), lambda: None) is None


def test_the_only_ranks_mistake_is_told_as_it_is() -> None:
    with pytest.raises(UsageError) as caught:
        agree(SingleCommunicator(), fail)
    assert str(caught.value) == "no such file"


@pytest.mark.parametrize("error", [MemoryError("1 EiB"), RuntimeError("DefaultCPUAllocator: not enough memory: 1 EiB")])
def test_memory_that_is_not_there_is_a_mistake_of_all_ranks(error: Exception) -> None:
    def take() -> None:
        raise error

    with pytest.raises(UsageError, match="not enough memory.*1 EiB"):
        agree(SingleCommunicator(), take)


def test_another_failure_stays_what_it_is() -> None:
    def take() -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        agree(SingleCommunicator(), take)


def test_a_mistake_on_all_ranks_is_told_once() -> None:
    with pytest.raises(UsageError) as caught:
        agree(CountingCommunicator(), fail)
    assert str(caught.value) == "no such file"


def test_a_mistake_on_another_rank_is_raised_here_with_its_rank() -> None:
    for kind in (UsageError, CheckpointError):
        comm = CountingCommunicator(others=[None, (kind, "disk full"), (UsageError, "disk full")])
        with pytest.raises(kind) as caught:
            agree(comm, lambda: 7)
        assert str(caught.value) == "disk full (rank 2)"


def test_other_exceptions_pass_at_once() -> None:
    comm = CountingCommunicator()
    with pytest.raises(ZeroDivisionError):
        agree(comm, lambda: 1 // 0)
    assert comm.take() == []
