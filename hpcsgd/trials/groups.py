"""The units of work of a study: groups of trials of one batch size that train together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

STEP_OVERHEAD_SAMPLES = 64
"""What a step costs beside its samples, counted in samples: a guess that orders the groups, nothing else."""


@dataclass(frozen=True)
class SizePlan:
    """What was settled once for one batch size, and holds for every start of the study.

    Attributes:
        batch_size: samples of a step.
        budget: steps that make a trial COMPLETE.
        engine: what runs the trials of a group.
        fuse: trials of a group.
    """

    batch_size: int
    budget: int
    engine: str
    fuse: int

    def to_json(self) -> dict[str, Any]:
        """As ``plan.json`` holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Group:
    """Trials ``first`` to ``last`` - 1 of one batch size: they train together, and are kept together."""

    batch_size: int
    index: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """Its name in the study's directory."""
        return f"{self.batch_size}-{self.index}"

    @property
    def trials(self) -> range:
        """Their ids."""
        return range(self.first, self.last)


def make_groups(plans: Iterable[SizePlan], num_trials: int) -> list[Group]:
    """All groups of a study, in the order in which they are taken: those that cost most first.

    So the last ones are short, and no rank waits long for another one's. The order is no part of the result.
    """
    costs = {}
    for plan in plans:
        for index, first in enumerate(range(0, num_trials, plan.fuse)):
            group = Group(plan.batch_size, index, first, min(first + plan.fuse, num_trials))
            costs[group] = expected_cost(group, plan.budget)
    return sorted(costs, key=lambda group: (-costs[group], group.batch_size, group.index))


def expected_cost(group: Group, budget: int) -> int:
    """What a group costs before anything is measured, in samples that one trial after another would take."""
    return len(group.trials) * budget * (group.batch_size + STEP_OVERHEAD_SAMPLES)
