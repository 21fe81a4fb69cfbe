"""Whether a run that is there can be gone on with: its data, the steps done, and how far it is to go now."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hpcsgd.comm.communicator import agree
from hpcsgd.data.identity import check_same_data
from hpcsgd.errors import UsageError
from hpcsgd.record.reader import read_outcome
from hpcsgd.run.checkpoint import find_checkpoints
from hpcsgd.run.parts import Parts
from hpcsgd.run.plan import Plan, make_plan


def is_complete(parts: Parts, before: Mapping[str, Any] | None) -> bool:
    """Whether a run that is to be resumed has done all that is asked for; says so. Collective.

    Args:
        parts: the run.
        before: on rank 0, the recipe of what is there, by dotted keys; None: there is nothing.

    Raises:
        UsageError: it has done more than that; or it has come to its end with nothing to go on from; or its data was
            another.
    """
    path = parts.path
    if path is None:
        return False
    asked = parts.config.resume == "auto" and parts.comm.rank == 0 and before is not None
    done = agree(parts.comm, lambda: asked and before is not None and _has_done_all(parts, path, before))
    done = parts.comm.broadcast_object(done)
    if done and parts.comm.rank == 0:
        print(f"hpcsgd: {path} is complete: there is nothing to go on with", file=sys.stderr)
    return done


def _has_done_all(parts: Parts, path: Path, before: Mapping[str, Any]) -> bool:
    """On rank 0."""
    try:
        status, provenance = read_outcome(path)
    except UsageError:
        # What is to become of a log that cannot be read is said where it is gone on with.
        return False
    _check_log_data(parts, path, provenance)
    has_model = (path / "model.pt").exists()
    done = _steps_at_end(parts, path, before, status, provenance)
    if done is None:
        return False
    # In the steps of as many learners as it had.
    learners = provenance.get("num_learners")
    if type(learners) is not int or learners < 1:
        learners = parts.plan.num_learners
    asked = make_plan(parts.config, learners, parts.plan.num_samples).total_steps
    if asked < done:
        raise _too_few(parts, path, done, asked)
    if asked == done and (has_model or not parts.config.log.save_model):
        return True
    if not any(find_checkpoints(path)):
        wanted = f"{asked} are asked for" if asked > done else "its model.pt is not there"
        raise UsageError(
            f"{path} is complete after {done} steps, and {wanted}, but it has no checkpoint to go on from "
            "(checkpoint.every_steps, checkpoint.every_epochs): choose another run_dir, or overwrite: true to begin "
            "again"
        )
    return False


def _check_log_data(parts: Parts, path: Path, provenance: Mapping[str, Any]) -> None:
    """Refuse other data than the log says; older ones say the number of samples alone."""
    before = provenance.get("data")
    number = provenance.get("num_train_samples")
    if before is None and number is not None:
        before = parts.data | {"samples": parts.data["samples"] | {"train": number}}
    check_same_data(before, parts.data, str(path))


def _steps_at_end(
    parts: Parts, path: Path, before: Mapping[str, Any], status: str, provenance: Mapping[str, Any]
) -> int | None:
    """The steps of a run that has come to its end; None: it has not."""
    if status != "none":
        # Those that were planned, where the data ended before.
        total = provenance.get("planned_steps", provenance.get("total_steps"))
        if status != "completed":
            return None
        return total if isinstance(total, int) else plan_before(parts, before).total_steps
    # Without a log, the last checkpoint is kept after the last step.
    planned = plan_before(parts, before).total_steps
    kept = find_checkpoints(path)[0]
    if kept:
        return kept[0].step if kept[0].step >= planned else None
    return planned if (path / "model.pt").exists() else None


def plan_before(parts: Parts, before: Mapping[str, Any]) -> Plan:
    """The plan by the ``epochs`` and ``max_steps`` that the run had.

    Raises:
        UsageError: they are none.
    """
    try:
        config = replace(parts.config, epochs=before.get("epochs", 1), max_steps=before.get("max_steps"))
        return make_plan(config, parts.plan.num_learners, parts.plan.num_samples)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the recipe of the run that is there cannot be gone on with: {error}") from error


def check_course(parts: Parts, where: Path, before: Mapping[str, Any] | None, step: int) -> None:
    """See that ``epochs`` and ``max_steps`` leave the steps before ``step`` as they were done.

    Args:
        parts: the run; with as many learners as before, if ``before`` is given.
        where: its checkpoint.
        before: the recipe of before by dotted keys; None: steps need not be the same.
        step: steps done.

    Raises:
        UsageError: they do not.
    """
    plan = parts.plan
    if step > plan.total_steps:
        raise _too_few(parts, where, step, plan.total_steps)
    if before is None:
        return
    old = plan_before(parts, before)
    for number in range(step):
        rates = plan.learning_rate(number), old.learning_rate(number)
        if rates[0] != rates[1]:
            decay = parts.config.learning_rate.decay
            raise UsageError(
                f"{where} was made with epochs {before.get('epochs')}: with {parts.config.epochs} the learning rate of "
                f"step {number} would have been {rates[0]:g}, not {rates[1]:g} (learning_rate.decay {decay} goes over "
                "all epochs): keep epochs, or begin anew"
            )
        averaged = plan.schedule.measured is None and plan.schedule(number) != old.schedule(number)
        if averaged or plan.outer_rate(number) != old.outer_rate(number):
            raise UsageError(f"{where}: with epochs {parts.config.epochs} step {number} would be averaged otherwise")


def look_ahead(parts: Parts, plan: Plan, step: int) -> Plan:
    """``plan``, or where the data of any rank end with ``step``, one that does too. Collective, for such data."""
    if parts.loader.may_end and step + 1 < plan.total_steps:
        ended = np.array([not parts.loader.has(step + 1)], np.int64)
        parts.comm.max_(ended)
        if ended[0]:
            plan = replace(plan, total_steps=step + 1)
            if parts.comm.rank == 0:
                print(f"hpcsgd: the data ended: the run ends after {step + 1} steps", file=sys.stderr, flush=True)
    return plan


def _too_few(parts: Parts, where: Path, done: int, asked: int) -> UsageError:
    """More is done than is asked for."""
    key = "epochs" if parts.config.max_steps is None else "max_steps"
    return UsageError(
        f"{where} has done {done} steps already, and {key} {getattr(parts.config, key)} asks for {asked}: choose more, "
        "or overwrite: true to begin again"
    )
