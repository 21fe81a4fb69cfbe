"""A user's own things in a job: all ranks import the same, and try them before anything is kept."""

from __future__ import annotations

from dataclasses import replace

import torch

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.same import check_same
from hpcsgd.config import RunConfig
from hpcsgd.config.imports import look_in, sources
from hpcsgd.config.own import import_paths
from hpcsgd.config.study import StudyConfig
from hpcsgd.data.batches import Loader
from hpcsgd.tasks.attempt import Attempt, attempt
from hpcsgd.tasks.task import Task


def import_together(config: RunConfig | StudyConfig, comm: Communicator) -> dict[str, dict[str, str]]:
    """Import what the recipe names by import paths, the same on all ranks. Collective."""
    if config.import_from is not None:
        look_in(config.import_from)
    found = agree(comm, lambda: sources(import_paths(config)))
    check_same(comm, "what they import", {key: {**source, "file": ""} for key, source in found.items()})
    return found


def try_together(
    config: RunConfig, task: Task, loader: Loader, device: torch.device, comm: Communicator
) -> tuple[Task, Attempt | None]:
    """:func:`try_task` on all ranks: the task as it is now known to be, and what was seen here. Collective."""
    found = agree(comm, lambda: try_task(config, task, loader, device))
    # A rank without samples has seen nothing.
    seen = comm.allgather_object((False, False) if found is None else (found.is_weighted, found.draws))
    weighted, draws = zip(*seen, strict=True)
    return replace(task, is_weighted=any(weighted), draws=any(draws)), found


def try_task(config: RunConfig, task: Task, loader: Loader, device: torch.device) -> Attempt | None:
    """Take some samples of this rank through ``task``, on a network that is thrown away.

    Raises:
        UsageError: a part of the task is wrong.
    """
    module = task.new_module(config.seed).to(device=device, dtype=getattr(torch, config.dtype))
    return attempt(task, module, loader.batch(0))
