"""Means and sums over all learners of all ranks: first over a rank's rows, then one model a rank over the ranks."""

from __future__ import annotations

from torch import Tensor

from hpcsgd.comm.reduce import FlatReducer


def average_rows_(rows: Tensor, reducer: FlatReducer) -> int:
    """Replace each of the ``rows`` [m, n] by the mean of all ranks' rows; return the bytes reduced."""
    first = sum_own_(rows)
    if len(rows) > 1:
        first.mul_(1.0 / len(rows))
    reducer.average_(first)
    spread_first_(rows)
    return first.numel() * first.element_size()


def sum_own_(rows: Tensor) -> Tensor:
    """Put the sum of this rank's ``rows`` [m, n] into the first one; that row."""
    first = rows[0]
    for row in rows[1:]:
        first.add_(row)
    return first


def spread_first_(rows: Tensor) -> None:
    """Copy the first of the ``rows`` [m, n] to the others."""
    if len(rows) > 1:
        rows[1:].copy_(rows[0])
