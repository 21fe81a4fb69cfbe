"""A study as a job: every team of ranks takes the next group of trials until there is none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from hpcsgd.comm.communicator import Communicator, agree
from hpcsgd.comm.same import check_programs, check_same
from hpcsgd.comm.stop import StopSignals, listening
from hpcsgd.config.recipe import check_paths, dotted, to_dict
from hpcsgd.config.study import StudyConfig
from hpcsgd.data.identity import check_same_data
from hpcsgd.errors import Preempted, UsageError
from hpcsgd.record import provenance
from hpcsgd.run import streams
from hpcsgd.run.claims import Claim
from hpcsgd.study.space import draw_points
from hpcsgd.trials.directory import AGAIN, PLAN, Claims, StudyDirectory
from hpcsgd.trials.groups import Group, SizePlan, make_groups
from hpcsgd.trials.keep import begin_studies, group_record, write_group
from hpcsgd.trials.lookout import Lookout
from hpcsgd.trials.prepare import claim_study
from hpcsgd.trials.settle import settle
from hpcsgd.trials.training import Interrupted, train_group
from hpcsgd.trials.workshop import Workshop, open_workshop


def run(config: StudyConfig, comm: Communicator, argv: Sequence[str] = (), signals: StopSignals | None = None) -> Path:
    """Train all trials that are not there yet; gives the study's directory. Collective.

    Args:
        config: the study; ``study_dir`` is set.
        comm: the ranks.
        argv: the command, for the record.
        signals: those that ask for a stop, if they are listened for already.

    Raises:
        UsageError: something is wrong with the recipe, the data or the machine; nothing is left behind.
        Preempted: a signal asked for a stop. All finished groups are kept.
    """
    agree(comm, lambda: check_paths(config))
    assert config.study_dir is not None
    path = Path(config.study_dir)
    with listening(signals) as signals, streams.safe():
        check_same(comm, "their configuration", dict(dotted(to_dict(config))))
        check_programs(comm)
        shop = open_workshop(config, comm)
        with agree(comm, lambda: claim_study(path, config) if comm.rank == 0 else Claim(None)) as claim:
            token = comm.broadcast_object(f"{time.time_ns():x}")
            comm.watchdog.folder = path / f".watchdog-{token}"
            directory = StudyDirectory(path, config.archive_path)
            claims = Claims(directory, token, comm.rank)
            plans = _begin(shop, claims, argv, claim)
            groups = make_groups(plans, config.trials)
            shown = config.progress if comm.rank == 0 else "none"
            lookout = Lookout(claims, groups, plans, signals, shop.num_teams, shown)
            todo = comm.broadcast_object([group for group in groups if group.name not in directory.finished()])
            with signals.heeding_interrupts():
                _train_all(shop, claims, lookout, plans, todo)
                lookout.wait_for_all()
            comm.barrier()
            lookout.close()
            shop.reducer.close()
            left = comm.broadcast_object(len(groups) - len(directory.finished()))
            if comm.rank == 0:
                claims.close()
    if left:
        raise Preempted(f"the study in {path} was asked to stop with {left} groups of trials left: start it again")
    return path


def _begin(shop: Workshop, claims: Claims, argv: Sequence[str], claim: Claim) -> list[SizePlan]:
    """Bring the directory in order, and settle what holds for all starts. Collective."""
    config, comm, directory = shop.config, shop.comm, claims.directory

    def prepare() -> list[SizePlan]:
        plans = None
        if claim.before is not None:
            check_same_data(directory.read_data(), shop.dataset.identity, str(directory.path))
            plans = _in_todays_words(directory.read_plan(), config)
            if plans is not None and {plan.batch_size for plan in plans} != set(config.batch_sizes):
                raise UsageError(f"{directory.path / PLAN} is not of batch_sizes {list(config.batch_sizes)}: {AGAIN}")
            for name in directory.finished():
                directory.read_group(name)
        claim.begin()
        claim.settle()
        directory.recover()
        start = provenance.collect(argv, to_dict(config))
        directory.add_start(start | {"ranks": comm.size, "data": shop.dataset.identity})
        if plans is None:
            plans = settle(shop)
            directory.write_plan(plans)
        begin_studies(directory, config, plans)
        claims.open()
        return plans

    return comm.broadcast_object(agree(comm, lambda: prepare() if comm.rank == 0 else []))


def _in_todays_words(plans: list[SizePlan] | None, config: StudyConfig) -> list[SizePlan] | None:
    """A plan with today's names: an older version called the engine of fully connected networks ``fused``."""
    if plans is None or config.model.name != "fully_connected":
        return plans
    return [replace(plan, engine="dense") if plan.engine == "fused" else plan for plan in plans]


def _train_all(shop: Workshop, claims: Claims, lookout: Lookout, plans: Sequence[SizePlan], todo: list[Group]) -> None:
    """Take groups until there is none, or a stop is asked. Collective in the team."""
    config, team = shop.config, shop.team
    by_size = {plan.batch_size: plan for plan in plans}
    points = {
        plan.batch_size: draw_points(
            config.space.at(plan.batch_size, plan.budget), config.trials, config.seed, plan.batch_size
        )
        for plan in plans
    }
    free = time.perf_counter()

    def gives_up() -> bool:
        lookout.look()
        return team.broadcast_object(lookout.stops())

    while group := team.broadcast_object(claims.take(todo) if team.rank == 0 and not lookout.stops() else None):
        plan, begun = by_size[group.batch_size], time.perf_counter()
        try:
            trials, clocks = train_group(
                shop, plan, group, points[group.batch_size][group.first : group.last], gives_up
            )
        except Interrupted:
            return
        clocks.bookkeeping, free = begun - free, time.perf_counter()
        if team.rank == 0:
            record = group_record(shop, plan, group, trials, clocks)
            claims.keep(group, partial(write_group, trials=trials, columns=shop.columns, record=record))
