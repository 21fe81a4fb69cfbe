"""Open and close the run log around the training loop."""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hpcsgd.comm.communicator import agree
from hpcsgd.comm.device import begin_peak_memory, peak_memory
from hpcsgd.config.recipe import to_dict
from hpcsgd.errors import DiskError, DivergedError, Preempted, UsageError, reason, told_as
from hpcsgd.record.clocks import Clocks
from hpcsgd.record.collector import RANK_NAMES, Collector
from hpcsgd.record.cut import continue_log
from hpcsgd.record.energy import node_energy_source
from hpcsgd.record.provenance import collect
from hpcsgd.record.schema import STATISTICS
from hpcsgd.record.utilisation import Sampler
from hpcsgd.record.writer import RunLogWriter
from hpcsgd.run.claims import Claim
from hpcsgd.run.kernels import gpu_versions
from hpcsgd.run.parts import Labels, Parts
from hpcsgd.run.plan import Plan
from hpcsgd.run.resume import Start
from hpcsgd.tasks.precision import float32_flags

Select = Callable[[NDArray[np.float64]], NDArray[np.float64]]
NUM_SAMPLES = RANK_NAMES.index("num_samples")
NODE_ENERGY = RANK_NAMES.index("node_energy_joules")


@contextmanager
def open_log(parts: Parts, argv: Sequence[str], start: Start, claim: Claim) -> Iterator[Collector]:
    """The collector of a run; the log's status is set at the end, whatever it is. Collective.

    Now the run's directory is changed as ``claim`` has decided.
    """
    config, plan, comm = parts.config, parts.plan, parts.comm
    writer = agree(comm, lambda: _begin(parts, argv, start, claim) if comm.rank == 0 else None)
    clocks = Clocks(parts.labels.num_ranks, plan.steps_per_epoch)
    if start.clocks is not None:
        clocks.load_state_dict(start.clocks)
    parts.timer.origin -= comm.broadcast_object(start.elapsed_seconds)
    device = parts.learners.device
    # Of nodes that are not there, nothing is counted.
    tells_node = parts.place.local_rank == 0 and not config.emulate.is_on
    pause = config.log.utilisation_seconds if config.log.enabled else 0
    sampler = Sampler(pause, device, torch.get_num_threads(), node=tells_node)
    collector = Collector(
        config.log,
        comm.gather,
        parts.timer,
        device,
        writer,
        clocks,
        partial(spread, parts.labels),
        selection(parts).select,
        sampler,
        # A run that survives lost ranks gathers after global averagings only.
        most_waiting=plan.longest_round if config.on_failure == "shrink" else 0,
        guard=parts.world.guard,
        watch=comm.watchdog.watch,
        learners=len(parts.learners),
        from_first=comm.broadcast_object,
    )
    collector.segment = comm.broadcast_object(writer.num_rows["segments"] - 1 if writer is not None else 0)
    status, peaks = "failed", {}
    begin_peak_memory(device)
    try:
        yield collector
        if not all(comm.allgather_object(bool(torch.isfinite(parts.learners.parameters).all()))):
            raise DivergedError("the run came to its end, but its parameters are not finite: they are of no use")
        status, peaks = "completed", _peaks(parts)
    except (Preempted, DivergedError) as error:
        status = "preempted" if isinstance(error, Preempted) else "diverged"
        peaks = _peaks(parts)
        raise
    finally:
        sampler.close()
        failure = _close(writer, status, peaks)
    if failure is not None:
        raise failure


def note_early_end(collector: Collector, planned: Plan, done: Plan) -> None:
    """Keep in the log how many steps were done, where the data ended before those that were planned."""
    writer = collector.writer
    if writer is not None and done.total_steps < planned.total_steps:
        with told_as(writer.path):
            writer.amend_provenance(total_steps=done.total_steps, planned_steps=planned.total_steps)


def _peaks(parts: Parts) -> dict[int, float]:
    """By rows of ``/ranks``, the peak of the memory of each rank that is here; none without GPUs. Collective with."""
    device = parts.learners.device
    if device.type != "cuda":
        return {}
    present = [number for number, row in enumerate(parts.rank_rows) if row["rank"] in parts.labels.present]
    return dict(zip(present, parts.comm.allgather_object(peak_memory(device)), strict=True))


def _close(writer: RunLogWriter | None, status: str, peaks: Mapping[int, float]) -> DiskError | None:
    """Set the log's status, keep what :func:`_peaks` gave, and close it.

    Returns:
        What went wrong, for a caller that has no worse to tell.
    """
    if writer is None:
        return None
    try:
        with told_as(writer.path), writer:
            if peaks:
                writer.set_peak_memory(peaks)
            writer.set_status(status)
    except DiskError as error:
        return error
    return None


def _begin(parts: Parts, argv: Sequence[str], start: Start, claim: Claim) -> RunLogWriter | None:
    """Rank 0: a new log, or the old one cut back to where the run begins, with a row for this segment; and the recipe.

    Raises:
        UsageError: the old one cannot be gone on with, or the disk is full.
    """
    writer, path = None, parts.path
    if path is None:
        return None
    claim.begin()
    try:
        with contextlib.ExitStack() as undo:
            if parts.config.log.enabled:
                writer = _make_writer(parts, path / "run.h5", argv, start, undo)
            elif (path / "run.h5").exists():
                _put_aside(path, start.step, "log.enabled is false")
            claim.settle()
            undo.pop_all()
    except OSError as error:
        raise UsageError(f"cannot write the log {path / 'run.h5'}: {reason(error)}") from error
    return writer


def _make_writer(
    parts: Parts, file: Path, argv: Sequence[str], start: Start, undo: contextlib.ExitStack
) -> RunLogWriter:
    """The writer of ``file``; on a failure ``undo`` closes it, and removes a log that was not there."""
    provenance = _provenance(parts, argv)
    axis, labels, _ = selection(parts)
    if start.log_rows and file.exists():
        writer = continue_log(
            file, start.log_rows, ranks=parts.rank_rows, rank_labels=labels, rank_axis=axis, provenance=provenance
        )
        undo.callback(writer.give_up)
    else:
        if start.step and file.exists():
            _put_aside(file.parent, start.step, "its columns are of other ranks, or the state was kept without it")
        elif start.log_rows:
            print(f"hpcsgd: {file} is not there: a new log begins with step {start.step}", file=sys.stderr, flush=True)
        if not file.exists():
            undo.callback(partial(file.unlink, missing_ok=True))
        writer = RunLogWriter(file, ranks=parts.rank_rows, rank_labels=labels, rank_axis=axis, provenance=provenance)
        undo.callback(writer.give_up)
        if parts.trials is not None:
            writer.append_tuner([vars(trial) for trial in parts.trials])
    writer.append_segment(
        {
            "first_step": start.step,
            "world_size": parts.comm.size,
            "lost_ranks": ",".join(map(str, start.lost_ranks)),
            "compile_seconds": parts.compile_seconds,
            "peak_memory_bytes": math.nan,
            "started": provenance["started"],
            "git_commit": provenance["git_commit"] or "",
            "job": provenance["job"] or "",
        }
    )
    return writer


def _put_aside(path: Path, step: int, why: str) -> None:
    """Give the log a name of its own, that of no other file."""
    names = itertools.chain(
        [f"run-before-step-{step}.h5"], (f"run-before-step-{step}-{n}.h5" for n in itertools.count(2))
    )
    aside = next(path / name for name in names if not (path / name).exists())
    (path / "run.h5").rename(aside)
    print(f"hpcsgd: the log of the steps before {step} is put aside as {aside}: {why}", file=sys.stderr, flush=True)


def _provenance(parts: Parts, argv: Sequence[str]) -> dict[str, object]:
    """Where the run comes from, and what follows from its configuration here."""
    plan, comm = parts.plan, parts.comm
    return collect(list(argv), to_dict(parts.config)) | {
        "mpi_library": comm.library,
        "mpi_allreduce_algorithm": {"asked": parts.config.comm.allreduce_algorithm, "pinned": comm.allreduce_algorithm},
        "gradient_allreduce": parts.gradients.name,
        "gradient_overlap": parts.gradients.overlap,
        "averaging": parts.world.name,
        "averaging_seconds": parts.world.seconds or None,
        "node_energy": node_energy_source() if parts.config.log.utilisation_seconds else None,
        "gpu": gpu_versions(parts.learners.device),
        "engine": parts.engine.name,
        "engine_seconds": parts.engine_tables,
        "compile": parts.task.compile_backend,
        "precision": {"compute": parts.config.precision, "float32_on_gpu": float32_flags()},
        "world_size": comm.size,
        "num_learners": plan.num_learners,
        "learners_per_rank": len(parts.learners),
        "num_nodes": parts.place.num_nodes,
        "local_batch_size": plan.local_batch_size,
        "global_batch_size": plan.global_batch_size,
        # Of a loop of the user's own, nobody knows how long it will be.
        "steps_per_epoch": plan.steps_per_epoch if plan.num_samples else None,
        "total_steps": plan.total_steps or None,
        "num_train_samples": plan.num_samples or None,
        "data": parts.data,
        "imported": parts.imported,
        "emulated": parts.config.emulate.describe(),
        "num_parameters": sum(p.numel() for p in parts.replica.trainable),
    }


class Selection(NamedTuple):
    """What the log keeps along its second axis."""

    axis: Literal["rank", "statistic"]
    labels: list[int]
    select: Select
    """From ``[rows, ranks, columns]`` to ``[rows, labels, columns]``."""


def selection(parts: Parts) -> Selection:
    """What the log keeps of ``log.ranks``."""
    labels = parts.labels
    if parts.config.log.ranks == "summary":
        present = labels.present
        return Selection("statistic", list(range(len(STATISTICS))), lambda every: summarise_ranks(every[:, present]))
    return Selection("rank", labels.logged, lambda every: every[:, labels.logged])


def spread(labels: Labels, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From ``[rows, ranks, columns]`` of the ranks that are here to the same of all ranks that the log began with."""
    if len(labels.present) == labels.num_ranks:
        return values
    everyone = np.full((len(values), labels.num_ranks, values.shape[2]), np.nan)
    everyone[:, :, NUM_SAMPLES] = 0
    everyone[:, labels.present] = values
    return everyone


def summarise_ranks(everyone: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minimum, median and maximum over the ranks, ``[rows, 3, columns]``, of ``[rows, ranks, columns]``.

    The energy of nodes, which the first rank of each tells, is that of these.
    """
    found = _statistics(everyone)
    told = ~np.isnan(everyone[:, :, NODE_ENERGY]).all(axis=0)
    if told.any():
        found[:, :, NODE_ENERGY] = _statistics(everyone[:, told, NODE_ENERGY])
    return found


def _statistics(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minimum, median and maximum over the second axis."""
    return np.stack([values.min(axis=1), np.median(values, axis=1), values.max(axis=1)], axis=1)
