"""The learning rate of the outer step: a pure function of the step."""

from __future__ import annotations

import math

from hpcsgd.config import AlgorithmConfig


class OuterRate:
    """gamma (alpha of SlowMo) after each step: the recipe's number, warmed up and decayed over the epochs."""

    def __init__(self, config: AlgorithmConfig, steps_per_epoch: int, epochs: int) -> None:
        """
        Args:
            config: the recipe's section.
            steps_per_epoch: steps of an epoch.
            epochs: of the whole run.
        """
        is_slow = config.resolved_outer_step == "slow_momentum"
        self.peak = config.slow_learning_rate if is_slow else config.outer_learning_rate
        self._decay = config.outer_schedule
        self._final = config.outer_final_fraction
        self._decay_steps = epochs * steps_per_epoch
        self._warmup_steps = round(config.outer_warmup_epochs * steps_per_epoch)

    def __call__(self, step: int) -> float:
        """The rate of an outer step right after ``step``: of so many steps done that it is never 0 by the warm-up."""
        done = step + 1
        rate = self.peak * (done / self._warmup_steps if done < self._warmup_steps else 1.0)
        if self._decay == "constant":
            return rate
        share = min(done / self._decay_steps, 1.0)
        left = (1 + math.cos(math.pi * share)) / 2 if self._decay == "cosine" else 1 - share
        return rate * (self._final + (1 - self._final) * left)
