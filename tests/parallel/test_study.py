"""A study on several ranks: the same trials as on one, whoever dies, and whenever."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hpcsgd.comm.communicator import SingleCommunicator as Alone
from hpcsgd.config.recipe import load
from hpcsgd.config.study import StudyConfig
from hpcsgd.trials.job import run
from tests.parallel.ranks import ROOT, environment, mpirun

SCRIPT = str(ROOT / "tests" / "parallel" / "dying_study.py")
RECIPE = """
batch_sizes: [4, 16]
trials: 5
fuse: 2
threads: 1
progress: none
model: {widths: [6]}
data:
  name: synthetic
  synthetic_shape: [1, 4, 4]
  synthetic_classes: 3
  synthetic_train_samples: 120
  synthetic_test_samples: 20
  validation_samples: 40
optimizer: {nesterov: true}
space:
  learning_rate: {min: 0.01, max: 0.5, scale: log}
  momentum: {min: 0.1, max: 0.99, scale: reverse_log}
  learning_rate_decay_steps: {min: 0.5, max: 1, of_budget: true}
  end_learning_rate_factor: {min: 0.001, max: 0.1, scale: log}
  label_smoothing: {points: [0, 0.1]}
goal: {value: 0.2}
stop: {steps: {4: 40, 16: 20}, at_goal: true}
evaluate: {every_steps: 5, train_samples: 30}
"""
NUM_GROUPS = 6


def words(directory: Path, *more: str) -> list[str]:
    """``study run`` of the small recipe in ``directory``."""
    recipe = directory / "recipe.yaml"
    recipe.write_text(RECIPE)
    return ["study", "run", str(recipe), "--study_dir", str(directory / "study"), *more]


def archive(directory: Path) -> dict[str, bytes]:
    """Every file of a study's archive."""
    root = directory / "study" / "archive"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def groups(directory: Path) -> dict[str, dict[str, object]]:
    """What is kept of the finished groups."""
    return {path.stem: json.loads(path.read_text()) for path in (directory / "study" / "groups").glob("*.json")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The archive of the study by one process, without MPI."""
    directory = tmp_path_factory.mktemp("alone")
    done = subprocess.run(
        [sys.executable, "-m", "hpcsgd", *words(directory)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = archive(directory)
    assert len([name for name in found if name.endswith("metadata.json")]) == 10
    return found


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_any_number_of_ranks_makes_the_same_trials(tmp_path: Path, alone: dict[str, bytes], num_ranks: int) -> None:
    done = mpirun(num_ranks, "-m", "hpcsgd", *words(tmp_path))
    assert done.returncode == 0, done.stderr
    assert archive(tmp_path) == alone


DEATHS = [
    "0:claim:2",
    "1:claimed:2",
    "0:evaluation:3",
    "1:written:1",
    "0:renamed:1",
    "1:moving:3",
    "0:published:2",
]
"""At the third move the second group has one of its two trials in the archive."""


@pytest.mark.parametrize("death", DEATHS)
def test_a_killed_rank_loses_no_trial_and_none_is_trained_twice(
    tmp_path: Path, alone: dict[str, bytes], death: str
) -> None:
    killed = mpirun(2, SCRIPT, *words(tmp_path), DEATH=death)
    assert killed.returncode != 0
    before, records = archive(tmp_path), groups(tmp_path)
    assert len(records) < NUM_GROUPS
    done = mpirun(2, SCRIPT, *words(tmp_path))
    assert done.returncode == 0, done.stderr
    assert archive(tmp_path) == alone
    assert before.items() <= alone.items(), "a trial in the archive of a killed study is not whole"
    after = groups(tmp_path)
    assert len(after) == NUM_GROUPS
    assert records.items() <= after.items(), "a finished group was trained again"


def test_a_study_of_ones_own_numbers_is_gone_on_with_to_the_same_bytes(tmp_path: Path) -> None:
    """Regression by AdamW: the model, the data, the loss and the metric by import path or name."""
    own = f"""
batch_sizes: [4]
trials: 3
fuse: 1
threads: 1
progress: none
import_from: {ROOT / "jobs" / "own"}
model: {{class_path: tabular.network, init_args: {{width: 6}}}}
data: {{class_path: tabular.table, init_args: {{train: 120, test: 20}}, validation_samples: 40}}
loss: squared_error
metrics: {{mae: tabular.absolute_error}}
optimizer: {{class_path: torch.optim.AdamW}}
space: {{learning_rate: {{min: 0.001, max: 0.1, scale: log}}}}
goal: {{metric: val/mae, value: 0.1}}
stop: {{steps: 20}}
evaluate: {{every_steps: 5}}
"""
    for folder in (tmp_path, tmp_path / "whole"):
        folder.mkdir(exist_ok=True)
        (folder / "own.yaml").write_text(own)
    run(load(StudyConfig, str(tmp_path / "own.yaml"), [f"--study_dir={tmp_path / 'whole' / 'study'}"]), Alone())
    command = ["study", "run", str(tmp_path / "own.yaml"), "--study_dir", str(tmp_path / "study")]
    assert mpirun(2, SCRIPT, *command, DEATH="0:renamed:1").returncode != 0
    assert len(groups(tmp_path)) < 3
    done = mpirun(2, "-m", "hpcsgd", *command)
    assert done.returncode == 0, done.stderr
    assert archive(tmp_path) == archive(tmp_path / "whole")
    assert len(archive(tmp_path)) == 1 + 2 * 3


def test_a_signal_to_one_rank_stops_all_and_nothing_is_lost(tmp_path: Path, alone: dict[str, bytes]) -> None:
    stopped = mpirun(2, SCRIPT, *words(tmp_path), DEATH="1:evaluation:4", STOP="1")
    assert stopped.returncode == 75, stopped.stderr
    assert "was asked to stop" in stopped.stderr and "Traceback" not in stopped.stderr
    records = groups(tmp_path)
    done = mpirun(2, "-m", "hpcsgd", *words(tmp_path))
    assert done.returncode == 0, done.stderr
    assert archive(tmp_path) == alone
    assert records.items() <= groups(tmp_path).items()


def test_a_finished_study_is_left_as_it_is(tmp_path: Path, alone: dict[str, bytes]) -> None:
    for _ in range(2):
        done = mpirun(2, "-m", "hpcsgd", *words(tmp_path))
        assert done.returncode == 0, done.stderr
        assert archive(tmp_path) == alone
        records = groups(tmp_path)
    assert records == groups(tmp_path)


def measured(found: dict[str, bytes]) -> dict[str, list[float]]:
    """The numbers of all measurements."""
    return {
        name: [float(value) for line in text.decode().splitlines()[1:] for value in line.split(",")]
        for name, text in found.items()
        if name.endswith("measurements.csv")
    }


def test_teams_of_ranks_make_the_trials_of_one_rank(tmp_path: Path) -> None:
    """Two teams of two, by synchronous SGD: sums over two ranks round otherwise, so not to the last bit."""
    (tmp_path / "alone").mkdir()
    exact = ["--dtype", "float64", "--batch_sizes", "[4]"]
    for directory, num_ranks, more in ((tmp_path / "alone", 1, []), (tmp_path, 4, ["--ranks_per_trial", "2"])):
        done = mpirun(num_ranks, "-m", "hpcsgd", *words(directory, *exact, *more))
        assert done.returncode == 0, done.stderr
    one, teams = measured(archive(tmp_path / "alone")), measured(archive(tmp_path))
    assert one.keys() == teams.keys() and len(one) == 5
    for name, values in one.items():
        np.testing.assert_allclose(teams[name], values, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--space.momentun.min", "0.1"], "space.momentum.min?"),
        (["--ranks_per_trial", "3"], "does not divide 2 ranks: choose one of [1, 2]"),
        (["--batch_sizes", "[4, 100]", "--stop.steps", "10"], "batch_sizes has 100"),
        (["--data.name", "fashion_mnist", "--data.dir", "/no/such/place"], "/no/such/place"),
    ],
)
def test_mistakes_end_in_one_message_and_leave_nothing(tmp_path: Path, options: list[str], said: str) -> None:
    done = mpirun(2, "-m", "hpcsgd", *words(tmp_path, *options))
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("hpcsgd: ")]) == 1
    assert not (tmp_path / "study").exists()
