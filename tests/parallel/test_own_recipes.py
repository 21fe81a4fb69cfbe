"""The recipes of ``jobs/own`` by synchronous and by local SGD: whole, killed and resumed, and drawn."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hpcsgd.record import load_run
from tests.parallel.laws.resuming import assert_same_run
from tests.parallel.ranks import ROOT, mpirun
from tests.single.api.own_recipes import RECIPES, small_words, write_data

ALGORITHMS = {"sync_sgd": (), "local_sgd": ("--algorithm.sync_period=4",)}
RUNS = {f"{recipe}-{name}": (recipe, name) for recipe, name in itertools.product(RECIPES, ALGORITHMS)}
DEATHS = ("7:backward", "8:data", "5:forward", "6:update", "5:backward", "6:data", "9:update", "5:data")
KILLS = dict(zip(RUNS, DEATHS, strict=True))
"""Where both ranks are killed: the step, from 5 on, as the checkpoint of step 2 is whole then; and the span."""

OPTIONS = (
    "--threads=1",
    "--comm.allreduce=mpi",
    "--checkpoint.every_steps=2",
    "--log.flush_steps=2",
    "--resume=auto",
    "--progress=none",
)


def train_words(run: str, folder: Path, kind: str) -> list[str]:
    """The command of one of ``RUNS``, in the run directory ``kind/run``."""
    recipe, algorithm = RUNS[run]
    words = ["train", *small_words(recipe, folder), f"--run_dir={folder / kind / run}", *OPTIONS]
    return [*words, f"--algorithm.name={algorithm}", *ALGORITHMS[algorithm]]


def train_all(folder: Path, kind: str) -> None:
    """Train, or go on with, all runs in one job."""
    program = str(ROOT / "tests" / "parallel" / "run_commands.py")
    done = mpirun(2, program, *(json.dumps(train_words(run, folder, kind)) for run in RUNS))
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all runs: whole, and killed and resumed."""
    folder = tmp_path_factory.mktemp("own")
    write_data(folder)
    train_all(folder, "whole")
    for run, death in KILLS.items():
        program = str(ROOT / "tests" / "parallel" / "dying_rank.py")
        done = mpirun(2, program, *train_words(run, folder, "killed"), DEATHS=f"0:{death},1:{death}")
        assert done.returncode not in (0, 2), done.stderr
    train_all(folder, "killed")
    return folder


@pytest.mark.parametrize("run", RUNS)
def test_a_killed_run_goes_on_to_the_same_bits(trained: Path, run: str) -> None:
    whole, resumed = (load_run(trained / kind / run) for kind in ("whole", "killed"))
    assert whole.status == resumed.status == "completed"
    assert whole.iterations["step"].max() == 9
    first = int(KILLS[run].partition(":")[0])
    assert 0 < resumed.segments["first_step"].tolist()[1] <= first
    assert_same_run(resumed, whole)


def test_all_of_them_are_drawn(trained: Path) -> None:
    script = [sys.executable, str(ROOT / "analysis" / "timing_curves.py"), str(trained / "whole"), "--skip", "1"]
    done = subprocess.run([*script, "-o", str(trained)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (trained / "timing_iteration.png").stat().st_size > 0
    table = (trained / "timing_iteration.csv").read_text()
    assert [run for run in RUNS if run not in table] == []
