"""A user's own data under mpirun: what one rank alone meets ends all, and is told."""

from __future__ import annotations

from pathlib import Path

from hpcsgd.record import load_run
from tests.parallel.ranks import mpirun

HERE = "tests.single.data.own.own_data"
WORDS = ("-m", "hpcsgd", "train", "--local_batch_size", "4", "--threads", "1")
LINEAR = ("--model", "torch.nn.Linear", "--model.init_args", "{in_features: 4, out_features: 3}")
FLOWS = (*WORDS, *LINEAR, "--data", f"{HERE}.flows", "--data.steps_per_epoch", "4")


def test_a_worker_that_fails_ends_all_ranks_with_its_traceback(tmp_path: Path) -> None:
    words = (*WORDS, "--run_dir", str(tmp_path / "run"), "--data.name", f"{HERE}.Files", "--data.workers", "1")
    done = mpirun(2, *words, "--data.init_args.bad", "8", "--epochs", "2")
    assert done.returncode == 1, done.stderr
    assert "sample 8 of the split train cannot be read" in done.stderr
    assert "OSError: row 8 is gone" in done.stderr
    assert "of 2 failed; the job ends" in done.stderr
    assert load_run(tmp_path / "run").status in ("failed", "running")


def test_ranks_with_workers_train_to_the_end(tmp_path: Path) -> None:
    losses = []
    for workers in ("2", "0"):
        path = tmp_path / workers
        words = (*WORDS, "--run_dir", str(path), "--data.name", f"{HERE}.Files", "--data.workers", workers)
        done = mpirun(2, *words, "--epochs", "2", "--algorithm.name", "local_sgd", "--algorithm.sync_period", "3")
        assert done.returncode == 0, done.stderr
        assert load_run(path).status == "completed"
        losses.append(load_run(path).iterations["loss"].tolist())
    assert losses[0] == losses[1]


def test_data_that_ends_at_different_steps_ends_all_ranks_together(tmp_path: Path) -> None:
    """Of 100 samples in steps of 4 a rank, the third rank has but 100/3 - 12, which are 5 batches."""
    words = (*FLOWS, "--run_dir", str(tmp_path / "run"))
    options = ("--algorithm.name", "local_sgd", "--algorithm.sync_period", "2", "--checkpoint.every_steps", "3")
    done = mpirun(3, *words, "--data.init_args.less", "6", "--epochs", "5", *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the data ended: the run ends after 5 steps") == 1
    log = load_run(tmp_path / "run")
    assert (log.status, sorted(set(log.iterations["step"]))) == ("completed", [*range(5)])
    assert sorted(set(log.evaluations["step"])) == [4, 5]


def test_equal_first_batches_are_refused(tmp_path: Path) -> None:
    words = (*FLOWS, "--run_dir", str(tmp_path / "run"))
    done = mpirun(2, *words, "--data.init_args.shared", "false")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("ranks 0, 1 begin with the same batch") == 1
    assert not (tmp_path / "run").exists()
