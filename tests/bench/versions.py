"""Training steps of this version against those of another commit: the same recipe by both, in turns of half a second.

    python tests/bench/versions.py COMMIT [--seconds 40] [NAMES...]

The two jobs run at the same time, but one of them is always stopped (SIGSTOP), so that what slows the machine for a
while slows both alike. The times are those of their logs: a step without evaluation and checkpoints, the maximum over
the ranks, of which a tenth of the race gives one median each; a ratio is the median over the tenths, with its 95 %
interval. The other commit's tree and the logs go to ``runs/bench/versions``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from run import RESULTS, ROOT, Times, command, environment, milliseconds, ratio, verdict

from hpcsgd.errors import UsageError
from hpcsgd.record import load_run

FOLDER = RESULTS / "versions"
TURN_SECONDS = 0.5
SKIPPED = 20
"""Steps at the beginning that are not looked at."""
PARTS = 10
LIMIT = 1.02
START_SECONDS = 120

ALWAYS = (
    "--data.name=fashion_mnist --epochs=1000 --evaluate.every_epochs=1000 --threads=1 --progress=none "
    "--log.flush_steps=20 --learning_rate.base=0.001 --learning_rate.scaling_rule=none"
)
WIDE = "--model.name=fully_connected --model.widths=[1024,1024] --local_batch_size=32"
SMALL = "--model.name=fully_connected --model.widths=[256,256] --local_batch_size=32"
CNN = "--model.name=simple_cnn_base --local_batch_size=16"
LOCAL = "--algorithm.name=local_sgd --algorithm.sync_period"
SMA = "--algorithm.name=sma --local_batch_size=8 --learners_per_rank=4"
RACES = {
    "one_small": (1, SMALL),
    "one_cnn": (1, CNN),
    "sync_small": (2, f"{SMALL} --comm.allreduce=mpi"),
    "sync_wide_horovod": (2, f"{WIDE} --comm.allreduce=horovod"),
    "sync_cnn": (2, f"{CNN} --comm.allreduce=mpi"),
    "averaging_small": (2, f"{SMALL} {LOCAL}=1"),
    "averaging_wide": (2, f"{WIDE} {LOCAL}=1"),
    "local_small": (2, f"{SMALL} {LOCAL}=16"),
    "sma_fused": (1, f"{SMALL} {SMA} --engine=fused"),
    "sma_fused_cnn": (1, f"{CNN} {SMA} --engine=fused"),
    "sma_loop": (2, f"{SMALL} {SMA} --engine=loop"),
}
"""Ranks, and words of the recipe."""


class Job:
    """One version at its training, which can be stopped and let go on."""

    def __init__(self, tree: Path, run_dir: Path, ranks: int, words: str) -> None:
        """Start it, and stop it when it trains.

        Raises:
            RuntimeError: it ends, or does not begin to train.
        """
        shutil.rmtree(run_dir, ignore_errors=True)
        self.run_dir = run_dir
        train = ["-m", "hpcsgd", "train", *f"{ALWAYS} {words}".split(), f"--run_dir={run_dir}"]
        variables = environment() | {"PYTHONPATH": str(tree)}
        FOLDER.mkdir(parents=True, exist_ok=True)
        with run_dir.with_suffix(".log").open("w") as log:
            self.process = subprocess.Popen(
                command(ranks, *train), env=variables, cwd=tree, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_SECONDS
        while self.num_steps() < SKIPPED:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                raise RuntimeError(f"{tree} does not train: {words}: see {run_dir}.log")
            time.sleep(0.2)
        self.send(signal.SIGSTOP)
        self.first = self.num_steps()

    def num_steps(self) -> int:
        """Steps in the log so far."""
        with contextlib.suppress(UsageError):
            return load_run(self.run_dir).iterations["step"].nunique()
        return 0

    def send(self, number: int) -> None:
        """Send a signal to all ranks."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            process.send_signal(number)

    def end(self) -> None:
        """Kill it."""
        if self.process.poll() is None:
            self.send(signal.SIGKILL)
        self.process.wait()

    def seconds(self) -> Times:
        """Seconds of each step since it began to train."""
        rows = load_run(self.run_dir).iterations
        rows["seconds"] = rows["wall_seconds"] - rows["evaluation_seconds"] - rows["checkpoint_seconds"]
        return rows.groupby("step")["seconds"].max().to_numpy()[self.first :]


def race(name: str, trees: dict[str, Path], seconds: float) -> dict[str, Times]:
    """Let the versions train in turns; the medians of ``PARTS`` parts of the race, of each."""
    jobs: dict[str, Job] = {}
    try:
        for version, tree in trees.items():
            jobs[version] = Job(tree, FOLDER / f"{name}_{version}", *RACES[name])
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for job in jobs.values():
                job.send(signal.SIGCONT)
                time.sleep(TURN_SECONDS)
                job.send(signal.SIGSTOP)
    finally:
        for job in jobs.values():
            job.end()
    parts = {version: np.array_split(job.seconds(), PARTS) for version, job in jobs.items()}
    return {version: np.array([np.median(part) for part in of]) for version, of in parts.items()}


def tree_of(commit: str) -> Path:
    """The files of a commit, under ``FOLDER``."""
    tree = FOLDER / commit
    if not tree.exists():
        tree.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
    return tree


def rows_of(names: list[str], trees: dict[str, Path], seconds: float) -> Iterator[str]:
    """The rows of the table, as they come."""
    for name in names:
        load = os.getloadavg()[0]
        times = race(name, trees, seconds)
        low, middle, high = ratio(times["new"], times["old"])
        cells = (
            name,
            str(RACES[name][0]),
            milliseconds(times["new"]),
            milliseconds(times["old"]),
            f"{middle:.3f} ({low:.3f}–{high:.3f})",
            verdict(low, middle, high, LIMIT),
            f"{load:.1f}",
        )
        yield f"| {' | '.join(cells)} |"


def main() -> int:
    """Race all that was asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", metavar="COMMIT")
    parser.add_argument("names", nargs="*", metavar="NAMES", help=", ".join(RACES))
    parser.add_argument("--seconds", type=float, default=40, help="how long each race is (default: %(default)s)")
    arguments = parser.parse_args()
    chosen = [name for name in RACES if not arguments.names or name in arguments.names]
    print(
        f"| race | ranks | new: min, median ms | {arguments.commit}: min, median ms | ratio (95 %) | {LIMIT} | load |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for row in rows_of(chosen, {"old": tree_of(arguments.commit), "new": ROOT}, arguments.seconds):
        print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
