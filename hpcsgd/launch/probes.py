"""What one rank can find out about itself, its MPI, and the file system, for ``hpcsgd doctor``."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

import torch

import hpcsgd
from hpcsgd.comm.communicator import Communicator, SingleCommunicator
from hpcsgd.comm.cuda_aware import probe, said_by_mpi
from hpcsgd.comm.device import bind_device, core_list
from hpcsgd.comm.horovod_gradients import check_same_mpi, check_settings
from hpcsgd.comm.mpi import MpiCommunicator
from hpcsgd.comm.topology import Topology
from hpcsgd.config import CommConfig
from hpcsgd.errors import UsageError

LOCKS: dict[str, Callable[[IO[bytes], int], None]] = {"flock": fcntl.flock, "fcntl": fcntl.lockf}
THREAD_LEVELS = ("single", "funneled", "serialized", "multiple")


@dataclass(frozen=True)
class Facts:
    """One rank, as it sees itself.

    Attributes:
        place: its place among the ranks.
        host: the machine's name.
        cores: cores that it may run on.
        num_cores: how many they are.
        device: device that it would train on.
        visible_gpus: GPUs that it sees.
        omp_threads: ``OMP_NUM_THREADS``; empty where that is unset.
        mpi: the MPI library.
        allreduce: by which algorithm MPI sums.
        thread_level: of MPI; empty without MPI.
        mpi_cuda: whether MPI takes GPU buffers.
        horovod: Horovod's build; why there is none; or, after ``!``, what is wrong with it.
        versions: of Python packages that all ranks must share.
        clock_offset, clock_error: this rank's clock minus rank 0's and the error of that, in seconds.
    """

    place: Topology
    host: str
    cores: str
    num_cores: int
    device: str
    visible_gpus: int
    omp_threads: str
    mpi: str
    allreduce: str
    thread_level: str
    mpi_cuda: str
    horovod: str
    versions: str
    clock_offset: float
    clock_error: float


def collect(comm: Communicator, place: Topology, device: str) -> Facts:
    """This rank's facts. Collective."""
    bound, name = bind_device(device, comm, place, share_gpu=True)
    offset, error = comm.clock_offset()
    single = isinstance(comm, SingleCommunicator)
    return Facts(
        place=place,
        host=socket.gethostname(),
        cores=core_list(),
        num_cores=len(os.sched_getaffinity(0)),
        device=name,
        visible_gpus=torch.cuda.device_count(),
        omp_threads=os.environ.get("OMP_NUM_THREADS", ""),
        mpi=comm.library,
        allreduce=comm.allreduce_algorithm,
        thread_level="" if single else thread_level(),
        mpi_cuda="no MPI" if single else mpi_cuda_support(comm, bound),
        horovod=horovod_build(comm),
        versions=f"hpcsgd {hpcsgd.__version__}, torch {torch.__version__}"
        + ("" if single else f", mpi4py {version('mpi4py')}"),
        clock_offset=offset,
        clock_error=error,
    )


def thread_level() -> str:
    """What MPI allows threads to do."""
    from mpi4py import MPI

    levels = (MPI.THREAD_SINGLE, MPI.THREAD_FUNNELED, MPI.THREAD_SERIALIZED, MPI.THREAD_MULTIPLE)
    return THREAD_LEVELS[levels.index(MPI.Query_thread())]


def mpi_cuda_support(comm: Communicator, device: torch.device) -> str:
    """Whether MPI takes GPU buffers: its own word and, where that is yes and there are GPUs, a trial. Collective."""
    said = said_by_mpi()
    if all(comm.allgather_object(said and device.type == "cuda")):
        tried = probe(comm, device, CommConfig().chunk_bytes)
        return "yes, tried" if tried else "it says yes, but did not sum a GPU buffer"
    return {True: "yes, by its own word", False: "no", None: "it does not say"}[said]


def horovod_build(comm: Communicator) -> str:
    """What Horovod was built with, after a start with these ranks. Collective."""
    if importlib.util.find_spec("horovod") is None:
        return "not installed"
    try:
        import horovod.torch as hvd
    except (ImportError, OSError) as error:
        return f"!it is installed, but cannot be imported: {' '.join(str(error).split())}"
    parts = [name for name in ("mpi", "gloo", "nccl", "cuda", "rocm") if getattr(hvd, f"{name}_built")()]
    text = f"{version('horovod')} with {', '.join(parts) or 'nothing'}"
    if not isinstance(comm, MpiCommunicator):
        return text
    if "mpi" not in parts:
        return f"!{text}: it was built without MPI"
    try:
        check_same_mpi()
        check_settings()
    except UsageError as error:
        return f"!{text}: {error}"
    hvd.init(comm=comm.comm)
    seen = (hvd.rank(), hvd.size())
    return text if seen == (comm.rank, comm.size) else f"!{text}: it sees rank {seen[0]} of {seen[1]}"


def try_locks(comm: Communicator, places: Sequence[Topology], run_dir: Path) -> dict[str, dict[str, str]]:
    """Whether a lock that rank 0 holds on a file in ``run_dir`` keeps others out. Collective.

    Returns:
        for each kind of lock, by node, what became of an attempt there: ``kept out``; ``let in``; ``no file`` where the
        node does not see it; else the error. One process alone tries itself; it is never kept out by its own ``fcntl``
        lock, which then just ``can be taken``.
    """
    first_of_node = {place.node: place.rank for place in reversed(places) if place.rank != 0}
    mine = places[comm.rank]
    asked = first_of_node.get(mine.node) == comm.rank or comm.size == 1
    held, name, failure = _hold(run_dir) if comm.rank == 0 else ([], "", "")
    name, failure = comm.broadcast_object((name, failure))
    found = {kind: failure or _attempt(kind, Path(f"{name}.{kind}")) for kind in LOCKS} if asked else {}
    if comm.size == 1 and found["fcntl"] == "let in":
        found["fcntl"] = "can be taken"
    everyone = comm.allgather_object(found)
    for kind, file in zip(LOCKS, held, strict=False):
        file.close()
        Path(f"{name}.{kind}").unlink(missing_ok=True)
    return {kind: {places[r].node: f[kind] for r, f in enumerate(everyone) if f} for kind in LOCKS}


def _hold(run_dir: Path) -> tuple[list[IO[bytes]], str, str]:
    """Lock a new file by each kind of lock; the open files, the path that their names begin with, and what failed."""
    name = str(run_dir.absolute() / f".hpcsgd-doctor-{os.getpid()}")
    held: list[IO[bytes]] = []
    try:
        for kind, lock in LOCKS.items():
            held.append(Path(f"{name}.{kind}").open("wb"))
            lock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return held, name, _error_name(error)
    return held, name, ""


def _attempt(kind: str, path: Path) -> str:
    """Try to lock a file that is locked already."""
    try:
        with path.open("r+b") as file:
            LOCKS[kind](file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return "no file"
    except OSError as error:
        return "kept out" if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN) else _error_name(error)
    return "let in"


def _error_name(error: OSError) -> str:
    """An error as its symbol and text."""
    return f"{errno.errorcode.get(error.errno or 0, error.errno)}: {error.strerror}"
