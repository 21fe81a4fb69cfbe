"""What the collector makes of an iteration's figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hpcsgd.algorithms.base import Synchronisation
from hpcsgd.algorithms.schedule import Action
from hpcsgd.comm.communicator import SingleCommunicator
from hpcsgd.comm.guard import FiniteGuard
from hpcsgd.config import LogConfig
from hpcsgd.errors import DivergedError
from hpcsgd.record import load_run
from hpcsgd.record.clocks import Clocks
from hpcsgd.record.collector import Collector
from hpcsgd.record.timer import HostClock, StepTimer
from hpcsgd.record.utilisation import Sampler
from tests.single.record import log_samples


def make_collector(timer: StepTimer, device: torch.device, comm: SingleCommunicator) -> Collector:
    """One that keeps no log."""
    sampler = Sampler(0.0, torch.device("cpu"), 1)
    config = LogConfig(enabled=False)
    clocks, watch = Clocks(1, 10), comm.watchdog.watch
    return Collector(config, comm.gather, timer, device, None, clocks, np.array, np.array, sampler, watch=watch)


def test_a_wait_for_the_gpu_at_a_gather_is_watched() -> None:
    comm = SingleCommunicator()
    seen: list[str] = []

    class Clock(HostClock):
        def seconds(self, stamps: Sequence[Sequence[float]]) -> NDArray[np.float64]:
            seen.extend(name for name, _ in comm.watchdog._present.values())
            return super().seconds(stamps)

    device = torch.device("cpu")
    timer = StepTimer(device, 0.0)
    timer.clock = Clock()
    collector = make_collector(timer, device, comm)
    timer.begin(0)
    collector.add(0, 0.1, Synchronisation(Action.GRADIENT, 8), (4, 4), torch.tensor(8.0), ends_epoch=False)
    timer.stop()
    collector.gather()
    assert set(seen) == {"the queue of the GPU"} and not comm.watchdog._present


@pytest.mark.parametrize("evaluation_first", [False, True])
def test_on_a_gpu_the_note_of_each_step_is_kept_and_the_first_is_named(evaluation_first: bool) -> None:
    """The gradient of step 2 was bad; its loss and those of the steps after it are not seen before the gather, or
    before an evaluation comes upon what they have left."""
    timer = StepTimer(torch.device("cpu"), 0.0)
    # Any device but a CPU.
    collector = make_collector(timer, torch.device("meta"), SingleCommunicator())
    collector.guard = FiniteGuard(SingleCommunicator())
    for step in range(5):
        timer.begin(step)
        if step == 2:
            collector.guard.own_bad = torch.tensor(True)
        loss = torch.tensor(8.0 if step < 4 else math.nan)
        collector.add(step, 0.1, Synchronisation(Action.GRADIENT, 8), (4, 4), loss, ends_epoch=False)
    if not evaluation_first:
        timer.stop()
    said = "^step 2: what was to be reduced is not finite on rank 0$"
    with pytest.raises(DivergedError, match=said), collector.telling_first():
        if evaluation_first:
            raise DivergedError("step 4: what was to be averaged is not finite on ranks 0, 1")
        collector.gather(4)


def test_the_gradient_norm_is_that_of_its_step_and_not_a_number_where_it_was_not_taken(tmp_path: Path) -> None:
    device = torch.device("cpu")
    timer = StepTimer(device, 0.0)
    with log_samples.make_writer(tmp_path / "run.h5", world_size=1) as writer:
        collector = Collector(
            LogConfig(),
            lambda values: values[None],
            timer,
            device,
            writer,
            Clocks(1, 10),
            lambda values: values,
            lambda values: values,
            Sampler(0.0, device, 1),
        )
        for step, norm in enumerate((torch.tensor(2.5), math.nan, 0.5)):
            timer.begin(step)
            done = Synchronisation(Action.GRADIENT, 8, norm)
            collector.add(step, 0.1, done, (4, 4), torch.tensor(8.0), ends_epoch=False)
        timer.stop()
        collector.gather()
    run = load_run(tmp_path)
    np.testing.assert_array_equal(run.iterations["gradient_norm"], [2.5, np.nan, 0.5])
    assert run.iterations["loss"].tolist() == [2.0] * 3


@pytest.mark.parametrize(
    ("milliseconds", "steps", "rows"),
    [(50, None, [100, 200]), (2, None, [100, 250]), (0, None, [100, 1100]), (2, 3, [3, 6]), (0, 3, [3, 6])],
)
def test_where_iterations_are_short_a_gather_waits_for_the_time_that_is_asked_for(
    milliseconds: int, steps: int | None, rows: list[int]
) -> None:
    timer = StepTimer(torch.device("cpu"), 0.0)
    config, gathered = LogConfig(False, steps, 0.3, utilisation_seconds=0), []
    collector = Collector(
        *(config, lambda values: None, timer, torch.device("cpu"), None, Clocks(1, 1 << 40)),
        *(np.array, np.array, Sampler(0.0, torch.device("cpu"), 1)),
    )
    for step in range(rows[-1] + 1):
        # The end of one is the beginning of the next.
        timer.clock.stamp = lambda step=step: step * milliseconds / 1e3  # type: ignore[method-assign, misc]
        timer.begin(step)
        if collector.gather_if_due():
            gathered.append(step)
        collector.add_timed(step, 0.1, 4, 4, ends_epoch=False)
    assert gathered == rows
