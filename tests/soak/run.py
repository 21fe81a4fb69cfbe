"""``make soak``: the resume matrix and the fault table, whole.

    python -m tests.soak.run [--sample] [--only WORDS] [--folder DIR] [--go_on]

Prints the tables (Markdown) and leaves them in ``runs/soak``. Exit code 1 if a cell is silent, hung or lost.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.parallel.ranks import ROOT, command, environment
from tests.soak.cells import (
    LOCAL,
    METHODS,
    STEPS_PER_EPOCH,
    SYNC,
    Cell,
    Fault,
    Method,
    damage_cells,
    joint_cells,
    process_cells,
    resume_cells,
    sample,
)
from tests.soak.observe import Ending, run_cell, words
from tests.soak.outcome import (
    BAD,
    Outcome,
    all_methods,
    fault_table,
    judge_joint,
    judge_process,
    resume_table,
    summary,
)

RESULTS = ROOT / "runs" / "soak"
WORKER_SECONDS = 3600
PARALLEL_JOBS = 2


@dataclass
class Choice:
    """What is run."""

    stops: dict[Method, list[int]]
    kills: list[Cell]
    processes: list[Cell]
    joints: list[Cell]
    damages: list[Cell]


@dataclass
class Soak:
    """One soak in a folder, and what came of it."""

    folder: Path
    stops: list[dict[str, Any]] = field(default_factory=list)
    kills: list[Outcome] = field(default_factory=list)
    faults: list[Outcome] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def reference(self, method: Method) -> Path:
        """The run of a method that nothing happened to."""
        return self.folder / "references" / method.name

    def run(self, choice: Choice) -> None:
        """Run everything."""
        self._references_and_stops(choice)
        endings = self._processes(choice.kills + choice.processes)
        tasks = [self._resume_task(cell) for cell in choice.kills + choice.processes if endings[cell.name] is not None]
        tasks += [self._joint_task(cell) for cell in choice.joints]
        templates = {cell.method: self._template(cell.method) for cell in choice.damages}
        tasks += [self._joint_task(cell, templates[cell.method]) for cell in choice.damages]
        results = {result["name"]: result for result in self._work("resumes", tasks)}
        self.kills = [judge_process(cell, endings[cell.name], results.get(cell.name)) for cell in choice.kills]
        self.faults = [judge_process(cell, endings[cell.name], results.get(cell.name)) for cell in choice.processes]
        self.faults += [judge_joint(cell, results.get(cell.name)) for cell in choice.joints + choice.damages]

    def _references_and_stops(self, choice: Choice) -> None:
        cells = choice.kills + choice.processes + choice.joints + choice.damages
        methods = dict.fromkeys([*choice.stops, *(cell.method for cell in cells)])
        tasks = []
        for method in methods:
            reference = self.reference(method)
            tasks.append(task("reference", f"reference {method.name}", method, method.words(reference)))
            for step in choice.stops.get(method, []):
                run_dir = self.folder / "stops" / f"{method.name}-{step}"
                options = method.words(run_dir, checkpoint__background="false")
                name = f"stop {method.name} {step}"
                tasks.append(task("stop", name, method, options, stop=step, reference=str(reference)))
        results = {result["name"]: result for result in self._work("stops", tasks)}
        for todo in tasks:
            if todo["do"] == "stop":
                self.stops.append({**todo, **results.get(todo["name"], {})})

    def _processes(self, cells: Sequence[Cell]) -> dict[str, Ending | None]:
        """Run each cell in processes of its own; None where it cannot be run here."""
        mounts = can_mount(self.folder)
        endings: dict[str, Ending | None] = {}

        def one(cell: Cell) -> None:
            if cell.fault.detail == "tmpfs" and not mounts:
                endings[cell.name] = None
                return
            folder = self.folder / "cells" / cell.name
            if (ending := Ending.kept(folder)) is None:
                # Of a soak that was cut off amid the cell.
                shutil.rmtree(folder, ignore_errors=True)
                ending = run_cell(cell, folder)
                ending.keep(folder)
            endings[cell.name] = ending
            took = "no fault" if ending.seconds is None else f"{ending.seconds:.1f} s"
            self.say(f"{len(endings)}/{len(cells)} {cell.name}: exit code {ending.code}, {took}, {ending.said(cell)!r}")

        # Where a rank is stopped, the others only wait: the next job makes use of the time.
        with ThreadPoolExecutor(PARALLEL_JOBS) as pool:
            list(pool.map(one, cells))
        return endings

    def _template(self, method: Method) -> Path:
        """A killed run, with two checkpoints."""
        cell = Cell("template", method, Fault("kill -9", "data", 7, 0))
        run_cell(cell, folder := self.folder / "cells" / cell.name)
        return folder / "run"

    def _resume_task(self, cell: Cell) -> dict[str, Any]:
        run_dir = self.folder / "cells" / cell.name / "run"
        options = words(cell, run_dir, faults__collective_timeout_seconds=600)
        return task("resume", cell.name, cell.method, options, reference=str(self.reference(cell.method)))

    def _joint_task(self, cell: Cell, template: Path | None = None) -> dict[str, Any]:
        run_dir = self.folder / "cells" / cell.name / "run"
        options = words(cell, run_dir, faults__collective_timeout_seconds=600)
        more = {"fault": asdict(cell.fault), "reference": str(self.reference(cell.method)), "template": str(template)}
        return task("joint" if template is None else "damage", cell.name, cell.method, options, **more)

    def _work(self, name: str, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Let workers do the tasks, one process set for each number of ranks; a task that ends its set is left out."""
        results: list[dict[str, Any]] = []
        for ranks in sorted({todo["ranks"] for todo in tasks}):
            left = [todo for todo in tasks if todo["ranks"] == ranks]
            for attempt in range(1 + len(left)):
                if not left:
                    break
                done = self._worker(f"{name}-{ranks}-{attempt}", ranks, left)
                results += done
                names = {result["name"] for result in done}
                remaining = [todo for todo in left if todo["name"] not in names]
                if remaining:
                    self.say(f"the process set ended in {remaining[0]['name']}")
                left = remaining[1:]
        return results

    def _worker(self, name: str, ranks: int, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """One process set."""
        files = [self.folder / f"{name}.{kind}" for kind in ("tasks", "results", "output")]
        files[0].write_text(json.dumps(tasks))
        options = ["-m", "tests.soak.worker", str(files[0]), str(files[1])]
        env = environment(OMPI_MCA_mpi_yield_when_idle="1")
        with files[2].open("wb") as output:
            job = subprocess.Popen(command(ranks, *options), cwd=ROOT, env=env, stdout=output, stderr=output)
            try:
                job.wait(WORKER_SECONDS)
            finally:
                job.kill()
        lines = files[1].read_text().splitlines() if files[1].exists() else []
        self.say(f"{name}: {len(lines)} of {len(tasks)} tasks")
        return [json.loads(line) for line in lines]

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"[{time.monotonic() - self.start:6.0f} s] {text}", file=sys.stderr, flush=True)

    def bad(self) -> list[str]:
        """What must not be, in a line each."""
        lines = [
            f"{o.verdict}: {o.cell.name}: {o.said!r} {o.evidence}" for o in self.kills + self.faults if o.verdict in BAD
        ]
        return lines + [
            f"LOST: {stop['name']}: {stop.get('difference', 'its process set ended')}"
            for stop in self.stops
            if stop.get("difference", "?")
        ]

    def report(self) -> str:
        """All tables."""
        parts = []
        if self.stops or self.kills:
            methods = all_methods(self.kills, self.stops)
            parts += ["## Resume matrix", resume_table(self.stops, self.kills, methods)]
        parts += ["## Faults", summary(self.faults), fault_table(self.faults)]
        bad = self.bad()
        parts += [
            "## What must not be",
            "\n".join(f"- {line}" for line in bad) if bad else "Nothing: silent 0, hung 0.",
        ]
        return "\n\n".join(parts) + "\n"


def task(do: str, name: str, method: Method, options: list[str], **more: Any) -> dict[str, Any]:
    """A task of the worker."""
    return {"do": do, "name": name, "method": method.name, "ranks": method.ranks, "words": options, **more}


def can_mount(folder: Path) -> bool:
    """Whether a tmpfs can be mounted here."""
    place = folder / "mount"
    place.mkdir(exist_ok=True)
    if os.geteuid() or not shutil.which("mount"):
        return False
    done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, check=False)
    if done.returncode == 0:
        subprocess.run(["umount", str(place)], check=False)
    return done.returncode == 0


def everything() -> Choice:
    """The whole soak."""
    stops = {method: list(range(1, STEPS_PER_EPOCH[method.ranks] + 1)) for method in METHODS}
    return Choice(stops, resume_cells(), process_cells(), joint_cells(), damage_cells())


def fixed_sample() -> Choice:
    """What CI runs: every row once, at another phase and rank each."""
    kills = sample(resume_cells(), ("hierarchical_local_sgd", "kill -9", "background write", 0))
    processes = sample(
        process_cells(),
        ("sync_sgd", "SIGKILL", "synchronisation", 2),
        ("local_sgd", "SIGSTOP", "background write", 0),
        ("sync_sgd", "SIGSTOP", "synchronisation", 1),
        ("local_sgd", "exception", "update", 1),
        ("sync_sgd", "USR1", "data", 2),
        ("sync_sgd", "full disk", "logging", 0),
        ("local_sgd", "full disk", "background write", 1),
        ("local_sgd", "two jobs", "checkpoint", 0),
    )
    joints = sample(
        joint_cells(),
        *[("sync_sgd", "NaN", phase, rank) for rank, phase in enumerate(("backward", "checkpoint", "evaluation"))],
        *[("local_sgd", "NaN", phase, rank) for rank, phase in enumerate(("data", "update", "end"))],
        *[("sync_sgd", "flipped bit", phase, rank) for rank, phase in enumerate(("update", "forward", "end"))],
        *[("local_sgd", "flipped bit", phase, rank) for rank, phase in enumerate(("after synchronisation", "data"))],
    )
    damages = [
        next(c for c in damage_cells() if c.method is LOCAL and (c.fault.kind, c.fault.phase, c.fault.detail) == wanted)
        for wanted in (
            ("truncated checkpoint", "cut", "rank-00001.pt"),
            ("truncated checkpoint", "flipped byte", "manifest.json"),
            ("truncated log", "cut", "half"),
        )
    ]
    stops = {SYNC: [2], LOCAL: [4], Method("post_local_sgd", "torch", 3): [3]}
    # Between two averagings, with errors that are kept, and with an averaging under way.
    stops |= {Method(variant, "mpi", 3): [4] for variant in ("divergence", "ef_sign", "late")}
    return Choice(stops, kills, processes, joints, damages)


def narrowed(choice: Choice, wanted: str) -> Choice:
    """Only the cells whose names hold ``wanted``."""
    lists = (choice.kills, choice.processes, choice.joints, choice.damages)
    kept = [[cell for cell in cells if wanted in cell.name] for cells in lists]
    return Choice({m: steps for m, steps in choice.stops.items() if wanted in f"stop {m.name}"}, *kept)


def main() -> int:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", action="store_true", help="only what CI runs")
    parser.add_argument("--only", default="", help="only cells whose names hold this")
    parser.add_argument("--folder", type=Path, default=RESULTS)
    parser.add_argument(
        "--go_on", action="store_true", help="with the processes of a soak of this commit that was cut off"
    )
    arguments = parser.parse_args()
    if arguments.go_on and any(arguments.folder.glob("resumes-*")):
        parser.error("its runs have been resumed already, and are not what they were: begin anew")
    for old in [arguments.folder / part for part in ("references", "stops")] if arguments.go_on else [arguments.folder]:
        shutil.rmtree(old, ignore_errors=True)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    choice = fixed_sample() if arguments.sample else everything()
    soak = Soak(arguments.folder.resolve())
    soak.run(narrowed(choice, arguments.only) if arguments.only else choice)
    report = soak.report()
    (arguments.folder / "tables.md").write_text(report)
    print(report)
    return 1 if soak.bad() else 0


if __name__ == "__main__":
    sys.exit(main())
