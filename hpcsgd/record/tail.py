"""The end of a run's log: what its last iterations say, without the rest being read, also while the run writes."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.config.conduct import FEWEST_BY_TIME
from hpcsgd.errors import UsageError, reason
from hpcsgd.record.columns import settled
from hpcsgd.record.older import METRIC_ROWS_SINCE
from hpcsgd.record.schema import EXPOSED_SPANS, OWN_SPANS, STATUS
from hpcsgd.record.sound import check_log, num_stored, read_provenance
from hpcsgd.record.summary import main_metrics, metric_text

if TYPE_CHECKING:
    import h5py

NUM_ROWS = 100
"""Of the last iterations, of which the rate and the shares are told."""

NUM_EVALUATIONS = 64


@dataclass(frozen=True)
class Tail:
    """What the end of a log says; of iterations, where there are any, over the last ``NUM_ROWS`` of them.

    Attributes:
        status: one of ``schema.STATUS``; a killed run still says ``running``.
        num_ranks: ranks.
        written: when the file was written last, by the clock of its file system, seconds since 1970.
        total_steps: steps of the run; None: nobody knows.
        num_steps: steps done.
        epochs: epochs done; None: nobody knows how long one is.
        samples_per_second: of all ranks, without evaluations, at the pace of the slowest.
        loss: of the last iteration, mean over ranks.
        exposed_fraction: share of time in communication that compute did not hide, mean over ranks.
        slowest_rank, slowest_excess: the rank whose own work takes longest, and by what part of the median over ranks
            it takes longer; None and NaN: the log does not tell ranks apart.
        seconds_left: at the pace of the present segment, with its evaluations and checkpoints; None: not known.
        flush_seconds: usual time between two writes; NaN: not known.
        metric: the last of the test split, or else of another one, in words; empty: none yet.
    """

    status: str
    num_ranks: int
    written: float
    total_steps: int | None = None
    num_steps: int = 0
    epochs: float | None = None
    samples_per_second: float = math.nan
    loss: float = math.nan
    exposed_fraction: float = math.nan
    slowest_rank: int | None = None
    slowest_excess: float = math.nan
    seconds_left: float | None = None
    flush_seconds: float = math.nan
    metric: str = ""


class Follower:
    """Looks at a log again and again; reads only where it was written, and then only its end."""

    def __init__(self, file: Path) -> None:
        """``file``: the ``run.h5``, which may not be there yet."""
        self.file = file
        self._stamp: tuple[int, int, int] | None = None
        self._tail: Tail | None = None
        self._checked: tuple[int, int] | None = None

    def look(self) -> Tail | None:
        """The end of the log as it is now; None: there is no log.

        Raises:
            UsageError: it cannot be read.
        """
        try:
            found = self.file.stat()
        except FileNotFoundError:
            self._stamp = self._tail = None
            return None
        except OSError as error:
            raise UsageError(f"{self.file}: cannot be read: {reason(error)}") from error
        stamp = found.st_ino, found.st_size, found.st_mtime_ns
        if stamp != self._stamp or self._tail is None:
            self._tail = self._read(found)
            self._stamp = stamp
        return self._tail

    def _read(self, found: os.stat_result) -> Tail:
        """Read the end: where the run writes meanwhile, once more."""
        import h5py

        def read() -> Tail:
            # What a reader can reach is settled when it opens the file: count first, then open it anew.
            with h5py.File(self.file, "r", locking=False) as log:
                version, num_rows = self._version(log, found.st_ino), _complete(log["iterations/step"])
            with h5py.File(self.file, "r", locking=False) as log:
                return _tail(log, version, num_rows, found.st_mtime)

        return settled(self.file, read)

    def _version(self, log: h5py.File, inode: int) -> int:
        """The schema version; every column is looked at once in each file that comes to be here."""
        if self._checked is None or self._checked[0] != inode:
            self._checked = inode, check_log(log)
        return self._checked[1]


def _complete(step: h5py.Dataset) -> int:
    """How many rows of the iterations are complete, looking from the end: as many as have a step."""
    stop, window = num_stored(step), 1024
    while stop:
        begin = max(0, stop - window)
        known = np.flatnonzero(step[begin:stop] >= 0)
        if len(known):
            return begin + int(known[-1]) + 1
        stop, window = begin, 2 * window
    return 0


def _tail(log: h5py.File, version: int, num_rows: int, written: float) -> Tail:
    """The end of an open log, of which so many iterations are complete."""
    provenance = read_provenance(log)
    status = log["status"][()].decode("utf-8", "replace")
    facts: dict[str, Any] = {
        "status": status if status in STATUS else STATUS[0],
        "num_ranks": num_stored(log["ranks/rank"]),
        "written": written,
        "total_steps": provenance.get("total_steps"),
        "metric": _metric(log["evaluations"]) if version >= METRIC_ROWS_SINCE else "",
    }
    if not num_rows:
        return Tail(**facts)
    last = _LastRows(log, num_rows)
    done = int(log["iterations/step"][num_rows - 1]) + 1
    pace = last.pace(int(log["segments/first_step"][-1]) if num_stored(log["segments/segment"]) else 0)
    left = None if facts["total_steps"] is None else facts["total_steps"] - done
    log_config = provenance.get("config", {}).get("log", {})
    flush_steps = log_config.get("flush_steps")
    flush_seconds = 0.0 if flush_steps else log_config.get("flush_seconds", 0.0)
    length = provenance.get("steps_per_epoch")
    slowest, excess = last.slowest()
    return Tail(
        **facts,
        num_steps=done,
        epochs=done / length if length else None,
        samples_per_second=last.rate(facts["num_ranks"]),
        loss=last.loss(),
        exposed_fraction=last.exposed(),
        slowest_rank=slowest,
        slowest_excess=excess,
        seconds_left=None if left is None or math.isnan(pace) else pace * left,
        flush_seconds=max(pace * (flush_steps or FEWEST_BY_TIME), flush_seconds),
    )


def _metric(group: h5py.Group) -> str:
    """The last value of the main metric of the test split, or else of the split that was evaluated last."""
    rows = slice(max(0, _complete(group["evaluation"]) - NUM_EVALUATIONS), _complete(group["evaluation"]))
    splits, names = (np.char.decode(group[name][rows], "utf-8", "replace") for name in ("split", "metric"))
    if not len(splits):
        return ""
    split = "test" if "test" in splits else splits[-1]
    metric = main_metrics(names[splits == split])[0]
    value = group["value"][rows][(splits == split) & (names == metric)][-1]
    return f"{split} {metric} {metric_text(metric, value)}"


class _LastRows:
    """The last iterations of an open log: columns ``[rows, ranks]``, of a log of statistics the medians alone."""

    def __init__(self, log: h5py.File, num_rows: int) -> None:
        self._group = log["iterations"]
        self._rows = slice(max(0, num_rows - NUM_ROWS), num_rows)
        self._ranks = slice(None) if "rank" in self._group else slice(1, 2)
        self._wall = self.column("wall_seconds")
        # Ranks that were lost have no times.
        self._there = ~np.isnan(self._wall[-1])
        self._seconds = (self._wall - self.column("evaluation_seconds"))[:, self._there]

    def column(self, name: str) -> NDArray[np.float64]:
        """The rows of a column."""
        found: NDArray[np.float64] = self._group[name][self._rows, self._ranks]
        return found

    def _shares(self, names: tuple[str, ...]) -> NDArray[np.float64]:
        """Seconds of some spans, summed over the rows, of each rank that is there."""
        found: NDArray[np.float64] = sum(self.column(name)[:, self._there] for name in names).sum(axis=0)  # type: ignore[union-attr]
        return found

    def rate(self, num_ranks: int) -> float:
        """Samples a second of all ranks: those that the log has stand for the others."""
        samples = self.column("num_samples")[:, self._there]
        seconds = float(self._seconds.sum(axis=0).max(initial=0.0))
        there = num_ranks * self._there.mean()
        return float(samples.mean(axis=1).sum()) * float(there) / seconds if seconds > 0 else math.nan

    def loss(self) -> float:
        """The mean over the samples of the last row, or what they weigh."""
        weight = "loss_weight" if "loss_weight" in self._group else "num_samples"
        losses, weights = self.column("loss")[-1], self.column(weight)[-1]
        some = self._there & (weights != 0)
        total = float(weights[some].sum())
        return float((losses[some] * weights[some]).sum()) / total if total else math.nan

    def exposed(self) -> float:
        """The share of exposed communication, mean over ranks."""
        seconds = float(self._seconds.sum())
        return float(self._shares(EXPOSED_SPANS).sum()) / seconds if seconds > 0 else math.nan

    def slowest(self) -> tuple[int | None, float]:
        """The rank whose own work took longest, and by what part of the median."""
        if "rank" not in self._group or self._there.sum() < 2:
            return None, math.nan
        work = self._shares(OWN_SPANS)
        place, middle = int(work.argmax()), float(np.median(work))
        excess = float(work[place]) / middle - 1 if middle > 0 else math.nan
        return int(self._group["rank"][:][self._there][place]), excess

    def pace(self, first_step: int) -> float:
        """Seconds an iteration since ``first_step``, all that is beside training within; NaN: there is no row since."""
        begin = max(0, first_step - int(self._group["step"][0]))
        count = self._rows.stop - begin
        if count <= 0 or not self._there.any():
            return math.nan
        rank = int(self._there.argmax())
        place = rank if self._ranks == slice(None) else 1
        ends = self._group["start_seconds"][self._rows.stop - 1, place] + self._wall[-1, rank]
        return float(ends - self._group["start_seconds"][begin, place]) / count
