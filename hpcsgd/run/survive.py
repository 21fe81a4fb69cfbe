"""Going on without ranks that died: those that are left return to the last common state and share the data anew.

In a run with ``on_failure: shrink`` every rank keeps in memory the state after the last averaging at which the log was
flushed, when all replicas were equal and all ranks were there. When a rank dies, the others learn of it in a
collective, each perhaps in another one. They give up what they were doing, take that state, and go on as a run of so
many ranks: with its shards, its steps an epoch, and the learning rate that the scaling rule gives for its batch.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.config import RunConfig
from hpcsgd.errors import JointError, RanksLostError, UsageError, name_ranks
from hpcsgd.run.checkpoint import remove_later
from hpcsgd.run.claims import Claim
from hpcsgd.run.keeper import Memory
from hpcsgd.run.parts import Parts, rebuild
from hpcsgd.run.resume import Start, put_back, same_place


def check_can_shrink(config: RunConfig, comm: Communicator) -> None:
    """Refuse ``on_failure: shrink`` where MPI would end the job with the first rank.

    Raises:
        UsageError: it would.
    """
    if config.on_failure == "shrink" and comm.size > 1 and not comm.can_shrink:
        raise UsageError(
            f"on_failure is shrink, but MPI ({comm.library}) would end all ranks with the first: start the run with "
            "Open MPI's mpirun --with-ft ulfm, or choose on_failure: abort"
        )


def go_on_without(parts: Parts, memory: Memory, claim: Claim, path: Path | None, why: RanksLostError) -> Start:
    """Fit the run to the ranks that are left, and say where it goes on. Collective among them.

    Args:
        parts: changed in place.
        memory: the last common state.
        claim: taken over by the new first rank.
        path: the run's directory.
        why: how this rank learned of it.

    Raises:
        JointError: there is no common state yet, or so few ranks cannot go on.
        RanksLostError: another rank died meanwhile: call it again.
    """
    before = parts.labels.present
    comm = parts.comm.shrink()
    state = memory.state
    if not all(comm.allgather_object(state is not None)):
        raise JointError(f"a rank died before the training began: {why}")
    assert state is not None
    rebuild(parts, comm)
    put_back(parts, state)
    step = same_place(parts, state)
    lost = tuple(sorted(set(before) - set(parts.labels.present)))
    if path is not None:
        agree(comm, lambda: claim.take_over(path) if comm.rank == 0 else None)
    if comm.rank == 0:
        _tell(parts, lost, state["step"], step)
        if path is not None:
            remove_later(path, state["step"])
    return Start(step, state["log_rows"], state["clocks"], lost_ranks=lost)


def _tell(parts: Parts, lost: tuple[int, ...], before: int, after: int) -> None:
    """Say on the terminal what happened."""
    print(
        f"hpcsgd: lost {name_ranks(lost)}; {parts.comm.size} of {parts.labels.num_ranks} ranks go on from the state "
        f"after step {before} (step {after} of a run of so many), with learning rate "
        f"{parts.plan.learning_rate(after):g}",
        file=sys.stderr,
        flush=True,
    )
