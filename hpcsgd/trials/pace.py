"""How long a study still takes, learned from the groups that are finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hpcsgd.trials.groups import Group


def seconds_left(
    groups: Sequence[Group], costs: Mapping[str, int], walls: Mapping[str, float], running: Iterable[float], teams: int
) -> float | None:
    """Expected time to the end of a study.

    A group takes as long as the mean of the finished ones of its batch size; where there is none yet, as all finished
    ones say by their expected costs.

    Args:
        groups: all of the study.
        costs: expected cost of each group, by name, in any unit.
        walls: seconds that each finished group took.
        running: seconds for which each group under way has been.
        teams: groups that are trained at a time.

    Returns:
        Seconds; None before any group is finished.
    """
    if not walls:
        return None
    overall = sum(walls.values()) / sum(costs[name] for name in walls)
    total = 0.0
    for batch_size in {group.batch_size for group in groups}:
        names = [group.name for group in groups if group.batch_size == batch_size]
        done = [name for name in names if name in walls]
        pace = sum(walls[name] for name in done) / sum(costs[name] for name in done) if done else overall
        total += pace * sum(costs[name] for name in names if name not in walls)
    return max(0.0, total - sum(running)) / max(1, min(teams, len(groups) - len(walls)))
