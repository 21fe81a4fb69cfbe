"""The search for a number of learners: on made-up throughputs, with and without noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from hpcsgd.config import TunerConfig
from hpcsgd.errors import UsageError
from hpcsgd.learners.tuner import Measured, Search, Trial, chosen, make_trial

Curve = Callable[[int], float]


def search(curve: Curve, noise: float = 0.0, seed: int = 0, most: int = 16, impossible: int = 10**9) -> list[Trial]:
    """Search on a curve of samples a second; a machine that drifts slows both windows of a pair alike."""
    generator = np.random.default_rng(seed)

    def measure(learners: int, against: int, threshold: float) -> Measured | str:
        if learners >= impossible:
            return "out of memory"
        pairs = []
        for _ in range(3):
            for _ in range(5):
                drift = generator.uniform(0.5, 1)
                pairs.append(
                    [drift * curve(m) * (1 + noise * generator.standard_normal()) for m in (learners, against)]
                )
            measured = (
                Measured("loop", *np.array(pairs).T) if against else Measured("loop", [pair[0] for pair in pairs])
            )
            if not against or not measured.leaves_open(threshold):
                break
        return measured

    return Search(measure, TunerConfig(max_learners=most), told.append).run()


told: list[Trial] = []


def saturating(half: float) -> Curve:
    """Half of the most samples a second at ``half`` learners."""
    return lambda m: m / (m + half) if m else 1.0


CURVES: dict[str, Curve] = {
    "one is best": lambda m: 1 / max(m, 1) ** 0.5,
    "two are best": lambda m: {1: 1.0, 2: 1.3}.get(m, 1.1),
    "three are best": lambda m: {1: 1.0, 2: 1.3, 3: 1.5}.get(m, 1.2),
    "six are best": lambda m: 1 - abs(m - 6) / 20,
    "thirteen are best": lambda m: 1 - abs(m - 13) / 20,
    "the more the better": lambda m: float(m),
    "all alike": lambda m: 1.0,
    "soon full": saturating(1.0),
    "late full": saturating(4.0),
}


@pytest.mark.parametrize("name", CURVES)
def test_the_choice_is_within_a_twentieth_of_the_best(name: str) -> None:
    curve = CURVES[name]
    best = max(curve(m) for m in range(1, 17))
    assert curve(chosen(search(curve)).learners) >= 0.95 * best
    if name in ("one is best", "two are best", "three are best"):
        assert curve(chosen(search(curve)).learners) == best


@pytest.mark.parametrize("name", CURVES)
def test_noise_of_some_percent_does_not_fool_it(name: str) -> None:
    """In at least 19 of 20 searches, on a machine that is up to twice as slow from one pair of windows to the next."""
    curve = CURVES[name]
    best = max(curve(m) for m in range(1, 17))
    good = [curve(chosen(search(curve, 0.02, seed)).learners) >= 0.95 * best for seed in range(20)]
    assert sum(good) >= 19


def test_learners_are_doubled_and_then_the_step_is_halved() -> None:
    told.clear()
    trials = search(lambda m: CURVE.get(m, 1.0))
    assert [(t.learners, t.against, t.decision) for t in trials] == [
        (1, 0, "start"),
        (2, 1, "taken"),
        (4, 2, "taken"),
        (8, 4, "refused"),
        (6, 4, "refused"),
        (5, 4, "taken"),
    ]
    assert chosen(trials).learners == 5
    assert told == trials
    assert math.isnan(trials[0].gain)
    assert trials[1].gain == pytest.approx(1.0)
    assert trials[1].samples_per_second_min <= trials[1].samples_per_second <= trials[1].samples_per_second_max


CURVE = {1: 1.0, 2: 2.0, 4: 3.0, 8: 2.5, 6: 2.9, 5: 3.2}


def test_what_is_impossible_is_no_gain() -> None:
    trials = search(float, impossible=5)
    assert [(t.learners, t.decision) for t in trials] == [
        (1, "start"),
        (2, "taken"),
        (4, "taken"),
        (8, "impossible"),
        (6, "impossible"),
        (5, "impossible"),
        (3, "refused"),
    ]
    assert chosen(trials).learners == 4
    assert trials[3].reason == "out of memory"
    assert "impossible: out of memory" in str(trials[3])


def test_a_rank_that_cannot_train_one_is_an_error() -> None:
    with pytest.raises(UsageError, match="a rank cannot train one: out of memory"):
        search(float, impossible=1)


def test_no_more_are_tried_than_the_recipe_allows() -> None:
    assert [t.learners for t in search(float, most=1)] == [1]
    assert [t.learners for t in search(float, most=5)] == [1, 2, 4, 5, 3]


def test_a_trial_is_judged_by_the_median_of_its_pairs() -> None:
    # 10, 20, 30 and 5 % faster, and one pair that a hiccup spoiled.
    measured = Measured("fused", [110, 240, 390, 105, 10], [100, 200, 300, 100, 100])
    trial = make_trial(4, 2, measured, 0.05)
    assert trial.gain == pytest.approx(0.1)
    assert (trial.num_windows, trial.samples_per_second, trial.samples_per_second_min) == (5, 110, 10)
    assert trial.decision == "taken"
    assert make_trial(4, 2, measured, 0.1001).decision == "refused"
    assert str(trial) == "4 learners a rank by fused: 110 samples/s, +10.0 % against 2: taken"


def test_pairs_on_both_sides_of_the_threshold_leave_it_open() -> None:
    measured = Measured("loop", [1.0, 1.02, 1.04, 1.06], [1, 1, 1, 1])
    assert measured.leaves_open(0.03)
    assert not measured.leaves_open(0.1)
    assert not measured.leaves_open(0.0)
