"""Devices and threads of a rank."""

from __future__ import annotations

import os

import pytest
import torch

from hpcsgd.comm.device import bind_device, check_not_shared, core_list, set_threads
from hpcsgd.comm.topology import arrange
from hpcsgd.errors import UsageError
from tests.single.comm.counting import CountingCommunicator

PLACE = arrange(["a"] * 4)[0]


@pytest.mark.parametrize(
    ("cores", "text"),
    [
        ({0}, "0"),
        ({0, 1, 2, 3}, "0-3"),
        ({0, 2}, "0,2"),
        ({8, 0, 1, 2, 3}, "0-3,8"),
        ({4, 5, 9, 10, 11}, "4-5,9-11"),
    ],
)
def test_cores_as_ranges(monkeypatch: pytest.MonkeyPatch, cores: set[int], text: str) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    assert core_list() == text


@pytest.mark.parametrize(
    ("devices", "shared"),
    [
        ([("a", "cpu"), ("a", "cpu")], None),
        ([("a", "gpu 0"), ("a", "gpu 1"), ("b", "gpu 0")], None),
        ([("a", "gpu 0"), ("a", "cpu"), ("a", "gpu 0")], "[0, 2]"),
        ([("b", "gpu 0"), ("a", "gpu 1"), ("b", "gpu 1"), ("b", "gpu 1")], "[2, 3]"),
    ],
)
def test_ranks_that_share_a_gpu_are_refused(devices: list[tuple[str, str]], shared: str | None) -> None:
    check_not_shared(devices, share_gpu=True)
    if shared is None:
        check_not_shared(devices, share_gpu=False)
        return
    with pytest.raises(UsageError) as caught:
        check_not_shared(devices, share_gpu=False)
    assert f"ranks {shared} would share one GPU" in str(caught.value)


def test_without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for kind in ("auto", "cpu"):
        assert bind_device(kind, CountingCommunicator(), PLACE, share_gpu=False) == (torch.device("cpu"), "cpu")


def test_the_cpu_can_be_chosen_where_there_are_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert bind_device("cpu", CountingCommunicator(), PLACE, share_gpu=False)[1] == "cpu"


@pytest.mark.parametrize(
    ("kind", "own", "others", "blind"),
    [("cuda", 0, [0, 0, 0], 0), ("cuda", 1, [1, 0, 1], 2), ("auto", 0, [1, 1, 1], 0), ("auto", 2, [2, 2, 0], 3)],
)
def test_a_rank_without_a_gpu_is_told_on_all_ranks(
    monkeypatch: pytest.MonkeyPatch, kind: str, own: int, others: list[int], blind: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: own)
    comm = CountingCommunicator(others=others)
    with pytest.raises(UsageError) as caught:
        bind_device(kind, comm, PLACE, share_gpu=False)
    assert f"device is {kind}, but rank {blind} sees no GPU" in str(caught.value)
    assert len(comm.take()) == 1, "every rank has taken part in the same collectives"


@pytest.mark.parametrize(
    ("wanted", "omp", "cores", "others", "expected"),
    [
        # Four ranks unbound on eight cores.
        (None, None, range(8), [("a", tuple(range(8)))] * 3, 2),
        # Each bound to two cores of its own.
        (None, None, range(2), [("a", (2, 3)), ("a", (4, 5)), ("a", (6, 7))], 2),
        # One shares with us, on our node.
        (None, None, range(4), [("a", (3, 4)), ("b", (0, 1, 2, 3)), ("b", (0,))], 2),
        # More ranks than cores.
        (None, None, range(2), [("a", (0, 1))] * 3, 1),
        (3, None, range(8), [("a", tuple(range(8)))] * 3, 3),
        (3, "7", range(8), [("a", tuple(range(8)))] * 3, 3),
    ],
)
def test_threads(
    monkeypatch: pytest.MonkeyPatch,
    wanted: int | None,
    omp: str | None,
    cores: range,
    others: list[tuple[str, tuple[int, ...]]],
    expected: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(cores))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if omp is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", omp)
    before = torch.get_num_threads()
    try:
        assert set_threads(wanted, CountingCommunicator(others=others), PLACE) == expected
    finally:
        torch.set_num_threads(before)


def test_omp_num_threads_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    before = torch.get_num_threads()
    assert set_threads(None, CountingCommunicator(), PLACE) == before
