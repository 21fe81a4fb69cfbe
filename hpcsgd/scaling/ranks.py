"""How unequally fast ranks are: what stays, what goes on for a while, and what each step draws anew.

The logarithm of a step's compute is that of the usual time, plus an effect of the node and of the device, plus an
autoregression of first order, plus an independent number. Waiting for the slowest rank once in H steps averages the
last away (about as 1 / sqrt(H)), the second less, and the first never: so the three are told apart.

Variances and correlation are those of most likelihood by the periodogram (Whittle 1953), whose expectation is taken for
the series' own length (Sykulski et al. 2019); it has no frequency 0, so that effects of ranks are no part of it. The
independent part is as it was seen, with a generalised Pareto tail above its 90 % quantile (Hosking and Wallis 1987).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcsgd.scaling.tails import Independent

LONGEST_PIECE = 512
"""Steps of the series whose periodogram is taken at once: slower changes count as persistent."""

CORRELATIONS = np.array([0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99])
SHARES = np.linspace(0.0, 1.0, 41)[1:]
"""Where the largest likelihood is looked for: correlation, and share of the variance that is autocorrelated."""

LEAST_GAIN = 2.0
"""Two numbers more are worth as much of the logarithm of the likelihood (Akaike)."""


@dataclass(frozen=True)
class Noise:
    """Of one step of a rank: standard deviations of logarithms.

    Attributes:
        correlated: of the autocorrelated part.
        correlation: of that part, from one step to the next.
        independent: of the independent one.
    """

    correlated: float
    correlation: float
    independent: float

    def variance_of_mean(self, num_steps: int) -> float:
        """Of the mean over so many steps in a row."""
        lags = np.arange(1, num_steps)
        waves = 1 + 2 * float(np.sum((1 - lags / num_steps) * self.correlation**lags))
        return (self.independent**2 + self.correlated**2 * waves) / num_steps


@dataclass(frozen=True)
class Spectrum:
    """Periodograms of the same length.

    Attributes:
        num_steps: of each series.
        power: mean over the series of |FFT|^2 / steps, at the positive frequencies but 0.
        num_series: how many there are.
    """

    num_steps: int
    power: NDArray[np.float64]
    num_series: int

    def redrawn(self, generator: np.random.Generator) -> Spectrum:
        """As other series of the same process would have it: ordinates are exponential (Dahlhaus and Janas 1996)."""
        factors = generator.gamma(self.num_series, 1 / self.num_series, len(self.power))
        return Spectrum(self.num_steps, self.power * factors, self.num_series)


def spectra(series: Sequence[NDArray[np.float64]]) -> list[Spectrum]:
    """Of logarithms [steps, ranks] of several logs; one of a length that has fewer than 8 steps tells nothing."""
    by_length: dict[int, list[NDArray[np.float64]]] = {}
    for logs in series:
        length = min(len(logs), LONGEST_PIECE)
        if length >= 8:
            for begin in range(0, len(logs) - length + 1, length):
                piece = logs[begin : begin + length]
                power = np.abs(np.fft.rfft(piece - piece.mean(axis=0), axis=0)[1:]) ** 2 / length
                by_length.setdefault(length, []).append(power)
    return [
        Spectrum(length, np.concatenate(found, axis=1).mean(axis=1), sum(power.shape[1] for power in found))
        for length, found in by_length.items()
    ]


def expected_power(correlation: float, num_steps: int) -> NDArray[np.float64]:
    """What the periodogram of an autoregression of variance 1 is on average, at the positive frequencies but 0."""
    lags = np.arange(num_steps)
    weighed = (1 - lags / num_steps) * correlation**lags
    return np.asarray(2 * np.fft.rfft(weighed).real[1:] - 1.0)


def fit_noise(found: Sequence[Spectrum]) -> Noise:
    """The most likely noise; no autocorrelated part where it gains too little. Zero without a series."""
    if not found:
        return Noise(0.0, 0.0, 0.0)
    total = sum(one.num_series * len(one.power) for one in found)
    variance = sum(one.num_series * one.power.sum() for one in found) / total
    if variance <= 0:
        return Noise(0.0, 0.0, 0.0)
    weights = np.concatenate([np.full(len(one.power), one.num_series) for one in found])
    power = np.concatenate([one.power for one in found])
    best, noise = -total * np.log(variance) + LEAST_GAIN, Noise(0.0, 0.0, float(np.sqrt(variance)))
    for correlation in CORRELATIONS:
        shape = np.concatenate([expected_power(correlation, one.num_steps) for one in found])
        # [shares, frequencies], for a variance of 1.
        whole = 1 + SHARES[:, None] * (shape - 1)
        scales = (weights * power / whole).sum(axis=1) / total
        gains = -(weights * np.log(whole)).sum(axis=1) - total * np.log(scales)
        place = int(np.argmax(gains))
        if gains[place] > best:
            best, (scale, share) = float(gains[place]), (scales[place], SHARES[place])
            noise = Noise(float(np.sqrt(scale * share)), float(correlation), float(np.sqrt(scale * (1 - share))))
    return noise


def independent_part(logs: NDArray[np.float64], noise: Noise) -> NDArray[np.float64]:
    """The independent part of series [steps, ranks] of mean 0, as far as it can be told: Wiener's filter, rescaled."""
    if noise.correlated == 0 or noise.independent == 0:
        return logs
    power = np.concatenate(([np.inf], expected_power(noise.correlation, len(logs)) * noise.correlated**2))
    passes = 1 / (1 + power / noise.independent**2)
    rest = np.fft.irfft(np.fft.rfft(logs, axis=0) * passes[:, None], n=len(logs), axis=0)
    spread = float(rest.std())
    return np.asarray(rest * (noise.independent / spread if spread > 0 else 0.0))


@dataclass(frozen=True)
class Effects:
    """What stays of devices: logarithms around 0.

    Attributes:
        nodes: of each node that was seen; one of 0 where nodes are no larger than devices.
        devices: of each device within its node, [nodes][devices].
    """

    nodes: NDArray[np.float64]
    devices: tuple[NDArray[np.float64], ...]

    @property
    def num_devices(self) -> int:
        """Devices that were seen."""
        return sum(map(len, self.devices))

    def redrawn(self, generator: np.random.Generator) -> Effects:
        """Of nodes and, within them, devices that were drawn from those seen, with replacement."""
        places = generator.integers(len(self.nodes), size=len(self.nodes))
        kept = tuple(generator.choice(self.devices[place], len(self.devices[place])) for place in places)
        return Effects(self.nodes[places], kept)

    def draw(self, num_ranks: int, per_node: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Of ``num_ranks`` others, so many on a node."""
        num_nodes = -(-num_ranks // per_node)
        nodes = np.repeat(generator.choice(self.nodes, num_nodes), per_node)[:num_ranks]
        return np.asarray(nodes + generator.choice(np.concatenate(self.devices), num_ranks))


NO_EFFECTS = Effects(np.zeros(1), (np.zeros(1),))


def split_effects(effects: Sequence[float], variances: Sequence[float], nodes: Sequence[str]) -> Effects:
    """Effects of nodes and of devices within them.

    Args:
        effects: the mean logarithm of each device.
        variances: of these means, by the noise alone: as much as they have in excess is what stays.
        nodes: each device's.
    """
    values, names = np.asarray(effects, float), np.asarray(nodes)
    values = values - values.mean()
    seen = float(np.mean(values**2)) * len(values) / max(len(values) - 1, 1)
    kept = max(0.0, 1 - float(np.mean(variances)) / seen) if seen > 0 else 0.0
    values = values * np.sqrt(kept)
    groups = [values[names == name] for name in dict.fromkeys(nodes)]
    if len(groups) < 2 or max(map(len, groups)) < 2:
        return Effects(np.zeros(1), (values,))
    means = np.array([group.mean() for group in groups])
    inner = [group - mean for group, mean in zip(groups, means, strict=True)]
    within = sum(float(np.sum(rest**2)) for rest in inner) / max(len(values) - len(groups), 1)
    # Means of nodes differ also where only devices do: so much less is the node's.
    between = float(np.var(means, ddof=1))
    by_devices = within * float(np.mean([1 / len(group) for group in groups]))
    share = np.sqrt(max(0.0, 1 - by_devices / between)) if between > 0 else 0.0
    rests = [group - share * mean for group, mean in zip(groups, means, strict=True)]
    return Effects(means * share, tuple(rests))


@dataclass(frozen=True)
class Slowdown:
    """All three: how many times as long as usual a step of a rank takes, as logarithms.

    Attributes:
        effects: what stays.
        noise: what does not.
        independent: the shape of the independent part, of which ``noise`` has the size.
    """

    effects: Effects
    noise: Noise
    independent: Independent
