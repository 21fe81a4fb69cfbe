"""Train the trials of a group together: each has its own rate, momentum, decay and smoothing, and its own end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hpcsgd.config.study import PARAMETERS, StudyConfig
from hpcsgd.trials.batches import GroupBatches, trial_seed
from hpcsgd.trials.groups import Group, SizePlan
from hpcsgd.trials.measure import measure
from hpcsgd.trials.workshop import Workshop

Row = tuple[float, ...]
"""The metrics of one evaluation, in the order of the workshop's columns."""


class Interrupted(Exception):
    """A signal asked for a stop: the group is given up, to be trained again from its start."""


@dataclass
class Trial:
    """One training run and what became of it.

    Attributes:
        trial_id: its number in the study.
        parameters: its point in the space.
        status: COMPLETE, INCOMPLETE or INFEASIBLE, once it has ended.
        steps: steps taken; for one that diverged, up to the first loss that is not finite.
        measurements: step and metrics of each evaluation.
    """

    trial_id: int
    parameters: Mapping[str, float]
    status: str | None = None
    steps: int = 0
    measurements: list[tuple[int, Row]] = field(default_factory=list)


@dataclass
class Clocks:
    """Seconds that a group took, by what for; ``wall`` is all of it but for the bookkeeping."""

    setup: float = 0.0
    training: float = 0.0
    evaluation: float = 0.0
    wall: float = 0.0
    bookkeeping: float = 0.0


def train_group(
    shop: Workshop,
    plan: SizePlan,
    group: Group,
    points: Sequence[Mapping[str, float]],
    at_evaluation: Callable[[], bool],
) -> tuple[list[Trial], Clocks]:
    """Train a group from its start to its end. Collective in the team.

    What comes out is a function of the study and of ``plan`` and ``group`` alone, whichever rank does it.

    Args:
        shop: the data and the device.
        plan: budget and engine of the batch size.
        group: the trials.
        points: the metaparameters of each of them.
        at_evaluation: called at each evaluation; true gives the group up.

    Raises:
        Interrupted: it is given up.
    """
    start = time.perf_counter()
    trials = [Trial(number, point) for number, point in zip(group.trials, points, strict=True)]
    run = _GroupRun(shop, plan, trials)
    clocks = Clocks(setup=time.perf_counter() - start)
    done = 0
    for until in shop.config.evaluate.steps(plan.batch_size, plan.budget):
        before = time.perf_counter()
        losses = run.train(done, until)
        between = time.perf_counter()
        clocks.training += between - before
        run.evaluate(until, losses)
        clocks.evaluation += time.perf_counter() - between
        done = until
        if not run.alive:
            break
        if at_evaluation():
            raise Interrupted
    clocks.wall = time.perf_counter() - start
    return trials, clocks


class _GroupRun:
    """The trials of a group that are still under way."""

    def __init__(self, shop: Workshop, plan: SizePlan, trials: list[Trial]) -> None:
        config = shop.config
        self.shop, self.plan = shop, plan
        self.alive = list(trials)
        seeds = [trial_seed(config.seed, plan.batch_size, trial.trial_id) for trial in trials]
        self.batches = GroupBatches(shop.training, config.data, seeds, plan.batch_size, shop.team.rank, shop.team.size)
        self.stack = shop.make_stack(seeds)
        self._gather_points()
        self.optimizer = shop.make_optimizer(self.stack, shop.tensor(self.momentum))

    def _gather_points(self) -> None:
        """The metaparameters of those under way as columns, [R], and the engine that takes their passes."""
        config = self.shop.config
        self.rate, self.momentum, self.decay_steps, self.end_factor, smoothing = (
            torch.tensor([float(trial.parameters.get(name, other)) for trial in self.alive], dtype=torch.float64)
            for name, other in zip(PARAMETERS, (0.0, config.optimizer.momentum, math.inf, 0.0, 0.0), strict=True)
        )
        self.engine = self.shop.make_engine(self.plan.engine, self.stack, smoothing)

    def rates(self, first: int, until: int) -> Tensor:
        """Learning rates of steps ``first`` to ``until`` - 1, [steps, R].

        eta (f + (1 - f) (1 - min(step / decay steps, 1))) with the end factor f.
        """
        steps = torch.arange(first, until, dtype=torch.float64).view(-1, 1)
        left = 1 - (steps / self.decay_steps).clamp(max=1)
        return self.rate * (self.end_factor + (1 - self.end_factor) * left)

    def train(self, first: int, until: int) -> Tensor:
        """Steps ``first`` to ``until`` - 1; the sums of the losses, [steps, R], on the CPU."""
        shop, stack = self.shop, self.stack
        rates = shop.tensor(self.rates(first, until)).unsqueeze(2)
        losses = shop.tensor(torch.empty(until - first, len(self.alive)))
        size = self.plan.batch_size // shop.team.size
        for step in range(first, until):
            normalisers = [float(self.batches.num_samples(step))] * len(stack)
            found = self.engine.passes(self.batches.batch(step), normalisers, size, fresh=True)
            losses[step - first] = found[:, 0] if shop.task.is_weighted else found
            shop.sum_over_team(stack.gradients)
            if shop.task.is_weighted:
                self._weigh(found[:, 1] / normalisers[0])
            self.optimizer.step(len(stack), rates[step - first])
        shop.sum_over_team(losses)
        shop.reducer.average_(stack.statistics.view(-1))
        return losses.cpu()

    def _weigh(self, weights: Tensor) -> None:
        """Divide each gradient by what the team's samples weigh, of which these are this rank's, [R]."""
        weights = weights.contiguous()
        self.shop.sum_over_team(weights)
        self.stack.gradients.div_(torch.where(weights == 0, torch.ones_like(weights), weights).unsqueeze(1))

    def evaluate(self, step: int, losses: Tensor) -> None:
        """Measure all trials after ``step`` steps, and let go of those that have come to their end."""
        shop, column = self.shop, self.shop.columns.index(self.shop.config.goal.metric)
        rows = measure(self.engine, shop.splits, shop.team, shop.config.evaluate.batch_size, shop.metrics)
        finite = losses.isfinite()
        for row, trial in enumerate(self.alive):
            good = bool(finite[:, row].all())
            first_bad = len(losses) if good else int((~finite[:, row]).nonzero()[0])
            trial.steps = step - len(losses) + first_bad
            sound = good and all(torch.isfinite(torch.tensor(rows[row])).tolist())
            if sound:
                trial.measurements.append((step, rows[row]))
            trial.status = ending(trial, shop.config, self.plan.budget, column) if sound else "INFEASIBLE"
        left = [row for row, trial in enumerate(self.alive) if trial.status is None]
        if len(left) == len(self.alive):
            return
        self.alive = [self.alive[row] for row in left]
        if left:
            for part in (self.stack, self.optimizer, self.batches):
                part.keep(left)
            self._gather_points()


def ending(trial: Trial, config: StudyConfig, budget: int, column: int) -> str | None:
    """What a sound trial has become by its latest evaluation; None while it goes on. ``column``: of the goal's metric.

    A trial that ends because it has reached the goal is COMPLETE: it has shown all that steps to result asks of it,
    and would count with the same step had it gone on. One that is given up has not, and is INCOMPLETE.
    """
    history = [row[column] for _, row in trial.measurements]
    if config.stop.at_goal and config.goal.value is not None and history[-1] < config.goal.value:
        return "COMPLETE"
    if trial.steps >= budget:
        return "COMPLETE"
    patience = config.stop.patience
    best = history.index(min(history))
    if patience is not None and len(history) - 1 - best >= patience:
        return "INCOMPLETE"
    return None
