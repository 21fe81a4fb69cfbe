"""The parts of a run: a value, of which each change of learners or ranks makes a new one."""

from __future__ import annotations

import contextlib
import copy
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from hpcsgd.algorithms.base import Algorithm
from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.gradients import GradientAllreduce
from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.comm.topology import Topology, discover
from hpcsgd.config import RunConfig
from hpcsgd.data.batches import Loader, Split
from hpcsgd.data.identity import Identity
from hpcsgd.data.trees import Tree
from hpcsgd.errors import JointError, RanksLostError
from hpcsgd.learners.dropout import rank_seed, stream_seed
from hpcsgd.learners.engines.base import Engine
from hpcsgd.learners.engines.choose import Table, make_engine
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.learners.tuner import Trial
from hpcsgd.optim.choose import make_optimizer, states_of
from hpcsgd.optim.probe import Kind
from hpcsgd.record.timer import StepTimer
from hpcsgd.run.emulated import EmulatedCompute
from hpcsgd.run.plan import Plan, make_plan
from hpcsgd.run.wiring import connect
from hpcsgd.tasks.attempt import Attempt
from hpcsgd.tasks.compiling import compile_
from hpcsgd.tasks.task import Task


@dataclass(frozen=True)
class Labels:
    """The numbers of ranks in the log: a rank keeps the one that it began with, also when others are lost.

    Attributes:
        present: of each rank that is here.
        num_ranks: ranks that the log began with.
        logged: those that the log has, with ``log.ranks`` all or node.
    """

    present: list[int]
    num_ranks: int
    logged: list[int]


class Cleanup(contextlib.AbstractContextManager["Cleanup"]):
    """Ends, after its body, what the parts of a run have come to by then.

    Attributes:
        loader: ends in any case.
        comm, algorithm: end with all ranks together.
    """

    loader: Loader | None = None
    comm: Communicator | None = None
    algorithm: Algorithm | None = None

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        # Processes that read for this rank end with it, whatever became of the others.
        if self.loader is not None:
            self.loader.close()
        # After an exception of one rank alone, what is collective would wait for the others.
        if self.algorithm is not None and self.comm is not None and (kind is None or issubclass(kind, JointError)):
            self.algorithm.close()
            # A rank that does not come to its end is noticed.
            with contextlib.suppress(RanksLostError):
                self.comm.barrier()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything that the training loop touches, on one rank. What changes on the way is a new value of it."""

    # The run, the same to its end.
    config: RunConfig
    path: Path | None = None
    """Its directory; None: nothing is kept."""
    task: Task
    optimizer: Kind | None
    """What steps the learners; None: the package's own."""
    data: Identity
    example: Tree | None
    """The inputs of a sample, [1, ...], on the CPU, of which the form counts; None: it is not known."""
    imported: dict[str, dict[str, str]]
    """Where what the recipe imports comes from; see :func:`hpcsgd.config.imports.sources`."""
    tried: Attempt | None = None
    """What became of some samples before the training, where a part of the task is the user's own."""
    is_own: bool = False
    """A part of the task is the user's own."""
    loader: Loader
    splits: dict[str, Split]
    timer: StepTimer
    compute: EmulatedCompute | None = None
    """What makes passes last as long as on another device; None: they take what they take."""
    cleanup: Cleanup = field(default_factory=Cleanup)
    # Its ranks: fewer, where some are lost.
    comm: Communicator
    places: list[Topology]
    labels: Labels
    rank_rows: list[dict[str, object]]
    # Their learners: as many as recipe, tuner or checkpoint say.
    plan: Plan
    learners: ReplicaStack
    engine: Engine
    engine_tables: list[Table] | None = None
    """The timings that the engine was chosen by, of each rank."""
    trials: list[Trial] | None = None
    """What the tuner tried."""
    compile_seconds: float = math.nan
    """What compilation took, on the slowest rank; NaN: nothing is compiled."""
    # What joins all learners.
    gradients: GradientAllreduce
    world: FlatReducer
    algorithm: Algorithm

    @property
    def replica(self) -> Replica:
        """The first learner."""
        return self.learners.replicas[0]

    @property
    def place(self) -> Topology:
        """This rank's place."""
        return self.places[self.comm.rank]


def for_timing(config: RunConfig) -> RunConfig:
    """``config`` with a gradient allreduce of which there can be several at a time.

    What it costs depends on the model, and not on the learners.
    """
    return replace(config, comm=replace(config.comm, allreduce="mpi"))


def with_learners(parts: Parts, own: int, engine: str) -> Parts:
    """With ``own`` new learners of this rank, at the parameters of the seed, their plan, ``engine`` and data.

    Nothing joins them yet.

    Raises:
        UsageError: so many cannot be.
    """
    config, comm, task = parts.config, parts.comm, parts.task
    plan = _plan_again(parts, config, comm.size * own)
    learners = make_learners(config, comm, task, own, parts.learners.device, parts.optimizer)
    parts = replace(parts, plan=plan, learners=learners, engine=make_engine(engine, learners, task))
    share(parts)
    return parts


def _plan_again(parts: Parts, config: RunConfig, num_learners: int) -> Plan:
    """The plan of another number of learners.

    Raises:
        UsageError: so many cannot train.
    """
    plan = make_plan(config, num_learners, parts.plan.num_samples)
    parts.task.check_passes(config.seed, parts.example, plan.pass_sizes(config.accumulation_steps))
    return plan


def share(parts: Parts) -> None:
    """Let the loader take the part of the data that is this rank's learners'.

    Raises:
        UsageError: there is not enough for all learners.
    """
    rank, size, own = parts.comm.rank, parts.comm.size, len(parts.learners)
    parts.loader.share(rank * own, size * own, own)


def join(parts: Parts, config: RunConfig) -> Parts:
    """With the learners of all ranks joined as ``config`` says. Collective."""
    optimizer = make_optimizer(config.optimizer, parts.learners.rows, parts.optimizer)
    gradients, world, algorithm = connect(
        config, parts.comm, parts.place, parts.plan, parts.learners, parts.timer, optimizer
    )
    parts.cleanup.comm, parts.cleanup.algorithm = parts.comm, algorithm
    return replace(parts, gradients=gradients, world=world, algorithm=algorithm)


def fix_learners(parts: Parts, own: int, engine: str) -> Parts:
    """With ``own`` new learners of every rank for good, whose passes ``engine`` takes. Collective."""
    parts.algorithm.close()
    return join(agree(parts.comm, lambda: with_learners(parts, own, engine)), parts.config)


def fit_to_ranks(parts: Parts) -> Parts:
    """Fitted to the ranks that are left in ``parts.comm``; each keeps its local batch size. Collective.

    Raises:
        UsageError: so few ranks cannot go on, on all of them alike.
    """
    config, comm = parts.config, parts.comm
    places = agree(comm, lambda: discover(comm, config.algorithm.block_size))
    same_local = replace(config, local_batch_size=parts.plan.local_batch_size, global_batch_size=None)
    plan = agree(comm, lambda: _plan_again(parts, same_local, comm.size * len(parts.learners)))
    parts.timer.clear()
    parts = replace(parts, places=places, plan=plan)
    share(parts)
    return join(parts, config)


def make_learners(
    config: RunConfig, comm: Communicator, task: Task, own: int, device: torch.device, optimizer: Kind | None
) -> ReplicaStack:
    """This rank's learners, ``own`` of them, all with the parameters of the seed, and rows for their optimizer."""
    module, dtype = task.new_module(config.seed), getattr(torch, config.dtype)
    modules = [module, *(copy.deepcopy(module) for _ in range(1, own))]
    replicas = [Replica(m, device, dtype, channels_last=task.channels_last) for m in modules]
    if task.compile_backend is not None:
        for replica in replicas:
            compile_(replica.module, task.compile_backend)
    seeds = [stream_seed(config.seed, comm.rank * own + j) for j in range(own)]
    shared = shares_rows(config, comm, device)
    learners = ReplicaStack(replicas, seeds, states_of(config, optimizer), shared=shared)
    let_draw_apart(learners, config, comm, task)
    return learners


def shares_rows(config: RunConfig, comm: Communicator, device: torch.device) -> bool:
    """Whether ranks may average the rows of their learners in memory that they share."""
    asked, method = config.comm.averaging, config.algorithm
    # What is emulated, encoded or goes on in the background is MPI's.
    is_plain = not config.emulate.network.is_on and config.comm.wire == "full" and not method.overlap_steps
    pays = method.averages_learners and is_plain and not comm.can_shrink
    return (asked == "shared" or (asked == "auto" and pays)) and comm.size > 1 and device.type == "cpu"


def let_draw_apart(learners: ReplicaStack, config: RunConfig, comm: Communicator, task: Task) -> None:
    """Let several learners draw from torch's global generators as so many ranks would, where they do."""
    own = len(learners)
    if task.draws and own > 1:
        learners.draw_apart([rank_seed(config.seed, comm.rank * own + j) for j in range(own)])
