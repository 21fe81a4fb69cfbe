"""The processes that read a torch ``Dataset`` for a rank.

They are never forked from a rank: a fork after MPI's start may hang. A server that is started anew, without the
variables by which a process knows that it is a rank, and with no GPU, forks them. The signals by which a run is asked
to stop reach a rank's processes too: in these they are blocked, as the rank decides when they end. They end with their
rank, however it dies.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection, forkserver
from multiprocessing.context import BaseContext

RANK_PREFIXES = (
    "OMPI_",
    "PMIX_",
    "PMI_",
    "PRTE_",
    "HYDRA_",
    "MPI_LOCAL",
    "MPIR_",
    "MV2_COMM",
    "MVP_COMM",
    "PALS_",
    "FLUX_TASK_",
    "FLUX_JOB_",
    "JSM_NAMESPACE",
    "HOROVOD_",
    "SLURM_STEP",
    "SLURM_MPI",
    "SLURM_PMI",
    "TORCHELASTIC_",
)
RANK_VARIABLES = (
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "SLURM_TASK_PID",
    "SLURM_GTIDS",
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
)
"""By these a process takes itself for a rank of a job."""

FIXED = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""A worker has one thread and no GPU."""

BLOCKED = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP, signal.SIGINT}

_PRELOADED = ["hpcsgd.data.own.items"]


def is_of_rank(variable: str) -> bool:
    """Whether a variable of the environment tells a process that it is a rank."""
    return variable in RANK_VARIABLES or variable.startswith(RANK_PREFIXES)


def worker_context() -> BaseContext:
    """The way to start workers; the first call starts their server."""
    forkserver.set_forkserver_preload(_PRELOADED)
    with _environment_of_workers(), _signals_blocked():
        forkserver.ensure_running()
    return multiprocessing.get_context("forkserver")


def begin_worker(_number: int) -> None:
    """What a worker does first."""
    # A server that a user's code had started before has the rank's environment and signals.
    for name in list(os.environ):
        if is_of_rank(name):
            del os.environ[name]
    os.environ.update(FIXED)
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    threading.Thread(target=_end_with_rank, daemon=True, name="rank watch").start()


def _end_with_rank() -> None:
    """Wait until the rank is gone, and end: the server, which is the worker's parent, would not tell."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _environment_of_workers() -> Iterator[None]:
    """Inside, processes that are started are no ranks."""
    before = dict(os.environ)
    try:
        for name in before:
            if is_of_rank(name):
                del os.environ[name]
        os.environ.update(FIXED)
        yield
    finally:
        for name in FIXED.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Inside, processes that are started never get the signals of a stop; this one gets them afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
