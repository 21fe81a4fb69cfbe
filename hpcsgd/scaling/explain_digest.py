"""The times of a run in the form that causes are read from: per step, per rank and per synchronisation.

A log of many ranks is taken in blocks of steps. What is kept of each ``[steps, ranks]`` column is its mean and median
over the ranks, and of each synchronisation by how much every rank was late: one number of 4 bytes a rank.

All ranks leave a blocking synchronisation together, so a rank that is in it for less time came later by just that: the
clocks of ranks need not agree. What a rank was late by its evaluation, checkpoint or log is told from the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.record.schema import EXPOSED_SPANS, SPANS
from hpcsgd.scaling.explain_late import BLOCK, above_median, fewest, last_of, relative, wasted

Floats = NDArray[np.float64]

PARTS = ("input", "compute", "network", "waiting", "evaluation", "checkpoint", "logging", "other")
"""What the time of a run is made of."""

ASIDE = ("evaluation", "checkpoint", "logging")
TRAINING = ("input", "compute", "other")
"""Parts that may make a rank late."""

STAMPS = ("sync_enter_seconds", "sync_exit_seconds")
SPAN_NAMES = tuple(column.name for column in SPANS)
COLUMNS = ("start_seconds", "wall_seconds", "num_samples", "utilisation", *SPAN_NAMES, *STAMPS)
"""The columns ``[step, rank]`` that are looked at."""

_COMPUTE = ("forward_seconds", "backward_seconds", "update_seconds")


@dataclass(frozen=True, eq=False)
class Digest:
    """A run's times. n steps, m synchronisations, R ranks; seconds.

    Attributes:
        parts: of ``PARTS``, means over the ranks, [n] each; together they are the time of a step. What ranks wait for
            one that evaluates, keeps a checkpoint or writes the log is that part's.
        usual: ``input`` and ``compute`` of the median rank, [n] each.
        start, end: of each step on the run's clock, [n].
        num_samples: of the median rank, [n].
        utilisation: mean over ranks and steps; NaN: not sampled.
        rounds: the step (as a row) that ended with each synchronisation, [m].
        lateness: how long after the median rank each came to it, [m, R]; negative: before it; NaN: it was not there.
            What it was late by evaluation, checkpoint and log is taken off. None: of a log of statistics.
        lag: of the last rank, by ``TRAINING``: how much longer than the mean of all it took, [m, 3].
        rank_means: of each of ``TRAINING``, the mean of each rank over the steps that it was there, [R].
        groups: ranks that synchronise with each other in blocks, as indices.
        in_blocks: whether the synchronisation was of blocks, [m].
    """

    parts: dict[str, Floats]
    usual: dict[str, Floats]
    start: Floats
    end: Floats
    num_samples: Floats
    utilisation: float
    rounds: NDArray[np.int64]
    lateness: NDArray[np.float32] | None
    lag: Floats
    rank_means: dict[str, Floats]
    groups: list[NDArray[np.int64]]
    in_blocks: NDArray[np.bool_]

    @property
    def seconds(self) -> Floats:
        """Time of each step, [n]: the sum of its parts."""
        return np.asarray(sum(self.parts.values()))


def digest(
    action: NDArray[Any],
    blocks: Iterable[Mapping[str, NDArray[Any]]],
    *,
    of_ranks: bool = True,
    rank_blocks: Sequence[int] | None = None,
) -> Digest:
    """Digest the columns of a log.

    Args:
        action: of each step, as numbers of ``ACTIONS``, [n].
        blocks: ``COLUMNS`` of some steps after another, [steps, ranks] each; NaN: the rank was lost. Of statistics,
            [steps, 3].
        of_ranks: whether the second axis is ranks, and not minimum, median and maximum over them.
        rank_blocks: the block of each rank, [R]; unset, all are in one.
    """
    done: list[_Part] = []
    before = 0
    state = _Ranks(rank_blocks) if of_ranks else None
    for columns in blocks:
        own = own_parts(columns)
        acts = np.asarray(action[before : before + len(own["compute"])])
        before += len(acts)
        done.append(state.add(acts, own, columns) if state is not None else _of_statistics(acts, own, columns))
    return _joined(done, state)


def own_parts(columns: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
    """What a rank does by itself, [steps, ranks] each, and ``sync``, in which it waits for others and sends."""
    own = {
        "input": columns["data_seconds"],
        "compute": sum(columns[name] for name in _COMPUTE),
        "sync": sum(columns[name] for name in EXPOSED_SPANS),
        **{name: columns[f"{name}_seconds"] for name in ASIDE},
    }
    own["other"] = np.maximum(columns["wall_seconds"] - sum(own.values()), 0.0)
    return {name: np.asarray(values, np.float64) for name, values in own.items()}


@dataclass(frozen=True, eq=False)
class _Part:
    """The digest of some steps, rows counted from the first of them."""

    parts: dict[str, Floats]
    usual: dict[str, Floats]
    start: Floats
    end: Floats
    num_samples: Floats
    utilisation: Floats
    rounds: NDArray[np.int64]
    lateness: NDArray[np.float32] | None
    lag: Floats
    in_blocks: NDArray[np.bool_]


def _of_statistics(acts: NDArray[Any], own: dict[str, Floats], columns: Mapping[str, NDArray[Any]]) -> _Part:
    """Of minimum, median and maximum over the ranks, [steps, 3]: the median rank waits for all but the shortest stay.

    Checkpoint, log and evaluation are as long as on the rank that they took longest, for whom the others wait.
    """
    low, middle, high = range(3)
    parts = {name: own[name][:, middle] for name in TRAINING} | {name: own[name][:, high] for name in ASIDE}
    aside = sum(own[name][:, high] - own[name][:, middle] for name in ASIDE)
    parts["network"] = own["sync"][:, low]
    parts["waiting"] = np.maximum(own["sync"][:, middle] - own["sync"][:, low] - aside, 0.0)
    return _Part(
        parts=parts,
        usual={name: parts[name] for name in ("input", "compute")},
        start=columns["start_seconds"][:, middle],
        end=columns["start_seconds"][:, middle] + columns["wall_seconds"][:, middle],
        num_samples=np.asarray(columns["num_samples"][:, middle], np.float64),
        utilisation=columns["utilisation"][:, middle],
        rounds=np.flatnonzero(acts),
        lateness=None,
        lag=np.zeros((np.count_nonzero(acts), len(TRAINING))),
        in_blocks=acts[acts > 0] == BLOCK,
    )


class _Ranks:
    """Digests blocks of a log of ranks, one after another."""

    def __init__(self, rank_blocks: Sequence[int] | None) -> None:
        numbers = np.asarray(rank_blocks) if rank_blocks is not None else np.zeros(0, int)
        self.groups = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
        self.sums: dict[str, Floats] = {}
        self.steps: Floats = np.zeros(0)
        self._since: dict[str, Floats] = {}
        """Of each rank, since the last synchronisation."""
        self._evaluated: Floats = np.zeros(0)
        """Of each rank, after the last step."""

    def add(self, acts: NDArray[Any], own: dict[str, Floats], columns: Mapping[str, NDArray[Any]]) -> _Part:
        """Digest some steps."""
        there = ~np.isnan(columns["wall_seconds"])
        whole = bool(there.all())
        if not self.sums:
            width = there.shape[1]
            self.steps = np.zeros(width)
            self.sums = {name: np.zeros(width) for name in TRAINING}
            self._since = {name: np.zeros(width) for name in (*TRAINING, *ASIDE)}
            self._evaluated = np.zeros(width)
        self.steps = self.steps + there.sum(axis=0)
        for name in TRAINING:
            self.sums[name] = self.sums[name] + np.nansum(own[name], axis=0)
        wait = self._waits(acts, own["sync"], columns)
        mean = np.mean if whole else np.nanmean
        parts = {name: mean(own[name], axis=1) for name in (*TRAINING, *ASIDE)}
        parts["waiting"] = mean(wait, axis=1)
        parts["network"] = mean(own["sync"], axis=1) - parts["waiting"]
        ends = np.flatnonzero(acts)
        lateness, lag = self._rounds(acts, ends, own, wait, parts)
        median = np.median if whole else np.nanmedian
        start = mean(columns["start_seconds"], axis=1)
        return _Part(
            parts=parts,
            usual={name: median(own[name], axis=1) for name in ("input", "compute")},
            start=start,
            end=start + mean(columns["wall_seconds"], axis=1),
            num_samples=median(columns["num_samples"].astype(np.float64), axis=1),
            utilisation=columns["utilisation"].mean(axis=1),
            rounds=ends,
            lateness=lateness,
            lag=lag,
            in_blocks=acts[ends] == BLOCK,
        )

    def _waits(self, acts: NDArray[Any], sync: Floats, columns: Mapping[str, NDArray[Any]]) -> Floats:
        """How long each rank waited for the last, [steps, ranks]: its stay less the shortest of those it met."""
        stay = columns["sync_exit_seconds"] - columns["sync_enter_seconds"]
        # In the queue of a GPU nothing is stamped: there the span is the stay. What is late counts by its span, too.
        stay = np.where(np.isnan(stay), sync, stay)
        shortest = fewest(stay)
        wait = stay - shortest[:, None]
        rows = np.flatnonzero(acts == BLOCK)
        for group in self.groups if len(rows) else []:
            part = stay[np.ix_(rows, group)]
            wait[np.ix_(rows, group)] = part - fewest(part)[:, None]
        return np.clip(wait, 0.0, np.maximum(sync, 0.0))

    def _rounds(
        self,
        acts: NDArray[Any],
        ends: NDArray[np.int64],
        own: dict[str, Floats],
        wait: Floats,
        parts: dict[str, Floats],
    ) -> tuple[NDArray[np.float32], Floats]:
        """Lateness [rounds, ranks] and lag [rounds, 3] of the synchronisations, and what asides cost others, in place.

        A step's evaluation comes after its synchronisation, and makes ranks late for the next.
        """
        after = np.concatenate((self._evaluated[None], own["evaluation"][:-1]))
        self._evaluated = own["evaluation"][-1]
        since = {
            name: self._take(name, after if name == "evaluation" else own[name], ends) for name in (*TRAINING, *ASIDE)
        }
        stay_less = -wait[ends]
        late = relative(stay_less, self.groups, acts[ends])
        excess = {name: above_median(since[name]) for name in ASIDE}
        trained = late - sum(excess.values())
        moved = np.maximum(wasted(late, self.groups, acts[ends]) - wasted(trained, self.groups, acts[ends]), 0.0)
        moved = np.minimum(moved, parts["waiting"][ends])
        rows, last = np.arange(len(ends)), last_of(late)
        of_last = np.stack([np.maximum(excess[name][rows, last], 0.0) for name in ASIDE], axis=1)
        totals = of_last.sum(axis=1)
        for place, name in enumerate(ASIDE):
            share = np.divide(of_last[:, place], totals, out=np.zeros(len(ends)), where=totals > 0)
            parts[name][ends] += moved * share
        parts["waiting"][ends] -= np.where(totals > 0, moved, 0.0)
        last = last_of(trained)
        lag = np.stack([since[name][rows, last] - since[name].mean(axis=1) for name in TRAINING], axis=1)
        return trained.astype(np.float32), lag

    def _take(self, name: str, values: Floats, ends: NDArray[np.int64]) -> Floats:
        """The sums of a part of each rank between synchronisations, [rounds, ranks]; the rest is for the next block."""
        values = np.nan_to_num(values)
        if not len(ends):
            self._since[name] = self._since[name] + values.sum(axis=0)
            return np.zeros((0, values.shape[1]))
        starts = np.concatenate(([0], ends[:-1] + 1))
        sums = np.add.reduceat(values[: ends[-1] + 1], starts, axis=0)
        sums[0] += self._since[name]
        self._since[name] = values[ends[-1] + 1 :].sum(axis=0)
        return np.asarray(sums)


def _joined(done: Sequence[_Part], state: _Ranks | None) -> Digest:
    """The digests of blocks, one after another."""
    sizes = [len(part.start) for part in done]
    begins = np.concatenate(([0], np.cumsum(sizes[:-1]))).astype(int)

    def join(values: Iterable[Any]) -> Any:
        return np.concatenate(list(values))

    with np.errstate(invalid="ignore"):
        used = join(part.utilisation for part in done)
        means = {name: total / state.steps for name, total in state.sums.items()} if state is not None else {}
    known = used[~np.isnan(used)]
    return Digest(
        parts={name: join(part.parts[name] for part in done) for name in PARTS},
        usual={name: join(part.usual[name] for part in done) for name in ("input", "compute")},
        start=join(part.start for part in done),
        end=join(part.end for part in done),
        num_samples=join(part.num_samples for part in done),
        utilisation=float(known.mean()) if len(known) else float("nan"),
        rounds=join(part.rounds + begin for part, begin in zip(done, begins, strict=True)),
        lateness=join(part.lateness for part in done) if state is not None else None,
        lag=join(part.lag for part in done),
        rank_means=means,
        groups=state.groups if state is not None else [],
        in_blocks=join(part.in_blocks for part in done),
    )
