"""The learning rate as a recipe says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpcsgd.config.check import check_values, require, used_with

SMOOTH_DECAYS = ("linear", "polynomial", "cosine")


@dataclass(frozen=True)
class LearningRateConfig:
    """The learning rate as a function of the step.

    Attributes:
        base: learning rate of one batch of ``base_batch_size``.
        base_batch_size: the batch that ``base`` was tuned for.
        scaling_rule: ``linear`` (base * global batch / base batch; Goyal), ``sqrt`` or ``none``.
        warmup: ``none``; ``constant``, ``warmup_start`` and then the full rate; ``gradual``, from
            ``warmup_start`` by a constant increment every iteration.
        warmup_epochs: its length.
        warmup_start: first learning rate; unset, ``base``.
        decay: ``none``; ``step``, times ``decay_factor`` at each of ``milestones``; ``linear`` to
            ``final_fraction`` over ``decay_epochs`` and then constant (Shallue); ``polynomial`` of ``power``;
            ``cosine``. The warm-up does not shift it.
        milestones: epochs of the drops.
        decay_factor: factor of a drop.
        decay_epochs: length of the smooth decays; unset, the whole run.
        final_fraction: what is left of the rate at the end of a smooth decay.
        power: exponent of ``polynomial``.
    """

    base: float = 0.1
    base_batch_size: int = 256
    scaling_rule: Literal["linear", "sqrt", "none"] = "linear"
    warmup: Literal["none", "constant", "gradual"] = "none"
    warmup_epochs: float = 5.0
    warmup_start: float | None = None
    decay: Literal["none", "step", "linear", "polynomial", "cosine"] = "none"
    milestones: tuple[float, ...] = ()
    decay_factor: float = used_with("decay", "step", "none", default=0.1)
    decay_epochs: float | None = used_with("decay", *SMOOTH_DECAYS, "none", default=None)
    final_fraction: float = used_with("decay", *SMOOTH_DECAYS, "none", default=0.0)
    power: float = used_with("decay", "polynomial", "none", default=1.0)

    def __post_init__(self) -> None:
        check_values(self, "learning_rate.")
        require(self.base > 0, "learning_rate.base", self.base, "positive")
        require(self.base_batch_size >= 1, "learning_rate.base_batch_size", self.base_batch_size, "1 or more")
        require(self.warmup_epochs >= 0, "learning_rate.warmup_epochs", self.warmup_epochs, "0 or more")
        start = self.warmup_start
        require(start is None or start >= 0, "learning_rate.warmup_start", start, "0 or more")
        require(
            self.decay_epochs is None or self.decay_epochs > 0,
            "learning_rate.decay_epochs",
            self.decay_epochs,
            "positive",
        )
        require(0 < self.decay_factor < 1, "learning_rate.decay_factor", self.decay_factor, "in (0, 1)")
        require(0 <= self.final_fraction <= 1, "learning_rate.final_fraction", self.final_fraction, "in [0, 1]")
        require(self.power > 0, "learning_rate.power", self.power, "positive")
        rising = all(a < b for a, b in zip((0.0, *self.milestones), self.milestones, strict=False))
        require(rising, "learning_rate.milestones", self.milestones, "positive and rising")
        stepwise = self.decay == "step"
        require(
            stepwise == bool(self.milestones),
            "learning_rate.milestones",
            self.milestones,
            "given with decay: step, and only then",
        )
