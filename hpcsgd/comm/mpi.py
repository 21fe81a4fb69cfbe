"""The communicator over mpi4py, and the choice between it and the single process.

mpi4py is imported inside functions: importing ``mpi4py.MPI`` starts MPI, and a module that did so at its top would
break spawned loader workers.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcsgd.comm.communicator import Communicator, Pending, SingleCommunicator, clock_offset
from hpcsgd.comm.launchers import find_launch, refusal
from hpcsgd.comm.pinning import pin_allreduce
from hpcsgd.comm.watchdog import Watchdog
from hpcsgd.config import CommConfig
from hpcsgd.errors import RanksLostError, UsageError

T = TypeVar("T")
Array = NDArray[Any]

FAULT_TOLERANT = "OMPI_MCA_mpi_ft_enable"
"""Set to 1 by Open MPI's ``mpirun --with-ft ulfm``."""

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
        self.allreduce_algorithm: str = parent.allreduce_algorithm if parent is not None else ""
        self.can_shrink = os.environ.get(FAULT_TOLERANT) == "1"
        self._error = MPI.Exception
        self._lost = (MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_REVOKED)
        self._parts: list[MpiCommunicator] = []
        if parent is not None:
            parent._parts.append(self)
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.library: str = " ".join(MPI.Get_library_version().split("\n")[0].strip("\0").split())
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

    def allgather(self, array: Array) -> Array:
        """See :class:`Communicator`."""
        gathered = np.empty((self.size, *array.shape), array.dtype)
        with self._collective("allgather"):
            self.comm.Allgather(array, gathered)
        return gathered

    def alltoall(self, array: Array) -> Array:
        """See :class:`Communicator`."""
        received = np.empty_like(array)
        with self._collective("alltoall"):
            self.comm.Alltoall(array, received)
        return received

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
        left.watchdog, left.allreduce_algorithm = self.watchdog, self.allreduce_algorithm
        self.watchdog.regroup(left.rank, left.size, left.abort)
        return left

    def _revoke(self) -> None:
        """Let every collective under way end with an error."""
        for part in self._parts:
            part._revoke()
        self.comm.Revoke()

    def clock_offset(self, rounds: int = 20) -> tuple[float, float]:
        """See :class:`Communicator`."""
        with self.watchdog.watch("clock offset"):
            return clock_offset(self.rank, self.size, self.comm.Send, self.comm.Recv, rounds)

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

    def is_done(self) -> bool:
        """See :class:`~hpcsgd.comm.communicator.Pending`."""
        with self._comm._collective("maximum"):
            done: bool = self._request.Test()
        return done


def connect(config: CommConfig) -> Communicator:
    """Start MPI where a launcher started this process, else return the single-process communicator.

    Raises:
        LaunchError: the launcher started several processes, but it is none of MPI's, mpi4py is missing, or its MPI does
            not see them (the launcher belongs to another MPI): every rank would train alone.
        UsageError: MPI does not start.
    """
    launch = find_launch()
    if launch is None:
        return _started_already() or SingleCommunicator()
    if not launch.launcher.speaks_mpi:
        raise refusal(launch, "not as ranks of MPI, and each would train alone")
    if importlib.util.find_spec("mpi4py") is None:
        if launch.at_least == 1:
            return SingleCommunicator()
        raise refusal(launch, "mpi4py is not installed (pip install 'hpcsgd[mpi]'), and each would train alone")
    comm = _start_mpi(config.allreduce_algorithm)
    if comm.size != launch.size if launch.size is not None else comm.size < launch.at_least:
        raise refusal(launch, f"MPI ({comm.library}) sees {comm.size}, so that they do not belong together")
    return comm


def _started_already() -> MpiCommunicator | None:
    """The ranks of an MPI that the caller has started, under a launcher that nobody here knows; None of one alone."""
    library = sys.modules.get("mpi4py.MPI")
    if library is None or not library.Is_initialized() or library.COMM_WORLD.Get_size() == 1:
        return None
    return _start_mpi("default")


def _start_mpi(algorithm: str) -> MpiCommunicator:
    """Start MPI with its allreduce pinned, unless it runs already."""
    import mpi4py

    can_shrink = os.environ.get(FAULT_TOLERANT) == "1"
    if "mpi4py.MPI" not in sys.modules:
        # What can be pinned depends on the library, which tells its name before it starts.
        mpi4py.rc.initialize = False
        mpi4py.rc.finalize = not can_shrink
        if can_shrink:
            atexit.register(_finalize)
    from mpi4py import MPI

    pinned = "default (MPI was started before)"
    if not MPI.Is_initialized():
        pinned = pin_allreduce(algorithm, MPI.Get_library_version())
        level = mpi4py.rc.thread_level if mpi4py.rc.threads else "single"
        try:
            with warnings.catch_warnings():
                # mpi4py's own guess at what the refusal below says.
                warnings.simplefilter("ignore", RuntimeWarning)
                MPI.Init_thread(getattr(MPI, f"THREAD_{level.upper()}"))
        except MPI.Exception as error:
            raise UsageError(
                f"MPI does not start: {error}; see the variables OMPI_MCA_*, MPIR_CVAR_*, UCX_*"
            ) from error
    comm = MpiCommunicator(MPI.COMM_WORLD)
    comm.allreduce_algorithm = pinned
    return comm
