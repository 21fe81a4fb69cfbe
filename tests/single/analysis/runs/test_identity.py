"""Which logs can be drawn, and which are copies of one run."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from runs import identity as run_identity
from runs import logs as run_logs
from tests.single.analysis.fake_runs import FakeRun, constant

STARTED = "2026-01-02T03:04:05+00:00"


def run(directory: Path, seed: int = 0, started: str = STARTED, num_steps: int = 4, **config: object) -> Path:
    """A run of two epochs, of its seed's own pace."""
    spans = {"forward_seconds": constant(0.01, num_steps, 2)}
    made = FakeRun(
        spans,
        ["gradient"] * num_steps,
        steps_per_epoch=2,
        accuracies=[0.5, 0.6],
        started=started,
        config={"seed": seed, **config},
        provenance={"host": "n1"},
    )
    return made.write(directory)


def test_a_run_counts_once_by_whatever_path_and_copy_it_is_reached(tmp_path: Path) -> None:
    first = run(tmp_path / "runs/a")
    shutil.copytree(first, tmp_path / "runs/copy")
    (tmp_path / "runs/link").symlink_to(first)
    (tmp_path / "runs/b").symlink_to(run(tmp_path / "scratch/b", seed=1))
    entries, problems = run_logs.load([str(tmp_path / "runs"), str(first), str(tmp_path / "runs/link/run.h5")])
    assert [item.name for item in entries] == ["a", "b"]
    assert problems == [f"{tmp_path}/runs/copy/run.h5: the same run as {first}/run.h5, which counts once"]


def test_of_copies_the_one_that_goes_furthest_counts(tmp_path: Path) -> None:
    run(tmp_path / "early", num_steps=2)
    run(tmp_path / "late", num_steps=4, checkpoint={"every_epochs": 1}, run_dir="elsewhere")
    entries, problems = run_logs.load([str(tmp_path)])
    assert [item.name for item in entries] == ["late"]
    assert len(problems) == 1 and "early/run.h5: the same run as" in problems[0]


def test_other_runs_are_no_copies(tmp_path: Path) -> None:
    run(tmp_path / "a")
    run(tmp_path / "later", started="2026-01-02T03:04:06+00:00")
    run(tmp_path / "other", epochs=3)
    run(tmp_path / "unknown", started="")
    run(tmp_path / "unknown_too", started="")
    entries, problems = run_logs.load([str(tmp_path)])
    assert (len(entries), problems) == (5, [])


def test_logs_of_one_directory_have_names_of_their_own(tmp_path: Path) -> None:
    directory = run(tmp_path / "a")
    (run(tmp_path / "b", seed=1) / "run.h5").rename(directory / "run-before-step-2.h5")
    files = [str(directory / name) for name in ("run.h5", "run-before-step-2.h5")]
    assert [item.name for item in run_logs.load(files)[0]] == ["a", "run-before-step-2.h5"]


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("segments/world_size", 0, "a segment of 0 ranks"),
        ("evaluations/epoch_fraction", np.nan, "its evaluations are at no epoch"),
        ("evaluations/epoch_fraction", 1.0, "or twice at one"),
        ("iterations/forward_seconds", np.nan, "its times are no numbers"),
        ("iterations/start_seconds", np.nan, "no iteration in it yet"),
    ],
)
def test_a_log_that_makes_no_sense_is_named_and_the_rest_is_read(
    tmp_path: Path, name: str, values: float, said: str
) -> None:
    run(tmp_path / "good", seed=1)
    with h5py.File(run(tmp_path / "bad") / "run.h5", "r+") as log:
        log[name][...] = values
    entries, problems = run_logs.load([str(tmp_path)])
    assert [item.name for item in entries] == ["good"]
    assert len(problems) == 1 and problems[0].startswith(f"{tmp_path}/bad/run.h5: ") and said in problems[0]


def test_a_recipe_without_a_batch_is_named(tmp_path: Path) -> None:
    run(tmp_path / "bad", local_batch_size=None)
    assert run_logs.load([str(tmp_path)]) == ([], [f"{tmp_path}/bad/run.h5: its recipe has no batch size"])


def test_keys_of_sections_in_sections_are_dotted_and_values_are_not() -> None:
    config = {"seed": 1, "model": {"init_args": {"b": 2}}, "emulate": {"network": {"latency_seconds": 0.1}}}
    assert list(run_identity.dotted(config)) == [
        ("seed", 1),
        ("model.init_args", {"b": 2}),
        ("emulate.network.latency_seconds", 0.1),
    ]
