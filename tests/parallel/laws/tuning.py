"""``learners_per_rank: auto`` finds a number of learners on all ranks together, and leaves nothing else in the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch
from torch import Tensor

from hpcsgd.comm.communicator import Communicator
from hpcsgd.config import AlgorithmConfig, RunConfig, TunerConfig
from hpcsgd.data.batches import Batch
from hpcsgd.errors import UsageError
from hpcsgd.learners.engines import choose
from hpcsgd.learners.engines.base import Lap, no_lap
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.learners.tuner import chosen
from hpcsgd.record import load_run
from hpcsgd.run import tuning
from hpcsgd.run.build import build
from hpcsgd.run.parts import Parts
from hpcsgd.run.passes import forward_backward
from hpcsgd.run.tuning import tune
from hpcsgd.train import run
from tests.parallel.laws.common import assert_bits, stack
from tests.parallel.laws.learners import section_of
from tests.parallel.laws.registry import law
from tests.parallel.laws.resuming import assert_same_run, logged, shared_folder, stop_and_go_on

QUICK = TunerConfig(max_learners=4, windows=1, window_seconds=1e-6, threshold=0.0)


def tuned(comm: Communicator, folder: Path, name: str = "sma") -> RunConfig:
    """A run of ResNet-8 that finds its learners in a few steps."""
    config = logged(comm, "sync_sgd", "mpi", folder)
    data = replace(config.data, synthetic_train_samples=120)
    section = AlgorithmConfig(**section_of(name))
    return replace(
        config, data=data, algorithm=section, local_batch_size=2, learners_per_rank="auto", tuner=QUICK, max_steps=6
    )


@contextmanager
def rates(samples_per_second: Callable[[int], float]) -> Iterator[None]:
    """Inside, so many learners a rank take the time that they should; the steps are made all the same."""

    def window(self: tuning.Candidate, num_steps: int) -> float:
        seconds = real(self, num_steps)
        assert seconds > 0
        return num_steps * self.own / samples_per_second(self.own)

    real = tuning.Candidate.window
    with mock.patch.object(tuning.Candidate, "window", window):
        yield


@law(sizes=(1, 2, 3), name=["sync_sgd", "local_sgd", "sma"])
def a_tuned_run_is_to_the_bit_the_run_of_as_many_learners(comm: Communicator, name: str) -> None:
    with shared_folder(comm) as folder:
        with rates({1: 10, 2: 15, 4: 14, 3: 18}.__getitem__):
            run(tuned(comm, folder / "tuned", name), comm)
        ours = load_run(folder / "tuned") if comm.rank == 0 else None
        engine = comm.broadcast_object(ours.provenance["engine"] if ours is not None else "")
        fixed = replace(tuned(comm, folder / "fixed", name), learners_per_rank=3, engine=engine)
        run(fixed, comm)
        if ours is not None:
            assert_same_run(ours, load_run(folder / "fixed"))
            assert ours.provenance["learners_per_rank"] == 3
            assert ours.provenance["num_learners"] == 3 * comm.size
            assert ours.tuner["learners"].tolist() == [1, 2, 4, 3]
            assert ours.tuner["decision"].tolist() == ["start", "taken", "refused", "taken"]
            assert ours.tuner["against"].tolist() == [0, 1, 2, 2]
            torch.testing.assert_close(
                torch.tensor(ours.tuner["samples_per_second"]),
                torch.tensor([10.0, 15.0, 14.0, 18.0], dtype=torch.float64) * 2 * comm.size,
            )
            # The run's clock begins after the tuner.
            assert ours.iterations["start_seconds"].min() < 1


@law(sizes=(1, 2))
def times_that_are_real_decide_on_all_ranks_alike(comm: Communicator) -> None:
    with shared_folder(comm) as folder, build(tuned(comm, folder), comm) as parts:
        parts = tune(parts)
        assert parts.trials is not None
        assert len(set(map(str, comm.allgather_object(parts.trials)))) == 1
        best = chosen(parts.trials)
        assert len(parts.learners) == best.learners
        assert parts.engine.name == best.engine
        assert parts.plan.num_learners == best.learners * comm.size
        assert parts.plan.alpha == 0.1
        assert parts.loader.batch(0).sizes == [2] * best.learners
        # Every learner begins where the central model does.
        parts.algorithm.start()
        every = stack(comm, parts.learners.parameters).flatten(0, 1)
        assert_bits(every, every[:1].expand_as(every))


@law(sizes=(2, 3))
def alpha_follows_the_learners(comm: Communicator) -> None:
    with shared_folder(comm) as folder:
        config = tuned(comm, folder)
        config = replace(config, algorithm=replace(config.algorithm, alpha=None))
        with build(config, comm) as parts, rates(float):
            parts = tune(parts)
            assert parts.plan.alpha == 1 / (4 * comm.size)


@law(sizes=(2, 3))
def a_resumed_run_keeps_its_learners(comm: Communicator) -> None:
    with shared_folder(comm) as folder:
        config = tuned(comm, folder / "stopped")
        with rates({1: 10, 2: 15, 4: 14, 3: 18}.__getitem__):
            stop_and_go_on(comm, replace(config, max_steps=None), 0, 1, 3)
        # The engine too is that of the first start: timings might choose another one now.
        replay = replace(QUICK, replay=str(folder / "stopped"))
        run(replace(config, max_steps=None, run_dir=str(folder / "whole"), tuner=replay), comm)
        if comm.rank == 0:
            stopped, whole = (load_run(folder / name) for name in ("stopped", "whole"))
            assert_same_run(stopped, whole)
            assert stopped.segments["first_step"].tolist() == [0, 0, 1, 3]
            pd.testing.assert_frame_equal(stopped.tuner, whole.tuner)


@law(sizes=(2,))
def trials_of_another_run_can_be_replayed(comm: Communicator) -> None:
    with shared_folder(comm) as folder:
        with rates({1: 10, 2: 15, 4: 14, 3: 11}.__getitem__):
            run(tuned(comm, folder / "first"), comm)
        again = tuned(comm, folder / "second")
        with mock.patch.object(tuning, "Windows", side_effect=AssertionError("timed again")):
            run(replace(again, tuner=replace(QUICK, replay=str(folder / "first"))), comm)
        if comm.rank == 0:
            first, second = (load_run(folder / name) for name in ("first", "second"))
            assert_same_run(second, first)
            pd.testing.assert_frame_equal(first.tuner, second.tuner)
        try:
            run(replace(again, run_dir=str(folder / "third"), tuner=replace(QUICK, replay=str(folder))), comm)
        except UsageError as error:
            assert "no run log here" in str(error)
        else:
            raise AssertionError("replayed nothing")


class Hungry(LoopEngine):
    """Has memory for two learners."""

    def passes(self, batch: Batch, normalisers: Sequence[float], size: int, lap: Lap = no_lap) -> Tensor:
        if len(self.stack) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return super().passes(batch, normalisers, size, lap)


@law(sizes=(2, 3), engine=["loop", "auto"])
def a_rank_without_memory_stops_the_search_on_all(comm: Communicator, engine: str) -> None:
    last = comm.size - 1
    engines = {"loop": Hungry if comm.rank == last else LoopEngine}
    with shared_folder(comm) as folder, mock.patch.object(choose, "ON_CPU", engines):
        with build(replace(tuned(comm, folder), engine=engine), comm) as parts, rates(float):  # type: ignore[arg-type]
            parts = tune(parts)
            assert parts.trials is not None
            assert [(t.learners, t.decision) for t in parts.trials] == [
                (1, "start"),
                (2, "taken"),
                (4, "impossible"),
                (3, "impossible"),
            ]
            assert "out of memory" in parts.trials[2].reason
            assert len(parts.learners) == 2


@law(sizes=(2, 3), when=[2, 3])
def memory_that_runs_out_amid_a_window_hangs_nobody(comm: Communicator, when: int) -> None:
    calls = 0

    def passes(parts: Parts, *arguments: Any) -> Tensor:
        nonlocal calls
        if len(parts.learners) > 1 and comm.rank == comm.size - 1:
            calls += 1
            if calls % 10 == when:
                raise RuntimeError("not enough memory: you tried to allocate")
        return forward_backward(parts, *arguments)

    with shared_folder(comm) as folder, build(tuned(comm, folder), comm) as parts:
        with mock.patch.object(tuning, "forward_backward", passes):
            parts = tune(parts)
        assert parts.trials is not None
        assert [(t.learners, t.decision, t.reason) for t in parts.trials] == [
            (1, "start", ""),
            (2, "impossible", "out of memory"),
        ]
        assert len(parts.learners) == 1


@law(sizes=(2,))
def too_many_learners_for_the_data_are_impossible(comm: Communicator) -> None:
    with shared_folder(comm) as folder:
        config = tuned(comm, folder)
        data = replace(config.data, synthetic_train_samples=5, tail="wrap")
        with build(replace(config, data=data), comm) as parts, rates(float):
            parts = tune(parts)
            assert parts.trials is not None
            assert [t.decision for t in parts.trials] == ["start", "taken", "impossible", "impossible"]
            assert "8 learners cannot share 5 training samples" in parts.trials[2].reason
