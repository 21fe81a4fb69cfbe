"""The state of a run: taken for a checkpoint, and put back, to the same bits."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from hpcsgd.comm.communicator import agree
from hpcsgd.data.identity import check_same_data
from hpcsgd.errors import UsageError
from hpcsgd.learners.engines.choose import make_engine, possible_engines
from hpcsgd.learners.tuner import Trial
from hpcsgd.optim.rows import PARAMETERS, Rows
from hpcsgd.record.clocks import Clocks
from hpcsgd.run.checkpoint import Checkpoint, find_checkpoints, read_checkpoint
from hpcsgd.run.course import check_course
from hpcsgd.run.parts import Labels, Parts, fix_learners
from hpcsgd.run.states import PLACES, as_own, places_of, readable


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        step: its first step.
        log_rows: rows of each table of the log that belong before it; empty for a new log.
        clocks: state of the clocks of record.
        elapsed_seconds: the run's clock there, where it stood still in between.
        lost_ranks: ranks that died since.
    """

    step: int = 0
    log_rows: dict[str, int] = field(default_factory=dict)
    clocks: dict[str, Any] | None = None
    elapsed_seconds: float = 0.0
    lost_ranks: tuple[int, ...] = ()


def capture(parts: Parts, step: int) -> dict[str, Any]:
    """A copy of everything that this rank needs to go on with ``step``, in tensors and plain values."""
    learners = parts.learners
    learners.check_parameters()
    random: dict[str, Any] = {"cpu": torch.get_rng_state(), "learners": learners.random_states()}
    if learners.device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(learners.device)
    return {
        "step": step,
        "data": parts.data,
        "loader": parts.loader.state_dict(step),
        "global_batch_size": parts.plan.global_batch_size,
        "engine": parts.engine.name,
        "engine_tables": parts.engine_tables,
        "trials": None if parts.trials is None else [vars(trial) for trial in parts.trials],
        "rows": _named_rows(learners.rows),
        PLACES: places_of(learners.rows),
        "statistics": _to_host(learners.statistics),
        "counts": learners.counts.tolist(),
        "buffers": _cloned({str(j): r.buffers.state_dict() for j, r in enumerate(learners.replicas)}),
        "algorithm": _cloned(parts.algorithm.state_dict()),
        "random": random,
        "labels": vars(parts.labels),
    }


def put_back(parts: Parts, state: dict[str, Any]) -> Parts:
    """Give this rank's learners and algorithm the state that :func:`capture` took; with the engine of before."""
    learners = parts.learners
    for name, rows in state["rows"].items():
        learners.rows[name].copy_(rows)
    learners.statistics.copy_(state["statistics"])
    learners.counts.copy_(torch.tensor(state["counts"], dtype=torch.int64))
    for j, replica in enumerate(learners.replicas):
        replica.buffers.load_state_dict(state["buffers"][str(j)])
    learners.load_random_states(state["random"]["learners"])
    parts.loader.load_state_dict(state.get("loader"), state["step"])
    parts.algorithm.load_state_dict(state["algorithm"])
    torch.set_rng_state(state["random"]["cpu"])
    if "cuda" in state["random"] and learners.device.type == "cuda":
        torch.cuda.set_rng_state(state["random"]["cuda"], learners.device)
    return _with_engine(parts, state)


def _with_engine(parts: Parts, state: dict[str, Any]) -> Parts:
    """With the engine that the run began with: another one may round otherwise."""
    engine = parts.engine
    # On another kind of device there may be no such engine: rounding differs there anyway.
    if engine.name != state["engine"] in possible_engines(parts.learners.device):
        engine = make_engine(state["engine"], parts.learners, parts.task)
    return replace(parts, engine=engine, engine_tables=state["engine_tables"])


def same_place(parts: Parts, state: dict[str, Any]) -> int:
    """The step of this run after as many samples as a run of another number of ranks had seen at ``state``."""
    samples: int = state["step"] * state["global_batch_size"]
    return round(samples / parts.plan.global_batch_size)


def _united(buffers: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The buffers of all learners as those of one model: float ones averaged where they differ, others the first's."""
    found = {}
    for name, first in buffers[0].items():
        every = torch.stack([each[name] for each in buffers])
        differs = first.is_floating_point() and not bool((every == first).all())
        found[name] = every.double().mean(dim=0) if differs else first
    return found


def _named_rows(rows: Rows) -> dict[str, torch.Tensor]:
    """A copy of parameters and optimizer state by name, each [m, P], in one allocation on the host."""
    return dict(zip(rows.names, _to_host(rows.buffer).chunk(len(rows.names), dim=1), strict=True))


def _cloned(value: Any) -> Any:
    """Nested dicts with copies of their tensors."""
    if isinstance(value, dict):
        return {key: _cloned(part) for key, part in value.items()}
    return _to_host(value) if isinstance(value, torch.Tensor) else value


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the host, made once, wherever ``tensor`` is."""
    return tensor.to("cpu", copy=True)


def find_start(parts: Parts, before: Mapping[str, Any] | None = None) -> tuple[Parts, Start]:
    """With the state that ``resume`` names, if any; and where the run begins. Collective.

    A damaged checkpoint is named, and the one before it is used.

    Args:
        parts: the run.
        before: on rank 0, the recipe by dotted keys of the run that is gone on with, if it is the same.

    Raises:
        UsageError: there is none that is sound, or it is of another number of ranks and that is not allowed, or of
            other data or of another course.
    """
    resume, comm, path = parts.config.resume, parts.comm, parts.path
    if resume == "none" or path is None:
        return parts, Start()
    before = comm.broadcast_object(before)
    if resume == "auto":
        candidates, broken = comm.broadcast_object(find_checkpoints(path) if comm.rank == 0 else ([], []))
    else:
        candidates, broken = [agree(comm, lambda: read_checkpoint(Path(resume)))], []
    found = None
    for checkpoint in candidates:
        try:
            states = agree(comm, lambda: _load(parts, checkpoint))  # noqa: B023
            if parts.config.learners_per_rank == "auto":
                parts = _as_tuned(parts, checkpoint, states[0])
            agree(comm, lambda: _check(parts, checkpoint, states[0], before))  # noqa: B023
            found = agree(comm, lambda: _restore(parts, checkpoint, states))  # noqa: B023
            break
        except OtherRunError:
            raise
        except UsageError as error:
            broken.append(str(error))
    if found is None and broken:
        raise UsageError(f"no sound checkpoint in {path}: {'; '.join(broken)}; set overwrite: true to begin again")
    if comm.rank == 0:
        for line in broken:
            print(f"hpcsgd: not used: {line}", file=sys.stderr, flush=True)
    return found or (parts, Start())


class OtherRunError(UsageError):
    """The checkpoint is sound, but of a run that this one is not: of other ranks, data or steps."""


def _load(parts: Parts, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """The state of this rank, or those of all ranks, where they are of another number of them."""
    if checkpoint.world_size == parts.comm.size:
        return [as_own(parts, checkpoint, parts.comm.rank)]
    if not parts.config.resume_other_size:
        raise OtherRunError(
            f"{checkpoint.path} was written by {checkpoint.world_size} ranks, and this job has {parts.comm.size}: "
            "start as many, or set resume_other_size: true to go on from the average of their models"
        )
    return [as_own(parts, checkpoint, rank) for rank in range(checkpoint.world_size)]


def _check(parts: Parts, checkpoint: Checkpoint, state: dict[str, Any], before: Mapping[str, Any] | None) -> None:
    """See that this run may go on with a state.

    Raises:
        OtherRunError: it may not.
    """
    with readable(checkpoint):
        same_size = checkpoint.world_size == parts.comm.size
        step = state["step"] if same_size else same_place(parts, state)
        data = state.get("data")
    try:
        check_same_data(data, parts.data, str(checkpoint.path))
        check_course(parts, checkpoint.path, before if same_size else None, step)
    except UsageError as error:
        raise OtherRunError(str(error)) from error


def _as_tuned(parts: Parts, checkpoint: Checkpoint, state: dict[str, Any]) -> Parts:
    """With as many learners of each rank as the tuner gave it when the run began. Collective."""

    def read() -> tuple[int, str, list[Trial]]:
        with readable(checkpoint):
            return len(state["rows"][PARAMETERS]), state["engine"], [Trial(**row) for row in state["trials"]]

    own, engine, trials = agree(parts.comm, read)
    return replace(fix_learners(parts, own, engine), trials=trials)


def _restore(parts: Parts, checkpoint: Checkpoint, states: list[dict[str, Any]]) -> tuple[Parts, Start]:
    """With this rank's state; and where it begins."""
    with readable(checkpoint):
        return _take_up(parts, checkpoint, states)


def _take_up(parts: Parts, checkpoint: Checkpoint, states: list[dict[str, Any]]) -> tuple[Parts, Start]:
    """See :func:`_restore`."""
    if checkpoint.world_size != parts.comm.size:
        return _restore_consensus(parts, states)
    state, own = states[0], parts.learners.rows
    kinds = {name: (own[name].shape, own[name].dtype) for name in own.names}
    if {name: (rows.shape, rows.dtype) for name, rows in state["rows"].items()} != kinds:
        raise UsageError(f"{checkpoint.path} is of another model: resume with the recipe that it was made with")
    labels = Labels(**state["labels"])
    rows = [row | {"rank": label} for row, label in zip(parts.rank_rows, labels.present, strict=True)]
    parts = replace(put_back(parts, state), labels=labels, rank_rows=rows)
    if state["clocks"] is not None:
        # Where they are taken up, it is too late for the checkpoint before.
        Clocks(labels.num_ranks, parts.plan.steps_per_epoch).load_state_dict(state["clocks"])
    return parts, Start(state["step"], state["log_rows"], state["clocks"], float(state["elapsed_seconds"]))


def _restore_consensus(parts: Parts, states: list[dict[str, Any]]) -> tuple[Parts, Start]:
    """Give every learner the one model of the checkpoint, with averaged momenta and merged BatchNorm statistics.

    The model is the central one, where there is one, else the average of the replicas.
    """
    parts.loader.load_state_dict(None, same_place(parts, states[0]))
    learners = parts.learners
    for name in learners.rows.names:
        learners.rows[name].copy_(torch.cat([s["rows"][name].double() for s in states]).mean(dim=0))
    parts.algorithm.optimizer.load_first(states[0]["algorithm"]["optimizer"])
    if parts.algorithm.loss_scale is not None:
        parts.algorithm.loss_scale.load_state_dict(states[0]["algorithm"]["loss_scale"])
    if "central" in states[0]["algorithm"]:
        learners.parameters.copy_(states[0]["algorithm"]["central"]["model"])
    statistics = torch.cat([s["statistics"].double() for s in states])
    means, variances = statistics.chunk(2, dim=1)
    mean = means.mean(dim=0)
    learners.means.copy_(mean)
    learners.variances.copy_((variances + (means - mean).square()).mean(dim=0))
    for replica in learners.replicas:
        replica.buffers.load_state_dict(_united([each for s in states for each in s["buffers"].values()]))
    learners.counts.copy_(torch.tensor([s["counts"] for s in states], dtype=torch.int64).flatten(0, 1).amax(dim=0))
    start = Start(same_place(parts, states[0]), elapsed_seconds=states[0]["elapsed_seconds"])
    return _with_engine(parts, states[0]), start
