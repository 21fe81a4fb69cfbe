"""Runs made up as arrays, for the tests of ``hpcsgd explain``: ranks that compute, wait for the last, and send."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.record.schema import ACTIONS
from hpcsgd.scaling.causes import Case
from hpcsgd.scaling.explain_digest import COLUMNS, digest

Floats = NDArray[np.float64]


def noisy(
    seed: int, num_steps: int, num_ranks: int, spread: float = 0.01, correlated: float = 0.0, correlation: float = 0.95
) -> Floats:
    """Compute of 0.1 s, times lognormal factors that are new in each step, and ones that go on, [steps, ranks]."""
    rng = np.random.default_rng(seed)
    own = spread * rng.standard_normal((num_steps, num_ranks))
    moves = rng.standard_normal((num_steps, num_ranks))
    state = np.zeros_like(moves)
    state[0] = moves[0]
    for step in range(1, num_steps):
        state[step] = correlation * state[step - 1] + np.sqrt(1 - correlation**2) * moves[step]
    return np.asarray(0.1 * np.exp(own + correlated * state))


def columns_of(compute: Floats, period: int = 1, sending: float = 0.002, **spans: Floats) -> dict[str, NDArray[Any]]:
    """``COLUMNS`` of a run whose ranks meet after each ``period`` steps; ``spans``: others of theirs, by column name.

    An evaluation comes after the synchronisation of its step.
    """
    zeros = np.zeros_like(compute)
    columns: dict[str, NDArray[Any]] = {name: zeros for name in COLUMNS}
    columns |= {"forward_seconds": compute / 3, "backward_seconds": 2 * compute / 3} | spans
    num_steps = len(compute)
    sync, enter, start = zeros.copy(), np.full_like(zeros, np.nan), zeros.copy()
    leave = enter.copy()
    before = sum(columns[n] for n in ("data_seconds", "checkpoint_seconds", "logging_seconds")) + compute
    now = np.zeros(compute.shape[1])
    for step in range(num_steps):
        start[step] = now
        now = now + before[step]
        if (step + 1) % period == 0:
            enter[step] = now
            leave[step] = now.max() + sending
            sync[step], now = leave[step] - now, leave[step]
        now = now + columns["evaluation_seconds"][step]
    name = "gradient_allreduce_seconds" if period == 1 else "averaging_seconds"
    wall = before + sync + columns["evaluation_seconds"]
    return columns | {
        name: sync,
        "start_seconds": start,
        "wall_seconds": wall,
        "sync_enter_seconds": enter,
        "sync_exit_seconds": leave,
        "num_samples": np.full(compute.shape, 32),
        "utilisation": np.full(compute.shape, np.nan),
    }


def actions_of(num_steps: int, period: int = 1) -> NDArray[np.int64]:
    """What was synchronised in each step."""
    kind = ACTIONS.index("gradient" if period == 1 else "global")
    return np.where((np.arange(num_steps) + 1) % period == 0, kind, 0)


def case_of(compute: Floats, period: int = 1, ranks_per_node: int = 4, **columns: Any) -> Case:
    """The run as causes are looked for in it."""
    num_steps, width = compute.shape
    acts = actions_of(num_steps, period)
    name = "sync_sgd" if period == 1 else "local_sgd"
    return Case(
        digest=digest(acts, [columns_of(compute, period, **columns)], rank_blocks=[0] * width),
        steps=np.arange(num_steps),
        segments=np.zeros(num_steps, int),
        sync_bytes=np.where(acts > 0, 1000, 0),
        labels=range(width),
        nodes=[f"n{rank // ranks_per_node}" for rank in range(width)],
        num_ranks=width,
        config={"algorithm": {"name": name, "sync_period": period}},
    )
