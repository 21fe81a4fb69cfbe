"""Logs of runs that the replay has made up: every part of what they cost is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpcsgd.scaling.collectives import Costs
from hpcsgd.scaling.methods import Method
from hpcsgd.scaling.ranks import Effects, Noise, Slowdown
from hpcsgd.scaling.replay import Durations, Meetings, Passes, Replayed, replay
from hpcsgd.scaling.tails import fit_independent, normal_sample
from hpcsgd.study.machine import Level, Network
from tests.single.analysis.fake_runs import FakeRun

NETWORK = Network(Level(1e-5, 4e9), Level(4e-5, 1e9))
PARAMETER_BYTES = 40_000_000
PER_NODE = 2
SLOW_EVERY = 4
"""Of so many ranks one is slow, by SLOW."""
SLOW = 0.15
FIXED_SECONDS, SAMPLE_SECONDS = 0.02, 0.002
NOISE = Noise(0.04, 0.9, 0.08)
ACTIONS = {"none": "none", "gradient": "gradient", "block": "block", "world": "global"}


class Machine(Effects):
    """Effects of devices that are the same however many there are."""

    def draw(self, num_ranks: int, per_node: int, generator: np.random.Generator) -> np.ndarray:
        """See :class:`Effects`."""
        return np.where(np.arange(num_ranks) % SLOW_EVERY == 1, SLOW, 0.0)


def replayed(method: Method, ranks: int, batch: int, steps: int, seed: int) -> Replayed:
    """A run of the machine."""
    slowdown = Slowdown(Machine(np.zeros(1), (np.zeros(1),)), NOISE, fit_independent(normal_sample()))
    usual = FIXED_SECONDS + SAMPLE_SECONDS * batch
    chunks = Durations([slowdown], [usual], ranks, PER_NODE, np.random.default_rng(seed)).chunks(steps)
    costs, nodes = Costs(0.0, NETWORK), [rank // PER_NODE for rank in range(ranks)]
    whole = np.asarray(costs.seconds("allreduce", PARAMETER_BYTES, nodes))
    block = np.asarray(costs.seconds("allreduce", PARAMETER_BYTES, nodes[:PER_NODE]))
    return replay(
        (chunk[:, 0] for chunk in chunks), method, Meetings(whole, 1.0, block, whole), PER_NODE, Passes(0.6), keep=True
    )


def write(
    directory: Path, method: Method, ranks: int, batch: int, steps: int, seed: int, **options: object
) -> Replayed:
    """Make its log; gives the run."""
    found = replayed(method, ranks, batch, steps, seed)
    sync = np.nan_to_num(found.leave - found.enter)
    actions = [ACTIONS[method.action(step)] for step in range(steps)]
    kind = "gradient_allreduce_seconds" if method.name == "sync_sgd" else "averaging_seconds"
    spans = {"forward_seconds": 0.4 * found.compute, "backward_seconds": 0.6 * found.compute, kind: sync}
    periods = {"sync_period": method.period, "block_sync_period": method.block_period}
    FakeRun(
        spans,
        actions,
        {"name": method.name, **periods},
        batch,
        blocks=[rank // PER_NODE for rank in range(ranks)],
        sync_bytes=PARAMETER_BYTES,
        **options,  # type: ignore[arg-type]
    ).write(directory)
    return found


def write_small(directory: Path, methods: Sequence[Method], steps: int = 64) -> None:
    """Logs of 1, 2 and 4 ranks at two batches."""
    for number, (ranks, batch) in enumerate([(1, 16), (1, 32), (2, 32), (4, 32), (4, 16)]):
        for place, method in enumerate(methods if ranks > 1 else methods[:1]):
            write(directory / f"{place}-{ranks}-{batch}", method, ranks, batch, steps, 10 * number + place)
