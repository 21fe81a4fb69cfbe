"""``hpcsgd`` with a fault, started in its place: ``python -m tests.soak.faulty train ...``.

SOAK_FAULT is the fault as JSON, SOAK_FOLDER a directory for this process's id and the time at which the fault hit.
The fault is put at the entry of the function that begins its phase; the product itself is as it is.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from tests.soak.cells import Fault

SMALL_FILE_BYTES = 4096


class Injector:
    """One fault of one rank, once."""

    def __init__(self, fault: Fault, rank: int, folder: Path) -> None:
        """``folder``: where the ids of the processes are, and where the time of the fault is noted."""
        self.fault = fault
        self.rank = rank
        self.folder = folder
        self.step = -1
        self.done = False
        self.parts: Any = None

    def at(self, phase: str) -> None:
        """``phase`` begins."""
        fault = self.fault
        if self.done or (phase, self.step, self.rank) != (fault.phase, fault.step, fault.rank):
            return
        self.done = True
        (self.folder / "hit").write_text(repr(time.time()))
        getattr(self, "_" + fault.kind.lower().replace(" ", "_").replace("-", ""))()

    def _sigkill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _kill_9(self) -> None:
        own = os.getpid()
        others = [int(file.read_text()) for file in self.folder.glob("pid-*")]
        for pid in [pid for pid in others if pid != own] + [own]:
            os.kill(pid, signal.SIGKILL)

    def _sigstop(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def _usr1(self) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    def _exception(self) -> None:
        raise ValueError("deliberate fault")

    def _nan(self) -> None:
        replica, phase = self.parts.replica, self.fault.phase
        if phase == "backward":
            parameter = replica.trainable[len(replica.trainable) // 2]

            def spoil(gradient: torch.Tensor) -> torch.Tensor:
                handle.remove()
                gradient = gradient.clone()
                gradient.view(-1)[-1] = float("nan")
                return gradient

            handle = parameter.register_hook(spoil)
        elif phase != "data":  # a batch is spoilt where it is made
            momentum = self.parts.learners.rows["momentum"][0]
            target = momentum if phase == "update" else replica.parameters
            target[replica.slots[-1].start] = float("nan")

    def _flipped_bit(self) -> None:
        # By the memory, not by torch, which would notice a tensor that changes between forward and backward.
        weight = self.parts.replica.trainable[-1].detach().numpy().reshape(-1)
        # The largest: the update of a small one would round its lowest bit away.
        weight.view(np.int32)[np.abs(weight).argmax()] ^= 1 << int(self.fault.detail)

    def _full_disk(self) -> None:
        if self.fault.detail == "tmpfs":
            with contextlib.suppress(OSError), (self.folder / "disk" / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(SMALL_FILE_BYTES))
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILE_BYTES, resource.RLIM_INFINITY))

    def _two_jobs(self) -> None:
        while not (self.folder / "go").exists():
            time.sleep(0.05)


def places(allreduce: str, algorithm: str) -> dict[str, tuple[Any, str]]:
    """The function that begins each phase: its owner and its name."""
    import hpcsgd.run.log
    import hpcsgd.run.wiring
    import hpcsgd.train
    from hpcsgd.comm import torch_group
    from hpcsgd.comm.hashing import Comparisons
    from hpcsgd.comm.horovod_gradients import HorovodGradients
    from hpcsgd.comm.mpi_gradients import MpiGradients
    from hpcsgd.comm.reduce import FlatReducer
    from hpcsgd.comm.torch_gradients import TorchGradients
    from hpcsgd.data.loader import DeviceLoader
    from hpcsgd.optim.sgd import RowSGD
    from hpcsgd.record.collector import Collector
    from hpcsgd.run.checkpoint import CheckpointWriter
    from hpcsgd.run.keeper import Keeper

    local = algorithm == "local_sgd"
    # Where mpi4py's allreduce blocks, others are in it already when it is launched.
    reduced = {
        "horovod": (HorovodGradients, "wait"),
        "torch": (TorchGradients, "wait"),
        "mpi": (MpiGradients, "launch"),
    }
    joined = (torch_group, "start_process_group") if allreduce == "torch" else (HorovodGradients, "__init__")
    return {
        "start of the gradients": joined,
        "start": (hpcsgd.run.wiring, "make_reducer" if local else "make_gradient_allreduce"),
        "data": (DeviceLoader, "batch"),
        "forward": (hpcsgd.train, "forward_backward"),
        "backward": (torch.Tensor, "backward"),
        "synchronisation": (FlatReducer, "average_") if local else reduced[allreduce],
        "after synchronisation": (Comparisons, "count"),
        "update": (RowSGD, "step"),
        "after the update": (Collector, "add"),
        "logging": (Collector, "gather"),
        "checkpoint": (Keeper, "_keep"),
        "background write": (CheckpointWriter, "_write_rank"),
        "evaluation": (hpcsgd.train, "evaluate_consensus"),
        "end": (hpcsgd.train, "_save"),
        "last word": (hpcsgd.run.log, "_close"),
        "end of the gradients": (HorovodGradients, "shut_down"),
    }


@contextlib.contextmanager
def injected(injector: Injector, allreduce: str, algorithm: str) -> Iterator[None]:
    """Inside, the injector sees the phases, the steps and the parts of a run."""
    import hpcsgd.run.build
    from hpcsgd.record.timer import StepTimer

    phase = injector.fault.phase
    if phase == "end" and injector.fault.kind in ("NaN", "flipped bit"):
        # Before the last look at the state: what happens to it afterwards, nobody can see.
        from hpcsgd.run.progress import Progress

        owner, name = Progress, "close"
    else:
        owner, name = places(allreduce, algorithm)[phase]

    def entry(body: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        fresh = not injector.done
        injector.at(phase)
        result = body(*arguments, **keywords)
        if phase == "data" and injector.fault.kind == "NaN" and fresh and injector.done:
            result.inputs.view(-1)[7] = float("nan")
        return result

    def begin(body: Callable[..., Any], timer: StepTimer, step: int, *rest: str) -> None:
        injector.step = step
        body(timer, step, *rest)

    def assemble(body: Callable[..., Any], *arguments: Any) -> Any:
        injector.parts = body(*arguments)
        return injector.parts

    with contextlib.ExitStack() as stack:
        for target, attribute, function in (
            (owner, name, entry),
            (StepTimer, "begin", begin),
            (hpcsgd.run.build, "assemble", assemble),
        ):
            stack.enter_context(mock.patch.object(target, attribute, wrapped(function, getattr(target, attribute))))
        yield


def wrapped(function: Callable[..., Any], body: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with ``body`` as its first argument; a method where ``body`` is one."""

    @functools.wraps(body)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        return function(body, *arguments, **keywords)

    return wrapper


def main(words: list[str]) -> int:
    """The command with its fault."""
    fault, folder = Fault(**json.loads(os.environ["SOAK_FAULT"])), Path(os.environ["SOAK_FOLDER"])
    rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
    (folder / f"pid-{rank}").write_text(str(os.getpid()))
    injector = Injector(fault, rank, folder)
    injector.at("before MPI")
    from hpcsgd.cli import main as command

    values = dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)
    if fault.phase == "before MPI":
        return command(words)
    import horovod.torch  # noqa: F401 - what takes seconds to import comes before the clock of the first collective

    import hpcsgd.train  # noqa: F401
    from hpcsgd.comm.mpi import connect
    from hpcsgd.config import CommConfig

    connect(CommConfig())
    with injected(injector, values["comm.allreduce"], values["algorithm.name"]):
        return command(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
