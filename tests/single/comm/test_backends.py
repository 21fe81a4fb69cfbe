"""Which gradient allreduce a run uses."""

from __future__ import annotations

import importlib.util
import os
import types

import pytest
import torch

from hpcsgd.comm.backends import make_gradient_allreduce, make_reducer, resolve_allreduce, thread_pays
from hpcsgd.comm.communicator import Communicator, SingleCommunicator
from hpcsgd.comm.gradients import Buckets, NoAllreduce
from hpcsgd.comm.mpi import MpiCommunicator
from hpcsgd.comm.mpi_gradients import MpiGradients
from hpcsgd.comm.topology import arrange
from hpcsgd.comm.watchdog import Watchdog
from hpcsgd.config import CommConfig
from hpcsgd.errors import UsageError
from tests.single.comm.counting import Call, CountingCommunicator

CPU = torch.device("cpu")


def mpi_of(size: int, others: list[bool] | None = None) -> Communicator:
    """A communicator of mpi4py's kind, without MPI; ``others`` are the other ranks' answers."""
    comm = MpiCommunicator.__new__(MpiCommunicator)
    comm.size, comm.rank = size, 0
    comm.watchdog = Watchdog(0, size, comm.abort)
    comm.comm = types.SimpleNamespace(allgather=lambda value: [value, *(others or [value] * (size - 1))])
    return comm


@pytest.mark.parametrize(
    ("asked", "size", "horovod", "expected"),
    [
        ("auto", 1, True, "none"),
        ("auto", 1, False, "none"),
        ("auto", 2, True, "horovod"),
        ("auto", 2, False, "mpi"),
        ("mpi", 1, True, "mpi"),
        ("mpi", 2, True, "mpi"),
        ("torch", 1, False, "torch"),
        ("horovod", 1, True, "horovod"),
    ],
)
def test_choice(monkeypatch: pytest.MonkeyPatch, asked: str, size: int, horovod: bool, expected: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if horovod else None)
    assert resolve_allreduce(CommConfig(allreduce=asked), mpi_of(size)) == expected  # type: ignore[arg-type]


def test_horovod_must_be_installed_on_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    comm = mpi_of(3, [True, False])
    assert resolve_allreduce(CommConfig(), comm) == "mpi"
    with pytest.raises(UsageError, match="horovod, which is not installed"):
        resolve_allreduce(CommConfig(allreduce="horovod"), comm)


def test_without_mpi_one_process_needs_no_allreduce() -> None:
    for asked in ("auto", "mpi", "torch"):
        assert resolve_allreduce(CommConfig(allreduce=asked), SingleCommunicator()) == "none"  # type: ignore[arg-type]
    assert resolve_allreduce(CommConfig(), CountingCommunicator(2)) == "mpi"


@pytest.mark.parametrize(("cores", "pays"), [(1, False), (7, False), (8, True)])
def test_a_thread_pays_where_each_rank_has_two_cores(monkeypatch: pytest.MonkeyPatch, cores: int, pays: bool) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    place = arrange(["a"] * 4 + ["b"] * 20)[0]
    assert thread_pays(place, CPU) == pays
    assert thread_pays(place, torch.device("cuda"))


def buckets() -> Buckets:
    return Buckets(torch.zeros(4), [], [], 1024)


@pytest.mark.parametrize(
    ("asked", "own", "others", "overlap"),
    [
        (None, True, [True] * 3, True),
        (None, True, [True, False, True], False),
        (None, False, [True] * 3, False),
        (True, False, [False] * 3, True),
        (False, True, [True] * 3, False),
    ],
)
def test_ranks_of_uneven_nodes_decide_alike_on_overlap(
    monkeypatch: pytest.MonkeyPatch, asked: bool | None, own: bool, others: list[bool], overlap: bool
) -> None:
    monkeypatch.setattr("hpcsgd.comm.backends.thread_pays", lambda place, device: own)
    comm = CountingCommunicator(others=others)
    config = CommConfig(allreduce="mpi", overlap=asked)
    gradients = make_gradient_allreduce(config, comm, arrange(["a"] * 4)[0], CPU, buckets())
    assert isinstance(gradients, MpiGradients)
    assert gradients.overlap == overlap
    assert (Call("duplicate") in comm.take()) == overlap
    gradients.close()


def test_a_single_process_gets_no_allreduce() -> None:
    gradients = make_gradient_allreduce(CommConfig(), SingleCommunicator(), arrange(["a"])[0], CPU, buckets())
    assert isinstance(gradients, NoAllreduce)


def test_on_a_cpu_nothing_is_staged() -> None:
    reducer = make_reducer(CommConfig(cuda_aware=True, chunk_bytes=2048), CountingCommunicator(), CPU)
    assert (reducer.staged, reducer.cuda_aware, reducer.chunk_bytes) == (False, False, 2048)
