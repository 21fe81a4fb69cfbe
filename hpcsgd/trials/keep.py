"""What is written of a study: its studies and trials in the public layout, and the times of its groups."""

from __future__ import annotations

import csv
import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpcsgd.config.study import StudyConfig
from hpcsgd.run_dir import write_atomically
from hpcsgd.trials.directory import StudyDirectory
from hpcsgd.trials.groups import Group, SizePlan
from hpcsgd.trials.measure import COLUMNS
from hpcsgd.trials.training import Clocks, Trial
from hpcsgd.trials.workshop import Workshop


def points_of(config: StudyConfig, plan: SizePlan) -> list[dict[str, float]]:
    from scipy.stats import qmc

    space = config.space.at(plan.batch_size, plan.budget)
    seed = np.random.SeedSequence([config.seed, plan.batch_size])
    sobol = qmc.Sobol(len(space), scramble=True, seed=np.random.default_rng(seed))
    u = sobol.random_base2((config.trials - 1).bit_length())[: config.trials]
    out = []
    for row in u:
        p = {}
        for x, (name, d) in zip(row, space.items(), strict=True):
            if d["type"] == "DISCRETE":
                f = d["feasible_points"]
                p[name] = f[min(len(f) - 1, int(x * len(f)))]
                continue
            lo, hi = d["min_value"], d["max_value"]
            if d["type"] == "INTEGER":
                p[name] = min(hi, lo + int(x * (hi - lo + 1)))
            elif d["scale"] == "LOG_SCALE":
                p[name] = float(lo * (hi / lo) ** x)
            elif d["scale"] == "REVERSE_LOG_SCALE":
                p[name] = float(1 - (1 - lo) * ((1 - hi) / (1 - lo)) ** x)
            else:
                p[name] = float(lo + x * (hi - lo))
        out.append(p)
    return out


def begin_studies(directory: StudyDirectory, config: StudyConfig, plans: Sequence[SizePlan]) -> None:
    for plan in plans:
        folder = directory.studies / str(plan.batch_size)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(
            folder / "study.json",
            json.dumps(
                {
                    "batch_size": plan.batch_size,
                    "dataset": config.data.name,
                    "model": config.model_name,
                    "optimizer": config.optimizer_name,
                    "early_stopping": config.stop.at_goal,
                    "train_steps": plan.budget,
                    "parameter_configs": config.space.at(plan.batch_size, plan.budget),
                },
                indent=1,
            ).encode(),
        )


def write_group(work: Path, trials: Sequence[Trial], record: Mapping[str, Any]) -> None:
    for trial in trials:
        folder = work / str(trial.trial_id)
        folder.mkdir()
        (folder / "metadata.json").write_text(
            json.dumps(
                {
                    "trial_id": trial.trial_id,
                    "status": trial.status,
                    "steps": trial.steps,
                    "parameters": dict(trial.parameters),
                }
            )
        )
        with (folder / "measurements.csv").open("w", newline="") as f:
            w = csv.writer(f)
            w.writerow(["step", *COLUMNS])
            w.writerows([s, *row] for s, row in trial.measurements)
    (work / "group.json").write_text(json.dumps(record))


def group_record(
    shop: Workshop, plan: SizePlan, group: Group, trials: Sequence[Trial], clocks: Clocks
) -> dict[str, Any]:
    """What is kept of a group beside its trials; times are added by who measures them."""
    return {
        "group": group.name,
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
    }
