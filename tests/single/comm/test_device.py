"""Devices and threads of a rank."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hpcsgd.comm.background import ReducerThread
from hpcsgd.comm.device import bind_device, card_name, check_not_shared, core_list, gpu_name, set_threads
from hpcsgd.comm.reduce import FlatReducer
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
    ("properties", "name", "card"),
    [
        ({"uuid": "u-1", "pci_domain_id": 0, "pci_bus_id": 59, "pci_device_id": 0}, "H100 u-1", "0000:3b:00"),
        # Two slices of one card.
        ({"uuid": "mig-2", "pci_domain_id": 0, "pci_bus_id": 59, "pci_device_id": 0}, "H100 mig-2", "0000:3b:00"),
        ({"pci_domain_id": 1, "pci_bus_id": 200, "pci_device_id": 3}, "H100 0001:c8:03", "0001:c8:03"),
        ({"uuid": "u-1"}, "H100 u-1", "H100 u-1"),
        ({}, "H100 2", "H100 2"),
    ],
)
def test_what_a_gpu_is_called(
    monkeypatch: pytest.MonkeyPatch, properties: dict[str, Any], name: str, card: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: SimpleNamespace(name="H100", **properties))
    assert (gpu_name(2), card_name(torch.device("cuda", 2))) == (name, card)
    assert card_name(torch.device("cpu")) == "cpu"


def test_gpus_without_a_uuid_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one visible GPU a rank its number is 0 on all of them."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _device: None)
    monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS", raising=False)

    class Nodes(CountingCommunicator):
        def allgather_object(self, value: Any) -> list[Any]:
            return [value, ("a", "MI250X 0000:c9:00")] if isinstance(value, tuple) else [value] * 2

    own = SimpleNamespace(name="MI250X", pci_domain_id=0, pci_bus_id=200, pci_device_id=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: own)
    device, name = bind_device("auto", Nodes(2), PLACE, share_gpu=False)
    assert (device, name) == (torch.device("cuda", 0), "MI250X 0000:c8:00")
    assert os.environ.pop("CUDA_DEVICE_MAX_CONNECTIONS") == "32"
    own.pci_bus_id = 201
    with pytest.raises(UsageError, match="give each rank its own CUDA_VISIBLE_DEVICES"):
        bind_device("auto", Nodes(2), PLACE, share_gpu=False)
    os.environ.pop("CUDA_DEVICE_MAX_CONNECTIONS")


def test_a_thread_that_sums_uses_its_ranks_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[str, torch.device]] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: used.append((threading.current_thread().name, device)))
    reducer = FlatReducer(CountingCommunicator(2), 1024, staged=False)
    for device in (torch.device("cuda", 3), torch.device("cpu")):
        thread = ReducerThread(reducer, "averaging", device)
        thread.start(torch.ones(3))
        thread.wait()
        thread.close()
    assert used == [("averaging", torch.device("cuda", 3))]


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
