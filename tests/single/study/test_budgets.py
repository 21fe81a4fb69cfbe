"""Best metrics under budgets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsgd.errors import UsageError
from hpcsgd.study.archive import Trial
from hpcsgd.study.budgets import best_under_epochs, best_under_steps, is_trained_for, trained_steps
from tests.single.study.studies import METRIC, study, trial, trial_lists

MADE = study(
    [
        trial(0, {10: 0.5, 20: 0.2, 30: 0.3}),
        trial(1, {5: float("nan"), 15: 0.4, 40: 0.1}),
        trial(2, {1: 0.0}, "INFEASIBLE"),
        trial(3, {}),
    ],
    batch_size=8,
)


@pytest.mark.parametrize(
    ("budget", "best"), [(9, None), (10, 0.5), (14, 0.5), (15, 0.4), (20, 0.2), (39, 0.2), (40, 0.1), (1e9, 0.1)]
)
def test_steps_by_hand(budget: float, best: float | None) -> None:
    assert best_under_steps(MADE, METRIC, budget) == best
    # 400 samples are 50 steps of 8: an epoch.
    assert best_under_epochs(MADE, METRIC, budget / 50, 400) == best


def test_more_is_better_where_it_is() -> None:
    assert best_under_steps(MADE, METRIC, 30, higher_is_better=True) == 0.5
    assert best_under_steps(MADE, METRIC, 9, higher_is_better=True) is None


def test_only_the_first_100_complete_trials_count() -> None:
    more = [trial(i, {9: 0.3}) for i in range(4, 102)]
    assert best_under_steps(study([*MADE.trials, *more]), METRIC, 9) == 0.3
    last = [trial(i, {9: 0.3}) for i in range(4, 101)] + [trial(101, {9: 0.01}), trial(102, {9: 0.0})]
    # 0, 1, 3, and 97 more are 100.
    assert best_under_steps(study([*MADE.trials, *last]), METRIC, 9) == 0.3
    assert best_under_steps(study([*MADE.trials, *last[1:]]), METRIC, 9) == 0.01


def test_a_metric_that_nobody_measured_is_refused() -> None:
    with pytest.raises(UsageError, match="is not measured"):
        best_under_steps(MADE, "val/loss", 10)


@given(trial_lists(), st.integers(0, 12), st.integers(1, 64), st.integers(1, 40))
def test_budgets_are_as_defined(trials: list[Trial], epochs: int, batch_size: int, num_samples: int) -> None:
    made = study(trials, batch_size)
    rows = [
        (int(step), float(value))
        for item in trials
        if item.status == "COMPLETE"
        for step, value in zip(item.measurements["step"], item.measurements[METRIC], strict=True)
        if value == value
    ]
    in_steps = [value for step, value in rows if step <= epochs]
    in_epochs = [value for step, value in rows if batch_size * step <= epochs * num_samples]
    assert best_under_steps(made, METRIC, epochs) == min(in_steps, default=None)
    assert best_under_epochs(made, METRIC, epochs, num_samples) == min(in_epochs, default=None)


def test_a_budget_is_known_only_of_studies_that_were_trained_for_it() -> None:
    planned = study([trial(0, {10: 0.5})], train_steps=40)
    assert [is_trained_for(planned, steps) for steps in (39, 40, 40.9, 41)] == [True, True, True, False]
    # Trained by time: as long as all trials that count.
    by_time = study([trial(0, {10: 0.5}), trial(1, {30: 0.5}), trial(2, {1: 0.0}, "INFEASIBLE")])
    assert trained_steps(by_time) == 10
    assert trained_steps(study([])) == 0
