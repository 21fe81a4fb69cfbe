"""``hpcsgd`` with a fault: rank FAIL_RANK raises, or exits, at step FAIL_STEP. Started by test_command.py."""

from __future__ import annotations

import os
import sys

from hpcsgd.algorithms.base import Synchronisation
from hpcsgd.algorithms.local_sgd import LocalSGD
from hpcsgd.cli import main

sound_step = LocalSGD.step


def failing_step(self: LocalSGD, step: int, rate: float, num_samples: int) -> Synchronisation:
    """The step, with its fault."""
    at_fault = step == int(os.environ["FAIL_STEP"]) and os.environ["OMPI_COMM_WORLD_RANK"] == os.environ["FAIL_RANK"]
    if at_fault and os.environ["FAIL_HOW"] == "exit":
        sys.exit(3)
    if at_fault:
        raise RuntimeError("deliberate fault")
    return sound_step(self, step, rate, num_samples)


if __name__ == "__main__":
    setattr(LocalSGD, "step", failing_step)  # noqa: B010 - mypy refuses the plain assignment
    sys.exit(main())
