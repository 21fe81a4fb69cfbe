"""Which runs are one setting, a line of a figure, the best of several learning rates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from runs.logs import Entry
from runs.tasks import (
    LEARNERS,
    SPLIT,
    best_rates,
    find_settings,
    find_tasks,
    in_words,
    labels,
    lines,
    num_learners,
    texts,
)
from tests.single.analysis.crossbow_runs import crossbow_entry


def make(root: Path, **runs: dict[str, Any]) -> list[Entry]:
    """Runs by their names."""
    return [crossbow_entry(root / name, options.pop("algorithm", "sma"), **options) for name, options in runs.items()]


def test_runs_that_differ_in_their_seed_are_one_setting(tmp_path: Path) -> None:
    runs = make(tmp_path, b={"seed": 1}, a={"seed": 0}, tau={"period": 2}, ea={"algorithm": "ea_sgd"})
    settings = find_settings(runs)
    assert [[item.name for item in setting.entries] for setting in settings] == [["a", "b"], ["tau"], ["ea"]]
    assert settings[0].name == "SMA, τ = 1, 2 ranks, m = 1, b = 16, η = 0.1"
    assert labels(settings) == ["SMA, τ = 1", "SMA, τ = 2", "EA-SGD, τ = 1"]


def test_a_single_learner_is_plain_sgd_but_in_a_line_over_learners(tmp_path: Path) -> None:
    one = {"algorithm": "sync_sgd", "ranks": 1}
    runs = make(tmp_path, plain=one.copy(), many={**one, "learners": 2}, ranks={"algorithm": "sync_sgd", "ranks": 2})
    assert [setting.method for setting in find_settings(runs)] == ["SGD", "sync. SGD", "sync. SGD"]
    assert [num_learners(item) for item in runs] == [1, 2, 2]
    assert "sync_period" not in in_words(runs[0])
    assert set(lines(runs, SPLIT).values()) == {"sync. SGD"}
    assert lines(runs, LEARNERS) == {
        "plain": "sync. SGD, 1 rank",
        "many": "sync. SGD, 1 rank",
        "ranks": "sync. SGD, 2 ranks",
    }


def test_learners_that_the_tuner_chose_are_as_those_of_a_recipe(tmp_path: Path) -> None:
    auto = {"learners": 4, "config": {"learners_per_rank": "auto", "tuner": {"windows": 3}}}
    runs = make(tmp_path, given={"learners": 4}, auto=auto)
    assert [setting.name for setting in find_settings(runs)] == ["SMA, τ = 1, 2 ranks, m = 4, b = 16, η = 0.1"]


def test_tasks_are_models_on_data_sets(tmp_path: Path) -> None:
    runs = make(tmp_path, a={"config": {"model": {"name": "lenet"}}}, b={}, c={"seed": 1})
    tasks = {name: [item.name for item in found] for name, found in find_tasks(runs).items()}
    assert tasks == {"fully_connected on synthetic": ["b", "c"], "lenet on synthetic": ["a"]}


def test_other_facts_are_said_only_where_nothing_else_tells_runs_apart() -> None:
    own = {
        "plain": {"algorithm": "SGD", "rate": "η = 1", "momentum": "momentum 0.9"},
        "first": {"algorithm": "SMA", "rate": "η = 1", "momentum": "momentum 0.9", "alpha": "alpha 1"},
        "second": {"algorithm": "SMA", "rate": "η = 2", "momentum": "momentum 0", "alpha": "alpha 2"},
        "old": {"algorithm": "EA-SGD", "rate": "η = 1"},
        "new": {"algorithm": "EA-SGD", "rate": "η = 1", "momentum": "momentum 0.9"},
    }
    assert texts(own) == {
        "plain": "SGD, η = 1",
        # The learning rate is no reason to be silent on the momentum; that tells the two apart, so not on alpha too.
        "first": "SMA, η = 1, momentum 0.9",
        "second": "SMA, η = 2, momentum 0",
        "old": "EA-SGD, η = 1",
        "new": "EA-SGD, η = 1",
    }


@pytest.mark.parametrize(
    ("accuracy", "best"),
    [((0.5, 0.7, 0.6), "η = 0.2"), ((0.5, math.nan, math.nan), "η = 0.1"), ((math.nan,) * 3, "η = 0.1")],
)
def test_of_several_learning_rates_the_best_is_shown(
    tmp_path: Path, accuracy: tuple[float, float, float], best: str
) -> None:
    runs = make(tmp_path, a={"rate": 0.1}, b={"rate": 0.2}, c={"rate": 0.4}, other={"learners": 2})
    settings = find_settings(runs)
    assert [setting.entries[0].name for setting in settings] == ["a", "b", "c", "other"]
    known = dict(zip([setting.name for setting in settings], [*accuracy, 0.1], strict=True))
    shown = best_rates(settings, known)
    assert len(shown) == 2
    assert shown[0].name.endswith(best)
    assert shown[1].entries[0].name == "other"
