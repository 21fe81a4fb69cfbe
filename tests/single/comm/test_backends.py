"""Which gradient allreduce a run uses."""

from __future__ import annotations

import importlib.util
import os
import types
from typing import Any

import pytest
import torch
import torch.distributed as dist

from hpcsgd.comm.backends import (
    make_gradient_allreduce,
    make_reducer,
    resolve_allreduce,
    resolve_averaging,
    thread_pays,
)
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
GPU = torch.device("cuda", 0)


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
    assert resolve_allreduce(CommConfig(allreduce=asked), mpi_of(size), CPU) == expected  # type: ignore[arg-type]


def on_gpus(monkeypatch: pytest.MonkeyPatch, *, nccl: bool = True) -> None:
    """This rank has a GPU, and Horovod is installed."""
    monkeypatch.setattr(dist, "is_nccl_available", lambda: nccl)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr("hpcsgd.comm.backends.card_name", lambda device: "0000:3b:00")


class Others(MpiCommunicator):
    """Rank 0 of several; the others say what it says, but for their cards where these are their own."""

    def __init__(self, size: int, cards: str = "own", can_shrink: bool = False) -> None:
        self.size, self.rank, self.cards, self.can_shrink = size, 0, cards, can_shrink
        self.watchdog = Watchdog(0, size, self.abort)

    def allgather_object(self, value: Any) -> list[Any]:
        if isinstance(value, tuple) and self.cards == "own":
            return [(value[0], f"{value[1]}{rank}") for rank in range(self.size)]
        return [value] * self.size


def test_on_gpus_nccl_comes_first_and_a_horovod_that_happens_to_be_installed_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_gpus(monkeypatch)
    assert resolve_allreduce(CommConfig(), Others(2), GPU) == "torch"
    assert resolve_allreduce(CommConfig(), Others(1), GPU) == "none"
    assert resolve_allreduce(CommConfig(), Others(2, cards="shared"), GPU) == "mpi"
    on_gpus(monkeypatch, nccl=False)
    assert resolve_allreduce(CommConfig(), Others(2), GPU) == "mpi"
    with pytest.raises(UsageError, match="is torch, which sums by NCCL, but torch was built without it: choose mpi"):
        resolve_allreduce(CommConfig(allreduce="torch"), Others(2), GPU)


@pytest.mark.parametrize("asked", ["torch", "horovod"])
def test_ranks_that_share_a_gpu_cannot_sum_by_nccl(monkeypatch: pytest.MonkeyPatch, asked: Any) -> None:
    on_gpus(monkeypatch)
    assert resolve_allreduce(CommConfig(allreduce="mpi"), Others(2, cards="shared"), GPU) == "mpi"
    with pytest.raises(UsageError, match=f"is {asked}, which sums by NCCL, but ranks 0, 1 share one GPU: choose mpi"):
        resolve_allreduce(CommConfig(allreduce=asked), Others(2, cards="shared"), GPU)


def test_what_averages(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpus(monkeypatch)

    def resolved(comm: Any, device: torch.device = GPU, **settings: Any) -> str:
        return resolve_averaging(CommConfig(**settings), comm, device)

    assert resolved(Others(2)) == resolved(Others(2), averaging="nccl") == "nccl"
    assert resolved(Others(2), averaging="mpi") == resolved(Others(1)) == resolved(Others(1), CPU) == "mpi"
    assert resolved(Others(2), CPU) == "measured"
    assert resolved(Others(2), CPU, averaging="mpi") == resolved(Others(2, can_shrink=True), CPU) == "mpi"
    assert resolved(Others(2), CPU, averaging="shared") == "shared"
    with pytest.raises(UsageError, match="averaging is shared, but the replicas are on GPUs: choose nccl, mpi or auto"):
        resolved(Others(2), averaging="shared")
    assert resolved(Others(2, cards="shared")) == resolved(Others(2, can_shrink=True)) == "mpi"
    assert resolved(Others(2), cuda_aware=True) == resolved(CountingCommunicator(2)) == "mpi"
    for comm, device, why in (
        (Others(2, cards="shared"), GPU, "ranks 0, 1 share"),
        (Others(2), CPU, "there is no GPU"),
    ):
        with pytest.raises(UsageError, match=f"comm.averaging is nccl, but {why}"):
            resolved(comm, device, averaging="nccl")
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    assert resolved(Others(2)) == "mpi", "the default process group is the program's own"


def test_horovod_must_be_installed_on_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    comm = mpi_of(3, [True, False])
    assert resolve_allreduce(CommConfig(), comm, CPU) == "mpi"
    with pytest.raises(UsageError, match="horovod, which is not installed"):
        resolve_allreduce(CommConfig(allreduce="horovod"), comm, CPU)


def test_without_mpi_one_process_needs_no_allreduce() -> None:
    for asked in ("auto", "mpi", "torch"):
        config = CommConfig(allreduce=asked)  # type: ignore[arg-type]
        assert resolve_allreduce(config, SingleCommunicator(), CPU) == "none"
    assert resolve_allreduce(CommConfig(), CountingCommunicator(2), CPU) == "mpi"


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
