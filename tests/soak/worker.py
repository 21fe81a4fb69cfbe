"""Runs that need no processes of their own: ``mpirun -n K python -m tests.soak.worker TASKS RESULTS``.

TASKS is a JSON list; for each task rank 0 appends a line to RESULTS, at once. A task is one of: ``reference``, a run to
its end; ``stop``, a clean stop and its resume; ``resume``, the resume of what another process left; ``joint``, a run
with a fault that all ranks end on together, and its resume; ``damage``, a copy of a killed run with a damaged file, and
its resume. What comes out is compared to the reference, bit by bit.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.mpi import MpiCommunicator, connect
from hpcsgd.config import CommConfig, RunConfig
from hpcsgd.config.recipe import load_config
from hpcsgd.errors import JointError
from hpcsgd.record import load_run
from hpcsgd.run.checkpoint import find_checkpoints
from hpcsgd.train import run
from tests.parallel.laws.resuming import assert_same_run, stop_and_go_on
from tests.soak.cells import Fault
from tests.soak.faulty import Injector, injected

TASK_SECONDS = 120.0
Task = dict[str, Any]


def main() -> int:
    """Do the tasks."""
    tasks: list[Task] = json.loads(Path(sys.argv[1]).read_text())
    results = Path(sys.argv[2])
    import horovod.torch  # noqa: F401

    comm = connect(CommConfig())
    assert isinstance(comm, MpiCommunicator), "to be started by mpirun"
    torch.set_num_threads(1)
    for task in tasks:
        faulthandler.dump_traceback_later(TASK_SECONDS, exit=True)
        start = time.perf_counter()
        said = Heard()
        with contextlib.redirect_stderr(said):
            result = DO[task["do"]](comm, load_config(None, task["words"]), task)
        comm.barrier()
        if comm.rank == 0:
            result |= {"name": task["name"], "said": said.getvalue(), "seconds": time.perf_counter() - start}
            with results.open("a") as file:
                file.write(json.dumps(result) + "\n")
        faulthandler.cancel_dump_traceback_later()
    return 0


class Heard(io.StringIO):
    """Standard error, which it passes on."""

    def write(self, text: str) -> int:
        """Keep the text and pass it on."""
        sys.__stderr__.write(text)  # type: ignore[union-attr]
        return super().write(text)


def reference(comm: Communicator, config: RunConfig, task: Task) -> dict[str, Any]:
    """A run to its end."""
    run(config, comm)
    return {}


def stop(comm: Communicator, config: RunConfig, task: Task) -> dict[str, Any]:
    """Stop before a step, resume."""
    stop_and_go_on(comm, config, task["stop"])
    return compared(comm, config, task)


def resume(comm: Communicator, config: RunConfig, task: Task) -> dict[str, Any]:
    """Go on with what is there. A damaged log is moved away, as the message says."""
    told = attempt(comm, replace(config, resume="auto", overwrite=False))
    if "move" in told and "away" in told:
        if comm.rank == 0:
            log = Path(config.run_dir or "") / "run.h5"
            log.rename(log.with_name("moved.h5"))
        comm.barrier()
        again = attempt(comm, replace(config, resume="auto", overwrite=False))
        return {"told": told, "again": again} | compared(comm, config, task)
    return {"told": told} | compared(comm, config, task)


def joint(comm: Communicator, config: RunConfig, task: Task) -> dict[str, Any]:
    """A run with a fault, and its resume."""
    fault = Fault(**task["fault"])
    folder = Path(config.run_dir or "").parent
    if comm.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
    comm.barrier()
    injector = Injector(fault, comm.rank, folder)
    with injected(injector, config.comm.allreduce, config.algorithm.name):
        told = attempt(comm, config)
    hit = any(comm.allgather_object(injector.done))
    if not told:
        return {"hit": hit, "completed": True} | compared(comm, config, task)
    status = load_run(config.run_dir or "").status if comm.rank == 0 else ""
    return {"hit": hit, "error": told, "status": status} | resume(comm, config, task)


def damage(comm: Communicator, config: RunConfig, task: Task) -> dict[str, Any]:
    """Resume a copy of a killed run with a damaged file."""
    fault, run_dir = Fault(**task["fault"]), Path(config.run_dir or "")
    if comm.rank == 0:
        shutil.copytree(task["template"], run_dir)
        spoil(run_dir, fault)
    comm.barrier()
    return {"hit": True} | resume(comm, config, task)


def spoil(run_dir: Path, fault: Fault) -> None:
    """Damage a file of the last checkpoint, or cut the log."""
    log = run_dir / "run.h5"
    if fault.kind == "truncated log" and fault.detail == "whole":
        log.unlink()
    elif fault.kind == "truncated log":
        size = log.stat().st_size
        log.write_bytes(
            log.read_bytes()[: {"0": 0, "1": 1, "page": 4096, "half": size // 2, "byte": size - 1}[fault.detail]]
        )
    else:
        last = max((run_dir / "checkpoints").glob("step-*"))
        file = last / fault.detail
        content = bytearray(file.read_bytes())
        if fault.phase == "missing":
            file.unlink()
            return
        if fault.phase == "flipped byte":
            content[len(content) // 2] ^= 0xFF
        kept = {"cut": len(content) // 2, "empty": 0, "flipped byte": len(content)}[fault.phase]
        file.write_bytes(content[:kept])


def attempt(comm: Communicator, config: RunConfig) -> str:
    """Run; what all ranks were told together if it did not come to its end."""
    try:
        run(config, comm)
    except JointError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def compared(comm: Communicator, config: RunConfig, task: Task) -> dict[str, Any]:
    """How the run differs from its reference (nothing: not in a bit), where it was resumed, and what is damaged."""
    if comm.rank != 0:
        return {}
    run_dir, expected = Path(config.run_dir or ""), Path(task["reference"])
    try:
        got, whole = load_run(run_dir), load_run(expected)
        first = int(got.segments["first_step"].iloc[0])
        if first:  # the log before was moved away
            later = whole.iterations["step"] >= first
            columns = ["step", "rank", "loss", "action", "num_samples"]
            same = (
                got.iterations[columns]
                .reset_index(drop=True)
                .equals(whole.iterations.loc[later, columns].reset_index(drop=True))
            )
            models = [torch.load(path / "model.pt", weights_only=True) for path in (run_dir, expected)]
            assert same and all(torch.equal(models[0][name], models[1][name]) for name in models[1]), "rows or model"
        else:
            assert_same_run(got, whole)
        assert got.status == "completed", got.status
        difference = ""
    except (AssertionError, OSError) as error:
        return {"difference": f"{type(error).__name__}: {str(error)[:300]}", "from": -1, "damaged": ""}
    return {"difference": difference, "from": int(got.segments["first_step"].iloc[-1]), "damaged": damaged(run_dir)}


def damaged(run_dir: Path) -> str:
    """What is wrong with the checkpoints of a run."""
    found, broken = find_checkpoints(run_dir)
    for checkpoint in found:
        try:
            for rank in range(checkpoint.world_size):
                checkpoint.load(rank)
        except JointError as error:
            broken.append(str(error))
    return "; ".join(broken)


DO: dict[str, Callable[[Communicator, RunConfig, Task], dict[str, Any]]] = {
    "reference": reference,
    "stop": stop,
    "resume": resume,
    "joint": joint,
    "damage": damage,
}

if __name__ == "__main__":
    sys.exit(main())
