"""From a recipe that rank 0 has read, or failed to read, to work that all ranks do together."""

from __future__ import annotations

import faulthandler
from collections.abc import Callable
from typing import Protocol, TypeVar

from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.stop import StopSignals
from hpcsgd.config import CommConfig, FaultConfig
from hpcsgd.errors import JointError, UsageError


class Started(Protocol):
    """What a configuration must say before ranks can be started."""

    @property
    def comm(self) -> CommConfig:
        """How ranks talk."""

    @property
    def faults(self) -> FaultConfig:
        """How long they wait for each other."""


C = TypeVar("C", bound=Started)


def work_together(config: C, mistake: UsageError | None, work: Callable[[C, Communicator, StopSignals], int]) -> int:
    """Start MPI, take rank 0's configuration and do ``work``; rank 0 alone says what was wrong.

    Args:
        config: what this rank has read; anything where there was a mistake.
        mistake: what was wrong with the recipe.
        work: gives the exit code.
    """
    from hpcsgd.comm.abort import abort_on_failure
    from hpcsgd.comm.mpi import connect

    # Before what takes long: MPI's start and the import of torch.
    signals = StopSignals()
    signals.listen()
    deadline = config.faults.collective_timeout_seconds
    # Where a rank does not come to MPI's own start, there is nobody to ask: every thread's stack, and the end.
    faulthandler.dump_traceback_later(deadline, exit=True, file=2)
    comm = connect(config.comm if mistake is None else CommConfig())
    faulthandler.cancel_dump_traceback_later()
    try:
        with abort_on_failure(comm), comm.watchdog.on_guard(deadline):
            config, text = comm.broadcast_object((config, str(mistake) if mistake is not None else None))
            if text is not None:
                raise UsageError(text)
            return work(config, comm, signals)
    except JointError as error:
        if comm.rank:
            return error.exit_code
        raise
