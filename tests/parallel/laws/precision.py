"""Passes in fewer bits: the laws of the algorithms hold as far as these bits go, and a step that overflows is nobody's.

bfloat16 rounds a gradient by up to 2^-9 of its size, and parts of a sum that were rounded first give another one. In
nine steps at a rate of 0.05 with momentum 0.9, gradients of order one move parameters by up to 3 in all: what these
steps round may add up to 3 * 2^-9, and what it does to the steps after it, where values change sign before a ReLU, to
several times that.
"""

from __future__ import annotations

import math
from dataclasses import replace
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from hpcsgd.comm.communicator import Communicator, SingleCommunicator
from hpcsgd.config import RunConfig
from hpcsgd.data.batches import Batch
from hpcsgd.record import load_run
from hpcsgd.run.parts import Parts
from hpcsgd.run.passes import forward_backward
from hpcsgd.train import run
from tests.parallel.laws.common import algorithm_named, assert_close, built, make_config, num_versions, train, vector
from tests.parallel.laws.registry import law
from tests.parallel.laws.resuming import assert_same_run, logged, shared_folder, stop_and_go_on

TOLERANCE = 2.0**-6
SAMPLES = {"synthetic_train_samples": 120}


def few_bits(precision: str = "bfloat16", **changes: object) -> RunConfig:
    """The base with passes in few bits, masters of float32 and gradients of one order."""
    return replace(make_config(**changes), dtype="float32", precision=precision)


def learners(config: RunConfig, comm: Communicator) -> Tensor:
    """The parameters of all learners of all ranks after all steps, [k, P]."""
    with built(config, comm) as parts:
        train(parts)
        assert num_versions(comm, vector(parts.replica.module)) == 1 or parts.config.algorithm.name != "sync_sgd"
        return torch.from_numpy(np.concatenate(comm.allgather_object(parts.learners.parameters.numpy())))


@law(sizes=(1, 2))
def ranks_equal_one_process_as_far_as_bfloat16_goes(comm: Communicator) -> None:
    ours = learners(few_bits(), comm)[:1]
    alone = few_bits(local_batch_size=3 * comm.size)
    theirs = learners(alone, SingleCommunicator())
    assert_close(ours, theirs, TOLERANCE)
    exact = learners(replace(alone, precision="float32"), SingleCommunicator())
    assert_close(ours, exact, 4 * TOLERANCE)
    assert (ours - exact).abs().max() > 1e-4, "nothing was rounded: float32 has taken the passes"


@law(sizes=(2,), name=["local_sgd", "sma"])
def learners_equal_ranks_as_far_as_bfloat16_goes(comm: Communicator, name: str) -> None:
    section = {"name": "sma", "alpha": 0.1} if name == "sma" else algorithm_named(name, 1)
    config = replace(few_bits(algorithm=section, data=SAMPLES), engine="loop")
    ours = learners(replace(config, learners_per_rank=2), comm)
    theirs = learners(replace(config, learners_per_rank=2 * comm.size), SingleCommunicator())
    assert_close(ours, theirs, TOLERANCE)


@law(sizes=(2,), precision=["bfloat16", "float16"])
def a_stopped_run_in_few_bits_ends_with_the_same_bits(comm: Communicator, precision: str) -> None:
    with shared_folder(comm) as folder:
        config = logged(comm, "local_sgd", "mpi", folder / "whole")
        model = few_bits().model if precision == "float16" else config.model
        config = replace(config, precision=precision, model=model)
        with mock.patch("hpcsgd.train.forward_backward", Planted(2)):
            run(config, comm)
            stop_and_go_on(comm, replace(config, run_dir=str(folder / "stopped")), 3, 5)
        if comm.rank == 0:
            whole, stopped = load_run(folder / "whole"), load_run(folder / "stopped")
            assert_same_run(stopped, whole)
            scales = [log.iterations["loss_scale"].to_numpy() for log in (whole, stopped)]
            np.testing.assert_array_equal(*scales)
            assert (scales[0][-1] == 2.0**15) if precision == "float16" else np.isnan(scales[0]).all()


class Planted:
    """In the place of the passes: the same, and in one of them an overflow on the last rank, where losses are scaled.

    Attributes:
        kept: parameters before the update of that step, and before that of the next.
    """

    def __init__(self, at: int) -> None:
        """Let the step ``at`` overflow."""
        self.at = at
        self.kept: list[Tensor] = []

    def __call__(self, parts: Parts, step: int, batch: Batch) -> Tensor:
        """See :func:`~hpcsgd.run.passes.forward_backward`."""
        if step in (self.at, self.at + 1):
            self.kept.append(parts.learners.parameters.clone())
        loss = forward_backward(parts, step, batch)
        if step == self.at and parts.comm.rank == parts.comm.size - 1 and parts.config.precision == "float16":
            parts.learners.gradients[-1, 3] = math.inf
            loss = loss + math.inf
        return loss


@law(sizes=(3,), name=["sync_sgd", "local_sgd", "sma"])
def a_step_that_overflows_on_one_rank_is_left_out_by_all(comm: Communicator, name: str) -> None:
    """And is no failure, though its gradient and its loss are not finite; of local steps, one without an averaging."""
    section = {"name": "sma", "alpha": 0.1, "sync_period": 2} if name == "sma" else algorithm_named(name, 1)
    with shared_folder(comm) as folder:
        config = few_bits(
            "float16", algorithm=section, data=SAMPLES, comm={"overlap": None if name == "sma" else False}
        )
        config = replace(
            config, learners_per_rank=2, run_dir=str(folder / "run"), log=logged(comm, name, "mpi", folder).log
        )
        planted = Planted(4)
        with mock.patch("hpcsgd.train.forward_backward", planted):
            run(config, comm)
        before, after = planted.kept
        assert torch.equal(before, after)
        assert all(comm.allgather_object(bool(torch.isfinite(after).all())))
        if comm.rank == 0:
            log = load_run(folder / "run")
            assert log.status == "completed"
            assert log.provenance["precision"]["compute"] == "float16"
            scales = log.iterations.groupby("step")["loss_scale"].unique().explode().tolist()
            assert scales == [2.0**16] * 4 + [0.0] + [2.0**15] * (len(scales) - 5)


@law(sizes=(2,))
def a_compiled_run_that_is_stopped_ends_with_the_bits_of_one_that_is_neither(comm: Communicator) -> None:
    with shared_folder(comm) as folder:
        config = replace(logged(comm, "sync_sgd", "mpi", folder / "whole"), model=few_bits().model)
        run(config, comm)
        compiled = replace(config, compile=True, compile_backend="aot_eager", run_dir=str(folder / "stopped"))
        stop_and_go_on(comm, compiled, 4)
        assert counters["stats"]["unique_graphs"] > 0
        if comm.rank == 0:
            whole, stopped = load_run(folder / "whole"), load_run(folder / "stopped")
            assert_same_run(stopped, whole)
            assert (stopped.segments["compile_seconds"] > 0).tolist() == [True, True]
