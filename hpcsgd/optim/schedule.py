"""The learning rate as a pure function of the step (Goyal 2017, section 2; Shallue 2019, section 3)."""

from __future__ import annotations

import math

from hpcsgd.config import LearningRateConfig


def scaled_rate(config: LearningRateConfig, global_batch_size: int) -> float:
    """The peak learning rate: ``base`` scaled by the global batch (linear: Goyal, section 2.1)."""
    ratio = global_batch_size / config.base_batch_size
    factor = {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[config.scaling_rule]
    return config.base * factor


class LearningRate:
    """Learning rate of each step: scaling rule, warm-up, decay.

    Attributes:
        peak: the rate after scaling.
        first_drop: first step with a dropped rate (``decay: step``), else None.
        warmup_steps: steps of the warm-up.
    """

    def __init__(self, config: LearningRateConfig, global_batch_size: int, steps_per_epoch: int, epochs: int) -> None:
        """
        Args:
            config: the recipe's section.
            global_batch_size: samples of one step of all learners.
            steps_per_epoch: steps of an epoch.
            epochs: epochs of the whole run.
        """
        self.config = config
        self.peak = scaled_rate(config, global_batch_size)
        self._drops = [round(epoch * steps_per_epoch) for epoch in config.milestones]
        self._decay_steps = max(1, round((config.decay_epochs or epochs) * steps_per_epoch))
        self.warmup_steps = round(config.warmup_epochs * steps_per_epoch) if config.warmup != "none" else 0
        self._start = config.base if config.warmup_start is None else config.warmup_start
        self.first_drop = self._drops[0] if self._drops else None

    def __call__(self, step: int) -> float:
        """Learning rate of the update number ``step``, from 0."""
        if step >= self.warmup_steps:
            return self.peak * self._decay(step)
        if self.config.warmup == "constant":
            return self._start
        end = self.peak * self._decay(self.warmup_steps)
        return self._start + (end - self._start) * step / self.warmup_steps

    def drops(self, step: int) -> bool:
        """Whether the rate falls at once before ``step``: at a milestone, not by a smooth decay nor in a warm-up."""
        return step in self._drops and step >= self.warmup_steps and self(step) < self(step - 1)

    def num_drops(self, step: int) -> int:
        """How many times it has dropped so until ``step``."""
        return sum(drop <= step and self.drops(drop) for drop in self._drops)

    def _decay(self, step: int) -> float:
        """Fraction of the peak that the decay leaves."""
        config = self.config
        if config.decay == "none":
            return 1.0
        if config.decay == "step":
            return config.decay_factor ** sum(step >= drop for drop in self._drops)
        done = min(step / self._decay_steps, 1.0)
        if config.decay == "cosine":
            left = (1 + math.cos(math.pi * done)) / 2
        else:
            left = (1 - done) ** (config.power if config.decay == "polynomial" else 1.0)
        return config.final_fraction + (1 - config.final_fraction) * left
