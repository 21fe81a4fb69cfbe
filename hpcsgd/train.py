"""One training run: build the parts, go through the loop, keep the log."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from hpcsgd.algorithms.batch_norm import recompute_statistics_
from hpcsgd.comm.abort import abort_on_failure
from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.mpi import connect
from hpcsgd.comm.same import check_programs, check_same
from hpcsgd.comm.stop import StopSignals, listening
from hpcsgd.config import RunConfig
from hpcsgd.config.check import is_import_path
from hpcsgd.config.recipe import check_paths, dotted, to_dict
from hpcsgd.errors import JointError, RanksLostError, UsageError, told_as
from hpcsgd.learners.describe import describe
from hpcsgd.record.clocks import Evaluation, SharedRow
from hpcsgd.record.collector import Collector
from hpcsgd.record.summary import metric_text
from hpcsgd.run import directory as run_dir
from hpcsgd.run import streams
from hpcsgd.run.claims import Claim
from hpcsgd.run.course import is_complete, look_ahead
from hpcsgd.run.evaluate import Metrics, evaluate
from hpcsgd.run.keeper import Keeper, Memory
from hpcsgd.run.log import open_log
from hpcsgd.run.parts import Parts, build
from hpcsgd.run.passes import choose, forward_backward
from hpcsgd.run.progress import Progress
from hpcsgd.run.resume import Start, find_start
from hpcsgd.run.survive import check_can_shrink, go_on_without
from hpcsgd.run.tuning import tune
from hpcsgd.tasks.given import NOTHING, Given


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves: its directory (None without a log), and the last metrics of each split."""

    path: Path | None
    metrics: dict[str, Metrics]


def run(
    config: RunConfig,
    comm: Communicator | None = None,
    argv: Sequence[str] = (),
    signals: StopSignals | None = None,
    name: str | None = None,
    given: Given = NOTHING,
) -> RunResult:
    """Train as ``config`` says. Collective: every rank calls it with the same configuration.

    Args:
        config: the run.
        comm: the ranks; unset, MPI's where a launcher started the process, else this process alone.
        argv: the command, for the log's provenance.
        signals: those that ask for a stop, if they are listened for already; unset, the run does so itself.
        name: of a run without ``run_dir``, which is kept in ``runs/NAME-TIME``; unset, the algorithm's.
        given: what takes the place of what the configuration names.

    Raises:
        UsageError: something is wrong with the recipe, the data or the machine; nothing is left behind.
    """
    comm = comm if comm is not None else connect(config.comm)
    config = given.applied(config)
    agree(comm, lambda: check_paths(config))
    if config.algorithm.name == "none":
        raise UsageError("algorithm.name is 'none', which is for hpcsgd.session: choose another")
    with (
        abort_on_failure(comm, alone=config.on_failure == "shrink"),
        comm.watchdog.on_guard(config.faults.collective_timeout_seconds),
        listening(signals) as signals,
        streams.safe(),
    ):
        check_same(comm, "their configuration", dict(dotted(to_dict(config))))
        check_programs(comm)
        path = run_path(config, name, comm)
        _choose_meeting_place(comm, path)
        check_can_shrink(config, comm)
        parts = build(config, comm, given)
        with parts, agree(comm, lambda: claim_path(path, config, comm)) as claim:
            path = settle_path(parts, claim, path)
            _tell_model(parts)
            if is_complete(parts, path, claim.before):
                return RunResult(path, {})
            start = find_start(parts, path, claim.before)
            if config.learners_per_rank == "auto" and parts.trials is None:
                tune(parts)
            if config.on_failure == "abort":
                return RunResult(path, _train_from(start, parts, path, argv, signals, claim))
            return RunResult(path, _train_with_whom_is_left(start, parts, path, argv, signals, claim))


def _train_with_whom_is_left(
    start: Start, parts: Parts, path: Path | None, argv: Sequence[str], signals: StopSignals, claim: Claim
) -> dict[str, Metrics]:
    """Train to the end, however many ranks die on the way."""
    memory = Memory()
    loss: RanksLostError | None = None
    while True:
        try:
            if loss is not None:
                start = go_on_without(parts, memory, claim, path, loss)
                _choose_meeting_place(parts.comm, path)
            return _train_from(start, parts, path, argv, signals, claim, memory)
        except RanksLostError as error:
            loss = error


def _train_from(
    start: Start,
    parts: Parts,
    path: Path | None,
    argv: Sequence[str],
    signals: StopSignals,
    claim: Claim,
    memory: Memory | None = None,
) -> dict[str, Metrics]:
    """Train from ``start`` to the end, and save the model."""
    if start.step == 0:
        choose(parts)
    with open_log(parts, path, argv, start, claim) as collector:
        keeper = Keeper(parts, path, collector, signals, memory)
        try:
            with signals.heeding_interrupts():
                metrics = train(parts, collector, keeper, start.step)
            keeper.end(parts.plan.total_steps, start.step)
            collector.end()
            _save(parts, path)
        except RanksLostError:
            keeper.give_up()
            raise
    return metrics


def train(parts: Parts, collector: Collector, keeper: Keeper, first_step: int) -> dict[str, Metrics]:
    """The loop from ``first_step``; gives the last metrics of each split."""
    plan, timer, algorithm = parts.plan, parts.timer, parts.algorithm
    metrics: dict[str, Metrics] = {}
    progress = Progress(
        parts.config.progress if parts.comm.rank == 0 else "none", plan.total_steps, plan.steps_per_epoch
    )
    algorithm.start(first_step)
    parts.replica.module.train()
    look_ahead(parts, first_step - 1)
    for step in _steps(parts, first_step):
        timer.begin(step)
        keeper.before(step, first_step)
        timer.lap("checkpoint")
        if keeper.flush_log(step) and collector.last is not None:
            progress.show(collector.last)
        timer.lap("logging")
        batch = parts.loader.batch(step)
        plan = look_ahead(parts, step)
        timer.lap("data")
        loss = forward_backward(parts, step, batch)
        rate = plan.learning_rate(step)
        with at_step(step):
            done = algorithm.step(step, rate, len(batch))
        row = SharedRow(
            step,
            step // plan.steps_per_epoch,
            rate,
            done.action,
            done.num_bytes,
            collector.segment,
            len(batch),
            plan.num_global(step),
        )
        collector.add(row, loss, done.gradient_norm, plan.ends_epoch(step))
        timer.lap("logging")
        if plan.evaluates(step, parts.config.evaluate.every_epochs):
            with at_step(step):
                metrics = evaluate_consensus(parts, step)
            if parts.comm.rank == 0:
                collector.clocks.pending += _evaluations(parts, step, metrics)
            progress.say(_describe(plan.epochs_done(step), metrics), step + 1)
            timer.lap("evaluation")
    timer.stop()
    collector.gather()
    progress.close()
    return metrics


def _steps(parts: Parts, first: int) -> Iterator[int]:
    """The steps of the plan from ``first`` on, which may become fewer on the way."""
    step = first
    while step < parts.plan.total_steps:
        yield step
        step += 1


@contextmanager
def at_step(step: int) -> Iterator[None]:
    """What goes wrong on all ranks together inside is said with its step."""
    try:
        yield
    except JointError as error:
        raise type(error)(f"step {step}: {error}") from error


@contextmanager
def consensus_model(parts: Parts, step: int) -> Iterator[nn.Module]:
    """The one model to evaluate or save after ``step``, with its BatchNorm statistics."""
    with parts.algorithm.consensus() as module:
        if parts.config.algorithm.batch_norm_policy == "recompute":
            # A small tail may leave a rank without samples: all ranks pass over it.
            full = (s for s in range(step, -1, -1) if parts.plan.num_global(s) >= parts.plan.num_learners)
            latest = sorted(itertools.islice(full, parts.config.evaluate.recompute_batches))
            inputs = ([own.inputs for own in parts.loader.batch(s).learners()] for s in latest)
            recompute_statistics_(parts.learners, parts.task.forward, inputs, parts.world)
        yield module


def evaluate_consensus(parts: Parts, step: int) -> dict[str, Metrics]:
    """Metrics of the consensus model on the splits of the recipe, after ``step``."""
    size = parts.config.evaluate.batch_size
    with consensus_model(parts, step) as module:
        return {name: evaluate(parts.task, module, split, parts.comm, size) for name, split in parts.splits.items()}


def _evaluations(parts: Parts, step: int, metrics: dict[str, Metrics]) -> list[Evaluation]:
    """The log's rows of an evaluation, without its clock yet."""
    fraction = parts.plan.epochs_done(step)
    return [
        Evaluation(step + 1, fraction, split, metric, value, result.num_samples)
        for split, result in metrics.items()
        for metric, value in result.values.items()
    ]


def _describe(epochs: float, metrics: dict[str, Metrics]) -> str:
    """An evaluation in a line."""
    results = (
        ", ".join(f"{split} {name} {metric_text(name, value)}" for name, value in m.values.items())
        for split, m in metrics.items()
    )
    return f"epoch {epochs:g}: " + "; ".join(results)


def _tell_model(parts: Parts) -> None:
    """Rank 0 says what a model of the user's is made of, and what becomes of it."""
    method, is_own = parts.config.algorithm, is_import_path(parts.config.model.name) or parts.given.model is not None
    if is_own and parts.comm.rank == 0 and parts.config.progress != "none":
        text = describe(parts.replica, method.batch_norm_policy, method.buffer_policy)
        print(f"hpcsgd: {text}", file=sys.stderr, flush=True)


def run_path(config: RunConfig, name: str | None, comm: Communicator) -> Path | None:
    """The run's directory, by rank 0's clock and from its working directory; None where nothing is kept. Collective."""
    checkpoint = config.checkpoint
    if not (config.log.enabled or config.log.save_model or checkpoint.every_steps or checkpoint.every_epochs):
        return None
    unique = f"runs/{name or config.algorithm.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, origin = comm.broadcast_object((config.run_dir or unique, os.getcwd()))
    return Path(path) if os.getcwd() == origin else Path(origin, path)


def claim_path(path: Path | None, config: RunConfig, comm: Communicator) -> Claim:
    """Rank 0 claims the run's directory for this job, or where no name was given, the next one that is free."""
    if path is None or comm.rank:
        return Claim(None)
    return run_dir.claim(path, config) if config.run_dir is not None else run_dir.claim_new(path, config)


def settle_path(parts: Parts, claim: Claim, path: Path | None) -> Path | None:
    """The directory that rank 0 has claimed; from now on, the configuration has it. Collective."""
    if path is None or parts.config.run_dir is not None:
        return path
    path = path.with_name(parts.comm.broadcast_object(claim.path.name if claim.path is not None else path.name))
    parts.config = replace(parts.config, run_dir=str(path))
    _choose_meeting_place(parts.comm, path)
    return path


def _choose_meeting_place(comm: Communicator, path: Path | None) -> None:
    """Tell the watchdogs of a directory that all ranks see, of this start alone."""
    token = comm.broadcast_object(f".watchdog-{time.time_ns():x}")
    comm.watchdog.folder = (path if path is not None else Path(tempfile.gettempdir())) / token


def _save(parts: Parts, path: Path | None) -> None:
    """Keep the final consensus model, and make it every rank's."""
    with consensus_model(parts, parts.plan.total_steps - 1) as module:
        if parts.config.log.save_model and path is not None and parts.comm.rank == 0:
            with told_as(path / "model.pt"):
                run_dir.save_model(path / "model.pt", module.state_dict())
    parts.algorithm.finish()
