"""Open and close the run log around the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hpcsgd.build import Parts
from hpcsgd.recipe import to_dict
from hpcsgd.record.clocks import Clocks
from hpcsgd.record.collector import Collector
from hpcsgd.record.provenance import collect
from hpcsgd.record.schema import STATISTICS
from hpcsgd.record.writer import RunLogWriter

Select = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@contextmanager
def open_log(parts: Parts, path: Path | None, argv: Sequence[str]) -> Iterator[Collector]:
    """The collector of a run in directory ``path``; the log's status is set at the end, whatever it is."""
    config, plan, comm = parts.config, parts.plan, parts.comm
    axis, labels, select = selection(parts)
    writer = None
    if path is not None and config.log.enabled and comm.rank == 0:
        provenance = collect(list(argv), to_dict(config)) | {
            "mpi_library": comm.library,
            "gradient_allreduce": parts.gradients.name,
            "gradient_overlap": parts.gradients.overlap,
            "world_size": comm.size,
            "num_nodes": parts.place.num_nodes,
            "local_batch_size": plan.local_batch_size,
            "global_batch_size": plan.global_batch_size,
            "steps_per_epoch": plan.steps_per_epoch,
            "total_steps": plan.total_steps,
            "num_train_samples": plan.num_samples,
            "num_parameters": sum(p.numel() for p in parts.replica.trainable),
        }
        writer = RunLogWriter(
            path / "run.h5", ranks=parts.rank_rows, rank_labels=labels, rank_axis=axis, provenance=provenance
        )
        writer.append_segment(
            {
                "first_step": 0,
                "world_size": comm.size,
                "started": provenance["started"],
                "git_commit": provenance["git_commit"] or "",
                "job": provenance["job"] or "",
            }
        )
    clocks = Clocks(comm.size, plan.steps_per_epoch, plan.total_steps)
    collector = Collector(config.log, comm, parts.timer, parts.replica.parameters.device, writer, clocks, select)
    try:
        yield collector
        status = "completed" if torch.isfinite(parts.replica.parameters).all() else "diverged"
    except BaseException:
        status = "failed"
        raise
    finally:
        if writer is not None:
            with writer:
                writer.set_status(status)


def selection(parts: Parts) -> tuple[Literal["rank", "statistic"], list[int], Select]:
    """What the log keeps along its second axis: the axis' name, its labels, and how to get it from all ranks."""
    kind = parts.config.log.ranks
    if kind == "summary":
        return "statistic", list(range(len(STATISTICS))), summarise_ranks
    ranks = [place.rank for place in parts.places if kind == "all" or place.local_rank == 0]
    return "rank", ranks, lambda everyone: everyone[:, ranks]


def summarise_ranks(everyone: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minimum, median and maximum over the ranks, ``[rows, 3, columns]``, of ``[rows, ranks, columns]``."""
    return np.stack([everyone.min(axis=1), np.median(everyone, axis=1), everyone.max(axis=1)], axis=1)
