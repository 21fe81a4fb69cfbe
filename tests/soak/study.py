"""``python -m tests.soak.study [NUMBER]``: studies whose ranks are killed at random, until they are finished.

Each time one rank of two gets ``kill -9`` at a random moment, from the first group that is taken on. The study is
started again until it comes to its end. Then its archive must be, byte by byte, that of a study that nobody disturbed,
and at each death: no group that was finished is trained again, nothing in the archive is not whole.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tests.parallel.ranks import ROOT, TIMEOUT_SECONDS, command, environment
from tests.parallel.test_study import RECIPE, archive, groups

RANKS = 2
LONGEST_SECONDS = 1.5
"""About what the study takes after its start."""


def start(directory: Path) -> subprocess.Popen[bytes]:
    """Start the study in ``directory``, or go on with it."""
    recipe = directory / "recipe.yaml"
    longer = {"trials": 12, "stop": {"steps": {4: 400, 16: 200}}}
    recipe.write_text(yaml.safe_dump(yaml.safe_load(RECIPE) | longer))
    words = ["-m", "hpcsgd", "study", "run", str(recipe), "--study_dir", str(directory / "study")]
    nothing = subprocess.DEVNULL
    return subprocess.Popen(command(RANKS, *words), env=environment(), cwd=ROOT, stdout=nothing, stderr=nothing)


def children(process: int) -> list[int]:
    """Processes below a process."""
    try:
        own = [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []
    return own + [below for child in own for below in children(child)]


def is_rank(process: int) -> bool:
    """Whether a process is one of the study's, and not a launcher's."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"hpcsgd" in words and b"python" in Path(os.fsdecode(words[0])).name.encode()


def claims(directory: Path) -> set[str]:
    """The groups that any start has taken."""
    return {str(path) for path in (directory / "study").glob(".work/*/*-*")}


def disturb(job: subprocess.Popen[bytes], directory: Path, chance: random.Random) -> bool:
    """Kill a rank, some time after this start has taken a group; whether there was one to kill."""
    before, deadline = claims(directory), time.monotonic() + TIMEOUT_SECONDS
    while job.poll() is None and not claims(directory) - before and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(chance.random() * LONGEST_SECONDS)
    ranks = [process for process in children(job.pid) if is_rank(process)]
    if job.poll() is not None or not ranks:
        return False
    os.kill(chance.choice(ranks), signal.SIGKILL)
    return True


def survives(directory: Path, wanted: dict[str, bytes], chance: random.Random) -> int:
    """Run one study to its end, however often it is killed; how often it was."""
    kills, records = 0, {}
    while True:
        job = start(directory)
        kills += disturb(job, directory, chance)
        code = job.wait(TIMEOUT_SECONDS)
        assert archive(directory).items() <= wanted.items(), "a trial in the archive is not whole"
        assert records.items() <= (records := groups(directory)).items(), "a finished group was trained again"
        if code == 0:
            assert archive(directory) == wanted, "the study is not the one that nobody disturbed"
            return kills


def main() -> None:
    """Run so many studies, 3 unless told otherwise."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as folder:
        calm = Path(folder) / "calm"
        calm.mkdir()
        assert start(calm).wait(TIMEOUT_SECONDS) == 0
        for seed in range(number):
            directory = Path(folder) / str(seed)
            directory.mkdir()
            kills = survives(directory, archive(calm), random.Random(seed))
            print(f"study {seed}: killed {kills} times, equal byte by byte", flush=True)


if __name__ == "__main__":
    main()
