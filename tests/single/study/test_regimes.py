"""Regimes of curves with known corners, and the intervals of the bootstrap."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsgd.errors import UsageError
from hpcsgd.study.archive import Study
from hpcsgd.study.regimes import Regimes, bootstrap, limits, local_slopes
from tests.single.study.studies import METRIC, curve, study, trial

GOAL = 0.1
CURVES = st.dictionaries(st.integers(0, 16).map(lambda power: 1 << power), st.integers(1, 10**6), min_size=1)


def slow_limits(steps: dict[int, int]) -> Regimes:
    """The definition in whole numbers: log2 of a ratio is at most 0.5 where its square is at most 2."""
    sizes = sorted(steps)
    first = steps[sizes[0]] * sizes[0]
    good = [(steps[size] * size) ** 2 <= 2 * first**2 for size in sizes]
    perfect = [size for i, size in enumerate(sizes) if all(good[: i + 1])]
    least = min(steps.values())
    flat = [steps[size] ** 2 <= 2 * least**2 for size in sizes]
    maximal = [size for i, size in enumerate(sizes) if all(flat[i:])]
    return Regimes(perfect[-1], maximal[0] if maximal else None)


@pytest.mark.parametrize(
    ("steps", "perfect", "maximal"),
    [
        # Exactly 1/B: perfect to the end, which is the minimum.
        ({8: 1024, 16: 512, 32: 256}, 32, 32),
        # Perfect to 32 (32 * 300 = 9600 < 2^0.5 * 8192 = 11585); from 32 on within 2^0.5 * 270 = 382.
        ({8: 1024, 16: 512, 32: 300, 64: 280, 128: 270}, 32, 32),
        # 16 * 740 = 11840 > 11585 ends it, though 32 comes back to the line.
        ({8: 1024, 16: 740, 32: 256, 64: 120, 128: 90, 256: 88}, 8, 64),
        # Flat from the start.
        ({8: 100, 16: 100, 32: 100}, 8, 8),
        # Faster than perfect.
        ({8: 1000, 16: 100, 32: 50}, 32, 32),
        # Steps that rise at the largest batch: the regime is not reached.
        ({8: 1000, 16: 500, 32: 500, 64: 900}, 16, None),
        # ... and steps that rise in between: it begins after them.
        ({8: 1000, 16: 500, 32: 900, 64: 450}, 16, 64),
        ({8: 1000}, 8, 8),
    ],
)
def test_corners_by_hand(steps: dict[int, int], perfect: int, maximal: int | None) -> None:
    assert limits(steps) == Regimes(perfect, maximal) == slow_limits(steps)


@given(CURVES)
def test_limits_are_as_defined(steps: dict[int, int]) -> None:
    assert limits(steps) == slow_limits(steps)


@given(st.integers(0, 10), st.integers(1, 5), st.integers(0, 5))
def test_a_curve_with_two_corners_has_them_where_they_were_put(first: int, bend: int, flat: int) -> None:
    """Steps fall as B^-1, then as B^-0.75 for ``bend`` doublings of four, and then stay."""
    corner, end = first, first + 4 * bend
    steps = {}
    for power in range(end + 4 * flat + 1):
        slow = min(max(power - corner, 0), end - corner)
        steps[1 << power] = 2.0 ** (60 - min(power, corner) - 0.75 * slow)
    # On the way, the curve leaves the line by 0.25 a doubling: two are allowed. It comes within 0.5 of its end in its
    # last doubling only, which is 0.75.
    assert limits(steps) == Regimes(1 << (corner + 2), 1 << end)


@pytest.mark.parametrize("steps", [{}, {8: 0, 16: 3}, {8: math.inf}])
def test_curves_without_regimes_are_refused(steps: dict[int, float]) -> None:
    with pytest.raises(UsageError, match="goal"):
        limits(steps)


@given(st.integers(1, 64), st.integers(0, 20), st.sets(st.integers(0, 12), min_size=2), st.floats(-2, 1))
def test_slopes_of_a_power_law_are_its_power(base: int, scale: int, powers: set[int], power: float) -> None:
    steps = {base << p: 2.0**scale * (base << p) ** power for p in powers}
    slopes = local_slopes(steps)
    sizes = sorted(steps)
    assert list(slopes) == list(zip(sizes, sizes[1:], strict=False))
    assert list(slopes.values()) == pytest.approx([power] * (len(sizes) - 1), abs=1e-9)


def noisy(sizes: tuple[int, ...] = (8, 16, 32, 64), seed: int = 0, trials: int = 12) -> list[Study]:
    """Studies whose trials reach the goal at random steps, a third of them never."""
    draw = random.Random(seed)
    made = []
    for size in sizes:
        least = 40 + 4000 // size
        steps = [round(least * (1 + draw.random())) if i % 3 else None for i in range(trials)]
        made.append(study([trial(i, {s: 0.01} if s else {9: 0.9}) for i, s in enumerate(steps)], size))
    return made


def test_one_trial_a_batch_size_leaves_nothing_to_chance() -> None:
    steps = {8: 1000, 16: 500, 32: 300, 64: 290}
    spread = bootstrap(curve(steps, GOAL), METRIC, GOAL, draws=20)
    assert spread.steps == {size: (value, value) for size, value in steps.items()}
    found = limits(steps)
    assert spread.perfect_until == (found.perfect_until, found.perfect_until)
    assert spread.maximal_from == (found.maximal_from, found.maximal_from)
    assert spread.unreached == dict.fromkeys(steps, 0.0)


def test_the_chance_of_the_best_trial_is_that_of_drawing_it() -> None:
    # Of 4 trials, the best is not drawn with probability (3/4)^4 = 0.316; neither of the two best with 1/16.
    made = [study([trial(i, {step: 0.0}) for i, step in enumerate([10, 20, 30, 40])])]
    # The quantile 0.975 lies between 1 - 1/16 = 0.9375 and 1 - (1/4)^4 = 0.996.
    assert bootstrap(made, METRIC, GOAL, draws=20000).steps[8] == (10, 30)
    # With both of the two best reached, and the others never, 1/16 of the draws miss: beyond the quantile.
    missed = bootstrap([study([trial(i, {10: 0.0 if i < 2 else 0.9}) for i in range(4)])], METRIC, GOAL, draws=20000)
    assert missed.steps[8] == (10, math.inf) and missed.unreached[8] == pytest.approx(1 / 16, abs=0.01)
    # Of ten trials that never miss but for one, (1/10)^10 of the draws do.
    rare = bootstrap([study([trial(i, {10: 0.0 if i else 0.9}) for i in range(10)])], METRIC, GOAL, draws=2000)
    assert rare.steps[8] == (10, 10) and rare.unreached[8] == 0.0


def test_a_seed_gives_the_same_draws_whatever_the_order_of_studies() -> None:
    made = noisy()
    spread = bootstrap(made, METRIC, GOAL, draws=200, seed=3)
    assert bootstrap(made[::-1], METRIC, GOAL, draws=200, seed=3) == spread
    assert bootstrap(made, METRIC, GOAL, draws=200, seed=4) != spread
    assert bootstrap(made[1:], METRIC, GOAL, draws=200, seed=3).steps.items() <= spread.steps.items()


def test_batch_sizes_are_drawn_apart() -> None:
    alike = [study([trial(0, {10: 0.0}), trial(1, {10: 0.9})], size) for size in (8, 16)]
    unreached = bootstrap(alike, METRIC, GOAL, draws=4000).unreached
    assert unreached[8] != unreached[16]


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_intervals_hold_the_estimate_of_steps_and_what_was_measured(seed: int) -> None:
    made = noisy(seed=seed)
    spread = bootstrap(made, METRIC, GOAL, draws=100)
    for item in made:
        measured = [int(t.measurements["step"][0]) for t in item.trials if t.measurements[METRIC][0] < GOAL]
        low, high = spread.steps[item.batch_size]
        assert low == min(measured) and high in measured and low <= high
    for low, high in (spread.perfect_until, spread.maximal_from):
        assert low in (8, 16, 32, 64) and high in (8, 16, 32, 64, math.inf) and low <= high


def test_draws_without_a_trial_that_reaches_the_goal_leave_the_batch_size_out() -> None:
    # At 32, one trial of two reaches it: a quarter of the draws has none. At 16, nobody ever does.
    half = study([trial(0, {250: 0.0}), trial(1, {250: 0.5})], 32)
    made = [*curve({8: 1000}, GOAL), study([trial(0, {9: 0.5})], 16), half]
    spread = bootstrap(made, METRIC, GOAL, draws=4000)
    assert spread.unreached == {8: 0.0, 16: 1.0, 32: pytest.approx(0.25, abs=0.03)}
    assert spread.steps == {8: (1000, 1000), 32: (250, math.inf)}
    assert spread.perfect_until == (8, 32)
    # Without batch size 8, a quarter of the draws says nothing of the limits.
    alone = bootstrap(made[1:], METRIC, GOAL, draws=4000)
    assert alone.perfect_until == alone.maximal_from == (32, 32)


def test_only_the_first_100_complete_trials_are_drawn_from() -> None:
    counted = [trial(i, {50: 0.0}) for i in range(100)]
    made = study([*counted, trial(100, {40: 0.0}, "INFEASIBLE"), *(trial(i, {1: 0.0}) for i in range(101, 200))])
    assert bootstrap([made], METRIC, GOAL, draws=50).steps == {8: (50, 50)}


def test_draws_that_rise_at_the_end_have_no_flat_end() -> None:
    spread = bootstrap(curve({8: 100, 16: 50, 32: 100}, GOAL), METRIC, GOAL, draws=20)
    assert spread.perfect_until == (16, 16) and spread.maximal_from == (math.inf, math.inf)


def test_more_is_better_where_it_is() -> None:
    made = [study([trial(0, {10: 0.3, 20: 0.4})], 8), study([trial(0, {7: 0.4})], 16)]
    assert bootstrap(made, METRIC, 0.3, draws=9, higher_is_better=True).steps == {8: (20, 20), 16: (7, 7)}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([study([trial(0, {9: 0.5})])], "no COMPLETE trial is better than 0.1 in val/classification_error"),
        (curve({8: 9}) + curve({8: 7}), "several studies of one batch size among 8, 8"),
        ([study([trial(0, {0: 0.05})])], "0.0 steps to result at batch size 8"),
        ([study([trial(0, {9: 0.05}, metric="val/loss")])], "is not measured"),
    ],
)
def test_what_cannot_be_drawn_is_refused(made: list[Study], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        bootstrap(made, METRIC, GOAL)
