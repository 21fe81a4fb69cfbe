"""The gradient noise scale from norms of gradients of two batch sizes (McCandlish 2018, appendix A.1).

The gradient of a batch of B samples has the expected square |G|^2 + tr(Sigma) / B, with G the true gradient and Sigma
the covariance of a sample's. Each learner's own gradient and that of all together are two sizes: two equations for two
unknowns. Both estimates are unbiased, and noisy; B_simple = tr(Sigma) / |G|^2 is the ratio of their running means, not
the mean of their ratios.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.record.clocks import SharedRow
from hpcsgd.record.schema import RANK_COLUMNS

INDEX = {column.name: i for i, column in enumerate(RANK_COLUMNS)}


def own_mean_norms(
    norms: NDArray[np.float64], shared: Sequence[SharedRow], weights: NDArray[np.float64], learners: int
) -> NDArray[np.float64]:
    """The norms of a learner's own mean gradient in some steps, [rows].

    Args:
        norms: root mean square, over a rank's learners, of the norms of what each adds to the gradient of all.
        shared: the steps, whose losses were divided by the samples of all learners.
        weights: samples of the rank, or what they weigh; NaN without any.
        learners: of the rank; all have as much.
    """
    scales = np.array([row.loss_scale for row in shared], np.float64)
    # What its losses were multiplied by; NaN: by nothing; 0: the step was left out.
    scales = np.where(np.isnan(scales), 1.0, np.where(scales == 0, np.nan, scales))
    num_global = np.array([row.num_global for row in shared], np.float64)
    return norms * num_global * learners / weights / scales


def estimates(everyone: NDArray[np.float64], learners: int) -> dict[str, Any]:
    """|G|^2 and tr(Sigma) of each step; NaN where norms were not taken, or there is one learner.

    Args:
        everyone: the ``RANK_COLUMNS`` of all ranks, ``[steps, ranks, columns]``.
        learners: of each rank.

    Returns:
        The columns ``gradient_square`` and ``gradient_variance``, ``[steps]``.
    """
    weights = everyone[:, :, INDEX["loss_weight"]]
    large = everyone[:, 0, INDEX["gradient_norm"]] ** 2
    small = (everyone[:, :, INDEX["learner_gradient_norm"]] ** 2).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_small, of_large = (learners / weights).mean(axis=1), 1 / weights.sum(axis=1)
        are_two = (of_small > of_large) & np.isfinite(of_small)
        variance = np.where(are_two, (small - large) / (of_small - of_large), np.nan)
        return {"gradient_square": large - of_large * variance, "gradient_variance": variance}
