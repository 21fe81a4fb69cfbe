"""The cost of a step over GPUs and batch, from a few measured points and what other systems have taught.

    seconds = c b + f + [m > 1] h (k - 1)/k + g log2(m),      b: samples of a GPU,  k: GPUs,  m: nodes

c b is compute; f what every step takes whatever its batch; h the transfer between nodes that the backward pass does
not hide, with the share of a ring of all GPUs (Thakur, Rabenseifner and Gropp 2005); g its latency, which grows as a
tree's depth. Two points cannot tell four numbers: f, h and g have priors, in which systems of one kind are alike and
all others less so, and c has none. A point is off the curve by a relative error (what its makers tuned for its size),
larger in some kinds than in others. The parameters are drawn from the prior and weighed by the points; for each draw c
is known in closed form. So intervals have in them what the points do not tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_DRAWS = 2048
TRANSFER_SPREAD, NOISE_SPREAD = 0.7, 0.3
"""Standard deviation of log h, and of the logarithm of the error, between systems of one kind."""
KIN = np.stack(np.meshgrid(np.linspace(-2.0, 2.0, 7), np.linspace(-2.0, 2.0, 7)), axis=-1).reshape(-1, 2)
"""Where a kind's offset from all others is looked at, ``[kinds, 2]``: of log f, and of the logarithm of spreads and
error, both in standard deviations."""
KIN_LIKELY = -np.square(KIN).sum(axis=1) / 2
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Measured points of one system: arrays of one length, at least 1.

    Attributes:
        gpus: GPUs.
        nodes: nodes.
        local_batch: samples of a step on each.
        seconds: of a step.
    """

    gpus: Array
    nodes: Array
    local_batch: Array
    seconds: Array

    @property
    def pace(self) -> float:
        """Seconds a sample and GPU at the largest local batch: the nearest to what compute alone takes."""
        most = np.argmax(self.local_batch)
        return float(self.seconds[most] / self.local_batch[most])


@dataclass(frozen=True)
class Prior:
    """What is known before any point: f is exp(level + power log(pace)), more or less.

    Attributes:
        level: logarithm of f, in seconds, where the pace is 1 s a sample.
        power: how f grows with the pace: 0 where slower devices have the same fixed part, 1 where it is the same share.
        spread: standard deviation of log f between systems of one kind.
        kinship: the same between kinds.
        transfer: h as a share of that f: the middle of a wide distribution.
        latency: g likewise: the scale of a half-normal.
        noise: standard deviation of a point about the curve, as a share of its seconds, in a middling kind.
        care: standard deviation of the logarithm of noise and spreads between kinds: some tune all alike, some none.
    """

    level: float
    power: float
    spread: float
    kinship: float
    transfer: float
    latency: float
    noise: float
    care: float

    def fixed(self, pace: float) -> float:
        """The middle of f."""
        return math.exp(self.level + self.power * math.log(pace))


@dataclass(frozen=True)
class Curve:
    """Weighted curves: what the points leave possible. Arrays ``[curves]``.

    Attributes:
        compute, compute_error: c and its standard error; 0 at least.
        fixed, transfer, latency: f, h and g.
        noise: relative error of a point.
        weights: sum to 1.
    """

    compute: Array
    compute_error: Array
    fixed: Array
    transfer: Array
    latency: Array
    noise: Array
    weights: Array

    def predict(self, gpus: float, nodes: float, local_batch: float, level: float = 0.9) -> tuple[float, float, float]:
        """Seconds of a step at another size: the middle of what is possible, and the interval.

        The interval is of a new point there, which is off the curve as the others are.
        """
        share = ring_share(np.array(gpus), np.array(nodes))
        means = self.compute * local_batch + self.fixed + self.transfer * share + self.latency * math.log2(nodes)
        errors = np.hypot(self.compute_error * local_batch, self.noise * means)
        low, middle, high = (quantile(means, errors, self.weights, q) for q in ((1 - level) / 2, 0.5, (1 + level) / 2))
        return middle, low, high


def ring_share(gpus: Array, nodes: Array) -> Array:
    """[m > 1] (k - 1)/k."""
    return np.where(nodes > 1, 1 - 1 / gpus, 0.0)


def quantile(means: Array, errors: Array, weights: Array, share: float) -> float:
    """The quantile of a mixture of normal distributions, by bisection."""
    from scipy.special import ndtr

    low, high = float((means - 8 * errors).min()), float((means + 8 * errors).max())
    for _ in range(60):
        middle = (low + high) / 2
        if float(weights @ ndtr((middle - means) / errors)) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def draw(points: Points, prior: Prior, num_draws: int = NUM_DRAWS) -> tuple[Curve, Array]:
    """Curves drawn from the prior, for each offset of :data:`KIN`, and the points' log-likelihood of each.

    Args:
        points: of one system.
        prior: what is known before.
        num_draws: of each; always the same ones.

    Returns:
        The curves ``[kinds, draws]``, of equal weights, and the logarithm of how likely the points are by each, with c
        left free.
    """
    normal = np.random.default_rng(0).standard_normal((4, num_draws))
    middle = prior.fixed(points.pace) * np.exp(prior.kinship * KIN[:, :1])
    width = np.exp(prior.care * KIN[:, 1:])
    fixed = middle * np.exp(prior.spread * width * normal[0])
    transfer = middle * prior.transfer * np.exp(TRANSFER_SPREAD * width * normal[1])
    latency = middle * prior.latency * np.abs(normal[2])
    noise = prior.noise * width * np.exp(NOISE_SPREAD * normal[3])
    nodes = points.nodes
    share = ring_share(points.gpus, nodes)
    rest = fixed[..., None] + transfer[..., None] * share + latency[..., None] * np.log2(nodes)
    # A regression through the origin, of what is left on the local batch, each point divided by its seconds.
    batch = points.local_batch / points.seconds
    left = 1 - rest / points.seconds
    square = float(batch @ batch)
    compute = left @ batch / square
    misfit = np.square(left - compute[..., None] * batch).sum(axis=-1) / noise**2
    likely = -misfit / 2 - (len(batch) - 1) * np.log(noise)
    # Compute takes no negative time.
    likely = np.where(compute > 0, likely, -np.inf)
    weights = np.full(fixed.shape, 1 / fixed.size)
    return Curve(compute, noise / math.sqrt(square), fixed, transfer, latency, noise, weights), likely


def evidence(points: Points, prior: Prior, num_draws: int = NUM_DRAWS) -> Array:
    """The logarithm of how likely a system's points are, for each offset ``[kinds]`` of its kind."""
    return log_mean(draw(points, prior, num_draws)[1])


def log_mean(values: Array) -> Array:
    """The logarithm of the mean of exponentials along the last axis."""
    top = np.maximum(values.max(axis=-1, keepdims=True), -1e300)
    return np.asarray(np.log(np.exp(values - top).mean(axis=-1) + 1e-300) + top[..., 0])


def posterior(points: Points, prior: Prior, kin: Sequence[Points] = ()) -> Curve:
    """The curves that a system's own points leave possible.

    Args:
        points: the system's.
        prior: from others (:func:`hpcsgd.scaling.learned.learn`).
        kin: points of other systems of its kind.
    """
    curves, likely = draw(points, prior)
    offset = KIN_LIKELY + sum((evidence(other, prior) for other in kin), np.zeros(len(KIN)))
    chances = likely + offset[:, None]
    weights = np.exp(chances - chances.max())
    weights = weights / weights.sum()
    flat = (curves.compute, curves.compute_error, curves.fixed, curves.transfer, curves.latency, curves.noise, weights)
    return Curve(*(array.ravel() for array in flat))
