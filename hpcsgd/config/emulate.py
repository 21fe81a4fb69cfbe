"""What a run pretends its machine to be: a slower network, and more devices that compute (``emulate``)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from hpcsgd.config.check import check_values, require

LONGEST_SECONDS = 60.0
"""Of what is waited at once."""


@dataclass(frozen=True)
class EmulatedNetworkConfig:
    """A slower network: what ranks exchange takes at least as long as it would there, by real waiting.

    Attributes:
        latency_seconds: of a message between nodes.
        bytes_per_second: bandwidth of a node's link to the others, in each direction; unset, none is waited for.
            Where neither is given, no network is emulated.
        ranks_per_node: ranks that are a node of it, in rank order; a block of ranks is such a node too, where
            ``algorithm.block_size`` is unset.
        node_latency_seconds: of a message within a node.
        node_bytes_per_second: bandwidth of a rank's link within its node; unset, none is waited for.
    """

    latency_seconds: float = 0.0
    bytes_per_second: float | None = None
    ranks_per_node: int = 1
    node_latency_seconds: float = 0.0
    node_bytes_per_second: float | None = None

    @property
    def is_on(self) -> bool:
        """Whether a network is emulated."""
        return self.latency_seconds > 0 or self.bytes_per_second is not None

    def __post_init__(self) -> None:
        prefix = "emulate.network."
        check_values(self, prefix)
        for name in ("latency_seconds", "node_latency_seconds"):
            _check_seconds(prefix + name, getattr(self, name))
        for name in ("bytes_per_second", "node_bytes_per_second"):
            value = getattr(self, name)
            require(value is None or value >= 1, prefix + name, value, "1 or more")
        require(self.ranks_per_node >= 1, f"{prefix}ranks_per_node", self.ranks_per_node, "1 or more")
        needs = {
            "ranks_per_node": (self.is_on, "latency_seconds or bytes_per_second"),
            "node_latency_seconds": (self.ranks_per_node > 1, "ranks_per_node above 1"),
            "node_bytes_per_second": (self.ranks_per_node > 1, "ranks_per_node above 1"),
        }
        _refuse_alone(self, prefix, needs)


@dataclass(frozen=True)
class EmulatedComputeConfig:
    """Devices that compute: a step's passes take at least as long as there, by real waiting, and give real gradients.

    A third of a step is its forward pass, the rest its backward pass, in which gradients come bucket by bucket. Times
    are a function of ``seed``, rank and step: a resumed run has those that it would have had.

    Attributes:
        step_seconds: of a step of a rank, whatever its batch. Where this and ``sample_seconds`` are 0, no compute is
            emulated.
        sample_seconds: of each of its samples beside that.
        spread: standard deviation of the logarithm of a step's time, drawn for each rank and step alone; means stay.
        correlated_spread: the same of a factor that goes on from one step of a rank to the next.
        correlation: of that factor's logarithms in two steps that follow each other.
        slow_ranks: ranks that are always slower.
        slow_factor: how many times as long they take.
        drift: how much longer each step of all ranks takes than the one before, in parts of the first.
    """

    step_seconds: float = 0.0
    sample_seconds: float = 0.0
    spread: float = 0.0
    correlated_spread: float = 0.0
    correlation: float = 0.95
    slow_ranks: tuple[int, ...] = ()
    slow_factor: float = 1.5
    drift: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether compute is emulated."""
        return self.step_seconds > 0 or self.sample_seconds > 0

    def __post_init__(self) -> None:
        prefix = "emulate.compute."
        check_values(self, prefix)
        for name in ("step_seconds", "sample_seconds"):
            _check_seconds(prefix + name, getattr(self, name))
        for name in ("spread", "correlated_spread"):
            require(0 <= getattr(self, name) <= 2, prefix + name, getattr(self, name), "in [0, 2]")
        require(0 <= self.correlation < 1, f"{prefix}correlation", self.correlation, "in [0, 1)")
        require(0 < self.slow_factor <= 1000, f"{prefix}slow_factor", self.slow_factor, "in (0, 1000]")
        told = len(set(self.slow_ranks)) == len(self.slow_ranks) and all(rank >= 0 for rank in self.slow_ranks)
        require(told, f"{prefix}slow_ranks", self.slow_ranks, "different ranks, from 0")
        require(0 <= self.drift <= 1, f"{prefix}drift", self.drift, "in [0, 1]")
        on = (self.is_on, "step_seconds or sample_seconds")
        needs = dict.fromkeys(("spread", "correlated_spread", "slow_ranks", "drift"), on)
        needs["correlation"] = (self.correlated_spread > 0, "correlated_spread")
        needs["slow_factor"] = (bool(self.slow_ranks), "slow_ranks")
        _refuse_alone(self, prefix, needs)


@dataclass(frozen=True)
class EmulateConfig:
    """A machine that is not there, so that algorithms can be compared on one that is. Times are *emulated*.

    Attributes:
        network: its network.
        compute: its devices.
    """

    network: EmulatedNetworkConfig = field(default_factory=EmulatedNetworkConfig)
    compute: EmulatedComputeConfig = field(default_factory=EmulatedComputeConfig)

    @property
    def is_on(self) -> bool:
        """Whether anything is emulated."""
        return self.network.is_on or self.compute.is_on

    def describe(self) -> str:
        """What is emulated, in words, for the log; empty: nothing."""
        return " and ".join(filter(None, (_say("compute", self.compute), _say("network", self.network))))


def _say(what: str, section: EmulatedNetworkConfig | EmulatedComputeConfig) -> str:
    """A section that is on, by what it says other than its defaults."""
    if not section.is_on:
        return ""
    given = ((known.name, getattr(section, known.name)) for known in dataclasses.fields(section))
    said = (f"{name} {_plain(value)}" for name, value in given if value != getattr(type(section)(), name))
    return f"{what} ({', '.join(said)})"


def _plain(value: Any) -> str:
    """A number, or several, in few characters."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


def _check_seconds(name: str, seconds: float) -> None:
    require(0 <= seconds <= LONGEST_SECONDS, name, seconds, f"0 to {LONGEST_SECONDS:g}")


def _refuse_alone(section: Any, prefix: str, needs: dict[str, tuple[bool, str]]) -> None:
    """Refuse values that would be ignored, as what they belong to is not given."""
    default = {known.name: known.default for known in dataclasses.fields(section)}
    for name, (counts, others) in needs.items():
        value = getattr(section, name)
        if value != default[name] and not counts:
            raise ValueError(
                f"{prefix}{name} is {value!r}, which counts with {prefix}{others} only: leave {prefix}{name} out"
            )
