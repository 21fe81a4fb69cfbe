"""Where a study searches its metaparameters.

A value that may differ by batch size is one number for all of them, or a mapping from batch size to number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from hpcsgd.config.check import check_values, require

PARAMETERS = ("learning_rate", "momentum", "learning_rate_decay_steps", "end_learning_rate_factor", "label_smoothing")
"""Metaparameters that a study searches, by their names in the public archive."""

ARCHIVE_SCALES = {"linear": "LINEAR_SCALE", "log": "LOG_SCALE", "reverse_log": "REVERSE_LOG_SCALE"}

T = TypeVar("T", int, float)


def value_at(value: T | dict[int, T], batch_size: int) -> T:
    """The value for one batch size."""
    return value[batch_size] if isinstance(value, dict) else value


def all_values(value: T | dict[int, T]) -> list[T]:
    """All numbers that are in ``value``."""
    return list(value.values()) if isinstance(value, dict) else [value]


def whole_steps(value: float) -> int:
    """The nearest number of steps, at least 1: a decay over no step would have no rate."""
    return max(1, round(value))


@dataclass(frozen=True)
class RangeConfig:
    """Where one metaparameter is searched: between ``min`` and ``max``, or among ``points``; neither: not searched.

    Attributes:
        min: least value; one number, or a mapping from batch size to number.
        max: greatest value, likewise.
        scale: what is uniform: the value (``linear``), its log (``log``), or the log of 1 - value (``reverse_log``).
        points: the only values, where it has no range; a single one fixes it.
        of_budget: ``min``, ``max`` and ``points`` are fractions of the batch size's step budget (decay steps).
    """

    min: float | dict[int, float] | None = None
    max: float | dict[int, float] | None = None
    scale: Literal["linear", "log", "reverse_log"] = "linear"
    points: tuple[float, ...] = ()
    of_budget: bool = False

    @property
    def given(self) -> bool:
        """Whether the metaparameter is searched at all."""
        return self.min is not None or bool(self.points)

    def check(self, name: str, low: float, high: float) -> None:
        """Refuse what no search can be made in; values must lie in [``low``, ``high``)."""
        check_values(self, f"{name}.")
        require((self.min is None) == (self.max is None), f"{name}.max", self.max, "given with min, and only then")
        require(self.min is None or not self.points, f"{name}.points", self.points, "() where min and max are given")
        ends = [v for end in (self.min, self.max) if end is not None for v in all_values(end)]
        valid = f"at least {low:g} and below {high:g}" if math.isfinite(high) else f"{low:g} or more"
        for value in (*ends, *self.points):
            require(low <= value < high, name, value, valid)
        require(self.scale != "log" or all(v > 0 for v in ends), f"{name}.min", self.min, "positive on a log scale")
        reverse = self.scale == "reverse_log"
        require(not reverse or all(v < 1 for v in ends), f"{name}.max", self.max, "below 1 on a reverse_log scale")

    def at(self, batch_size: int, budget: int) -> dict[str, Any]:
        """The range at one batch size as the public archive writes it, without its type."""
        unit = budget if self.of_budget else 1
        if self.points:
            return {"feasible_points": sorted(p * unit for p in self.points)}
        assert self.min is not None and self.max is not None
        ends = (value_at(self.min, batch_size) * unit, value_at(self.max, batch_size) * unit)
        return {"min_value": ends[0], "max_value": ends[1], "scale": ARCHIVE_SCALES[self.scale]}


@dataclass(frozen=True)
class SpaceConfig:
    """The metaparameters that are searched, by their names in the public archive.

    Attributes:
        learning_rate: eta, before its decay; needed.
        momentum: mu; not searched, ``optimizer.momentum``.
        learning_rate_decay_steps: steps of a linear decay of the rate, constant after it; not searched, no decay.
        end_learning_rate_factor: what the decay leaves of the rate; not searched, 0.
        label_smoothing: weight of the uniform distribution in the targets; not searched, 0.
    """

    learning_rate: RangeConfig = field(default_factory=RangeConfig)
    momentum: RangeConfig = field(default_factory=RangeConfig)
    learning_rate_decay_steps: RangeConfig = field(default_factory=RangeConfig)
    end_learning_rate_factor: RangeConfig = field(default_factory=RangeConfig)
    label_smoothing: RangeConfig = field(default_factory=RangeConfig)

    def __post_init__(self) -> None:
        for name in PARAMETERS:
            getattr(self, name).check(f"space.{name}", 0, 1 if name in ("momentum", "label_smoothing") else math.inf)
            only = name == "learning_rate_decay_steps" or not getattr(self, name).of_budget
            require(only, f"space.{name}.of_budget", True, "false: it is for learning_rate_decay_steps")
        decays = self.learning_rate_decay_steps.given or not self.end_learning_rate_factor.given
        require(decays, "space.end_learning_rate_factor", "given", "unset without learning_rate_decay_steps")

    def at(self, batch_size: int, budget: int) -> dict[str, dict[str, Any]]:
        """The space at one batch size, as ``parameter_configs`` of the public archive.

        Args:
            batch_size: the batch size.
            budget: its step budget.
        """
        result = {}
        for name in PARAMETERS:
            given: RangeConfig = getattr(self, name)
            if not given.given:
                continue
            found = given.at(batch_size, budget)
            whole = name == "learning_rate_decay_steps"
            if whole and "min_value" in found:
                found = {end: whole_steps(found[end]) for end in ("min_value", "max_value")} | {"scale": ""}
            elif whole:
                found["feasible_points"] = sorted({whole_steps(point) for point in found["feasible_points"]})
            kind = "DISCRETE" if given.points else "INTEGER" if whole else "DOUBLE"
            result[name] = {"type": kind, **found}
        return result
