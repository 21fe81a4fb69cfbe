"""Reducing flat tensors in chunks: how many collectives, of how many bytes, and what comes out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hpcsgd.comm.reduce import FlatReducer, mark
from tests.single.comm.counting import Call, CountingCommunicator


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize(
    ("numel", "chunk_bytes", "expected"),
    [
        (1, 1, [1]),
        (3, 1, [1, 1, 1]),
        (10, 8, [2, 2, 2, 2, 2]),
        (10, 15, [3, 3, 3, 1]),
        (10, 16, [4, 4, 2]),
        (10, 40, [10]),
        (10, 41, [10]),
        (11, 40, [10, 1]),
    ],
)
def test_collectives_by_chunk(staged: bool, numel: int, chunk_bytes: int, expected: list[int]) -> None:
    comm = CountingCommunicator(size=3)
    flat = torch.arange(float(numel)) + 1
    FlatReducer(comm, chunk_bytes, staged=staged).reduce_(flat, 1.0, None)
    assert comm.take() == [Call("sum", 4 * n) for n in expected]
    assert torch.equal(flat, 3 * (torch.arange(float(numel)) + 1))


@pytest.mark.parametrize("staged", [False, True])
def test_average_of_equal_ranks_is_the_value_itself(staged: bool) -> None:
    reducer = FlatReducer(CountingCommunicator(size=4), 24, staged=staged)
    for numel in (7, 1, 100, 3):
        flat = torch.randn(numel, dtype=torch.float64)
        expected = flat.clone()
        reducer.average_(flat)
        assert torch.equal(flat, expected)


def test_one_rank_averages_without_a_collective() -> None:
    comm = CountingCommunicator(size=1)
    flat = torch.ones(10)
    FlatReducer(comm, 8, staged=False).average_(flat)
    assert comm.take() == []
    assert torch.equal(flat, torch.ones(10))


def test_kinds_of_tensors_do_not_share_host_buffers() -> None:
    reducer = FlatReducer(CountingCommunicator(size=2), 1024, staged=True)
    for dtype in (torch.float32, torch.float64, torch.float32):
        flat = torch.full((5,), 0.1, dtype=dtype)
        reducer.average_(flat)
        assert torch.equal(flat, torch.full((5,), 0.1, dtype=dtype))


def test_parameters_that_need_gradients_are_reduced_in_place() -> None:
    flat = torch.ones(4, requires_grad=True)
    FlatReducer(CountingCommunicator(size=2), 8, staged=False).reduce_(flat, 1.0, None)
    assert flat.tolist() == [2.0] * 4
    assert mark(flat) is None


class Order:
    """Notes what is asked of the GPU's queue, of the guard and of MPI, in turn."""

    size = 3

    def __init__(self) -> None:
        self.done: list[str] = []

    def mark(self, _tensor: Tensor) -> SimpleNamespace:
        return SimpleNamespace(synchronize=lambda: self.done.append("the host waits"))

    def before(self, part: Tensor) -> None:
        self.done.append("look")

    def sum_(self, part: Tensor) -> None:
        self.done.append("sum")
        part.mul_(3)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_mpi_that_takes_gpu_buffers_gets_them_when_all_looks_are_done(
    monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    order: Any = Order()
    monkeypatch.setattr("hpcsgd.comm.reduce.mark", order.mark)
    monkeypatch.setattr(
        "hpcsgd.comm.reduce.finish_on_stream", lambda tensor, ready: order.done.append("the queue waits")
    )
    flat = torch.ones(6)
    done = FlatReducer(order, 8, staged=False, cuda_aware=True).reduce_(flat, scale, order.mark(flat), order)
    assert order.done == ["the queue waits", *["look"] * 3, "the host waits", *["sum"] * 3]
    assert (flat == 3 * scale).all()
    # What is queued after MPI has to be waited for.
    assert (done is None) == (scale == 1.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("chunk_bytes", [64, 1000, 1 << 20])
def test_a_gpu_buffer_passes_through_the_host(chunk_bytes: int) -> None:
    comm = CountingCommunicator(size=3)
    reducer = FlatReducer(comm, chunk_bytes, staged=True)
    for numel in (1, 1001, 7, 50_000):
        flat = torch.arange(numel, dtype=torch.float64, device="cuda").mul_(2.0)
        reducer.average_(flat)
        np.testing.assert_array_equal(flat.cpu().numpy(), 2.0 * np.arange(numel) * 3 * (1 / 3))
        per_chunk = chunk_bytes // 8
        assert len(comm.take()) == -(-numel // per_chunk)
