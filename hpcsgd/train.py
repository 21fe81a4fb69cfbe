"""One training run: build the parts, go through the loop, keep the log."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpcsgd.comm.abort import abort_on_failure
from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.mpi import connect
from hpcsgd.comm.same import check_programs, check_same
from hpcsgd.comm.stop import StopSignals, listening
from hpcsgd.config import RunConfig
from hpcsgd.config.check import is_import_path
from hpcsgd.config.recipe import check_paths, dotted, to_dict
from hpcsgd.errors import JointError, RanksLostError, UsageError, told_as
from hpcsgd.learners.describe import describe as describe_model
from hpcsgd.record.collector import Collector
from hpcsgd.run import streams
from hpcsgd.run.build import build
from hpcsgd.run.claims import Claim
from hpcsgd.run.compiling import compile_passes
from hpcsgd.run.course import is_complete, look_ahead
from hpcsgd.run.directory import save_model
from hpcsgd.run.evaluate import Metrics, consensus_model, evaluate_consensus, rows_of
from hpcsgd.run.evaluate import describe as describe_metrics
from hpcsgd.run.keeper import Keeper, Memory
from hpcsgd.run.kernels import choosing_kernels
from hpcsgd.run.log import note_early_end, open_log
from hpcsgd.run.parts import Parts
from hpcsgd.run.passes import choose, forward_backward
from hpcsgd.run.plan import Plan
from hpcsgd.run.progress import Progress
from hpcsgd.run.resume import Start, find_start
from hpcsgd.run.survive import check_can_shrink, go_on, of_who_is_left
from hpcsgd.run.tuning import tune
from hpcsgd.run.where import choose_meeting_place, claim_path, run_path, settled
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
        choosing_kernels(config),
    ):
        check_same(comm, "their configuration", dict(dotted(to_dict(config))))
        check_programs(comm)
        return _run(config, comm, argv, signals, name, given)


def _run(
    config: RunConfig, comm: Communicator, argv: Sequence[str], signals: StopSignals, name: str | None, given: Given
) -> RunResult:
    """See :func:`run`. Each change of the parts is bound here, so that nothing holds what they were before."""
    path = run_path(config, name, comm)
    choose_meeting_place(comm, path)
    check_can_shrink(config, comm)
    with build(config, comm, given) as parts, agree(comm, lambda: claim_path(path, config, comm)) as claim:
        parts = settled(parts, path, claim)
        _tell_model(parts, given)
        if is_complete(parts, claim.before):
            return RunResult(parts.path, {})
        parts, start = find_start(parts, claim.before)
        parts = compile_passes(parts, start.step)
        if config.learners_per_rank == "auto" and parts.trials is None:
            parts = compile_passes(tune(parts), start.step)
        if start.step == 0:
            parts = choose(parts)
        if config.on_failure == "abort":
            return RunResult(parts.path, _train_from(start, parts, argv, signals, claim))
        # To the end, however many ranks die on the way.
        memory, lost = Memory(), ""
        while True:
            try:
                if lost:
                    parts = of_who_is_left(parts)
                    parts, start = go_on(parts, memory, claim, lost)
                    choose_meeting_place(parts.comm, parts.path)
                return RunResult(parts.path, _train_from(start, parts, argv, signals, claim, memory))
            except RanksLostError as error:
                lost = str(error)


def _train_from(
    start: Start,
    parts: Parts,
    argv: Sequence[str],
    signals: StopSignals,
    claim: Claim,
    memory: Memory | None = None,
) -> dict[str, Metrics]:
    """Train from ``start`` to the end, and save the model."""
    with open_log(parts, argv, start, claim) as collector:
        keeper = Keeper(parts, collector, signals, memory)
        try:
            with signals.heeding_interrupts(), collector.telling_first():
                plan, metrics = train(parts, collector, keeper, start.step)
            keeper.end(plan.total_steps, start.step)
            collector.end()
            note_early_end(collector, parts.plan, plan)
            _save(parts, plan.total_steps)
        except RanksLostError:
            keeper.give_up()
            raise
    return metrics


def train(parts: Parts, collector: Collector, keeper: Keeper, first_step: int) -> tuple[Plan, dict[str, Metrics]]:
    """The loop from ``first_step``; gives the plan that it came to the end of, and the last metrics of each split."""
    plan, timer, algorithm = parts.plan, parts.timer, parts.algorithm
    progress = Progress(
        parts.config.progress if parts.comm.rank == 0 else "none",
        plan.total_steps,
        plan.steps_per_epoch,
        first_step=first_step,
        checkpoint_every=keeper.every if keeper.writer is not None else (),
        emulated=parts.config.emulate.is_on,
    )
    metrics: dict[str, Metrics] = {}
    algorithm.start(first_step)
    parts.replica.module.train()
    step, plan = first_step, look_ahead(parts, plan, first_step - 1)
    while step < plan.total_steps:
        timer.begin(step, "logging")
        if keeper.before(step, first_step):
            timer.lap("checkpoint")
        flushed = keeper.flush_log(step)
        if progress.show(step, collector.last) or flushed:
            timer.lap("logging")
        with timer.span("data"):
            batch = parts.loader.batch(step)
            plan = look_ahead(parts, plan, step)
        loss = forward_backward(parts, step, batch)
        rate = plan.learning_rate(step)
        with at_step(step):
            done = algorithm.step(step, rate, len(batch))
        samples = (len(batch), plan.num_global(step))
        collector.add(step, rate, done, samples, loss, ends_epoch=plan.ends_epoch(step))
        if plan.evaluates(step, parts.config.evaluate.every_epochs):
            timer.lap("logging")
            with timer.span("evaluation"):
                metrics = _evaluate(parts, step, collector, progress)
        step += 1
    timer.stop("logging")
    collector.gather()
    progress.close(step, collector.last)
    return plan, metrics


def _evaluate(parts: Parts, step: int, collector: Collector, progress: Progress) -> dict[str, Metrics]:
    """Evaluate the consensus after ``step``, for the log and the eye. Collective."""
    with at_step(step):
        metrics = evaluate_consensus(parts, step)
    epochs = parts.plan.epochs_done(step)
    if parts.comm.rank == 0:
        collector.clocks.pending += rows_of(metrics, step, epochs)
    progress.say(describe_metrics(metrics, epochs), step + 1)
    return metrics


@contextmanager
def at_step(step: int) -> Iterator[None]:
    """What goes wrong on all ranks together inside is said with its step."""
    try:
        yield
    except JointError as error:
        raise type(error)(f"step {step}: {error}") from error


def _tell_model(parts: Parts, given: Given) -> None:
    """Rank 0 says what a model of the user's is made of, and what becomes of it."""
    method, is_own = parts.config.algorithm, is_import_path(parts.config.model.name) or given.model is not None
    if is_own and parts.comm.rank == 0 and parts.config.progress != "none":
        text = describe_model(parts.replica, method.batch_norm_policy, method.buffer_policy)
        print(f"hpcsgd: {text}", file=sys.stderr, flush=True)


def _save(parts: Parts, num_steps: int) -> None:
    """Keep the final consensus model, after so many steps, and make it every rank's."""
    with consensus_model(parts, num_steps - 1) as module:
        if parts.config.log.save_model and parts.path is not None and parts.comm.rank == 0:
            with told_as(parts.path / "model.pt"):
                save_model(parts.path / "model.pt", module.state_dict())
    parts.algorithm.finish()
