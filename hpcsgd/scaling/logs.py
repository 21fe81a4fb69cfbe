"""What the cost model takes from the log of a run: plain arrays, a row a step and a column a rank."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.errors import UsageError
from hpcsgd.record.reader import Run
from hpcsgd.record.schema import ACTIONS, EXPOSED_SPANS
from hpcsgd.scaling.methods import Method, method_of

Array = NDArray[np.float64]

SKIP = 2
"""First steps of each segment, which warm up caches and connections."""

LEAST_STEPS = 8
BEFORE = ("data_seconds", "forward_seconds", "backward_seconds")


@dataclass(frozen=True, eq=False)
class Small:
    """A small run.

    Attributes:
        path: its log.
        sha256: of the log.
        method: its algorithm; None: one that is not predicted.
        config: its recipe.
        provenance: of its log.
        nodes: the node of each rank.
        devices: of each rank: its node, and its place there.
        batch: samples of a step of a rank.
        compute: data, both passes and update of each step of each rank, [T, K], in seconds.
        backward: the backward pass, [T, K].
        update: the update, [T, K].
        action: what each step synchronised, [T].
        sync: how long each rank was in the synchronisation, [T, K]; NaN: none.
        own: what a rank did itself around it, [T, K].
        sync_bytes: payload of each synchronisation, [T].
    """

    path: Path
    sha256: str
    method: Method | None
    config: dict[str, Any]
    provenance: dict[str, Any]
    nodes: tuple[str, ...]
    devices: tuple[str, ...]
    batch: int
    compute: Array
    backward: Array
    update: Array
    action: NDArray[np.str_]
    sync: Array
    own: Array
    sync_bytes: Array

    @property
    def num_ranks(self) -> int:
        """Ranks."""
        return len(self.nodes)

    @property
    def per_node(self) -> int:
        """Ranks on its fullest node."""
        return max(self.nodes.count(node) for node in self.nodes)

    @property
    def node_numbers(self) -> tuple[int, ...]:
        """The node of each rank as a number."""
        names = list(dict.fromkeys(self.nodes))
        return tuple(names.index(node) for node in self.nodes)


def small_run(run: Run) -> Small:
    """What the model takes from a run: of its last segment, without the first steps.

    Raises:
        UsageError: the log has statistics in the place of ranks, or not all ranks, or too few steps.
    """
    if run.rank_axis != "rank":
        raise UsageError(f"{run.path}: log.ranks is summary: a prediction needs single ranks (log.ranks: all)")
    frame = run.iterations
    if frame.empty:
        raise UsageError(f"{run.path}: no iteration is logged")
    frame = frame[frame["segment"] == frame["segment"].max()]
    kept = sorted(int(rank) for rank in frame["rank"].unique())
    size = int(run.segments["world_size"].iloc[-1]) if len(run.segments) else len(run.ranks)
    if len(kept) < size:
        raise UsageError(f"{run.path}: {len(kept)} of {size} ranks are in the log: set log.ranks: all for small runs")
    num_steps = len(frame) // len(kept)
    if num_steps - SKIP < LEAST_STEPS:
        raise UsageError(
            f"{run.path}: {num_steps} steps, of which the first {SKIP} warm up: train {SKIP + LEAST_STEPS} or more"
        )

    def column(name: str) -> Array:
        return np.asarray(frame[name].to_numpy(float).reshape(num_steps, len(kept))[SKIP:])

    ranks = run.ranks.set_index("rank").loc[kept]
    duration = column("sync_exit_seconds") - column("sync_enter_seconds")
    spans = column(EXPOSED_SPANS[0]) + column(EXPOSED_SPANS[1])
    action = frame["action"].to_numpy().astype(str)[:: len(kept)][SKIP:]
    # In the queue of a GPU nothing is stamped: there the span is all that is known.
    sync = np.where(np.isnan(duration), np.where((action == ACTIONS[0])[:, None], np.nan, spans), duration)
    samples = column("num_samples")
    nodes = tuple(str(node) for node in ranks["node"])
    return Small(
        run.path,
        hashlib.sha256(run.path.read_bytes()).hexdigest(),
        method_of(run.config),
        run.config,
        run.provenance,
        nodes,
        tuple(f"{node}/{place}" for node, place in zip(nodes, ranks["local_rank"], strict=True)),
        round(float(np.median(samples))),
        sum((column(name) for name in BEFORE), column("update_seconds")),
        column("backward_seconds"),
        column("update_seconds"),
        action,
        sync,
        np.maximum(spans - np.nan_to_num(sync), 0.0),
        frame["sync_bytes"].to_numpy(float)[:: len(kept)][SKIP:],
    )


def block_means(values: Array, num_blocks: int = 8) -> tuple[float, float]:
    """Mean of a series and its standard error, by the means of blocks, since what follows each other is alike."""
    blocks = np.array_split(values, min(num_blocks, len(values)))
    means = np.array([block.mean() for block in blocks])
    spread = float(means.std(ddof=1)) if len(means) > 1 else abs(float(means[0]))
    return float(values.mean()), spread / float(np.sqrt(len(means)))
