"""Algorithms on an emulated machine, against what its numbers say by arithmetic: speed-up over ranks, and errors.

    python tests/bench/wind_tunnel.py DIR [--ranks 1,2,4,8,16] [--cases sync_sgd,local_h4]

Runs ``jobs/emulated/wind_tunnel.yaml`` in DIR by several algorithms, those of a number of ranks in one mpirun. The
arithmetic knows the recipe alone: it draws the times of all steps of all ranks from the seed, lets ranks wait for each
other where they meet, and adds the network's formula. ``python analysis/scaling.py DIR -o DIR/figures`` draws the runs.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from hpcsgd.algorithms.schedule import Action  # noqa: E402
from hpcsgd.comm.emulated import emulated_nodes, network_of  # noqa: E402
from hpcsgd.comm.gradients import Buckets  # noqa: E402
from hpcsgd.comm.mpi import connect  # noqa: E402
from hpcsgd.config import CommConfig, RunConfig  # noqa: E402
from hpcsgd.config.recipe import load_config  # noqa: E402
from hpcsgd.learners.replica import Replica  # noqa: E402
from hpcsgd.models.build import build_model  # noqa: E402
from hpcsgd.record.reader import load_run  # noqa: E402
from hpcsgd.run.emulated import EmulatedCompute  # noqa: E402
from hpcsgd.run.plan import make_plan  # noqa: E402
from hpcsgd.train import run  # noqa: E402
from tests.parallel.ranks import sleepers  # noqa: E402

RECIPE = str(ROOT / "jobs" / "emulated" / "wind_tunnel.yaml")
LOCAL = ("--algorithm.name", "local_sgd", "--algorithm.sync_period")
NODES = ("--emulate.network.ranks_per_node", "4", "--emulate.network.node_latency_seconds", "1e-5")
TWO_LEVELS = (*NODES, "--emulate.network.node_bytes_per_second", "1.1e7")
CASES: dict[str, tuple[str, ...]] = {
    "sync_sgd": ("--max_steps", "16"),
    "local_h4": (*LOCAL, "4", "--max_steps", "16"),
    "local_h16": (*LOCAL, "16"),
    "local_h4_late": (*LOCAL, "4", "--algorithm.overlap_steps", "2", "--max_steps", "16"),
    "local_h4_ef_sign": (*LOCAL, "4", "--comm.wire", "ef_sign", "--max_steps", "16"),
    "local_h4_nodes": (*LOCAL, "4", "--max_steps", "16", *TWO_LEVELS),
    "hierarchical_h4x4": (
        *("--algorithm.name", "hierarchical_local_sgd", "--algorithm.sync_period", "4"),
        *("--algorithm.block_sync_period", "4", *TWO_LEVELS),
    ),
}
"""Options of each; in the last two, nodes of 4 ranks have links within that are five times as fast."""


def main() -> int:
    """Run what is asked for, and print the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--ranks", default="1,2,4,8,16")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = options.cases.split(",")
    if options.worker:
        train(options.directory, cases)
        return 0
    sizes = [int(size) for size in options.ranks.split(",")]
    for size in sizes:
        words = [__file__, str(options.directory), "--cases", options.cases, "--worker"]
        sleepers(size, *words)
    show(options.directory, cases, sizes)
    return 0


def config_of(case: str, directory: Path) -> RunConfig:
    """The configuration of a case, whose run is kept in ``directory``."""
    words = ["--run_dir", str(directory), "--overwrite", "true", "--progress", "none"]
    return load_config(RECIPE, [*CASES[case], *words])


def train(directory: Path, cases: Sequence[str]) -> None:
    """On the ranks of one mpirun: all runs of their number."""
    comm = connect(CommConfig())
    for case in cases:
        run(config_of(case, directory / f"{case}-{comm.size}"), comm, argv=["hpcsgd", "train", RECIPE, *CASES[case]])


def show(directory: Path, cases: Sequence[str], sizes: Sequence[int]) -> None:
    """Print and keep a row a run: time per iteration as measured and by arithmetic, and speed-up."""
    lines = [
        "| algorithm | ranks | measured (ms/iteration) | arithmetic | error | speed-up | by arithmetic |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        first: tuple[float, float] | None = None
        for size in sizes:
            path = directory / f"{case}-{size}"
            found, expected = measured(path), predicted(config_of(case, path), size)
            first = first or (found, expected)
            speedups = f"{size * first[0] / found:.2f} | {size * first[1] / expected:.2f}"
            times = f"{1e3 * found:.1f} | {1e3 * expected:.1f} | {found / expected - 1:+.1%}"
            lines.append(f"| {case} | {size} | {times} | {speedups} |")
    text = "\n".join(lines)
    (directory / "wind_tunnel.md").write_text(text + "\n")
    print(text)


def measured(path: Path) -> float:
    """Seconds of an iteration, from the begin of the first rank to the end of the last, less evaluation and logging."""
    frame = load_run(path).iterations
    last = frame[frame["step"] == frame["step"].max()]
    first = frame[frame["step"] == 0]
    aside = frame[["evaluation_seconds", "logging_seconds", "checkpoint_seconds"]].sum(axis=1)
    ends = last["start_seconds"] + last["wall_seconds"] - aside[last.index]
    return float((ends.max() - first["start_seconds"].min()) / (last["step"].iloc[0] + 1))


def predicted(config: RunConfig, size: int) -> float:
    """Seconds of an iteration by arithmetic."""
    plan = make_plan(config, size, config.data.synthetic_train_samples)
    network, nodes = network_of(config.emulate.network), emulated_nodes(config.emulate.network, size)
    compute = [EmulatedCompute(config, rank) for rank in range(size)]
    buckets = buckets_of(config)
    now, late = np.zeros(size), dict[int, float]()
    for step in range(plan.total_steps):
        passes = np.array([own.seconds(step, plan.local_batch_size) for own in compute])
        action = plan.schedule(step)
        ends = now + passes
        if action is Action.GRADIENT and size > 1:
            free, there = 0.0, 0
            for part in buckets.parts:
                there += part.numel()
                ready = now + passes * (1 - 2 / 3 * (1 - there / buckets.flat.numel()))
                free = max(float(ready.max()), free) + network.allreduce(4 * part.numel(), nodes).seconds
            ends = np.maximum(ends, free)
        if step in late:
            ends = np.maximum(ends, late.pop(step))
        if action is Action.GLOBAL and config.algorithm.overlap_steps and step + 1 < plan.total_steps:
            took = network.allreduce(4 * buckets.flat.numel(), nodes).seconds
            late[min(step + config.algorithm.overlap_steps, plan.total_steps - 1)] = float(ends.max()) + took
        elif action is Action.GLOBAL and config.comm.wire == "ef_sign":
            message = math.ceil(buckets.flat.numel() / 8) + 4 * len(buckets.parameters)
            ends[:] = ends.max() + network.allgather(message, nodes).seconds
        elif action in (Action.BLOCK, Action.GLOBAL):
            for block in set(nodes) if action is Action.BLOCK else {None}:
                of = [rank for rank in range(size) if block is None or nodes[rank] == block]
                took = network.allreduce(4 * buckets.flat.numel(), [nodes[rank] for rank in of]).seconds
                ends[of] = ends[of].max() + took * (len(of) > 1)
        now = ends
    return float(now.max() / plan.total_steps)


def buckets_of(config: RunConfig) -> Buckets:
    """The gradient of the recipe's model, as it is sent."""
    module = build_model(config.model, config.data.synthetic_shape, config.data.synthetic_classes, config.seed)
    replica = Replica(module, torch.device("cpu"), torch.float32, channels_last=False)
    return Buckets(replica.gradients, replica.trainable, replica.slots, config.comm.bucket_bytes)


if __name__ == "__main__":
    sys.exit(main())
