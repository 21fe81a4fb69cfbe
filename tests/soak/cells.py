"""What the soak runs: a small recipe, the cells of both tables, and the sample of them that CI takes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.parallel.laws.common import ALGORITHMS, ALLREDUCES, algorithm_named

DEADLINE_SECONDS = 6.0
"""``faults.collective_timeout_seconds`` where a rank is stopped; elsewhere it is far off: machines may be busy."""

RECIPE = {
    "data.name": "synthetic",
    "data.synthetic_shape": "[1,8,8]",
    "data.synthetic_classes": "3",
    "data.synthetic_train_samples": "45",
    "data.synthetic_test_samples": "23",
    "data.tail": "keep",
    "model.name": "resnet8",
    "epochs": "2",
    "max_steps": "9",
    "local_batch_size": "3",
    "seed": "5",
    "device": "cpu",
    "threads": "1",
    "progress": "none",
    "optimizer.momentum": "0.9",
    "optimizer.nesterov": "true",
    "optimizer.weight_decay": "0.01",
    "learning_rate.base": "0.05",
    "learning_rate.scaling_rule": "none",
    "learning_rate.warmup": "gradual",
    "learning_rate.warmup_epochs": "0.6",
    "learning_rate.warmup_start": "0.01",
    "comm.bucket_bytes": "65536",
    "comm.chunk_bytes": "65536",
    "evaluate.batch_size": "8",
    "log.flush_steps": "3",
    "checkpoint.keep": "3",
    "faults.hash_every": "1",
    "faults.stop_check_steps": "2",
}
"""ResNet-8, so BatchNorm, with momentum; with 3 ranks 5 steps an epoch, with 2 ranks 8, the last one smaller."""

STEPS_PER_EPOCH = {2: 8, 3: 5}
"""By the number of ranks."""


LOCAL_SGD = {"algorithm.name": "local_sgd", "algorithm.sync_period": "3"}
VARIANTS: dict[str, dict[str, str]] = {
    "diloco": {"algorithm.name": "diloco", "algorithm.sync_period": "2"},
    "quadratic": LOCAL_SGD
    | {"algorithm.sync_period": "1", "algorithm.period_schedule.kind": "power"}
    | {"algorithm.period_schedule.alpha": "0.08"},
    "divergence": LOCAL_SGD
    | {"algorithm.period_schedule.kind": "divergence", "algorithm.period_schedule.target": "0.01"},
    "late": LOCAL_SGD | {"algorithm.overlap_steps": "2", "algorithm.outer_step": "slow_momentum"},
    "ef_sign": LOCAL_SGD | {"comm.wire": "ef_sign"},
    "top_k": {"algorithm.name": "sync_sgd", "comm.gradient_wire": "top_k", "comm.top_k_density": "0.1"},
    "shared": LOCAL_SGD | {"comm.averaging": "shared"},
    "lars": {"algorithm.name": "sync_sgd", "optimizer.name": "lars"},
}
"""What is no algorithm of its own, by its name in the tables."""


@dataclass(frozen=True)
class Method:
    """An algorithm, or a variant of one, with a gradient allreduce, on so many ranks."""

    algorithm: str
    allreduce: str
    ranks: int

    @property
    def name(self) -> str:
        return f"{self.algorithm}-{self.allreduce}-{self.ranks}"

    @property
    def section(self) -> dict[str, str]:
        """Its own keys of a recipe, with dots."""
        if self.algorithm in VARIANTS:
            return VARIANTS[self.algorithm]
        return {f"algorithm.{key}": value for key, value in algorithm_named(self.algorithm, self.ranks).items()}

    def words(self, run_dir: Path, **keys: object) -> list[str]:
        """The options of ``hpcsgd train``; ``keys`` are dotted, with ``__`` for the dot."""
        values: dict[str, object] = {"run_dir": run_dir, "comm.allreduce": self.allreduce, **RECIPE, **self.section}
        values |= {key.replace("__", "."): value for key, value in keys.items()}
        return [f"--{key}={value}" for key, value in values.items()]


@dataclass(frozen=True)
class Fault:
    """What goes wrong, where, when and on which rank; ``detail`` is a bit, a file or a mode."""

    kind: str
    phase: str
    step: int
    rank: int
    detail: str = ""


@dataclass(frozen=True)
class Cell:
    """One run of the soak that something happens to, and what has to be said of it."""

    table: str
    method: Method
    fault: Fault
    message: str = ""  # a regular expression
    keys: dict[str, Any] = field(default_factory=dict)
    undetectable: str = ""

    @property
    def name(self) -> str:
        parts = (
            self.table,
            self.method.name,
            *(str(value) for value in vars(self.fault).values()),
            *self.keys.values(),
        )
        return "-".join(str(part).replace(" ", "_").replace("/", "_") for part in parts if part != "")


METHODS = [
    Method(algorithm, allreduce, ranks)
    for ranks in (2, 3)
    for algorithm in ALGORITHMS
    # Local SGD averages no gradients.
    for allreduce in (ALLREDUCES if algorithm != "local_sgd" else ["mpi"])
] + [Method(variant, "mpi", 3) for variant in VARIANTS]
SYNC, LOCAL = Method("sync_sgd", "horovod", 3), Method("local_sgd", "mpi", 3)

KILL_PHASES = ["data", "backward", "update", "background write", "after the update", "forward"]

# Where each phase is looked at: in synchronous SGD at step 5, the first of the second epoch; in local SGD at step 4,
# a local one, whose averaging comes with step 5.
STEPS = {"checkpoint": 6, "background write": 6, "evaluation": 4, "logging": 5, "start": -1, "end": 8, "last word": 8}
PHASES = [
    "start",
    "data",
    "forward",
    "backward",
    "synchronisation",
    "update",
    "logging",
    "checkpoint",
    "background write",
    "evaluation",
    "end",
    "last word",
]
MESSAGES = {
    "SIGKILL": r"signal 9 \(Killed\)",
    "SIGSTOP": r"has waited [\d.]+ s in .*did not come: \[{rank}\]",
    "exception": r"rank {rank} of 3 failed; the job ends(?=[\s\S]*ValueError: deliberate fault)",
}
WRITING = r"cannot write a checkpoint in .* on rank {rank};"


def step_of(method: Method, phase: str) -> int:
    """The step at which a fault hits ``phase``."""
    usual = 4 if method is LOCAL and phase in ("data", "forward", "backward", "update") else 5
    return STEPS.get(phase, usual)


def resume_cells() -> list[Cell]:
    """``kill -9`` of all ranks at every step of an epoch, in ever other phases, with all kinds of checkpoints."""
    kinds = itertools.cycle(itertools.product((1, 2), ("true", "false"), KILL_PHASES))
    cells = []
    for method in METHODS:
        for step in range(1, STEPS_PER_EPOCH[method.ranks] + 1):
            every, background, phase = next(kinds)
            if phase == "background write" and step % every:
                every = 1  # else this step writes none
            keys = {"checkpoint__every_steps": every, "checkpoint__background": background}
            fault = Fault("kill -9", phase, step, step % method.ranks)
            cells.append(Cell("kill", method, fault, MESSAGES["SIGKILL"], keys))
        next(kinds)  # so that a step meets another kind with each method
    return cells


def process_cells() -> list[Cell]:
    """Faults that end processes: each at each phase, on first, middle and last rank."""
    cells = []
    for kind, message in MESSAGES.items():
        for method, phase, rank in itertools.product((SYNC, LOCAL), PHASES, range(3)):
            fault = Fault(kind, phase, step_of(method, phase), rank)
            # What fails a thread that writes is told as what it writes, whatever it is.
            told = WRITING if (kind, phase) == ("exception", "background write") else message
            cells.append(Cell("process", method, fault, told.replace("{rank}", str(rank))))
        # The step at which post-local SGD ends Horovod.
        fault = Fault(kind, "end of the gradients", 2, 1)
        cells.append(Cell("process", Method("post_local_sgd", "horovod", 3), fault, message.replace("{rank}", "1")))
    for allreduce, phase, rank in itertools.product(("mpi", "torch"), ("start", "synchronisation", "end"), range(3)):
        fault = Fault("SIGSTOP", phase, STEPS.get(phase, 5), rank)
        text = MESSAGES["SIGSTOP"].replace("{rank}", str(rank))
        cells.append(Cell("process", Method("sync_sgd", allreduce, 3), fault, text))
    # Inside of Horovod's and Gloo's own start, and of Horovod's end, for which all ranks wait.
    inside = [("horovod", "start of the gradients", -1), ("torch", "start of the gradients", -1)]
    for (allreduce, phase, step), rank in itertools.product(
        [*inside, ("horovod", "end of the gradients", 8)], range(3)
    ):
        text = MESSAGES["SIGSTOP"].replace("{rank}", str(rank))
        cells.append(Cell("process", Method("sync_sgd", allreduce, 3), Fault("SIGSTOP", phase, step, rank), text))
    stopped = Fault("SIGSTOP", "before MPI", -1, 1)
    cells.append(Cell("process", SYNC, stopped, "Timeout", keys={"faults__collective_timeout_seconds": 20}))
    asked = r"asked to stop; the state after \d+ steps is kept"
    for method, phase, rank in itertools.product((SYNC, LOCAL), ("data", "synchronisation", "evaluation"), range(3)):
        cells.append(Cell("process", method, Fault("USR1", phase, step_of(method, phase), rank), asked))
    return cells + disk_cells() + two_job_cells()


def disk_cells() -> list[Cell]:
    """A full disk, for the log and for checkpoints."""
    cells = []
    for method in (SYNC, LOCAL):
        log, checkpoint = r"cannot write .*run\.h5: .*?;", r"cannot write a checkpoint in .*?;"
        cells.append(Cell("disk", method, Fault("full disk", "logging", 5, 0, "log"), log))
        cells.append(Cell("disk", method, Fault("full disk", "end", 8, 0, "model"), r"cannot write .*model\.pt: .*?;"))
        for rank, background in itertools.product(range(3), ("true", "false")):
            fault = Fault("full disk", "background write", 6, rank, "checkpoint")
            cells.append(Cell("disk", method, fault, checkpoint, keys={"checkpoint__background": background}))
        fault = Fault("full disk", "checkpoint", 6, 0, "tmpfs")
        cells.append(Cell("disk", method, fault, r"cannot write a checkpoint in .*No space left.*?;"))
        fault = Fault("full disk", "start", -1, 0, "tmpfs")
        cells.append(Cell("disk", method, fault, r"cannot write .*: No space left"))
    return cells


def two_job_cells() -> list[Cell]:
    """A second job on the directory of one that is in the middle of something."""
    modes = {"none": {}, "resume": {"resume": "auto"}, "overwrite": {"overwrite": "true"}}
    return [
        Cell("two jobs", method, Fault("two jobs", phase, step_of(method, phase), 0, mode), "in use by process")
        for method in (SYNC, LOCAL)
        for phase, mode in zip(("data", "checkpoint", "evaluation", "end"), itertools.cycle(modes))
    ]


NAN_PHASES = ["data", "backward", "synchronisation", "after synchronisation", "update", "logging", "checkpoint"]
NAN_PHASES += ["evaluation", "end"]
FLIP_PHASES = ["data", "forward", "backward", "synchronisation", "after synchronisation", "update", "logging"]
FLIP_PHASES += ["checkpoint", "evaluation", "end"]
AVERAGED = (
    "between two averagings the replicas differ rightfully, and nobody else knows what this rank's should be: a flip "
    "that leaves a plausible number is averaged like any other"
)


def joint_cells() -> list[Cell]:
    """Faults that all ranks end on together, run one after another in one set of processes."""
    cells = []
    for method, phase, rank in itertools.product((SYNC, LOCAL), NAN_PHASES, range(3)):
        # What is bad after a synchronisation is on this rank alone: the comparison or the next look tells.
        message = rf"not finite on rank {rank}\b|differ between ranks .* rank {rank} against"
        cells.append(Cell("joint", method, Fault("NaN", phase, step_of(method, phase), rank), message))
    for method, phase, rank, bit in itertools.product((SYNC, LOCAL), FLIP_PHASES, range(3), (0, 30)):
        message = rf"(differ between ranks .* rank {rank} against|not finite on rank {rank}\b)"
        fault = Fault("flipped bit", phase, step_of(method, phase), rank, str(bit))
        local = method is LOCAL and bit == 0 and not (phase == "after synchronisation")
        cells.append(Cell("joint", method, fault, message, undetectable=AVERAGED if local else ""))
    return cells


DAMAGES = ["cut", "empty", "flipped byte", "missing"]


def damage_cells() -> list[Cell]:
    """Files of a killed run that were damaged before it is resumed."""
    cells = []
    for method, damage in itertools.product((SYNC, LOCAL), DAMAGES):
        for file in ("rank-00000.pt", "rank-00001.pt", "rank-00002.pt", "manifest.json"):
            rank = int(file[5:10]) if file.startswith("rank") else 0
            cells.append(Cell("damage", method, Fault("truncated checkpoint", damage, 6, rank, file), r"not used: .*"))
        message = "cannot go on with this log: .*?;|run.h5 is not there: .*"
        for cut in ("0", "1", "page", "half", "byte") if damage == "cut" else ():
            cells.append(Cell("damage", method, Fault("truncated log", damage, 6, 0, cut), message))
        if damage == "missing":
            cells.append(Cell("damage", method, Fault("truncated log", damage, 6, 0, "whole"), message))
    return cells


def sample(cells: list[Cell], *wanted: tuple[str, str, str, int]) -> list[Cell]:
    """The cells of (algorithm, kind, phase, rank), the first of each; every one must be there."""
    found = []
    for algorithm, kind, phase, rank in wanted:
        found.append(
            next(
                cell
                for cell in cells
                if (cell.method.algorithm, cell.fault.kind, cell.fault.phase, cell.fault.rank)
                == (algorithm, kind, phase, rank)
            )
        )
    return found
