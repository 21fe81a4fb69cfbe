"""``make fuzz``: odd inputs of every kind, each with a seed of its own.

    python -m tests.fuzz.run [--seed N] [--only KIND] [--count N] [--jobs N] [--folder DIR]

Case number i of a kind has the seed N + i, so ``--seed N+i --only KIND --count 1`` repeats it alone. What fails is
printed with that command; its inputs and outputs stay in the folder, with ``results.json``. Exit code 1 if any fails.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random

from tests.fuzz import checkpoints, environments, files, images, logs, packs, recipes, sites, studies
from tests.fuzz.case import ROOT, Kind
from tests.fuzz.execute import execute, preload
from tests.fuzz.judge import FOLDERS, faults, snapshot
from tests.fuzz.sound import make_sound

FOLDER = ROOT / "runs" / "fuzz"
KINDS = {
    "recipe": Kind(320, recipes.make_run),
    "study_recipe": Kind(100, recipes.make_study),
    "site": Kind(80, sites.make),
    "images": Kind(80, images.make),
    "files": Kind(80, files.make),
    "pack": Kind(60, packs.make),
    "log": Kind(60, logs.make),
    "checkpoint": Kind(80, checkpoints.make),
    "study": Kind(60, studies.make),
    "environment": Kind(60, environments.make),
}
SAMPLE = 30
"""One of so many cases is in the sample."""


@dataclass(frozen=True)
class Result:
    """What came of a case: the exit codes of its commands, and ``faults``, none where all is as it should be."""

    kind: str
    seed: int
    note: str
    codes: list[int | None]
    faults: list[str]
    seconds: float

    @property
    def again(self) -> str:
        """The command that repeats it."""
        return f"python -m tests.fuzz.run --only {self.kind} --seed {self.seed} --count 1"


def run_case(kind: str, seed: int, folder: Path) -> Result:
    """Make one case in a folder of its own, and judge it; the folder stays if it fails."""
    start, place = time.monotonic(), folder / f"{kind}-{seed}"
    shutil.rmtree(place, ignore_errors=True)
    for name in FOLDERS:
        (place / name).mkdir(parents=True)
    case = KINDS[kind].make(Random(f"{kind} {seed}"), place / "work", folder / "sound" / "work")
    found, codes = [], []
    before = snapshot(place)
    for number, command in enumerate(case.commands):
        ending = execute(command, place, f"{number}")
        codes.append(ending.code)
        after = snapshot(place)
        wrong = faults(command, ending, place, before, after)
        if wrong:
            found.append(f"{shlex.join(command.words)[:300]}: {'; '.join(wrong)}")
        before = after
    if not found:
        shutil.rmtree(place)
    return Result(kind, seed, case.note, codes, found, time.monotonic() - start)


def run_cases(cases: Iterable[tuple[str, int]], folder: Path, jobs: int) -> list[Result]:
    """Run cases ``jobs`` at a time, printing those that fail."""
    context = multiprocessing.get_context("fork")
    results = []
    with ProcessPoolExecutor(jobs, context) as pool:
        for result in pool.map(partial(_run_pair, folder=folder), cases):
            results.append(result)
            if result.faults:
                print(f"\n{result.again}\n  {result.note}\n  " + "\n  ".join(result.faults), flush=True)
    return results


def _run_pair(case: tuple[str, int], folder: Path) -> Result:
    return run_case(*case, folder)


def table(results: Sequence[Result]) -> str:
    """Cases and failures of each kind, and how many of its commands worked, in Markdown."""
    lines = ["| Kind | Cases | Failed | Commands | Exit code 0 | Seconds |", "|---|---|---|---|---|---|"]
    for kind in dict.fromkeys(result.kind for result in results):
        own = [result for result in results if result.kind == kind]
        failed = sum(bool(result.faults) for result in own)
        codes = [code for result in own for code in result.codes]
        seconds = sum(result.seconds for result in own)
        lines.append(f"| {kind} | {len(own)} | {failed} | {len(codes)} | {codes.count(0)} | {seconds:.0f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the fuzz; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description="Odd inputs of every kind.")
    parser.add_argument("--seed", type=int, default=0, help="of the first case of each kind (default 0)")
    parser.add_argument("--only", choices=KINDS, action="append", help="a kind; may be given several times")
    parser.add_argument("--count", type=int, help="cases of each kind")
    parser.add_argument("--sample", action="store_true", help=f"one of {SAMPLE} cases, as the tests take it")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time (default 2)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where inputs and results are kept")
    arguments = parser.parse_args(argv)
    folder = arguments.folder.resolve()
    shutil.rmtree(folder / "sound", ignore_errors=True)
    preload()
    make_sound(folder / "sound")
    cases = []
    for name in arguments.only or KINDS:
        count = arguments.count or -(-KINDS[name].count // (SAMPLE if arguments.sample else 1))
        cases += [(name, arguments.seed + number) for number in range(count)]
    results = run_cases(cases, folder, arguments.jobs)
    (folder / "results.json").write_text(json.dumps([asdict(result) for result in results], indent=1))
    print(f"\n{table(results)}")
    return int(any(result.faults for result in results))


if __name__ == "__main__":
    sys.exit(main())
