"""Best trials at the edge of their space, and the wider range proposed, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hpcsgd.study.result import edge_warnings
from hpcsgd.study.space import place_of, scale_up
from tests.single.study.studies import study, trial

RATE = {"type": "DOUBLE", "min_value": 0.01, "max_value": 1.0, "scale": "LOG_SCALE"}
MOMENTUM = {"type": "DOUBLE", "min_value": 0.9, "max_value": 0.999, "scale": "REVERSE_LOG_SCALE"}
DECAY = {"type": "INTEGER", "min_value": 100, "max_value": 200, "scale": ""}
SMOOTHING = {"type": "DISCRETE", "feasible_points": [0, 0.1]}


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
    found = edge_warnings(study([best], parameter_configs=configs), best)
    assert len(found) == len(said)
    assert all(text in warning and "batch size 8" in warning for text, warning in zip(said, found, strict=True))


def test_a_wider_range_stays_positive() -> None:
    decay = {"type": "INTEGER", "min_value": 200, "max_value": 800, "scale": ""}
    best = trial(0, {}, learning_rate_decay_steps=210)
    (warning,) = edge_warnings(study([best], parameter_configs={"learning_rate_decay_steps": decay}), best)
    assert warning.endswith("try min 100")


def test_no_range_is_proposed_where_nothing_lies_beyond() -> None:
    linear = {"type": "DOUBLE", "min_value": 0.0, "max_value": 0.5, "scale": "LINEAR_SCALE"}
    best = trial(0, {}, label_smoothing=0.001)
    assert edge_warnings(study([best], parameter_configs={"label_smoothing": linear}), best) == []


@pytest.mark.parametrize("config", [RATE, MOMENTUM, DECAY])
def test_places_and_values_belong_together(config: dict[str, Any]) -> None:
    for place in (0.0, 0.2, 0.5, 0.8, 1.0):
        found = place_of(config, scale_up(config, place))
        assert found == pytest.approx(place, abs=0.01 if config is DECAY else 1e-9)
