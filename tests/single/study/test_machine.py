"""Collectives and steps of a machine in numbers: closed forms, and draws that depend on seed, rank and step alone."""

from __future__ import annotations

import numpy as np
import pytest

from hpcsgd.study.machine import BLOCK_STEPS, Duration, Level, Network, Slowness

SLOW = Level(1e-4, 1e9)
FAST = Level(1e-5, 5e9)


def test_a_ring_takes_latency_for_each_message_and_bandwidth_for_all_bytes() -> None:
    assert SLOW.allreduce_seconds(16e6, 16) == pytest.approx(30 * 1e-4 + 2 * 15 / 16 * 16e-3)
    assert SLOW.broadcast_seconds(16e6, 16) == pytest.approx((4 + 15) * 1e-4 + 2 * 15 / 16 * 16e-3)
    assert SLOW.broadcast_seconds(0, 5) == pytest.approx((3 + 4) * 1e-4)
    assert Level(bytes_per_second=1e6).allreduce_seconds(1e6, 2) == 1.0
    assert Level().allreduce_seconds(1e9, 8) == 0.0
    assert SLOW.allreduce_seconds(1e9, 1) == SLOW.broadcast_seconds(1e9, 1) == 0.0


def test_messages_that_all_get_whole_go_round_the_ring_and_parts_go_straight() -> None:
    assert SLOW.allgather_seconds(2e6, 16) == pytest.approx(15 * (1e-4 + 2e-3))
    assert SLOW.alltoall_seconds(3e6, 4) == pytest.approx(3e-4 + 3e-3)
    network = Network(within=FAST, between=SLOW)
    nodes = [0, 0, 1, 1]
    # Between nodes: the 2 messages of 1 MB of a node; within: the own one, and then the other node's two.
    gathered = network.allgather(1e6, nodes)
    assert gathered.between == pytest.approx(1e-4 + 2e-3)
    assert gathered.within == pytest.approx(FAST.allgather_seconds(1e6, 2) + FAST.broadcast_seconds(2e6, 2))
    assert network.allgather(1e6, [0, 1]) == Duration(0.0, SLOW.allgather_seconds(1e6, 2))
    # Of 4 parts of 1 MB each rank sends one within its node and two out of it.
    sent = network.alltoall(4e6, nodes)
    assert sent == Duration(FAST.alltoall_seconds(1e6, 2), SLOW.alltoall_seconds(4e6, 2))


def test_two_levels_are_a_ring_in_each_node_and_one_of_the_nodes() -> None:
    network = Network(within=FAST, between=SLOW)
    nodes = [0, 0, 0, 0, 1, 1, 1]
    within, between = FAST.allreduce_seconds(8e6, 4), SLOW.allreduce_seconds(8e6, 2)
    assert network.allreduce(8e6, nodes) == Duration(within, between)
    assert network.allreduce(8e6, nodes).seconds == within + between
    assert network.allreduce(8e6, [3, 3]) == Duration(FAST.allreduce_seconds(8e6, 2), 0.0)
    assert network.allreduce(8e6, [0, 1, 2]) == Duration(0.0, SLOW.allreduce_seconds(8e6, 3))
    assert network.broadcast(8e6, nodes).within == FAST.broadcast_seconds(8e6, 4)


def draws(count: int, rank: int = 0, **changes: float) -> np.ndarray:
    slowness = Slowness(7, rank, **changes)
    return np.array([slowness.factor(step) for step in range(count)])


def test_draws_are_a_function_of_seed_rank_and_step() -> None:
    """So a resumed run, which begins anywhere, has those of the run that was never stopped."""
    given = {"spread": 0.1, "correlated_spread": 0.2, "correlation": 0.9}
    count = 2 * BLOCK_STEPS + 5
    every = draws(count, **given)
    for step in (count - 1, BLOCK_STEPS, BLOCK_STEPS - 1, 0):
        assert Slowness(7, 0, **given).factor(step) == every[step]
    backwards = Slowness(7, 0, **given)
    assert [backwards.factor(step) for step in (count - 1, 3)] == [every[count - 1], every[3]]
    assert not np.isin(every, draws(count, rank=1, **given)).any()
    assert Slowness(8, 0, **given).factor(0) != every[0]


def test_draws_have_the_moments_that_are_asked_for() -> None:
    own = draws(20000, spread=0.3)
    assert own.mean() == pytest.approx(1, abs=0.01)
    assert np.log(own).std() == pytest.approx(0.3, abs=0.01)
    assert np.corrcoef(np.log(own[:-1]), np.log(own[1:]))[0, 1] == pytest.approx(0, abs=0.03)
    joined = np.log(draws(20000, correlated_spread=0.3, correlation=0.8))
    assert joined.std() == pytest.approx(0.3, abs=0.03)
    for lag in (1, 3):
        assert np.corrcoef(joined[:-lag], joined[lag:])[0, 1] == pytest.approx(0.8**lag, abs=0.05)
    assert set(draws(5, lasting=1.5)) == {1.5}
    assert (draws(5, lasting=2.0, spread=0.3) == 2 * own[:5]).all()
