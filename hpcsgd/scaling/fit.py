"""The cost model, from the logs of small runs: usual compute, slowness of ranks, collectives, and how sure each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcsgd.scaling.collectives import Costs, Kind, Timing, Unknown, fit_costs, levels_of, non_negative
from hpcsgd.scaling.logs import Small, block_means
from hpcsgd.scaling.methods import GATHERED
from hpcsgd.scaling.ranks import (
    Effects,
    Noise,
    Slowdown,
    Spectrum,
    fit_noise,
    independent_part,
    spectra,
    split_effects,
)
from hpcsgd.scaling.replay import Passes
from hpcsgd.scaling.tails import fit_independent
from hpcsgd.study.machine import Network

Array = NDArray[np.float64]

LEAST_ERROR_SECONDS, LEAST_ERROR = 20e-6, 0.005
"""No timing is known better, whatever its repetitions say: what one run has, another has not."""

MOST_SAMPLES = 20_000
"""Numbers that the shape of the independent part is taken from."""

ACTIONS = {"gradient": "gradient", "block": "block", "global": "world"}


@dataclass(frozen=True)
class Cell:
    """Runs of one batch on equally full nodes.

    Attributes:
        batch: samples of a step of a rank.
        per_node: ranks on a node.
        log_seconds: logarithm of the usual compute.
        error: standard error of that.
    """

    batch: int
    per_node: int
    log_seconds: float
    error: float


@dataclass(frozen=True)
class Model:
    """The cost model, and what its intervals are drawn from.

    Attributes:
        cells: usual compute by batch and ranks on a node.
        spectrum: periodograms of the logarithms of compute.
        noise: the noise that they tell.
        shape: numbers of the independent part.
        effects: what stays of devices.
        passes: parts of the compute.
        own_seconds: what a rank does itself around a synchronisation.
        collectives: what collectives cost.
        num_buckets: of the gradient; 1: nothing is hidden.
        gradient_bytes, parameter_bytes: payload of an allreduce of the gradient and of an averaging.
        levels: of the network that the runs crossed.
        most_ranks: of the largest run.
    """

    cells: tuple[Cell, ...]
    spectrum: tuple[Spectrum, ...]
    noise: Noise
    shape: Array
    effects: Effects
    passes: Passes
    own_seconds: float
    collectives: Unknown
    num_buckets: int
    gradient_bytes: float
    parameter_bytes: float
    levels: frozenset[str]
    most_ranks: int

    def usual_seconds(self, batch: float, generator: np.random.Generator | None = None) -> float:
        """Compute of a step of ``batch`` samples; with a generator, as it may be.

        Fixed + c samples through the cells of the fullest nodes, to which the others are scaled. One batch alone tells
        no fixed part: then it is some part of the whole, of which the middle is taken.
        """
        cells = self._fullest()
        logs = np.array([cell.log_seconds for cell in cells])
        if generator is not None:
            logs = logs + generator.standard_normal(len(cells)) * [cell.error for cell in cells]
        batches, seconds = np.array([float(cell.batch) for cell in cells]), np.exp(logs)
        if len(set(batches)) == 1:
            fixed = 0.5 if generator is None else generator.uniform()
            return float(seconds.mean() * (fixed + (1 - fixed) * batch / batches[0]))
        weights = 1 / (seconds * [cell.error for cell in cells])
        rows = np.stack([np.ones(len(batches)), batches], axis=1) * weights[:, None]
        found = non_negative(rows, seconds * weights)
        return float(found[0] + found[1] * batch)

    @property
    def batches(self) -> list[int]:
        """That the runs had."""
        return sorted({cell.batch for cell in self.cells})

    def _fullest(self) -> list[Cell]:
        """The cells of the fullest nodes, and the others as they would be there."""
        most = max(cell.per_node for cell in self.cells)
        full = {cell.batch: cell for cell in self.cells if cell.per_node == most}
        if len(full) > 1:
            return list(full.values())
        rest = [cell for cell in self.cells if cell.batch not in full]
        shared = [cell for cell in self.cells if cell.batch in full and cell.per_node < most]
        factor = np.mean([full[cell.batch].log_seconds - cell.log_seconds for cell in shared]) if shared else 0.0
        scaled = [Cell(c.batch, most, c.log_seconds + float(factor), c.error) for c in rest]
        return [*full.values(), *scaled]

    def slowdown(self, generator: np.random.Generator | None = None) -> Slowdown:
        """How unequally fast ranks are; with a generator, by iterations, ranks and nodes drawn anew."""
        if generator is None:
            return Slowdown(self.effects, self.noise, fit_independent(self.shape))
        noise = fit_noise([one.redrawn(generator) for one in self.spectrum])
        shape = generator.choice(self.shape, min(len(self.shape), MOST_SAMPLES // 4))
        return Slowdown(self.effects.redrawn(generator), noise, fit_independent(shape))

    def costs(self, generator: np.random.Generator | None = None) -> Costs:
        """What collectives cost; with a generator, as it may be."""
        found = self.collectives.solve(generator)
        return Costs(found.own_seconds + self.own_seconds, found.network)


def fit(runs: Sequence[Small], known: Network | None = None, table: Sequence[Timing] = ()) -> Model:
    """The model of small runs, with what is known of the network beside: its numbers, or a table of allreduces."""
    cells, effects, residuals = _compute(runs)
    spectrum = spectra(residuals)
    noise = fit_noise(spectrum)
    shape = np.concatenate([independent_part(logs, noise).ravel() for logs in residuals])
    if len(shape) > MOST_SAMPLES:
        shape = np.random.default_rng(0).choice(shape, MOST_SAMPLES, replace=False)
    passes = Passes(_share(runs, "backward"), _share(runs, "update"))
    buckets = max(num_buckets(one) for one in runs)
    timings = [timing for one in runs for timing in timings_of(one)]
    acted = [one.own[one.action != "none"].ravel() for one in runs]
    own = np.concatenate(acted)
    payloads = {kind: _payload(runs, kind) for kind in ACTIONS.values()}
    averaged = max(payloads["world"], payloads["block"])
    levels = [levels_of(one.node_numbers) for one in runs]
    return Model(
        cells,
        tuple(spectrum),
        noise,
        shape,
        effects,
        passes,
        float(np.median(own)) if len(own) else 0.0,
        fit_costs([*timings, *table], known),
        buckets,
        payloads["gradient"] or averaged,
        averaged or payloads["gradient"],
        frozenset().union(*levels),
        max(one.num_ranks for one in runs),
    )


def _compute(runs: Sequence[Small]) -> tuple[tuple[Cell, ...], Effects, list[Array]]:
    """Usual compute of each cell, effects of devices, and what is left of the logarithms, [T, K] of each run.

    Cells and devices are two factors: least squares of the mean logarithm of each rank of each run.
    """
    logs = [np.log(np.maximum(one.compute, 1e-9)) for one in runs]
    kinds = list(dict.fromkeys((one.batch, one.per_node) for one in runs))
    devices = list(dict.fromkeys(device for one in runs for device in one.devices))
    rows, values, weights = [], [], []
    for one, own in zip(runs, logs, strict=True):
        for device, mean in zip(one.devices, own.mean(axis=0), strict=True):
            row = np.zeros(len(kinds) + len(devices))
            row[kinds.index((one.batch, one.per_node))] = row[len(kinds) + devices.index(device)] = 1
            rows.append(row)
            values.append(mean)
            weights.append(len(own))
    # Devices add up to nothing: else a number could stand in both factors.
    rows.append(np.concatenate((np.zeros(len(kinds)), np.ones(len(devices)))))
    roots = np.sqrt([*weights, max(weights)])
    matrix, target = np.array(rows) * roots[:, None], np.array([*values, 0.0]) * roots
    found = np.linalg.lstsq(matrix, target, rcond=1e-10)[0]
    usual, lasting = dict(zip(kinds, found, strict=False)), dict(zip(devices, found[len(kinds) :], strict=True))
    residuals = [own - own.mean(axis=0) for own in logs]
    noise = fit_noise(spectra(residuals))
    steps = {
        name: sum(len(own) for one, own in zip(runs, logs, strict=True) if name in one.devices) for name in devices
    }
    variances = [noise.variance_of_mean(steps[name]) for name in devices]
    nodes = [name.rpartition("/")[0] for name in devices]
    effects = split_effects([lasting[name] for name in devices], variances, nodes)
    errors = _cell_errors(runs, logs, usual, lasting, noise)
    cells = tuple(Cell(*kind, float(usual[kind]), errors[kind]) for kind in kinds)
    return cells, effects, residuals


def _cell_errors(
    runs: Sequence[Small],
    logs: Sequence[Array],
    usual: dict[tuple[int, int], float],
    lasting: dict[str, float],
    noise: Noise,
) -> dict[tuple[int, int], float]:
    """Standard errors of the cells: the noise of their means, and how far runs of one cell differ beyond it."""
    rests: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for one, own in zip(runs, logs, strict=True):
        kind = (one.batch, one.per_node)
        rest = float(np.mean(own.mean(axis=0) - [lasting[name] for name in one.devices])) - usual[kind]
        rests.setdefault(kind, []).append((rest, noise.variance_of_mean(len(own)) / one.num_ranks))
    several = [found for found in rests.values() if len(found) > 1]
    excess = sum(rest**2 - variance for found in several for rest, variance in found)
    between = max(excess / max(sum(len(found) - 1 for found in several), 1), 0.0)
    return {
        kind: float(np.sqrt(np.mean([variance for _, variance in found]) / len(found) + between)) + 1e-6
        for kind, found in rests.items()
    }


def timings_of(run: Small) -> list[Timing]:
    """What each kind of its synchronisations costs after the last arrival, with what the backward pass hid of it."""
    if run.method is None or run.method.late_steps:
        # What goes on beside the training is stamped where it is waited for, not where it begins.
        return []
    found = []
    for action in ACTIONS:
        chosen = run.action == action
        if chosen.sum() < 2:
            continue
        for nodes, members in _groups(run, action):
            shortest = run.sync[chosen][:, members].min(axis=1)
            seconds, error = block_means(shortest)
            kind: Kind = "allgather" if action == "global" and run.method.wire in GATHERED else "allreduce"
            num_bytes = float(np.median(run.sync_bytes[chosen]))
            count = num_buckets(run) if action == "gradient" else 1
            if count > 1:
                last = run.compute[chosen] - run.update[chosen]
                backward = np.take_along_axis(run.backward[chosen], last.argmax(axis=1)[:, None], axis=1)
                seconds, error = _unhidden(seconds, error, float(backward.mean()), count)
            error = max(error, LEAST_ERROR_SECONDS, LEAST_ERROR * seconds)
            found.append(Timing(kind, num_bytes, nodes, seconds, error, count))
    return found


def _groups(run: Small, action: str) -> list[tuple[tuple[int, ...], list[int]]]:
    """The nodes and the places of the ranks that synchronise together; of equal groups the first stands for all."""
    numbers = run.node_numbers
    if action != "block":
        return [(numbers, list(range(run.num_ranks)))]
    size = run.config.get("algorithm", {}).get("block_size")
    members = list(range(int(size))) if size else [rank for rank, node in enumerate(numbers) if node == numbers[0]]
    return [(tuple(numbers[rank] for rank in members), members)]


def _unhidden(seconds: float, error: float, backward: float, count: int) -> tuple[float, float]:
    """A whole allreduce of equal buckets from what was seen of it: either its end, or only its last bucket.

    Seen is max(C / n, C - (1 - 1 / n) B) of a whole C in n buckets, with B the backward pass.
    """
    whole, of_last = seconds + (1 - 1 / count) * backward, seconds * count
    return (of_last, error * count) if of_last < whole else (whole, error)


def num_buckets(run: Small) -> int:
    """Buckets of the gradient that are sent while the backward pass runs; 1: it is sent after it."""
    chosen = run.action == "gradient"
    if not run.provenance.get("gradient_overlap") or not chosen.any():
        return 1
    size = float(run.config.get("comm", {}).get("bucket_bytes") or np.inf)
    # Buckets end with a tensor, so that they are a little larger, and one that is nearly nothing is none.
    return max(1, int(np.ceil(float(np.median(run.sync_bytes[chosen])) / size - 0.1)))


def _share(runs: Sequence[Small], name: str) -> float:
    """Of the compute."""
    return float(sum(getattr(one, name).sum() for one in runs) / sum(one.compute.sum() for one in runs))


def _payload(runs: Sequence[Small], kind: str) -> float:
    """The most bytes of a synchronisation of a kind, in full precision."""
    sizes = [
        float(np.median(one.sync_bytes[chosen]))
        for one in runs
        if one.method is not None and one.method.wire == "full"
        for action, own in ACTIONS.items()
        if own == kind and (chosen := one.action == action).any()
    ]
    return max(sizes, default=0.0)
