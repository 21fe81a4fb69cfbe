"""How trials are cut in groups, in which order they are taken, and how long they still take."""

from __future__ import annotations

import pytest

from hpcsgd.trials.groups import Group, SizePlan, expected_cost, make_groups
from hpcsgd.trials.pace import seconds_left

PLANS = [SizePlan(8, 1000, "fused", 4), SizePlan(64, 100, "fused", 3), SizePlan(512, 400, "loop", 1)]


def test_groups_hold_every_trial_once() -> None:
    groups = make_groups(PLANS, 10)
    for plan in PLANS:
        ids = sorted(trial for group in groups if group.batch_size == plan.batch_size for trial in group.trials)
        assert ids == list(range(10))
        assert max(len(g.trials) for g in groups if g.batch_size == plan.batch_size) == plan.fuse
    assert len({group.name for group in groups}) == len(groups) == 3 + 4 + 10


def test_what_costs_most_comes_first() -> None:
    budgets = {plan.batch_size: plan.budget for plan in PLANS}
    costs = [expected_cost(group, budgets[group.batch_size]) for group in make_groups(PLANS, 10)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] == 4 * 1000 * (8 + 64)


GROUPS = [Group(8, i, i, i + 1) for i in range(4)] + [Group(16, i, i, i + 1) for i in range(2)]
COSTS = {group.name: 10 if group.batch_size == 8 else 30 for group in GROUPS}


def test_the_time_left_follows_the_finished_groups() -> None:
    assert seconds_left(GROUPS, COSTS, {}, [], 2) is None
    # 8: 3 groups of 5 s; 16, not seen yet: 30 units at 5 s for 10, twice.
    assert seconds_left(GROUPS, COSTS, {"8-0": 5.0}, [], 1) == pytest.approx(3 * 5 + 2 * 15)
    assert seconds_left(GROUPS, COSTS, {"8-0": 5.0}, [2.0, 3.0], 2) == pytest.approx((45 - 5) / 2)
    # What was measured at 16 counts for 16 alone.
    assert seconds_left(GROUPS, COSTS, {"8-0": 5.0, "16-0": 7.0}, [], 1) == pytest.approx(3 * 5 + 7)
    # One group left: more teams do not help.
    walls = {group.name: 5.0 for group in GROUPS[:-1]}
    assert seconds_left(GROUPS, COSTS, walls, [], 8) == pytest.approx(5.0)
