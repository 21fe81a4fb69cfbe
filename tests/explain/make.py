"""Runs with a planted cause each, whose logs the tests of ``hpcsgd explain`` read.

    python -m tests.explain.make DIR [--cases healthy,drift]

Runs ``base.yaml`` in DIR by 4 ranks that sleep, with one thing changed for each cause, and keeps the logs, compressed,
in ``tests/data/explain``. Each takes about two minutes. A run is made again where the machine had no time for it: where
the shortest stay in an allreduce is much longer than the emulated one.
"""

from __future__ import annotations

import argparse
import lzma
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.parallel.ranks import sleepers

if TYPE_CHECKING:
    from hpcsgd.comm.communicator import Communicator

RECIPE = Path(__file__).with_name("base.yaml")
KEPT = Path(__file__).parents[1] / "data" / "explain"
NUM_RANKS = 4
COMPUTE, NETWORK = "--emulate.compute", "--emulate.network"
FAST = (
    *("--algorithm.name", "local_sgd", "--algorithm.sync_period", "8"),
    *(f"{COMPUTE}.step_seconds", "0.02", f"{COMPUTE}.sample_seconds", "0.02"),
)
"""Short steps, which seldom wait for each other: what is done in each of them shows."""

CASES: dict[str, tuple[str, ...]] = {
    "healthy": (),
    "slow_rank": (f"{COMPUTE}.slow_ranks", "[3]", f"{COMPUTE}.slow_factor", "1.3"),
    "slow_node": (f"{COMPUTE}.slow_ranks", "[2, 3]", f"{COMPUTE}.slow_factor", "1.3"),
    "slow_data": ("--data.init_args.read_seconds", "0.06"),
    "jitter": (f"{COMPUTE}.spread", "0.3"),
    "slow_network": (f"{NETWORK}.bytes_per_second", "7.0e+4"),
    "small_batch": (f"{COMPUTE}.step_seconds", "1.7", f"{COMPUTE}.sample_seconds", "0.0375"),
    "long_evaluation": ("--evaluate.every_epochs", "1", "--data.init_args.test_seconds", "0.5"),
    "frequent_logging": ("--log.flush_steps", "1", *FAST),
    "frequent_checkpoints": ("--checkpoint.every_steps", "1", "--checkpoint.background", "false"),
    "drift": (f"{COMPUTE}.drift", "0.01"),
    "restart": ("--checkpoint.every_steps", "24"),
}
"""Options by the cause that they plant."""

STOPPED_AFTER = 24
"""Steps of the run that is restarted, at the last of which its state is kept."""

DOWN_SECONDS = 20.0

MOST_TRIES = 3
DISTURBED = 0.03
"""Of a step: what the shortest stay in an allreduce takes beyond the emulated one, in the mean."""


def main() -> int:
    """Run what is asked for, and keep the logs; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = options.cases.split(",")
    if options.worker:
        train(options.directory, cases)
        return 0
    words = ["-m", "tests.explain.make", str(options.directory), "--cases", options.cases, "--worker"]
    sleepers(NUM_RANKS, *words)
    for case in cases:
        keep(options.directory / case / "run.h5", KEPT / f"{case}.h5.xz")
    return 0


def train(directory: Path, cases: Sequence[str]) -> None:
    """On the ranks of one mpirun: all cases."""
    from hpcsgd.comm.mpi import connect
    from hpcsgd.config import CommConfig

    comm = connect(CommConfig())
    for case in cases:
        for attempt in range(MOST_TRIES):
            train_case(directory / case, case, comm)
            if comm.broadcast_object(comm.rank != 0 or is_undisturbed(directory / case)):
                break
            if comm.rank == 0:
                print(f"{case}: disturbed ({attempt + 1})", flush=True)


def train_case(directory: Path, case: str, comm: Communicator) -> None:
    """Run a case, the restarted one in two parts."""
    from hpcsgd.config.recipe import load_config
    from hpcsgd.train import run

    starts: list[tuple[str, ...]] = [("--overwrite", "true")]
    if case == "restart":
        starts = [(*starts[0], "--max_steps", str(STOPPED_AFTER)), ("--resume", "auto")]
    for number, more in enumerate(starts):
        time.sleep(DOWN_SECONDS * number)
        options = [*CASES[case], "--run_dir", str(directory), "--progress", "none", *more]
        run(load_config(str(RECIPE), options), comm, argv=["hpcsgd", "train", RECIPE.name, *CASES[case]])


def is_undisturbed(directory: Path) -> bool:
    """Whether the allreduces of a run took about as long as the emulated network says."""
    from hpcsgd.comm.emulated import emulated_nodes, network_of
    from hpcsgd.config.emulate import EmulatedNetworkConfig
    from hpcsgd.record.reader import load_run

    run = load_run(directory)
    network = EmulatedNetworkConfig(**run.config["emulate"]["network"])
    columns = run.columns.read(["sync_bytes", "sync_enter_seconds", "sync_exit_seconds", "wall_seconds"])
    asked = network_of(network).allreduce(columns["sync_bytes"].max(), emulated_nodes(network, NUM_RANKS)).seconds
    stay = (columns["sync_exit_seconds"] - columns["sync_enter_seconds"]).min(axis=1)[1:]
    beyond = stay[~np.isnan(stay)] - asked
    return bool(beyond.sum() <= DISTURBED * columns["wall_seconds"][1:].mean(axis=1).sum())


def keep(log: Path, file: Path) -> None:
    """Compress a log."""
    file.write_bytes(lzma.compress(log.read_bytes(), preset=9))
    print(f"{file.name}: {file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
