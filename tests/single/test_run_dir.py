"""Run directories: whole or not there, and of one job at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from hpcsgd import run_dir
from hpcsgd.config import OptimizerConfig, RunConfig
from hpcsgd.errors import UsageError

CONFIG = RunConfig(local_batch_size=4)


def old_run(path: Path) -> None:
    """Fill a directory with a run and something of the user's."""
    run_dir.claim(path, CONFIG).close()
    for name in ("run.h5", "model.pt", "notes.txt"):
        (path / name).write_text("old")
    (path / "checkpoints" / "step-00000004").mkdir(parents=True)


def test_creates_parents_and_the_recipe(tmp_path: Path) -> None:
    with run_dir.claim(tmp_path / "a" / "b", CONFIG):
        assert "local_batch_size: 4" in (tmp_path / "a" / "b" / "recipe.yaml").read_text()


def test_a_run_is_replaced_only_when_asked(tmp_path: Path) -> None:
    old_run(tmp_path)
    with pytest.raises(UsageError, match="holds a run already .*resume: auto"):
        run_dir.claim(tmp_path, CONFIG)
    assert (tmp_path / "run.h5").read_text() == "old"
    run_dir.claim(tmp_path, RunConfig(local_batch_size=4, overwrite=True)).close()
    assert sorted(os.listdir(tmp_path)) == [".lock", "notes.txt", "recipe.yaml"]


def test_a_run_that_is_gone_on_with_keeps_its_files(tmp_path: Path) -> None:
    old_run(tmp_path)
    run_dir.claim(tmp_path, RunConfig(local_batch_size=4, resume="auto", threads=2)).close()
    assert {"run.h5", "model.pt", "checkpoints"} <= set(os.listdir(tmp_path))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (RunConfig(local_batch_size=8, resume="auto"), "local_batch_size 4, not 8"),
        (RunConfig(local_batch_size=4, resume="auto", optimizer=OptimizerConfig(momentum=0.5)), "optimizer.momentum"),
    ],
)
def test_another_recipe_is_refused_by_its_key(tmp_path: Path, changed: RunConfig, words: str) -> None:
    old_run(tmp_path)
    with pytest.raises(UsageError, match=words):
        run_dir.claim(tmp_path, changed)


def test_two_jobs_do_not_share_a_directory(tmp_path: Path) -> None:
    again = RunConfig(local_batch_size=4, overwrite=True)
    with run_dir.claim(tmp_path, CONFIG):
        with pytest.raises(UsageError, match=f"in use by process {os.getpid()} on"):
            run_dir.claim(tmp_path, again)
    run_dir.claim(tmp_path, again).close()


def test_an_unwritable_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot write the run directory"):
        run_dir.claim(tmp_path / "file" / "x", CONFIG)
    assert os.listdir(tmp_path) == ["file"]


def test_half_made_parents_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_dir, "write_atomically", full)
    with pytest.raises(UsageError, match="No space left"):
        run_dir.claim(tmp_path / "a" / "b", CONFIG)
    assert os.listdir(tmp_path) == []


def test_a_view_is_saved_without_its_flat_buffer(tmp_path: Path) -> None:
    flat = torch.arange(1_000_000.0)
    run_dir.save_model(tmp_path / "model.pt", {"bias": flat[10:13]})
    assert (tmp_path / "model.pt").stat().st_size < 10_000
    loaded = torch.load(tmp_path / "model.pt", weights_only=True)
    assert loaded["bias"].tolist() == [10.0, 11.0, 12.0]
