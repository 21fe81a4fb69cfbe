"""The communicator over mpi4py, and the choice between it and the single process.

mpi4py is imported inside functions: importing ``mpi4py.MPI`` starts MPI, and a module that did so at its top would
break spawned loader workers.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcsgd.comm.communicator import Communicator, Pending, SingleCommunicator
from hpcsgd.comm.watchdog import Watchdog
from hpcsgd.config import CommConfig
from hpcsgd.errors import RanksLostError, UsageError

T = TypeVar("T")
Array = NDArray[Any]

# What launchers tell a process of the size of its job, the innermost launcher first: mpirun of Open MPI may itself
# run inside a Slurm job, whose own variables then speak of the job and not of this start.
SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")

FAULT_TOLERANT = "OMPI_MCA_mpi_ft_enable"
"""Set to 1 by Open MPI's ``mpirun --with-ft ulfm``."""

# Open MPI's names of the allreduce algorithms (component "tuned"), and MPICH's.
OPEN_MPI_ALGORITHMS = {"ring": "ring", "recursive_doubling": "recursive_doubling", "rabenseifner": "rabenseifner"}
MPICH_ALGORITHMS = {
    "ring": "ring",
    "recursive_doubling": "recursive_doubling",
    "rabenseifner": "reduce_scatter_allgather",
}


_has_shrunk = False


def _finalize() -> None:
    """End MPI, unless ranks were lost: Open MPI may then wait for them in ``MPI_Finalize`` for ever."""
    from mpi4py import MPI

    if not _has_shrunk:
        MPI.Finalize()


class MpiCommunicator:
    """mpi4py's communicator behind the package's interface."""

    def __init__(self, comm: Any, parent: MpiCommunicator | None = None) -> None:
        """Wrap ``comm``, an ``mpi4py.MPI.Intracomm``; ``parent`` is the communicator it comes from."""
        from mpi4py import MPI

        self.comm = comm
        self.can_shrink = os.environ.get(FAULT_TOLERANT) == "1"
        self._error = MPI.Exception
        self._lost = (MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_REVOKED)
        self._parts: list[MpiCommunicator] = []
        if parent is not None:
            parent._parts.append(self)
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.library: str = MPI.Get_library_version().split("\n")[0].strip("\0 ")
        self._in_place, self._max = MPI.IN_PLACE, MPI.MAX
        self.watchdog: Watchdog = parent.watchdog if parent is not None else Watchdog(self.rank, self.size, self.abort)

    @contextmanager
    def _collective(self, name: str) -> Iterator[None]:
        """The body is the collective ``name``."""
        try:
            with self.watchdog.watch(name):
                yield
        except self._error as error:
            if self.can_shrink and error.Get_error_class() in self._lost:
                raise RanksLostError(f"in {name}: {error}") from error
            raise

    def sum_(self, array: Array) -> None:
        """See :class:`Communicator`."""
        with self._collective("sum"):
            self.comm.Allreduce(self._in_place, array)

    def max_(self, array: Array) -> None:
        """See :class:`Communicator`."""
        with self._collective("maximum"):
            self.comm.Allreduce(self._in_place, array, op=self._max)

    def start_max(self, array: Array) -> Pending:
        """See :class:`Communicator`."""
        with self._collective("maximum"):
            return MpiPending(self, self.comm.Iallreduce(self._in_place, array, op=self._max))

    def broadcast_(self, array: Array, root: int = 0) -> None:
        """See :class:`Communicator`."""
        with self._collective("broadcast"):
            self.comm.Bcast(array, root=root)

    def gather(self, array: Array, root: int = 0) -> Array | None:
        """See :class:`Communicator`."""
        gathered = np.empty((self.size, *array.shape), array.dtype) if self.rank == root else None
        with self._collective("gather"):
            self.comm.Gather(array, gathered, root=root)
        return gathered

    def allgather_object(self, value: T) -> list[T]:
        """See :class:`Communicator`."""
        with self._collective("allgather"):
            values: list[T] = self.comm.allgather(value)
        return values

    def broadcast_object(self, value: T, root: int = 0) -> T:
        """See :class:`Communicator`."""
        with self._collective("broadcast"):
            result: T = self.comm.bcast(value, root=root)
        return result

    def barrier(self) -> None:
        """See :class:`Communicator`."""
        with self._collective("barrier"):
            self.comm.Barrier()

    def split(self, color: int) -> Communicator:
        """See :class:`Communicator`."""
        with self._collective("split"):
            return MpiCommunicator(self.comm.Split(color, self.rank), self)

    def duplicate(self) -> Communicator:
        """See :class:`Communicator`."""
        with self._collective("duplicate"):
            return MpiCommunicator(self.comm.Dup(), self)

    def confirm(self) -> None:
        """See :class:`Communicator`."""
        with self._collective("agreement"):
            self.comm.Agree(1)

    def shrink(self) -> Communicator:
        """See :class:`Communicator`."""
        global _has_shrunk
        _has_shrunk = True
        self._revoke()
        left = MpiCommunicator(self.comm.Shrink())
        left.watchdog = self.watchdog
        self.watchdog.regroup(left.rank, left.size, left.abort)
        return left

    def _revoke(self) -> None:
        """Let every collective under way end with an error."""
        for part in self._parts:
            part._revoke()
        self.comm.Revoke()

    def clock_offset(self, rounds: int = 20) -> tuple[float, float]:
        """See :class:`Communicator`: the round trip with the least delay, its middle taken as simultaneous."""
        with self.watchdog.watch("clock offset"):
            return self._clock_offset(rounds)

    def _clock_offset(self, rounds: int) -> tuple[float, float]:
        if self.rank == 0:
            stamp = np.zeros(1)
            for peer in range(1, self.size):
                for _ in range(rounds):
                    self.comm.Recv(stamp, source=peer)
                    stamp[0] = time.perf_counter()
                    self.comm.Send(stamp, dest=peer)
            return 0.0, 0.0
        best = (np.inf, 0.0)
        reply = np.zeros(1)
        for _ in range(rounds):
            start = time.perf_counter()
            self.comm.Send(reply, dest=0)
            self.comm.Recv(reply, source=0)
            end = time.perf_counter()
            best = min(best, (end - start, (start + end) / 2 - float(reply[0])))
        return best[1], best[0] / 2

    def abort(self, code: int) -> None:
        """See :class:`Communicator`."""
        self.comm.Abort(code)


class MpiPending:
    """A collective under way over MPI."""

    def __init__(self, comm: MpiCommunicator, request: Any) -> None:
        """``request`` is mpi4py's, of ``comm``."""
        self._comm = comm
        self._request = request

    def wait(self) -> None:
        """See :class:`~hpcsgd.comm.communicator.Pending`."""
        with self._comm._collective("maximum"):
            self._request.Wait()


def launched_size(environment: dict[str, str] | None = None) -> int | None:
    """How many processes the launcher says that it started with this one; None where there is no launcher."""
    variables = os.environ if environment is None else environment
    for name in SIZE_VARIABLES:
        if variables.get(name, "").isdecimal():
            return int(variables[name])
    return None


def pin_allreduce_algorithm(algorithm: str) -> dict[str, str]:
    """Set the MPI library's environment so that every allreduce uses ``algorithm``; return the variables in force.

    To be called before MPI starts. A variable that the user has set wins. ``default`` sets nothing.
    """
    wanted: dict[str, str] = {}
    if algorithm != "default":
        wanted = {
            # Open MPI's "han" would choose by message size and node; "tuned" obeys.
            "OMPI_MCA_coll": "^han",
            "OMPI_MCA_coll_tuned_use_dynamic_rules": "1",
            "OMPI_MCA_coll_tuned_allreduce_algorithm": OPEN_MPI_ALGORITHMS[algorithm],
            "MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM": MPICH_ALGORITHMS[algorithm],
        }
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    return {name: os.environ[name] for name in wanted}


def connect(config: CommConfig) -> Communicator:
    """Start MPI where a launcher started this process, else return the single-process communicator.

    Raises:
        UsageError: the launcher started several processes, but mpi4py is missing or its MPI does not see them (the
            launcher belongs to another MPI): every rank would train alone.
    """
    expected = launched_size()
    if expected is None:
        return SingleCommunicator()
    if importlib.util.find_spec("mpi4py") is None:
        if expected == 1:
            return SingleCommunicator()
        raise UsageError(
            f"the launcher started {expected} processes, but mpi4py is not installed: pip install 'hpcsgd[mpi]'"
        )
    pin_allreduce_algorithm(config.allreduce_algorithm)
    if os.environ.get(FAULT_TOLERANT) == "1":
        import mpi4py

        mpi4py.rc.finalize = False
        atexit.register(_finalize)
    from mpi4py import MPI

    comm = MpiCommunicator(MPI.COMM_WORLD)
    if comm.size != expected:
        raise UsageError(
            f"the launcher started {expected} processes, but MPI ({comm.library}) sees {comm.size}: they do "
            "not belong together; use the mpirun of that MPI, or srun --mpi=pmix (srun --mpi=list shows the kinds)"
        )
    return comm
