"""Synchronous model averaging, and elastic averaging as a case of it (Crossbow: Koliousis 2019, algorithm 1).

Every learner steps on its own. Every tau steps it is drawn to the central average model z, and z to the learners:

    c_j = alpha (w_j - z)              with w_j before the step
    w_j <- w_j - g_j - c_j             g_j: the step of the learner's own optimizer
    z <- z + sum_j c_j + mu_z (z - z_prev)

Nothing but the next corrections asks for z. So where the sum over the ranks is formed in a thread while the next
iteration computes, z is moved late, just before it is next looked at, and every number is the same to the last bit.

With two levels a learner is drawn to the reference model r of its block, and r moves by the sum of the block's
corrections. At every H_b-th averaging z moves by all corrections since the last one, and r <- z: with H_b = 1 that is
the flat algorithm.

Where the learning rate drops, all learners begin again at z, at rest.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from hpcsgd.algorithms.base import Spans, Synchronisation, borrowed, start_equal
from hpcsgd.algorithms.batch_norm import average_statistics_
from hpcsgd.algorithms.buffers import average_buffers_, unite_buffers_
from hpcsgd.algorithms.central import CentralModel
from hpcsgd.algorithms.loss_scale import taken
from hpcsgd.algorithms.rows import sum_own_
from hpcsgd.algorithms.schedule import Action, SyncSchedule
from hpcsgd.algorithms.update import Update
from hpcsgd.comm.background import Background
from hpcsgd.comm.hashing import Comparisons
from hpcsgd.comm.reduce import FlatReducer, wait_until_computed
from hpcsgd.config import AlgorithmConfig
from hpcsgd.learners.stack import ReplicaStack


class SMA:
    """Learners around a central average model."""

    def __init__(
        self,
        config: AlgorithmConfig,
        schedule: SyncSchedule,
        alpha: float,
        drops: Callable[[int], bool],
        learners: ReplicaStack,
        update: Update,
        world: FlatReducer,
        block: FlatReducer,
        spans: Spans,
        hash_every: int = 0,
        thread: Background | None = None,
    ) -> None:
        """
        Args:
            config: the recipe's section.
            schedule: the action of each step.
            alpha: share of a learner's distance that is corrected.
            drops: whether the learning rate drops before a step.
            learners: this rank's learners.
            update: their own steps.
            world: sums over all ranks.
            block: sums over the ranks of this rank's block.
            spans: the clock.
            hash_every: global averagings between two comparisons of the ranks' central models; 0: never.
            thread: forms the sums over all ranks while the next iteration computes.
        """
        self.config = config
        self.schedule = schedule
        self.alpha = alpha
        self.drops = drops
        self.learners = learners
        self.update = update
        self.optimizer = update.optimizer
        self.loss_scale = update.loss_scale
        self.world = world
        self.block = block
        self.spans = spans
        self.thread = thread
        self.central = CentralModel(learners.parameters[0], config.resolved_central_momentum)
        self.comparisons = Comparisons(world.comm, hash_every, "the central models")
        self._gaps = torch.zeros_like(learners.parameters)  # w_j - z before the step, a row a learner
        self._corrections = self._gaps[0]  # alpha times their sum, once the learners have been corrected
        self._late = False  # a sum is under way
        self._reference: Tensor | None = None
        if schedule.block_sync_period > 1:
            self._reference = torch.zeros_like(self._corrections)
            self._moved = torch.zeros_like(self._corrections)

    def start(self, step: int = 0) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        if step == 0:
            start_equal(self.learners, self.world.comm)
        if not self.central.is_placed:
            self.central.place(self.learners.parameters[0])
            self._begin_window()

    def normaliser(self, step: int, num_local: int, num_global: int) -> float:
        """A learner takes the mean over its own batch."""
        return max(num_local, 1)

    def weigh(self, weights: Tensor) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        self.update.weights = weights

    def step(self, step: int, rate: float, num_samples: int) -> Synchronisation:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        action, num_bytes = self.schedule(step), 0
        if action is not Action.NONE:
            self._measure_gaps()
        # Where not all learners have samples, the first ones have one each; one without samples makes no step.
        norm = self.update(min(num_samples, len(self.learners)), rate)
        if action is not Action.NONE:
            num_bytes = self._average(action)
        if self.config.resolved_restart != "none" and self.drops(step + 1):
            self._restart()
        if action is Action.GLOBAL and not self._late:
            self.comparisons.count(self.central.model)
        return Synchronisation(action, num_bytes, norm, taken(self.loss_scale), self.schedule.period_at(step))

    def check(self) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        self._settle()
        self.comparisons.now(self.central.model)

    def consensus(self) -> AbstractContextManager[nn.Module]:
        """The central model; see :class:`~hpcsgd.algorithms.base.Algorithm`."""
        return borrowed(self.learners, self._become_central)

    def finish(self) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        self._become_central()

    def close(self) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        if self.thread is not None:
            self.thread.close()
            self.thread = None
        for reducer in (self.block, self.world):
            reducer.close()

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        self._settle()
        blocks = {} if self._reference is None else {"reference": self._reference, "moved": self._moved}
        return {
            "central": self.central.state_dict(),
            "blocks": blocks,
            "until_hash": self.comparisons.left,
            "optimizer": self.optimizer.state_dict(),
            "loss_scale": self.loss_scale.state_dict() if self.loss_scale is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~hpcsgd.algorithms.base.Algorithm`."""
        self.central.load_state_dict(state["central"])
        self.comparisons.left = state["until_hash"]
        self.optimizer.load_state_dict(state["optimizer"])
        if self.loss_scale is not None:
            self.loss_scale.load_state_dict(state["loss_scale"])
        if self._reference is not None:
            self._reference.copy_(state["blocks"]["reference"])
            self._moved.copy_(state["blocks"]["moved"])

    @torch.no_grad()
    def _measure_gaps(self) -> None:
        """w_j - z, or r in the place of z, by the weights before the step."""
        with self.spans.span("averaging"):
            self._settle(exposed=True)
            target = self.central.model if self._reference is None else self._reference
            torch.sub(self.learners.parameters, target, out=self._gaps)

    @torch.no_grad()
    def _average(self, action: Action) -> int:
        """Draw the learners to the central model, and it to them; return the bytes reduced."""
        with self.spans.span("averaging"):
            self.learners.parameters.sub_(self._gaps, alpha=self.alpha)
            sum_own_(self._gaps)
            self._corrections.mul_(self.alpha)
            if self.thread is not None:
                self._start_late()
                return self._corrections.numel() * self._corrections.element_size()
            queued = self.world.queued
            if not queued:
                wait_until_computed(self._corrections)
            with self.spans.synchronising(queued=queued):
                num_bytes = self._sum(action)
                if self.config.batch_norm_policy == "average":
                    reducer = self.world if action is Action.GLOBAL else self.block
                    num_bytes += average_statistics_(self.learners, reducer)
                if self.config.buffer_policy == "average":
                    num_bytes += average_buffers_(self.learners, self.world if action is Action.GLOBAL else self.block)
        return num_bytes

    def _sum(self, action: Action) -> int:
        """Sum the corrections and move what they are for; return the bytes reduced."""
        corrections = self._corrections
        if self._reference is not None:
            self._moved.add_(corrections)
            if action is Action.BLOCK:
                self.block.sum_(corrections)
                self._reference.add_(corrections)
            else:
                self.world.sum_(self._moved)
                self.central.move(self._moved)
                self._begin_window()
        else:
            self.world.sum_(corrections)
            self.central.move(corrections)
        return corrections.numel() * corrections.element_size()

    def _begin_window(self) -> None:
        """Every block's reference is the central model."""
        if self._reference is not None:
            self._reference.copy_(self.central.model)
            self._moved.zero_()

    def _start_late(self) -> None:
        """Let the thread sum the corrections."""
        assert self.thread is not None
        self.thread.start(self._corrections, guard=self.world.guard)
        self._late = True

    def _settle(self, *, exposed: bool = False) -> None:
        """Move z by the sum under way, if there is one; ``exposed``: this wait is the step's synchronisation."""
        if not self._late:
            return
        assert self.thread is not None
        self._late = False
        watch, queued = self.world.comm.watchdog.watch("sum in the background"), self.world.queued
        with self.spans.synchronising(watch, queued=queued) if exposed else watch:
            self.thread.wait()
        self.world.look_after(self._corrections, "what was to be summed is")
        self.central.move(self._corrections)
        self.comparisons.count(self.central.model)

    @torch.no_grad()
    def _restart(self) -> None:
        """w_j <- z, z_prev <- z, and the learners' momenta as the policy says."""
        self._settle()
        self.central.stop()
        self._begin_window()
        self.learners.parameters.copy_(self.central.model)
        if self.config.resolved_restart == "reset":
            self.optimizer.reset(self.optimizer.states)

    @torch.no_grad()
    def _become_central(self) -> None:
        """Let every replica be z, with the merged BatchNorm statistics."""
        self._settle()
        self.learners.parameters.copy_(self.central.model)
        average_statistics_(self.learners, self.world)
        unite_buffers_(self.learners, self.world)
