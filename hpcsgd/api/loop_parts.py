"""The parts of a session: those of a run, of which a user's loop has some already."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from hpcsgd.algorithms.base import NOTHING, Synchronisation
from hpcsgd.api.borrowed import BorrowedModel, BorrowedOptimizer
from hpcsgd.comm.backends import make_mpi_reducer
from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.gradients import Buckets, NoAllreduce
from hpcsgd.comm.mpi import connect as connect_ranks
from hpcsgd.comm.topology import discover
from hpcsgd.comm.torch_ranks import find_torch_ranks
from hpcsgd.config import AlgorithmConfig, CommConfig, DataConfig, LogConfig, ModelConfig, OptimizerConfig, RunConfig
from hpcsgd.config.own import GIVEN
from hpcsgd.errors import UsageError
from hpcsgd.learners.engines.loop import LoopEngine
from hpcsgd.record.collector import Collector
from hpcsgd.record.timer import StepTimer
from hpcsgd.run.build import start_clock
from hpcsgd.run.log import open_log
from hpcsgd.run.parts import Labels, Parts, shares_rows
from hpcsgd.run.plan import make_plan, make_schedule
from hpcsgd.run.progress import Progress
from hpcsgd.run.resume import Start
from hpcsgd.run.where import claim_path, run_path, settled
from hpcsgd.run.wiring import connect
from hpcsgd.tasks.task import Task

FLUSH_SECONDS = 4.0
"""Between two gathers of a loop that is only timed, unless the user says something else."""

ENDLESS = 1 << 40
"""Steps of an epoch whose length nobody knows."""


@dataclass(frozen=True, kw_only=True)
class SessionParts(Parts):
    """What a session works with: the parts of a run, of which loader, splits and engine are the user's.

    Attributes:
        own_optimizer: the user's.
        borrowed: the user's model, where ranks are joined; None: the loop is only timed.
    """

    own_optimizer: BorrowedOptimizer
    borrowed: BorrowedModel | None

    @property
    def is_joined(self) -> bool:
        """Whether ranks do their steps together."""
        return self.borrowed is not None

    def with_length(self, loader: object) -> SessionParts:
        """With the length of an epoch, from the first loader that says it. Collective, where ranks are joined."""
        if self.plan.steps_per_epoch < ENDLESS or not isinstance(loader, Sized) or not len(loader):
            return self
        lengths = self.comm.allgather_object(len(loader)) if self.is_joined else [len(loader)]
        return replace(self, plan=replace(self.plan, steps_per_epoch=min(lengths)))

    @contextmanager
    def open_log(self, local_batch_size: int) -> Iterator[Collector]:
        """The log of the run, which begins with a batch of so many samples. Collective."""
        size, steps = max(self.comm.allgather_object(local_batch_size)), self.plan.steps_per_epoch
        whole = size * self.comm.size
        plan = replace(
            self.plan,
            local_batch_size=size,
            global_batch_size=whole,
            num_samples=0 if steps == ENDLESS else steps * whole,
        )
        parts = replace(self, plan=plan, config=replace(self.config, local_batch_size=size))
        path = run_path(parts.config, "session", self.comm)
        with (
            agree(self.comm, lambda: claim_path(path, parts.config, self.comm)) as claim,
            open_log(settled(parts, path, claim), sys.argv, Start(), claim) as collector,
        ):
            yield collector

    def make_progress(self) -> Progress:
        """What rank 0 shows of a loop of which nobody knows how long it will be."""
        steps = self.plan.steps_per_epoch
        kind = self.config.progress if self.comm.rank == 0 else "none"
        return Progress(kind, None, steps if steps < ENDLESS else None)

    def give_back(self) -> None:
        """Let the model be the user's alone."""
        if self.borrowed is not None:
            self.borrowed.give_back()


def find_ranks(config: CommConfig, *, is_joined: bool) -> Communicator:
    """The ranks of a session: MPI's, or torch's where they are only timed, and not ``is_joined``. Collective.

    Raises:
        UsageError, LaunchError: they do not see each other.
    """
    return (None if is_joined else find_torch_ranks()) or connect_ranks(config)


def make_parts(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    algorithm: AlgorithmConfig | None,
    comm: Communicator,
    settings: Mapping[str, Any],
) -> SessionParts:
    """Build the parts. Collective.

    Args:
        model, optimizer, algorithm: see :func:`hpcsgd.api.session.session`.
        comm: all ranks.
        settings: keys of a recipe; None is left out.

    Raises:
        UsageError: something cannot be, on all ranks alike.
    """
    config = agree(comm, lambda: _make_config(model, optimizer, algorithm, settings))
    places = agree(comm, lambda: discover(comm, config.algorithm.block_size))
    shares = partial(shares_rows, config, comm)
    borrowed = agree(comm, lambda: BorrowedModel(model, shares)) if algorithm is not None else None
    own = agree(comm, lambda: BorrowedOptimizer(optimizer, model))
    # A loop that is only timed keeps its model: one of a single number stands in its place.
    lent = borrowed if borrowed is not None else BorrowedModel(nn.Linear(1, 1, bias=False))
    learners = lent.learners
    schedule = make_schedule(config, _OwnRate(own, comm), None, ENDLESS, None)
    plan = make_plan(config, comm.size, comm.size * ENDLESS)
    plan = replace(plan, total_steps=0, num_samples=0, schedule=schedule)
    device = next(model.parameters()).device
    timer, rows = start_clock(comm, places[comm.rank], device, str(device), torch.get_num_threads())
    if algorithm is None:
        gradients: Any = NoAllreduce(Buckets(lent.replica.gradients, lent.replica.trainable, lent.replica.slots, 1))
        world = make_mpi_reducer(config.comm, comm, learners.device)
        joined: Any = TimedOnly(own, model, timer)
        lent.replica.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    else:
        gradients, world, joined = connect(config, comm, places[comm.rank], plan, learners, timer, own)
    labels = Labels(list(range(comm.size)), comm.size, list(range(comm.size)))
    task = Task(lambda seed: model, _no_loss, {})
    nobody: Any = None
    joined.start(0)
    return SessionParts(
        config=config,
        comm=comm,
        places=places,
        plan=plan,
        loader=nobody,
        splits={},
        learners=learners,
        engine=_OwnPasses(learners, task),
        gradients=gradients,
        world=world,
        algorithm=joined,
        timer=timer,
        rank_rows=rows,
        labels=labels,
        data={},
        task=task,
        optimizer=None,
        imported={},
        example=None,
        own_optimizer=own,
        borrowed=borrowed,
    )


def _make_config(
    model: nn.Module, optimizer: torch.optim.Optimizer, algorithm: AlgorithmConfig | None, settings: Mapping[str, Any]
) -> RunConfig:
    """The configuration of a session: what is the user's is named in it.

    Raises:
        UsageError: a key does not count here, or a value cannot be.
    """
    known = {"run_dir", "comm", "overwrite", "log", "faults", "share_gpu", "progress"}
    for name in settings:
        if name not in known:
            raise UsageError(f"hpcsgd.session takes no {name}; it takes {', '.join(sorted(known))}")
    given = {"progress": "none"} | {name: value for name, value in settings.items() if value is not None}
    # What ranks weigh is only known after the backward pass: nothing can be sent within it.
    given["comm"] = replace(given.get("comm", CommConfig()), overlap=False)
    method = algorithm or AlgorithmConfig(name="none")
    if method.momentum_policy not in ("local", "global"):
        raise UsageError(
            f"algorithm.momentum_policy is {method.momentum_policy!r}: the optimizer of a session is the user's, and "
            "its state stays as it is; choose local, or hpcsgd.fit"
        )
    if method.has_central_model and method.resolved_restart != "none":
        raise UsageError("algorithm.restart must be none in a session, which does not know when the rate will drop")
    if method.batch_norm_policy == "recompute":
        raise UsageError("algorithm.batch_norm_policy recompute needs hpcsgd's own data: choose local or average")
    if method.local_start is not None and not method.local_start.startswith("step:"):
        raise UsageError(f"algorithm.local_start is {method.local_start!r}: in a session it must be step:N")
    _check_unknown_ends(method)
    if algorithm is None:
        # The log is to cost little; and a step's time is not known before.
        given.setdefault("log", LogConfig(flush_seconds=FLUSH_SECONDS))
    if "log" in given and given["log"].noise_scale:
        raise UsageError("log.noise_scale is not for a session, whose gradients the user's loop weighs: leave it out")
    try:
        return RunConfig(
            local_batch_size=1,
            model=ModelConfig(name=f"{GIVEN}{type(model).__name__}"),
            data=DataConfig(name="given"),
            optimizer=OptimizerConfig(name=f"{GIVEN}{type(optimizer).__name__}"),
            algorithm=method,
            **given,
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"hpcsgd.session: {error}") from error


def _check_unknown_ends(method: AlgorithmConfig) -> None:
    """Refuse what needs the length of an epoch or of the run, or the learning rate ahead: a session knows neither."""
    periods = method.period_schedule
    if periods.kind not in ("constant", "power", "divergence"):
        raise UsageError(
            f"algorithm.period_schedule.kind is {periods.kind!r}, which goes by epochs or milestones: a session knows "
            "none; choose constant, power or divergence"
        )
    if periods.warmup_period is not None:
        raise UsageError("algorithm.period_schedule.warmup_period: a session does not know when the rate warms up")
    if method.outer_schedule != "constant" or method.outer_warmup_epochs:
        raise UsageError(
            "algorithm.outer_schedule and outer_warmup_epochs go by epochs, which a session does not know: leave them "
            "out"
        )


class _OwnRate:
    """The learning rate of the user's optimizer as it is: that of rank 0, as all ranks must go by one."""

    warmup_steps = 0

    def __init__(self, optimizer: BorrowedOptimizer, comm: Communicator) -> None:
        self._optimizer, self._comm = optimizer, comm

    def __call__(self, step: int) -> float:
        """That of ``step``, which is the present one. Collective."""
        return float(self._comm.broadcast_object(self._optimizer.rate))

    def num_drops(self, step: int) -> int:
        raise AssertionError("a schedule by drops of the rate is refused")


class _OwnPasses(LoopEngine):
    """The engine of a user's loop: the loop itself takes the passes."""

    name = "own loop"


def _no_loss(outputs: Any, targets: Any) -> torch.Tensor:
    raise AssertionError("the loss of a session is in the user's loop")


class TimedOnly:
    """The order of events of a loop that is only timed: the optimizer's step (see :class:`Algorithm`)."""

    def __init__(self, optimizer: BorrowedOptimizer, model: nn.Module, timer: StepTimer) -> None:
        """Time the steps of ``optimizer``."""
        self.optimizer, self._model, self._timer = optimizer, model, timer

    def start(self, step: int = 0) -> None:
        """There is nothing to begin."""

    def step(self, step: int, rate: float, num_samples: int) -> Synchronisation:
        """The optimizer's step."""
        # In the user's own way: whatever is done here beside it is a cost of the clock.
        self.optimizer.optimizer.step()
        self._timer.lap("update")
        return NOTHING

    def consensus(self) -> AbstractContextManager[nn.Module]:
        """The model as it is."""
        return nullcontext(self._model)

    def finish(self) -> None:
        """Nothing is joined."""

    def close(self) -> None:
        """There is nothing to end."""
