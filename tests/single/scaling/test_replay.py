"""The replay, by its laws: closed forms without noise, order statistics with it, and a plain loop beside it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcsgd.scaling.methods import Method, parse_method
from hpcsgd.scaling.ranks import NO_EFFECTS, Effects, Noise, Slowdown
from hpcsgd.scaling.replay import Durations, Meetings, Passes, replay
from hpcsgd.scaling.tails import fit_independent, normal_sample

Array = NDArray[np.float64]


def meetings(gradient: float = 0.0, world: float = 0.0, block: float = 0.0, buckets: int = 1) -> Meetings:
    return Meetings(np.array(gradient), 1 / buckets, np.array(block), np.array(world))


def noise(
    *, lasting: float = 0.0, correlated: float = 0.0, independent: float = 0.0, correlation: float = 0.9
) -> Slowdown:
    effects = Effects(np.zeros(1), (lasting * normal_sample(),)) if lasting else NO_EFFECTS
    return Slowdown(effects, Noise(correlated, correlation, independent), fit_independent(normal_sample()))


def durations(machine: Slowdown, ranks: int, steps: int, seed: int = 0) -> Array:
    drawn = Durations([machine], [1.0], ranks, 1, np.random.default_rng(seed)).draw(steps)
    return np.asarray(drawn[:, 0], float)


def test_averaging_at_each_step_is_synchronous() -> None:
    compute = durations(noise(independent=0.2, lasting=0.1), 8, 30)
    found = [replay([compute], parse_method(name), meetings(0.3, 0.3), 1) for name in ("sync_sgd", "local_sgd:1")]
    assert np.allclose(found[0].ends, found[1].ends)
    assert np.allclose(found[0].ends, np.cumsum(compute.max(axis=1) + 0.3))
    assert np.isclose(found[0].waited_seconds, found[1].waited_seconds)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("sync_sgd", 1 + 0.4),
        ("local_sgd:4", 1 + 0.8 / 4),
        ("hierarchical_local_sgd:4x2", 1 + (0.8 + 0.2) / 8),
        ("sma:2", 1 + 0.8 / 2),
        ("local_sgd:4+late=1", 1.0),
        ("local_sgd:2+late=9", 1.0),
    ],
)
def test_without_noise_it_is_arithmetic(name: str, step: float) -> None:
    found = replay([np.ones((64, 4))], parse_method(name), meetings(0.4, 0.8, 0.2), 2)
    # What is late at the end is waited for by nobody here.
    assert found.step_seconds == pytest.approx(step)
    assert found.waited_seconds == pytest.approx(0)


def test_a_late_averaging_is_waited_for_where_it_takes_longer() -> None:
    found = replay([np.ones((40, 4))], parse_method("local_sgd:4+late=2"), meetings(world=2.5), 2)
    # Of every averaging, 0.5 s are left over after two steps; the last has not come back yet.
    assert found.ends[-1] == pytest.approx(40 + 9 * 0.5)


@pytest.mark.parametrize("took", [0.1, 0.3, 0.6, 3.0])
def test_the_first_and_the_last_bucket_decide(took: float) -> None:
    """Against all buckets one after another, each ready with its part of the backward pass."""
    count, backward, update = 5, 0.6, 0.1
    passes = Passes(backward, update)
    compute = durations(noise(independent=0.1), 4, 20)
    found = replay([compute], parse_method("sync_sgd"), meetings(took, buckets=count), 1, passes)
    now = np.zeros(4)
    for step in compute:
        there, free = now + step * (1 - update), 0.0
        for bucket in range(1, count + 1):
            ready = there - step * backward * (1 - bucket / count)
            free = max(free, float(ready.max())) + took / count
        now = free + step * update
    assert found.ends[-1] == pytest.approx(now.max())


def test_blocks_wait_for_their_own_only() -> None:
    method = Method("hierarchical_local_sgd", 2, 3)
    compute = durations(noise(independent=0.3), 5, 24)
    found = replay([compute[:7], compute[7:]], method, meetings(world=0.5, block=0.1), 2)
    now = np.zeros(5)
    for step, seconds in enumerate(compute):
        now = now + seconds
        if step % 6 == 5:
            now[:] = now.max() + 0.5
        elif step % 2 == 1:
            for block in ([0, 1], [2, 3], [4]):
                now[block] = now[block].max() + 0.1
    assert found.ends[-1] == pytest.approx(now.max())


def test_slowest_of_many_as_order_statistics_say() -> None:
    """The largest of k exponential numbers is 1 + 1/2 + ... + 1/k on average; of 16 normal ones 1.76599."""
    generator = np.random.default_rng(1)
    exponential = replay([generator.exponential(size=(4000, 32))], parse_method("sync_sgd"), meetings(), 1)
    assert exponential.step_seconds == pytest.approx(sum(1 / k for k in range(1, 33)), rel=0.02)
    compute = np.log(durations(noise(independent=0.2), 16, 4000))
    assert compute.max(axis=1).mean() == pytest.approx(0.2 * 1.76599, rel=0.02)


def waiting(machine: Slowdown, period: int) -> float:
    compute = durations(machine, 64, 3200)
    return float(replay([compute], Method("local_sgd", period), meetings(), 1).step_seconds / compute.mean() - 1)


def test_local_steps_average_random_slowness_away_and_lasting_slowness_never() -> None:
    random, lasting, between = noise(independent=0.05), noise(lasting=0.05), noise(correlated=0.05, correlation=0.95)
    assert waiting(random, 1) / waiting(random, 16) == pytest.approx(4, rel=0.1)
    assert waiting(random, 1) / waiting(random, 64) == pytest.approx(8, rel=0.15)
    assert waiting(lasting, 1) == pytest.approx(waiting(lasting, 16), rel=1e-3)
    assert 1.1 < waiting(between, 1) / waiting(between, 16) < 2


def test_machines_side_by_side_are_as_each_alone() -> None:
    compute = np.stack([durations(noise(independent=0.1 * k), 6, 20, seed=k) for k in (1, 2)], axis=1)
    costs = Meetings(np.array([0.1, 0.2]), 0.5, np.array([0.0, 0.1]), np.array([0.3, 0.4]))
    for name in ("sync_sgd", "local_sgd:4+late=2", "hierarchical_local_sgd:2x2"):
        both = replay([compute], parse_method(name), costs, 2)
        for k in range(2):
            own = Meetings(costs.gradient[k], 0.5, costs.block[k], costs.world[k])
            assert np.allclose(both.ends[:, k], replay([compute[:, k]], parse_method(name), own, 2).ends)
