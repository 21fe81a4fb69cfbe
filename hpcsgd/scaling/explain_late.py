"""Who comes late to a synchronisation, and what the others wait; all arrays are over ranks that may be lost (NaN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.record.schema import ACTIONS

Floats = NDArray[np.float64]

BLOCK = ACTIONS.index("block")
"""The action in which ranks meet those of their own group alone."""


def lower_median(values: NDArray[Any]) -> NDArray[Any]:
    """Over ranks, [rows]: of an even number the lower of the two in the middle, so that one of two can be late."""
    if np.isnan(values).any():
        found = np.nanquantile(values, 0.5, axis=1, method="lower")
        return np.asarray(found)
    middle = (values.shape[1] - 1) // 2
    return np.asarray(np.partition(values, middle, axis=1)[:, middle])


def wasted(lateness: NDArray[Any], groups: Sequence[NDArray[np.int64]], acts: NDArray[Any]) -> Floats:
    """What the ranks of each synchronisation wait for the last, the mean over the ranks, [rounds]."""
    return latest(lateness, groups, acts) - np.nan_to_num(np.nanmean(lateness, axis=1, dtype=np.float64))


def latest(lateness: NDArray[Any], groups: Sequence[NDArray[np.int64]], acts: NDArray[Any]) -> Floats:
    """The lateness of the last rank of each synchronisation, [rounds]; of blocks, the mean over the ranks."""
    found = np.nanmax(lateness, axis=1, initial=-np.inf).astype(np.float64)
    rows = np.flatnonzero(acts == BLOCK)
    if len(rows) and len(groups) > 1:
        sizes = [len(group) for group in groups]
        maxima = [np.nanmax(lateness[np.ix_(rows, group)], axis=1, initial=-np.inf) for group in groups]
        found[rows] = np.average(maxima, axis=0, weights=sizes)
    return np.where(np.isfinite(found), found, 0.0)


def relative(values: Floats, groups: Sequence[NDArray[np.int64]], acts: NDArray[Any]) -> Floats:
    """Less the median of the ranks that met, [rounds, ranks]."""
    found = values - lower_median(values)[:, None] if len(values) else values
    rows = np.flatnonzero(acts == BLOCK)
    for group in groups if len(rows) else []:
        part = values[np.ix_(rows, group)]
        found[np.ix_(rows, group)] = part - lower_median(part)[:, None]
    return found


def above_median(values: Floats) -> Floats:
    """Less the median over the ranks; a part that nobody has costs nothing."""
    return values - lower_median(values)[:, None] if values.any() else values


def last_of(lateness: NDArray[Any]) -> NDArray[np.int64]:
    """The last rank of each round, [rounds]."""
    return np.asarray(np.where(np.isnan(lateness), -np.inf, lateness).argmax(axis=1))


def fewest(values: Floats) -> Floats:
    """The minimum over the ranks that are there, [rows]; NaN where none is."""
    return np.asarray(np.fmin.reduce(values, axis=1))
