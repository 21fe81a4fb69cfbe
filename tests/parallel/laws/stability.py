"""The bound on the alpha of SMA: learners and central model on a flat loss, against the closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpcsgd.algorithms.stability import effective_alpha, stability_bound
from hpcsgd.comm.communicator import Communicator
from hpcsgd.errors import UsageError
from tests.parallel.laws.common import assert_close, block_size, built, make_config
from tests.parallel.laws.registry import law
from tests.parallel.laws.sma import algorithm_of, all_learners, section


class Flat(nn.Module):
    """A network whose loss does not depend on its three parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))

    def forward(self, images: Tensor) -> Tensor:
        """The same for all images."""
        return (0 * self.place).expand(len(images), 3)


def gaps(comm: Communicator, learners: int, alpha: float, steps: int, every: int = 1, **changes: Any) -> list[Tensor]:
    """The mean gap of learners and central model on a flat loss: at first, and after each ``every``-th step."""
    plain = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    # The recipe's alpha is a sound one; the law's need not be.
    method = section(comm.size, alpha=0.01, restart="none", **changes)
    with built(make_config(algorithm=method, optimizer=plain, learners_per_rank=learners), comm, Flat) as parts:
        algorithm, seen = algorithm_of(parts), []
        algorithm.alpha = alpha
        parts.algorithm.start()
        for j, learner in enumerate(parts.learners.parameters):
            learner[:3].add_(torch.tensor([1.0, 2.0, 3.0]) * (1 + j + comm.rank % block_size(comm.size)))
        for step in range(steps + 1):
            if step % every == 0:
                seen.append((all_learners(comm, parts).mean(dim=0) - algorithm.central.model)[:3])
            parts.timer.begin(step)
            parts.algorithm.step(step, 0.1, 3 * learners)
    return seen


def predicted(start: Tensor, alpha: float, num_learners: int, mu: float, times: int) -> Tensor:
    """The closed form: powers of the 2x2 recursion of the gap and the last move of z."""
    matrix = np.array([[1 - alpha * (num_learners + 1), -mu], [alpha * num_learners, mu]])
    return start * float(np.linalg.matrix_power(matrix, times)[0, 0])


@law(mu=[0.0, 0.5, 0.9], factor=[0.999, 1.001], learners=[1, 2])
def the_bound_on_alpha_is_where_learners_and_central_model_part(
    comm: Communicator, mu: float, factor: float, learners: int
) -> None:
    num_learners = comm.size * learners
    alpha = factor * stability_bound(num_learners, mu)
    seen = gaps(comm, learners, alpha, 40, central_momentum=mu)
    for times, gap in enumerate(seen):
        assert_close(gap, predicted(seen[0], alpha, num_learners, mu, times), 1e-10)
    # Far on, by the closed form that was just held: the oscillation's own factor is above or below 1.
    later, much_later = (predicted(seen[0], alpha, num_learners, mu, n).abs() for n in (4000, 8000))
    assert bool((much_later < later / 2).all()) == (factor < 1)
    assert bool((much_later > later * 2).all()) == (factor > 1)


@law(sizes=(1, 2), mu=[0.0, 0.9], factor=[0.999, 1.001], learners=[1, 3])
def a_long_run_on_a_flat_loss_comes_together_within_the_bound_only(
    comm: Communicator, mu: float, factor: float, learners: int
) -> None:
    alpha = factor * stability_bound(comm.size * learners, mu)
    # What dies out fast is gone after 60 steps.
    _, early, *_, late = (gap.abs() for gap in gaps(comm, learners, alpha, 600, 60, central_momentum=mu))
    assert bool((late < early / 2).all()) if factor < 1 else bool((late > early * 2).all())


@law(learners=[1, 2], mu=[0.0, 0.9])
def an_alpha_outside_of_the_bound_is_refused_with_it(comm: Communicator, learners: int, mu: float) -> None:
    k = comm.size * learners
    bound = 2 * (1 + mu) / (k + 1 + mu)
    named = f"(1 + mu) / (k + 1 + mu) = {bound:.6g} for k = {k} learners and central momentum {mu:g}"
    cases = [(0.999 * bound, None), (1.001 * bound, named)]
    if k == 1 and mu == 0:
        cases += [(None, "swap places for ever"), (1.0, "swap places for ever")]
    for alpha, expected in cases:
        method = section(comm.size, alpha=alpha, central_momentum=mu)
        said = None
        try:
            with built(make_config(algorithm=method, learners_per_rank=learners), comm):
                pass
        except UsageError as error:
            said = str(error)
        assert said is None if expected is None else said is not None and expected in said, (alpha, said)


@law(sizes=(2, 4), period=[2, 3], mu=[0.0, 0.9], learners=[1, 2])
def two_levels_close_the_gap_as_one_with_another_alpha(
    comm: Communicator, period: int, mu: float, learners: int
) -> None:
    num_learners = comm.size * learners
    alpha = 0.2 / num_learners
    seen = gaps(comm, learners, alpha, 6 * period, period, central_momentum=mu, block_sync_period=period)
    effective = effective_alpha(alpha, block_size(comm.size) * learners, period)
    for times, gap in enumerate(seen):
        assert_close(gap, predicted(seen[0], effective, num_learners, mu, times))
