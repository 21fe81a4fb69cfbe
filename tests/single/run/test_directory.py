"""Run directories: whole or not there, and of one job at a time."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hpcsgd.config import CommConfig, OptimizerConfig, RunConfig
from hpcsgd.errors import UsageError
from hpcsgd.run import directory as run_dir

CONFIG = RunConfig(local_batch_size=4)


def begin(path: Path, config: RunConfig = CONFIG) -> None:
    """Do all that a run does to its directory at its start."""
    with run_dir.claim(path, config) as claimed:
        claimed.begin()
        claimed.settle()


def tree(path: Path) -> dict[str, str]:
    """All files below a directory with their contents; an empty directory is one, too."""
    every = sorted(path.rglob("*"))
    return {str(p.relative_to(path)): p.read_text() if p.is_file() else "" for p in every}


def old_run(path: Path) -> None:
    """Fill a directory with a run and something of the user's."""
    begin(path)
    for name in ("run.h5", "model.pt", "notes.txt"):
        (path / name).write_text("old")
    (path / "checkpoints" / "step-00000004").mkdir(parents=True)


def test_creates_parents_and_the_recipe(tmp_path: Path) -> None:
    with run_dir.claim(tmp_path / "a" / "b", CONFIG) as claimed:
        claimed.begin()
        assert "local_batch_size: 4" in (tmp_path / "a" / "b" / "recipe.yaml").read_text()


def test_a_run_is_replaced_only_when_asked(tmp_path: Path) -> None:
    old_run(tmp_path)
    with pytest.raises(UsageError, match="holds a run already .*resume: auto"):
        run_dir.claim(tmp_path, CONFIG)
    assert (tmp_path / "run.h5").read_text() == "old"
    begin(tmp_path, RunConfig(local_batch_size=4, overwrite=True))
    assert sorted(os.listdir(tmp_path)) == [".lock", "notes.txt", "recipe.yaml"]


def test_a_run_that_is_gone_on_with_keeps_its_files(tmp_path: Path) -> None:
    old_run(tmp_path)
    begin(tmp_path, RunConfig(local_batch_size=4, resume="auto", threads=2))
    assert {"run.h5", "model.pt", "checkpoints"} <= set(os.listdir(tmp_path))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (RunConfig(local_batch_size=8, resume="auto"), "local_batch_size 4, not 8"),
        (RunConfig(local_batch_size=4, resume="auto", optimizer=OptimizerConfig(momentum=0.5)), "optimizer.momentum"),
        (RunConfig(local_batch_size=4, resume="auto", comm=CommConfig(gradient_wire="bfloat16")), "comm.gradient_wire"),
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


def test_the_loser_of_a_race_leaves_the_winner_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both jobs found no directory; the other made and locked it first."""
    path = tmp_path / "run"
    with run_dir.claim(path, CONFIG):
        sound = Path.exists
        monkeypatch.setattr(Path, "exists", lambda self: self != path and sound(self))
        with pytest.raises(UsageError, match="in use by"):
            run_dir.claim(path, CONFIG)
        monkeypatch.undo()
        assert os.listdir(path) == [".lock"]


def test_a_checkpoint_of_another_run_does_not_change_a_run_that_is_there(tmp_path: Path) -> None:
    old_run(tmp_path / "a")
    elsewhere = RunConfig(local_batch_size=4, resume=str(tmp_path / "b" / "checkpoints" / "step-00000004"))
    with pytest.raises(UsageError, match="holds a run already"):
        run_dir.claim(tmp_path / "a", elsewhere)
    assert (tmp_path / "a" / "run.h5").read_text() == "old"
    own = str(tmp_path / "a" / "checkpoints" / "step-00000004")
    begin(tmp_path / "a", RunConfig(local_batch_size=4, resume=own))
    with pytest.raises(UsageError, match="local_batch_size 4, not 8"):
        run_dir.claim(tmp_path / "a", RunConfig(local_batch_size=8, resume=own))


def test_a_file_system_without_locks_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unsupported)
    run_dir.claim(tmp_path / "run", CONFIG).close()
    assert "cannot be locked (Function not implemented)" in capsys.readouterr().err


def test_an_unwritable_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot write the run directory"):
        run_dir.claim(tmp_path / "file" / "x", CONFIG)
    assert os.listdir(tmp_path) == ["file"]


def test_half_made_parents_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_dir, "write_whole", full)
    with pytest.raises(UsageError, match="No space left"):
        begin(tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == []


def test_nothing_is_changed_before_all_is_decided(tmp_path: Path) -> None:
    old_run(tmp_path / "run")
    before = tree(tmp_path)
    for config in (
        RunConfig(local_batch_size=4, overwrite=True),
        RunConfig(local_batch_size=4, resume="auto", max_steps=9),
    ):
        with run_dir.claim(tmp_path / "run", config):
            pass
        assert tree(tmp_path) == before
    with run_dir.claim(tmp_path / "new" / "run", CONFIG) as claimed:
        claimed.begin()  # and then the log could not be made
    assert tree(tmp_path) == before


@pytest.mark.parametrize("changed", [{}, {"overwrite": True}, {"resume": "auto"}])
@pytest.mark.parametrize("name", ["model.pt", "run.h5", "checkpoints/step-1.ckpt", "recipe.yaml"])
def test_what_is_no_run_of_ours_is_left_alone(tmp_path: Path, name: str, changed: dict[str, object]) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("name: mine")
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=name.partition("/")[0]):
        run_dir.claim(tmp_path, replace(CONFIG, **changed))  # type: ignore[arg-type]
    assert tree(tmp_path) == before


def test_an_older_recipe_is_taken_with_defaults_and_a_newer_one_is_named(tmp_path: Path) -> None:
    begin(tmp_path)
    text = (tmp_path / "recipe.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(text[: text.index("tuner:")])
    begin(tmp_path, replace(CONFIG, resume="auto"))
    assert "tuner:" in (tmp_path / "recipe.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(f"{text}warp: 9\n")
    with pytest.raises(UsageError, match="the key warp, which this version .* does not know"):
        run_dir.claim(tmp_path, replace(CONFIG, resume="auto"))


def test_a_name_that_no_file_system_takes_is_said_in_short(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write the run directory .*: File name too long") as refused:
        run_dir.claim(tmp_path / ("x" * 300), CONFIG)
    assert len(str(refused.value)) < 300 and os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_leaves_a_run_that_is_there_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    old_run(tmp_path / "run")
    before = tree(tmp_path)

    def fail(path: Path, content: bytes) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_dir, "write_whole", fail)
    with pytest.raises(UsageError, match=f"cannot write .*recipe.yaml: {os.strerror(number)}"):
        begin(tmp_path / "run", RunConfig(local_batch_size=4, resume="auto", max_steps=9))
    assert tree(tmp_path) == before


def test_what_a_killed_process_left_goes_when_the_run_goes_on(tmp_path: Path) -> None:
    old_run(tmp_path)
    for name in (".recipe.yaml.77", "run.h5.resumed", ".run.h5.resumed.77", ".mine.77"):
        (tmp_path / name).touch()
    begin(tmp_path, RunConfig(local_batch_size=4, resume="auto"))
    assert sorted(os.listdir(tmp_path)) == [
        ".lock", ".mine.77", "checkpoints", "model.pt", "notes.txt", "recipe.yaml", "run.h5"
    ]  # fmt: skip


def test_a_lock_that_was_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that came to nothing removed the file between our opening and locking it; a third one may make another."""
    import fcntl

    lock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        (tmp_path / ".lock").unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UsageError, match="was in use by another job until now"):
        run_dir.claim(tmp_path, CONFIG)


def test_a_view_is_saved_without_its_flat_buffer(tmp_path: Path) -> None:
    flat = torch.arange(1_000_000.0)
    run_dir.save_model(tmp_path / "model.pt", {"bias": flat[10:13]})
    assert (tmp_path / "model.pt").stat().st_size < 10_000
    loaded = torch.load(tmp_path / "model.pt", weights_only=True)
    assert loaded["bias"].tolist() == [10.0, 11.0, 12.0]


def test_a_run_without_a_name_of_its_own_gets_the_next_that_is_free(tmp_path: Path) -> None:
    config = RunConfig(local_batch_size=1)
    names = []
    for _ in range(3):
        with run_dir.claim_new(tmp_path / "runs" / "x", config) as claimed:
            assert claimed.path is not None
            names.append(claimed.path.name)
            claimed.begin()
            claimed.settle()
            assert f"run_dir: {claimed.path}" in (claimed.path / "recipe.yaml").read_text()
    assert names == ["x", "x-2", "x-3"]


def test_several_jobs_at_the_same_moment_get_a_directory_each(tmp_path: Path) -> None:
    config = RunConfig(local_batch_size=1)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _: run_dir.claim_new(tmp_path / "x", config), range(8)))
    assert len({claimed.path for claimed in claims}) == 8
    for claimed in claims:
        claimed.close()


def test_a_new_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write the run directory"):
        run_dir.claim_new(tmp_path / "file" / "x", RunConfig(local_batch_size=1))
    assert os.listdir(tmp_path) == ["file"]
