"""What a batch-size study is: a search for each of several batch sizes (Shallue 2019), of plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from hpcsgd.config.check import (
    FREE,
    check_threads,
    check_values,
    default_of,
    path_field,
    require,
    used_with,
)
from hpcsgd.config.conduct import CommConfig, FaultConfig
from hpcsgd.config.goal import ERRORS, GoalConfig, StopConfig
from hpcsgd.config.optimizer import WITH_MOMENTUM, OptimizerConfig
from hpcsgd.config.space import PARAMETERS, RangeConfig, SpaceConfig, all_values, value_at
from hpcsgd.config.task import LossConfig, check_metrics
from hpcsgd.config.workload import DataConfig, ModelConfig, check_fit

__all__ = ["PARAMETERS", "GoalConfig", "RangeConfig", "SpaceConfig", "SpacingConfig", "StopConfig", "StudyConfig"]


USED = {
    "model": ("name", "init_args", "widths", "zero_gamma", "channels_last", "embedding", "hidden", "layers", "heads"),
    "data": (
        *(
            "name",
            "init_args",
            "dir",
            "image_size",
            "train_fraction",
            "flip",
            "crop_padding",
            "tail",
            "validation_samples",
        ),
        *("tokens", "vocabulary", "sequence_length"),
        *("synthetic_shape", "synthetic_classes", "synthetic_train_samples", "synthetic_test_samples"),
    ),
    "optimizer": (
        *("name", "init_args", "momentum", "nesterov", "weight_decay", "momentum_form"),
        *("trust_coefficient", "max_trust_ratio", "betas", "eps"),
    ),
    "comm": ("averaging", "chunk_bytes", "cuda_aware", "allreduce_algorithm"),
    "faults": ("collective_timeout_seconds",),
}
"""The keys of the sections that runs have too which count in a study. Others are refused: a new one until it counts."""


@dataclass(frozen=True)
class SpacingConfig:
    """When the trials are evaluated, and on what.

    Attributes:
        every_steps: least number of steps between two evaluations; one number, or a mapping from batch size to number.
        growth: least ratio of the steps of two evaluations: 1 spaces them evenly, 1.1 by at least a tenth.
        train_samples: first samples of the training split that ``train/`` metrics are of.
        test_samples: first samples of the test split that ``test/`` metrics are of; unset, all.
        batch_size: samples of one forward pass.
    """

    every_steps: int | dict[int, int] = 100
    growth: float = 1.0
    train_samples: int = 1000
    test_samples: int | None = None
    batch_size: int = 1000

    def __post_init__(self) -> None:
        check_values(self, "evaluate.")
        least = min(all_values(self.every_steps), default=0)
        require(least >= 1, "evaluate.every_steps", self.every_steps, "1 or more")
        require(self.growth >= 1, "evaluate.growth", self.growth, "1 or more")
        for name in ("train_samples", "test_samples", "batch_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"evaluate.{name}", value, "1 or more")

    def steps(self, batch_size: int, budget: int) -> list[int]:
        """The steps that are evaluated, rising; the budget is the last one."""
        every, found, step = value_at(self.every_steps, batch_size), [], 0
        while step < budget:
            step = min(budget, max(step + every, math.ceil(step * self.growth)))
            found.append(step)
        return found


@dataclass(frozen=True)
class StudyConfig:
    """A study: for each batch size, trials at quasi-random points of a space of metaparameters.

    Attributes:
        batch_sizes: samples of a step, one study for each.
        trials: trials at each batch size.
        fuse: trials that train together on one device; ``auto`` measures what is fastest, 1 is one after another.
        ranks_per_trial: ranks that train together by synchronous SGD; trials go to such teams.
        metrics: what evaluations measure beside the loss, as in a run. Unset, for ``cross_entropy``, cross-entropy and
            share of wrong answers by the names of the public archive.
        import_from: directory that import paths are looked for in, beside what is installed; unset, the recipe's.
        seed: of the search, the initial parameters and the orders of the data.
        dtype: floating-point type of parameters and data.
        precision: what forward pass and loss compute in, as in a run; ``float16`` is not for trials, each of which
            would need a scale of its own.
        device: ``auto`` is a GPU where there is one.
        share_gpu: allow several ranks on one GPU.
        threads: torch threads of a rank; unset, the cores it is bound to, shared with the ranks beside it.
        study_dir: where the study is kept; unset, ``runs/NAME``.
        overwrite: replace a study that is already in ``study_dir``.
        resume: ``auto`` goes on with the study in ``study_dir`` where there is one; ``none`` leaves it alone.
        progress: what rank 0 shows: a ``bar``, ``lines`` or ``none``; ``auto`` is a bar in a terminal, else lines.
    """

    batch_sizes: tuple[int, ...] = ()
    trials: int = 20
    fuse: Literal["auto"] | int = "auto"
    ranks_per_trial: int = 1
    metrics: dict[str, Any] | None = field(default=None, metadata={FREE: True})
    import_from: str | None = path_field()
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float32"
    precision: Literal["float32", "tf32", "bfloat16"] = used_with("dtype", "float32", default="float32")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    share_gpu: bool = False
    threads: int | None = None
    study_dir: str | None = path_field()
    overwrite: bool = False
    resume: Literal["auto", "none"] = "auto"
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    goal: GoalConfig = field(default_factory=GoalConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    evaluate: SpacingConfig = field(default_factory=SpacingConfig)
    comm: CommConfig = field(default_factory=CommConfig)
    faults: FaultConfig = field(default_factory=FaultConfig)

    def __post_init__(self) -> None:
        check_values(self)
        sizes = self.batch_sizes
        require(len(sizes) > 0 and all(b >= 1 for b in sizes), "batch_sizes", sizes, "one or more positive integers")
        require(len(set(sizes)) == len(sizes), "batch_sizes", sizes, "all different")
        require(self.trials >= 1, "trials", self.trials, "1 or more")
        require(self.fuse == "auto" or self.fuse >= 1, "fuse", self.fuse, "auto, or 1 or more")
        require(self.ranks_per_trial >= 1, "ranks_per_trial", self.ranks_per_trial, "1 or more")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        check_threads(self.threads)
        self._check_shared()
        self._check_combinations()
        self._check_mappings()

    def _check_shared(self) -> None:
        """Refuse a key of the sections that runs have too, where trials would ignore it."""
        for section, used in USED.items():
            for known in fields(getattr(self, section)):
                value = getattr(getattr(self, section), known.name)
                if known.name not in used and value != default_of(known):
                    raise ValueError(f"{section}.{known.name} is {value!r}, which a study does not use: leave it out")

    def _check_combinations(self) -> None:
        """What one section asks of another."""
        require(self.space.learning_rate.given, "space.learning_rate", "unset", "min and max, or points")
        searched = self.space.momentum.given
        has_momentum = self.optimizer.name in WITH_MOMENTUM
        require(
            has_momentum or not searched,
            "space.momentum",
            "given",
            f"unset for {self.optimizer.name}: it is searched for {' and '.join(WITH_MOMENTUM)}",
        )
        require(
            self.optimizer.momentum > 0 or not searched, "optimizer.momentum", 0, "positive to search space.momentum"
        )
        form = self.optimizer.momentum_form
        require(form == "reference", "optimizer.momentum_form", form, "reference in a study")
        averaging = self.comm.averaging
        require(
            averaging != "shared", "comm.averaging", averaging, "mpi, nccl or auto in a study, which sums gradients"
        )
        require(self.data.name != "pack", "data.name", "pack", "a set in memory in a study")
        check_fit(self.model, self.data)
        held_out = self.data.validation_samples
        judged = self.data.is_own or held_out >= 1
        require(judged, "data.validation_samples", held_out, "1 or more in a study: goals are judged on them")
        self._check_loss()
        budget = self.stop.steps is not None or self.stop.epochs is not None
        require(budget, "stop.steps", None, "given in a study, or stop.epochs")
        goal = self.goal.value is not None or not self.stop.at_goal
        require(goal, "goal.value", None, "given where stop.at_goal is true")

    def _check_loss(self) -> None:
        """What the loss asks of the rest, and what can be a goal."""
        check_metrics(self.metrics)
        if self.loss.name != "cross_entropy":
            smoothed = self.space.label_smoothing.given
            require(not smoothed, "space.label_smoothing", "given", f"unset for {self.loss.name}")
        even = self.data.tail != "keep"
        require(even or self.loss.reduction == "none", "data.tail", "keep", "drop or wrap with loss.reduction mean")
        known = [f"val/{name}" for name in self.measured]
        require(self.goal.metric in known, "goal.metric", self.goal.metric, f"one of {', '.join(known)} in this study")

    def _check_mappings(self) -> None:
        """Mappings from batch size have all of them; each range rises at each batch size."""
        places: dict[str, Any] = {
            "stop.steps": self.stop.steps,
            "stop.epochs": self.stop.epochs,
            "evaluate.every_steps": self.evaluate.every_steps,
        }
        for name in PARAMETERS:
            given: RangeConfig = getattr(self.space, name)
            places |= {f"space.{name}.min": given.min, f"space.{name}.max": given.max}
        for place, value in places.items():
            if isinstance(value, dict):
                missing = [size for size in self.batch_sizes if size not in value]
                require(not missing, place, value, f"given for batch size {missing[0]} too" if missing else "")
        for name in PARAMETERS:
            given = getattr(self.space, name)
            if given.min is None or given.max is None:
                continue
            for size in self.batch_sizes:
                low, high = value_at(given.min, size), value_at(given.max, size)
                require(low < high, f"space.{name}.max", high, f"above min, {low!r} (batch size {size})")

    @property
    def measured(self) -> tuple[str, ...]:
        """What evaluations measure of each split, by name."""
        if self.loss.name == "cross_entropy" and self.metrics is None:
            return ERRORS
        return ("loss", *(self.metrics or {}))

    @property
    def optimizer_name(self) -> str:
        """The optimizer by its name in the public archive, or its import path."""
        if self.optimizer.name != "sgd":
            return self.optimizer.name
        if not self.optimizer.momentum:
            return "sgd"
        return "nesterov_momentum" if self.optimizer.nesterov else "momentum"

    @property
    def archive_path(self) -> str:
        """``DATASET/MODEL/OPTIMIZER``, as the public archive's directories are named."""
        return f"{self.dataset_name}/{self.model_name}/{self.optimizer_name}"

    @property
    def dataset_name(self) -> str:
        """The data set's name; with the share of its training split that is trained on, if that is not all."""
        fraction = self.data.train_fraction
        return self.data.name if fraction == 1 else f"{self.data.name}_{fraction:g}"

    @property
    def model_name(self) -> str:
        """The model's name; a fully connected one's has its widths."""
        if self.model.name != "fully_connected":
            return self.model.name
        return "_".join(["fully_connected", *map(str, self.model.widths)])
