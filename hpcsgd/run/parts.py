"""The parts of a run, built in order from a configuration and a communicator."""

from __future__ import annotations

import contextlib
import copy
import os
import time
from dataclasses import dataclass, replace

import torch

from hpcsgd.algorithms.base import Algorithm
from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.device import bind_device, core_list, set_threads
from hpcsgd.comm.gradients import GradientAllreduce
from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.comm.topology import Topology, discover
from hpcsgd.config import RunConfig
from hpcsgd.data.batches import Loader, Split
from hpcsgd.data.identity import Identity
from hpcsgd.data.make import open_data, staged
from hpcsgd.data.own.flow import check_first_batches
from hpcsgd.data.store import as_tensor
from hpcsgd.data.together import open_together
from hpcsgd.data.trees import Tree, map_tree
from hpcsgd.errors import JointError, RanksLostError
from hpcsgd.learners.dropout import seed_rank, stream_seed
from hpcsgd.learners.engines.base import Engine
from hpcsgd.learners.engines.choose import Table, make_engine
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.learners.tuner import Trial
from hpcsgd.optim.choose import make_optimizer, states_of
from hpcsgd.optim.probe import Factory
from hpcsgd.record.timer import StepTimer
from hpcsgd.run.plan import Plan, make_plan
from hpcsgd.run.wiring import connect
from hpcsgd.tasks.build import make_task
from hpcsgd.tasks.given import NOTHING, Given
from hpcsgd.tasks.task import Task
from hpcsgd.tasks.together import import_together, try_together


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


@dataclass
class Parts:
    """Everything that the training loop touches, on one rank."""

    config: RunConfig
    comm: Communicator
    places: list[Topology]
    plan: Plan
    loader: Loader
    splits: dict[str, Split]
    learners: ReplicaStack
    engine: Engine
    gradients: GradientAllreduce
    world: FlatReducer
    algorithm: Algorithm
    timer: StepTimer
    rank_rows: list[dict[str, object]]
    labels: Labels
    data: Identity
    task: Task
    given: Given
    imported: dict[str, dict[str, str]]
    """Where what the recipe imports comes from; see :func:`hpcsgd.config.imports.sources`."""
    example: Tree | None
    """The inputs of a sample, [1, ...], on the CPU, of which the form counts; None: it is not known."""
    engine_tables: list[Table] | None = None
    """The timings that the engine was chosen by, of each rank."""
    trials: list[Trial] | None = None
    """What the tuner tried."""

    def close(self) -> None:
        """End process groups, with all ranks: one that does not come to its end is noticed."""
        self.algorithm.close()
        with contextlib.suppress(RanksLostError):
            self.comm.barrier()

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        # Processes that read for this rank end with it, whatever became of the others.
        self.loader.close()
        # After an exception of one rank alone, what is collective would wait for the others.
        if kind is None or issubclass(kind, JointError):
            self.close()

    @property
    def replica(self) -> Replica:
        """The first learner."""
        return self.learners.replicas[0]

    @property
    def place(self) -> Topology:
        """This rank's place."""
        return self.places[self.comm.rank]


def build(config: RunConfig, comm: Communicator, given: Given = NOTHING) -> Parts:
    """Build all parts; what is ``given`` takes the place of what the recipe names. Collective.

    Raises:
        UsageError: on all ranks alike, whichever of them saw the mistake.
    """
    places = agree(comm, lambda: discover(comm, config.algorithm.block_size))
    place = places[comm.rank]
    imported = import_together(config, comm)
    device, device_name = bind_device(config.device, comm, place, share_gpu=config.share_gpu)
    threads = set_threads(config.threads, comm, place)
    data = staged(config.data, comm, place.local_rank)
    dataset = open_together(data, comm, place.node, given.data)
    own = config.known_learners
    plan = agree(comm, lambda: make_plan(config, comm.size * own, dataset.num_train))
    task = agree(
        comm,
        lambda: make_task(config.model, dataset, config.loss, config.metrics, config.label_smoothing, given),
    )
    example = map_tree(as_tensor, dataset.example)
    agree(comm, lambda: task.check_passes(config.seed, example, plan.pass_sizes(config.accumulation_steps)))
    learners = agree(comm, lambda: _make_learners(config, comm, task, own, device, given.optimizer))
    loader, splits = agree(comm, lambda: open_data(dataset, config, comm, plan.local_batch_size, device))
    check_first_batches(loader, comm)
    if imported or given is not NOTHING:
        task = try_together(config, task, loader, device, comm)
        seed_rank(config.seed, comm.rank)
    engine = agree(comm, lambda: make_engine(config.engine, learners, task))
    timer, rank_rows = start_clock(comm, place, device, device_name, threads)
    joining = for_timing(config) if config.learners_per_rank == "auto" else config
    optimizer = make_optimizer(config, learners.rows, given.optimizer)
    gradients, world, algorithm = connect(joining, comm, place, plan, learners, timer, optimizer)
    logged = [other.rank for other in places if config.log.ranks == "all" or other.local_rank == 0]
    labels = Labels(list(range(comm.size)), comm.size, logged)
    return Parts(
        config,
        comm,
        places,
        plan,
        loader,
        splits,
        learners,
        engine,
        gradients,
        world,
        algorithm,
        timer,
        rank_rows,
        labels,
        dataset.identity,
        task,
        given,
        imported,
        example,
    )


def for_timing(config: RunConfig) -> RunConfig:
    """``config`` with a gradient allreduce of which there can be several at a time.

    What it costs depends on the model, and not on the learners.
    """
    return replace(config, comm=replace(config.comm, allreduce="mpi"))


def set_learners(parts: Parts, own: int, engine: str) -> None:
    """Give this rank ``own`` new learners, at the parameters of the seed, with their plan, ``engine`` and data.

    Raises:
        UsageError: so many cannot be.
    """
    config, comm = parts.config, parts.comm
    parts.plan = _plan_again(parts, config, comm.size * own)
    parts.learners = _make_learners(config, comm, parts.task, own, parts.learners.device, parts.given.optimizer)
    parts.engine = make_engine(engine, parts.learners, parts.task)
    share(parts)


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


def join(parts: Parts, config: RunConfig) -> None:
    """Join the learners of all ranks as ``config`` says. Collective."""
    optimizer = make_optimizer(config, parts.learners.rows, parts.given.optimizer)
    parts.gradients, parts.world, parts.algorithm = connect(
        config, parts.comm, parts.place, parts.plan, parts.learners, parts.timer, optimizer
    )


def fix_learners(parts: Parts, own: int, engine: str) -> None:
    """Give every rank ``own`` new learners for good, whose passes ``engine`` takes. Collective."""
    parts.algorithm.close()
    agree(parts.comm, lambda: set_learners(parts, own, engine))
    join(parts, parts.config)


def rebuild(parts: Parts, comm: Communicator) -> None:
    """Fit the parts to ``comm``, the ranks that are left; each keeps its local batch size. Collective.

    Raises:
        UsageError: so few ranks cannot go on, on all of them alike.
    """
    present = [parts.labels.present[old] for old in comm.allgather_object(parts.comm.rank)]
    config, plan = parts.config, parts.plan
    places = agree(comm, lambda: discover(comm, config.algorithm.block_size))
    same_local = replace(config, local_batch_size=plan.local_batch_size, global_batch_size=None)
    plan = agree(comm, lambda: _plan_again(parts, same_local, comm.size * len(parts.learners)))
    parts.timer.clear()
    parts.comm, parts.places, parts.plan = comm, places, plan
    share(parts)
    join(parts, config)
    parts.labels = replace(parts.labels, present=present)


def _make_learners(
    config: RunConfig, comm: Communicator, task: Task, own: int, device: torch.device, optimizer: Factory | None
) -> ReplicaStack:
    """This rank's learners, ``own`` of them, all with the parameters of the seed, and rows for their optimizer."""
    module, dtype = task.new_module(config.seed), getattr(torch, config.dtype)
    modules = [module, *(copy.deepcopy(module) for _ in range(1, own))]
    replicas = [Replica(m, device, dtype, channels_last=config.model.channels_last) for m in modules]
    seeds = [stream_seed(config.seed, comm.rank * own + j) for j in range(own)]
    return ReplicaStack(replicas, seeds, states_of(config, device, dtype, optimizer))


def start_clock(
    comm: Communicator, place: Topology, device: torch.device, device_name: str, threads: int
) -> tuple[StepTimer, list[dict[str, object]]]:
    """Bring all ranks to one clock, which begins now; and the rows of the log's table of ranks."""
    offset, error = comm.clock_offset()
    comm.barrier()
    origin = comm.broadcast_object(time.perf_counter()) + offset
    row: dict[str, object] = {
        "rank": place.rank,
        "node": place.node,
        "node_index": place.node_index,
        "local_rank": place.local_rank,
        "block": place.block,
        "device": device_name,
        "cores": core_list(),
        "threads": threads,
        "pid": os.getpid(),
        "clock_offset_seconds": offset,
        "clock_error_seconds": error,
    }
    return StepTimer(device, origin), comm.allgather_object(row)
