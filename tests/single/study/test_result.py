"""Steps to result: by hand, by properties, and against the archive's definition written slowly."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsgd.errors import UsageError
from hpcsgd.study.archive import Trial, read_archive
from hpcsgd.study.result import counted_trials, first_step, perfect_scaling, steps_to_result
from tests.single.study.studies import (
    GOALS,
    METRIC,
    found,
    slow_steps_to_result,
    study,
    trial,
    trial_lists,
    write_study,
)


def test_an_archive_by_hand(tmp_path: Path) -> None:
    trials = [
        trial(7, {10: 0.5, 20: 0.2, 30: 0.19}),
        trial(3, {10: 0.5, 30: 0.1, 40: 0.3}),
        trial(12, {10: 0.5, 30: 0.05}),
        trial(1, {5: 0.01}, "INFEASIBLE"),
        trial(2, {10: 0.1}, "INCOMPLETE"),
        trial(4, {15: float("nan"), 35: 0.0}),
        trial(5, {}),
    ]
    write_study(tmp_path, study(trials))
    (read,) = read_archive(tmp_path)
    # Goal 0.2: trial 1 diverged and 2 stopped short, so 5 and 10 do not count; at 20, trial 7 has 0.2, which is not
    # strictly better than 0.2. At 30, trials 3, 7 and 12 are better: 3 is the first by id, though 12 comes before it as
    # a word, and has the lowest error.
    assert found(steps_to_result(read, METRIC, 0.2)) == (30, 3)
    # Goal 0.21: trial 7 is better at 20.
    assert found(steps_to_result(read, METRIC, 0.21)) == (20, 7)
    # Goal 0.1: trial 3 has 0.1 at 30, not better; trial 12 has 0.05 at 30.
    assert found(steps_to_result(read, METRIC, 0.1)) == (30, 12)
    # Goal 0.05: trial 12 has just that; trial 4 has 0 at 35. Its NaN at 15 is not better than anything.
    assert found(steps_to_result(read, METRIC, 0.05)) == (35, 4)
    assert steps_to_result(read, METRIC, 0.0) is None


def test_more_is_better_where_it_is() -> None:
    trials = [trial(0, {1: 0.31, 2: 0.32}, metric="val/average_precision"), trial(1, {1: 0.2}, metric="val/loss")]
    assert found(steps_to_result(study(trials), "val/average_precision", 0.31, higher_is_better=True)) == (2, 0)
    assert steps_to_result(study(trials), "val/average_precision", 0.32, higher_is_better=True) is None


def test_a_metric_that_nobody_measured_is_refused() -> None:
    with pytest.raises(
        UsageError, match="mnist/cnn/nesterov_momentum/8: val/loss is not measured: there are val/class"
    ):
        steps_to_result(study([trial(0, {1: 0.1})]), "val/loss", 0.2)
    assert steps_to_result(study([]), "val/loss", 0.2) is None


@given(trial_lists(), GOALS)
@settings(max_examples=150, deadline=None)
def test_it_is_the_archives_definition(trials: list[Trial], goal: float) -> None:
    with tempfile.TemporaryDirectory() as directory:
        written = write_study(Path(directory), study(trials))
        (read,) = read_archive(Path(directory))
        result = steps_to_result(read, METRIC, goal)
        assert found(result) == slow_steps_to_result(written, METRIC, goal)


@given(trial_lists(), GOALS, st.randoms())
def test_the_order_of_trials_is_no_part_of_it(trials: list[Trial], goal: float, random: object) -> None:
    before = found(steps_to_result(study(trials), METRIC, goal))
    random.shuffle(trials)  # type: ignore[attr-defined]
    shuffled = study([])
    object.__setattr__(shuffled, "trials", trials)
    assert found(steps_to_result(shuffled, METRIC, goal)) == before


@given(trial_lists(), GOALS, st.integers(41, 99))
def test_a_worse_trial_changes_nothing(trials: list[Trial], goal: float, new_id: int) -> None:
    before = found(steps_to_result(study(trials), METRIC, goal))
    for worse in (trial(new_id, {0: goal, 5: goal + 0.1}), trial(new_id, {before[0]: 0.0} if before else {})):
        assert found(steps_to_result(study([*trials, worse]), METRIC, goal)) == before


@given(trial_lists(), GOALS, st.integers(41, 99), st.sampled_from(["INCOMPLETE", "INFEASIBLE"]))
def test_a_trial_that_is_not_complete_changes_nothing(
    trials: list[Trial], goal: float, new_id: int, status: str
) -> None:
    before = found(steps_to_result(study(trials), METRIC, goal))
    assert found(steps_to_result(study([*trials, trial(new_id, {0: 0.0}, status)]), METRIC, goal)) == before


@given(st.permutations(range(130)), st.sets(st.integers(0, 129), max_size=29))
@settings(max_examples=20)
def test_the_101st_complete_trial_changes_nothing(ids: list[int], short: set[int]) -> None:
    complete = sorted(set(ids) - short)
    trials = [trial(i, {9: 0.1}, "INCOMPLETE" if i in short else "COMPLETE") for i in ids if i != complete[100]]
    better = trial(complete[100], {1: 0.0})
    assert [item.trial_id for item in counted_trials(study([*trials, better]))] == complete[:100]
    assert found(steps_to_result(study([*trials, better]), METRIC, 0.2)) == (9, complete[0])
    # One COMPLETE trial less before it, and it counts.
    assert found(steps_to_result(study([*trials[1:], better]), METRIC, 0.2)) == (
        (1, complete[100]) if trials[0].trial_id in complete[:100] else (9, complete[0])
    )


@given(trial_lists(), GOALS)
def test_a_harder_goal_never_takes_fewer_steps(trials: list[Trial], goal: float) -> None:
    easy, hard = (steps_to_result(study(trials), METRIC, value) for value in (goal, goal - 0.05))
    assert hard is None or (easy is not None and easy.steps <= hard.steps)


def test_the_first_step_need_not_be_the_first_row() -> None:
    assert first_step(trial(0, {30: 0.1, 10: 0.1, 20: 0.5}), METRIC, 0.2) == 10


@given(st.integers(1, 64), st.integers(1, 10**6), st.sets(st.integers(0, 12), min_size=1))
def test_perfect_scaling_is_steps_that_fall_as_batches_grow(base: int, steps: int, powers: set[int]) -> None:
    sizes = {base << power for power in powers}
    first = min(sizes)
    exact = {size: steps * first / size for size in sizes}
    assert perfect_scaling(exact) == exact
    assert perfect_scaling(exact, base=max(sizes)) == pytest.approx(exact)


def test_perfect_scaling_from_a_named_size() -> None:
    assert perfect_scaling({8: 1000, 16: 600, 32: 500}) == {8: 1000, 16: 500, 32: 250}
    assert perfect_scaling({8: 1000, 16: 600}, base=16) == {8: 1200, 16: 600}
    with pytest.raises(UsageError, match="batch size 16: the goal is reached at 8, 32"):
        perfect_scaling({8: 100, 32: 40}, 16)
    with pytest.raises(UsageError, match="none"):
        perfect_scaling({})
