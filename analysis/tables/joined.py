"""Tables of parts as one: of all tasks, and of all sweeps over a size."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd


def of_tasks(parts: Iterable[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """The tables of tasks, which their names come first in; those without rows are left out."""
    return _joined([table.assign(task=task) for task, table in parts if not table.empty], ["task"])


def of_sweeps(parts: Iterable[tuple[str, str, pd.DataFrame]]) -> pd.DataFrame:
    """The rows of sweeps, each with its figure, the column that it is over, and the value there.

    Args:
        parts: figure, that column, and the table with it of each; those without rows are left out.
    """
    tables = [
        table.rename(columns={over: "value"}).assign(figure=figure, over=over)
        for figure, over, table in parts
        if not table.empty
    ]
    return _joined(tables, ["figure", "line", "over", "value"])


def _joined(tables: list[pd.DataFrame], first: list[str]) -> pd.DataFrame:
    """All rows, with the columns ``first`` before the others."""
    if not tables:
        return pd.DataFrame()
    found = pd.concat(tables, ignore_index=True)
    return found[[*first, *(name for name in found if name not in first)]]
