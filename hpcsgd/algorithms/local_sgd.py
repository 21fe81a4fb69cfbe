"""Synchronous, local, post-local and hierarchical local SGD: one order of events under four schedules.

Goyal 2017 (synchronous SGD); Lin 2020 (local, post-local, hierarchical). The schedule says at each step whether
gradients are averaged before the update, or parameters after it, over a block or over all ranks, or nothing.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from hpcsgd.algorithms.base import Spans, Synchronisation, borrowed, start_equal
from hpcsgd.algorithms.batch_norm import average_statistics_
from hpcsgd.algorithms.rows import average_rows_, spread_first_, sum_own_
from hpcsgd.algorithms.schedule import Action, SyncSchedule
from hpcsgd.algorithms.slow_momentum import SlowMomentum
from hpcsgd.comm.gradients import GradientAllreduce
from hpcsgd.comm.hashing import Comparisons
from hpcsgd.comm.reduce import FlatReducer, wait_until_computed
from hpcsgd.config import AlgorithmConfig
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.base import RowOptimizer
from hpcsgd.optim.rows import PARAMETERS


class LocalSGD:
    """SGD with averaging of gradients or of parameters, as the schedule says."""

    def __init__(
        self,
        config: AlgorithmConfig,
        schedule: SyncSchedule,
        learners: ReplicaStack,
        optimizer: RowOptimizer,
        gradients: GradientAllreduce,
        world: FlatReducer,
        block: FlatReducer,
        spans: Spans,
        accumulation_steps: int = 1,
        hash_every: int = 0,
    ) -> None:
        """
        Args:
            config: the recipe's section.
            schedule: the action of each step.
            learners: this rank's models.
            optimizer: their local optimizer.
            gradients: sum of the first learner's gradient over all ranks.
            world: average of parameters over all ranks.
            block: the same over the ranks of this rank's block.
            spans: the clock.
            accumulation_steps: backward passes of a step.
            hash_every: global synchronisations between two comparisons of the ranks' parameters; 0: never.
        """
        self.config = config
        self.schedule = schedule
        self.learners = learners
        self.optimizer = optimizer
        self.gradients = gradients
        self.reducers = {Action.BLOCK: block, Action.GLOBAL: world}
        self.spans = spans
        self.accumulation_steps = accumulation_steps
        self.comparisons = Comparisons(world.comm, hash_every, "the parameters")
        self.slow: SlowMomentum | None = None
        if config.momentum_policy == "global":
            self.slow = SlowMomentum(learners.parameters[0], config.slow_momentum, config.slow_learning_rate)
        self._equal = True  # the parameters are the same in all learners

    def start(self, step: int = 0) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        if step == 0:
            start_equal(self.learners, self.reducers[Action.GLOBAL].comm)
        self._arm(step)

    def normaliser(self, step: int, num_local: int, num_global: int) -> float:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`.

        The gradients of all learners are summed: over kn, also where their batches differ (Goyal). A local step takes
        its own mean.
        """
        return num_global if self.schedule(step) is Action.GRADIENT else max(num_local, 1)

    def step(self, step: int, rate: float, num_samples: int) -> Synchronisation:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        action = self.schedule(step)
        num_bytes = self._gradient_step(rate) if action is Action.GRADIENT else self._local_step(rate, num_samples)
        if action in self.reducers:
            num_bytes = self._average(action, rate)
        if action in (Action.GRADIENT, Action.GLOBAL):
            self.comparisons.count(self.learners.parameters)
        self._arm(step + 1)
        return Synchronisation(action, num_bytes)

    def consensus(self) -> AbstractContextManager[nn.Module]:
        """The average of the replicas; see :class:`~hpcsgd.algorithms.base.Algorithm`."""
        return borrowed(self.learners, self._become_consensus)

    def finish(self) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        self._become_consensus()
        self._equal = True

    def check(self) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        if self._equal:
            self.comparisons.now(self.learners.parameters)

    def close(self) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        with self.reducers[Action.GLOBAL].comm.watchdog.watch("end of the gradient allreduce"):
            self.gradients.close()

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        slow = self.slow.state_dict() if self.slow is not None else None
        return {
            "equal": self._equal,
            "until_hash": self.comparisons.left,
            "optimizer": self.optimizer.state_dict(),
            "slow": slow,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        self._equal = state["equal"]
        self.comparisons.left = state["until_hash"]
        self.optimizer.load_state_dict(state["optimizer"])
        if self.slow is not None:
            self.slow.load_state_dict(state["slow"])

    def _arm(self, step: int) -> None:
        """Let the coming backward passes launch the gradient allreduce, if ``step`` asks for one.

        Else none will ask for it any more, and it is closed: Horovod's thread would go on to take processor time.
        """
        if self.schedule(step) is Action.GRADIENT:
            self.gradients.arm(self.accumulation_steps)
        else:
            self.close()

    def _gradient_step(self, rate: float) -> int:
        """Sum the gradients, then update."""
        # The wait for a GPU's collective is on the GPU's own queue: the host's clock would say nothing of it.
        gradients = self.learners.gradients
        on_host = gradients.device.type == "cpu"
        sum_own_(gradients)
        if on_host:
            self.spans.enter_sync()
        with self.reducers[Action.GLOBAL].comm.watchdog.watch("gradient allreduce"):
            num_bytes = self.gradients.finish()
        if on_host:
            self.spans.exit_sync()
        spread_first_(gradients)
        self.spans.lap("gradient_allreduce")
        self._update(rate, len(self.learners))
        return num_bytes

    def _local_step(self, rate: float, num_samples: int) -> int:
        """Update by the own gradient; a learner without samples keeps its parameters."""
        if self.slow is not None:
            self.slow.remember_anchor()
        # Where not all learners have samples, the first ones have one each.
        if num_samples:
            self._update(rate, min(num_samples, len(self.learners)))
        self._equal = False
        return 0

    def _update(self, rate: float, count: int) -> None:
        """Update the first ``count`` learners."""
        self.optimizer.step(count, rate)
        self.learners.zero_gradients()
        self.spans.lap("update")

    @torch.no_grad()
    def _average(self, action: Action, rate: float) -> int:
        """Average parameters, and what the policies say, over a block or all ranks; return the bytes reduced."""
        learners, policy, reducer = self.learners, self.config.momentum_policy, self.reducers[action]
        wait_until_computed(learners.parameters)  # else the time of entry would be before the compute that came first
        self.spans.enter_sync()
        states = self.optimizer.states if policy == "average" else ()
        averaged = learners.rows.side_by_side((PARAMETERS, *states))
        num_bytes = sum(average_rows_(rows, reducer) for rows in averaged)
        if self.config.batch_norm_policy == "average":
            num_bytes += average_statistics_(learners, reducer)
        self.spans.exit_sync()
        if policy == "reset":
            self.optimizer.reset(self.optimizer.states)
        if self.slow is not None and action is Action.GLOBAL:
            self.slow.apply_(rate)
            spread_first_(learners.parameters)
        self._equal = action is Action.GLOBAL
        self.spans.lap("averaging")
        return num_bytes

    def _become_consensus(self) -> None:
        """Average parameters, unless they are equal already, and BatchNorm statistics."""
        world = self.reducers[Action.GLOBAL]
        if not self._equal:
            average_rows_(self.learners.parameters, world)
        average_statistics_(self.learners, world)
