"""Run directories: whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from hpcsgd import run_dir
from hpcsgd.config import RunConfig
from hpcsgd.errors import UsageError

CONFIG = RunConfig(local_batch_size=4)


def test_creates_parents_and_the_recipe(tmp_path: Path) -> None:
    path = run_dir.create(tmp_path / "a" / "b", CONFIG)
    assert "local_batch_size: 4" in (path / "recipe.yaml").read_text()


def test_a_run_is_replaced_only_when_asked(tmp_path: Path) -> None:
    for name in run_dir.FILES:
        (tmp_path / name).write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds a run already"):
        run_dir.create(tmp_path, CONFIG)
    assert all((tmp_path / name).read_text() == "old" for name in run_dir.FILES)
    run_dir.create(tmp_path, RunConfig(local_batch_size=4, overwrite=True))
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "recipe.yaml"]


def test_an_unwritable_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot write the run directory"):
        run_dir.create(tmp_path / "file" / "x", CONFIG)
    assert os.listdir(tmp_path) == ["file"]


def test_half_made_parents_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_dir, "write_atomically", full)
    with pytest.raises(UsageError, match="No space left"):
        run_dir.create(tmp_path / "a" / "b", CONFIG)
    assert os.listdir(tmp_path) == []


def test_a_view_is_saved_without_its_flat_buffer(tmp_path: Path) -> None:
    flat = torch.arange(1_000_000.0)
    run_dir.save_model(tmp_path / "model.pt", {"bias": flat[10:13]})
    assert (tmp_path / "model.pt").stat().st_size < 10_000
    loaded = torch.load(tmp_path / "model.pt", weights_only=True)
    assert loaded["bias"].tolist() == [10.0, 11.0, 12.0]
