"""What a run is: dataclasses of plain values, validated when made.

Every ``ValueError`` raised here names the field, the bad value and what would be valid. Nothing here imports
torch, MPI or any other part of the package, so that a laptop can read and check a recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ModelName = Literal[
    "fully_connected",
    "simple_cnn_base",
    "simple_cnn_narrow",
    "simple_cnn_wide",
    "lenet",
    "resnet8",
    "resnet20",
    "resnet32",
    "resnet56",
]
DatasetName = Literal["fashion_mnist", "mnist", "cifar10", "cifar100", "synthetic"]
AlgorithmName = Literal["sync_sgd", "local_sgd", "post_local_sgd", "hierarchical_local_sgd"]
Split = Literal["train", "test"]


def _require(ok: bool, name: str, value: object, valid: str) -> None:
    """Raise ``ValueError`` unless ``ok``."""
    if not ok:
        raise ValueError(f"{name} is {value!r}: it must be {valid}")


@dataclass(frozen=True)
class ModelConfig:
    """The network that every learner holds.

    Attributes:
        name: architecture.
        widths: hidden widths of ``fully_connected``; () is a linear model. Other models ignore it.
        zero_gamma: start the last BatchNorm scale of each residual block at 0 (Goyal, section 5.1).
        channels_last: keep convolution weights and images in channels-last memory order.
    """

    name: ModelName = "fully_connected"
    widths: tuple[int, ...] = (256, 256)
    zero_gamma: bool = False
    channels_last: bool = False

    def __post_init__(self) -> None:
        _require(all(w >= 1 for w in self.widths), "model.widths", self.widths, "positive integers")
        residual = self.name.startswith("resnet")
        _require(residual or not self.zero_gamma, "model.zero_gamma", True, "false for a model without residual blocks")


@dataclass(frozen=True)
class DataConfig:
    """The data set, its augmentation and the rule for the tail of an epoch.

    Attributes:
        name: data set.
        dir: directory of its files; unset, the usual places are searched.
        flip: mirror training images with probability 1/2.
        crop_padding: pad training images by so many zero pixels and crop back at a random place; 0 is off.
        tail: what becomes of the last samples of an epoch that do not fill a global batch: ``drop`` leaves them
            out (another permutation each epoch), ``wrap`` fills the batch from the start of the permutation,
            ``keep`` makes a smaller last batch, cut as evenly as can be.
        synthetic_shape: channels, height, width of ``synthetic`` images.
        synthetic_classes: classes of ``synthetic``.
        synthetic_train_samples: training samples of ``synthetic``.
        synthetic_test_samples: test samples of ``synthetic``.
    """

    name: DatasetName = "fashion_mnist"
    dir: str | None = None
    flip: bool = False
    crop_padding: int = 0
    tail: Literal["drop", "wrap", "keep"] = "drop"
    synthetic_shape: tuple[int, int, int] = (1, 28, 28)
    synthetic_classes: int = 10
    synthetic_train_samples: int = 4096
    synthetic_test_samples: int = 1024

    def __post_init__(self) -> None:
        _require(self.crop_padding >= 0, "data.crop_padding", self.crop_padding, "0 or more")
        _require(min(self.synthetic_shape) >= 1, "data.synthetic_shape", self.synthetic_shape, "three positive sizes")
        _require(self.synthetic_classes >= 2, "data.synthetic_classes", self.synthetic_classes, "2 or more")
        for name in ("synthetic_train_samples", "synthetic_test_samples"):
            _require(getattr(self, name) >= 1, f"data.{name}", getattr(self, name), "1 or more")


@dataclass(frozen=True)
class AlgorithmConfig:
    """In which order ranks step and synchronise (Goyal 2017; Lin 2020).

    Attributes:
        name: algorithm.
        sync_period: H, local steps between two averagings.
        block_sync_period: H_b, block averagings between two global ones (``hierarchical_local_sgd``).
        block_size: ranks in a block, in rank order; unset, a block is a node.
        local_start: when local steps begin: ``first_lr_drop``, ``epoch:N`` or ``step:N``. Before, gradients are
            averaged at every step. For ``post_local_sgd`` and ``hierarchical_local_sgd``; the latter starts at
            once by default.
        momentum_policy: the momentum at an averaging: ``local`` never touched (Lin), ``average`` averaged with
            the parameters, ``reset`` set to zero, ``global`` an outer momentum on the averaged update (SlowMo).
        slow_momentum: beta of the outer momentum.
        slow_learning_rate: alpha of the outer momentum.
        batch_norm_policy: BatchNorm running statistics at an averaging: ``local`` kept by each rank, ``average``
            by the law of total variance, ``recompute`` on training data before each evaluation.
    """

    name: AlgorithmName = "sync_sgd"
    sync_period: int = 1
    block_sync_period: int = 1
    block_size: int | None = None
    local_start: str | None = None
    momentum_policy: Literal["local", "average", "reset", "global"] = "local"
    slow_momentum: float = 0.5
    slow_learning_rate: float = 1.0
    batch_norm_policy: Literal["local", "average", "recompute"] = "local"

    def __post_init__(self) -> None:
        _require(self.sync_period >= 1, "algorithm.sync_period", self.sync_period, "1 or more")
        _require(self.block_sync_period >= 1, "algorithm.block_sync_period", self.block_sync_period, "1 or more")
        _require(self.block_size is None or self.block_size >= 1, "algorithm.block_size", self.block_size, "1 or more")
        _require(0 <= self.slow_momentum < 1, "algorithm.slow_momentum", self.slow_momentum, "in [0, 1)")
        _require(self.slow_learning_rate > 0, "algorithm.slow_learning_rate", self.slow_learning_rate, "positive")
        hierarchical = self.name == "hierarchical_local_sgd"
        if self.name == "sync_sgd":
            _require(self.sync_period == 1, "algorithm.sync_period", self.sync_period, "1 for sync_sgd (or name local_sgd)")
        if not hierarchical:
            _require(self.block_sync_period == 1, "algorithm.block_sync_period", self.block_sync_period, f"1 for {self.name}")
            _require(self.block_size is None, "algorithm.block_size", self.block_size, f"unset for {self.name}")
        if self.name in ("sync_sgd", "local_sgd"):
            _require(self.local_start is None, "algorithm.local_start", self.local_start, f"unset for {self.name}")
        if self.name == "post_local_sgd":
            _require(self.local_start is not None, "algorithm.local_start", None, "first_lr_drop, epoch:N or step:N")
        if self.local_start is not None:
            parse_local_start(self.local_start)


def parse_local_start(text: str) -> tuple[Literal["first_lr_drop", "epoch", "step"], int]:
    """Split ``first_lr_drop``, ``epoch:N`` or ``step:N`` in its kind and number (0 for ``first_lr_drop``)."""
    if text == "first_lr_drop":
        return "first_lr_drop", 0
    kind, _, number = text.partition(":")
    ok = kind in ("epoch", "step") and number.isdecimal()
    _require(ok, "algorithm.local_start", text, "first_lr_drop, epoch:N or step:N")
    return ("epoch" if kind == "epoch" else "step"), int(number)


@dataclass(frozen=True)
class OptimizerConfig:
    """Momentum SGD.

    Attributes:
        momentum: mu; 0 is plain SGD.
        nesterov: Nesterov's form of the update.
        weight_decay: lambda, added to the gradient as lambda*w; not for BatchNorm parameters and biases.
        momentum_form: ``reference`` keeps the learning rate outside of the momentum, ``absorbed`` inside
            (Goyal, equations 9 and 10).
        momentum_correction: scale the absorbed momentum by the ratio of learning rates when these change
            (Goyal, section 3); the reference form needs none.
    """

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    momentum_form: Literal["reference", "absorbed"] = "reference"
    momentum_correction: bool = True

    def __post_init__(self) -> None:
        _require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "in [0, 1)")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        _require(self.momentum > 0 or not self.nesterov, "optimizer.nesterov", True, "false where momentum is 0")


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
    decay_factor: float = 0.1
    decay_epochs: float | None = None
    final_fraction: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        _require(self.base > 0, "learning_rate.base", self.base, "positive")
        _require(self.base_batch_size >= 1, "learning_rate.base_batch_size", self.base_batch_size, "1 or more")
        _require(self.warmup_epochs >= 0, "learning_rate.warmup_epochs", self.warmup_epochs, "0 or more")
        start = self.warmup_start
        _require(start is None or start >= 0, "learning_rate.warmup_start", start, "0 or more")
        _require(self.decay_epochs is None or self.decay_epochs > 0, "learning_rate.decay_epochs", self.decay_epochs, "positive")
        _require(0 < self.decay_factor < 1, "learning_rate.decay_factor", self.decay_factor, "in (0, 1)")
        _require(0 <= self.final_fraction <= 1, "learning_rate.final_fraction", self.final_fraction, "in [0, 1]")
        _require(self.power > 0, "learning_rate.power", self.power, "positive")
        rising = all(a < b for a, b in zip((0.0, *self.milestones), self.milestones, strict=False))
        _require(rising, "learning_rate.milestones", self.milestones, "positive and rising")
        stepwise = self.decay == "step"
        _require(stepwise == bool(self.milestones), "learning_rate.milestones", self.milestones, "given with decay: step, and only then")


@dataclass(frozen=True)
class CommConfig:
    """How ranks talk.

    Attributes:
        allreduce: gradient allreduce: ``horovod``, ``mpi`` (mpi4py) or ``torch`` (NCCL, or Gloo on CPUs);
            ``auto`` is Horovod where it is installed, else ``mpi``.
        overlap: allreduce gradients while the backward pass runs; unset, where that pays (Horovod and torch
            always; ``mpi`` where a rank has a GPU or two cores).
        bucket_bytes: gradients are reduced in buckets of about this size.
        chunk_bytes: averagings go in chunks of this size.
        cuda_aware: hand GPU buffers to MPI itself; probed by a real round trip first.
        allreduce_algorithm: pinned before MPI starts, for equal bits from run to run; ``default`` leaves the
            choice to the MPI library.
    """

    allreduce: Literal["auto", "horovod", "mpi", "torch"] = "auto"
    overlap: bool | None = None
    bucket_bytes: int = 4 << 20
    chunk_bytes: int = 2 << 20
    cuda_aware: bool = False
    allreduce_algorithm: Literal["ring", "recursive_doubling", "rabenseifner", "default"] = "ring"

    def __post_init__(self) -> None:
        _require(self.bucket_bytes >= 1024, "comm.bucket_bytes", self.bucket_bytes, "1024 or more")
        _require(self.chunk_bytes >= 1024, "comm.chunk_bytes", self.chunk_bytes, "1024 or more")


@dataclass(frozen=True)
class EvaluateConfig:
    """When the consensus model is evaluated, and on what.

    Attributes:
        every_epochs: epochs between evaluations; the last epoch is always evaluated. 0: never.
        splits: splits to evaluate.
        batch_size: samples of one forward pass.
        recompute_batches: local training batches that ``batch_norm_policy: recompute`` looks at.
    """

    every_epochs: int = 1
    splits: tuple[Split, ...] = ("test",)
    batch_size: int = 500
    recompute_batches: int = 10

    def __post_init__(self) -> None:
        _require(self.every_epochs >= 0, "evaluate.every_epochs", self.every_epochs, "0 or more")
        _require(self.batch_size >= 1, "evaluate.batch_size", self.batch_size, "1 or more")
        _require(self.recompute_batches >= 1, "evaluate.recompute_batches", self.recompute_batches, "1 or more")
        _require(len(set(self.splits)) == len(self.splits) > 0, "evaluate.splits", self.splits, "one or two different splits")


@dataclass(frozen=True)
class LogConfig:
    """What is kept of a run.

    Attributes:
        enabled: write ``run.h5``.
        flush_steps: iterations between two gathers to rank 0; the end of an epoch gathers too.
        ranks: ``all`` ranks; ``node``, the first rank of each node; ``summary``, minimum, median and maximum.
        save_model: write the final consensus model to ``model.pt``.
    """

    enabled: bool = True
    flush_steps: int = 100
    ranks: Literal["all", "node", "summary"] = "all"
    save_model: bool = True

    def __post_init__(self) -> None:
        _require(self.flush_steps >= 1, "log.flush_steps", self.flush_steps, "1 or more")


@dataclass(frozen=True)
class RunConfig:
    """One training run.

    Attributes:
        epochs: passes over the training set.
        max_steps: stop after so many optimizer steps, whatever ``epochs`` says.
        local_batch_size: samples of one step of one learner. Give this or ``global_batch_size``.
        global_batch_size: samples of one step of all learners.
        accumulation_steps: parts that a local batch is computed in, one after another (gradient accumulation).
        seed: of the initial parameters, the permutations and the augmentation.
        dtype: floating-point type of parameters and data.
        device: ``auto`` is a GPU where there is one.
        share_gpu: allow several ranks on one GPU.
        threads: torch threads of a rank; unset, the cores it is bound to, shared with the ranks beside it.
        run_dir: where the run is kept; unset, ``runs/NAME-TIME``.
        overwrite: replace a run that is already in ``run_dir``.
        progress: what rank 0 shows: a ``bar``, ``lines`` or ``none``; ``auto`` is a bar in a terminal, else lines.
    """

    epochs: int = 1
    max_steps: int | None = None
    local_batch_size: int | None = None
    global_batch_size: int | None = None
    accumulation_steps: int = 1
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    share_gpu: bool = False
    threads: int | None = None
    run_dir: str | None = None
    overwrite: bool = False
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    learning_rate: LearningRateConfig = field(default_factory=LearningRateConfig)
    comm: CommConfig = field(default_factory=CommConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs", self.epochs, "1 or more")
        _require(self.max_steps is None or self.max_steps >= 1, "max_steps", self.max_steps, "1 or more")
        _require(self.accumulation_steps >= 1, "accumulation_steps", self.accumulation_steps, "1 or more")
        _require(self.threads is None or self.threads >= 1, "threads", self.threads, "1 or more")
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
        for name in ("local_batch_size", "global_batch_size"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, value, "1 or more")
        if (self.local_batch_size is None) == (self.global_batch_size is None):
            raise ValueError("give either local_batch_size or global_batch_size, not both and not none")
        self._check_combinations()

    def _check_combinations(self) -> None:
        """What one section asks of another."""
        if self.algorithm.local_start == "first_lr_drop" and self.learning_rate.decay != "step":
            raise ValueError(
                f"algorithm.local_start is 'first_lr_drop', but learning_rate.decay is {self.learning_rate.decay!r}: "
                "only decay: step has drops; or give local_start as epoch:N or step:N"
            )
