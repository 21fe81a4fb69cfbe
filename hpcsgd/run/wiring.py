"""What joins the learners of all ranks: gradient allreduce, reducers, and the algorithm that uses them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch

from hpcsgd.algorithms.base import Algorithm
from hpcsgd.algorithms.local_sgd import LocalSGD
from hpcsgd.algorithms.loss_scale import LossScale
from hpcsgd.algorithms.sma import SMA
from hpcsgd.algorithms.stability import check_blocks
from hpcsgd.algorithms.update import Update
from hpcsgd.algorithms.wires import make_wire
from hpcsgd.comm.backends import Averaged, make_gradient_allreduce, make_mpi_reducer, make_reducer
from hpcsgd.comm.background import Background, ReducerThread
from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.emulated import emulate_network
from hpcsgd.comm.gradients import Buckets, GradientAllreduce, NoAllreduce
from hpcsgd.comm.guard import FiniteGuard
from hpcsgd.comm.lossy import make_lossy_sum
from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.comm.topology import Topology
from hpcsgd.comm.wire_gradients import WireGradients
from hpcsgd.config import RunConfig
from hpcsgd.errors import UsageError
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.base import RowOptimizer
from hpcsgd.record.timer import StepTimer
from hpcsgd.run.plan import Plan


def connect(
    config: RunConfig,
    comm: Communicator,
    place: Topology,
    plan: Plan,
    learners: ReplicaStack,
    timer: StepTimer,
    optimizer: RowOptimizer,
) -> tuple[GradientAllreduce, FlatReducer, Algorithm]:
    """Join the learners of all ranks as ``config`` says; ``optimizer`` steps them. Collective.

    Raises:
        UsageError: the machine has not what is asked for, or the algorithm would not be stable.
    """
    replica, comm_config, network = learners.replicas[0], config.comm, config.emulate.network
    comm = emulate_network(comm, network)
    if config.log.noise_scale and plan.num_learners == 1 and config.learners_per_rank != "auto":
        raise UsageError(
            "log.noise_scale is true, but there is one learner, and the noise shows between its gradient and that of "
            "several: train on more ranks, set learners_per_rank, or leave it out"
        )
    device = replica.parameters.device
    if len(learners) > 1 and plan.schedule.averages_gradients:
        # The gradients of a rank's learners are summed first, in the first one's: none of its buckets can go ahead.
        comm_config = replace(comm_config, overlap=False)
    elif network.is_on and comm_config.overlap is None:
        # A thread that sleeps needs no core.
        comm_config = replace(comm_config, overlap=True)
    buckets = Buckets(replica.gradients, replica.trainable, replica.slots, config.comm.bucket_bytes)
    gradients: GradientAllreduce = NoAllreduce(buckets)
    if plan.schedule.averages_gradients and comm_config.gradient_wire == "full":
        gradients = agree(comm, lambda: make_gradient_allreduce(comm_config, comm, place, device, buckets))
    memory = learners.rows.memory
    averaged = (learners.parameters[0], memory) if memory is not None else None
    world = agree(comm, lambda: make_reducer(config.comm, comm, device, averaged=averaged))
    if plan.schedule.averages_gradients and comm_config.gradient_wire != "full":
        lossy = make_lossy_sum(comm_config.gradient_wire, comm_config, buckets.flat[None], replica.slots, world)
        gradients = WireGradients(buckets, lossy, world.name)
    block = _block_reducer(config, comm, place, device, averaged) or world
    scale = LossScale(comm) if config.precision == "float16" else None
    update = Update(learners, optimizer, timer, config.optimizer.clip_norm, scale, config.log.noise_scale)
    algorithm = _make_algorithm(config, comm, place, plan, learners, update, timer, gradients, world, block)
    guard = FiniteGuard(comm) if config.faults.check_finite else None
    world.guard = block.guard = guard
    # Gradients of a scaled loss may overflow: what becomes of them is the scale's to say.
    gradients.guard = guard if scale is None else None
    gradients.takes_norms = config.log.noise_scale and len(learners) == 1
    return gradients, world, algorithm


def _make_algorithm(
    config: RunConfig,
    comm: Communicator,
    place: Topology,
    plan: Plan,
    learners: ReplicaStack,
    update: Update,
    timer: StepTimer,
    gradients: GradientAllreduce,
    world: FlatReducer,
    block: FlatReducer,
) -> Algorithm:
    """The order of events. Collective."""
    method, hash_every = config.algorithm, config.faults.hash_every
    overlaps = config.comm.overlap if method.has_central_model else method.overlap_steps > 0
    thread = _averaging_thread(config, comm, learners.device, world) if overlaps and comm.size > 1 else None
    if not method.has_central_model:
        parts = config.accumulation_steps
        wire = make_wire(config.comm, learners.rows, world)
        joined = (learners, update, gradients, world, block, timer, plan.outer_rate)
        return agree(comm, lambda: LocalSGD(method, plan.schedule, *joined, parts, hash_every, wire, thread))
    if method.has_blocks:
        blocks = Counter(comm.allgather_object(place.block) * len(learners))
        agree(comm, lambda: check_blocks(method, plan.alpha, plan.num_learners, blocks.values()))
    drops = plan.learning_rate.drops
    return SMA(method, plan.schedule, plan.alpha, drops, learners, update, world, block, timer, hash_every, thread)


def _averaging_thread(config: RunConfig, comm: Communicator, device: torch.device, world: FlatReducer) -> Background:
    """Sums over all ranks in the background. Collective."""
    if world.name == "torch":
        from hpcsgd.comm.torch_reducer import QueuedSums, TorchReducer

        assert isinstance(world, TorchReducer)
        return QueuedSums(world)
    own = comm.duplicate()
    return ReducerThread(agree(comm, lambda: make_mpi_reducer(config.comm, own, device)), "averaging", device)


def _block_reducer(
    config: RunConfig, comm: Communicator, place: Topology, device: torch.device, averaged: Averaged | None
) -> FlatReducer | None:
    """The reducer over this rank's block, where the algorithm has blocks."""
    if not config.algorithm.has_blocks:
        return None
    return make_reducer(config.comm, comm.split(place.block), device, comm, averaged)
