"""What a run is: dataclasses of plain values, validated when made.

Every ``ValueError`` raised here names the field, the bad value and what would be valid. Nothing here imports
torch, MPI or any other part of the package, so that a laptop can read and check a recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hpcsgd.config.check import FREE, check_threads, check_values, path_field, require, used_with
from hpcsgd.config.conduct import (
    CheckpointConfig,
    CommConfig,
    EvaluateConfig,
    FaultConfig,
    LogConfig,
    TunerConfig,
)
from hpcsgd.config.emulate import EmulateConfig
from hpcsgd.config.learning_rate import LearningRateConfig
from hpcsgd.config.method import AlgorithmConfig
from hpcsgd.config.optimizer import OptimizerConfig
from hpcsgd.config.period_schedule import PeriodScheduleConfig
from hpcsgd.config.task import LossConfig, check_metrics
from hpcsgd.config.words import parse_local_start, parse_policy
from hpcsgd.config.workload import DataConfig, ModelConfig, check_fit

__all__ = [
    "AlgorithmConfig",
    "CheckpointConfig",
    "CommConfig",
    "DataConfig",
    "EmulateConfig",
    "EvaluateConfig",
    "FaultConfig",
    "LearningRateConfig",
    "LogConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PeriodScheduleConfig",
    "RunConfig",
    "TunerConfig",
    "check_fit",
    "parse_local_start",
    "parse_policy",
]


@dataclass(frozen=True)
class RunConfig:
    """One training run.

    Attributes:
        epochs: passes over the training set.
        max_steps: stop after so many optimizer steps, whatever ``epochs`` says.
        local_batch_size: samples of one step of one learner. Give this or ``global_batch_size``.
        global_batch_size: samples of one step of all learners.
        learners_per_rank: m, learners of a rank, each with its own parameters, momentum, BatchNorm statistics, share
            of the data and random stream, as if it were a rank: K ranks have k = K m learners. ``auto`` finds m before
            the first step, by timing steps of the run: see ``tuner``; a resumed run keeps it.
        engine: how the passes of a rank's learners are taken: one after another (``loop``), all at once (``fused``; or
            ``dense``, for ``fully_connected`` with ``cross_entropy``, whose backward pass is written out), in a thread
            each (``threads``; on a CPU), or in a CUDA stream each (``streams``), captured in a ``graph``;
            ``auto`` times them and takes the fastest; for one learner that is ``loop``, or on a GPU ``graph``, of the
            package's own networks and where no gradients are summed meanwhile. A resumed run keeps its engine.
        accumulation_steps: parts that a local batch is computed in, one after another (gradient accumulation).
        label_smoothing: part of each target that is spread evenly over all classes, in the training loss only; for
            ``cross_entropy``.
        metrics: what evaluations measure beside the loss, by names of the user's: import paths of functions that give
            one number a sample, of which the mean is taken, or sum and weight; or mappings of ``class_path`` and
            ``init_args``; a class may be one of counts (see :class:`hpcsgd.tasks.metrics.Metric`). Unset, the accuracy,
            for ``cross_entropy``.
        import_from: directory that import paths are looked for in, beside what is installed; unset, the recipe's.
        seed: of the initial parameters, the permutations and the augmentation.
        dtype: floating-point type of parameters and data.
        precision: what forward pass and loss compute in; parameters stay in ``dtype``. ``float32`` is IEEE; ``tf32``
            lets a GPU round the factors of float32 products to 10 bits; ``bfloat16`` and ``float16`` are torch's
            autocast, the latter with a scaled loss: a step in which a gradient of any learner overflows is left out by
            all, at half the scale from then on.
        compile: let torch compile the model, on all ranks before the run's clock begins: ``true``, ``false``, or
            ``auto``, which goes on without where it cannot be compiled. It is for engines that call the model, and not
            for ``fused`` and ``dense``.
        compile_backend: what of torch compiles it, as ``torch.compile`` names it.
        device: ``auto`` is a GPU where there is one.
        deterministic: on a GPU, take kernels that add in one order only: a run that is repeated, or resumed, is the
            same to the last bit, and some steps are slower. On CPUs that is so anyway.
        cudnn_benchmark: on a GPU, let cuDNN time its ways of a convolution at first use and take the fastest, which may
            be another at the next start; not with ``deterministic``.
        share_gpu: allow several ranks on one GPU.
        threads: torch threads of a rank; unset, the cores it is bound to, shared with the ranks beside it.
        run_dir: where the run is kept; unset, ``runs/NAME-TIME``.
        overwrite: replace a run that is already in ``run_dir``.
        resume: ``none``; ``auto``, from the last sound checkpoint in ``run_dir`` where there is one; or the directory
            of a checkpoint.
        resume_other_size: allow to resume on another number of ranks, from the consensus of the checkpoint.
        on_failure: what becomes of the others when a rank dies: ``abort`` ends the job; ``shrink`` goes on without it,
            in algorithms that never average gradients and under ``mpirun --with-ft ulfm``.
        progress: what rank 0 shows: a ``bar``, ``lines`` or ``none``; ``auto`` is a bar in a terminal, else lines.
    """

    epochs: int = 1
    max_steps: int | None = None
    local_batch_size: int | None = None
    global_batch_size: int | None = None
    learners_per_rank: int | Literal["auto"] = 1
    engine: Literal["auto", "loop", "fused", "dense", "threads", "streams", "graph"] = "auto"
    accumulation_steps: int = 1
    label_smoothing: float = 0.0
    metrics: dict[str, Any] | None = field(default=None, metadata={FREE: True})
    import_from: str | None = path_field()
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float32"
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = used_with("dtype", "float32", default="float32")
    compile: bool | Literal["auto"] = False
    compile_backend: str = "inductor"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    deterministic: bool = False
    cudnn_benchmark: bool = False
    share_gpu: bool = False
    threads: int | None = None
    run_dir: str | None = path_field()
    overwrite: bool = False
    resume: str = path_field("none")
    resume_other_size: bool = False
    on_failure: Literal["abort", "shrink"] = "abort"
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    learning_rate: LearningRateConfig = field(default_factory=LearningRateConfig)
    comm: CommConfig = field(default_factory=CommConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    log: LogConfig = field(default_factory=LogConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    faults: FaultConfig = field(default_factory=FaultConfig)
    tuner: TunerConfig = field(default_factory=TunerConfig)
    emulate: EmulateConfig = field(default_factory=EmulateConfig)

    def __post_init__(self) -> None:
        check_values(self)
        require(self.epochs >= 1, "epochs", self.epochs, "1 or more")
        require(self.max_steps is None or self.max_steps >= 1, "max_steps", self.max_steps, "1 or more")
        learners = self.learners_per_rank
        require(learners == "auto" or learners >= 1, "learners_per_rank", learners, "1 or more, or auto")
        require(self.accumulation_steps >= 1, "accumulation_steps", self.accumulation_steps, "1 or more")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "in [0, 1)")
        check_threads(self.threads)
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        for name in ("local_batch_size", "global_batch_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "1 or more")
        if (self.local_batch_size is None) == (self.global_batch_size is None):
            raise ValueError("give either local_batch_size or global_batch_size, not both and not none")
        self._check_combinations()

    def _check_combinations(self) -> None:
        """What one section asks of another."""
        fixed = self.deterministic
        require(not (fixed and self.cudnn_benchmark), "cudnn_benchmark", True, "false where deterministic is true")
        check_fit(self.model, self.data)
        check_metrics(self.metrics)
        entropy = self.loss.name == "cross_entropy"
        require(entropy or not self.label_smoothing, "label_smoothing", self.label_smoothing, f"0 for {self.loss.name}")
        even = self.loss.reduction == "none" or self.data.tail != "keep"
        require(even, "data.tail", self.data.tail, "drop or wrap with loss.reduction mean: all batches must be equal")
        calls = self.engine not in ("fused", "dense") or self.compile is not True
        require(
            calls, "engine", self.engine, "one that calls the model with compile true: loop, threads, streams, graph"
        )
        averages_gradients = self.algorithm.name == "sync_sgd" or self.algorithm.local_start is not None
        require(
            averages_gradients or not self.log.noise_scale,
            "log.noise_scale",
            True,
            f"false for {self.algorithm.name}, which averages no gradients",
        )
        if self.on_failure == "shrink" and averages_gradients:
            raise ValueError(
                "on_failure is 'shrink', but the algorithm averages gradients: choose algorithm.name local_sgd, sma, "
                "or hierarchical_local_sgd without local_start, or on_failure: abort"
            )
        if self.on_failure == "shrink" and self.comm.averaging in ("nccl", "shared"):
            raise ValueError(
                f"on_failure is 'shrink', but comm.averaging is {self.comm.averaging!r}, which ends with the first "
                "rank that is lost: choose comm.averaging: mpi, or leave it unset"
            )
        if self.algorithm.has_central_model and self.comm.averaging == "shared":
            raise ValueError(
                f"comm.averaging is 'shared', but {self.algorithm.name} sums corrections, which ranks do not share: "
                "choose comm.averaging: mpi, or leave it unset"
            )
        if self.learners_per_rank != 1:
            self._check_learners(averages_gradients)
        if self.algorithm.local_start == "first_lr_drop" and self.learning_rate.decay != "step":
            raise ValueError(
                f"algorithm.local_start is 'first_lr_drop', but learning_rate.decay is {self.learning_rate.decay!r}: "
                "only decay: step has drops; or give local_start as epoch:N or step:N"
            )
        if self.algorithm.period_schedule.kind == "staged" and self.learning_rate.decay != "step":
            raise ValueError(
                f"algorithm.period_schedule.kind is 'staged', but learning_rate.decay is {self.learning_rate.decay!r}: "
                "only decay: step has drops, at which H doubles; or choose kind power"
            )
        if self.on_failure == "shrink" and self.algorithm.overlap_steps:
            raise ValueError(
                f"on_failure is 'shrink', but algorithm.overlap_steps is {self.algorithm.overlap_steps}: replicas are "
                "never equal where an averaging goes on beside them; choose overlap_steps: 0, or on_failure: abort"
            )
        if self.algorithm.has_central_model and self.comm.overlap:
            self._check_overlap()
        self._check_wires(averages_gradients)
        if self.emulate.is_on:
            self._check_emulated()

    @property
    def known_learners(self) -> int:
        """Learners of a rank before any is tuned: 1 for ``auto``."""
        return 1 if self.learners_per_rank == "auto" else self.learners_per_rank

    def _check_learners(self, averages_gradients: bool) -> None:
        """What several learners a rank cannot be combined with."""
        if self.learners_per_rank == "auto" and self.local_batch_size is None:
            raise ValueError(
                f"learners_per_rank is 'auto', but global_batch_size is {self.global_batch_size}: how many samples all "
                "learners take together is the tuner's to find; give local_batch_size, the samples of one"
            )
        if self.on_failure == "shrink":
            raise ValueError(
                f"on_failure is 'shrink', but learners_per_rank is {self.learners_per_rank}: a run that goes on "
                "without lost ranks has one learner a rank; choose learners_per_rank: 1, or on_failure: abort"
            )
        if averages_gradients and self.comm.overlap:
            raise ValueError(
                f"comm.overlap is true, but learners_per_rank is {self.learners_per_rank}: the gradients of a rank's "
                "learners are summed before the allreduce can begin; leave comm.overlap unset"
            )

    def _check_wires(self, averages_gradients: bool) -> None:
        """What cannot travel as ``comm.wire`` and ``comm.gradient_wire`` say."""
        name, comm = self.algorithm.name, self.comm
        averages = not self.algorithm.has_central_model and name not in ("sync_sgd", "none")
        require(averages or comm.wire == "full", "comm.wire", comm.wire, f"full for {name}, which averages no replicas")
        late = self.algorithm.overlap_steps
        require(not late or comm.wire == "full", "comm.wire", comm.wire, "full with algorithm.overlap_steps")
        if comm.gradient_wire != "full":
            wanted = f"full for {name}, which averages no gradients"
            require(averages_gradients, "comm.gradient_wire", comm.gradient_wire, wanted)
            whole = comm.gradient_wire == "bfloat16" or self.precision != "float16"
            wanted = "full or bfloat16 with precision float16, whose loss scale changes the unit of an error memory"
            require(whole, "comm.gradient_wire", comm.gradient_wire, wanted)
        if self.on_failure == "shrink" and comm.remembers:
            raise ValueError(
                f"on_failure is 'shrink', but comm.wire is {comm.wire!r}, and a rank that dies takes its error memory "
                "with it: choose another wire, or on_failure: abort"
            )

    def _check_overlap(self) -> None:
        """What a sum of corrections in the background cannot be combined with."""
        for wrong, what in (
            (self.algorithm.has_blocks, "algorithm.block_sync_period is not 1"),
            (self.algorithm.batch_norm_policy == "average", "algorithm.batch_norm_policy is 'average'"),
            (self.on_failure == "shrink", "on_failure is 'shrink'"),
        ):
            if wrong:
                raise ValueError(f"comm.overlap is true, but {what}: choose another, or leave comm.overlap unset")

    def _check_emulated(self) -> None:
        """What an emulated machine cannot be combined with."""
        network, compute = self.emulate.network.is_on, self.emulate.compute.is_on
        for wrong, key, what in (
            (self.device == "cuda", "emulate", "device is 'cuda', whose times are its own: choose cpu"),
            (self.on_failure == "shrink", "emulate", "on_failure is 'shrink': choose abort"),
            (
                compute and self.learners_per_rank == "auto",
                "emulate.compute",
                "learners_per_rank is 'auto', which times real passes: give a number",
            ),
            (
                network and self.comm.allreduce in ("horovod", "torch"),
                "emulate.network",
                f"comm.allreduce is {self.comm.allreduce!r}, which does not go over it: choose mpi, or leave it out",
            ),
            (
                network and self.comm.averaging in ("nccl", "shared"),
                "emulate.network",
                f"comm.averaging is {self.comm.averaging!r}, which does not go over it: choose mpi, or leave it out",
            ),
        ):
            if wrong:
                raise ValueError(f"{key} is given, but {what}")
