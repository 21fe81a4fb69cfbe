"""The step timer, with a clock that counts."""

from __future__ import annotations

import time

import pytest
import torch

from hpcsgd.record.timer import SPAN_NAMES, HostClock, StepTimer, durations


class CountingClock(HostClock):
    """Each stamp is one second after the last."""

    def __init__(self) -> None:
        self.now = 0.0

    def stamp(self) -> float:
        self.now += 1.0
        return self.now


def counting_timer() -> StepTimer:
    timer = StepTimer(torch.device("cpu"), origin=time.perf_counter())
    timer.clock = CountingClock()
    return timer


def seconds_of(timer: StepTimer) -> dict[str, float]:
    """Of its first iteration."""
    return {name: float(values[0]) for name, values in durations(timer.finished, timer.clock).items()}


def test_iterations_of_different_laps_are_told_apart() -> None:
    timer = counting_timer()
    for names in (["data", "update"], ["data"], [], ["update", "data"]):
        timer.begin(0)
        for name in names:
            timer.lap(name)
    timer.stop()
    found = durations(timer.finished, timer.clock)
    assert found["data_seconds"].tolist() == [1.0, 1.0, 0.0, 1.0]
    assert found["update_seconds"].tolist() == [1.0, 0.0, 0.0, 1.0]
    assert found["wall_seconds"].tolist() == [3.0, 2.0, 1.0, 3.0]


def test_what_is_taken_back_was_never_begun() -> None:
    timer = counting_timer()
    timer.begin(0)
    timer.lap("data")
    timer.begin(1)
    timer.take_back()
    timer.lap("update")
    timer.stop()
    assert [iteration.step for iteration in timer.finished] == [0]
    seconds = seconds_of(timer)
    assert (seconds["data_seconds"], seconds["update_seconds"], seconds["wall_seconds"]) == (1.0, 2.0, 4.0)


def test_laps_are_summed_by_span_and_leave_only_the_bookkeeping() -> None:
    timer = counting_timer()
    timer.begin(7)
    for name in ("data", "forward", "backward", "forward", "backward", "update"):
        timer.lap(name)
    timer.stop()
    (iteration,) = timer.finished
    seconds = seconds_of(timer)
    wall = seconds.pop("wall_seconds")
    assert iteration.step == 7
    assert seconds == dict.fromkeys(SPAN_NAMES, 0.0) | {
        "data_seconds": 1.0,
        "forward_seconds": 2.0,
        "backward_seconds": 2.0,
        "update_seconds": 1.0,
    }
    assert wall == sum(seconds.values()) + 1.0  # from the last lap to the end


def test_the_end_of_an_iteration_is_the_beginning_of_the_next_and_the_rest_is_a_spans() -> None:
    timer = counting_timer()
    for step in range(3):
        timer.begin(step, "logging")
        timer.lap("data")
    timer.stop("logging")
    assert timer.clock.stamp() == 8.0  # two for each, and the end
    found = durations(timer.finished, timer.clock)
    walls = found.pop("wall_seconds")
    assert walls.tolist() == [2.0] * 3 == sum(found.values()).tolist()
    assert found["data_seconds"].tolist() == found["logging_seconds"].tolist() == [1.0] * 3


def test_beginning_an_iteration_ends_the_one_before() -> None:
    timer = counting_timer()
    for step in range(3):
        timer.begin(step)
        timer.lap("data")
    timer.stop()
    timer.stop()
    assert [iteration.step for iteration in timer.finished] == [0, 1, 2]
    starts = [iteration.start_seconds for iteration in timer.finished]
    assert 0 <= starts[0] < starts[1] < starts[2]


def test_synchronisation_times_are_on_the_run_clock() -> None:
    timer = counting_timer()
    timer.begin(0)
    timer.enter_sync()
    timer.exit_sync()
    timer.begin(1)
    timer.stop()
    first, second = timer.finished
    assert first.start_seconds <= first.sync_enter_seconds <= first.sync_exit_seconds <= second.start_seconds
    assert second.sync_enter_seconds != second.sync_enter_seconds  # NaN: none


def test_the_host_clock_measures_a_sleep() -> None:
    timer = StepTimer(torch.device("cpu"), origin=0.0)
    timer.begin(0)
    time.sleep(0.02)
    timer.lap("data")
    timer.stop()
    seconds = seconds_of(timer)
    assert 0.02 <= seconds["data_seconds"] <= seconds["wall_seconds"]


@pytest.mark.gpu
def test_cuda_events_measure_the_queue_and_not_the_host() -> None:
    timer = StepTimer(torch.device("cuda"), origin=0.0)
    matrix = torch.randn(4096, 4096, device="cuda")
    timer.begin(0)
    for _ in range(20):
        matrix = matrix @ matrix
    before = time.perf_counter()
    timer.lap("forward")
    assert time.perf_counter() - before < 0.01
    timer.stop()
    seconds = seconds_of(timer)
    assert seconds["forward_seconds"] == pytest.approx(seconds["wall_seconds"], rel=0.02)
