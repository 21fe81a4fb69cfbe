"""Local SGD on quadratic losses, where the trajectory has a closed form.

Rank j's loss is a_j (w - c_j)^2 / 2 in every coordinate. A step is affine in (w, momentum), so rounds are powers of
matrices.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hpcsgd.comm.communicator import Communicator
from hpcsgd.config import RunConfig
from hpcsgd.run.parts import Parts
from tests.parallel.laws.common import algorithm_named, assert_close, block_size, built, make_config
from tests.parallel.laws.registry import law

RATE = 0.2
START = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
PLAIN = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
Matrix = NDArray[np.float64]


class Point(nn.Module):
    """A network that is one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(START.clone())

    def forward(self, images: Tensor) -> Tensor:
        """What a run tries at its start; the laws make losses of the vector itself."""
        return images.flatten(1)[:, : len(self.place)] * self.place


def curvature(rank: int) -> float:
    """a_j."""
    return 1.0 + 0.7 * rank


def centre(rank: int) -> float:
    """c_j."""
    return 2.0 - 1.5 * rank


def descend(config: RunConfig, comm: Communicator, steps: int) -> Tensor:
    """Where the vector is after ``steps`` of the algorithm."""
    with built(config, comm, Point) as parts:
        parts.algorithm.start()
        for step in range(steps):
            quadratic_step(parts, step)
        parts.timer.finished.clear()
        return parts.replica.module.place.detach().clone()


def quadratic_step(parts: Parts, step: int) -> None:
    """One step on this rank's loss."""
    parts.timer.begin(step)
    rank, size = parts.comm.rank, parts.comm.size
    place = parts.replica.module.place
    loss = 0.5 * curvature(rank) * (place - centre(rank)).square().sum()
    (loss / parts.algorithm.normaliser(step, 1, size)).backward()
    parts.algorithm.step(step, RATE, 1)


def affine(times: int, factor: float, shift: float) -> tuple[float, float]:
    """w -> factor w + shift, ``times`` over."""
    return factor**times, shift * (1 - factor**times) / (1 - factor)


def local_round(ranks: range, period: int) -> tuple[float, float]:
    """H local steps of ``ranks`` and their average: w_j -> c_j + (1 - eta a_j)^H (w - c_j)."""
    factors = [(1 - RATE * curvature(j)) ** period for j in ranks]
    shifts = [(1 - f) * centre(j) for j, f in zip(ranks, factors, strict=True)]
    return float(np.mean(factors)), float(np.mean(shifts))


@law()
def synchronous_sgd_has_its_closed_form(comm: Communicator) -> None:
    ranks = range(comm.size)
    mean = np.mean([curvature(j) for j in ranks])
    pull = np.mean([curvature(j) * centre(j) for j in ranks])
    factor, shift = affine(9, 1 - RATE * mean, RATE * pull)
    assert_close(descend(make_config(optimizer=PLAIN), comm, 9), factor * START + shift)


@law(period=[1, 2, 5], rounds=[1, 4])
def local_sgd_has_its_closed_form(comm: Communicator, period: int, rounds: int) -> None:
    config = make_config(optimizer=PLAIN, algorithm={"name": "local_sgd", "sync_period": period})
    factor, shift = affine(rounds, *local_round(range(comm.size), period))
    assert_close(descend(config, comm, period * rounds), factor * START + shift)


@law()
def local_sgd_settles_off_the_minimum_where_curvatures_differ(comm: Communicator) -> None:
    ranks = range(comm.size)
    minimum = np.mean([curvature(j) * centre(j) for j in ranks]) / np.mean([curvature(j) for j in ranks])
    for period in (1, 4):
        config = make_config(optimizer=PLAIN, algorithm={"name": "local_sgd", "sync_period": period})
        end = descend(config, comm, 80 * period)
        factor, shift = local_round(ranks, period)
        assert_close(end, torch.full_like(end, shift / (1 - factor)), 1e-6)
        off = float((end - minimum).abs().max())
        assert (off > 0.01) == (period > 1 and comm.size > 1), off


@law(block_period=[1, 2, 3])
def hierarchical_local_sgd_has_its_closed_form(comm: Communicator, block_period: int) -> None:
    size, period = block_size(comm.size), 2
    section = algorithm_named(
        "hierarchical_local_sgd", comm.size, local_start=None, sync_period=period, block_sync_period=block_period
    )
    blocks = [local_round(range(first, first + size), period) for first in range(0, comm.size, size)]
    factor, shift = np.mean([affine(block_period, *block) for block in blocks], axis=0)
    factor, shift = affine(3, factor, shift)
    end = descend(make_config(optimizer=PLAIN, algorithm=section), comm, 3 * period * block_period)
    assert_close(end, factor * START + shift)


@law()
def post_local_sgd_has_its_closed_form(comm: Communicator) -> None:
    ranks = range(comm.size)
    mean = np.mean([curvature(j) for j in ranks])
    pull = np.mean([curvature(j) * centre(j) for j in ranks])
    first = affine(3, 1 - RATE * mean, RATE * pull)
    second = affine(2, *local_round(ranks, 4))
    section = {"name": "post_local_sgd", "sync_period": 4, "local_start": "step:3"}
    end = descend(make_config(optimizer=PLAIN, algorithm=section), comm, 3 + 2 * 4)
    assert_close(end, second[0] * (first[0] * START + first[1]) + second[1])


def momentum_round(size: int, period: int, mu: float, policy: str, beta: float, alpha: float) -> Matrix:
    """H local steps with momentum and an averaging, on (w, u_1 .. u_K, outer momentum, 1)."""
    outer, one = size + 1, size + 2
    average = np.zeros(size + 3)
    result = np.zeros((size + 3, size + 3))
    momenta = []
    for j in range(size):
        a, c = curvature(j), centre(j)
        step = np.array([[1 - RATE * a, -RATE * mu, RATE * a * c], [a, mu, -a * c], [0, 0, 1]])
        power = np.linalg.matrix_power(step, period)
        for row, target in ((0, average), (1, result[1 + j])):
            target[[0, 1 + j, one]] += power[row] / (size if row == 0 else 1)
        momenta.append(result[1 + j].copy())
    if policy == "average":
        result[1 : 1 + size] = np.mean(momenta, axis=0)
    if policy == "reset":
        result[1 : 1 + size] = 0
    result[0] = average
    if policy == "global":
        # u <- beta u + (w - average) / eta;  w <- w - alpha eta u
        result[outer] = -average / RATE
        result[outer, 0] += 1 / RATE
        result[outer, outer] += beta
        result[0] = -alpha * RATE * result[outer]
        result[0, 0] += 1
    result[one, one] = 1
    return result


@law(policy=["local", "average", "reset", "global"], period=[1, 3], form=["reference", "absorbed"])
def momentum_policies_have_their_closed_forms(comm: Communicator, policy: str, period: int, form: str) -> None:
    rounds, mu, beta, alpha = 4, 0.7, 0.5, 0.8
    section = {"name": "local_sgd", "sync_period": period, "momentum_policy": policy}
    if policy == "global":
        section |= {"slow_momentum": beta, "slow_learning_rate": alpha}
    optimizer = {"momentum": mu, "nesterov": False, "weight_decay": 0.0, "momentum_form": form}
    end = descend(make_config(optimizer=optimizer, algorithm=section), comm, rounds * period)
    power = np.linalg.matrix_power(momentum_round(comm.size, period, mu, policy, beta, alpha), rounds)
    start = np.zeros((comm.size + 3, len(START)))
    start[0], start[-1] = START.numpy(), 1.0
    assert_close(end, torch.from_numpy((power @ start)[0]))
