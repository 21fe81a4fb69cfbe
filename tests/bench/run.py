"""``make bench``: side by side with the peers, interleaved, as paired ratios with 95 % intervals.

    python tests/bench/run.py [--quick] [NAMES...]

A name is a benchmark or the beginning of some. Each runs under mpirun with 2 ranks, or 1; its raw times go to
``runs/bench/NAME.csv``, the table to ``runs/bench/table.md``. A missed limit is said so, and is no failure: on a busy
machine the intervals are wide, and the load is printed beside them.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "runs" / "bench"
RANKS = 2


@dataclass(frozen=True)
class Comparison:
    """Variants of a benchmark, the better of ``ours`` held against the better of ``theirs``.

    ``total``: what counts is all the time of all rounds, not that of the usual one: ours does some things now and then.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    limit: float | None = None
    total: bool = False


@dataclass(frozen=True)
class Benchmark:
    """What a worker times, and what is read from it."""

    title: str
    seconds: float
    comparisons: tuple[Comparison, ...]
    ranks: int = RANKS


def averaging(title: str, seconds: float, divided: float, alone: float, *, ranks: int = RANKS) -> Benchmark:
    """An averaging: ours against the others, and each of its ways against MPI."""
    limits = {"Allreduce, division": divided, "Allreduce alone": alone, "ours, by MPI": 1.05}
    peers = ("call per tensor", "pack and unpack", "PeriodicModelAverager", "checksums") if ranks == RANKS else ()
    ours = tuple(Comparison(("ours",), (name,), limits.get(name)) for name in (*limits, *peers))
    in_memory = (Comparison(("ours, in memory",), ("Allreduce, division",)),)
    return Benchmark(title, seconds, ours + in_memory, ranks)


def sync_step(title: str, seconds: float) -> Benchmark:
    """A synchronous step: each allreduce of ours against its peer, and the best against the best."""
    ours, theirs = ("ours, horovod", "ours, mpi", "ours, torch"), ("DistributedOptimizer", "DDP, Gloo")
    return Benchmark(
        title,
        seconds,
        (
            Comparison(ours[:1], theirs[:1], 1.05),
            Comparison(ours[2:], theirs[1:], 1.05),
            *(Comparison(ours[1:2], (peer,)) for peer in theirs),
            Comparison(ours, theirs, 1.0),
        ),
    )


def learners(title: str, loop: float | None, big: float | None = None) -> Benchmark:
    """Several learners on one core: fused against one after another, and against one big batch."""
    comparisons = (
        Comparison(("fused",), ("one after another",), loop),
        Comparison(("chosen",), ("one after another",), 1.0),
        Comparison(("fused",), ("one big batch",), big),
    )
    return Benchmark(title, 20, comparisons, ranks=1)


WIRES = tuple(Comparison((name,), ("full",)) for name in ("bfloat16", "float16", "int8", "sign", "ef_sign", "top_k"))
LOCAL = (Comparison(("H = 16",), ("no communication",), 1.05),)
LOGGING = (
    Comparison(("log on",), ("log off",), 1.01, total=True),
    Comparison(("log off again",), ("log off",), total=True),
)
FAULTS = (
    Comparison(("watched",), ("unwatched",), 1.01),
    Comparison(("unwatched again",), ("unwatched",)),
)
ADAMW = (Comparison(("rows",), ("parameters, fused",), 1.0),)
OWN = (
    Comparison(("import path",), ("built in",), 1.01),
    Comparison(("built in again",), ("built in",)),
)
TIMER = (
    Comparison(("timed",), ("plain",), 1.01, total=True),
    Comparison(("timed",), ("plain",)),
    Comparison(("plain again",), ("plain",), total=True),
)
BENCHMARKS = {
    "averaging_1mb": averaging("averaging 1.1 MB", 20, 1.0, 1.1),
    "averaging_102mb": averaging("averaging 102 MB", 60, 0.6, 0.8),
    "averaging_1mb_4_ranks": averaging("averaging 1.1 MB, 4 ranks", 20, 1.0, 1.1, ranks=4),
    "averaging_102mb_4_ranks": averaging("averaging 102 MB, 4 ranks", 60, 0.6, 0.8, ranks=4),
    "wires_1mb": Benchmark("wires, 1.1 MB", 20, WIRES),
    "wires_102mb": Benchmark("wires, 102 MB", 60, WIRES),
    "sync_small": sync_step("synchronous step, 784-256-256-10", 60),
    "sync_large": sync_step("synchronous step, 784-1024-1024-10", 60),
    "sync_cnn": sync_step("synchronous step, simple CNN", 90),
    "local_small": Benchmark("local SGD, 784-256-256-10", 60, LOCAL),
    "local_large": Benchmark("local SGD, 784-1024-1024-10", 60, LOCAL),
    "faults_small": Benchmark("watchdog, NaN check, stop: 784-256-256-10", 60, FAULTS),
    "faults_large": Benchmark("watchdog, NaN check, stop: 784-1024-1024-10", 60, FAULTS),
    "faults_cnn": Benchmark("watchdog, NaN check, stop: simple CNN", 60, FAULTS),
    "learners_64": learners("16 learners at batch 8, 784-64-10", 1 / 4),
    "learners_256": learners("16 learners at batch 8, 784-256-256-10", 1 / 1.5),
    "learners_1024": learners("16 learners at batch 8, 784-1024-10", None),
    "learners_resnet_4x1": learners("4 learners at batch 1, ResNet-20", 1 / 1.6, 1.15),
    "learners_resnet_8x2": learners("8 learners at batch 2, ResNet-20", 1 / 1.6, 1.15),
    "learners_resnet_4x8": learners("4 learners at batch 8, ResNet-20", 1.0, 1.15),
    "sma_update": Benchmark(
        "SMA update of 4 learners, ResNet-20",
        20,
        (
            Comparison(("all at once",), ("module by module",), 0.4),
            Comparison(("all at once",), ("row by row",)),
        ),
        ranks=1,
    ),
    "adamw_small": Benchmark("AdamW, 784-256-256-10", 10, ADAMW, ranks=1),
    "adamw_resnet": Benchmark("AdamW, ResNet-20", 10, ADAMW, ranks=1),
    "own_small": Benchmark("a network by import path, 784-256-256-10", 60, OWN, ranks=1),
    "own_large": Benchmark("a network by import path, 784-1024-1024-10", 60, OWN, ranks=1),
    "timer": Benchmark("a loop of one's own in a session, algorithm=None", 120, TIMER, ranks=1),
    "logging_small": Benchmark("whole loop, 784-256-256-10", 240, LOGGING),
}
QUICK = 0.15
"""Part of the time that ``--quick`` gives."""


def main() -> int:
    """Run what was asked for and print the table."""
    arguments = parse()
    chosen = [name for name in BENCHMARKS if not arguments.names or name.startswith(tuple(arguments.names))]
    if not chosen:
        print(f"no benchmark begins with {arguments.names}: choose from {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    RESULTS.mkdir(parents=True, exist_ok=True)
    lines = [
        "| benchmark | ours | against | ours: min, median ms | theirs: min, median ms | ratio (95 %) | limit | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    loads, failed = [], []
    for name in chosen:
        seconds = BENCHMARKS[name].seconds * (QUICK if arguments.quick else 1)
        loads.append(os.getloadavg()[0])
        print(f"{name}: {seconds:.0f} s, load {loads[-1]:.1f}", file=sys.stderr, flush=True)
        if time_ranks(name, seconds):
            failed.append(name)
        else:
            lines += table_rows(name)
    before = ", ".join(f"{load:.1f}" for load in loads)
    lines += ["", f"{RANKS} ranks (learners, SMA update: 1) on {os.cpu_count()} cores; load before each: {before}"]
    (RESULTS / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    for name in failed:
        print(f"{name} failed: its error is above", file=sys.stderr)
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAMES", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    return parser.parse_args()


def time_ranks(name: str, seconds: float) -> int:
    """Let the ranks of one benchmark write their times; the exit code."""
    return mpirun(BENCHMARKS[name].ranks, "worker.py", name, str(RESULTS / f"{name}.csv"), str(seconds))


def mpirun(ranks: int, script: str, *arguments: str) -> int:
    """Run a script of this directory on so many ranks of one thread each; the exit code."""
    words = command(ranks, str(Path(__file__).with_name(script)), *arguments)
    return subprocess.run(words, env=environment(), cwd=ROOT).returncode


def environment() -> dict[str, str]:
    """Variables of a job with one thread a rank."""
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if os.geteuid() == 0:
        variables |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return variables


def command(ranks: int, *words: str) -> list[str]:
    """The command that starts Python with ``words`` on so many ranks."""
    version = subprocess.run(["mpirun", "--version"], env=environment(), capture_output=True, text=True, check=True)
    open_mpi = "Open MPI" in version.stdout
    binding = ["--oversubscribe", "--bind-to", "none"] if open_mpi else ["-bind-to", "none"]
    return ["mpirun", *binding, "-n", str(ranks), sys.executable, *words]


def table_rows(name: str) -> list[str]:
    """The rows of one benchmark."""
    benchmark, times = BENCHMARKS[name], read_times(RESULTS / f"{name}.csv")
    rows = []
    for comparison in benchmark.comparisons:
        ours, theirs = best(times, comparison.ours), best(times, comparison.theirs)
        low, middle, high = ratio(times[ours], times[theirs], total=comparison.total)
        limit = comparison.limit
        cells = (
            benchmark.title + (", all the time" if comparison.total else ""),
            f"best: {ours}" if len(comparison.ours) > 1 else ours,
            f"best: {theirs}" if len(comparison.theirs) > 1 else theirs,
            milliseconds(times[ours]),
            milliseconds(times[theirs]),
            f"{middle:.3f} ({low:.3f}–{high:.3f})",
            "" if limit is None else f"{limit:.4g}",
            "" if limit is None else verdict(low, middle, high, limit),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def read_times(path: Path) -> dict[str, Times]:
    """Seconds a step of every variant, round by round; the mean where a variant has several loops."""
    times: dict[str, dict[int, list[float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            seconds = float(row["seconds"]) / int(row["steps"])
            times.setdefault(row["variant"], {}).setdefault(int(row["round"]), []).append(seconds)
    return {name: np.array([np.mean(rounds[r]) for r in sorted(rounds)]) for name, rounds in times.items()}


def best(times: dict[str, Times], names: Sequence[str]) -> str:
    """The variant with the least median."""
    return min(names, key=lambda name: float(np.median(times[name])))


def ratio(ours: Times, theirs: Times, resamples: int = 4000, *, total: bool = False) -> tuple[float, float, float]:
    """The median of the rounds' ratios, or that of their totals, between the ends of its 95 % bootstrap interval."""
    rounds = np.arange(len(ours))[None]
    draws = np.random.default_rng(0).integers(len(ours), size=(resamples, len(ours)))

    def of(chosen: NDArray[np.int64]) -> Times:
        if total:
            return np.asarray(ours[chosen].sum(axis=1) / theirs[chosen].sum(axis=1))
        return np.asarray(np.median((ours / theirs)[chosen], axis=1))

    low, high = np.quantile(of(draws), (0.025, 0.975))
    return float(low), float(of(rounds)[0]), float(high)


def milliseconds(times: Times) -> str:
    """Minimum and median."""
    return f"{1e3 * times.min():.3g}, {1e3 * np.median(times):.3g}"


def verdict(low: float, middle: float, high: float, limit: float) -> str:
    """Whether the limit holds, and whether the interval leaves it open."""
    word = "met" if middle <= limit else "MISSED"
    return f"{word}, not certain" if low <= limit < high else word


if __name__ == "__main__":
    sys.exit(main())
