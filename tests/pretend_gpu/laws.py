"""The laws of ``tests/parallel`` on the ranks of one mpirun, each with a pretend GPU of its own."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hpcsgd.comm import backends
from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.mpi import MpiCommunicator, connect
from hpcsgd.config import CommConfig
from tests.parallel.laws import common
from tests.parallel.laws.registry import all_cases
from tests.parallel.run_laws import CASE_SECONDS, GRACE_SECONDS, arrive
from tests.pretend_gpu.compare import Row, seen
from tests.pretend_gpu.machine import the_machine
from tests.pretend_gpu.ranks import nccl

SAMPLE = (
    "sync_sgd.ranks_equal_one_process_with_all_samples[mpi-False]",
    "sync_sgd.accumulation_changes_nothing[mpi-2]",
    "local_sgd.every_step_equals_the_simulation[post_local_sgd-mpi]",
    "local_sgd.after_an_averaging_all_ranks_are_equal_to_the_bit[hierarchical_local_sgd-mpi-float32]",
)
"""Those that the tests take."""

WITHOUT_A_GPU = "horovod"
"""The allreduce that is built for CPUs here: a tensor of the GPU ends its process."""


def names() -> list[str]:
    """All laws of two ranks, but those that are on this allreduce."""
    return [case.id for case in all_cases() if 2 in case.sizes and WITHOUT_A_GPU not in case.id]


class Laws:
    """Runs laws, one after another."""

    def __init__(self) -> None:
        """Let what the laws train be on the GPU, and sum there by MPI, or as by NCCL."""
        resolve = backends.resolve_allreduce

        def without_horovod(*arguments: Any) -> str:
            name = resolve(*arguments)
            return "mpi" if name == WITHOUT_A_GPU else name

        backends.resolve_allreduce = without_horovod
        common.BASE = replace(common.BASE, device="cuda")
        comm = connect(CommConfig())
        assert isinstance(comm, MpiCommunicator), "to be started by mpirun"
        self._comm: MpiCommunicator = comm
        self._control: Any = comm.comm.Dup()
        self._nccl: Any = comm.comm.Dup()
        self._bodies: dict[str, Callable[[Communicator], None]] = {case.id: case.body for case in all_cases()}

    def run(self, name: str) -> Row:
        """The row of a law on this rank. Collective: a rank that does not come to its end ends the job."""
        findings, row = the_machine().findings, Row(name, difference=0.0)
        the_machine().begin_run()
        try:
            with nccl(self._nccl):
                self._bodies[name](self._comm)
        except BaseException as error:
            row.error = type(error).__name__
            row.wrong.append(f"{row.error}: {' '.join(str(error).split())[:160]}")
            row.seen = traceback.format_exception(error)[-3:]
        if not arrive(self._control, GRACE_SECONDS if row.error else CASE_SECONDS):
            print(f"{name}: rank {self._comm.rank}: {row.wrong}: the others did not come to the end", flush=True)
            self._comm.abort(1)
        row.races = findings.races.total()
        row.seen += seen(findings.races, "race")
        if row.races:
            row.wrong.append(f"{row.races} races")
        return row
