"""``learners_per_rank: auto`` against every number of learners: does it end at the fastest, or within 5 % of it?

    python tests/bench/tuner.py [--runs 10] [--max_learners 16] [RECIPE]

Two ranks tune the recipe so many times, each time from the start. Before each, and after the last, every number of
learners is timed in windows taken in turn, so that what slows the machine for a while slows all alike. The throughput
of a number is the median of its windows. Raw figures go to ``runs/bench/tuner.csv``.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from run import RANKS, RESULTS, ROOT, mpirun

from hpcsgd.comm.abort import abort_on_failure
from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.mpi import connect
from hpcsgd.config import CommConfig, LogConfig
from hpcsgd.config.recipe import load_config
from hpcsgd.learners.tuner import chosen
from hpcsgd.run.build import build
from hpcsgd.run.parts import Parts
from hpcsgd.run.tuning import Candidate, Windows, tune

RECIPE = ROOT / "jobs" / "crossbow" / "fashion_mnist_sma.yaml"
WINDOWS = 3
"""Of each number of learners, in a round."""
CLOSE = 0.95
"""Part of the best throughput that is as good."""
Row = tuple[str, int, int, str, float]


def main() -> int:
    """Start the ranks, or be one."""
    arguments = parse()
    if "OMPI_COMM_WORLD_SIZE" not in os.environ and "PMI_SIZE" not in os.environ:
        RESULTS.mkdir(parents=True, exist_ok=True)
        return mpirun(RANKS, "tuner.py", *sys.argv[1:])
    comm = connect(CommConfig())
    with abort_on_failure(comm):
        rows = list(measure(comm, arguments))
    if comm.rank == 0:
        write(rows, RESULTS / "tuner.csv")
        print(table(rows))
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default=str(RECIPE))
    parser.add_argument("--runs", type=int, default=10, help="times that it is tuned")
    parser.add_argument("--max_learners", type=int, default=16, help="learners a rank that are tried at most")
    return parser.parse_args()


def measure(comm: Communicator, arguments: argparse.Namespace) -> Iterator[Row]:
    """Kind, run or round, learners a rank, engine, samples a second. Collective."""
    config = load_config(arguments.recipe, ["--learners_per_rank=auto", "--progress=none", "--threads=1"])
    tuner = replace(config.tuner, max_learners=arguments.max_learners)
    config = replace(config, tuner=tuner, log=LogConfig(enabled=False))
    with build(config, comm) as parts:
        windows = Windows(parts)
        every = [ready(parts, m) for m in range(1, arguments.max_learners + 1)]
        num_steps = [windows.steps_of(candidate) for candidate in every]

        def sweep(number: int) -> Iterator[Row]:
            for window in windows.rates(every, num_steps, WINDOWS):
                for candidate, rate in zip(every, window, strict=True):
                    yield "sweep", number, candidate.own, candidate.parts.engine.name, rate

        for number in range(arguments.runs):
            yield from sweep(number)
            with build(config, comm) as again:
                again = tune(again)
                assert again.trials is not None
                best = chosen(again.trials)
            if comm.rank == 0:
                tried = ", ".join(f"{trial.learners} {trial.decision}" for trial in again.trials)
                print(f"run {number + 1}: {best.learners} learners a rank ({tried})", file=sys.stderr, flush=True)
            yield "tuned", number, best.learners, best.engine, best.samples_per_second
        yield from sweep(arguments.runs)
        for candidate in every:
            candidate.parts.algorithm.close()


def ready(parts: Parts, learners: int) -> Candidate:
    """A candidate that all ranks have joined. Collective."""
    candidate = Candidate(parts, learners)
    candidate.join()
    return candidate


def write(rows: list[Row], path: Path) -> None:
    """All that was measured."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("kind", "run", "learners", "engine", "samples_per_second"))
        writer.writerows(rows)


def table(rows: list[Row]) -> str:
    """Every number of learners: its throughput, and how often the tuner chose it."""
    rates: dict[int, list[float]] = {}
    engines = {}
    for kind, _, learners, engine, rate in rows:
        if kind == "sweep":
            rates.setdefault(learners, []).append(rate)
            engines[learners] = engine
    tuned = [learners for kind, _, learners, _, _ in rows if kind == "tuned"]
    medians = {learners: float(np.median(values)) for learners, values in rates.items()}
    best = max(medians.values())
    lines = ["| learners a rank | engine | samples/s: median (5 %, 95 %) | of the best | chosen |"]
    lines.append("|---|---|---|---|---|")
    for learners, values in rates.items():
        median, (low, high) = medians[learners], np.quantile(values, (0.05, 0.95))
        figures = f"{median:,.0f} ({low:,.0f}, {high:,.0f}) | {median / best:.3f}"
        lines.append(f"| {learners} | {engines[learners]} | {figures} | {tuned.count(learners)} |")
    good = sum(medians[learners] >= CLOSE * best for learners in tuned)
    lines += ["", f"{good} of {len(tuned)} runs end within {1 - CLOSE:.0%} of the best; load {os.getloadavg()[0]:.1f}"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
