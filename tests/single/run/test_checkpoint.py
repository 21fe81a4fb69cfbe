"""Checkpoints: whole or not there, checked before use, the last ones kept."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import threading
from pathlib import Path

import pytest
import torch

from hpcsgd.comm.watchdog import Watchdog
from hpcsgd.errors import CheckpointError, UsageError
from hpcsgd.run.checkpoint import FOLDER, CheckpointWriter, find_checkpoints, read_checkpoint


def make_writer(path: Path, rank: int, world_size: int, token: str = "t", **changes: bool | int) -> CheckpointWriter:
    """The writer of one rank; its watchdog never looks."""
    watchdog = Watchdog(rank, world_size, lambda code: None)
    return CheckpointWriter(path, watchdog, token, **({"keep": 2, "background": True} | changes))  # type: ignore[arg-type]


def write(path: Path, step: int, world_size: int = 1, keep: int = 2, value: float = 1.0) -> None:
    """Let ``world_size`` ranks, threads here, write a checkpoint."""
    writers = [make_writer(path, rank, world_size, keep=keep) for rank in range(world_size)]
    for writer in writers:
        writer.write(step, {"step": step, "tensor": torch.full((3,), value + writer.rank)})
    for writer in writers:
        writer.finish()


@pytest.mark.parametrize("world_size", [1, 3])
def test_every_rank_gets_its_own_state_back(tmp_path: Path, world_size: int) -> None:
    write(tmp_path, 12, world_size)
    (found,), broken = find_checkpoints(tmp_path)
    assert (found.step, found.world_size, broken) == (12, world_size, [])
    for rank in range(world_size):
        assert found.load(rank)["tensor"].tolist() == [1.0 + rank] * 3
    assert sorted(os.listdir(found.path)) == ["manifest.json", *(f"rank-{r:05d}.pt" for r in range(world_size))]


def test_the_last_ones_are_kept_and_come_first(tmp_path: Path) -> None:
    for step in (3, 6, 9):
        write(tmp_path, step)
    assert [checkpoint.step for checkpoint in find_checkpoints(tmp_path)[0]] == [9, 6]


def test_writing_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    write(tmp_path, 5, value=1.0)
    write(tmp_path, 5, value=2.0)
    (found,), _ = find_checkpoints(tmp_path)
    assert found.load(0)["tensor"].tolist() == [2.0] * 3


@pytest.mark.parametrize("name", ["notes.txt", ".nfs0001", "rank-00000.pt.old"])
def test_what_is_not_ours_is_no_hindrance_and_is_kept(tmp_path: Path, name: str) -> None:
    for number in (1, 2):
        write(tmp_path, 5)
        (tmp_path / FOLDER / "step-00000005" / name).write_text("mine")
        write(tmp_path, 5, value=2.0)
        (found,), broken = find_checkpoints(tmp_path)
        assert (found.load(0)["tensor"].tolist(), broken) == ([2.0] * 3, [])
        assert (tmp_path / FOLDER / f"kept-{number}-step-00000005" / name).read_text() == "mine"


@pytest.mark.parametrize("keep", [1, 2])
def test_what_lies_in_the_future_goes_when_something_new_is_kept(tmp_path: Path, keep: int) -> None:
    for step in (3, 6, 9):
        write(tmp_path, step, keep=3)
    write(tmp_path, 4, keep=keep)
    assert [checkpoint.step for checkpoint in find_checkpoints(tmp_path)[0]] == [4, 3][:keep]


@pytest.mark.parametrize("damage", ["cut", "flip", "missing"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    write(tmp_path, 5)
    (found,), _ = find_checkpoints(tmp_path)
    file = found.path / "rank-00000.pt"
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content[:-7] if damage == "cut" else content)
    with pytest.raises(UsageError, match="rank-00000.pt"):
        found.load(0)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        json.dumps({"format": 1, "world_size": 2, "step": 3, "ranks": [1]}),
        json.dumps({"format": 1, "world_size": 1, "step": 3, "ranks": [1]}),
        json.dumps({"format": 1, "world_size": 1, "step": 3, "ranks": [{"num_bytes": 3, "sha255": "0"}]}),
    ],
)
def test_a_damaged_manifest_is_named_and_the_one_before_is_found(tmp_path: Path, content: str) -> None:
    write(tmp_path, 3)
    write(tmp_path, 6)
    (tmp_path / FOLDER / "step-00000006" / "manifest.json").write_text(content)
    found, broken = find_checkpoints(tmp_path)
    assert [checkpoint.step for checkpoint in found] == [3]
    assert len(broken) == 1 and "step-00000006" in broken[0]
    with pytest.raises(UsageError, match="step-00000006"):
        read_checkpoint(tmp_path / FOLDER / "step-00000006")


def replace_state(path: Path, content: bytes) -> None:
    """Give rank 0 another file, and the manifest its checksum."""
    (path / "rank-00000.pt").write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["ranks"][0] = {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(manifest))


def saved(value: object) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"PK\x03\x04" + bytes(40),
        pickle.dumps({"step": 5}),
        saved({"step": 5})[:-30],
        saved([5]),
        saved({}),
        saved({"step": 6}),
        saved({"step": 5, "code": threading.Thread}),
    ],
)
def test_what_is_no_state_of_the_run_is_said_and_runs_no_code(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, 5)
    (found,), _ = find_checkpoints(tmp_path)
    replace_state(found.path, content)
    with pytest.raises(UsageError, match="rank-00000.pt holds no state of a run"):
        found.load(0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"step": -3}, "contradicts itself"),
        ({"step": 10**30}, "contradicts itself"),
        ({"step": True}, "contradicts itself"),
        ({"step": 5}, "its manifest says step 5"),
        ({"world_size": 0, "ranks": []}, "contradicts itself"),
        ({"world_size": -1}, "contradicts itself"),
        ({"ranks": None}, "has no len"),
        ({"ranks": [{"num_bytes": -1, "sha256": "0"}]}, "contradicts itself"),
        ({"ranks": [{"num_bytes": 3, "sha256": None}]}, "contradicts itself"),
        ({"format": 2}, "of format 2, and this version of hpcsgd reads 1"),
    ],
)
def test_impossible_numbers_in_a_manifest_are_no_checkpoint(
    tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    write(tmp_path, 3)
    file = tmp_path / FOLDER / "step-00000003" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    found, (broken,) = find_checkpoints(tmp_path)
    assert found == [] and said in broken


def test_directories_of_others_are_neither_read_nor_removed(tmp_path: Path) -> None:
    others = ["step-1", "step-1000", "step-00000009-best", "step-00000001/weights.pt", ".step-mine/x"]
    for name in others:
        (tmp_path / FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / FOLDER / name).mkdir() if "/" not in name else (tmp_path / FOLDER / name).touch()
    for step in (3, 4, 5):
        write(tmp_path, step)
    assert all((tmp_path / FOLDER / name).exists() for name in others)
    assert [checkpoint.step for checkpoint in find_checkpoints(tmp_path)[0]] == [5, 4]


def test_a_file_system_without_fsync_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", unsupported)
    write(tmp_path, 3)
    assert [checkpoint.step for checkpoint in find_checkpoints(tmp_path)[0]] == [3]


def test_what_cannot_be_written_is_said_and_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 3)
    writer = make_writer(tmp_path, 0, 1, "u", background=False)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hpcsgd.run.checkpoint._write_through", full)
    writer.write(6, {"step": 6})
    with pytest.raises(CheckpointError, match="No space left"):
        writer.finish()
    monkeypatch.undo()
    make_writer(tmp_path, 0, 1, "v")
    found, broken = find_checkpoints(tmp_path)
    assert ([checkpoint.step for checkpoint in found], broken) == ([3], [])
    assert os.listdir(tmp_path / FOLDER) == ["step-00000003"]


def test_one_rank_that_cannot_write_stops_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hpcsgd.run.checkpoint as module

    sound = module._write_through

    def fails_on_rank_1(path: Path, content: bytes) -> None:
        if path.name == "rank-00001.pt":
            raise OSError(5, "Input/output error")
        sound(path, content)

    monkeypatch.setattr(module, "_write_through", fails_on_rank_1)
    writers = [make_writer(tmp_path, rank, 3) for rank in range(3)]
    for writer in writers:
        writer.write(4, {"step": 4})
    for writer in writers:
        with pytest.raises(CheckpointError, match="cannot write a checkpoint in .*: Input/output error on rank 1;"):
            writer.finish()
    assert find_checkpoints(tmp_path)[0] == []


def test_a_rank_that_fails_before_any_other_has_begun_is_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = [make_writer(tmp_path, rank, 2) for rank in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointWriter, "_write_rank", lambda *_: int("no number"))
        writers[1].write(4, {"step": 4})
        with pytest.raises(CheckpointError, match="invalid literal.* on rank 1;"):
            writers[1].finish()
    writers[0].write(4, {"step": 4})
    with pytest.raises(CheckpointError, match="Input/output error on rank 1;"):
        writers[0].finish()


@pytest.mark.parametrize("gone", [False, True])
def test_a_checkpoint_renamed_amid_a_look_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool) -> None:
    """Another rank finds no manifest yet; then the directory gets its last name, before or while it is listed."""
    partial, final = tmp_path / FOLDER / ".step-00000004.t", tmp_path / FOLDER / "step-00000004"
    partial.mkdir(parents=True)
    (partial / "manifest.json").write_text("{}")
    sound = os.listdir

    def renamed(path: Path) -> list[str]:
        names = [] if gone else sound(path)
        partial.rename(final)
        return sound(path) if gone else names

    monkeypatch.setattr(os, "listdir", renamed)
    make_writer(tmp_path, 1, 2)._wait_for(final / "manifest.json", partial)


def test_waiting_for_the_others_is_watched(tmp_path: Path) -> None:
    ended = threading.Event()
    watchdog = Watchdog(0, 2, lambda code: ended.set())
    with watchdog.on_guard(0.2):
        writer = CheckpointWriter(tmp_path, watchdog, "t", keep=2, background=True)
        writer.write(4, {"step": 4})
        assert ended.wait(60), "the other rank's file never comes"
        (tmp_path / FOLDER / ".step-00000004.t" / "failed-1-28").mkdir()
        with pytest.raises(CheckpointError, match="No space left on device on rank 1"):
            writer.finish()
