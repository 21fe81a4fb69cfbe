"""Steps to result, limits and edges, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcsgd.study.archive import Study, Trial, read_archive
from hpcsgd.study.regimes import Regimes, bootstrap, limits
from hpcsgd.study.result import edge_warnings, perfect_scaling, steps_to_result
from hpcsgd.study.space import place_of, scale_up

ARCHIVE = Path(__file__).parents[2] / "data" / "studies" / "fashion_mnist_fc.tar.xz"
METRIC = "val/classification_error"
RATE = {"type": "DOUBLE", "min_value": 0.01, "max_value": 1.0, "scale": "LOG_SCALE"}
MOMENTUM = {"type": "DOUBLE", "min_value": 0.9, "max_value": 0.999, "scale": "REVERSE_LOG_SCALE"}
DECAY = {"type": "INTEGER", "min_value": 100, "max_value": 200, "scale": ""}
SMOOTHING = {"type": "DISCRETE", "feasible_points": [0, 0.1]}


def trial(number: int, errors: dict[int, float], status: str = "COMPLETE", **parameters: float) -> Trial:
    """A trial with errors by step."""
    columns = {"step": np.array([*errors], float), METRIC: np.array([*errors.values()])}
    return Trial(number, status, 100, parameters, columns)


def study(trials: Sequence[Trial], **configs: dict[str, Any]) -> Study:
    return Study("d", "m", "o", 8, {"parameter_configs": configs}, tuple(trials))


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
    assert found is not None and (found.steps, found.trial.trial_id) == (30, 1)
    assert steps_to_result(study(trials), METRIC, 0.01) is None


def test_the_first_100_complete_trials_count() -> None:
    trials = [trial(i, {50: 0.5}, "INFEASIBLE" if i % 2 else "COMPLETE") for i in range(199)] + [trial(199, {1: 0.1})]
    assert steps_to_result(study(trials), METRIC, 0.2) is None
    found = steps_to_result(study(trials[1:]), METRIC, 0.2)
    assert found is not None and found.steps == 1


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
    assert limits(steps) == Regimes(*expected)


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


def test_a_wider_range_stays_positive() -> None:
    decay = {"type": "INTEGER", "min_value": 200, "max_value": 800, "scale": ""}
    best = trial(0, {}, learning_rate_decay_steps=210)
    (warning,) = edge_warnings(study([best], learning_rate_decay_steps=decay), best)
    assert warning.endswith("try min 100")


def test_no_range_is_proposed_where_nothing_lies_beyond() -> None:
    linear = {"type": "DOUBLE", "min_value": 0.0, "max_value": 0.5, "scale": "LINEAR_SCALE"}
    best = trial(0, {}, label_smoothing=0.001)
    assert edge_warnings(study([best], label_smoothing=linear), best) == []


@pytest.mark.parametrize("config", [RATE, MOMENTUM, DECAY])
def test_places_and_values_belong_together(config: dict[str, Any]) -> None:
    for place in (0.0, 0.2, 0.5, 0.8, 1.0):
        found = place_of(config, scale_up(config, place))
        assert found == pytest.approx(place, abs=0.01 if config is DECAY else 1e-9)


def test_a_real_study_has_what_a_study_must_have() -> None:
    """jobs/studies/fashion_mnist_fc.yaml as the command ran it: enough COMPLETE trials, and three regimes."""
    studies = read_archive(ARCHIVE)
    assert [study.batch_size for study in studies] == [8 << i for i in range(11)]
    assert all(study.count("COMPLETE") >= 20 for study in studies)
    found = {study.batch_size: steps_to_result(study, METRIC, 0.14) for study in studies}
    steps = {size: result.steps for size, result in found.items() if result is not None}
    regimes, spread = limits(steps), bootstrap(studies, METRIC, 0.14)
    assert len(steps) == 11 and 8 < regimes.perfect_until < regimes.maximal_from < 8192
    assert spread.perfect_until[0] <= regimes.perfect_until <= spread.perfect_until[1]
    assert spread.maximal_from[0] <= regimes.maximal_from <= spread.maximal_from[1]
    assert all(spread.steps[size][0] == steps[size] for size in steps), "no draw can be better than all trials"


def test_the_line_of_perfect_scaling() -> None:
    assert perfect_scaling({8: 1000, 16: 600, 32: 500}) == {8: 1000, 16: 500, 32: 250}
    assert perfect_scaling({8: 1000, 16: 600}, base=16) == {8: 1200, 16: 600}
