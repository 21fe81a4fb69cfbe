"""How it is trained: the algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hpcsgd.config.check import IMPORT_PATH, check_choice, check_values, free_field, is_import_path, require, used_with
from hpcsgd.config.period_schedule import PeriodScheduleConfig
from hpcsgd.config.words import POLICIES, parse_local_start, parse_policy

AlgorithmName = Literal[
    "sync_sgd", "local_sgd", "post_local_sgd", "hierarchical_local_sgd", "diloco", "sma", "ea_sgd", "none"
]
LOCAL = ("local_sgd", "post_local_sgd", "hierarchical_local_sgd", "diloco")
"""The algorithms that average replicas."""

OuterStepName = Literal["average", "slow_momentum", "nesterov"]
MOVING = ("slow_momentum", "nesterov", IMPORT_PATH)
"""The outer steps that are more than the average."""


@dataclass(frozen=True)
class AlgorithmConfig:
    """In which order ranks step and synchronise (Goyal 2017; Lin 2020; Koliousis 2019).

    Attributes:
        name: algorithm. ``ea_sgd`` is ``sma`` without central momentum and restart; ``diloco`` is ``local_sgd`` with
            ``outer_step: nesterov``; ``none`` is that of a loop of the user's own which ``hpcsgd.session`` only times.
        sync_period: H, local steps between two averagings, to which ``period_schedule`` is relative; tau of ``sma``.
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
            ``slow_momentum``, an outer momentum on the averaged update (SlowMo); ``nesterov``, a Nesterov step on it
            (DiLoCo), with ``outer_momentum`` 0 a part of the way to the mean (Lookahead); or the import path of a class
            of torch's optimizers, which steps the last model as one flat tensor. Unset, ``average`` (``nesterov`` for
            ``diloco``). Also of a single learner.
        slow_momentum: beta of the outer momentum.
        slow_learning_rate: alpha of the outer momentum.
        outer_learning_rate: gamma, learning rate of the outer step.
        outer_momentum: beta of ``nesterov``.
        outer_init_args: arguments of an outer step by import path, but for the learning rate.
        outer_schedule: gamma, or alpha of the outer momentum, over the epochs: ``constant``; ``linear`` or ``cosine``
            to ``outer_final_fraction`` of it.
        outer_final_fraction: what is left of it at the end.
        outer_warmup_epochs: epochs in which it rises from 0.
        batch_norm_policy: BatchNorm running statistics at an averaging: ``local`` kept by each rank, ``average``
            by the law of total variance, ``recompute`` on training data before each evaluation.
        buffer_policy: other float buffers of a model at an averaging: ``average``, of those that change; ``local``; the
            same with ``comm.overlap`` of ``sma``. The consensus has their average, and the first learner's integers.
        alpha: share of a learner's distance to the central model that ``sma`` corrects; unset, 1/k for k learners.
        central_momentum: mu_z, momentum of the central model of ``sma``; unset, 0.9 (0 for ``ea_sgd``).
        restart: what ``sma`` does where the learning rate drops: every learner becomes the central model, whose
            momentum ends, and the learners' momenta are set to zero (``reset``) or kept (``keep``); or ``none`` of it.
            Unset, ``reset`` (``none`` for ``ea_sgd``).
        period_schedule: H over the run.
        overlap_steps: Q, steps that a global averaging of the replicas may take while they train on: it begins after a
            step, and its mean is merged so many steps later, w <- w + (mean of y - y) with y the replica when it began;
            0: ranks wait for it. Optimizer state, statistics and buffers that are averaged are so at once.
        overlap_fragments: parts of the parameters that such averagings take in turn, so that each is averaged at every
            so-manieth (Streaming DiLoCo); one that ranks wait for, as after the last step, is of all.
    """

    name: AlgorithmName = "sync_sgd"
    sync_period: int = 1
    block_sync_period: int = 1
    block_size: int | None = None
    local_start: str | None = None
    momentum_policy: str | dict[str, str] = "local"
    outer_step: OuterStepName | str | None = None
    slow_momentum: float = 0.5
    slow_learning_rate: float = 1.0
    outer_learning_rate: float = used_with("outer_step", "nesterov", IMPORT_PATH, default=0.7)
    outer_momentum: float = used_with("outer_step", "nesterov", default=0.9)
    outer_init_args: dict[str, Any] = free_field()
    outer_schedule: Literal["constant", "linear", "cosine"] = used_with("outer_step", *MOVING, default="constant")
    outer_final_fraction: float = used_with("outer_schedule", "linear", "cosine", default=0.0)
    outer_warmup_epochs: float = used_with("outer_step", *MOVING, default=0.0)
    batch_norm_policy: Literal["local", "average", "recompute"] = "local"
    buffer_policy: Literal["local", "average"] = "average"
    alpha: float | None = None
    central_momentum: float | None = None
    restart: Literal["reset", "keep", "none"] | None = None
    period_schedule: PeriodScheduleConfig = field(default_factory=PeriodScheduleConfig)
    overlap_steps: int = 0
    overlap_fragments: int = 1

    @property
    def has_central_model(self) -> bool:
        """Whether learners follow a central model (Crossbow), in the place of being averaged."""
        return self.name in ("sma", "ea_sgd")

    @property
    def averages_learners(self) -> bool:
        """Whether the parameters of learners are averaged in the place of gradients, at some step."""
        return self.name != "sync_sgd" and not self.has_central_model

    @property
    def has_blocks(self) -> bool:
        """Whether there are two levels of averaging."""
        return self.name == "hierarchical_local_sgd" or (self.has_central_model and self.block_sync_period > 1)

    @property
    def state_policy(self) -> str | dict[str, str]:
        """What becomes of the optimizer's state at an averaging, in all or by state tensor."""
        return "local" if self.momentum_policy == "global" else self.momentum_policy

    @property
    def resolved_outer_step(self) -> str:
        """What a global averaging makes of the mean of the replicas: a name, or an import path."""
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
        if isinstance(self.period_schedule, Mapping):
            object.__setattr__(self, "period_schedule", PeriodScheduleConfig(**self.period_schedule))
        if self.name == "diloco" and self.outer_step is None:
            object.__setattr__(self, "outer_step", "nesterov")
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
        self._check_outer_step()
        self._check_period_schedule()
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

    def _check_outer_step(self) -> None:
        """The outer steps beyond the outer momentum."""
        outer, path = self.outer_step, self.outer_step is not None and is_import_path(self.outer_step)
        if outer is not None:
            check_choice("algorithm.outer_step", outer, OuterStepName)
        if self.name == "diloco":
            right = outer == "nesterov" or path
            require(right, "algorithm.outer_step", outer, "nesterov or an import path for diloco (or name local_sgd)")
        elif self.name not in LOCAL:
            right = outer in (None, "average", "slow_momentum")
            require(right, "algorithm.outer_step", outer, f"unset for {self.name} (or name local_sgd)")
        arguments = self.outer_init_args
        require(path or not arguments, "algorithm.outer_init_args", arguments, f"unset for outer_step {outer}")
        require("lr" not in arguments, "algorithm.outer_init_args", arguments, "without lr: give outer_learning_rate")
        require(0 < self.outer_learning_rate, "algorithm.outer_learning_rate", self.outer_learning_rate, "positive")
        require(0 <= self.outer_momentum < 1, "algorithm.outer_momentum", self.outer_momentum, "in [0, 1)")
        final, warmup = self.outer_final_fraction, self.outer_warmup_epochs
        require(0 <= final <= 1, "algorithm.outer_final_fraction", final, "in [0, 1]")
        require(warmup >= 0, "algorithm.outer_warmup_epochs", warmup, "0 or more")

    def _check_period_schedule(self) -> None:
        """What averages no replicas has no such schedule."""
        schedule, key = self.period_schedule, "algorithm.period_schedule"
        fits = schedule.kind == "constant" or self.name in LOCAL
        require(fits, f"{key}.kind", schedule.kind, f"constant for {self.name} (or name local_sgd)")
        reached = schedule.kind != "divergence" or self.sync_period <= schedule.largest
        require(reached, f"{key}.largest", schedule.largest, f"{self.sync_period} or more, algorithm.sync_period")
        late, below = self.overlap_steps, self.sync_period - 1
        require(0 <= late <= below, "algorithm.overlap_steps", late, f"0 to {below}, less than algorithm.sync_period")
        fits = late == 0 or self.name in LOCAL
        require(fits, "algorithm.overlap_steps", late, f"0 for {self.name} (or name local_sgd)")
        parts, outer = self.overlap_fragments, self.resolved_outer_step
        require(parts >= 1, "algorithm.overlap_fragments", parts, "1 or more")
        require(parts == 1 or late > 0, "algorithm.overlap_fragments", parts, "1 without overlap_steps")
        whole = parts == 1 or not is_import_path(outer)
        require(whole, "algorithm.overlap_fragments", parts, f"1 with outer_step {outer}, whose state is of all")
        measured = late and schedule.kind == "divergence"
        require(
            not measured, "algorithm.overlap_steps", late, f"0 with {key}.kind divergence, which it would come after"
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
