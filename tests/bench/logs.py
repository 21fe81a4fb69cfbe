"""A log of many ranks and iterations: what each command that reads it takes, in seconds and in memory.

    python tests/bench/logs.py [--ranks 1000] [--steps 10000] [--algorithm sync_sgd] [--dir DIR] [COMMAND ...]

The log is written by the real writer with made-up times: log-normal spans, one slow rank, a drift, and a jump. It stays
in ``DIR`` and is made once. Each command is a process of its own: wall seconds and CPU seconds, imports included, and
the most memory that it had (peak RSS).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from run import RESULTS, ROOT

from hpcsgd.record.schema import ACTIONS, ITERATION_COLUMNS, RANK_COLUMNS, SPANS
from hpcsgd.record.writer import RunLogWriter

FLUSH_ROWS = 128
PERIOD = 8
EPOCH_STEPS = 1000
RANKS_PER_NODE = 8
SLOW_RANK = 17
BATCH = 32

COMMANDS = {
    "info": ("-m", "hpcsgd", "info", "LOG"),
    "explain": ("-m", "hpcsgd", "explain", "LOG"),
    "timing": ("analysis/timing_curves.py", "LOG", "-o", "OUT"),
    "learning": ("analysis/learning_curves.py", "LOG", "-o", "OUT"),
    **{
        form: ("-m", "hpcsgd", "export", "LOG", "--to", form, "--steps", "5000:5100", "--ranks", "0:64", "-o", "OUT/x")
        for form in ("chrome", "hta", "csv", "parquet", "extrap")
    },
    "mllog": ("-m", "hpcsgd", "export", "LOG", "--to", "mllog", "-o", "OUT/x"),
    "tensorboard": ("-m", "hpcsgd", "export", "LOG", "--to", "tensorboard", "-o", "OUT/tfevents"),
}
"""By the name that is asked for; a window is of 100 steps and 64 ranks."""


def main() -> int:
    """Make the log, run the commands, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"of {', '.join(COMMANDS)}; none: all")
    parser.add_argument("--ranks", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--algorithm", choices=("sync_sgd", "local_sgd"), default="sync_sgd")
    parser.add_argument("--dir", type=Path, default=RESULTS / "logs")
    asked = parser.parse_args()
    if unknown := set(asked.commands) - set(COMMANDS):
        parser.error(f"no command {', '.join(sorted(unknown))}: say {', '.join(COMMANDS)}")
    log = asked.dir / f"{asked.algorithm}_{asked.ranks}x{asked.steps}"
    if not log.exists():
        began = time.perf_counter()
        write(log, asked.ranks, asked.steps, asked.algorithm)
        print(f"written in {time.perf_counter() - began:.1f} s")
    print(f"{log.name}: {(log / 'run.h5').stat().st_size / 1e6:,.0f} MB\n")
    print("| command | wall (s) | CPU (s) | peak RSS (GB) | exit |\n|---|---|---|---|---|")
    for name in asked.commands or COMMANDS:
        print(measured(name, log, asked.dir / "out"), flush=True)
    return 0


def measured(name: str, log: Path, out: Path) -> str:
    """Run a command; gives its line of the table. What it prints is kept beside its output."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    words = [word.replace("OUT", str(out)).replace("LOG", str(log)) for word in COMMANDS[name]]
    began = time.perf_counter()
    with (out.parent / f"{name}.txt").open("w") as printed:
        child = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall, cpu = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    return f"| {name} | {wall:.1f} | {cpu:.1f} | {usage.ru_maxrss / 1e6:.2f} | {child.returncode} |"


def write(directory: Path, num_ranks: int, num_steps: int, algorithm: str) -> None:
    """Write a log, which is there whole or not at all."""
    unfinished = directory.with_name(directory.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with RunLogWriter(
        unfinished / "run.h5",
        ranks=[rank_row(rank) for rank in range(num_ranks)],
        rank_labels=list(range(num_ranks)),
        rank_axis="rank",
        provenance={"config": config(algorithm, num_steps), "total_steps": num_steps, "steps_per_epoch": EPOCH_STEPS},
        chunk_rows=FLUSH_ROWS,
    ) as writer:
        writer.append_segment(segment_row(num_ranks))
        clock = 0.0
        for first in range(0, num_steps, FLUSH_ROWS):
            steps = np.arange(first, min(first + FLUSH_ROWS, num_steps))
            shared = shared_columns(steps, algorithm)
            own, clock = rank_columns(rng, steps, num_ranks, shared["action"], clock, num_steps)
            writer.append_iterations(steps, shared, own)
            for step in steps[(steps + 1) % EPOCH_STEPS == 0].tolist():
                writer.append_epochs([epoch_row(step, num_ranks)])
                writer.append_evaluations([evaluation_row(step, metric) for metric in ("loss", "accuracy")])
        writer.set_status("completed")
    unfinished.rename(directory)


def config(algorithm: str, num_steps: int) -> dict[str, Any]:
    """What of a recipe the readers look at."""
    return {
        "algorithm": {"name": algorithm, "sync_period": PERIOD if algorithm == "local_sgd" else 1},
        "local_batch_size": BATCH,
        "epochs": num_steps // EPOCH_STEPS,
        "model": {"name": "made_up"},
        "data": {"name": "made_up"},
    }


def shared_columns(steps: NDArray[np.int64], algorithm: str) -> dict[str, NDArray[Any]]:
    """Columns that are the same on all ranks."""
    if algorithm == "sync_sgd":
        action = np.full(len(steps), ACTIONS.index("gradient"))
    else:
        action = np.where((steps + 1) % PERIOD == 0, ACTIONS.index("global"), ACTIONS.index("none"))
    columns = {c.name: np.zeros(len(steps), c.dtype) for c in ITERATION_COLUMNS}
    known = {
        "epoch": steps // EPOCH_STEPS,
        "learning_rate": np.full(len(steps), 0.1),
        "action": action,
        "sync_bytes": np.where(action > 0, 100_000_000, 0),
        "sync_period": np.full(len(steps), PERIOD if algorithm == "local_sgd" else 1),
    }
    unknown = {c.name: np.full(len(steps), np.nan) for c in ITERATION_COLUMNS if c.dtype == "f8"}
    return columns | unknown | known


def rank_columns(
    rng: np.random.Generator,
    steps: NDArray[np.int64],
    num_ranks: int,
    action: NDArray[np.int64],
    clock: float,
    num_steps: int,
) -> tuple[dict[str, NDArray[Any]], float]:
    """Columns of the ranks from ``clock`` on; and the clock after them."""
    shape = (len(steps), num_ranks)
    slow = np.where(np.arange(num_ranks) == SLOW_RANK, 1.1, 1.0) * (1 + 0.1 * steps / num_steps)[:, None]
    slow = slow * np.where(steps > 0.7 * num_steps, 1.1, 1.0)[:, None]
    spans = {c.name: np.zeros(shape) for c in SPANS}
    for name, seconds in (("data", 0.002), ("forward", 0.03), ("backward", 0.06), ("update", 0.005), ("logging", 1e-4)):
        spans[f"{name}_seconds"] = seconds * slow * rng.lognormal(0, 0.05, shape)
    busy = np.sum(list(spans.values()), axis=0)
    # All wait for the last one of each period.
    own = np.zeros(num_ranks)
    wait = np.zeros(shape)
    enter, leave = np.full(shape, np.nan), np.full(shape, np.nan)
    start = np.zeros(shape)
    for row in range(len(steps)):
        start[row] = clock + own
        own = own + busy[row]
        if action[row]:
            enter[row], end = clock + own, clock + own.max() + 0.004
            leave[row] = end
            wait[row] = end - enter[row]
            clock, own = end, np.zeros(num_ranks)
    clock += float(own.max())
    is_gradient = action == ACTIONS.index("gradient")
    spans["gradient_allreduce_seconds"] = np.where(is_gradient[:, None], wait, 0.0)
    spans["averaging_seconds"] = np.where(is_gradient[:, None], 0.0, wait)
    unknown = {c.name: np.full(shape, np.nan) for c in RANK_COLUMNS if c.dtype == "f8"}
    known = {
        "loss": (2.3 * np.exp(-3 * steps / num_steps))[:, None] + rng.normal(0, 0.1, shape),
        "loss_weight": np.full(shape, float(BATCH)),
        "num_samples": np.full(shape, BATCH),
        "start_seconds": start,
        "wall_seconds": busy + wait,
        "sync_enter_seconds": enter,
        "sync_exit_seconds": leave,
        "hidden_seconds": np.zeros(shape),
    }
    return unknown | spans | known, clock


def rank_row(rank: int) -> dict[str, object]:
    """A row of ``/ranks``."""
    node = rank // RANKS_PER_NODE
    texts = {"node": f"n{node:04d}", "device": "made-up GPU", "cores": "0-7"}
    numbers = {"node_index": node, "local_rank": rank % RANKS_PER_NODE, "block": node, "threads": 8, "pid": rank + 1}
    clocks = {"clock_offset_seconds": 0.0, "clock_error_seconds": 0.0, "peak_memory_bytes": float("nan")}
    return {"rank": rank, **texts, **numbers, **clocks}


def segment_row(num_ranks: int) -> dict[str, object]:
    """The row of ``/segments``."""
    unknown = {"compile_seconds": float("nan"), "peak_memory_bytes": float("nan")}
    texts = {"lost_ranks": "", "started": "2026-01-01T00:00:00+00:00", "git_commit": "", "job": ""}
    return {"first_step": 0, "world_size": num_ranks, **unknown, **texts}


def epoch_row(step: int, num_ranks: int) -> dict[str, object]:
    """A row of ``/epochs``, of 0.1 s a step."""
    clocks = {"train_seconds": 0.1 * EPOCH_STEPS, "evaluation_seconds": 0.0, "checkpoint_seconds": 0.0}
    sizes = {"num_samples": EPOCH_STEPS * num_ranks * BATCH, "sync_bytes": 100_000_000 * EPOCH_STEPS}
    return {
        "epoch": step // EPOCH_STEPS, "step": step + 1, "train_loss": 1.0, "logging_seconds": 0.1, **clocks, **sizes
    }  # fmt: skip


def evaluation_row(step: int, metric: str) -> dict[str, object]:
    """A row of ``/evaluations``."""
    epoch = (step + 1) / EPOCH_STEPS
    value = 2.3 / (1 + epoch) if metric == "loss" else 1 - 0.9 / (1 + epoch)
    costs = {"train_seconds": 0.1 * (step + 1), "sync_bytes": 100_000_000 * (step + 1)}
    return {
        "step": step + 1, "epoch_fraction": epoch, "split": "test", "metric": metric, "value": value,
        "num_samples": 10_000, **costs,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
