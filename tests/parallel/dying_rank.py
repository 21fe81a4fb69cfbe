"""``hpcsgd`` with ranks that die: DEATHS is ``rank:step:where,...``. Started by test_shrink.py.

``where`` is a span of the iteration, at whose end the rank kills itself; ``collective``, where it does so while the
others are in an averaging; or ``exception``.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from hpcsgd.cli import main
from hpcsgd.comm.mpi import MpiCommunicator
from hpcsgd.record.timer import StepTimer
from tests.single.api.own_recipes import import_torchvision

# Worker processes, which are no ranks, begin with this file too.
RANK = os.environ.get("OMPI_COMM_WORLD_RANK")
DEATHS = {
    (int(step), where) for rank, step, where in (d.split(":") for d in os.environ["DEATHS"].split(",")) if rank == RANK
}
sound_lap, sound_end = StepTimer.lap, StepTimer._end
sound_enter, sound_sum = StepTimer.enter_sync, MpiCommunicator.sum_
at_sync = False


def die() -> None:
    """Die as a process does whose node fails."""
    os.kill(os.getpid(), signal.SIGKILL)


def step_of(timer: StepTimer) -> int:
    """The iteration under way."""
    assert timer._current is not None
    return timer._current.step


def lap(timer: StepTimer, name: str) -> None:
    """The lap, and death at its end."""
    sound_lap(timer, name)
    if (step_of(timer), name) in DEATHS:
        die()
    if name == "data" and (step_of(timer), "exception") in DEATHS:
        raise RuntimeError("deliberate fault")


def end(timer: StepTimer, rest: str, now: Any) -> None:
    """The end of an iteration, whose rest is a span's, and death there."""
    step = timer.current_step
    sound_end(timer, rest, now)
    if step is not None and (step, rest) in DEATHS:
        die()


def enter_sync(timer: StepTimer) -> None:
    """Note that the next sum is that of the averaging."""
    global at_sync
    sound_enter(timer)
    at_sync = (step_of(timer), "collective") in DEATHS


def sum_(comm: MpiCommunicator, array: object) -> None:
    """The sum; the first part of a buffer is summed, and the rank dies before the second."""
    global at_sync
    sound_sum(comm, array)  # type: ignore[arg-type]
    if at_sync:
        die()


if __name__ == "__main__":
    for owner, name, function in (
        (StepTimer, "lap", lap),
        (StepTimer, "_end", end),
        (StepTimer, "enter_sync", enter_sync),
        (MpiCommunicator, "sum_", sum_),
    ):
        setattr(owner, name, function)
    if any("resnet18" in word for word in sys.argv):
        import_torchvision()
    sys.exit(main())
