"""Who is waited for: ranks or nodes that are always slow, or another rank each time.

In a synchronous step the culprit is the last to arrive. A rank is slow where it is later than the median rank on
average, by more than chance lets one of so many be (Student's t of its lateness, at as many numbers as are independent,
times the number of ranks), in every quarter of the run or from one step on, and where curing it would save at least
``LEAST_SHARE``. What is left of the waiting is jitter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcsgd.record.schema import ACTIONS
from hpcsgd.record.summary import seconds
from hpcsgd.scaling.causes import LEAST_SHARE, Case, Finding, Remedy, percent
from hpcsgd.scaling.causes_chance import best_split, chance_of_mean, correlation_time
from hpcsgd.scaling.explain_digest import TRAINING
from hpcsgd.scaling.explain_late import BLOCK, last_of, latest, wasted

Floats = NDArray[np.float64]

FEWEST_ROUNDS = 6
"""Synchronisations without which no rank is told from chance."""

LEAST_CHANCE = 0.01
"""Of one rank or more that would be called slow in a run where all are alike."""

LEAST_CHANCE_SINCE = 1e-5
"""The same for a rank that is slow from some step on: there are as many such steps as synchronisations."""

ALIKE = 0.25
"""Of the latest rank's lateness, that others have who are slow with it, and that it has in each quarter of the run."""

MOST_TESTED = 64
"""Ranks, the latest ones, that are tested: more would be no culprits, but the half."""

MOST_NAMED = 4


@dataclass(frozen=True, eq=False)
class Slow:
    """Ranks that are always slow.

    Attributes:
        places: of them, among those that the log keeps.
        lateness: of each, against the median rank, in seconds.
        chance: the largest probability that one is so by chance, for all ranks together.
        since: the synchronisation from which on they are; 0: always.
        saved: seconds of each synchronisation, were they like the median rank, [m].
        left: lateness of all ranks then, [m, R].
    """

    places: tuple[int, ...]
    lateness: tuple[float, ...]
    chance: float
    since: int
    saved: Floats
    left: NDArray[np.float32]


def causes_of_ranks(case: Case) -> Iterator[Finding]:
    """Ranks or nodes that others wait for, and waiting for another rank each time."""
    lateness = case.digest.lateness
    explained = 0.0
    if lateness is not None and lateness.shape[1] > 1 and case.rounds.any():
        lateness = lateness[case.rounds]
        slow = find_slow(case, lateness)
        if slow is not None:
            share = float(slow.saved.sum()) / case.seconds
            yield _slow_finding(case, lateness, slow, share)
            lateness, explained = slow.left, share
        jitter = float(wasted(lateness, case.digest.groups, _acts(case)).sum()) / case.seconds
        jitter = min(jitter, case.shares["waiting"])
        if jitter >= LEAST_SHARE:
            explained += jitter
            yield _jitter_finding(case, lateness, slow, jitter)
    rest = case.shares["waiting"] - explained
    if rest >= max(LEAST_SHARE, explained):
        text = f"Waiting: ranks wait {percent(rest)} of the time for others; which ones, this log does not tell."
        yield Finding("waiting", rest, text, (Remedy("no waiting", rest),))


def find_slow(case: Case, lateness: NDArray[np.float32]) -> Slow | None:
    """The ranks that are always slow in some synchronisations, [m, R]; None: there are none, or they cost little."""
    if len(lateness) < FEWEST_ROUNDS:
        return None
    late = np.median(lateness, axis=0).astype(np.float64)
    for since in (0, _since(lateness)):
        if since:
            late = np.median(lateness[since:], axis=0) - np.median(lateness[:since], axis=0)
        found = _cured(case, lateness, np.asarray(late, np.float64), since)
        if found is not None and found.saved.sum() >= LEAST_SHARE * case.seconds:
            return found
    return None


def _since(lateness: NDArray[np.float32]) -> int:
    """The synchronisation from which on the latest rank of the second half is late."""
    half = lateness[len(lateness) // 2 :]
    series = np.nan_to_num(lateness[:, int(np.nan_to_num(half.mean(axis=0)).argmax())]).astype(np.float64)
    split, _ = best_split(series)
    enough = FEWEST_ROUNDS <= split <= len(series) - FEWEST_ROUNDS
    return split if enough and series[split:].mean() > series[:split].mean() else 0


def _cured(case: Case, lateness: NDArray[np.float32], late: Floats, since: int) -> Slow | None:
    """What there is without those of the latest ranks that are so beyond chance."""
    width = lateness.shape[1]
    top = np.nan_to_num(late).max()
    order = np.argsort(-np.nan_to_num(late))[: min(MOST_TESTED, width // 2)]
    places, worst = [], 0.0
    for place in (int(p) for p in order if late[p] >= ALIKE * top > 0):
        chance = _chance(lateness[:, place].astype(np.float64), float(late[place]), since) * width
        if chance <= (LEAST_CHANCE_SINCE if since else LEAST_CHANCE):
            places.append(place)
            worst = max(worst, chance)
    if not places:
        return None
    left = lateness.copy()
    left[since:, places] -= late[places].astype(np.float32)
    acts, groups = _acts(case), case.digest.groups
    saved = latest(lateness, groups, acts) - latest(left, groups, acts)
    places.sort()
    return Slow(tuple(places), tuple(float(late[p]) for p in places), worst, since, np.maximum(saved, 0.0), left)


def _chance(series: Floats, late: float, since: int) -> float:
    """The probability that a rank is so late by chance; 1: not in every quarter of the time."""
    series = series[~np.isnan(series)]
    before, after = series[:since], series[since:]
    if len(after) < FEWEST_ROUNDS:
        return 1.0
    level = float(np.median(before)) if since else 0.0
    quarters = np.array_split(after, 4)
    if any(float(np.median(quarter)) - level < ALIKE * late for quarter in quarters):
        return 1.0
    return chance_of_mean(after - level)


def _acts(case: Case) -> NDArray[np.int64]:
    """The action of each synchronisation that counts, as far as its groups go."""
    return np.where(case.digest.in_blocks[case.rounds], BLOCK, ACTIONS.index("global"))


def _slow_finding(case: Case, lateness: NDArray[np.float32], slow: Slow, share: float) -> Finding:
    ranks = tuple(int(case.labels[place]) for place in slow.places)
    node = _node_of(case, slow.places)
    part, own, usual = _most_behind(case, slow.places)
    lasts = int(np.isin(last_of(lateness[slow.since :]), slow.places).sum())
    total, chance = len(lateness) - slow.since, len(ranks) / lateness.shape[1]
    since = ""
    if slow.since:
        since = f" since step {case.steps[case.digest.rounds[case.rounds][slow.since]]}"
    names = _names(ranks)
    who = f"Node {node} ({names})" if node else names[0].upper() + names[1:]
    verb = "is" if node or len(ranks) == 1 else "are"
    what = {"input": "reading data takes", "compute": "compute takes", "other": "what is in no span takes"}[part]
    text = (
        f"{who} {verb} slow{since or ' all along'}: {what} {seconds(own)} a step, {seconds(usual)} on the median rank; "
        f"last in {lasts} of {total} synchronisations ({chance * total:.0f} by chance), which costs {percent(share)} "
        "of the time."
    )
    cure = f"no slow {'node' if node else 'rank'}"
    return Finding("slow_node" if node else "slow_rank", share, text, (Remedy(cure, share),), ranks, node)


def _names(ranks: Sequence[int]) -> str:
    """``rank 3``, ``ranks 2, 3``."""
    shown = ", ".join(str(rank) for rank in ranks[:MOST_NAMED])
    more = f" and {len(ranks) - MOST_NAMED} more" if len(ranks) > MOST_NAMED else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}{more}"


def _node_of(case: Case, places: Sequence[int]) -> str:
    """The node whose ranks, two or more, these are; empty: not all of one."""
    nodes = {case.nodes[place] for place in places}
    if len(nodes) > 1 or len(places) < 2 or len(set(case.nodes)) < 2:
        return ""
    node = next(iter(nodes))
    return node if len(places) == sum(other == node for other in case.nodes) else ""


def _most_behind(case: Case, places: Sequence[int]) -> tuple[str, float, float]:
    """The part in which these ranks are farthest behind: its name, their mean, and that of the median rank."""
    means = case.digest.rank_means
    found = []
    for name in TRAINING:
        own, usual = float(np.mean(means[name][list(places)])), float(np.nanquantile(means[name], 0.5, method="lower"))
        found.append((own - usual, name, own, usual))
    _, name, own, usual = max(found)
    return name, own, usual


def _jitter_finding(case: Case, lateness: NDArray[np.float32], slow: Slow | None, share: float) -> Finding:
    """Waiting for another rank each time."""
    counts = np.bincount(last_of(lateness), minlength=lateness.shape[1])
    most, total = int(counts.argmax()), len(lateness)
    lag = np.maximum(case.digest.lag[case.rounds], 0.0).sum(axis=0)
    where, part = int(lag.argmax()), float(lag.max() / lag.sum()) if lag.sum() else 0.0
    in_what = {"input": "reading data", "compute": "compute", "other": "what is in no span"}[TRAINING[where]]
    length = _lasts(lateness)
    besides = "beside that, " if slow is not None else ""
    goes_on = f"goes on for about {length:.0f} of them" if length >= 1.5 else "is new in each"
    text = (
        f"Jitter: {besides}ranks wait {percent(share)} of the time for a last one that changes (the same in "
        f"{counts[most]} of {total} synchronisations at most, {total / lateness.shape[1]:.0f} by chance); "
        f"{percent(part)} of it is in {in_what}, and it {goes_on}."
    )
    return Finding("jitter", share, text, (Remedy("no jitter", share),))


def jitter_lasts(case: Case) -> float:
    """For how many synchronisations a rank's lateness goes on, about; 1: it is new in each."""
    lateness = case.digest.lateness
    return _lasts(lateness[case.rounds]) if lateness is not None and case.rounds.sum() >= FEWEST_ROUNDS else 1.0


def _lasts(lateness: NDArray[np.float32]) -> float:
    """The median over ranks, of which some are enough, of the correlation time."""
    some = np.linspace(0, lateness.shape[1] - 1, min(32, lateness.shape[1])).astype(int)
    return float(np.median([correlation_time(np.nan_to_num(lateness[:, r]).astype(np.float64)) for r in some]))
