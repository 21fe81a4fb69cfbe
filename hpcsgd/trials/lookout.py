"""What a rank looks at beside its own trials: signals, the other ranks, and how far the study is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from hpcsgd.comm.stop import StopSignals
from hpcsgd.record.look import Display
from hpcsgd.trials.directory import Claims
from hpcsgd.trials.groups import Group, SizePlan, expected_cost
from hpcsgd.trials.pace import seconds_left
from hpcsgd.trials.progress import study_figures

LOOK_SECONDS = 0.2
"""Time between two looks of a rank without work at whether the others are done."""


class Lookout:
    """Stops and progress of one start."""

    def __init__(
        self,
        claims: Claims,
        groups: Sequence[Group],
        plans: Sequence[SizePlan],
        signals: StopSignals,
        teams: int,
        progress: str,
    ) -> None:
        """
        Args:
            claims: of this start.
            groups: all of the study.
            plans: of its batch sizes.
            signals: of this rank.
            teams: groups that are trained at a time.
            progress: what is shown; ``none`` on all ranks but one.
        """
        self.claims = claims
        self.directory = claims.directory
        self.groups = {group.name: group for group in groups}
        budgets = {plan.batch_size: plan.budget for plan in plans}
        self.costs = {group.name: expected_cost(group, budgets[group.batch_size]) for group in groups}
        self.signals = signals
        self.teams = teams
        trials: Counter[int] = Counter()
        for group in groups:
            trials[group.batch_size] += len(group.trials)
        self.trials = {plan.batch_size: trials[plan.batch_size] for plan in plans}
        self.display = Display(progress, "trial", sum(self.trials.values()))
        self._walls: dict[str, float] = {}
        self._next_look = 0.0

    def stops(self) -> bool:
        """Whether this rank, or as far as it knows any other one, was told to stop; tells the others."""
        if self.signals.came:
            self.claims.ask_all_to_stop()
            return True
        return self.claims.stop_is_asked()

    def look(self) -> None:
        """Show how far the study is, if it is time to."""
        if self.display.due:
            self._show()

    def _show(self) -> None:
        self._read_finished()
        done: Counter[int] = Counter()
        for name in self._walls:
            done[self.groups[name].batch_size] += len(self.groups[name].trials)
        now = time.time()
        running = [now - begun for name, begun in self.claims.times().items() if name not in self._walls]
        left = seconds_left(list(self.groups.values()), self.costs, self._walls, running, self.teams)
        self.display.show(sum(done[size] for size in self.trials), study_figures(self.trials, done, left))

    def _read_finished(self) -> None:
        """Learn how long the groups took that were finished since the last look."""
        for name in self.directory.finished() - set(self._walls):
            self._walls[name] = float(self.directory.read_group(name)["wall_seconds"])

    def wait_for_all(self) -> None:
        """Return when all groups are finished, or a stop is asked.

        Not in a collective: a group may take longer than a collective is allowed to.
        """
        while not set(self.groups) <= self.directory.finished() and not self.stops():
            self.look()
            time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Show the last state, and end."""
        if self.display.kind != "none":
            self._show()
        self.display.close()
