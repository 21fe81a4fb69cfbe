"""Which steps and ranks of a log are exported, as users write them, and what the log has instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from hpcsgd.errors import UsageError, name_ranks
from hpcsgd.record.reader import Run
from hpcsgd.record.schema import STATISTICS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

STEPS = re.compile(r"(\d*):(\d*)|(\d+)", re.ASCII)
RANKS = re.compile(r"(\d+)(?::(\d+))?", re.ASCII)

LEAD = ("epoch", "segment", "loss", "start_seconds", "wall_seconds", "evaluation_seconds")
"""What the formats of one course show of it."""


@dataclass(frozen=True, eq=False)
class Excerpt:
    """What is exported of a run.

    Attributes:
        run: the log.
        rows: of its columns: the steps that are exported.
        places: of the second axis of its columns: the ranks that are exported; in a log of statistics, all.
        notes: what was left out unasked, and what a reader of the export has to know, a line each.
    """

    run: Run
    rows: slice
    places: list[int]
    notes: tuple[str, ...] = ()

    @property
    def has_ranks(self) -> bool:
        """Whether the log keeps ranks, and not statistics over them."""
        return self.run.rank_axis == "rank"

    @property
    def steps(self) -> NDArray[np.int64]:
        """The steps."""
        return self.run.columns.steps[self.rows]

    @cached_property
    def iterations(self) -> pd.DataFrame:
        """The run's iterations of these steps and ranks."""
        return self.run.columns.table(self.rows, self.places)

    @cached_property
    def lead(self) -> pd.DataFrame:
        """``LEAD`` of the first rank (rank 0, where it is kept), or of the medians over the ranks: a row a step."""
        place = self.places[0] if self.has_ranks else STATISTICS.index("median")
        return self.run.columns.table(self.rows, [place], LEAD)


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
    steps_there, notes = run.columns.steps, list[str]()
    if not len(steps_there):
        raise UsageError(f"{run.path}: no iteration is logged yet: there is nothing to export")
    if run.emulated:
        notes.append(f"{run.path}: {run.emulated}: its times are none of this machine")
    first, last = int(steps_there[0]), int(steps_there[-1])
    rows = slice(0, len(steps_there))
    if steps is not None:
        begin, end = steps_there.searchsorted([steps[0], last + 1 if steps[1] is None else steps[1]]).tolist()
        rows = slice(begin, end)
        if begin >= end:
            asked = f"{steps[0]}:{'' if steps[1] is None else steps[1]}"
            raise UsageError(f"--steps {asked}: {run.path} has the steps {first} to {last}")
    elif most_steps is not None and len(steps_there) > most_steps:
        rows = slice(len(steps_there) - most_steps, len(steps_there))
        first = int(steps_there[rows.start])
        notes.append(f"only the last {most_steps} steps, {first} to {last}: --steps FIRST:END says which")
    if run.rank_axis == "rank":
        return _of_ranks(run, rows, notes, ranks, most_ranks)
    if ranks is not None:
        raise UsageError(f"--ranks: {run.path} keeps minimum, median and maximum over the ranks (log.ranks: summary)")
    return Excerpt(run, rows, [*range(len(STATISTICS))], tuple(notes))


def _of_ranks(run: Run, rows: slice, notes: list[str], ranks: list[int] | None, most_ranks: int | None) -> Excerpt:
    """Some steps of some ranks."""
    import numpy as np

    columns, here = run.columns, set[int]()
    for _, block in columns.blocks(["start_seconds"], rows):
        here |= set(np.flatnonzero(~np.isnan(block["start_seconds"]).all(axis=0)).tolist())
    places = {int(columns.labels[place]): place for place in sorted(here)}
    kept = sorted(places)
    if ranks is not None:
        if unknown := sorted(set(ranks) - set(kept)):
            there = f"{kept[0]} to {kept[-1]}" if kept == list(range(kept[0], kept[-1] + 1)) else f"{kept}"[1:-1]
            raise UsageError(f"--ranks: {run.path} has no {name_ranks(unknown)} in these steps: it keeps {there}")
    elif most_ranks is not None and len(kept) > most_ranks:
        ranks = kept[:most_ranks]
        notes.append(f"only the first {most_ranks} of {len(kept)} ranks: --ranks says which")
    return Excerpt(run, rows, [places[rank] for rank in (kept if ranks is None else ranks)], tuple(notes))
