"""Chrome's Trace Event Format, which ui.perfetto.dev, chrome://tracing and others open.

A process a rank, with two threads. The first holds the iterations and in each its spans, of which the log knows how
long they took and not when they began: they are laid one after another from the beginning of the iteration, in the
order in which the loop does them (``ORDER``), and what is in no span comes last. What is interleaved (the passes of
several learners; the logging, a part of which ends an iteration) is one event. On a GPU the spans are of its queue,
and the beginning of the iteration is the host's: one that would begin before the end of the last begins there. The
second holds the synchronisations, whose beginning and end are logged, with arrows from the last rank to enter, for
which all others wait, to each of them. Each call of a block of hierarchical averaging is one of its own. A gradient
allreduce that the backward pass hides is entered when it is waited for: who had left it before has no arrow.

Format: "Trace Event Format" (Google, 2016): ``ts`` and ``dur`` are microseconds, here with three digits behind the
point.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.errors import UsageError
from hpcsgd.export.course import nanoseconds, per_step, segment_offsets
from hpcsgd.export.excerpt import Excerpt
from hpcsgd.files import whole

if TYPE_CHECKING:
    import pandas as pd

ORDER = (
    *("checkpoint", "logging", "data", "forward", "backward", "gradient_allreduce", "update", "averaging"),
    "evaluation",
)
"""The spans, as the loop of :mod:`hpcsgd.train` does them."""

LAID = (
    "Spans are laid one after another from the start of their iteration, in the order of the loop: the log has their "
    "durations, not their beginnings. Synchronisations are drawn from their logged beginning to their logged end."
)
SYNCHRONISATIONS = {"gradient": "gradient allreduce", "block": "block averaging", "global": "averaging"}
RUN_PID = 1
"""Of what is no rank's. Rank r is process r + 2: 0 has a meaning of its own in traces of Linux."""

Event = dict[str, Any]


def write(excerpts: list[Excerpt], path: Path) -> list[Path]:
    """Write the trace of one run, compressed if the name ends in ``.gz``.

    Raises:
        UsageError: the log keeps statistics over the ranks.
        OSError: it cannot be written.
    """
    (excerpt,) = excerpts
    document = json.dumps(
        {"displayTimeUnit": "ms", "otherData": _about(excerpt), "traceEvents": list(events(excerpt))},
        separators=(",", ":"),
        allow_nan=False,
    ).encode()
    with whole(path) as unfinished:
        # Without a time of its own, the same log gives the same file.
        unfinished.write_bytes(gzip.compress(document, 5, mtime=0) if path.name.endswith(".gz") else document)
    return [path]


def events(excerpt: Excerpt) -> Iterator[Event]:
    """The events: names, then spans, synchronisations, arrows, and counters.

    Raises:
        UsageError: the log keeps statistics over the ranks.
    """
    check_ranks(excerpt, "chrome")
    frame = offset_rows(excerpt)
    yield from _names(excerpt)
    for rank, rows in frame.groupby("rank"):
        yield from _spans(int(rank), rows)
    yield from _synchronisations(frame, excerpt.run.ranks)
    yield from _counters(excerpt, frame)


def check_ranks(excerpt: Excerpt, form: str) -> None:
    """Raises ``UsageError`` of a log that keeps statistics over the ranks."""
    if not excerpt.has_ranks:
        raise UsageError(
            f"{excerpt.run.path}: it keeps minimum, median and maximum over the ranks (log.ranks: summary), of which "
            f"no rank's course is known: --to {form} needs a log of ranks; csv, parquet and tensorboard do not"
        )


def offset_rows(excerpt: Excerpt) -> pd.DataFrame:
    """The iterations that are exported, with ``offset``: what brings their times to the clock of the first segment."""
    offsets = excerpt.iterations["segment"].map(segment_offsets(excerpt.run)).astype(float)
    return excerpt.iterations.assign(offset=offsets)


def _about(excerpt: Excerpt) -> dict[str, Any]:
    """What a reader of the file should know."""
    steps = excerpt.steps
    about = {"made_by": "hpcsgd export --to chrome", "run": str(excerpt.run.path.parent.resolve().name), "order": LAID}
    about |= {"steps": f"{steps.min()} to {steps.max()}", "algorithm": _algorithm(excerpt)}
    return about | ({"emulated": excerpt.run.emulated} if excerpt.run.emulated else {})


def _algorithm(excerpt: Excerpt) -> str:
    return str(excerpt.run.config.get("algorithm", {}).get("name", "?"))


def _names(excerpt: Excerpt) -> Iterator[Event]:
    """Names and order of processes and threads."""
    emulated = " (emulated)" if excerpt.run.emulated else ""
    yield _metadata("process_name", RUN_PID, 0, name=f"run{emulated}: {_algorithm(excerpt)}")
    yield _metadata("process_sort_index", RUN_PID, 0, sort_index=-1)
    about = excerpt.run.ranks.set_index("rank")
    for rank in map(int, excerpt.iterations["rank"].unique()):
        node, device = (about.at[rank, key] if rank in about.index else "?" for key in ("node", "device"))
        pid, tid = _pid(rank), _tid(rank)
        yield _metadata("process_name", pid, tid, name=f"rank {rank}{emulated}: {node}, {device}")
        yield _metadata("process_sort_index", pid, tid, sort_index=rank)
        yield _metadata("thread_name", pid, tid, name="training loop")
        yield _metadata("thread_name", pid, tid + 1, name="synchronisation")


def _metadata(kind: str, pid: int, tid: int, **args: object) -> Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "args": args}


def _pid(rank: int) -> int:
    return rank + 2


def _tid(rank: int) -> int:
    """Of a rank's training loop; its synchronisations have the next."""
    return 2 * rank + 4


def laid(rows: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """When each iteration of a rank begins, how long it takes, and so each of ``ORDER`` in it, in nanoseconds.

    Returns:
        ``[n]``, ``[n]`` and ``[n, len(ORDER)]``: spans one after another from the beginning of their iteration.
    """
    lengths = np.stack([nanoseconds(rows[f"{name}_seconds"]).clip(0) for name in ORDER], axis=1)
    wall = np.maximum(nanoseconds(rows["wall_seconds"]), lengths.sum(axis=1))
    start = nanoseconds(rows["start_seconds"] + rows["offset"])
    # None begins before the end of the one before it: b_i = max(s_i, b_{i-1} + w_{i-1}).
    before = np.cumsum(wall) - wall
    return before + np.maximum.accumulate(start - before), wall, lengths


def _spans(rank: int, rows: pd.DataFrame) -> Iterator[Event]:
    """The iterations of a rank, and the spans in them."""
    begin, wall, lengths = laid(rows)
    ends = begin[:, None] + np.cumsum(lengths, axis=1)
    where = {"pid": _pid(rank), "tid": _tid(rank)}
    shown = ("step", "epoch", "action", "loss", "num_samples", "learning_rate", "hidden_seconds")
    args = [dict(zip(shown, values, strict=True)) for values in zip(*(rows[n].tolist() for n in shown), strict=True)]
    for row, own in enumerate(args):
        title = f"step {own['step']}"
        yield _complete(title, "iteration", begin[row], wall[row], where, own)
        for name, end, length in zip(ORDER, ends[row].tolist(), lengths[row].tolist(), strict=True):
            if length:
                yield _complete(name, "span", end - length, length, where, {})


def _complete(
    name: str, category: str, begin: int, length: int, where: Mapping[str, int], args: Mapping[str, object]
) -> Event:
    """A complete event, of nanoseconds."""
    known = {key: value for key, value in args.items() if not (isinstance(value, float) and not math.isfinite(value))}
    times = {"ts": int(begin) / 1000, "dur": int(length) / 1000}
    return {"ph": "X", "name": name, "cat": category, **times, **where, **({"args": known} if known else {})}


def _synchronisations(frame: pd.DataFrame, ranks: pd.DataFrame) -> Iterator[Event]:
    """What ranks did together, and the arrows from the last of each call."""
    entered = frame["sync_enter_seconds"].notna() & frame["sync_exit_seconds"].notna()
    calls = frame[entered & (frame["action"] != "none")]
    if calls.empty:
        return
    block = calls["rank"].map(ranks.set_index("rank")["block"]).where(calls["action"] == "block", 0)
    enter = nanoseconds(calls["sync_enter_seconds"] + calls["offset"])
    leave = np.maximum(nanoseconds(calls["sync_exit_seconds"] + calls["offset"]), enter)
    calls = calls[["step", "rank", "action", "sync_bytes"]].assign(group=block, enter=enter, leave=leave)
    arrows = 0
    for (step, _), call in calls.sort_values(["step", "group", "enter", "rank"]).groupby(["step", "group"], sort=False):
        rows = list(zip(call["rank"].tolist(), call["enter"].tolist(), call["leave"].tolist(), strict=True))
        name = SYNCHRONISATIONS.get(call["action"].iloc[0], call["action"].iloc[0])
        last, last_enter, _ = rows[-1]
        for rank, begin, end in rows:
            waited = max(min(end, last_enter) - begin, 0) / 1e9
            args = {"step": step, "sync_bytes": int(call["sync_bytes"].iloc[0]), "wait_seconds": waited, "last": last}
            yield _complete(
                name, "synchronisation", begin, end - begin, {"pid": _pid(rank), "tid": _tid(rank) + 1}, args
            )
        for rank, begin, end in rows[:-1]:
            # It left before the last came: the call was under way since the backward pass, or clocks differ a little.
            if begin <= last_enter < end:
                yield _arrow("s", name, arrows, last_enter, last)
                yield {**_arrow("f", name, arrows, last_enter, rank), "bp": "e"}
                arrows += 1


def _arrow(phase: str, name: str, number: int, when: int, rank: int) -> Event:
    """An end of an arrow between two ranks."""
    where = {"pid": _pid(rank), "tid": _tid(rank) + 1}
    return {"ph": phase, "name": name, "cat": "synchronisation", "id": number, "ts": when / 1000, **where}


def _counters(excerpt: Excerpt, frame: pd.DataFrame) -> Iterator[Event]:
    """Loss and throughput of the run, and the share of communication that each rank's training was held up by."""
    from hpcsgd.record.frames import training_seconds

    table = per_step(excerpt)
    starts = frame["start_seconds"] + frame["offset"]
    times = nanoseconds(starts.groupby(frame["step"]).min().reindex(table.index))
    for name, column in (("loss", "loss"), ("samples/s", "samples_per_second")):
        for when, value in zip(times.tolist(), table[column].tolist(), strict=True):
            if math.isfinite(value):
                yield _counter(name, when, RUN_PID, 0, value)
    seconds = training_seconds(frame)
    exposed = (frame["gradient_allreduce_seconds"] + frame["averaging_seconds"]) / seconds.where(seconds > 0)
    for rank, when, share in zip(frame["rank"].tolist(), nanoseconds(starts).tolist(), exposed.tolist(), strict=True):
        if math.isfinite(share):
            yield _counter("exposed share", when, _pid(rank), _tid(rank), round(share, 6))


def _counter(name: str, when: int, pid: int, tid: int, value: float) -> Event:
    return {"ph": "C", "name": name, "ts": when / 1000, "pid": pid, "tid": tid, "args": {"value": value}}
