"""How it is trained: algorithm, learning rate."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hpcsgd.config.check import check_values, require, used_with

POLICIES = ("local", "average", "average:N", "reset")
SMOOTH_DECAYS = ("linear", "polynomial", "cosine")
AlgorithmName = Literal["sync_sgd", "local_sgd", "post_local_sgd", "hierarchical_local_sgd", "sma", "ea_sgd", "none"]


@dataclass(frozen=True)
class AlgorithmConfig:
    """In which order ranks step and synchronise (Goyal 2017; Lin 2020; Koliousis 2019).

    Attributes:
        name: algorithm. ``ea_sgd`` is ``sma`` without central momentum and restart; ``none`` is that of a loop of the
            user's own which ``hpcsgd.session`` only times.
        sync_period: H, local steps between two averagings; tau of ``sma``.
        block_sync_period: H_b, block averagings between two global ones (``hierarchical_local_sgd``; ``sma`` of two
            levels: learners against the reference model of their block, references against the central model).
        block_size: ranks in a block, in rank order; unset, a block is a node.
        local_start: when local steps begin: ``first_lr_drop``, ``epoch:N`` or ``step:N``. Before, gradients are
            averaged at every step. For ``post_local_sgd`` and ``hierarchical_local_sgd``; the latter starts at
            once by default.
        momentum_policy: the optimizer's state at an averaging: ``local`` never touched (Lin), ``average`` averaged with
            the parameters, ``average:N`` at every N-th averaging, ``reset`` as at the start; or a mapping from state
            tensors (``momentum`` of sgd; ``exp_avg``, ``exp_avg_sq`` of Adam) to these, where others are ``local``.
            ``global`` is ``local`` with ``outer_step: slow_momentum``.
        outer_step: what a global averaging makes of the mean of the replicas: ``average``, it is the next model;
            ``slow_momentum``, an outer momentum on the averaged update (SlowMo). Unset, ``average``.
        slow_momentum: beta of the outer momentum.
        slow_learning_rate: alpha of the outer momentum.
        batch_norm_policy: BatchNorm running statistics at an averaging: ``local`` kept by each rank, ``average``
            by the law of total variance, ``recompute`` on training data before each evaluation.
        buffer_policy: other float buffers of a model at an averaging: ``average``, of those that change; ``local``; the
            same with ``comm.overlap`` of ``sma``. The consensus has their average, and the first learner's integers.
        alpha: share of a learner's distance to the central model that ``sma`` corrects; unset, 1/k for k learners.
        central_momentum: mu_z, momentum of the central model of ``sma``; unset, 0.9 (0 for ``ea_sgd``).
        restart: what ``sma`` does where the learning rate drops: every learner becomes the central model, whose
            momentum ends, and the learners' momenta are set to zero (``reset``) or kept (``keep``); or ``none`` of it.
            Unset, ``reset`` (``none`` for ``ea_sgd``).
    """

    name: AlgorithmName = "sync_sgd"
    sync_period: int = 1
    block_sync_period: int = 1
    block_size: int | None = None
    local_start: str | None = None
    momentum_policy: str | dict[str, str] = "local"
    outer_step: Literal["average", "slow_momentum"] | None = None
    slow_momentum: float = 0.5
    slow_learning_rate: float = 1.0
    batch_norm_policy: Literal["local", "average", "recompute"] = "local"
    buffer_policy: Literal["local", "average"] = "average"
    alpha: float | None = None
    central_momentum: float | None = None
    restart: Literal["reset", "keep", "none"] | None = None

    @property
    def has_central_model(self) -> bool:
        """Whether learners follow a central model (Crossbow), in the place of being averaged."""
        return self.name in ("sma", "ea_sgd")

    @property
    def has_blocks(self) -> bool:
        """Whether there are two levels of averaging."""
        return self.name == "hierarchical_local_sgd" or (self.has_central_model and self.block_sync_period > 1)

    @property
    def state_policy(self) -> str | dict[str, str]:
        """What becomes of the optimizer's state at an averaging, in all or by state tensor."""
        return "local" if self.momentum_policy == "global" else self.momentum_policy

    @property
    def resolved_outer_step(self) -> Literal["average", "slow_momentum"]:
        """What a global averaging makes of the mean of the replicas."""
        return self.outer_step or ("slow_momentum" if self.momentum_policy == "global" else "average")

    @property
    def resolved_central_momentum(self) -> float:
        """mu_z."""
        default = 0.9 if self.name == "sma" else 0.0
        return default if self.central_momentum is None else self.central_momentum

    @property
    def resolved_restart(self) -> Literal["reset", "keep", "none"]:
        """What becomes of learners and central model where the learning rate drops."""
        return self.restart or ("reset" if self.name == "sma" else "none")

    def __post_init__(self) -> None:
        check_values(self, "algorithm.")
        require(self.sync_period >= 1, "algorithm.sync_period", self.sync_period, "1 or more")
        require(self.block_sync_period >= 1, "algorithm.block_sync_period", self.block_sync_period, "1 or more")
        require(self.block_size is None or self.block_size >= 1, "algorithm.block_size", self.block_size, "1 or more")
        require(0 <= self.slow_momentum < 1, "algorithm.slow_momentum", self.slow_momentum, "in [0, 1)")
        require(self.slow_learning_rate > 0, "algorithm.slow_learning_rate", self.slow_learning_rate, "positive")
        if self.name == "sync_sgd":
            require(
                self.sync_period == 1, "algorithm.sync_period", self.sync_period, "1 for sync_sgd (or name local_sgd)"
            )
        self._check_states()
        self._check_blocks()
        if self.name not in ("post_local_sgd", "hierarchical_local_sgd"):
            require(self.local_start is None, "algorithm.local_start", self.local_start, f"unset for {self.name}")
        if self.name == "post_local_sgd":
            require(self.local_start is not None, "algorithm.local_start", None, "first_lr_drop, epoch:N or step:N")
        if self.local_start is not None:
            parse_local_start(self.local_start)
        self._check_central_model()

    def _check_states(self) -> None:
        """The policies of the optimizer's state, and the outer step with what belongs to it."""
        policy, outer = self.momentum_policy, self.resolved_outer_step
        if isinstance(policy, dict):
            for name, own in policy.items():
                parse_policy(own, f"algorithm.momentum_policy.{name}")
        elif policy != "global":
            parse_policy(policy, choices=(*POLICIES, "global", "a mapping from state tensors to these"))
        require(
            policy != "global" or outer == "slow_momentum",
            "algorithm.outer_step",
            self.outer_step,
            "slow_momentum with momentum_policy global",
        )
        for name, default in (("slow_momentum", 0.5), ("slow_learning_rate", 1.0)):
            if outer != "slow_momentum" and getattr(self, name) != default:
                raise ValueError(
                    f"algorithm.{name} is {getattr(self, name)!r}, which counts for algorithm.outer_step slow_momentum "
                    f"(or algorithm.momentum_policy global) only: leave algorithm.{name} out"
                )

    def _check_blocks(self) -> None:
        """Only algorithms of two levels have blocks."""
        if self.name == "hierarchical_local_sgd":
            return
        if not self.has_central_model:
            require(
                self.block_sync_period == 1, "algorithm.block_sync_period", self.block_sync_period, f"1 for {self.name}"
            )
        if self.block_sync_period == 1:
            two = f"unset for {self.name}" + " with block_sync_period 1" * self.has_central_model
            require(self.block_size is None, "algorithm.block_size", self.block_size, two)

    def _check_central_model(self) -> None:
        """What is for algorithms with a central model only, and what they have no use for."""
        alpha, momentum = self.alpha, self.central_momentum
        require(alpha is None or alpha >= 0, "algorithm.alpha", alpha, "0 or more")
        require(momentum is None or 0 <= momentum < 1, "algorithm.central_momentum", momentum, "in [0, 1)")
        if not self.has_central_model:
            for name in ("alpha", "central_momentum", "restart"):
                value = getattr(self, name)
                require(value is None, f"algorithm.{name}", value, f"unset for {self.name} (or name sma)")
            return
        require(
            self.momentum_policy == "local", "algorithm.momentum_policy", self.momentum_policy, f"local for {self.name}"
        )
        require(self.outer_step is None, "algorithm.outer_step", self.outer_step, f"unset for {self.name}")
        if self.name == "ea_sgd":
            require(not momentum, "algorithm.central_momentum", momentum, "0 for ea_sgd (or name sma)")
            require(self.restart in (None, "none"), "algorithm.restart", self.restart, "none for ea_sgd (or name sma)")


def parse_policy(
    text: str, key: str = "algorithm.momentum_policy", choices: Sequence[str] = POLICIES
) -> tuple[Literal["local", "average", "reset"], int]:
    """Split ``local``, ``reset``, ``average`` or ``average:N`` in its kind, and every how many averagings it is."""
    found = re.fullmatch("(local|reset|average)(?::([0-9]{1,9}))?", str(text))
    every = 1 if found is None or found[2] is None else int(found[2])
    if found is None or every < 1 or (found[2] is not None and found[1] != "average"):
        near = difflib.get_close_matches(str(text), choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{key} is {text!r}: it must be one of {', '.join(choices)}{hint}")
    kind: Any = found[1]
    return kind, every


def parse_local_start(text: str) -> tuple[Literal["first_lr_drop", "epoch", "step"], int]:
    """Split ``first_lr_drop``, ``epoch:N`` or ``step:N`` in its kind and number (0 for ``first_lr_drop``)."""
    if text == "first_lr_drop":
        return "first_lr_drop", 0
    found = re.fullmatch("(epoch|step):([0-9]{1,18})", text)
    if found is None:
        raise ValueError(f"algorithm.local_start is {text!r}: it must be first_lr_drop, epoch:N or step:N")
    return ("epoch" if found[1] == "epoch" else "step"), int(found[2])


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
