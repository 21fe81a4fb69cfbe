"""Steps to result, limits and edges, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hpcsgd.trials.points import place_of, scale_up
from hpcsgd.trials.results import KeptStudy, KeptTrial, edge_warnings, limits, steps_to_result

METRIC = "val/classification_error"
RATE = {"type": "DOUBLE", "min_value": 0.01, "max_value": 1.0, "scale": "LOG_SCALE"}
MOMENTUM = {"type": "DOUBLE", "min_value": 0.9, "max_value": 0.999, "scale": "REVERSE_LOG_SCALE"}
DECAY = {"type": "INTEGER", "min_value": 100, "max_value": 200, "scale": ""}
SMOOTHING = {"type": "DISCRETE", "feasible_points": [0, 0.1]}


def trial(number: int, errors: dict[int, float], status: str = "COMPLETE", **parameters: float) -> KeptTrial:
    """A trial with errors by step."""
    return KeptTrial(number, status, 100, parameters, [{"step": step, METRIC: e} for step, e in errors.items()])


def study(trials: Sequence[KeptTrial], **configs: dict[str, Any]) -> KeptStudy:
    return KeptStudy(8, {"parameter_configs": configs}, trials)


def test_steps_to_result_by_hand() -> None:
    trials = [
        trial(3, {10: 0.5, 20: 0.2, 30: 0.19}),
        trial(1, {10: 0.5, 30: 0.1}),
        trial(2, {10: 0.5, 30: 0.05}),
        trial(0, {5: 0.01}, "INFEASIBLE"),
        trial(4, {10: 0.1}, "INCOMPLETE"),
    ]
    # 0.2 is not better than 0.2; trials 1, 2 and 3 come at 30, and 1 is first by id.
    found = steps_to_result(study(trials), METRIC, 0.2)
    assert found is not None and (found[0], found[1].trial_id) == (30, 1)
    assert steps_to_result(study(trials), METRIC, 0.01) is None


def test_the_first_100_complete_trials_count() -> None:
    trials = [trial(i, {50: 0.5}, "INFEASIBLE" if i % 2 else "COMPLETE") for i in range(199)] + [trial(199, {1: 0.1})]
    assert steps_to_result(study(trials), METRIC, 0.2) is None
    found = steps_to_result(study(trials[1:]), METRIC, 0.2)
    assert found is not None and found[0] == 1


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({8: 1024, 16: 512, 32: 256}, (32, 32)),
        ({8: 1024, 16: 512, 32: 300, 64: 280, 128: 270}, (32, 32)),
        # 16 * 740 is more than 2^0.5 times 8 * 1024: log2 is 13.53.
        ({8: 1024, 16: 740, 32: 256, 64: 120, 128: 90, 256: 88}, (8, 64)),
        ({8: 100, 16: 100, 32: 100}, (8, 8)),
    ],
)
def test_limits(steps: dict[int, int], expected: tuple[int, int]) -> None:
    assert limits(steps) == expected


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"learning_rate": 0.1, "momentum": 0.99, "learning_rate_decay_steps": 150, "label_smoothing": 0.1}, []),
        (
            {"learning_rate": 0.011, "momentum": 0.99, "learning_rate_decay_steps": 150, "label_smoothing": 0},
            ["learning_rate 0.011, at the edge of 0.01 to 1: try min 0.001"],
        ),
        (
            {"learning_rate": 0.99, "momentum": 0.9989, "learning_rate_decay_steps": 199, "label_smoothing": 0},
            ["try max 10", "momentum 0.9989, at the edge of 0.9 to 0.999: try max 0.9999", "try max 250"],
        ),
    ],
)
def test_edges(parameters: dict[str, float], said: list[str]) -> None:
    best = trial(0, {}, **parameters)
    configs = {
        "learning_rate": RATE,
        "momentum": MOMENTUM,
        "learning_rate_decay_steps": DECAY,
        "label_smoothing": SMOOTHING,
    }
    found = edge_warnings(study([best], **configs), best)
    assert len(found) == len(said)
    assert all(text in warning and "batch size 8" in warning for text, warning in zip(said, found, strict=True))


def test_no_range_is_proposed_where_nothing_lies_beyond() -> None:
    linear = {"type": "DOUBLE", "min_value": 0.0, "max_value": 0.5, "scale": "LINEAR_SCALE"}
    best = trial(0, {}, label_smoothing=0.001)
    assert edge_warnings(study([best], label_smoothing=linear), best) == []


@pytest.mark.parametrize("config", [RATE, MOMENTUM, DECAY])
def test_places_and_values_belong_together(config: dict[str, Any]) -> None:
    for place in (0.0, 0.2, 0.5, 0.8, 1.0):
        found = place_of(config, scale_up(config, place))
        assert found == pytest.approx(place, abs=0.01 if config is DECAY else 1e-9)
