"""What runs and studies are, and where they come from, as the page shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from hpcsgd.record.frames import throughput
from hpcsgd.scaling.explain import explain
from page.parts import Table, table
from runs.logs import Entry, runs_table
from runs.workloads import Workload

FACTS = (
    "argv",
    "started",
    "emulated",
    "git_commit",
    "world_size",
    "num_nodes",
    "global_batch_size",
    "total_steps",
    "num_parameters",
    "gradient_allreduce",
    "mpi_library",
    "versions",
    "job",
)
"""What is shown of a run's provenance, where the log has it."""
FURTHER = ("num_ranks", "global_batch_size", "num_epochs", "status", "model", "data")
"""What is shown of all runs in one table, after what they have reached."""


def summary(entries: Sequence[Entry], tables: Mapping[str, pd.DataFrame]) -> Table:
    """All runs in one table, with what they have reached.

    Args:
        entries: the runs.
        tables: those of the chapters, by name.
    """
    known = runs_table(entries)
    frame = known[["run", "algorithm"]].copy()
    results = tables.get("learning_results", pd.DataFrame())
    if "best_accuracy" in results:
        best = results[results["split"] != "train"].drop_duplicates("run").set_index("run")["best_accuracy"]
        frame["best_accuracy"] = frame["run"].map(best)
    frame["train_seconds"] = [float(item.run.epochs["train_seconds"].sum()) for item in entries]
    frame["samples_per_second"] = [throughput(item.run) for item in entries]
    return table("runs", frame.join(known[list(FURTHER)]))


def provenance(item: Entry) -> dict[str, Any]:
    """Where a run comes from."""
    known = item.run.provenance
    facts = [(key, as_text(known[key])) for key in FACTS if known.get(key) not in (None, "", [])]
    nodes = ", ".join(dict.fromkeys(str(node) for node in item.run.ranks["node"]))
    devices = ", ".join(dict.fromkeys(str(device) for device in item.run.ranks["device"]))
    facts += [("nodes", nodes), ("devices", devices), ("status", item.status), ("path", str(item.run.path.parent))]
    recipe = json.dumps(item.run.config, indent=1)
    return {
        "name": item.name,
        "description": item.description,
        "verdict": explain(item.run).lines,
        "facts": facts,
        "recipe": recipe,
    }


def as_text(value: Any) -> str:
    """A value of the provenance in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def study_facts(workload: Workload) -> dict[str, str]:
    """What a study is made of."""
    trials = sum(len(study.trials) for study in workload.studies)
    evaluations = sum(len(trial.measurements["step"]) for study in workload.studies for trial in study.trials)
    sizes = ", ".join(map(str, workload.batch_sizes))
    text = f"{trials} trials with {evaluations} evaluations at batch sizes {sizes}; from {workload.source}"
    return {"name": workload.name, "description": text}
