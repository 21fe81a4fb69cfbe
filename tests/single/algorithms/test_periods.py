"""H of the steps that begin with a step, against values worked out by hand."""

from __future__ import annotations

import pytest

from hpcsgd.algorithms.periods import Measured, Period, Power, Staged, WarmUp
from hpcsgd.algorithms.schedule import Action, SyncSchedule
from hpcsgd.config.check import LARGEST


class Rate:
    """0.1, 0.2, 0.3, 0.4 in the warm-up, then 0.3, and 0 from step 8 on."""

    warmup_steps = 4

    def __call__(self, step: int) -> float:
        return 0.1 * (step + 1) if step < 4 else 0.3 if step < 8 else 0.0

    def num_drops(self, step: int) -> int:
        return step // 4


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        (WarmUp(5, 0, 4, doubling=False), [1, 2, 3, 4, 5, 5]),
        (WarmUp(2, 1, 6, doubling=False), [1, 1, 1, 1, 1, 1, 1, 2]),
        (WarmUp(16, 0, 8, doubling=True), [1, 1, 2, 2, 4, 4, 8, 8, 16]),
        (WarmUp(6, 2, 6, doubling=True), [1, 1, 1, 1, 2, 2, 4, 4, 6]),
        (WarmUp(1, 0, 5, doubling=True), [1, 1]),
        (WarmUp(7, 0, 0, doubling=True), [7]),
        (Staged(3, Rate().num_drops), [3, 3, 3, 3, 6, 6, 6, 6, 12]),
        # (0.9 / 0.3)^2 is 9, though 0.9 / 0.3 is a little less than 3.
        (Power(2, 0.9, 2.0, Rate(), None), [9, 9, 9, 9, 9, 9, 9, 9, LARGEST]),
        (Power(2, 0.9, 1.0, Rate(), 1), [1, 1, 1, 1, 3, 3]),
        (Power(4, 0.3, 3.0, Rate(), None), [4, 4]),
    ],
)
def test_periods(period: Period, expected: list[int]) -> None:
    first = getattr(period, "start", 0)
    assert [period(step) for step in range(first, len(expected))] == expected[first:]


def test_a_measured_period_halves_and_doubles_within_its_bounds() -> None:
    period = Measured(2, target=0.1, largest=5)
    seen = []
    for divergence in (0.2, 0.2, 0.07, 0.01, 0.0, 0.049, 0.0, 0.11):
        period.take(divergence)
        seen.append(period(0))
    assert seen == [1, 1, 1, 2, 4, 5, 5, 2]


def letters(schedule: SyncSchedule, num_steps: int, first: int = 0) -> str:
    return "".join(
        {Action.NONE: ".", Action.GRADIENT: "g", Action.BLOCK: "b", Action.GLOBAL: "W"}[schedule(step)]
        for step in range(first, num_steps)
    )


def test_rounds_follow_each_other_and_end_with_the_run() -> None:
    schedule = SyncSchedule(2, 8, 2, Staged(1, lambda step: step // 4), num_steps=14)
    assert letters(schedule, 14) == "ggbW.b.W...b.W"
    assert [schedule.period_at(step) for step in range(14)] == [1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 2, 2]
    # Asked for again, in any order.
    assert [schedule(step) for step in (13, 2, 11, 3)] == [Action.GLOBAL, Action.BLOCK, Action.BLOCK, Action.GLOBAL]
    assert letters(SyncSchedule(0, 8, 1, Staged(3, lambda step: 0)), 8) == "..W..W.."


def test_a_measured_round_is_taken_up_where_the_run_goes_on() -> None:
    def make() -> SyncSchedule:
        return SyncSchedule(0, 2, 2, Measured(2, target=0.1, largest=8), num_steps=20)

    schedule, restored, moved = make(), make(), make()
    assert letters(schedule, 4) == ".b.W"
    assert schedule.measured is not None
    schedule.measured.take(0.0)
    assert schedule.state_dict(4) == {"since": 0, "period": 4, "number": 2}
    assert letters(schedule, 7, first=4) == "..."
    restored.load_state_dict(schedule.state_dict(7))
    restored.start(7)
    assert letters(restored, 12, first=7) == letters(schedule, 12, first=7) == "b...W"
    # In a run of fewer ranks the step has another number.
    moved.load_state_dict(restored.state_dict(12))
    moved.start(9)
    assert moved(8) is Action.GLOBAL and letters(moved, 18, first=9) == "...b...W."


def test_what_is_not_measured_needs_no_state() -> None:
    assert SyncSchedule(0, 2, 1, Staged(3, lambda step: 0)).state_dict(5) is None
