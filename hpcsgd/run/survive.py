"""Going on without ranks that died: those that are left return to the last common state and share the data anew.

In a run with ``on_failure: shrink`` every rank keeps in memory the state after the last averaging at which the log was
flushed, when all replicas were equal and all ranks were there. When a rank dies, the others learn of it in a
collective, each perhaps in another one. They give up what they were doing, take that state, and go on as a run of so
many ranks: with its shards, its steps an epoch, and the learning rate that the scaling rule gives for its batch.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.config import RunConfig
from hpcsgd.errors import JointError, UsageError, name_ranks
from hpcsgd.run.checkpoint import remove_later
from hpcsgd.run.claims import Claim
from hpcsgd.run.keeper import Memory
from hpcsgd.run.parts import Parts, fit_to_ranks
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


def of_who_is_left(parts: Parts) -> Parts:
    """With the ranks that are left; :func:`go_on` fits the rest to them. Collective among them.

    A further rank may die at any time: whoever has this value meets the others by its communicator again.
    """
    comm = parts.comm.shrink()
    present = [parts.labels.present[old] for old in comm.allgather_object(parts.comm.rank)]
    return replace(parts, comm=comm, labels=replace(parts.labels, present=present))


def go_on(parts: Parts, memory: Memory, claim: Claim, why: str) -> tuple[Parts, Start]:
    """Fitted to the ranks that are left, with their last common state; and where it goes on. Collective among them.

    Args:
        parts: see :func:`of_who_is_left`.
        memory: the last common state.
        claim: taken over by the new first rank.
        why: how this rank learned of it.

    Raises:
        JointError: there is no common state yet, or so few ranks cannot go on.
        RanksLostError: another rank died meanwhile: begin with :func:`of_who_is_left` again.
    """
    state, comm, path = memory.state, parts.comm, parts.path
    if not all(comm.allgather_object(state is not None)):
        raise JointError(f"a rank died before the training began: {why}")
    assert state is not None
    parts = put_back(fit_to_ranks(parts), state)
    step = same_place(parts, state)
    lost = tuple(sorted(set(state["labels"]["present"]) - set(parts.labels.present)))
    if path is not None:
        agree(comm, lambda: claim.take_over(path) if comm.rank == 0 else None)
    if comm.rank == 0:
        _tell(parts, lost, state["step"], step)
        if path is not None:
            remove_later(path, state["step"])
    return parts, Start(step, state["log_rows"], state["clocks"], lost_ranks=lost)


def _tell(parts: Parts, lost: tuple[int, ...], before: int, after: int) -> None:
    """Say on the terminal what happened."""
    print(
        f"hpcsgd: lost {name_ranks(lost)}; {parts.comm.size} of {parts.labels.num_ranks} ranks go on from the state "
        f"after step {before} (step {after} of a run of so many), with learning rate "
        f"{parts.plan.learning_rate(after):g}",
        file=sys.stderr,
        flush=True,
    )
