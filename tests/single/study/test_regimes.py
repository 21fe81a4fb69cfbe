"""Regimes, slopes, learning rates and budgets: synthetic curves, an independent reference, published points."""

from __future__ import annotations

import csv
import json
import math
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsgd.errors import UsageError
from hpcsgd.study.archive import Study, Trial, read_archive, read_measurements
from hpcsgd.study.budgets import best_under_epochs, best_under_steps
from hpcsgd.study.learning_rate import effective, heuristics, optimal_effective
from hpcsgd.study.regimes import Regimes, bootstrap, limits, local_slopes
from hpcsgd.study.result import perfect_scaling, steps_to_result

METRIC = "val/classification_error"
PUBLISHED = Path(__file__).parents[3] / "analysis" / "published" / "shallue_steps_to_result.csv"


def trial(number: int, errors: Mapping[int, float], status: str = "COMPLETE", **parameters: float) -> Trial:
    columns = {"step": np.array([*errors], float), METRIC: np.array([*errors.values()], float)}
    return Trial(number, status, max(errors), parameters, columns)


def study(batch_size: int, *trials: Trial) -> Study:
    return Study("d", "m", "o", batch_size, {}, trials)


TRIALS = st.lists(
    st.tuples(
        st.dictionaries(st.integers(1, 50), st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=5),
        st.sampled_from(["COMPLETE", "COMPLETE", "INCOMPLETE", "INFEASIBLE"]),
    ),
    min_size=1,
    max_size=130,
)


def reference(trials: list[Trial], goal: float) -> tuple[int, int] | None:
    """The archive's definition, measurement by measurement."""
    counted = 0
    best = None
    for one in sorted(trials, key=lambda item: item.trial_id):
        if one.status != "COMPLETE":
            continue
        counted += 1
        if counted > 100:
            break
        for step, error in zip(one.measurements["step"], one.measurements[METRIC], strict=True):
            if error < goal and (best is None or step < best[0]):
                best = (int(step), one.trial_id)
    return best


@given(TRIALS, st.sampled_from([0.1, 0.2, 0.35]), st.randoms(use_true_random=False))
def test_steps_to_result_is_the_definition_in_any_order(made, goal, random) -> None:  # type: ignore[no-untyped-def]
    trials = [trial(number, dict(sorted(errors.items())), status) for number, (errors, status) in enumerate(made)]
    expected = reference(trials, goal)
    random.shuffle(trials)
    found = steps_to_result(study(8, *trials), METRIC, goal)
    assert (None if found is None else (found.steps, found.trial.trial_id)) == expected


@given(TRIALS, st.sampled_from(["COMPLETE", "INCOMPLETE", "INFEASIBLE"]))
def test_a_trial_that_is_worse_or_does_not_count_changes_nothing(made, status) -> None:  # type: ignore[no-untyped-def]
    trials = [trial(number, errors, kind) for number, (errors, kind) in enumerate(made)]
    error = 0.5 if status == "COMPLETE" else 0.0
    more = study(8, *trials, trial(len(trials), {1: error}, status))
    assert steps_to_result(more, METRIC, 0.3) == steps_to_result(study(8, *trials), METRIC, 0.3)


def test_higher_can_be_better() -> None:
    one = study(8, trial(0, {10: 0.5, 20: 0.7, 30: 0.8}))
    found = steps_to_result(one, METRIC, 0.7, higher_is_better=True)
    assert found is not None and found.steps == 30


@given(st.integers(0, 6), st.integers(0, 6))
def test_limits_of_a_curve_with_known_corners(perfect: int, between: int) -> None:
    """Steps halve up to one size, then fall by 2^-0.6 a doubling, then stay."""
    logs = [20.0]
    logs += [logs[0] - i for i in range(1, perfect + 1)]
    for _ in range(between):
        logs.append(logs[-1] - 0.6)
    logs += [logs[-1]] * 3
    steps = {2**i: 2**value for i, value in enumerate(logs)}
    found = limits(steps)
    # With one step of 0.6, the size after perfect scaling is off the line by 0.4 still.
    on_line = perfect + (between > 0)
    assert found.perfect_until == 2**on_line
    assert found.maximal_from == 2 ** (perfect + between)


def test_exactly_perfect_scaling_has_no_end() -> None:
    steps = {2**i: 2 ** (20 - i) for i in range(10)}
    assert limits(steps) == Regimes(512, 512)
    assert perfect_scaling(steps) == steps
    assert set(local_slopes(steps).values()) == {-1.0}
    assert list(local_slopes({8: 100, 64: 100})) == [(8, 64)]


def test_intervals_hold_what_was_measured_and_repeat() -> None:
    studies = [study(2**i, *(trial(t, {round(1000 / 2**i) + 7 * t: 0.1}) for t in range(20))) for i in range(8)]
    first, again = (bootstrap(studies, METRIC, 0.2, draws=300) for _ in range(2))
    assert first == again
    for one in studies:
        low, high = first.steps[one.batch_size]
        found = steps_to_result(one, METRIC, 0.2)
        assert found is not None and low == found.steps <= high
    assert set(first.unreached.values()) == {0.0}


def test_a_single_trial_has_no_spread_and_a_goal_out_of_reach_is_refused() -> None:
    studies = [study(8, trial(0, {100: 0.1})), study(16, trial(0, {50: 0.1})), study(32, trial(0, {9: 0.3}))]
    spread = bootstrap(studies, METRIC, 0.2)
    assert spread.steps == {8: (100, 100), 16: (50, 50)}
    assert spread.unreached[32] == 1
    assert spread.perfect_until == (16, 16)
    with pytest.raises(ValueError, match="better than 0.05"):
        bootstrap(studies, METRIC, 0.05)


def test_half_of_the_draws_of_two_trials_miss_the_better_one() -> None:
    """Drawn twice out of two: the better one is missed with probability 1/4."""
    spread = bootstrap([study(8, trial(0, {10: 0.1}), trial(1, {10: 0.9}))], METRIC, 0.2, draws=4000)
    assert spread.unreached[8] == pytest.approx(0.25, abs=0.03)


def test_effective_learning_rates_by_hand() -> None:
    assert effective(0.1, 0.9) == pytest.approx(1.0)
    studies = [
        study(
            8, trial(0, {10: 0.1}, learning_rate=0.1, momentum=0.5), trial(1, {5: 0.1}, learning_rate=0.2, momentum=0.9)
        ),
        study(32, trial(0, {4: 0.1}, learning_rate=0.3)),
        study(64, trial(0, {4: 0.9}, learning_rate=0.3)),
    ]
    best = optimal_effective(studies, METRIC, 0.2)
    assert best == pytest.approx({8: 2.0, 32: 0.3})
    assert heuristics(best) == {"linear": pytest.approx({8: 2.0, 32: 8.0}), "sqrt": pytest.approx({8: 2.0, 32: 4.0})}


def test_budgets_by_hand() -> None:
    one = study(8, trial(0, {10: 0.4, 20: 0.2}), trial(1, {15: 0.3, 30: 0.1}), trial(2, {1: 0.0}, "INFEASIBLE"))
    assert [best_under_steps(one, METRIC, steps) for steps in (9, 10, 15, 25, 99)] == [None, 0.4, 0.3, 0.2, 0.1]
    # 15 steps of 8 are 1.2 epochs of 100 samples.
    assert best_under_epochs(one, METRIC, 1.2, 100) == 0.3
    assert best_under_steps(one, METRIC, 20, higher_is_better=True) == 0.4


def write_trial(folder: Path, number: int, status: str, rows: list[tuple[int, float]]) -> None:
    (folder / str(number)).mkdir(parents=True)
    metadata = {"trial_id": number, "status": status, "steps": rows[-1][0], "parameters": {"learning_rate": 0.1}}
    (folder / str(number) / "metadata.json").write_text(json.dumps(metadata))
    lines = [f"step,{METRIC}", *(f"{step},{error}" for step, error in rows)]
    (folder / str(number) / "measurements.csv").write_text("\n".join(lines) + "\n")


def test_published_points_come_back_from_an_archive(tmp_path: Path) -> None:
    """Each published workload as an archive on the disk, with one trial a batch size that takes so many steps."""
    points: dict[tuple[str, str, str], dict[int, int]] = {}
    with PUBLISHED.open() as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            key = (row["dataset"], row["model"], row["optimizer"])
            points.setdefault(key, {})[int(row["batch_size"])] = round(2 ** float(row["log2_steps_to_result"]))
    for key, steps in points.items():
        for size, step in steps.items():
            folder = tmp_path.joinpath(*key, str(size))
            folder.mkdir(parents=True)
            (folder / "study.json").write_text(json.dumps({"batch_size": size, "parameter_configs": {}}))
            write_trial(folder, 0, "COMPLETE", [(step - 1, 0.5), (step, 0.1), (step + 1, 0.1)])
    with tarfile.open(tmp_path / "all.tar.xz", "w:xz") as packed:
        for key in points:
            packed.add(tmp_path / key[0], arcname=key[0])
    for source in (tmp_path, tmp_path / "all.tar.xz"):
        found: dict[tuple[str, str, str], dict[int, int]] = {}
        for one in read_archive(source):
            result = steps_to_result(one, METRIC, 0.2)
            assert result is not None
            found.setdefault((one.dataset, one.model, one.optimizer), {})[one.batch_size] = result.steps
        assert found == points
    for steps in points.values():
        check_regimes(steps)


def check_regimes(steps: dict[int, int]) -> None:
    """The regimes as they are defined, size by size."""
    found, sizes = limits(steps), sorted(steps)
    off = {size: math.log2(steps[size] * size) - math.log2(steps[sizes[0]] * sizes[0]) for size in sizes}
    until = sizes.index(found.perfect_until)
    assert all(off[size] <= 0.5 for size in sizes[: until + 1])
    assert until + 1 == len(sizes) or off[sizes[until + 1]] > 0.5
    above = {size: math.log2(steps[size] / min(steps.values())) for size in sizes}
    start = sizes.index(found.maximal_from)
    assert all(above[size] <= 0.5 for size in sizes[start:])
    assert start == 0 or above[sizes[start - 1]] > 0.5


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "d" / "m" / "o" / "8"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text('{"batch_size": 8}')
    write_trial(folder, 0, "COMPLETE", [(1, 0.5)])
    assert [one.count("COMPLETE") for one in read_archive(tmp_path)] == [1]
    (folder / "0" / "measurements.csv").write_text("step\n1,2\n")
    with pytest.raises(UsageError, match=r"d/m/o/8 is no study .*2 fields in a row under 1 names"):
        read_archive(tmp_path)
    with pytest.raises(UsageError, match="cannot read the archive .*none: No such file"):
        read_archive(tmp_path / "none")


def test_empty_fields_and_files_of_measurements() -> None:
    table = read_measurements(b"step,a,b\n1,,3\n2,5,\n")
    np.testing.assert_array_equal(table["a"], [math.nan, 5])
    np.testing.assert_array_equal(table["b"], [3, math.nan])
    assert {name: len(column) for name, column in read_measurements(b"step,a\n").items()} == {"step": 0, "a": 0}
