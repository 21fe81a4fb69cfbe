"""Studies for the tests: made by hand or at random, and the archive's definition once more, slow and from the files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from hpcsgd.study.archive import Study, Trial

METRIC = "val/classification_error"
STATUSES = ("COMPLETE", "INCOMPLETE", "INFEASIBLE")


def trial(
    trial_id: int, errors: Mapping[int, float], status: str = "COMPLETE", metric: str = METRIC, **parameters: float
) -> Trial:
    """A trial with the values of one metric by step."""
    steps = np.array(list(errors), dtype=np.float64)
    values = np.array(list(errors.values()), dtype=np.float64)
    return Trial(trial_id, status, int(steps.max(initial=0)), parameters, {"step": steps, metric: values})


def study(trials: Iterable[Trial], batch_size: int = 8, optimizer: str = "nesterov_momentum", **more: Any) -> Study:
    """A study of these trials, in the order of their ids as an archive has them."""
    settings = {
        "batch_size": batch_size,
        "dataset": "mnist",
        "model": "cnn",
        "optimizer": optimizer,
        "early_stopping": False,
        "train_steps": 0,
        "parameter_configs": {},
        **more,
    }
    ordered = tuple(sorted(trials, key=lambda item: item.trial_id))
    return Study("mnist", "cnn", optimizer, batch_size, settings, ordered)


def curve(steps: Mapping[int, int], goal: float = 0.1) -> list[Study]:
    """Studies of one trial each, that is better than ``goal`` from the given step on."""
    return [study([trial(0, {step: goal / 2, 2 * step: goal / 2})], batch_size) for batch_size, step in steps.items()]


# Few values, so that there are ties, and the goal itself among them.
VALUES = st.sampled_from([0.1, 0.2, 0.3, 0.5, float("nan")])
GOALS = st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.6])
ERRORS = st.dictionaries(st.integers(0, 12), VALUES, max_size=4).map(lambda found: dict(sorted(found.items())))


@st.composite
def trial_lists(draw: st.DrawFn, max_size: int = 8) -> list[Trial]:
    """Trials in any order, with any ids and statuses."""
    ids = draw(st.lists(st.integers(0, 40), max_size=max_size, unique=True))
    return [trial(number, draw(ERRORS), draw(st.sampled_from(STATUSES))) for number in ids]


def write_study(archive: Path, made: Study) -> Path:
    """Write a study into an archive in the public layout, every number to the last bit; gives its directory."""
    directory = archive.joinpath(*made.workload, str(made.batch_size))
    directory.mkdir(parents=True)
    (directory / "study.json").write_text(json.dumps(made.settings))
    for item in made.trials:
        folder = directory / str(item.trial_id)
        folder.mkdir()
        metadata = {"trial_id": item.trial_id, "status": item.status, "steps": item.steps}
        (folder / "metadata.json").write_text(json.dumps({**metadata, "parameters": dict(item.parameters)}))
        with (folder / "measurements.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(item.measurements)
            columns = (
                [int(value) if name == "step" else value for value in values.tolist()]
                for name, values in item.measurements.items()
            )
            writer.writerows(zip(*columns, strict=True))
    return directory


def slow_steps_to_result(directory: Path, metric: str, goal: float, num_trials: int = 100) -> tuple[int, int] | None:
    """Steps to result and trial id by the definition of the archive, from the files of one study."""
    complete = []
    for folder in directory.iterdir():
        if folder.is_dir():
            metadata = json.loads((folder / "metadata.json").read_text())
            if metadata["status"] == "COMPLETE":
                complete.append((metadata["trial_id"], folder))
    rows: list[tuple[int, int]] = []
    for trial_id, folder in sorted(complete)[:num_trials]:
        with (folder / "measurements.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                if float(row[metric]) < goal:
                    rows.append((int(row["step"]), trial_id))
    rows.sort()
    return rows[0] if rows else None


def found(result: Any) -> tuple[int, int] | None:
    """A result as the slow definition gives it."""
    return None if result is None else (result.steps, result.trial.trial_id)


def same_trials(one: Sequence[Trial], other: Sequence[Trial]) -> bool:
    """Whether trials are equal in everything, measurements bit by bit."""
    keys = [
        [(t.trial_id, t.status, t.steps, dict(t.parameters), list(t.measurements)) for t in ts] for ts in (one, other)
    ]
    return keys[0] == keys[1] and all(
        a.measurements[name].dtype == b.measurements[name].dtype
        and a.measurements[name].tobytes() == b.measurements[name].tobytes()
        for a, b in zip(one, other, strict=True)
        for name in a.measurements
    )
