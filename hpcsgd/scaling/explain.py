"""A verdict on a run: what bounds it, who is slow, what changed, and what would help; by its log alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from hpcsgd.record.reader import Run
from hpcsgd.record.summary import counted, seconds
from hpcsgd.scaling.causes import LEAST_SHARE, Case, Finding, Remedy, causes_of_parts, network_remedies, percent
from hpcsgd.scaling.causes_chance import FEWEST, fixed_part
from hpcsgd.scaling.causes_course import causes_of_course
from hpcsgd.scaling.causes_ranks import FEWEST_ROUNDS, causes_of_ranks, jitter_lasts
from hpcsgd.scaling.explain_digest import COLUMNS, digest

MOST_FINDINGS = 6
MOST_REMEDIES = 4
LEAST_GAIN = 0.01
"""Of a remedy that is told."""


@dataclass(frozen=True)
class Explanation:
    """A verdict on a run.

    Attributes:
        bound: the part of ``PARTS`` that takes most of the time; empty: nothing was logged.
        shares: of ``PARTS`` in the time that ranks spend, from the first step on.
        findings: what is wrong, the costliest first; none: nothing that costs ``LEAST_SHARE``.
        remedies: what would help, the most first.
        notes: what this log cannot say.
        lines: all of it as a text of ten lines at most.
    """

    bound: str
    shares: dict[str, float]
    findings: tuple[Finding, ...]
    remedies: tuple[Remedy, ...]
    notes: tuple[str, ...]
    lines: tuple[str, ...]


def explain(run: Run) -> Explanation:
    """The verdict on a run, whose log is read in blocks; also of one that is running or was killed."""
    if not len(run.columns.steps):
        line = "Nothing can be said: no step was logged."
        return Explanation("", {}, (), (), (line,), (line,))
    case = case_of(run)
    found = [*causes_of_parts(case), *causes_of_ranks(case), *causes_of_course(case)]
    findings = tuple(sorted(found, key=lambda finding: -finding.share))
    bound = max(case.shares, key=case.shares.__getitem__)
    remedies = remedies_of(case, findings)
    notes = tuple(_notes(run, case))
    lines = (
        _headline(run, case, bound),
        _rest(case, bound),
        *(finding.text for finding in findings[:MOST_FINDINGS]),
        *_help(findings, remedies),
        *([f"Not to be said: {'; '.join(notes)}."] if notes else ()),
    )
    return Explanation(bound, case.shares, findings, remedies, notes, lines)


def case_of(run: Run) -> Case:
    """What is looked at of a log."""
    columns = run.columns
    ranks = run.ranks.set_index("rank")
    of_ranks = columns.axis == "rank"
    labels = [int(label) for label in columns.labels] if of_ranks else []
    shared = columns.read(["action", "segment", "sync_bytes"])
    blocks = (values for _, values in columns.blocks(COLUMNS))
    return Case(
        digest=digest(
            shared["action"],
            blocks,
            of_ranks=of_ranks,
            rank_blocks=[int(number) for number in ranks["block"].reindex(labels, fill_value=0)],
        ),
        steps=columns.steps,
        segments=shared["segment"],
        sync_bytes=shared["sync_bytes"],
        labels=labels,
        nodes=[str(node) for node in ranks["node"].reindex(labels, fill_value="?")],
        num_ranks=len(run.ranks),
        config=run.config,
        starts=[
            (_utc(row.started), int(row.world_size), str(row.lost_ranks))
            for row in run.segments.itertuples(index=False)
        ],
        on_gpu=bool(run.ranks["device"].str.startswith("cuda").any()),
    )


def _utc(text: object) -> float:
    """Seconds of an ISO 8601 time; NaN: it is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return math.nan


def remedies_of(case: Case, findings: tuple[Finding, ...]) -> tuple[Remedy, ...]:
    """What would help by ``LEAST_GAIN`` or more, findings' own remedies and those that always stand, the most first."""
    found = {remedy.text: remedy for finding in findings for remedy in finding.remedies}
    for remedy in _standing(case, findings):
        found.setdefault(remedy.text, remedy)
    return tuple(sorted((r for r in found.values() if r.gain >= LEAST_GAIN), key=lambda remedy: -remedy.gain))


def _standing(case: Case, findings: tuple[Finding, ...]) -> Iterator[Remedy]:
    """Questions that every run of several ranks has an answer to."""
    if case.num_ranks < 2 or not len(case.digest.rounds):
        return
    network = case.shares["network"]
    yield from network_remedies(case)
    slow = sum(finding.share for finding in findings if finding.cause in ("slow_rank", "slow_node"))
    # Waiting for what each step draws anew averages away by the square root of the steps; what lasts does not.
    jitter = max(case.shares["waiting"] - slow, 0.0) if jitter_lasts(case) < 2 else 0.0
    if case.method == "sync_sgd":
        yield Remedy("local SGD with H = 4", network * 3 / 4 + jitter / 2)
    elif case.method != "none":
        yield Remedy(f"H = {2 * case.period}", network / 2 + jitter * (1 - math.sqrt(0.5)))


def _headline(run: Run, case: Case, bound: str) -> str:
    total = run.provenance.get("total_steps")
    done = len(case.steps)
    of = f" of {total:.0f}" if run.status != "completed" and total and total > done else ""
    state = {"completed": "", "running": ", running or killed"}.get(run.status, f", {run.status}")
    emulated = ", emulated" if run.emulated else ""
    return (
        f"Bound by {bound}, {percent(case.shares[bound])} of the time: {done}{of} steps of "
        f"{counted(case.num_ranks, 'rank')}, {seconds(case.seconds / max(case.kept.sum(), 1))} each{state}{emulated}."
    )


def _rest(case: Case, bound: str) -> str:
    others = sorted((item for item in case.shares.items() if item[0] != bound), key=lambda item: -item[1])
    shown = [f"{name} {percent(share)}" for name, share in others if share >= 0.0005]
    return f"Beside that: {', '.join(shown)}." if shown else "Beside that: nothing takes 0.1 %."


def _help(findings: tuple[Finding, ...], remedies: tuple[Remedy, ...]) -> Iterator[str]:
    if not findings:
        yield f"Nothing is wrong that costs {100 * LEAST_SHARE:.0f} % of the time or more."
    if remedies:
        shown = ", ".join(f"{percent(remedy.gain)} ({remedy.text})" for remedy in remedies[:MOST_REMEDIES])
        yield f"Would save, each by itself and at most: {shown}."


def _notes(run: Run, case: Case) -> Iterator[str]:
    """What cannot be said, and what would let it be said."""
    steps, rounds = int(case.kept.sum()), int(case.rounds.sum())
    if steps < FEWEST:
        yield f"drift, in {counted(steps, 'step')} (it takes {FEWEST})"
    if run.columns.axis == "statistic":
        yield "which rank is slow, as the log keeps statistics over ranks (log.ranks: all)"
    elif case.num_ranks == 1:
        yield "waiting and network, of 1 rank"
    elif case.method == "none":
        yield "waiting and network, as the loop's own communication is in no span of this log (algorithm: none)"
    elif rounds < FEWEST_ROUNDS:
        yield f"which rank is slow, in {counted(rounds, 'synchronisation')} (it takes {FEWEST_ROUNDS})"
    elif len(case.labels) < case.num_ranks:
        yield f"which rank is slow, but of the {len(case.labels)} of {case.num_ranks} that the log keeps"
    if fixed_part(case.digest.num_samples[case.kept], case.digest.usual["compute"][case.kept]) is None:
        batch = float(np.median(case.digest.num_samples[case.kept]))
        yield f"what larger batches gain, as all are of {batch:g} samples (run some steps at twice that)"
