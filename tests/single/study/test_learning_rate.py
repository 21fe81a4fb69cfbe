"""Effective learning rates and the heuristics."""

from __future__ import annotations

import pytest

from hpcsgd.errors import UsageError
from hpcsgd.study.learning_rate import effective, heuristics, optimal_effective
from tests.single.study.studies import METRIC, study, trial


@pytest.mark.parametrize(("rate", "momentum", "expected"), [(0.1, 0.9, 1.0), (0.5, 0, 0.5), (0.01, 0.99, 1.0)])
def test_the_effective_rate(rate: float, momentum: float, expected: float) -> None:
    assert effective(rate, momentum) == pytest.approx(expected)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
def test_an_impossible_momentum_is_refused(momentum: float) -> None:
    with pytest.raises(UsageError, match="momentum is"):
        effective(0.1, momentum)


def test_the_optimum_is_the_winning_trials() -> None:
    made = [
        study([trial(0, {20: 0.1}, learning_rate=1.0, momentum=0.5)], 16),
        study(
            [
                trial(0, {50: 0.1}, learning_rate=0.1, momentum=0.9),
                trial(1, {40: 0.1}, learning_rate=0.1, momentum=0.5),
                trial(2, {30: 0.1}, "INFEASIBLE", learning_rate=9.0, momentum=0.5),
            ],
            8,
        ),
        study([trial(0, {9: 0.5}, learning_rate=1.0, momentum=0.5)], 32),
        study([trial(0, {9: 0.1}, momentum=0.5)], 64),
        study([trial(0, {9: 0.1}, learning_rate=1.0)], 128),  # no momentum: 0
    ]
    assert optimal_effective(made, METRIC, 0.2) == pytest.approx({8: 0.2, 16: 2.0, 128: 1.0})
    assert list(optimal_effective(made, METRIC, 0.2)) == [8, 16, 128]
    assert optimal_effective(made, METRIC, 0.45, higher_is_better=True) == pytest.approx({32: 2.0})


def test_heuristics_start_at_the_smallest_batch() -> None:
    lines = heuristics({32: 9.0, 8: 0.5, 128: 1.0})
    assert lines == {"linear": {8: 0.5, 32: 2.0, 128: 8.0}, "sqrt": {8: 0.5, 32: 1.0, 128: 2.0}}
    assert heuristics({}) == {"linear": {}, "sqrt": {}}
