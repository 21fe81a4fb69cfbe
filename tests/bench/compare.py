"""False alarms and finds of ``hpcsgd compare``: pairs of equal runs, and pairs with 3 % planted in one place.

    python tests/bench/compare.py DIR [--settings 0,1,...,9]

For each setting four runs with other seeds, on the emulated machine of ``jobs/emulated/wind_tunnel.yaml``: A and B
are equal; C and D are too, with the network (of even settings) or the compute (of odd ones) slower by 3 %. A against B
and C against D must be told to be equal; in A against C and B against D what was planted must be found. The settings
are drawn from their numbers, before any run. ``compare.md`` in DIR has the table, of all settings that are there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.parallel.ranks import sleepers  # noqa: E402

RECIPE = str(ROOT / "jobs" / "emulated" / "wind_tunnel.yaml")
NUM_SETTINGS, NUM_RANKS = 10, 2
RUNS = "ABCD"
PLANTED = 1.03
STEP_SECONDS = 0.1
COLLECTIVE_SECONDS = 0.04
"""Of an iteration: an averaging once in H iterations takes H times as long."""
NUM_BYTES = 4 * (196 * 250 + 250 + 250 * 125 + 125 + 125 * 10 + 10)
"""Of the gradient of a network of widths 250 and 125."""
TRANSFERS = ("gradient_allreduce transfer", "averaging transfer")
BASE = (
    *(
        "--max_steps",
        "320",
        "--epochs",
        "2",
        "--model.widths",
        "[250,125]",
        "--emulate.network.latency_seconds",
        "1e-5",
    ),
    *("--comm.bucket_bytes", "100000000", "--progress", "none", "--overwrite", "true"),
)


def options_of(setting: int, run: str) -> list[str]:
    """The options of a run of a setting: one bucket, which no backward pass hides, or an averaging in H = 4."""
    draws = np.random.default_rng(setting)
    spread, correlated, correlation = draws.uniform(0.01, 0.05), draws.uniform(0, 0.01), draws.uniform(0.5, 0.9)
    period = 4 if setting % 4 >= 2 else 1
    slower = PLANTED if run in "CD" else 1.0
    network, compute = (slower, 1.0) if setting % 2 == 0 else (1.0, slower)
    words = ["--seed", str(1000 * setting + ord(run))]
    if period > 1:
        words += ["--algorithm.name", "local_sgd", "--algorithm.sync_period", str(period)]
    settings = {
        "network.bytes_per_second": NUM_BYTES / (period * COLLECTIVE_SECONDS * network),
        "compute.step_seconds": STEP_SECONDS * compute,
        "compute.spread": spread,
        "compute.correlated_spread": correlated,
        "compute.correlation": correlation,
    }
    return words + [word for name, value in settings.items() for word in (f"--emulate.{name}", f"{value:.6g}")]


def main() -> int:
    """Run what is asked for, and print the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--settings", default=",".join(map(str, range(NUM_SETTINGS))), help="those to run; empty: none")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings = [int(setting) for setting in options.settings.split(",") if setting]
    if options.worker:
        train(options.directory, settings)
        return 0
    for setting in settings:
        sleepers(NUM_RANKS, __file__, str(options.directory), "--settings", str(setting), "--worker")
    show(options.directory)
    return 0


def train(directory: Path, settings: list[int]) -> None:
    """On the ranks of one mpirun: the runs of each setting."""
    from hpcsgd.comm.mpi import connect
    from hpcsgd.config import CommConfig
    from hpcsgd.config.recipe import load_config
    from hpcsgd.train import run

    comm = connect(CommConfig())
    for setting, name in runs_of(settings):
        words = [*BASE, *options_of(setting, name)]
        config = load_config(RECIPE, [*words, "--run_dir", str(directory / f"{setting:02d}" / name)])
        run(config, comm, argv=["hpcsgd", "train", RECIPE, *words])


def runs_of(settings: list[int]) -> Iterator[tuple[int, str]]:
    """Settings and names of their runs, in an order that turns with the setting: no name is always the last."""
    for setting in settings:
        turn = setting % len(RUNS)
        yield from ((setting, name) for name in RUNS[turn:] + RUNS[:turn])


def show(directory: Path) -> None:
    """Print and keep a row a pair of runs: what differed, and what was told."""
    from hpcsgd.record.reader import load_run
    from hpcsgd.scaling.compare import FASTER, NOISE, SLOWER, compare
    from hpcsgd.scaling.observed import observe

    lines = ["| setting | algorithm | pair | planted | told | as it should be |", "|---|---|---|---|---|---|"]
    right = {"": 0, "network": 0, "compute": 0}
    for folder in sorted(path for path in directory.iterdir() if path.is_dir()):
        setting = int(folder.name)
        algorithm = "local SGD, H = 4" if setting % 4 >= 2 else "synchronous SGD"
        runs = {name: observe(load_run(folder / name)) for name in RUNS}
        for first, second in ("AB", "CD", "AC", "BD"):
            table = compare([runs[first]], [runs[second]]).set_index("span")
            told = table[table["verdict"].isin([SLOWER, FASTER])]
            planted = "" if first + second in ("AB", "CD") else ("network", "compute")[setting % 2]
            spans = {"": [], "network": list(TRANSFERS), "compute": ["forward", "backward"]}[planted]
            verdicts = table["verdict"].reindex(spans).fillna(NOISE)
            ok = bool((verdicts == SLOWER).any()) if planted else told.empty
            right[planted] += ok
            text = ", ".join(f"{span} {row.ratio - 1:+.1%}" for span, row in told.iterrows()) or "equal"
            what = f"{planted} 3 %" if planted else "nothing"
            lines.append(f"| {setting} | {algorithm} | {first} {second} | {what} | {text} | {'yes' if ok else 'no'} |")
    pairs = (len(lines) - 2) // 2
    found = right["network"] + right["compute"]
    lines += ["", f"False alarms: {pairs - right['']} of {pairs} pairs; found: {found} of {pairs}."]
    (directory / "compare.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
