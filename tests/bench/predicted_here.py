"""Real compute of this machine: predicted from one rank and doctor's table, measured on two.

    python tests/bench/predicted_here.py DIR [--repetitions 3]

Runs of one rank at three local batches, and ``hpcsgd doctor`` on two ranks, are all that the prediction knows; then two
ranks train by two algorithms. What two ranks take from each other (memory, caches, clock) is in no run of one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.wind_tunnel import measured  # noqa: E402
from tests.parallel.ranks import command, environment  # noqa: E402

RECIPE = ROOT / "jobs" / "demo_sync_sgd.yaml"
BATCH, STEPS = 64, 100
COMMON = (
    *(
        "--data.name",
        "synthetic",
        "--model.name",
        "fully_connected",
        "--model.widths",
        "[1024, 1024]",
        "--threads",
        "1",
    ),
    *("--device", "cpu", "--epochs", "1", "--max_steps", str(STEPS), "--evaluate.every_epochs", "0"),
    *("--comm.allreduce", "mpi", "--progress", "none", "--log.utilisation_seconds", "0"),
)
CASES = {"sync_sgd": (), "local_sgd:4": ("--algorithm.name", "local_sgd", "--algorithm.sync_period", "4")}


def hpcsgd(*words: str, ranks: int = 0) -> str:
    """Run a command of hpcsgd; its output."""
    words = ("-m", "hpcsgd", *words)
    started = command(ranks, *words) if ranks else [sys.executable, *words]
    variables = environment(OMPI_MCA_mpi_yield_when_idle="1")
    return subprocess.run(started, check=True, env=variables, stdout=subprocess.PIPE, text=True).stdout


def train(path: Path, ranks: int, batch: int, *words: str) -> Path:
    """A run, unless it is there."""
    if not (path / "run.h5").exists():
        sizes = ("--local_batch_size", str(batch), "--global_batch_size", "null")
        hpcsgd("train", str(RECIPE), *COMMON, *sizes, "--run_dir", str(path), *words, ranks=ranks)
    return path


def main() -> int:
    """Small runs, prediction, large runs, table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    home = options.directory
    small = [
        train(home / "small" / f"{batch}-{number}", 1, batch)
        for number in range(options.repetitions)
        for batch in (BATCH, 2 * BATCH, 4 * BATCH)
    ]
    table, kept = home / "doctor.txt", home / "prediction.json"
    if not kept.exists():
        table.write_text(hpcsgd("doctor", "--device", "cpu", ranks=2))
        # A run of one rank sends nothing: an averaging of it says how many bytes there are.
        small.append(train(home / "small" / "averaging", 1, BATCH, *CASES["local_sgd:4"]))
        words = [*map(str, small), "--gpus", "2", "--per_node", "2", "--batch", str(BATCH), "--steps", str(STEPS)]
        hpcsgd("predict", *words, "--algorithm", ",".join(CASES), "--network", str(table), "-o", str(kept))
    print("| algorithm | predicted (ms) | interval | measured | error |\n|---|---|---|---|---|")
    for one in json.loads(kept.read_text())["predictions"]:
        case, foreseen = one["algorithm"], one["iteration_seconds"]
        runs = [home / f"{case.replace(':', '-')}-{number}" for number in range(options.repetitions)]
        found = [measured(train(path, 2, BATCH, *CASES[case])) for path in runs]
        interval = f"{1e3 * foreseen['low']:.2f} to {1e3 * foreseen['high']:.2f}"
        said = ", ".join(f"{1e3 * seconds:.2f}" for seconds in found)
        error = foreseen["median"] / float(np.median(found)) - 1
        print(f"| {case} | {1e3 * foreseen['median']:.2f} | {interval} | {said} | {error:+.1%} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
