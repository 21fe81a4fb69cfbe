"""The parts of a run, built in order from a configuration and a communicator."""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from hpcsgd.algorithms.base import Algorithm
from hpcsgd.algorithms.local_sgd import LocalSGD
from hpcsgd.algorithms.sma import SMA
from hpcsgd.algorithms.stability import check_blocks
from hpcsgd.comm.backends import make_gradient_allreduce, make_reducer
from hpcsgd.comm.background import ReducerThread
from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.device import bind_device, core_list, set_threads
from hpcsgd.comm.gradients import Buckets, GradientAllreduce, NoAllreduce
from hpcsgd.comm.guard import FiniteGuard
from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.comm.topology import Topology, discover
from hpcsgd.config import DataConfig, RunConfig
from hpcsgd.data.batches import Loader, Split
from hpcsgd.data.dataset import Dataset, load_dataset
from hpcsgd.data.loader import DeviceLoader, DeviceSplit
from hpcsgd.data.stage import stage
from hpcsgd.data.stream import StreamLoader, StreamSplit
from hpcsgd.errors import JointError, RanksLostError
from hpcsgd.learners.dropout import stream_seed
from hpcsgd.learners.engines.base import Engine
from hpcsgd.learners.engines.choose import Table, make_engine
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.learners.stack_sgd import StackSGD
from hpcsgd.models import build_model
from hpcsgd.plan import Plan, make_plan
from hpcsgd.record.timer import StepTimer


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
    engine_tables: list[Table] | None = None
    """The timings that the engine was chosen by, of each rank."""

    def close(self) -> None:
        """End threads and process groups, with all ranks: one that does not come to its end is noticed."""
        self.loader.close()
        self.algorithm.close()
        with contextlib.suppress(RanksLostError):
            self.comm.barrier()

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
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


def build(config: RunConfig, comm: Communicator) -> Parts:
    """Build all parts. Collective.

    Raises:
        UsageError: on all ranks alike, whichever of them saw the mistake.
    """
    places = agree(comm, lambda: discover(comm, config.algorithm.block_size))
    place = places[comm.rank]
    device, device_name = bind_device(config.device, comm, place, share_gpu=config.share_gpu)
    threads = set_threads(config.threads, comm, place)
    data = _staged(config.data, comm, place)
    dataset = agree(comm, lambda: load_dataset(data))
    plan = agree(comm, lambda: make_plan(config, comm.size * config.learners_per_rank, len(dataset.train.labels)))
    module = agree(comm, lambda: build_model(config.model, dataset.shape, dataset.num_classes, config.seed))
    dtype = getattr(torch, config.dtype)
    learners = _make_learners(config, comm, module, device, dtype)
    engine = agree(comm, lambda: make_engine(config.engine, learners, config.label_smoothing))
    loader, splits = _load(config, comm, plan, dataset, device, dtype)
    timer, rank_rows = _start_clock(comm, place, device, device_name, threads)
    gradients, world, algorithm = _connect(config, comm, place, plan, learners, timer)
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
    )


def rebuild(parts: Parts, comm: Communicator) -> None:
    """Fit the parts to ``comm``, the ranks that are left; each keeps its local batch size. Collective.

    Raises:
        UsageError: so few ranks cannot go on, on all of them alike.
    """
    present = [parts.labels.present[old] for old in comm.allgather_object(parts.comm.rank)]
    config, plan = parts.config, parts.plan
    places = agree(comm, lambda: discover(comm, config.algorithm.block_size))
    same_local = replace(config, local_batch_size=plan.local_batch_size, global_batch_size=None)
    own = config.learners_per_rank
    plan = agree(comm, lambda: make_plan(same_local, comm.size * own, plan.num_samples))
    gradients, world, algorithm = _connect(config, comm, places[comm.rank], plan, parts.learners, parts.timer)
    parts.timer.clear()
    parts.loader.share(comm.rank * own, comm.size * own)
    parts.comm, parts.places, parts.plan = comm, places, plan
    parts.gradients, parts.world, parts.algorithm = gradients, world, algorithm
    parts.labels = replace(parts.labels, present=present)


def _connect(
    config: RunConfig, comm: Communicator, place: Topology, plan: Plan, learners: ReplicaStack, timer: StepTimer
) -> tuple[GradientAllreduce, FlatReducer, Algorithm]:
    """What joins the replicas of all ranks. Collective."""
    replica, comm_config = learners.replicas[0], config.comm
    device = replica.parameters.device
    if len(learners) > 1 and plan.schedule.averages_gradients:
        # The gradients of a rank's learners are summed first, in the first one's: none of its buckets can go ahead.
        comm_config = replace(comm_config, overlap=False)
    buckets = Buckets(replica.gradients, replica.trainable, replica.slots, config.comm.bucket_bytes)
    gradients: GradientAllreduce = NoAllreduce(buckets)
    if plan.schedule.averages_gradients:
        gradients = agree(comm, lambda: make_gradient_allreduce(comm_config, comm, place, device, buckets))
    world = agree(comm, lambda: make_reducer(config.comm, comm, device))
    block = _block_reducer(config, comm, place, device) or world
    algorithm = _make_algorithm(config, comm, place, plan, learners, timer, gradients, world, block)
    guard = FiniteGuard(comm) if config.faults.check_finite else None
    gradients.guard = world.guard = block.guard = guard
    return gradients, world, algorithm


def _make_algorithm(
    config: RunConfig,
    comm: Communicator,
    place: Topology,
    plan: Plan,
    learners: ReplicaStack,
    timer: StepTimer,
    gradients: GradientAllreduce,
    world: FlatReducer,
    block: FlatReducer,
) -> Algorithm:
    """The order of events. Collective."""
    method, hash_every = config.algorithm, config.faults.hash_every
    optimizer = StackSGD(config.optimizer, learners)
    if not method.has_central_model:
        parts = config.accumulation_steps
        return LocalSGD(method, plan.schedule, learners, optimizer, gradients, world, block, timer, parts, hash_every)
    if method.has_blocks:
        blocks = Counter(comm.allgather_object(place.block) * len(learners))
        agree(comm, lambda: check_blocks(method, plan.alpha, plan.num_learners, blocks.values()))
    drops = plan.learning_rate.drops
    thread = _averaging_thread(config, comm, learners.state.device)
    return SMA(method, plan.schedule, plan.alpha, drops, learners, optimizer, world, block, timer, hash_every, thread)


def _averaging_thread(config: RunConfig, comm: Communicator, device: torch.device) -> ReducerThread | None:
    """Sums the corrections of SMA in the background, where that is asked for. Collective."""
    if not config.comm.overlap or comm.size == 1:
        return None
    own = comm.duplicate()
    return ReducerThread(agree(comm, lambda: make_reducer(config.comm, own, device)), "averaging")


def _make_learners(
    config: RunConfig, comm: Communicator, module: nn.Module, device: torch.device, dtype: torch.dtype
) -> ReplicaStack:
    """This rank's learners, all with the parameters of ``module``."""
    own = config.learners_per_rank
    modules = [module, *(copy.deepcopy(module) for _ in range(1, own))]
    replicas = [Replica(m, device, dtype, channels_last=config.model.channels_last) for m in modules]
    seeds = [stream_seed(config.seed, comm.rank * own + j) for j in range(own)]
    # The dropout of one learner a rank draws from torch's own stream.
    return ReplicaStack(replicas, seeds if own > 1 else ())


def _staged(data: DataConfig, comm: Communicator, place: Topology) -> DataConfig:
    """``data`` with its file on the node's own disk, where that is asked for. Collective."""
    if data.stage_dir is None or data.dir is None:
        return data
    source, directory = Path(data.dir), Path(data.stage_dir)
    agree(comm, lambda: stage(source, directory) if place.local_rank == 0 else None)
    return replace(data, dir=str(directory / source.name))


def _load(
    config: RunConfig, comm: Communicator, plan: Plan, dataset: Dataset, device: torch.device, dtype: torch.dtype
) -> tuple[Loader, dict[str, Split]]:
    """The training loader and the splits to evaluate, on the device."""
    channels_last = config.model.channels_last
    make_loader, make_split = (DeviceLoader, DeviceSplit) if dataset.crop is None else (StreamLoader, StreamSplit)
    loader: Loader = make_loader(
        dataset,
        config.data,
        seed=config.seed,
        learner=comm.rank * config.learners_per_rank,
        num_learners=plan.num_learners,
        local_batch_size=plan.local_batch_size,
        device=device,
        dtype=dtype,
        channels_last=channels_last,
        own_learners=config.learners_per_rank,
    )
    splits: dict[str, Split] = {
        str(name): make_split(dataset, getattr(dataset, name), device=device, dtype=dtype, channels_last=channels_last)
        for name in config.evaluate.splits
    }
    return loader, splits


def _block_reducer(config: RunConfig, comm: Communicator, place: Topology, device: torch.device) -> FlatReducer | None:
    """The reducer over this rank's block, where the algorithm has blocks."""
    if not config.algorithm.has_blocks:
        return None
    return make_reducer(config.comm, comm.split(place.block), device)


def _start_clock(
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
