"""What the trials of a study are to reach, and when they end."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpcsgd.config.check import check_values, require
from hpcsgd.config.space import all_values, value_at

ERRORS = ("cross_entropy_error", "classification_error")
"""What is measured of classes where a recipe says nothing else, by the names of the public archive."""


@dataclass(frozen=True)
class GoalConfig:
    """What a trial is to reach: a validation metric strictly below a value.

    Attributes:
        metric: judged on the validation split: ``val/classification_error`` or ``val/cross_entropy_error``; in a study
            of another loss or with metrics of the user's, ``val/loss`` or ``val/NAME`` of one of these.
        value: the goal, a fraction for errors; unset, there is none.
    """

    metric: str = "val/classification_error"
    value: float | None = None

    def __post_init__(self) -> None:
        check_values(self, "goal.")
        of_archive = self.metric.removeprefix("val/") in ERRORS
        require(not of_archive or self.value is None or self.value > 0, "goal.value", self.value, "positive")
        error = self.metric.endswith("classification_error")
        require(not error or self.value is None or self.value < 1, "goal.value", self.value, "a fraction below 1")


@dataclass(frozen=True)
class StopConfig:
    """When a trial ends.

    Attributes:
        steps: step budget; one number, or a mapping from batch size to number.
        epochs: epoch budget, likewise; with both, the smaller counts.
        at_goal: end a trial at its first evaluation that is better than the goal. It is COMPLETE.
        patience: evaluations without a better goal metric after which a trial is given up as INCOMPLETE; unset, never.
    """

    steps: int | dict[int, int] | None = None
    epochs: float | dict[int, float] | None = None
    at_goal: bool = False
    patience: int | None = None

    def __post_init__(self) -> None:
        check_values(self, "stop.")
        for name in ("steps", "epochs"):
            value = getattr(self, name)
            ok = value is None or all(v > 0 for v in all_values(value))
            require(ok, f"stop.{name}", value, "positive")
        require(self.patience is None or self.patience >= 1, "stop.patience", self.patience, "1 or more")

    def budget(self, batch_size: int, num_samples: int) -> int:
        """Steps that make a trial COMPLETE, with ``num_samples`` training samples."""
        found = []
        if self.steps is not None:
            found.append(value_at(self.steps, batch_size))
        if self.epochs is not None:
            found.append(math.ceil(value_at(self.epochs, batch_size) * num_samples / batch_size))
        return max(1, min(found))
