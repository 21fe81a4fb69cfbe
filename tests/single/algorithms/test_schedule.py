"""The action of each step."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsgd.algorithms.schedule import Action, SyncSchedule
from hpcsgd.record.schema import ACTIONS

LETTERS = {Action.NONE: ".", Action.GRADIENT: "g", Action.BLOCK: "b", Action.GLOBAL: "W"}


@pytest.mark.parametrize(
    ("start", "period", "block_period", "actions"),
    [
        (None, 1, 1, "gggggggggggg"),
        (None, 4, 3, "gggggggggggg"),
        (0, 1, 1, "WWWWWWWWWWWW"),
        (0, 2, 1, ".W.W.W.W.W.W"),
        (0, 3, 1, "..W..W..W..W"),
        (0, 5, 1, "....W....W.."),
        (0, 20, 1, "............"),
        (3, 1, 1, "gggWWWWWWWWW"),
        (3, 4, 1, "ggg...W...W."),
        (5, 2, 1, "ggggg.W.W.W."),
        (1, 3, 1, "g..W..W..W.."),
        (12, 2, 1, "gggggggggggg"),
        (0, 1, 3, "bbWbbWbbWbbW"),
        (0, 2, 2, ".b.W.b.W.b.W"),
        (0, 2, 3, ".b.b.W.b.b.W"),
        (3, 2, 2, "ggg.b.W.b.W."),
        (1, 1, 2, "gbWbWbWbWbWb"),
    ],
)
def test_actions(start: int | None, period: int, block_period: int, actions: str) -> None:
    schedule = SyncSchedule(start, period, block_period)
    assert "".join(LETTERS[schedule(step)] for step in range(12)) == actions


@given(st.integers(0, 40), st.integers(1, 20), st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_periods_hold_far_away(start: int, period: int, block_period: int, step: int) -> None:
    schedule = SyncSchedule(start, period, block_period)
    done = start + step * period * block_period
    actions = [schedule(s) for s in range(done, done + period * block_period)]
    assert actions.count(Action.GLOBAL) == 1 and actions[-1] is Action.GLOBAL
    assert actions.count(Action.BLOCK) == block_period - 1
    assert all((action is Action.NONE) == bool((i + 1) % period) for i, action in enumerate(actions))


def test_numbers_are_those_of_the_log() -> None:
    assert [action.name.lower() for action in Action] == list(ACTIONS)
    assert [int(action) for action in Action] == list(range(len(ACTIONS)))
