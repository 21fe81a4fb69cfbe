"""Which alphas of synchronous model averaging are taken, against the eigenvalues of the recursion itself."""

from __future__ import annotations

import numpy as np
import pytest

from hpcsgd.algorithms.stability import check_blocks, effective_alpha, resolve_alpha, stability_bound
from hpcsgd.config import AlgorithmConfig
from hpcsgd.errors import UsageError


def growth(alpha: float, num_learners: int, mu: float) -> float:
    """The largest factor by which one averaging stretches gap and move: w and z step by step, on a flat loss."""
    columns = []
    for gap, move in ((1.0, 0.0), (0.0, 1.0)):
        w, z, z_prev = gap, 0.0, -move
        correction = alpha * (w - z)
        w, z, z_prev = w - correction, z + num_learners * correction + mu * (z - z_prev), z
        columns.append((w - z, z - z_prev))
    return float(np.abs(np.linalg.eigvals(np.array(columns).T)).max())


@pytest.mark.parametrize("num_learners", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("mu", [0.0, 0.3, 0.9])
def test_the_bound_is_where_the_recursion_begins_to_grow(num_learners: int, mu: float) -> None:
    bound = stability_bound(num_learners, mu)
    assert growth(0.999 * bound, num_learners, mu) < 1 < growth(1.001 * bound, num_learners, mu)
    assert growth(0.5 * bound, num_learners, mu) < 1


@pytest.mark.parametrize("mu", [0.0, 0.9])
def test_one_over_k_is_stable_but_for_one_learner_without_momentum(mu: float) -> None:
    config = AlgorithmConfig(name="sma", central_momentum=mu)
    for num_learners in range(2, 200):
        assert resolve_alpha(config, num_learners) == 1 / num_learners
    if mu:
        assert resolve_alpha(config, 1) == 1
    else:
        with pytest.raises(UsageError, match="swap places for ever"):
            resolve_alpha(config, 1)


def test_a_half_diverges_from_six_learners() -> None:
    config = AlgorithmConfig(name="sma", alpha=0.5)
    assert resolve_alpha(config, 5) == 0.5
    with pytest.raises(UsageError) as caught:
        resolve_alpha(config, 6)
    for words in ("algorithm.alpha is 0.5", "2 (1 + mu) / (k + 1 + mu) = 0.481013", "k = 6", "momentum 0.9"):
        assert words in str(caught.value)


def test_no_correction_at_all_is_taken() -> None:
    assert resolve_alpha(AlgorithmConfig(name="ea_sgd", alpha=0.0), 1) == 0
    assert resolve_alpha(AlgorithmConfig(name="sma", alpha=0.0), 9) == 0


@pytest.mark.parametrize("period", [1, 2, 5])
def test_a_block_closes_its_gap_as_by_one_averaging(period: int) -> None:
    w, r = 1.0, 0.0
    for _ in range(period):
        w, r = w - 0.1 * (w - r), r + 3 * 0.1 * (w - r)
    effective = effective_alpha(0.1, 3, period)
    assert (w, r) == (pytest.approx(1 - effective), pytest.approx(3 * effective))


def test_blocks_that_overshoot_are_refused_with_a_period_that_does_not() -> None:
    # Four blocks of four: 1/16 at first, up to 1/5 after many averagings within a block; the bound is 3.8 / 17.9.
    config = AlgorithmConfig(name="sma", block_sync_period=50)
    check_blocks(config, 1 / 16, 16, [4, 4, 4, 4])
    with pytest.raises(UsageError, match="a block of 2 learners .* or a block_sync_period of 4$"):
        check_blocks(config, 1 / 16, 16, [2] * 8)
    assert effective_alpha(1 / 16, 2, 4) < stability_bound(16, 0.9) < effective_alpha(1 / 16, 2, 5)
    with pytest.raises(UsageError, match="a block_sync_period of 1$"):
        check_blocks(AlgorithmConfig(name="sma", block_sync_period=2), 0.7, 2, [2])
