"""A prediction as a file, made before the run that it is of: what was predicted, from what, and what was not known."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd import __version__
from hpcsgd.errors import UsageError, told_as
from hpcsgd.files import write_whole
from hpcsgd.scaling.fit import Model
from hpcsgd.scaling.logs import Small
from hpcsgd.scaling.predict import LEVEL, Answer, Limits, best, interval
from hpcsgd.scaling.unknown import Gap

FORMAT = 1
FILE_NAME = "prediction.json"
MEASURES = (
    *("iteration_seconds", "samples_per_second", "efficiency", "exposed", "waited"),
    *("epoch_seconds", "hours", "gpu_hours"),
)


def content(
    model: Model,
    runs: Sequence[Small],
    answers: Sequence[Answer],
    gaps: Sequence[Gap],
    assumed: Sequence[str],
    limits: Limits,
    seed: int,
) -> dict[str, Any]:
    """What the file has: plain values."""
    choices = {name: best(answers, limits, by) for name, by in (("fastest", "hours"), ("cheapest", "gpu_hours"))}
    return {
        "format": FORMAT,
        "hpcsgd": __version__,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "level": LEVEL,
        "seed": seed,
        "logs": [_log(run) for run in runs],
        "model": _model(model),
        "predictions": [_answer(answer, limits) for answer in answers],
        "limits": {"hours": limits.hours, "gpu_hours": limits.gpu_hours},
        **{name: None if one is None else {"algorithm": one.method, "gpus": one.gpus} for name, one in choices.items()},
        "assumed": list(assumed),
        "unknown": [gap.text for gap in gaps],
        "runs_to_add": list(dict.fromkeys(gap.run for gap in gaps if gap.run)),
    }


def write(path: Path, prediction: dict[str, Any], *, overwrite: bool) -> None:
    """Keep a prediction.

    Raises:
        UsageError: there is one already: a prediction counts that was made before the run.
    """
    if path.exists() and not overwrite:
        raise UsageError(
            f"{path} is there already, and a prediction is not to be changed: give -o FILE, or --overwrite"
        )
    with told_as(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(prediction, indent=1, allow_nan=False) + "\n").encode())


def _log(run: Small) -> dict[str, Any]:
    return {
        "path": str(run.path),
        "sha256": run.sha256,
        "algorithm": run.method.text if run.method else str(run.config.get("algorithm", {}).get("name")),
        "ranks": run.num_ranks,
        "nodes": len(set(run.nodes)),
        "local_batch": run.batch,
        "steps": len(run.compute),
        "emulated": str(run.provenance.get("emulated") or ""),
    }


def _model(model: Model) -> dict[str, Any]:
    costs, slowdown = model.costs(), model.slowdown()
    levels = {"within": costs.network.within, "between": costs.network.between}
    return {
        "usual_seconds": [
            {
                "local_batch": c.batch,
                "ranks_per_node": c.per_node,
                "seconds": float(np.exp(c.log_seconds)),
                "error": c.error,
            }
            for c in model.cells
        ],
        "slowness": {
            "persistent": float(np.concatenate(slowdown.effects.devices).std()),
            "of_nodes": float(slowdown.effects.nodes.std()),
            "autocorrelated": slowdown.noise.correlated,
            "correlation": slowdown.noise.correlation,
            "independent": slowdown.noise.independent,
            "tail_shape": slowdown.independent.shape,
        },
        "own_seconds": costs.own_seconds,
        "network": {
            name: {
                "latency_seconds": level.latency_seconds,
                "bytes_per_second": None if level.bytes_per_second is None else float(level.bytes_per_second),
                "was_crossed": name in model.levels,
            }
            for name, level in levels.items()
        },
        "gradient_bytes": model.gradient_bytes,
        "parameter_bytes": model.parameter_bytes,
        "gradient_buckets": model.num_buckets,
        "backward_share": model.passes.backward,
        "update_share": model.passes.update,
    }


def _answer(answer: Answer, limits: Limits) -> dict[str, Any]:
    found: dict[str, Any] = {
        "algorithm": answer.method,
        "gpus": answer.gpus,
        "nodes": answer.nodes,
        "local_batch": answer.batch,
        "global_batch": answer.batch * answer.gpus,
    }
    for name in MEASURES:
        draws: NDArray[np.float64] | None = getattr(answer, name)
        found[name] = None if draws is None else interval(draws)
    if limits.hours is not None or limits.gpu_hours is not None:
        found["chance_within_limits"] = limits.chance(answer)
    return found
