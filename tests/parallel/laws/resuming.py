"""A run that was stopped and resumed is, to the last bit, the run that was not."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch

from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.stop import StopRequest
from hpcsgd.config import CheckpointConfig, EvaluateConfig, LogConfig, OptimizerConfig, RunConfig
from hpcsgd.errors import Preempted, UsageError
from hpcsgd.record import Run, load_run
from hpcsgd.record.schema import EPOCH_COLUMNS, EVALUATION_COLUMNS
from hpcsgd.train import run
from tests.parallel.laws.common import ALGORITHMS, ALLREDUCES, BASE, algorithm_named, make_config
from tests.parallel.laws.registry import law

TIMES = [c.name for c in (*EPOCH_COLUMNS, *EVALUATION_COLUMNS) if c.unit == "s"]


def logged(comm: Communicator, name: str, allreduce: str, folder: Path) -> RunConfig:
    """A run of ResNet-8, with BatchNorm and momentum, that keeps a log in ``folder``."""
    config = make_config(
        algorithm=algorithm_named(name, comm.size),
        model={"name": "resnet8"},
        data={"synthetic_shape": (1, 8, 8), "synthetic_train_samples": 45, "tail": "keep"},
        comm={"allreduce": allreduce, "bucket_bytes": 65536, "chunk_bytes": 65536},
    )
    return replace(
        config,
        dtype="float32",
        run_dir=str(folder),
        evaluate=EvaluateConfig(batch_size=8),
        log=LogConfig(flush_steps=3),
        checkpoint=CheckpointConfig(background=False),
    )


@contextmanager
def stopping_at(stop: int | None) -> Iterator[None]:
    """Inside, the ranks agree to stop before the step ``stop``."""
    with mock.patch.object(StopRequest, "agreed", lambda self, step: step == stop):
        yield


@contextmanager
def shared_folder(comm: Communicator) -> Iterator[Path]:
    """A temporary directory that all ranks know."""
    folder = Path(comm.broadcast_object(tempfile.mkdtemp() if comm.rank == 0 else ""))
    try:
        yield folder
        comm.barrier()
    finally:
        if comm.rank == 0:
            shutil.rmtree(folder)


def stop_and_go_on(comm: Communicator, config: RunConfig, *stops: int) -> None:
    """Run, stop before each of ``stops``, resume each time, to the end."""
    for stop in stops:
        with stopping_at(stop):
            try:
                run(replace(config, resume="auto"), comm)
            except Preempted:
                continue
        raise AssertionError(f"the run did not stop before step {stop}")
    run(replace(config, resume="auto"), comm)


def assert_same_run(got: Run, expected: Run) -> None:
    """Equal rows, but for times and the segment; equal final models."""
    columns = ["step", "rank", "epoch", "learning_rate", "action", "sync_bytes", "loss", "num_samples"]
    pd.testing.assert_frame_equal(got.iterations[columns], expected.iterations[columns], check_exact=True)
    for table in ("epochs", "evaluations"):
        ours, theirs = (getattr(log, table).drop(columns=TIMES, errors="ignore") for log in (got, expected))
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    models = [torch.load(log.path.parent / "model.pt", weights_only=True) for log in (got, expected)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[1])


@law(sizes=(2, 3))
def a_stopped_run_around_a_central_model_ends_with_the_same_bits(comm: Communicator) -> None:
    a_stopped_run_ends_with_the_same_bits(comm, "sma", "mpi")


@law(sizes=(2,))
def a_stopped_run_by_layers_ends_with_the_same_bits(comm: Communicator) -> None:
    a_stopped_run_ends_with_the_same_bits(comm, "post_local_sgd", "mpi", OptimizerConfig(name="lamb", weight_decay=0.1))


@law(sizes=(2,))
def a_stopped_run_with_an_averaging_under_way_ends_with_the_same_bits(comm: Communicator) -> None:
    # Before step 8, that which began after step 7.
    a_stopped_run_ends_with_the_same_bits(comm, "diloco", "mpi")


@law(sizes=(2, 3), name=ALGORITHMS, allreduce=ALLREDUCES)
def a_stopped_run_ends_with_the_same_bits(
    comm: Communicator, name: str, allreduce: str, optimizer: OptimizerConfig = BASE.optimizer
) -> None:
    with shared_folder(comm) as folder:
        configs = (logged(comm, name, allreduce, folder / kind) for kind in ("whole", "stopped"))
        through, interrupted = (replace(config, optimizer=optimizer) for config in configs)
        run(through, comm)
        # Inside of local windows and of epochs, and (before step 5, with 3 ranks) at the end of one.
        stop_and_go_on(comm, interrupted, 3, 5, 8)
        if comm.rank == 0:
            whole, stopped = load_run(folder / "whole"), load_run(folder / "stopped")
            assert_same_run(stopped, whole)
            assert stopped.status == "completed"
            assert stopped.segments["first_step"].tolist() == [0, 3, 5, 8]
            assert (np.diff(stopped.iterations.groupby("step")["start_seconds"].min()) > 0).all()


@law(sizes=(2, 3))
def a_damaged_checkpoint_is_passed_over(comm: Communicator) -> None:
    with shared_folder(comm) as folder:
        config = logged(comm, "local_sgd", "mpi", folder / "stopped")
        run(replace(config, run_dir=str(folder / "whole")), comm)
        for stop in (3, 8):
            with stopping_at(stop):
                try:
                    run(replace(config, resume="auto"), comm)
                except Preempted:
                    continue
        if comm.rank == comm.size - 1:
            file = folder / "stopped" / "checkpoints" / "step-00000008" / f"rank-{comm.rank:05d}.pt"
            file.write_bytes(file.read_bytes()[:-10])
        comm.barrier()
        run(replace(config, resume="auto"), comm)
        if comm.rank == 0:
            stopped = load_run(folder / "stopped")
            assert stopped.segments["first_step"].tolist() == [0, 3]
            assert_same_run(stopped, load_run(folder / "whole"))


@law(sizes=(2, 3))
def a_run_is_resumed_with_its_own_recipe(comm: Communicator) -> None:
    with shared_folder(comm) as folder:
        config = logged(comm, "sync_sgd", "mpi", folder / "run")
        with stopping_at(4):
            try:
                run(config, comm)
            except Preempted as error:
                assert "after 4 steps" in str(error)
        for changed in (replace(config, seed=6), replace(config, optimizer=replace(config.optimizer, momentum=0.5))):
            try:
                run(replace(changed, resume="auto"), comm)
            except UsageError as error:
                assert "a run is resumed with the recipe that it began with" in str(error)
            else:
                raise AssertionError("another recipe was accepted")
        run(replace(config, resume="auto"), comm)
