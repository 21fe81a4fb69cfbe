"""The command under mpirun: what it leaves, what it refuses, and how it ends when a rank fails."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hpcsgd.record import Run, load_run
from hpcsgd.record.frames import by_metric
from hpcsgd.record.schema import SPANS, TRAINING_SPANS
from tests.parallel.ranks import ROOT, TIMEOUT_SECONDS, command, environment, mpirun, train_words

FAILING_RANK = str(ROOT / "tests" / "parallel" / "failing_rank.py")


def refused(done: subprocess.CompletedProcess[str], run_dir: Path) -> str:
    """The one message of a refused run, with all that must hold for it."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not run_dir.exists()
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("hpcsgd: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def truncated_fashion_mnist(directory: Path) -> Path:
    """IDX files of which the first announces more images than it holds."""
    for name, count in (("train", 10), ("t10k", 2)):
        images = struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28) + bytes(count * 784)
        labels = struct.pack(">4BI", 0, 0, 8, 1, count) + bytes(count)
        (directory / f"{name}-images-idx3-ubyte").write_bytes(images[:-100] if name == "train" else images)
        (directory / f"{name}-labels-idx1-ubyte").write_bytes(labels)
    return directory


@pytest.mark.parametrize(
    ("num_ranks", "keys", "words"),
    [
        (3, {"algorithm.sync_perod": "8"}, ["algorithm.sync_perod", "algorithm.sync_period?"]),
        (2, {"epochs": "many"}, ["epochs", "many", "integer"]),
        (3, {"local_batch_size": "null", "global_batch_size": "64"}, ["64", "3 learners", "63 or 66"]),
        (2, {"data.name": "fashion_mnist", "data.dir": "/no/such/place"}, ["fashion_mnist", "/no/such/place", "fetch"]),
        (3, {"data.synthetic_train_samples": "2"}, ["3 learners", "2 training samples"]),
        (3, {"algorithm.name": "hierarchical_local_sgd", "algorithm.block_size": "2"}, ["block_size", "[1, 3]"]),
    ],
)
def test_mistakes_end_in_one_message(tmp_path: Path, num_ranks: int, keys: dict[str, str], words: list[str]) -> None:
    run_dir = tmp_path / "run"
    message = refused(mpirun(num_ranks, *train_words(run_dir, **keys)), run_dir)
    for word in words:
        assert word in message


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    data = truncated_fashion_mnist(tmp_path)
    words = train_words(tmp_path / "run", data__name="fashion_mnist", data__dir=str(data))
    message = refused(mpirun(2, *words), tmp_path / "run")
    assert "train-images-idx3-ubyte" in message and "truncated" in message


def test_an_unwritable_run_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    message = refused(mpirun(2, *train_words(tmp_path / "file" / "run")), tmp_path / "file" / "run")
    assert "cannot write the run directory" in message
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "launcher",
    [
        ["torchrun", "--nproc-per-node", "2", "--no-python"],
        ["mpirun", "--oversubscribe", "-n", "2", "env", "-u", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE=3"],
    ],
)
def test_ranks_that_do_not_see_each_other_are_refused_by_one(tmp_path: Path, launcher: list[str]) -> None:
    words = [*launcher, sys.executable, *train_words(tmp_path / "run")]
    done = subprocess.run(words, env=environment(PMI_RANK="0"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and not (tmp_path / "run").exists()
    assert "processes, but" in done.stderr and "start them by mpirun" in done.stderr


def test_a_run_from_python_has_the_name_of_rank_0_and_one_configuration(tmp_path: Path) -> None:
    program = """
import os, sys, time
from hpcsgd.comm.mpi import connect
from hpcsgd.config import CommConfig, DataConfig, RunConfig
from hpcsgd.errors import UsageError
from hpcsgd.train import run
data = DataConfig(name="synthetic", synthetic_train_samples=64, synthetic_test_samples=8)
comm = connect(CommConfig())
time.sleep(1.2 * comm.rank)  # another second of the clock
config = RunConfig(local_batch_size=8, max_steps=2, progress="none", data=data)
path = run(config, comm).path
assert path is not None and comm.allgather_object(str(path)) == [str(path)] * 2
try:
    run(RunConfig(local_batch_size=8, max_steps=2, seed=comm.rank, data=data), comm)
except UsageError as error:
    assert "seed is 0 on rank 0, 1 on rank 1" in str(error), error
else:
    sys.exit("not refused")
"""
    done = subprocess.run(
        command(2, "-c", program), env=environment(PYTHONPATH=str(ROOT)), cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(os.listdir(tmp_path / "runs")) == 1


@pytest.mark.parametrize(("how", "code"), [("raise", 1), ("exit", 3)])
def test_one_rank_that_fails_ends_the_job(tmp_path: Path, how: str, code: int) -> None:
    words = train_words(tmp_path / "run", epochs="1000")
    done = mpirun(3, FAILING_RANK, *words[2:], FAIL_RANK="2", FAIL_STEP="5", FAIL_HOW=how)
    assert done.returncode == code
    assert "hpcsgd: rank 2 of 3 failed" in done.stderr
    assert ("RuntimeError: deliberate fault" if how == "raise" else "SystemExit: 3") in done.stderr
    assert load_run(tmp_path / "run").status in ("running", "failed")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of post-local SGD on 3 ranks, uneven tail, with BatchNorm."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    keys = {
        "model__name": "resnet8",
        "data__synthetic_shape": "[3,8,8]",
        "data__synthetic_train_samples": "100",
        "data__tail": "keep",
        "epochs": "3",
        "algorithm__name": "post_local_sgd",
        "algorithm__sync_period": "2",
        "algorithm__local_start": "epoch:1",
        "evaluate__splits": "[train,test]",
        "log__flush_steps": "4",
    }
    done = mpirun(3, *train_words(run_dir, **keys))
    assert done.returncode == 0, done.stderr
    return load_run(run_dir)


def test_every_rank_and_iteration_is_in_the_log(finished: Run) -> None:
    steps = 3 * 9  # 100 samples in batches of 12, the last one of 4
    log = finished.iterations
    assert finished.status == "completed"
    assert len(log) == steps * 3
    assert log.groupby("step")["rank"].apply(list).map(lambda ranks: ranks == [0, 1, 2]).all()
    assert log.groupby("epoch")["num_samples"].sum().tolist() == [100, 100, 100]
    assert sorted(log[log["step"] == 8]["num_samples"]) == [1, 1, 2]
    assert np.isfinite(log["loss"]).all()


def test_the_log_says_what_was_synchronised(finished: Run) -> None:
    actions = finished.iterations.drop_duplicates("step").set_index("step")["action"]
    assert actions[:9].eq("gradient").all()
    assert actions[9:].tolist() == ["none", "global"] * 9
    sizes = finished.iterations.drop_duplicates("step").groupby("action")["sync_bytes"].unique()
    assert sizes["none"].tolist() == [0]
    assert sizes["gradient"].tolist() == sizes["global"].tolist()
    assert sizes["global"][0] >= 4 * finished.provenance["num_parameters"]


def test_synchronisations_have_a_beginning_and_an_end(finished: Run) -> None:
    log = finished.iterations
    synchronised = log["action"] != "none"
    assert log.loc[~synchronised, ["sync_enter_seconds", "sync_exit_seconds"]].isna().all().all()
    enter, leave = log["sync_enter_seconds"][synchronised], log["sync_exit_seconds"][synchronised]
    assert (leave > enter).all()
    assert (enter >= log["start_seconds"][synchronised]).all()
    # Nobody leaves before the last one has entered: one clock for all ranks.
    offset_error = finished.ranks["clock_error_seconds"].max()
    by_step = log[synchronised].groupby("step")
    assert (by_step["sync_exit_seconds"].min() + 2 * offset_error >= by_step["sync_enter_seconds"].max()).all()


def test_spans_leave_no_gap(finished: Run) -> None:
    log = finished.iterations
    gap = (log["wall_seconds"] - log[[column.name for column in SPANS]].sum(axis=1)).abs()
    within = gap <= np.maximum(0.02 * log["wall_seconds"], 50e-6)
    # A busy machine may take the processor away between two stamps; that cannot happen often.
    assert within.mean() >= 0.9
    one_rank = log[log["rank"] == 1].sort_values("step")
    between_starts = one_rank["start_seconds"].diff()[1:]
    np.testing.assert_allclose(between_starts, one_rank["wall_seconds"].shift()[1:], rtol=0.02, atol=1e-3)


def test_clocks_of_record_are_the_maximum_over_ranks(finished: Run) -> None:
    log = finished.iterations
    spans = list(TRAINING_SPANS)
    train = log.assign(train=log[spans].sum(axis=1)).groupby(["epoch", "rank"])["train"].sum()
    np.testing.assert_allclose(finished.epochs["train_seconds"], train.groupby("epoch").max(), rtol=1e-12)
    total = log.assign(train=log[spans].sum(axis=1)).groupby("rank")["train"].sum().max()
    assert finished.evaluations["train_seconds"].iloc[-1] == pytest.approx(total, rel=1e-12)
    evaluations = by_metric(finished.evaluations)
    assert evaluations["split"].tolist() == ["train", "test"] * 3
    assert evaluations["num_samples"].tolist() == [100, 30] * 3


def test_a_run_killed_in_the_middle_keeps_what_was_flushed(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    words = train_words(run_dir, epochs="100000", log__flush_steps="5", evaluate__every_epochs="0")
    job = subprocess.Popen(
        command(3, *words), env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        seen = wait_for_rows(run_dir, 60)
        for pid in seen.ranks["pid"]:
            os.kill(int(pid), signal.SIGKILL)
        job.wait(TIMEOUT_SECONDS)
    finally:
        job.kill()
    left = load_run(run_dir)
    assert job.returncode != 0
    assert left.status == "running"
    assert left.iterations["step"].max() >= seen.iterations["step"].max()
    both = left.iterations.iloc[: len(seen.iterations)]
    assert both["loss"].tolist() == seen.iterations["loss"].tolist()
    assert left.iterations["loss"].notna().all()


def wait_for_rows(run_dir: Path, count: int) -> Run:
    """Read the log of a run that goes on, again and again, until it has ``count`` rows."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if (run_dir / "run.h5").exists():
            run = load_run(run_dir)
            if len(run.iterations) >= count:
                return run
        time.sleep(0.05)
    raise AssertionError(f"no {count} rows in {TIMEOUT_SECONDS} s")
