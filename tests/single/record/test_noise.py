"""The estimates of the gradient noise scale, where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpcsgd.record.clocks import SharedRow
from hpcsgd.record.noise import INDEX, estimates, own_mean_norms
from hpcsgd.record.schema import RANK_COLUMNS


@pytest.mark.parametrize(("ranks", "learners", "batch"), [(2, 1, 4), (3, 1, 1), (2, 3, 8)])
def test_both_estimates_are_unbiased_with_the_variance_that_they_should_have(
    ranks: int, learners: int, batch: int
) -> None:
    """The gradient of a quadratic (w - x)^2 / 2 at a point: G + Gaussian noise of the samples x, Sigma = sigma^2 1."""
    steps, size, sigma, k = 4000, 10, 1.5, ranks * learners
    generator = np.random.default_rng(7)
    true = np.linspace(-1, 2, size)
    own = true + generator.normal(0, sigma / math.sqrt(batch), (steps, ranks, learners, size))
    everyone = np.full((steps, ranks, len(RANK_COLUMNS)), np.nan)
    everyone[:, :, INDEX["loss_weight"]] = learners * batch
    everyone[:, :, INDEX["learner_gradient_norm"]] = np.sqrt((own**2).sum(axis=3).mean(axis=2))
    everyone[:, :, INDEX["gradient_norm"]] = np.sqrt((own.mean(axis=(1, 2)) ** 2).sum(axis=1))[:, None]
    found = estimates(everyone, learners)
    square, trace = float((true**2).sum()), size * sigma**2
    # tr(Sigma): a chi square of (k - 1) P; |G + mean noise|^2 is independent of it.
    of_trace = 2 * trace**2 / ((k - 1) * size)
    of_mean = sigma**2 / (k * batch)
    of_square = 4 * square * of_mean + 2 * size * of_mean**2 + of_trace / (k * batch) ** 2
    for name, truth, variance in (("gradient_variance", trace, of_trace), ("gradient_square", square, of_square)):
        values = found[name]
        assert abs(values.mean() - truth) < 4 * math.sqrt(variance / steps), name
        assert values.var() == pytest.approx(variance, rel=0.15), name


def test_learners_of_unequal_batches_are_two_equations_too() -> None:
    """Norms without noise of their own: |G|^2 = 3, tr(Sigma) = 12, batches of 1 and 3."""
    everyone = np.full((1, 2, len(RANK_COLUMNS)), np.nan)
    everyone[0, :, INDEX["loss_weight"]] = 1, 3
    everyone[0, :, INDEX["learner_gradient_norm"]] = math.sqrt(3 + 12), math.sqrt(3 + 12 / 3)
    everyone[0, :, INDEX["gradient_norm"]] = math.sqrt(3 + 12 / 4)
    found = estimates(everyone, 1)
    np.testing.assert_allclose([found["gradient_square"], found["gradient_variance"]], [[3], [12]])


def test_one_learner_or_a_rank_without_samples_tells_nothing() -> None:
    for weights in ([4.0], [4.0, 0.0]):
        everyone = np.ones((1, len(weights), len(RANK_COLUMNS)))
        everyone[0, :, INDEX["loss_weight"]] = weights
        assert all(np.isnan(value).all() for value in estimates(everyone, 1).values())


def test_what_a_learner_adds_is_brought_to_its_own_mean() -> None:
    """Two learners of 3 samples each, of 12 of all: each adds a quarter of its mean; the loss may be scaled."""
    scales = [math.nan, 1024.0, math.nan, 0.0]
    shared = [SharedRow(step, 0, 0.1, 1, 8, 0, 6, 12, scale) for step, scale in enumerate(scales)]
    weights = np.array([6, 6, np.nan, 6])
    found = own_mean_norms(np.array([0.5, 512.0, 0.5, 0.5]), shared, weights, 2)
    np.testing.assert_array_equal(found, [2.0, 2.0, np.nan, np.nan])
