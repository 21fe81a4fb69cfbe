"""Synchronous, local, post-local and hierarchical local SGD: one order of events under four schedules.

Goyal 2017 (synchronous SGD); Lin 2020 (local, post-local, hierarchical). The schedule says at each step whether
gradients are averaged before the update, or parameters after it, over a block or over all ranks, or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from hpcsgd.algorithms.base import Spans, Synchronisation, borrowed, start_equal
from hpcsgd.algorithms.batch_norm import average_statistics_
from hpcsgd.algorithms.buffers import average_buffers_, unite_buffers_
from hpcsgd.algorithms.divergence import divergence_of
from hpcsgd.algorithms.late import Flight, LateAverage
from hpcsgd.algorithms.loss_scale import taken
from hpcsgd.algorithms.outer import make_anchored
from hpcsgd.algorithms.rows import average_rows_, spread_first_, sum_own_
from hpcsgd.algorithms.schedule import Action, SyncSchedule
from hpcsgd.algorithms.update import Update
from hpcsgd.algorithms.wires import FullWire, Wire
from hpcsgd.comm.background import Background
from hpcsgd.comm.gradients import GradientAllreduce
from hpcsgd.comm.hashing import Comparisons
from hpcsgd.comm.reduce import FlatReducer, wait_until_computed
from hpcsgd.config import AlgorithmConfig
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.policies import averaged, policies_of, reset


class LocalSGD:
    """SGD with averaging of gradients or of parameters, as the schedule says."""

    def __init__(
        self,
        config: AlgorithmConfig,
        schedule: SyncSchedule,
        learners: ReplicaStack,
        update: Update,
        gradients: GradientAllreduce,
        world: FlatReducer,
        block: FlatReducer,
        spans: Spans,
        outer_rate: Callable[[int], float],
        accumulation_steps: int = 1,
        hash_every: int = 0,
        wire: Wire | None = None,
        thread: Background | None = None,
    ) -> None:
        """
        Args:
            config: the recipe's section.
            schedule: the action of each step.
            learners: this rank's models.
            update: their own steps.
            gradients: sum of the first learner's gradient over all ranks.
            world: average of parameters over all ranks.
            block: the same over the ranks of this rank's block.
            spans: the clock.
            outer_rate: learning rate of an outer step after a step.
            accumulation_steps: backward passes of a step.
            hash_every: global synchronisations between two comparisons of the ranks' parameters; 0: never.
            wire: averages the parameters over all ranks; unset, ``world`` does.
            thread: forms sums over all ranks while the next iterations compute.
        """
        self.config = config
        self.schedule = schedule
        self.learners = learners
        self.update = update
        self.optimizer = update.optimizer
        self.loss_scale = update.loss_scale
        self.gradients = gradients
        self.reducers = {Action.BLOCK: block, Action.GLOBAL: world}
        self.wires: dict[Action, Wire] = {Action.BLOCK: FullWire(block), Action.GLOBAL: wire or FullWire(world)}
        self.spans = spans
        self.accumulation_steps = accumulation_steps
        self.comparisons = Comparisons(world.comm, hash_every, "the parameters")
        self.policies = policies_of(config.state_policy, self.optimizer.states)
        self.anchored = make_anchored(config, learners.parameters[0], outer_rate)
        self.late: LateAverage | None = None
        if config.overlap_steps:
            self.late = LateAverage(learners.parameters, world, thread, spans, self.anchored)
        self._averagings = 0
        self._next_step = 0
        self._equal = True  # the parameters are the same in all learners

    def start(self, step: int = 0) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        if step == 0:
            start_equal(self.learners, self.reducers[Action.GLOBAL].comm)
        self.schedule.start(step)
        if self.late is not None and self.late.flight is not None:
            self.late.launch()
        self._next_step = step
        self._arm(step)

    def normaliser(self, step: int, num_local: int, num_global: int) -> float:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`.

        The gradients of all learners are summed: over kn, also where their batches differ (Goyal). A local step takes
        its own mean.
        """
        return max(num_local, 1) if self.schedule.is_local(step) else num_global

    def weigh(self, weights: Tensor) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        self.update.weights = weights

    def step(self, step: int, rate: float, num_samples: int) -> Synchronisation:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        action, period = self.schedule(step), self.schedule.period_at(step)
        num_bytes, learner_norm = self._sum_gradients() if action is Action.GRADIENT else (0, math.nan)
        norm, divergence = self._update(action, rate, num_samples), math.nan
        if self.late is not None and self.late.is_due(step):
            self.late.merge()
        if action in self.reducers:
            num_bytes, divergence = self._average(action, step, rate)
        self._next_step = step + 1
        if self._equal and action is not Action.NONE:
            self.comparisons.count(self.learners.parameters)
        self._arm(step + 1)
        return Synchronisation(action, num_bytes, norm, taken(self.loss_scale), period, divergence, learner_norm)

    def consensus(self) -> AbstractContextManager[nn.Module]:
        """The average of the replicas; see :class:`~hpcsgd.algorithms.base.Algorithm`."""
        return borrowed(self.learners, self._become_consensus)

    def finish(self) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        if self.late is not None:
            self.late.end()
        self._become_consensus()
        self._equal = True

    def check(self) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        if self._equal:
            self.comparisons.now(self.learners.parameters)

    def close(self) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        self._close_gradients()
        if self.late is not None:
            self.late.close()
        for reducer in self.reducers.values():
            reducer.close()

    def _close_gradients(self) -> None:
        """Gradients are summed no more."""
        with self.reducers[Action.GLOBAL].comm.watchdog.watch("end of the gradient allreduce"):
            self.gradients.close()

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        return {
            "equal": self._equal,
            "until_hash": self.comparisons.left,
            "optimizer": self.optimizer.state_dict(),
            "loss_scale": self.loss_scale.state_dict() if self.loss_scale is not None else None,
            "averagings": self._averagings,
            "ways": {action.name: reducer.name for action, reducer in self.reducers.items()},
            "anchored": self.anchored.state_dict() if self.anchored is not None else None,
            "rounds": self.schedule.state_dict(self._next_step),
            "gradients": self.gradients.state_dict(),
            "wire": self.wires[Action.GLOBAL].state_dict(),
            "late": self.late.state_dict() if self.late is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        self._equal = state["equal"]
        self.comparisons.left = state["until_hash"]
        self.optimizer.load_state_dict(state["optimizer"])
        if self.loss_scale is not None:
            self.loss_scale.load_state_dict(state["loss_scale"])
        self._averagings = state["averagings"]
        for action, reducer in self.reducers.items():
            reducer.take_up(state.get("ways", {}).get(action.name))
        if self.anchored is not None:
            self.anchored.load_state_dict(state["anchored"])
        # Older checkpoints have neither periods that are measured, nor averagings under way.
        self.schedule.load_state_dict(state.get("rounds"))
        self.gradients.load_state_dict(state["gradients"])
        self.wires[Action.GLOBAL].load_state_dict(state["wire"])
        if self.late is not None:
            self.late.load_state_dict(state.get("late"))

    def _arm(self, step: int) -> None:
        """Let the coming backward passes launch the gradient allreduce, if ``step`` asks for one.

        Else none will ask for it any more, and it is closed: Horovod's thread would go on to take processor time.
        """
        if not self.schedule.is_local(step):
            self.gradients.arm(self.accumulation_steps)
        else:
            self._close_gradients()

    def _sum_gradients(self) -> tuple[int, Tensor | float]:
        """Give every learner the sum of all learners' gradients; return the bytes reduced, and a learner's own norm."""
        gradients, watchdog = self.learners.gradients, self.reducers[Action.GLOBAL].comm.watchdog
        with self.spans.span("gradient_allreduce"):
            takes_norm = self.update.takes_norm
            learner_norm: Tensor | float = math.nan
            if takes_norm and len(gradients) > 1:
                learner_norm = torch.linalg.vector_norm(gradients) / math.sqrt(len(gradients))
            sum_own_(gradients)
            with self.spans.synchronising(watchdog.watch("gradient allreduce"), queued=True):
                num_bytes = self.gradients.finish()
                if takes_norm and len(gradients) == 1:
                    learner_norm = self.gradients.own_norm()
                if self.update.weights is not None:
                    num_bytes += self._sum_weights(self.update.weights)
            spread_first_(gradients)
        return num_bytes, learner_norm

    def _sum_weights(self, weights: Tensor) -> int:
        """Give every learner's gradient, which is that of all, the weight of all; return the bytes reduced."""
        total = weights.sum(dtype=torch.float64).cpu().numpy().reshape(1)
        self.reducers[Action.GLOBAL].comm.sum_(total)
        weights.fill_(total[0])
        return total.nbytes

    def _update(self, action: Action, rate: float, num_samples: int) -> Tensor | float:
        """Update by the mean gradient of all, or by the own ones; a learner without samples keeps its parameters."""
        if action is Action.GRADIENT:
            return self.update(len(self.learners), rate, alike=True)
        if self.anchored is not None:
            self.anchored.place()
        if self._equal:
            self.wires[Action.GLOBAL].place(self.learners.parameters)
        self._equal = False
        # Where not all learners have samples, the first ones have one each.
        return self.update(min(num_samples, len(self.learners)), rate)

    @torch.no_grad()
    def _average(self, action: Action, step: int, rate: float) -> tuple[int, float]:
        """Average parameters, and what the policies say, over a block or all ranks.

        Returns:
            The bytes reduced, and the divergence of the replicas before.
        """
        learners, reducer, divergence = self.learners, self.reducers[action], math.nan
        # What goes on beside the training ends before the next averaging, and before the end.
        late = self.late is not None and action is Action.GLOBAL
        delay = min(self.config.overlap_steps, self.schedule.free_after(step)) if late else 0
        self._averagings += 1
        with self.spans.span("averaging"):
            if not reducer.queued and not delay:
                # Else the time of entry would be before the compute that came first.
                wait_until_computed(learners.parameters)
            measured = self.schedule.measured if action is Action.GLOBAL else None
            before = learners.parameters.clone() if measured is not None else None
            with self.spans.synchronising(queued=reducer.queued):
                names = averaged(self.policies, self._averagings)
                if delay:
                    num_bytes = sum(average_rows_(rows, reducer) for rows in learners.rows.side_by_side(names))
                else:
                    num_bytes = self.wires[action].average_(learners.rows, names)
                if self.config.batch_norm_policy == "average":
                    num_bytes += average_statistics_(learners, reducer)
                if self.config.buffer_policy == "average":
                    num_bytes += average_buffers_(learners, reducer)
            if measured is not None and before is not None:
                divergence, more = divergence_of(before, learners.parameters[0], reducer)
                measured.take(divergence)
                num_bytes += more
            self.optimizer.reset(reset(self.policies))
            if delay and self.late is not None:
                num_bytes += self.late.begin(Flight(step, rate, delay, *self._fragment()))
            elif self.anchored is not None and action is Action.GLOBAL:
                self.anchored.apply_(step, rate)
                spread_first_(learners.parameters)
            self._equal = action is Action.GLOBAL and not delay
        return num_bytes, divergence

    def _fragment(self) -> tuple[int, int]:
        """First and end of the parameters that the present global averaging is of, where ranks do not wait for it."""
        numel, count = self.learners.parameters.shape[1], self.config.overlap_fragments
        turn = (self._averagings // self.schedule.block_sync_period - 1) % count
        return numel * turn // count, numel * (turn + 1) // count

    def _become_consensus(self) -> None:
        """Average parameters, unless they are equal already, and BatchNorm statistics."""
        world = self.reducers[Action.GLOBAL]
        if self.late is not None:
            self.late.preview()
        if not self._equal:
            average_rows_(self.learners.parameters, world)
        average_statistics_(self.learners, world)
        unite_buffers_(self.learners, world)
