"""Predictions from runs of 1, 2 and 4 ranks, held against runs of 8 and 16: on 20 emulated machines drawn by a seed.

    python tests/bench/predicted_tunnel.py DIR fit        # the small runs
    python tests/bench/predicted_tunnel.py DIR predict    # a prediction.json a machine, from these alone
    python tests/bench/predicted_tunnel.py DIR measure    # the large runs, which need the predictions to be there
    python tests/bench/predicted_tunnel.py DIR show       # the table

A machine has a step's duration, slowness of three kinds, and nodes of two ranks with links of two kinds, all drawn
before anything is run. Small and large runs have seeds of their own, so that no large run repeats the slowness of a
small one. Where ranks are always slow, every fourth is: what no small run has seen cannot be foreseen.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from hpcsgd.config import RunConfig  # noqa: E402
from hpcsgd.record.reader import find_runs, read_status  # noqa: E402
from hpcsgd.scaling import kept  # noqa: E402
from hpcsgd.scaling.fit import fit  # noqa: E402
from hpcsgd.scaling.logs import small_run  # noqa: E402
from hpcsgd.scaling.methods import parse_method  # noqa: E402
from hpcsgd.scaling.predict import Limits, Question, predict  # noqa: E402
from tests.parallel.ranks import sleepers  # noqa: E402

RECIPE = str(ROOT / "jobs" / "emulated" / "wind_tunnel.yaml")
SEED = 18
NUM_MACHINES = 20
PAYLOAD_BYTES = 107_472
MOST_DISTURBED, ATTEMPTS = 0.05, 2
"""A run that took longer than arithmetic says, since others had the processor, is run again, but not for ever."""

GOAL = 0.05
SMALL, LARGE = (1, 2, 4), (8, 16)
LOCAL = ("--algorithm.name", "local_sgd", "--algorithm.sync_period")
CASES: dict[str, tuple[str, ...]] = {
    "sync_sgd": ("--max_steps", "48"),
    "local_sgd:4": (*LOCAL, "4", "--max_steps", "48"),
    "local_sgd:16": (*LOCAL, "16", "--max_steps", "64"),
    "hierarchical_local_sgd:4x4": (
        *("--algorithm.name", "hierarchical_local_sgd", "--algorithm.sync_period", "4"),
        *("--algorithm.block_sync_period", "4", "--max_steps", "64"),
    ),
}
FITTED = {
    1: ("sync_sgd",),
    2: ("sync_sgd", "hierarchical_local_sgd:4x4"),
    4: ("sync_sgd", "hierarchical_local_sgd:4x4"),
}
"""What the small runs are, by their ranks."""


@dataclass(frozen=True)
class Machine:
    """One machine; the fields are those of ``emulate.compute`` and ``emulate.network``."""

    number: int
    compute: dict[str, object]
    network: dict[str, object]

    def words(self, case: str, ranks: int) -> list[str]:
        """The overrides of a run."""
        own = {f"emulate.compute.{key}": value for key, value in self.compute.items()}
        own |= {f"emulate.network.{key}": value for key, value in self.network.items()}
        own |= {"seed": 1000 * (self.number + 1) + ranks, "model.widths": [64, 190], "comm.bucket_bytes": 53_000}
        return [*CASES[case], *(word for key, value in own.items() for word in (f"--{key}", str(value)))]


def machines() -> list[Machine]:
    """All of them, the same at every call."""
    generator = np.random.default_rng(SEED)
    return [_draw(number, generator) for number in range(NUM_MACHINES)]


def _draw(number: int, generator: np.random.Generator) -> Machine:
    """The next machine."""
    compute: dict[str, object] = {
        "step_seconds": round(generator.uniform(0.1, 0.18), 4),
        "spread": round(generator.uniform(0.05, 0.2), 4),
    }
    if generator.uniform() < 0.7:
        compute["correlated_spread"] = round(generator.uniform(0.02, 0.08), 4)
        compute["correlation"] = float(generator.choice([0.8, 0.9, 0.95]))
    if generator.uniform() < 0.5:
        compute["slow_ranks"] = list(range(int(generator.integers(4)), max(LARGE), 4))
        compute["slow_factor"] = round(generator.uniform(1.05, 1.3), 4)
    seconds = generator.uniform(0.01, 0.05)
    network: dict[str, object] = {
        "latency_seconds": round(float(np.exp(generator.uniform(np.log(2e-5), np.log(2e-4)))), 7),
        "bytes_per_second": round(PAYLOAD_BYTES / seconds),
        "ranks_per_node": 2,
        "node_latency_seconds": 1e-5,
        "node_bytes_per_second": round(PAYLOAD_BYTES / seconds * generator.uniform(3, 8)),
    }
    return Machine(number, compute, network)


def main() -> int:
    """One stage; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("stage", choices=["fit", "predict", "measure", "show"])
    parser.add_argument("--machines", default=f"0:{NUM_MACHINES}", help="FIRST:END")
    parser.add_argument("--ranks", help="of the runs, with commas; unset, all of the stage")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    first, end = (int(word) for word in options.machines.split(":"))
    chosen = machines()[first:end]
    sizes = {"fit": SMALL, "measure": LARGE}.get(options.stage, ())
    sizes = tuple(int(word) for word in options.ranks.split(",")) if options.ranks else sizes
    if options.worker:
        train(options.directory, options.stage, chosen)
    elif options.stage == "predict":
        for machine in chosen:
            foresee(options.directory / f"{machine.number:02}")
    elif options.stage == "show":
        show(options.directory, chosen)
    for size in sizes if not options.worker else ():
        start(options, size)
    return 0


def foresee(home: Path) -> None:
    """Keep a prediction of the large runs of a machine from its small ones."""
    model = fit([small_run(run) for run in find_runs([home / "fit"])[0]])
    answers = []
    for case, words in CASES.items():
        steps = int(words[words.index("--max_steps") + 1])
        question = Question(LARGE, 2, (parse_method(case),), (8,) * len(LARGE), num_steps=steps)
        answers += predict(model, question, num_draws=400, seed=SEED)
    runs = [small_run(run) for run in find_runs([home / "fit"])[0]]
    kept.write(home / kept.FILE_NAME, kept.content(model, runs, answers, [], [], Limits(), SEED), overwrite=False)


@dataclass(frozen=True)
class Row:
    """A large run: seconds of an iteration as predicted, as measured, and by arithmetic from the machine's numbers."""

    machine: int
    case: str
    ranks: int
    low: float
    median: float
    high: float
    measured: float
    arithmetic: float

    def inside(self, seconds: float) -> bool:
        """Whether the interval has it."""
        return self.low <= seconds <= self.high


def rows_of(home: Path, machine: Machine) -> Iterator[Row]:
    """All of a machine; NaN where nothing was measured yet."""
    from hpcsgd.config.recipe import load_config
    from tests.bench.wind_tunnel import measured, predicted

    for one in json.loads((home / kept.FILE_NAME).read_text())["predictions"]:
        case, ranks, seconds = one["algorithm"], one["gpus"], one["iteration_seconds"]
        path = home / "measure" / f"{case.replace(':', '-')}-{ranks}"
        found = measured(path) if read_status(path) == "completed" else float("nan")
        expected = predicted(load_config(RECIPE, machine.words(case, ranks)), ranks)
        yield Row(machine.number, case, ranks, seconds["low"], seconds["median"], seconds["high"], found, expected)


def show(directory: Path, chosen: list[Machine]) -> None:
    """Print and keep the table, and a line for each algorithm and size."""
    rows = [row for machine in chosen for row in rows_of(directory / f"{machine.number:02}", machine)]
    lines = [
        "| algorithm | ranks | mean error, measured | largest | within 5 % | inside | by arithmetic | | | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups = [(case, ranks) for case in CASES for ranks in LARGE]
    for case, ranks in [*groups, ("all", 0)]:
        own = [row for row in rows if ranks == 0 or (row.case, row.ranks) == (case, ranks)]
        against = (_errors(own, "measured"), _errors(own, "arithmetic"))
        lines.append(f"| {case} | {ranks or 'all'} | {' | '.join(against)} |")
    lines += ["", "| machine | algorithm | ranks | predicted (ms) | interval | measured | error | arithmetic | error |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        interval = f"{1e3 * row.low:.1f} to {1e3 * row.high:.1f}"
        compared = [f"{1e3 * found:.1f} | {row.median / found - 1:+.1%}" for found in (row.measured, row.arithmetic)]
        name = f"{row.machine} | {row.case} | {row.ranks}"
        lines.append(f"| {name} | {1e3 * row.median:.1f} | {interval} | {' | '.join(compared)} |")
    (directory / "predicted_tunnel.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _errors(rows: Sequence[Row], name: str) -> str:
    """Mean and largest size of the error, how many are within 5 %, and how many inside, of those that are known."""
    known = [(row, getattr(row, name)) for row in rows if np.isfinite(getattr(row, name))]
    if not known:
        return "- | - | - | -"
    errors = [abs(row.median / found - 1) for row, found in known]
    inside = sum(row.inside(found) for row, found in known)
    near = sum(error <= GOAL for error in errors)
    return f"{np.mean(errors):.1%} | {max(errors):.1%} | {near} of {len(known)} | {inside} of {len(known)}"


def start(options: argparse.Namespace, size: int) -> None:
    """The runs of a size, in one mpirun."""
    words = [__file__, str(options.directory), options.stage, "--machines", options.machines, "--worker"]
    sleepers(size, *words)


def train(directory: Path, stage: str, chosen: list[Machine]) -> None:
    """On the ranks of one mpirun: the runs of their number, but those that are there."""
    from hpcsgd.comm.mpi import connect
    from hpcsgd.config import CommConfig
    from hpcsgd.config.recipe import load_config
    from hpcsgd.train import run

    comm = connect(CommConfig())
    for machine in chosen:
        home = directory / f"{machine.number:02}"
        if stage == "measure" and not (home / "prediction.json").exists():
            raise SystemExit(f"{home}: predict first")
        for case in FITTED[comm.size] if stage == "fit" else CASES:
            path = home / stage / f"{case.replace(':', '-')}-{comm.size}"
            words = [
                *machine.words(case, comm.size),
                "--run_dir",
                str(path),
                "--progress",
                "none",
                "--overwrite",
                "true",
            ]
            config = load_config(RECIPE, words)
            for _ in range(ATTEMPTS):
                if comm.broadcast_object(
                    disturbance(path, config, comm.size) < MOST_DISTURBED if comm.rank == 0 else None
                ):
                    break
                run(config, comm, argv=["hpcsgd", "train", RECIPE, *words])


def disturbance(path: Path, config: RunConfig, ranks: int) -> float:
    """How much longer a run took than its recipe says by arithmetic, as a part; infinite: there is no whole run."""
    from tests.bench.wind_tunnel import measured, predicted

    if read_status(path) != "completed":
        return float("inf")
    return measured(path) / predicted(config, ranks) - 1


if __name__ == "__main__":
    sys.exit(main())
