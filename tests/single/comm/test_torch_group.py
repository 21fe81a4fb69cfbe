"""torch's process group: how it is started on a GPU, and when it ends. No library starts here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

from hpcsgd.comm import torch_group
from hpcsgd.comm.torch_group import group_of, is_foreign, join_group, leave_group
from tests.single.comm.counting import CountingCommunicator

GPU = torch.device("cuda", 3)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of torch, in turn."""
    notes: list[Any] = []
    monkeypatch.setattr(torch_group, "TCPStore", lambda *_given, **_named: type("Store", (), {"port": 1}))
    monkeypatch.setattr(
        dist, "init_process_group", lambda backend, device_id, **_named: notes.append((backend, device_id))
    )
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: (notes.append("connect"), tensor.mul_(2)))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: notes.append("end"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: notes.append(f"wait for {device}"))
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda size, device: ones(size))
    return notes


def test_nccl_knows_its_device_and_connects_at_the_start_and_ends_when_all_is_done(done: list[Any]) -> None:
    join_group(CountingCommunicator(2), GPU)
    join_group(CountingCommunicator(2), GPU)
    assert done == [("nccl", GPU), "connect"]
    leave_group(GPU)
    assert len(done) == 2, "it has a user still"
    leave_group(GPU)
    assert done[2:] == ["wait for cuda:3", "end"]


def test_gloo_is_started_as_ever(done: list[Any]) -> None:
    join_group(CountingCommunicator(2), torch.device("cpu"))
    leave_group(torch.device("cpu"))
    assert done == [("gloo", None), "connect", "end"]


def test_the_group_of_the_program_is_left_alone(monkeypatch: pytest.MonkeyPatch, done: list[Any]) -> None:
    assert not is_foreign()
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    assert is_foreign()
    join_group(CountingCommunicator(2), GPU)
    assert not is_foreign()
    leave_group(GPU)


def test_all_ranks_make_the_groups_of_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[int]] = []
    monkeypatch.setattr(dist, "new_group", lambda ranks: (made.append(ranks), tuple(ranks))[1])

    class Rank(CountingCommunicator):
        def allgather_object(self, value: Any) -> list[Any]:
            return [0, 2] if self.group == "block" else [(0, 2), (1, 3), (0, 2), (1, 3)]

    world, block = Rank(4, 2), Rank(2, 1, group="block")
    assert group_of(block, world) == (0, 2)
    assert made == [[0, 2], [1, 3]]
    monkeypatch.setattr(Rank, "allgather_object", lambda self, value: [(0, 1, 2, 3)] * 4)
    assert group_of(world, world) is None
    assert len(made) == 2
