"""How a run is conducted: communication, evaluation, the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpcsgd.config.check import check_seconds, check_values, path_field, require

Split = Literal["train", "test"]
Wire = Literal["full", "float32", "bfloat16", "float16", "int8", "sign", "ef_sign", "top_k"]
GradientWire = Literal["full", "bfloat16", "ef_sign", "top_k"]

MOST_FLUSHED = 1_000_000
"""Iterations that a rank keeps in memory."""
FEWEST_BY_TIME, MOST_BY_TIME = 100, 1000
"""Iterations between two gathers, where their time tells how many."""


@dataclass(frozen=True)
class CommConfig:
    """How ranks talk.

    Attributes:
        allreduce: gradient allreduce: ``horovod``, ``mpi`` (mpi4py) or ``torch`` (NCCL, or Gloo on CPUs);
            ``auto`` is, on CPUs, Horovod where it is installed, else ``mpi``; on GPUs, NCCL by torch, or ``mpi`` where
            ranks share one. ``horovod`` on GPUs must have been built with NCCL.
        averaging: what averages parameters: ``nccl``, from GPU to GPU; ``mpi``, through the host; or ``shared``, on
            CPUs: ranks of a node in memory that they share, and MPI between nodes. ``auto`` is NCCL on GPUs that ranks
            do not share, where neither ``cuda_aware`` nor the loss of ranks asks for MPI; on CPUs, the faster one of
            ``mpi`` and ``shared``, as measured at the start, with the bits of MPI's ``ring`` on one node, and ``mpi``
            where ranks may be lost.
        overlap: allreduce gradients while the backward pass runs; unset, where that pays (Horovod and torch
            always; ``mpi`` where a rank has a GPU or two cores). For ``sma``, sum the corrections while the next
            iteration computes, to the same bits; unset, not.
        bucket_bytes: gradients are reduced in buckets of about this size.
        chunk_bytes: averagings go in chunks of this size.
        cuda_aware: hand GPU buffers to MPI itself, where it says that it takes them and a real round trip shows it.
        allreduce_algorithm: pinned before MPI starts, for equal bits from run to run; ``default`` leaves the
            choice to the MPI library.
        wire: what an averaging of all ranks sends of the parameters: ``full``, themselves, in the precision that they
            have; else their difference from the last consensus: as ``float32``, ``bfloat16``, ``float16`` or ``int8``
            (the last two with a scale for 256 elements); as its ``sign``, one bit an element and a scale a tensor;
            the same with error memory, ``ef_sign`` (Lin); or as ``top_k`` of its elements, with error memory.
        gradient_wire: what an averaging of gradients sends: ``full``, ``bfloat16``, ``ef_sign`` or ``top_k``, after the
            backward pass and as ``averaging`` says.
        top_k_density: part of the elements that ``top_k`` sends, the largest ones of each 4096.
    """

    allreduce: Literal["auto", "horovod", "mpi", "torch"] = "auto"
    averaging: Literal["auto", "nccl", "mpi", "shared"] = "auto"
    overlap: bool | None = None
    bucket_bytes: int = 4 << 20
    chunk_bytes: int = 2 << 20
    cuda_aware: bool = False
    allreduce_algorithm: Literal["ring", "recursive_doubling", "rabenseifner", "default"] = "ring"
    wire: Wire = "full"
    gradient_wire: GradientWire = "full"
    top_k_density: float = 0.01

    @property
    def remembers(self) -> bool:
        """Whether learners keep in memory what their messages left out."""
        return self.wire in ("ef_sign", "top_k")

    def __post_init__(self) -> None:
        check_values(self, "comm.")
        require(self.bucket_bytes >= 1024, "comm.bucket_bytes", self.bucket_bytes, "1024 or more")
        require(self.chunk_bytes >= 1024, "comm.chunk_bytes", self.chunk_bytes, "1024 or more")
        self._check_wires()

    def _check_wires(self) -> None:
        """What the wires cannot be combined with."""
        require(0 < self.top_k_density <= 1, "comm.top_k_density", self.top_k_density, "in (0, 1]")
        if "top_k" not in (self.wire, self.gradient_wire):
            wanted = "left out where neither comm.wire nor comm.gradient_wire is top_k"
            require(self.top_k_density == 0.01, "comm.top_k_density", self.top_k_density, wanted)
        if self.gradient_wire != "full":
            way = "auto with a gradient_wire, which goes as comm.averaging says"
            require(self.allreduce in ("auto", "mpi"), "comm.allreduce", self.allreduce, way)
            require(not self.overlap, "comm.overlap", self.overlap, "unset with a gradient_wire: it goes in one piece")


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
        check_values(self, "evaluate.")
        require(self.every_epochs >= 0, "evaluate.every_epochs", self.every_epochs, "0 or more")
        require(self.batch_size >= 1, "evaluate.batch_size", self.batch_size, "1 or more")
        require(self.recompute_batches >= 1, "evaluate.recompute_batches", self.recompute_batches, "1 or more")
        require(
            len(set(self.splits)) == len(self.splits) > 0, "evaluate.splits", self.splits, "one or two different splits"
        )


@dataclass(frozen=True)
class LogConfig:
    """What is kept of a run.

    Attributes:
        enabled: write ``run.h5``.
        flush_steps: iterations between two gathers to rank 0; unset, ``flush_seconds`` tells. The end of an epoch
            gathers too.
        flush_seconds: where ``flush_steps`` is unset, as many iterations as take this long lie between two gathers, 100
            at least and 1000 at most.
        ranks: ``all`` ranks; ``node``, the first rank of each node; ``summary``, minimum, median and maximum.
        utilisation_seconds: seconds between two samples of how busy each rank's device is (a GPU by NVML, CPUs by the
            process's CPU time), and of its energy, clock and memory and its node's energy, where these are told; 0:
            none.
        noise_scale: where gradients are averaged, keep the norm of each learner's own and of that of all, and with them
            estimates of the gradient's square and variance, whose ratio is the gradient noise scale.
        save_model: write the final consensus model to ``model.pt``.
    """

    enabled: bool = True
    flush_steps: int | None = None
    flush_seconds: float = 1.0
    ranks: Literal["all", "node", "summary"] = "all"
    utilisation_seconds: float = 0.2
    noise_scale: bool = False
    save_model: bool = True

    def __post_init__(self) -> None:
        check_values(self, "log.")
        ok = self.flush_steps is None or 1 <= self.flush_steps <= MOST_FLUSHED
        require(ok, "log.flush_steps", self.flush_steps, f"1 to {MOST_FLUSHED}")
        require(self.flush_seconds >= 0, "log.flush_seconds", self.flush_seconds, "0 or more")
        if self.flush_seconds:
            check_seconds("log.flush_seconds", self.flush_seconds)
        seconds = self.utilisation_seconds
        require(seconds == 0 or seconds >= 0.01, "log.utilisation_seconds", seconds, "0, or 0.01 or more")
        if seconds:
            check_seconds("log.utilisation_seconds", seconds)


@dataclass(frozen=True)
class CheckpointConfig:
    """When the state of a run is kept, to go on from.

    Attributes:
        every_steps: steps between two checkpoints; unset, none by steps.
        every_epochs: epochs between two checkpoints; unset, none by epochs.
        keep: checkpoints kept, the last ones.
        background: write while the training goes on.
    """

    every_steps: int | None = None
    every_epochs: int | None = None
    keep: int = 2
    background: bool = True

    def __post_init__(self) -> None:
        check_values(self, "checkpoint.")
        for name in ("every_steps", "every_epochs"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"checkpoint.{name}", value, "1 or more")
        require(self.keep >= 1, "checkpoint.keep", self.keep, "1 or more")


@dataclass(frozen=True)
class FaultConfig:
    """What is watched while a run goes on.

    Attributes:
        collective_timeout_seconds: the longest that a collective, or the wait for another rank's part of a checkpoint,
            may take before the job is ended, with the ranks that did not come named.
        check_finite: look at every buffer before it is reduced, and at the state before it is kept, and end the run
            where one is not finite, or so large that its square is not.
        hash_every: global synchronisations between two comparisons of the ranks' parameters, bit by bit; they are also
            compared before they are kept. 0: never.
        stop_check_steps: steps between two agreements on whether a signal asked for a stop.
    """

    collective_timeout_seconds: float = 600.0
    check_finite: bool = True
    hash_every: int = 100
    stop_check_steps: int = 10

    def __post_init__(self) -> None:
        check_values(self, "faults.")
        check_seconds("faults.collective_timeout_seconds", self.collective_timeout_seconds)
        require(self.hash_every >= 0, "faults.hash_every", self.hash_every, "0 or more")
        require(self.stop_check_steps >= 1, "faults.stop_check_steps", self.stop_check_steps, "1 or more")


@dataclass(frozen=True)
class TunerConfig:
    """How ``learners_per_rank: auto`` finds how many (Crossbow 2019, section 4.4).

    Attributes:
        threshold: gain in throughput for which more learners are taken.
        max_learners: learners of a rank that are tried at most.
        windows: pairs of windows in which two numbers of learners are timed in turn; up to three times as many where
            they leave it open which is faster.
        window_seconds: length of a window.
        replay: a run, or its log, whose trials are taken in place of new ones.
    """

    threshold: float = 0.03
    max_learners: int = 16
    windows: int = 5
    window_seconds: float = 0.2
    replay: str | None = path_field()

    def __post_init__(self) -> None:
        check_values(self, "tuner.")
        require(self.threshold >= 0, "tuner.threshold", self.threshold, "0 or more")
        require(self.max_learners >= 1, "tuner.max_learners", self.max_learners, "1 or more")
        require(self.windows >= 1, "tuner.windows", self.windows, "1 or more")
        check_seconds("tuner.window_seconds", self.window_seconds)
