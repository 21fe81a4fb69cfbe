"""Which steps and ranks of a log are exported, as users write them, and what the log has instead."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpcsgd.errors import UsageError, name_ranks
from hpcsgd.record.reader import Run

if TYPE_CHECKING:
    import pandas as pd

STEPS = re.compile(r"(\d*):(\d*)|(\d+)", re.ASCII)
RANKS = re.compile(r"(\d+)(?::(\d+))?", re.ASCII)


@dataclass(frozen=True, eq=False)
class Excerpt:
    """What is exported of a run.

    Attributes:
        run: the whole log.
        iterations: its rows of the steps and ranks that are exported.
        notes: what was left out unasked, and what a reader of the export has to know, a line each.
    """

    run: Run
    iterations: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def has_ranks(self) -> bool:
        """Whether the log keeps ranks, and not statistics over them."""
        return self.run.rank_axis == "rank"

    @property
    def lead(self) -> pd.DataFrame:
        """The iterations of the first rank (rank 0, where it is kept), or the medians over the ranks: a row a step."""
        if not self.has_ranks:
            return self.iterations[self.iterations["statistic"] == "median"]
        return self.iterations[self.iterations["rank"] == self.iterations["rank"].min()]

    @property
    def whole(self) -> pd.DataFrame:
        """The iterations of these steps, of all ranks that the log keeps."""
        return self.run.iterations[self.run.iterations["step"].isin(self.iterations["step"].unique())]


def parse_steps(text: str) -> tuple[int, int | None]:
    """``100:120`` (without the last), ``100:``, ``:20`` or ``100``: the first step, and the one to stop before.

    Raises:
        UsageError: it is none of these, or empty.
    """
    found = STEPS.fullmatch(text)
    if found is None:
        raise UsageError(f"--steps {text!r}: write FIRST:END, as 100:120 for the steps 100 to 119, or one step")
    if found[3]:
        return int(found[3]), int(found[3]) + 1
    first, end = int(found[1] or 0), int(found[2]) if found[2] else None
    if end is not None and end <= first:
        raise UsageError(f"--steps {text!r}: there is no step in it: write FIRST:END with FIRST below END")
    return first, end


def parse_ranks(text: str) -> list[int]:
    """``0,17`` or ``0:16,64`` (without the last): the ranks, in order.

    Raises:
        UsageError: it is none of these.
    """
    ranks: set[int] = set()
    for word in text.split(","):
        found = RANKS.fullmatch(word.strip())
        if found is None or (found[2] and int(found[2]) <= int(found[1])):
            raise UsageError(f"--ranks {text!r}: write ranks with commas, as 0,17, or FIRST:END, as 0:16 for 0 to 15")
        ranks.update(range(int(found[1]), int(found[2] or int(found[1]) + 1)))
    return sorted(ranks)


def excerpt(
    run: Run,
    steps: tuple[int, int | None] | None = None,
    ranks: list[int] | None = None,
    most_steps: int | None = None,
    most_ranks: int | None = None,
) -> Excerpt:
    """The asked steps and ranks of a run; where none are asked, at most so many: the last steps, the first ranks.

    Raises:
        UsageError: the log has none of the steps, or not all of the ranks.
    """
    frame, notes = run.iterations, list[str]()
    if frame.empty:
        raise UsageError(f"{run.path}: no iteration is logged yet: there is nothing to export")
    if run.emulated:
        notes.append(f"{run.path}: {run.emulated}: its times are none of this machine")
    first, last = int(frame["step"].min()), int(frame["step"].max())
    if steps is not None:
        frame = frame[(frame["step"] >= steps[0]) & (frame["step"] < (last + 1 if steps[1] is None else steps[1]))]
        if frame.empty:
            asked = f"{steps[0]}:{'' if steps[1] is None else steps[1]}"
            raise UsageError(f"--steps {asked}: {run.path} has the steps {first} to {last}")
    elif most_steps is not None and last - first + 1 > most_steps:
        first = last - most_steps + 1
        notes.append(f"only the last {most_steps} steps, {first} to {last}: --steps FIRST:END says which")
        frame = frame[frame["step"] >= first]
    selected = Excerpt(run, frame, tuple(notes))
    return _of_ranks(selected, ranks, most_ranks) if run.rank_axis == "rank" else _of_statistics(selected, ranks)


def _of_ranks(selected: Excerpt, ranks: list[int] | None, most_ranks: int | None) -> Excerpt:
    """Those of some ranks."""
    run, frame, notes = selected.run, selected.iterations, selected.notes
    kept = sorted(int(rank) for rank in frame["rank"].unique())
    if ranks is not None:
        if unknown := sorted(set(ranks) - set(kept)):
            there = f"{kept[0]} to {kept[-1]}" if kept == list(range(kept[0], kept[-1] + 1)) else f"{kept}"[1:-1]
            raise UsageError(f"--ranks: {run.path} has no {name_ranks(unknown)} in these steps: it keeps {there}")
    elif most_ranks is not None and len(kept) > most_ranks:
        ranks = kept[:most_ranks]
        notes = (*notes, f"only the first {most_ranks} of {len(kept)} ranks: --ranks says which")
    else:
        return selected
    return replace(selected, iterations=frame[frame["rank"].isin(ranks)], notes=notes)


def _of_statistics(selected: Excerpt, ranks: list[int] | None) -> Excerpt:
    """Those of a log without ranks, of which none can be asked for."""
    if ranks is not None:
        path = selected.run.path
        raise UsageError(f"--ranks: {path} keeps minimum, median and maximum over the ranks (log.ranks: summary)")
    return selected
