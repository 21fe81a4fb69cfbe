"""The parts of a run, built in order from a configuration and a communicator."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.device import bind_device, core_list, set_threads, share_of_cores
from hpcsgd.comm.topology import Topology, discover
from hpcsgd.config import RunConfig
from hpcsgd.data.make import open_data, staged
from hpcsgd.data.own.flow import check_first_batches
from hpcsgd.data.store import as_tensor
from hpcsgd.data.together import open_together
from hpcsgd.data.trees import map_tree
from hpcsgd.data.workers import with_workers
from hpcsgd.learners.dropout import seed_rank
from hpcsgd.learners.engines.choose import make_engine
from hpcsgd.optim.choose import find_kind, make_optimizer
from hpcsgd.record.timer import StepTimer
from hpcsgd.run.emulated import emulated_compute, emulated_places
from hpcsgd.run.parts import Cleanup, Labels, Parts, for_timing, let_draw_apart, make_learners
from hpcsgd.run.plan import make_plan
from hpcsgd.run.wiring import connect
from hpcsgd.tasks.build import make_task
from hpcsgd.tasks.given import NOTHING, Given
from hpcsgd.tasks.memory_order import is_channels_last
from hpcsgd.tasks.precision import make_autocast, set_float32
from hpcsgd.tasks.together import import_together, try_together


@contextmanager
def build(config: RunConfig, comm: Communicator, given: Given = NOTHING) -> Iterator[Parts]:
    """Build all parts, and end after the body what they have become. Collective.

    Raises:
        UsageError: see :func:`assemble`.
    """
    with Cleanup() as cleanup:
        # Nothing here holds the first parts while others take their place.
        yield assemble(config, comm, given, cleanup)


def assemble(config: RunConfig, comm: Communicator, given: Given = NOTHING, cleanup: Cleanup | None = None) -> Parts:
    """Build all parts; what is ``given`` takes the place of what the recipe names. Collective.

    Raises:
        UsageError: on all ranks alike, whichever of them saw the mistake.
    """
    cleanup = cleanup if cleanup is not None else Cleanup()
    places = agree(comm, lambda: discover(comm, config.algorithm.block_size))
    place = places[comm.rank]
    imported = import_together(config, comm)
    device, device_name = bind_device(config.device, comm, place, share_gpu=config.share_gpu)
    set_float32(config.precision)
    threads = set_threads(config.threads, comm, place)
    data = with_workers(staged(config.data, comm, place.local_rank), share_of_cores(comm, place))
    dataset = open_together(data, comm, place.node, given.data)
    own = config.known_learners
    plan = agree(comm, lambda: make_plan(config, comm.size * own, dataset.num_train))
    task = agree(
        comm,
        lambda: make_task(config.model, dataset, config.loss, config.metrics, config.label_smoothing, given),
    )
    backend = config.compile_backend if config.compile else None
    example = map_tree(as_tensor, dataset.example)
    last = all(comm.allgather_object(agree(comm, lambda: is_channels_last(config, task, device, example))))
    task = replace(task, autocast=make_autocast(config.precision, device), compile_backend=backend, channels_last=last)
    agree(comm, lambda: task.check_passes(config.seed, example, plan.pass_sizes(config.accumulation_steps)))
    optimizer = agree(comm, lambda: find_kind(config, device, given.optimizer))
    learners = agree(comm, lambda: make_learners(config, comm, task, own, device, optimizer))
    loader, splits = agree(
        comm,
        lambda: open_data(
            dataset, replace(config, data=data), comm, plan.local_batch_size, device, channels_last=task.channels_last
        ),
    )
    cleanup.loader = loader
    check_first_batches(loader, comm)
    tried = None
    is_own = bool(imported) or given is not NOTHING
    if is_own or task.autocast is not None:
        task, tried = try_together(config, task, loader, device, comm)
    if is_own:
        seed_rank(config.seed, comm.rank)
        let_draw_apart(learners, config, comm, task)
    engine = agree(comm, lambda: make_engine(config.engine, learners, task))
    places = emulated_places(config, comm, places, device.type == "cuda")
    place, compute = places[comm.rank], emulated_compute(config, comm.rank)
    timer, rank_rows = start_clock(comm, place, device, device_name, threads)
    joining = for_timing(config) if config.learners_per_rank == "auto" else config
    stepper = make_optimizer(config.optimizer, learners.rows, optimizer)
    gradients, world, algorithm = connect(joining, comm, place, plan, learners, timer, stepper)
    gradients.pace = compute.wait_for_gradient if compute is not None else None
    cleanup.comm, cleanup.algorithm = comm, algorithm
    logged = [other.rank for other in places if config.log.ranks == "all" or other.local_rank == 0]
    return Parts(
        config=config,
        task=task,
        optimizer=optimizer,
        data=dataset.identity,
        example=example,
        imported=imported,
        tried=tried,
        is_own=is_own,
        loader=loader,
        splits=splits,
        timer=timer,
        compute=compute,
        cleanup=cleanup,
        comm=comm,
        places=places,
        labels=Labels(list(range(comm.size)), comm.size, logged),
        rank_rows=rank_rows,
        plan=plan,
        learners=learners,
        engine=engine,
        gradients=gradients,
        world=world,
        algorithm=algorithm,
    )


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
        "peak_memory_bytes": math.nan,
    }
    return StepTimer(device, origin), comm.allgather_object(row)
