"""The configurations that are trained on the pretend GPU and on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from hpcsgd.config import (
    AlgorithmConfig,
    CheckpointConfig,
    CommConfig,
    DataConfig,
    EvaluateConfig,
    FaultConfig,
    LearningRateConfig,
    LogConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TunerConfig,
)
from tests.pretend_gpu import trouble

Keys = Mapping[str, Any]
ROUNDING = 2e-5
"""For engines and layers whose sums are in another order than the loop's."""


@dataclass(frozen=True)
class Case:
    """A run, and what is asked of it.

    Attributes:
        name: by which it is asked for.
        keys: of the recipe, beside those of :func:`recipe`.
        world: its ranks: ``one``, ``twin`` (the first of two that do the same), ``second`` (the other, on the second
            GPU), ``nccl`` (twins whose gradients are summed as by NCCL), ``mpi`` and ``mpi_nccl`` (two, under mpirun).
        tolerance: largest difference from the CPU.
        like: keys that are others on the CPU.
        waits: times that the host may wait in a steady step; None: not asked.
        launches: most launches of a steady step; None: not asked.
        events: most events of one; None: not asked.
        stop_after: steps after which the run stops, to be resumed.
        within: what is done to it, around the run on the device.
        sampled: whether the tests take it: the others are in the table only.
    """

    name: str
    keys: Keys = field(default_factory=dict)
    world: str = "twin"
    tolerance: float = 0.0
    like: Keys = field(default_factory=dict)
    waits: int | None = None
    launches: int | None = None
    events: int | None = None
    stop_after: int | None = None
    within: Callable[[], AbstractContextManager[None]] = nullcontext
    sampled: bool = False

    @property
    def is_of_mpi(self) -> bool:
        """Whether it is one for mpirun."""
        return self.world.startswith("mpi")


NO_GAIN = 1e9
"""The tuner tries, and stays with one learner whatever the times are: a gain that no two have."""

SMALL = CommConfig(chunk_bytes=16384, bucket_bytes=32768)
IMAGES = DataConfig(
    name="synthetic",
    synthetic_shape=(3, 8, 8),
    synthetic_train_samples=96,
    synthetic_test_samples=16,
    flip=True,
    crop_padding=1,
)
DIGITS = DataConfig(
    name="synthetic", synthetic_shape=(1, 4, 4), synthetic_train_samples=96, synthetic_test_samples=24,
    synthetic_classes=3,
)  # fmt: skip


def recipe(device: str, keys: Keys) -> RunConfig:
    """A run of a few steps of a small residual network."""
    values: dict[str, Any] = {
        "epochs": 3,
        "max_steps": 8,
        "local_batch_size": 8,
        "device": device,
        "progress": "none",
        "share_gpu": True,
        "threads": 1,
        "data": IMAGES,
        "model": ModelConfig(name="resnet8"),
        # Else time decides.
        "engine": "loop",
        "comm": SMALL,
        "optimizer": OptimizerConfig(weight_decay=1e-3),
        "learning_rate": LearningRateConfig(base=0.05, scaling_rule="none"),
        "evaluate": EvaluateConfig(batch_size=16),
        "log": LogConfig(flush_steps=100, utilisation_seconds=0.01, save_model=False),
    }
    return RunConfig(**values | dict(keys))


def algorithm(name: str, **keys: Any) -> dict[str, Any]:
    """An algorithm that averages at every other step."""
    return {"algorithm": AlgorithmConfig(**{"name": name, "sync_period": 2} | keys)}


LOCAL, SMA = algorithm("local_sgd"), algorithm("sma")
LOOP = {"engine": "loop"}
LATE = {"comm": replace(SMALL, overlap=True)}
AWARE = {"comm": replace(SMALL, cuda_aware=True)}
SIGNS = {"comm": replace(SMALL, wire="ef_sign", gradient_wire="top_k", top_k_density=0.1)}
INT8 = {"comm": replace(SMALL, wire="int8", gradient_wire="bfloat16")}
NOISE = LogConfig(flush_steps=100, utilisation_seconds=0.01, save_model=False, noise_scale=True)
TAIL = {"data": replace(IMAGES, tail="keep", synthetic_train_samples=90)}
POST = algorithm("post_local_sgd", local_start="step:4")
OWN = {
    "model": ModelConfig(name="tests.single.tasks.own_task.Net"),
    "loss": LossConfig(name="tests.single.tasks.own_task.entropy"),
    "data": DIGITS,
}
ROWS = {
    "model": ModelConfig(name="tests.pretend_gpu.nets.Plain"),
    "data": DataConfig(name="tests.single.data.own.own_data.Files", workers=1, init_args={"train": 48}),
}
DENSE = {"model": ModelConfig(name="fully_connected", widths=(8, 8)), "data": DIGITS}
NHWC = ModelConfig(name="resnet8", channels_last=True)
RESNET20 = {"model": ModelConfig(name="resnet20"), "max_steps": 5}


def learners(count: int, engine: str, **keys: Any) -> dict[str, Any]:
    """Several learners of SMA."""
    return {"learners_per_rank": count, "engine": engine, **SMA, **keys}


ALGORITHMS = [
    Case("one", world="one", waits=0, launches=116, events=6, sampled=True),
    Case("sync", sampled=True),
    Case("plain", {"comm": replace(SMALL, overlap=False)}),
    Case("parts", {"accumulation_steps": 2}),
    Case("local", {**LOCAL, "optimizer": OptimizerConfig(clip_norm=0.5)}, sampled=True),
    Case("slow", algorithm("local_sgd", outer_step="slow_momentum", batch_norm_policy="average")),
    Case("recompute", algorithm("local_sgd", batch_norm_policy="recompute", momentum_policy="average")),
    Case("post", POST, sampled=True),
    Case("blocks", algorithm("hierarchical_local_sgd", block_size=1, block_sync_period=2), sampled=True),
    Case("signs", {**POST, **SIGNS, "optimizer": OptimizerConfig(sign=True)}, sampled=True),
    Case("int8", {**POST, **INT8}),
    Case("sma", SMA, sampled=True),
    Case("two_levels", algorithm("sma", block_size=1, block_sync_period=2)),
    Case("elastic", algorithm("ea_sgd")),
    Case("late", {**SMA, **LATE}, sampled=True),
    Case("late_local", algorithm("diloco", sync_period=3, overlap_steps=1)),
    Case("adam", {"optimizer": OptimizerConfig(name="torch.optim.AdamW"), **LOCAL}),
    Case("lars", {"optimizer": OptimizerConfig(name="lars", weight_decay=1e-3)}, world="one", waits=0),
    Case("lamb", {"optimizer": OptimizerConfig(name="lamb"), "learners_per_rank": 2, **LOOP, **LOCAL}),
    Case("noise", {"log": NOISE, **LATE}),
    Case("noise_of_two", {"log": NOISE, "learners_per_rank": 2, **LOOP}, world="one"),
]

REDUCERS = [
    Case("aware", AWARE, within=trouble.mpi_takes_gpu_buffers, sampled=True),
    Case("nccl", world="nccl", sampled=True),
    Case("nccl_unchecked", {"faults": FaultConfig(check_finite=False)}, world="nccl"),
    Case("nccl_post", POST, world="nccl"),
    Case("nccl_streams", {"learners_per_rank": 2, "engine": "streams"}, world="nccl", like=LOOP),
    Case("nccl_graph", {"engine": "graph"}, world="nccl", like=LOOP),
    Case("second", world="second", sampled=True),
    Case("second_plain", {"comm": replace(SMALL, overlap=False)}, world="second"),
]

ENGINES = [
    Case("m1_graph", {"engine": "graph"}, like=LOOP, sampled=True),
    Case("m1_auto", {"engine": "auto"}, world="one", waits=0, like=LOOP, within=trouble.graph_is_fastest,
         launches=30, sampled=True),
    Case("m1_fused", {"engine": "fused"}, like=LOOP, tolerance=ROUNDING),
    Case("m3_loop", learners(3, "loop"), world="one", waits=1),
    Case("m3_streams", learners(3, "streams"), world="one", waits=0, like=LOOP, sampled=True),
    Case("m3_graph", learners(3, "graph"), world="one", waits=0, like=LOOP, sampled=True),
    Case("m3_fused", learners(3, "fused"), world="one", waits=0, like=LOOP, tolerance=ROUNDING, sampled=True),
    Case("m3_dense", learners(3, "dense", **DENSE), world="one", waits=0, like=LOOP, tolerance=ROUNDING, sampled=True),
    Case("m3_auto", learners(3, "auto"), tolerance=ROUNDING),
    Case("tuner", {**SMA, "engine": "auto", "learners_per_rank": "auto",
                   "tuner": TunerConfig(windows=1, window_seconds=0.01, max_learners=2, threshold=NO_GAIN)},
         tolerance=ROUNDING, sampled=True),
    Case("memory", learners(3, "auto"), world="one", tolerance=ROUNDING, within=trouble.no_memory_in_capture,
         sampled=True),
    Case("resnet20_graph", {**RESNET20, "engine": "graph"}, world="one", waits=0, launches=40, like=LOOP,
         sampled=True),
]  # fmt: skip

DATA = [
    Case("tail", {**learners(2, "graph"), **LATE, **TAIL}, like=LOOP),
    Case("resume", {**learners(2, "graph"), "checkpoint": CheckpointConfig(every_steps=4)}, world="one", like=LOOP,
         stop_after=5, sampled=True),
    Case("nhwc", {"precision": "tf32"}, world="one", like={"precision": "float32", "model": NHWC}, waits=0,
         sampled=True),
    Case("pack", {"data": "pack"}, world="one", waits=0, sampled=True),
    Case("reader", {"data": "pack", **learners(2, "graph")}, world="one", like=LOOP,
         within=trouble.reader_within_capture, sampled=True),
    Case("text", {"data": "text", "model": ModelConfig(name="transformer", embedding=8, hidden=16, heads=2)},
         world="one", tolerance=ROUNDING),
    Case("own", OWN, sampled=True),
    Case("rows", ROWS, world="one", sampled=True),
    Case("nan", within=trouble.nan_at_step_3, sampled=True),
    Case("nan_unseen", {"evaluate": EvaluateConfig(every_epochs=0)}, within=trouble.nan_at_step_3),
    Case("nvml", within=trouble.utilisation_fails, sampled=True),
]  # fmt: skip

UNDER_MPIRUN = [
    Case("mpi_sync", {"comm": replace(SMALL, allreduce="mpi")}, world="mpi", sampled=True),
    Case("mpi_blocks", algorithm("hierarchical_local_sgd", block_size=1, block_sync_period=2), world="mpi",
         sampled=True),
    Case("mpi_sma", {**SMA, "learners_per_rank": 2, "engine": "streams"}, world="mpi", like=LOOP, sampled=True),
    Case("mpi_nccl", {"comm": replace(SMALL, allreduce="torch")}, world="mpi_nccl", sampled=True),
    Case("mpi_nccl_blocks", algorithm("hierarchical_local_sgd", block_size=1, block_sync_period=2), world="mpi_nccl"),
    Case("mpi_nccl_sma", {**SMA, "learners_per_rank": 2, "engine": "graph"}, world="mpi_nccl", like=LOOP),
    Case("mpi_late", {**SMA, **LATE}, world="mpi"),
    Case("mpi_late_local", algorithm("diloco", sync_period=3, overlap_steps=1), world="mpi"),
    Case("mpi_aware", {"comm": replace(SMALL, cuda_aware=True, allreduce="mpi")}, world="mpi",
         within=trouble.mpi_takes_gpu_buffers),
]  # fmt: skip

CASES = {case.name: case for case in (*ALGORITHMS, *REDUCERS, *ENGINES, *DATA, *UNDER_MPIRUN)}
