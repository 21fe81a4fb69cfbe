"""The arithmetic of a run: batches, steps, learning rate and synchronisation, from the recipe and the sizes at hand."""

from __future__ import annotations

from dataclasses import dataclass

from hpcsgd.algorithms.outer_rate import OuterRate
from hpcsgd.algorithms.periods import Rate, make_period
from hpcsgd.algorithms.schedule import SyncSchedule
from hpcsgd.algorithms.stability import resolve_alpha
from hpcsgd.config import RunConfig, parse_local_start
from hpcsgd.data.shards import Tail, pass_sizes, steps_per_epoch
from hpcsgd.errors import UsageError
from hpcsgd.optim.schedule import LearningRate


@dataclass(frozen=True)
class Plan:
    """Everything about a run that follows from its configuration, its learners and its training set.

    Attributes:
        num_learners: k, learners of all ranks.
        num_samples: training samples.
        local_batch_size: samples of one step of one learner.
        global_batch_size: samples of one step of all learners.
        steps_per_epoch: steps of an epoch.
        total_steps: steps of the run.
        learning_rate: rate of each step.
        schedule: action of each step.
        outer_rate: learning rate of the outer step after each step.
        keeps_tail: the last batch of an epoch may be smaller.
        alpha: of synchronous model averaging; 0 in other algorithms.
    """

    num_learners: int
    num_samples: int
    local_batch_size: int
    global_batch_size: int
    steps_per_epoch: int
    total_steps: int
    learning_rate: LearningRate
    schedule: SyncSchedule
    outer_rate: OuterRate
    keeps_tail: bool
    alpha: float

    def num_global(self, step: int) -> int:
        """Samples of the step of all learners: fewer than ``global_batch_size`` only in a kept tail."""
        full = self.global_batch_size
        at_end = (step + 1) % self.steps_per_epoch == 0
        tail = self.num_samples - (self.steps_per_epoch - 1) * full
        return tail if at_end and self.keeps_tail and tail < full else full

    def pass_sizes(self, parts: int) -> set[int]:
        """Samples of the passes that a learner takes in an epoch; a full batch is cut in ``parts``."""
        tail: Tail = "keep" if self.keeps_tail else "wrap"
        return pass_sizes(self.num_samples, self.num_learners, self.local_batch_size, tail, parts)

    def ends_epoch(self, step: int) -> bool:
        """True for the last step of an epoch, and of the run."""
        return (step + 1) % self.steps_per_epoch == 0 or step + 1 == self.total_steps

    def epochs_done(self, step: int) -> float:
        """Epochs done after the step."""
        return (step + 1) / self.steps_per_epoch

    @property
    def longest_round(self) -> int:
        """Steps that may lie between two global averagings, at most."""
        varies = self.schedule.period is not None
        return self.total_steps if varies else self.schedule.sync_period * self.schedule.block_sync_period

    def evaluates(self, step: int, every_epochs: int) -> bool:
        """True if the model is evaluated after the step: every so many epochs, and at the end; 0 is never."""
        if not every_epochs:
            return False
        epochs, rest = divmod(step + 1, self.steps_per_epoch)
        return step + 1 == self.total_steps or (rest == 0 and epochs % every_epochs == 0)


def make_plan(config: RunConfig, num_learners: int, num_samples: int | None) -> Plan:
    """Work out a run of ``num_learners`` learners on ``num_samples`` training samples.

    Of data without a length ``data.steps_per_epoch`` says how many samples an epoch has.

    Raises:
        UsageError: a batch that cannot be divided, more learners than samples, a schedule that cannot be, or an alpha
            that is not stable.
    """
    local, global_ = batch_sizes(config, num_learners)
    if config.data.steps_per_epoch is not None:
        num_samples = config.data.steps_per_epoch * global_
    assert num_samples is not None, "data without a length has steps_per_epoch"
    if num_learners > num_samples:
        raise UsageError(f"{num_learners} learners cannot share {num_samples} training samples: run fewer ranks")
    per_epoch = steps_per_epoch(num_samples, global_, config.data.tail)
    total = config.epochs * per_epoch
    if config.max_steps is not None:
        total = min(total, config.max_steps)
    rate = LearningRate(config.learning_rate, global_, per_epoch, config.epochs)
    _check_positive_rate(config, rate, total)
    return Plan(
        num_learners=num_learners,
        num_samples=num_samples,
        local_batch_size=local,
        global_batch_size=global_,
        steps_per_epoch=per_epoch,
        total_steps=total,
        learning_rate=rate,
        schedule=make_schedule(config, rate, rate.first_drop, per_epoch, total),
        outer_rate=OuterRate(config.algorithm, per_epoch, config.epochs),
        keeps_tail=config.data.tail == "keep",
        alpha=resolve_alpha(config.algorithm, num_learners) if config.algorithm.has_central_model else 0.0,
    )


def batch_sizes(config: RunConfig, num_learners: int) -> tuple[int, int]:
    """Local and global batch size from the one that is given.

    Raises:
        UsageError: a batch cannot be divided.
    """
    if config.local_batch_size is not None:
        local = config.local_batch_size
    else:
        assert config.global_batch_size is not None
        local, rest = divmod(config.global_batch_size, num_learners)
        if rest:
            nearest = " or ".join(str(n * num_learners) for n in (local, local + 1) if n)
            raise UsageError(
                f"global_batch_size is {config.global_batch_size}, which {num_learners} learners cannot share evenly: "
                f"choose {nearest}, or give local_batch_size"
            )
    parts = config.accumulation_steps
    if local % parts:
        nearest = " or ".join(str(n * parts) for n in (local // parts, local // parts + 1) if n)
        raise UsageError(
            f"a local batch of {local} samples cannot be cut in accumulation_steps = {parts} equal parts: "
            f"choose a local batch of {nearest}"
        )
    return local, local * num_learners


def make_schedule(
    config: RunConfig, rate: Rate, first_drop: int | None, per_epoch: int, total_steps: int | None
) -> SyncSchedule:
    """The synchronisation schedule of the recipe.

    Args:
        config: the recipe.
        rate: learning rate of each step.
        first_drop: the first step of which it has dropped; None: it never does.
        per_epoch: steps of an epoch.
        total_steps: of the run; None: nobody knows.
    """
    algorithm = config.algorithm
    if algorithm.name == "sync_sgd":
        return SyncSchedule(local_start=None)
    start: int | None = 0
    if algorithm.local_start is not None:
        kind, number = parse_local_start(algorithm.local_start)
        start = {"first_lr_drop": first_drop, "epoch": number * per_epoch, "step": number}[kind]
    period = None if start is None else make_period(algorithm, rate, start, per_epoch)
    return SyncSchedule(start, algorithm.sync_period, algorithm.block_sync_period, period, total_steps)


def _check_positive_rate(config: RunConfig, rate: LearningRate, total_steps: int) -> None:
    """Some momenta divide by the learning rate; it can be 0 only at the ends."""
    absorbed = config.optimizer.momentum > 0 and config.optimizer.momentum_form == "absorbed"
    divides = "optimizer.momentum_form: absorbed" if absorbed else "algorithm.outer_step: slow_momentum"
    if (absorbed or config.algorithm.resolved_outer_step == "slow_momentum") and min(
        rate(0), rate(total_steps - 1)
    ) <= 0:
        raise UsageError(
            f"the learning rate becomes 0 within the run, and {divides} divides by it: give a positive "
            "learning_rate.warmup_start, learning_rate.final_fraction, or longer learning_rate.decay_epochs"
        )
