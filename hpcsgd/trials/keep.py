"""What is written of a study: its studies and trials in the public layout, and the times of its groups."""

from __future__ import annotations

import csv
import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcsgd.config.study import StudyConfig
from hpcsgd.errors import told_as
from hpcsgd.files import write_whole
from hpcsgd.trials.directory import StudyDirectory
from hpcsgd.trials.groups import Group, SizePlan
from hpcsgd.trials.training import Clocks, Trial
from hpcsgd.trials.workshop import Workshop


def begin_studies(directory: StudyDirectory, config: StudyConfig, plans: Sequence[SizePlan]) -> None:
    """Write the ``study.json`` of each batch size, where it is not there yet."""
    for plan in plans:
        path = directory.studies / str(plan.batch_size) / "study.json"
        if path.exists():
            continue
        content = {
            "batch_size": plan.batch_size,
            "dataset": config.dataset_name,
            "model": config.model_name,
            "optimizer": config.optimizer_name,
            "early_stopping": config.stop.at_goal,
            "train_steps": plan.budget,
            "parameter_configs": config.space.at(plan.batch_size, plan.budget),
        }
        with told_as(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, f"{json.dumps(content, indent=1)}\n".encode())


def write_group(work: Path, trials: Sequence[Trial], columns: Sequence[str], record: Mapping[str, Any]) -> None:
    """Write the trials of a group in the public layout, and ``group.json``, into the empty directory ``work``."""
    for trial in trials:
        folder = work / str(trial.trial_id)
        folder.mkdir()
        metadata = {
            "trial_id": trial.trial_id,
            "status": trial.status,
            "steps": trial.steps,
            "parameters": dict(trial.parameters),
        }
        (folder / "metadata.json").write_text(f"{json.dumps(metadata, indent=1)}\n")
        with (folder / "measurements.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", *columns])
            writer.writerows([step, *row] for step, row in trial.measurements)
    (work / "group.json").write_text(f"{json.dumps(record, indent=1)}\n")


def group_record(
    shop: Workshop, plan: SizePlan, group: Group, trials: Sequence[Trial], clocks: Clocks
) -> dict[str, Any]:
    """What is kept of a group beside its trials: who trained it, and the seconds that it took.

    ``bookkeeping_seconds`` are those between the group before and this one, on the same rank: the end of a group's own
    is not known while it is written.
    """
    return {
        "group": group.name,
        "batch_size": plan.batch_size,
        "trials": list(group.trials),
        "engine": plan.engine,
        "rank": shop.comm.rank,
        "host": platform.node(),
        "device": shop.device_name,
        "ended": time.time(),
        "trial_steps": sum(trial.steps for trial in trials),
        "evaluations": sum(len(trial.measurements) for trial in trials),
        "setup_seconds": clocks.setup,
        "training_seconds": clocks.training,
        "evaluation_seconds": clocks.evaluation,
        "wall_seconds": clocks.wall,
        "bookkeeping_seconds": clocks.bookkeeping,
    }
