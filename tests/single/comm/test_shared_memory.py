"""Memory that processes share: one and the same, as a tensor, and gone when nobody holds it."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
import torch

from hpcsgd.comm.shared_memory import SharedMemory, make_shared, notes_of, reach
from hpcsgd.optim.rows import Rows


def mappings() -> int:
    """How often memory of ours is in this process, mapped or as an open file."""
    files = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum("memfd:hpcsgd" in line for line in (*Path("/proc/self/maps").read_text().splitlines(), *files))


def test_who_reaches_it_sees_and_writes_the_same_memory() -> None:
    memory = SharedMemory(4 * 15)
    rows = memory.tensor((3, 5), torch.float32)
    assert not rows.any()
    content = reach(memory.address)
    assert content.data_ptr() != memory.content.data_ptr()
    content[:60].view(torch.float32).copy_(torch.arange(15.0))
    assert torch.equal(rows, torch.arange(15.0).view(3, 5))
    rows[2, 4] = -1
    assert content[56:60].view(torch.float32).item() == -1
    assert len(notes_of(content)) == 64 and len(content) == 128


def test_it_finds_its_own_tensors() -> None:
    memory = SharedMemory(80)
    values = memory.tensor((10,), torch.float64)
    assert (memory.find(values), memory.find(values[3:7])) == (0, 24)
    assert memory.find(values.clone()) is None


def test_a_model_outlives_what_made_its_memory_and_then_nothing_is_left() -> None:
    gc.collect()
    before = mappings()
    rows = Rows(torch.ones(2, 30), ("momentum",), 0, shared=True)
    assert isinstance(rows.memory, SharedMemory) and rows.memory.find(rows["momentum"][1]) == 4 * 90
    others = reach(rows.memory.address)
    assert mappings() > before
    parameters = rows.parameters[0]
    del rows, others
    gc.collect()
    assert parameters.add_(1).tolist() == [2.0] * 30
    del parameters
    gc.collect()
    assert mappings() == before


def test_another_process_of_that_number_is_noticed(tmp_path: Path) -> None:
    memory, other = SharedMemory(100), SharedMemory(200)
    with pytest.raises(OSError, match="several containers"):
        reach(memory.address._replace(file=other.address.file))
    with pytest.raises(OSError, match="several containers"):
        reach(other.address._replace(file=memory.address.file))
    with pytest.raises(FileNotFoundError):
        reach(memory.address._replace(file=10**6))


def test_where_there_is_no_such_memory_rows_lie_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(file: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "ftruncate", too_much)
    assert make_shared(100) == "No space left on device"
    monkeypatch.delattr(os, "memfd_create")
    rows = Rows(torch.ones(2, 30), ("momentum",), 0, shared=True)
    assert "memfd_create" in str(rows.memory) and rows.parameters.sum() == 60
