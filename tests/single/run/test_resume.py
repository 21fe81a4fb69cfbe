"""Resuming in one process: what is said, and what becomes of the log."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hpcsgd.config import (
    AlgorithmConfig,
    CheckpointConfig,
    DataConfig,
    EvaluateConfig,
    LogConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
)
from hpcsgd.errors import DivergedError, UsageError
from hpcsgd.record import load_run
from hpcsgd.record.writer import RunLogWriter
from hpcsgd.run.checkpoint import Checkpoint, find_checkpoints
from hpcsgd.train import run

STEPS = 8


def recipe(path: Path, steps: int = STEPS) -> RunConfig:
    """A short run that keeps its state after every second step."""
    return RunConfig(
        data=DataConfig(name="synthetic", synthetic_shape=(1, 4, 4), synthetic_train_samples=40),
        model=ModelConfig(widths=(8,)),
        local_batch_size=10,
        epochs=2,
        max_steps=steps,
        progress="none",
        threads=1,
        run_dir=str(path),
        log=LogConfig(flush_steps=1),
        checkpoint=CheckpointConfig(every_steps=2, background=False, keep=4),
    )


def stopped(path: Path, whole: Path) -> RunConfig:
    """The run again, as it was after all steps, before it kept their state and came to its end."""
    run(recipe(whole))
    run(recipe(path))
    (path / "model.pt").unlink()
    shutil.rmtree(path / "checkpoints" / f"step-{STEPS:08d}")
    return replace(recipe(path), resume="auto")


def same_model(a: Path, b: Path) -> bool:
    models = [torch.load(path / "model.pt", weights_only=True) for path in (a, b)]
    return all(torch.equal(models[0][name], models[1][name]) for name in models[1])


def test_a_damaged_checkpoint_is_named_when_the_one_before_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = stopped(tmp_path / "run", tmp_path / "whole")
    file = tmp_path / "run" / "checkpoints" / "step-00000006" / "rank-00000.pt"
    file.write_bytes(file.read_bytes()[:-3])
    run(config)
    assert "not used" in (said := capsys.readouterr().err) and "step-00000006/rank-00000.pt is damaged" in said
    assert load_run(tmp_path / "run").segments["first_step"].tolist() == [0, 4]
    assert same_model(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("name", ["manifest.json", "rank-00000.pt"])
def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_again_unasked(tmp_path: Path, name: str) -> None:
    config = stopped(tmp_path / "run", tmp_path / "whole")
    for file in (tmp_path / "run" / "checkpoints").glob(f"*/{name}"):
        file.write_bytes(b"{")
    rows = len(load_run(tmp_path / "run").iterations)
    with pytest.raises(UsageError, match="no sound checkpoint .* overwrite"):
        run(config)
    assert len(load_run(tmp_path / "run").iterations) == rows


def test_without_its_log_a_run_goes_on_with_a_new_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = stopped(tmp_path / "run", tmp_path / "whole")
    (tmp_path / "run" / "run.h5").unlink()
    run(config)
    assert "run.h5 is not there: a new log begins with step 6" in capsys.readouterr().err
    log = load_run(tmp_path / "run")
    assert log.iterations["step"].tolist() == [6, 7]
    assert log.iterations["segment"].tolist() == [0, 0]
    assert same_model(tmp_path / "run", tmp_path / "whole")


def test_a_truncated_log_is_named_with_what_can_be_done(tmp_path: Path) -> None:
    config = stopped(tmp_path / "run", tmp_path / "whole")
    log = tmp_path / "run" / "run.h5"
    log.write_bytes(log.read_bytes()[:5000])
    with pytest.raises(UsageError, match="cannot go on with this log: .* move it away"):
        run(config)
    log.unlink()
    run(config)
    assert same_model(tmp_path / "run", tmp_path / "whole")


def test_a_checkpoint_is_gone_on_with_in_another_directory(tmp_path: Path) -> None:
    run(recipe(tmp_path / "whole"))
    shutil.copytree(tmp_path / "whole" / "checkpoints" / "step-00000004", tmp_path / "kept")
    run(replace(recipe(tmp_path / "branch"), resume=str(tmp_path / "kept")))
    assert load_run(tmp_path / "branch").iterations["step"].tolist() == [4, 5, 6, 7]
    assert same_model(tmp_path / "branch", tmp_path / "whole")


def test_a_checkpoint_of_version_0_1_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There parameters and momentum were the two halves of one tensor."""
    config = stopped(tmp_path / "run", tmp_path / "whole")
    sound = Checkpoint.load

    def load(self: Checkpoint, rank: int) -> dict[str, Any]:
        state = sound(self, rank)
        rows = state.pop("rows")
        return state | {"state": torch.cat([rows["parameters"], rows["momentum"]], dim=1)}

    monkeypatch.setattr(Checkpoint, "load", load)
    run(config)
    assert same_model(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("learners", [1, 2])
def test_moments_and_numbers_of_steps_are_gone_on_with(tmp_path: Path, learners: int) -> None:
    """The second averaging of the variance comes after the stop."""
    changes: dict[str, Any] = {
        "optimizer": OptimizerConfig(name="torch.optim.AdamW", init_args={"betas": [0.8, 0.9]}, clip_norm=1.0),
        "algorithm": AlgorithmConfig(name="local_sgd", sync_period=2, momentum_policy={"exp_avg_sq": "average:2"}),
        "learners_per_rank": learners,
        "local_batch_size": 5,
    }
    run(replace(recipe(tmp_path / "whole"), **changes))
    kept = tmp_path / "whole" / "checkpoints" / "step-00000002"
    run(replace(recipe(tmp_path / "branch"), resume=str(kept), **changes))
    assert same_model(tmp_path / "branch", tmp_path / "whole")


def test_a_run_killed_between_its_model_and_its_last_word_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(RunLogWriter, "set_status", lambda self, name: None)
    run(recipe(tmp_path / "run"))
    monkeypatch.undo()
    assert load_run(tmp_path / "run").status == "running" and (tmp_path / "run" / "model.pt").exists()
    run(replace(recipe(tmp_path / "run"), resume="auto"))
    assert load_run(tmp_path / "run").status == "completed"
    run(replace(recipe(tmp_path / "run"), resume="auto"))
    assert "is complete: there is nothing to go on with" in capsys.readouterr().err


def test_checkpoints_need_no_log(tmp_path: Path) -> None:
    silent = LogConfig(enabled=False, save_model=False)
    run(replace(recipe(tmp_path / "run"), log=silent, evaluate=EvaluateConfig(every_epochs=1)))
    assert [c.step for c in find_checkpoints(tmp_path / "run")[0]] == [8, 6, 4, 2]
    run(replace(recipe(tmp_path / "run"), log=LogConfig(), resume="auto"))
    run(recipe(tmp_path / "whole"))
    assert same_model(tmp_path / "run", tmp_path / "whole")


def test_what_is_not_finite_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the update of step 3 the parameters are bad; the losses up to there are not."""
    from hpcsgd.algorithms.local_sgd import LocalSGD

    sound = LocalSGD.step

    def step(self, number, rate, num_samples):  # type: ignore[no-untyped-def]
        done = sound(self, number, rate, num_samples)
        if number == 3:
            self.learners.parameters[0, 5] = float("nan")
        return done

    monkeypatch.setattr(LocalSGD, "step", step)
    with pytest.raises(DivergedError, match="before step 4: the state is not finite on rank 0"):
        run(recipe(tmp_path / "run"))
    assert [c.step for c in find_checkpoints(tmp_path / "run")[0]] == [2]
    assert load_run(tmp_path / "run").status == "diverged"
    with pytest.raises(DivergedError, match="before step 4: the state is not finite"):
        run(recipe(tmp_path / "last", steps=4))  # nothing is kept after the last step but the model


def test_a_log_that_cannot_be_written_ends_the_run_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hpcsgd.errors import DiskError

    sound = RunLogWriter.append_iterations

    def full(self, step, *columns):  # type: ignore[no-untyped-def]
        if step[-1] == 5:
            raise OSError(28, "No space left on device")
        sound(self, step, *columns)

    monkeypatch.setattr(RunLogWriter, "append_iterations", full)
    with pytest.raises(DiskError, match="cannot write .*run.h5: No space left on device; what was kept"):
        run(recipe(tmp_path / "run"))
    monkeypatch.undo()
    assert load_run(tmp_path / "run").iterations["step"].tolist() == [0, 1, 2, 3, 4]
    run(replace(recipe(tmp_path / "run"), resume="auto"))
    run(recipe(tmp_path / "whole"))
    assert same_model(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(
    "algorithm", [{"name": "local_sgd", "outer_step": "slow_momentum"}, {"name": "sma"}], ids=["slow", "sma"]
)
def test_a_run_goes_on_in_another_memory_order_and_back(tmp_path: Path, algorithm: dict[str, Any]) -> None:
    def recipe_of(name: str, steps: int, *, order: bool, resume: str = "none") -> RunConfig:
        return replace(
            recipe(tmp_path / name, steps),
            data=DataConfig(name="synthetic", synthetic_shape=(3, 12, 12), synthetic_train_samples=40),
            model=ModelConfig(name="lenet", channels_last=order),
            dtype="float64",
            algorithm=AlgorithmConfig(sync_period=2, **algorithm),
            resume=resume if resume == "none" else str(tmp_path / resume / "checkpoints" / f"step-{steps - 2:08d}"),
        )

    run(recipe_of("whole", 6, order=True))
    run(recipe_of("first", 2, order=True))
    run(recipe_of("other", 4, order=False, resume="first"))
    run(recipe_of("back", 6, order=True, resume="other"))
    whole, back = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "back"))
    for name, tensor in whole.items():
        torch.testing.assert_close(back[name], tensor, rtol=1e-9, atol=1e-12)
    # Without a further step, the same bits.
    run(replace(recipe_of("taken", 6, order=True, resume="other"), max_steps=4))
    assert same_model(tmp_path / "taken", tmp_path / "other")


def test_a_checkpoint_of_before_orders_were_said_has_that_of_the_axes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where now auto, which was not there, makes it another one."""
    config = replace(
        recipe(tmp_path / "first", 2),
        data=DataConfig(name="synthetic", synthetic_shape=(3, 12, 12), synthetic_train_samples=40),
        model=ModelConfig(name="lenet", channels_last=False),
    )
    run(config)
    sound = Checkpoint.load
    monkeypatch.setattr(
        Checkpoint, "load", lambda self, rank: {k: v for k, v in sound(self, rank).items() if k != "places"}
    )
    monkeypatch.setattr("hpcsgd.run.build.is_channels_last", lambda config, *_: config.model.channels_last == "auto")
    at = str(tmp_path / "first" / "checkpoints" / "step-00000002")
    taken = replace(config, run_dir=str(tmp_path / "taken"), resume=at)
    run(replace(taken, model=ModelConfig(name="lenet")))
    assert same_model(tmp_path / "taken", tmp_path / "first")
