"""Run laws on the ranks of one mpirun: ``mpirun -n K python -m tests.parallel.run_laws CASES RESULTS``.

CASES is a file with the id of a law in each line. For each of them rank 0 appends a line of JSON to RESULTS, at once.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch.distributed

from hpcsgd.comm.mpi import MpiCommunicator, connect
from hpcsgd.config import CommConfig
from tests.parallel.laws.registry import Case, all_cases

CASE_SECONDS = 120.0
"""A case that takes longer is stuck: the stacks of all threads are printed and the job ends."""
GRACE_SECONDS = 30.0
"""How long a rank whose law failed waits for the others: they may be in a collective that it left."""


def main() -> int:
    """Run the cases."""
    names = Path(sys.argv[1]).read_text().split()
    results = Path(sys.argv[2])
    by_name = {case.id: case for case in all_cases()}
    comm = connect(CommConfig())
    assert isinstance(comm, MpiCommunicator), "to be started by mpirun"
    control = comm.comm.Dup()
    torch.set_num_threads(1)
    for name in names:
        faulthandler.dump_traceback_later(CASE_SECONDS, exit=True)
        run(by_name[name], comm, control, results)
        faulthandler.cancel_dump_traceback_later()
    return 0


def run(case: Case, comm: MpiCommunicator, control: Any, results: Path) -> None:
    """Run one case on this rank and agree on the outcome."""
    start = time.perf_counter()
    failure = ""
    try:
        case.body(comm)
    except BaseException as error:
        failure = f"rank {comm.rank} of {comm.size}:\n{''.join(traceback.format_exception(error))}"
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if not arrive(control, GRACE_SECONDS if failure else CASE_SECONDS):
        note(results, case, failure + "The other ranks did not reach the end of the case; the job ended.\n", start)
        comm.abort(1)
    failures = control.allgather(failure)
    if comm.rank == 0:
        note(results, case, "\n".join(text for text in failures if text), start)


def arrive(control: Any, seconds: float) -> bool:
    """Whether all ranks come here in time; waits on a communicator that the laws do not use."""
    deadline = time.monotonic() + seconds
    request = control.Ibarrier()
    while not request.Test():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True


def note(results: Path, case: Case, message: str, start: float) -> None:
    """Append the outcome to the results."""
    line = {"id": case.id, "ok": not message, "message": message, "seconds": time.perf_counter() - start}
    with results.open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())
