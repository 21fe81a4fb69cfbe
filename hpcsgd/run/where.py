"""Where a run is kept: its directory, claimed when nothing can be wrong any more, and the watchdogs' in it."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from hpcsgd.comm.communicator import Communicator
from hpcsgd.config import RunConfig
from hpcsgd.run import directory
from hpcsgd.run.claims import Claim
from hpcsgd.run.parts import Parts

P = TypeVar("P", bound=Parts)


def run_path(config: RunConfig, name: str | None, comm: Communicator) -> Path | None:
    """The run's directory, by rank 0's clock and from its working directory; None where nothing is kept. Collective."""
    checkpoint = config.checkpoint
    if not (config.log.enabled or config.log.save_model or checkpoint.every_steps or checkpoint.every_epochs):
        return None
    unique = f"runs/{name or config.algorithm.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, origin = comm.broadcast_object((config.run_dir or unique, os.getcwd()))
    return Path(path) if os.getcwd() == origin else Path(origin, path)


def claim_path(path: Path | None, config: RunConfig, comm: Communicator) -> Claim:
    """Rank 0 claims the run's directory for this job, or where no name was given, the next one that is free."""
    if path is None or comm.rank:
        return Claim(None)
    return directory.claim(path, config) if config.run_dir is not None else directory.claim_new(path, config)


def settled(parts: P, path: Path | None, claim: Claim) -> P:
    """With the directory that rank 0 has claimed for ``path``, in the configuration too. Collective."""
    if path is None or parts.config.run_dir is not None:
        return replace(parts, path=path)
    path = path.with_name(parts.comm.broadcast_object(claim.path.name if claim.path is not None else path.name))
    choose_meeting_place(parts.comm, path)
    return replace(parts, path=path, config=replace(parts.config, run_dir=str(path)))


def choose_meeting_place(comm: Communicator, path: Path | None) -> None:
    """Tell the watchdogs of a directory that all ranks see, of this start alone. Collective."""
    token = comm.broadcast_object(f".watchdog-{time.time_ns():x}")
    comm.watchdog.folder = (path if path is not None else Path(tempfile.gettempdir())) / token
