"""Points of the search: in the space, spread evenly, and always the same."""

from __future__ import annotations

import numpy as np
import pytest

from hpcsgd.study.space import draw_points, scale_up

SPACE = {
    "learning_rate": {"type": "DOUBLE", "min_value": 0.001, "max_value": 10.0, "scale": "LOG_SCALE"},
    "momentum": {"type": "DOUBLE", "min_value": 0.9, "max_value": 0.9999, "scale": "REVERSE_LOG_SCALE"},
    "learning_rate_decay_steps": {"type": "INTEGER", "min_value": 10, "max_value": 13, "scale": ""},
    "end_learning_rate_factor": {"type": "DOUBLE", "min_value": 0.0, "max_value": 0.5, "scale": "LINEAR_SCALE"},
    "label_smoothing": {"type": "DISCRETE", "feasible_points": [0, 0.01, 0.1]},
}


def column(name: str, number: int = 256) -> np.ndarray:
    return np.array([point[name] for point in draw_points(SPACE, number, 0, 8)])


@pytest.mark.parametrize(
    ("name", "to_unit"),
    [
        ("learning_rate", lambda v: np.log10(v / 0.001) / 4),
        ("momentum", lambda v: -np.log10((1 - v) / 0.1) / 3),
        ("end_learning_rate_factor", lambda v: v / 0.5),
    ],
)
def test_points_are_spread_evenly_on_their_scale(name: str, to_unit: object) -> None:
    assert callable(to_unit)
    counts, _ = np.histogram(to_unit(column(name)), bins=16, range=(0, 1))
    # A Sobol sequence of 256 points has 16 in each sixteenth.
    assert counts.tolist() == [16] * 16


def test_whole_numbers_and_feasible_points_come_about_equally_often() -> None:
    values, counts = np.unique(column("learning_rate_decay_steps"), return_counts=True)
    assert values.tolist() == [10, 11, 12, 13] and counts.tolist() == [64] * 4
    values, counts = np.unique(column("label_smoothing"), return_counts=True)
    assert values.tolist() == [0, 0.01, 0.1] and counts.min() >= 84


def test_more_trials_keep_the_first_ones_only_up_to_the_same_power_of_two() -> None:
    assert draw_points(SPACE, 5, 1, 8) == draw_points(SPACE, 8, 1, 8)[:5]


def test_seeds_and_batch_sizes_have_points_of_their_own() -> None:
    found = [str(draw_points(SPACE, 3, *where)) for where in ((0, 8), (1, 8), (0, 16), (8, 0))]
    assert len(set(found)) == 4
    assert str(draw_points(SPACE, 3, 0, 8)) == found[0]


@pytest.mark.parametrize("place", [0.0, 1 - 2**-53, 1.0])
@pytest.mark.parametrize("name", SPACE)
def test_no_value_lies_beyond_an_end(name: str, place: float) -> None:
    config = SPACE[name]
    points = config.get("feasible_points", [config.get("min_value"), config.get("max_value")])
    assert min(points) <= scale_up(config, place) <= max(points)
