"""Going on with a run for more steps, fewer, other ones, or with other data; and with keys that are free to change."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from hpcsgd.config import (
    CheckpointConfig,
    CommConfig,
    DataConfig,
    EvaluateConfig,
    LearningRateConfig,
    LogConfig,
    ModelConfig,
    RunConfig,
)
from hpcsgd.config.recipe import read_recipe
from hpcsgd.errors import CheckpointError, UsageError
from hpcsgd.record import load_run
from hpcsgd.run import checkpoint
from hpcsgd.run.checkpoint import find_checkpoints
from hpcsgd.train import run


def recipe(path: Path, **changes: object) -> RunConfig:
    """Two epochs of four steps, with a checkpoint after every third."""
    config = RunConfig(
        data=DataConfig(name="synthetic", synthetic_shape=(1, 4, 4), synthetic_train_samples=40),
        model=ModelConfig(widths=(8,)),
        local_batch_size=10,
        epochs=2,
        progress="none",
        threads=1,
        run_dir=str(path),
        checkpoint=CheckpointConfig(every_steps=3, background=False, keep=9),
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def refused(config: RunConfig, words: str) -> None:
    """It is refused, and no file is another."""
    before = files(Path(str(config.run_dir)))
    with pytest.raises(UsageError, match=words):
        run(replace(config, resume="auto"))
    assert files(Path(str(config.run_dir))) == before


def same_run(a: Path, b: Path) -> None:
    """Equal in every loss and parameter, and in what the epochs sum up to."""
    runs = [load_run(path) for path in (a, b)]
    models = [torch.load(path / "model.pt", weights_only=True) for path in (a, b)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[1])
    assert runs[0].iterations["loss"].tolist() == runs[1].iterations["loss"].tolist()
    columns = ["epoch", "step", "num_samples", "train_loss"]
    assert runs[0].epochs[columns].equals(runs[1].epochs[columns])
    assert runs[0].status == runs[1].status == "completed"


@pytest.mark.parametrize("first", [{"max_steps": 3}, {"max_steps": 5}, {"epochs": 1}, {"epochs": 1, "max_steps": 2}])
def test_a_finished_run_goes_on_for_more_steps_as_if_it_had_never_ended(tmp_path: Path, first: dict[str, int]) -> None:
    run(recipe(tmp_path / "run", **first))
    run(recipe(tmp_path / "run", resume="auto"))
    run(recipe(tmp_path / "whole"))
    same_run(tmp_path / "run", tmp_path / "whole")
    written = read_recipe(tmp_path / "run" / "recipe.yaml")
    assert (written["epochs"], written["max_steps"]) == (2, None)


@pytest.mark.parametrize("fails_at", [3, 6])
def test_a_checkpoint_that_cannot_be_written_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    sound = checkpoint._write_through

    def full(path: Path, content: bytes) -> None:
        if f"step-{fails_at:08d}" in str(path):
            path.write_bytes(content[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sound(path, content)

    monkeypatch.setattr(checkpoint, "_write_through", full)
    with pytest.raises(CheckpointError, match="No space left on device; those before it are whole"):
        run(recipe(tmp_path))
    left = ["step-00000003"] if fails_at == 6 else []
    assert [path.name for path in tmp_path.glob("checkpoints/*")] == left
    monkeypatch.undo()
    run(recipe(tmp_path, resume="auto"))
    run(recipe(tmp_path / "whole"))
    same_run(tmp_path, tmp_path / "whole")


def test_the_state_after_the_last_step_is_kept_where_any_is(tmp_path: Path) -> None:
    run(recipe(tmp_path / "a", max_steps=5))
    assert [kept.step for kept in find_checkpoints(tmp_path / "a")[0]] == [5, 3]
    run(recipe(tmp_path / "b", max_steps=5, checkpoint=CheckpointConfig()))
    assert not (tmp_path / "b" / "checkpoints").exists()


def test_a_run_killed_after_its_last_checkpoint_has_every_row(tmp_path: Path) -> None:
    """It ends amid an epoch, whose row is written last of all."""
    run(recipe(tmp_path / "run", max_steps=6))
    (tmp_path / "run" / "model.pt").unlink()
    run(recipe(tmp_path / "run", max_steps=6, resume="auto"))
    run(recipe(tmp_path / "whole", max_steps=6))
    same_run(tmp_path / "run", tmp_path / "whole")
    assert load_run(tmp_path / "run").epochs["num_samples"].tolist() == [40, 20]


def test_what_cannot_be_gone_on_with_is_said_and_changes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(recipe(path, max_steps=6))
    refused(recipe(path, max_steps=4), "has done 6 steps already, and max_steps 4 asks for 4")
    refused(recipe(path, epochs=1), "has done 6 steps already, and epochs 1 asks for 4")
    shutil.rmtree(path / "checkpoints")
    refused(recipe(path, max_steps=7), "complete after 6 steps, and 7 are asked for, but it has no checkpoint")
    (path / "model.pt").unlink()
    refused(recipe(path, max_steps=6), "its model.pt is not there, but it has no checkpoint")


def test_a_finished_run_keeps_its_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(recipe(tmp_path, max_steps=6))
    before = files(tmp_path)
    run(recipe(tmp_path, max_steps=6, threads=2, resume="auto", evaluate=EvaluateConfig(batch_size=7)))
    assert "is complete" in capsys.readouterr().err and files(tmp_path) == before


@pytest.mark.parametrize(
    ("rate", "allowed"),
    [
        (LearningRateConfig(), True),
        (LearningRateConfig(decay="step", milestones=(1.0, 2.5)), True),
        (LearningRateConfig(decay="linear", decay_epochs=2.0), True),
        (LearningRateConfig(decay="cosine"), False),
        (LearningRateConfig(decay="linear"), False),
    ],
)
def test_epochs_are_added_where_the_steps_done_had_the_same_rate(
    tmp_path: Path, rate: LearningRateConfig, allowed: bool
) -> None:
    run(recipe(tmp_path / "run", learning_rate=rate))
    longer = recipe(tmp_path / "run", learning_rate=rate, epochs=3)
    if not allowed:
        refused(longer, rf"made with epochs 2: with 3 the learning rate of step 1 .*{rate.decay}")
        return
    run(replace(longer, resume="auto"))
    run(recipe(tmp_path / "whole", learning_rate=rate, epochs=3))
    same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("finished", [True, False])
def test_other_data_is_refused(tmp_path: Path, finished: bool) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"some words are here " * 30)
    config = recipe(
        tmp_path / "run",
        max_steps=4,
        model=ModelConfig(name="lstm", embedding=4, hidden=4, layers=1),
        data=DataConfig(name="text", dir=str(text), sequence_length=10),
    )
    run(config)
    if not finished:
        shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000004")
        (tmp_path / "run" / "model.pt").unlink()
        (tmp_path / "run" / "run.h5").unlink()  # so that the checkpoint alone knows
    text.write_bytes(text.read_bytes()[:300])
    refused(replace(config, max_steps=6), "made with other data than this: here, train has 27 samples, not 54")
    elsewhere = str(tmp_path / "run" / "checkpoints" / "step-00000003")
    with pytest.raises(UsageError, match="other data"):
        run(replace(config, run_dir=str(tmp_path / "branch"), resume=elsewhere))
    assert not (tmp_path / "branch").exists()


def test_a_log_of_an_older_version_knows_the_number_of_its_samples(tmp_path: Path) -> None:
    run(recipe(tmp_path))
    with h5py.File(tmp_path / "run.h5", "r+") as log:
        log.attrs["provenance"] = '{"num_train_samples": 41, "total_steps": 8}'
    refused(recipe(tmp_path), "train has 40 samples, not 41")


def stopped(path: Path) -> None:
    """A run that was asked to stop after its third step."""
    run(recipe(path))
    for step in (6, 8):
        shutil.rmtree(path / "checkpoints" / f"step-{step:08d}")
    (path / "model.pt").unlink()
    with h5py.File(path / "run.h5", "r+") as log:
        log["status"][()] = np.bytes_("preempted")


def test_another_selection_of_ranks_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path)
    refused(recipe(tmp_path, log=LogConfig(ranks="summary")), "log.ranks 'all', not 'summary'")


def test_a_log_that_is_no_longer_written_is_put_aside_and_never_over_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(tmp_path)
    (tmp_path / "run-before-step-3.h5").write_text("of an earlier time")
    run(recipe(tmp_path, log=LogConfig(enabled=False), resume="auto"))
    assert (
        "put aside as" in (said := capsys.readouterr().err) and "run-before-step-3-2.h5: log.enabled is false" in said
    )
    assert (tmp_path / "run-before-step-3.h5").read_text() == "of an earlier time"
    assert len(load_run(tmp_path / "run-before-step-3-2.h5").iterations) == 8
    run(recipe(tmp_path, resume="auto", epochs=3))
    assert load_run(tmp_path).iterations["step"].tolist() == list(range(8, 12))


def test_keys_that_may_change_the_rounding_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopped(tmp_path)
    run(recipe(tmp_path, resume="auto", comm=CommConfig(bucket_bytes=4096), evaluate=EvaluateConfig(batch_size=9)))
    said = capsys.readouterr().err
    assert "goes on with comm.bucket_bytes 4096, not 4194304: its figures may differ in rounding" in said
    assert "evaluate" not in said


def test_a_state_of_another_device_is_taken_up(tmp_path: Path) -> None:
    """Of what only a GPU has, random stream and engine, nothing is needed on a CPU."""
    import hashlib
    import json

    stopped(tmp_path)
    folder = tmp_path / "checkpoints" / "step-00000003"
    state = torch.load(folder / "rank-00000.pt", weights_only=True)
    state["engine"], state["random"]["cuda"] = "graph", torch.zeros(16, dtype=torch.uint8)
    torch.save(state, folder / "rank-00000.pt")
    content = (folder / "rank-00000.pt").read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["ranks"] = [{"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    run(recipe(tmp_path, resume="auto"))
    run(recipe(tmp_path / "whole"))
    same_run(tmp_path, tmp_path / "whole")
