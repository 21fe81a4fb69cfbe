"""``:::MLLOG`` lines of a run, as MLPerf's training benchmarks write them and ``mlperf_logging`` reads them.

Times are rank 0's (or the medians, where the log keeps statistics) on the run's clock, from when the log says that the
run began, in whole seconds, or from 0. A submission needs further lines before these, which no log knows:
``NOT_KNOWN``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hpcsgd.export.course import began, segment_offsets
from hpcsgd.export.excerpt import Excerpt
from hpcsgd.files import write_whole

TOKEN = ":::MLLOG "
NOT_KNOWN = (
    *(f"submission_{what}" for what in ("org", "platform", "division", "status", "benchmark")),
    "cache_clear",
)
"""What the compliance checker asks for beside: whose it is and for which benchmark, and that caches were cleared."""
START, STOP, POINT = "INTERVAL_START", "INTERVAL_END", "POINT_IN_TIME"


class Line(NamedTuple):
    """A line: when on the run's clock, of which kind, and what it says."""

    seconds: float
    kind: str
    key: str
    value: Any = None
    metadata: dict[str, Any] | None = None


def write(excerpts: list[Excerpt], path: Path) -> list[Path]:
    """Write the lines of one run.

    Raises:
        OSError: they cannot be written.
    """
    (excerpt,) = excerpts
    base, file = began(excerpt.run), excerpt.run.path.name
    text = "".join(_text(line, base, file) for line in lines(excerpt))
    write_whole(path, text.encode())
    return [path]


def lines(excerpt: Excerpt) -> Iterator[Line]:
    """The lines, in order of time.

    What is known of the recipe; ``init``, the time before the first step; ``run``; ``epoch``, without the evaluation
    after it, numbered from 1; ``eval``, with ``eval_accuracy`` and other metrics of what is no training set, and
    ``train_METRIC`` of this; ``epoch_num`` of an evaluation is the epochs done.
    """
    run, lead = excerpt.run, excerpt.lead
    offsets = lead["segment"].map(segment_offsets(run)).astype(float)
    begins = (lead["start_seconds"] + offsets).set_axis(lead["step"])
    ends = begins + lead["wall_seconds"].to_numpy()
    yield Line(0.0, START, "init_start")
    for key, value in _facts(excerpt):
        yield Line(0.0, POINT, key, value)
    first, last = float(begins.iloc[0]), float(ends.iloc[-1])
    yield Line(first, STOP, "init_stop")
    yield Line(first, START, "run_start")
    evaluations = dict(list(run.evaluations.groupby("step", sort=True)))
    evaluating = lead["evaluation_seconds"].set_axis(lead["step"])
    epochs = lead["epoch"].set_axis(lead["step"])
    for epoch, steps in epochs.groupby(epochs).groups.items():
        which = {"epoch_num": int(epoch) + 1}
        yield Line(float(begins[steps[0]]), START, "epoch_start", metadata=which)
        is_whole = bool((run.epochs["epoch"] == epoch).any())
        for step in (step for step in steps if step + 1 in evaluations):
            end, table = float(ends[step]), evaluations[step + 1]
            at = {"epoch_num": float(table["epoch_fraction"].iloc[0])}
            begin = end - float(evaluating[step])
            if is_whole and step == steps[-1]:
                yield Line(begin, STOP, "epoch_stop", metadata=which)
            yield Line(begin, START, "eval_start", metadata=at)
            for split, metric, value in table[["split", "metric", "value"]].itertuples(index=False):
                name = f"train_{metric}" if split == "train" else f"eval_{metric}"
                yield Line(end, POINT, name, float(value), {**at, "split": str(split)})
            yield Line(end, STOP, "eval_stop", metadata=at)
        if is_whole and steps[-1] + 1 not in evaluations:
            yield Line(float(ends[steps[-1]]), STOP, "epoch_stop", metadata=which)
    yield Line(last, STOP, "run_stop", metadata={"status": "success" if run.status == "completed" else "aborted"})


def _facts(excerpt: Excerpt) -> Iterator[tuple[str, Any]]:
    """What the log knows of what was trained, by MLPerf's names where it has one."""
    run, config = excerpt.run, excerpt.run.config
    batch = run.provenance.get("global_batch_size") or config.get("global_batch_size")
    rate = config.get("learning_rate", {})
    evaluations = run.evaluations
    known = {
        "seed": config.get("seed"),
        "global_batch_size": batch,
        "gradient_accumulation_steps": config.get("accumulation_steps"),
        "train_samples": run.provenance.get("num_train_samples"),
        **{
            "eval_samples" if split != "train" else "train_eval_samples": int(samples.iloc[-1])
            for split, samples in evaluations.groupby("split", sort=False)["num_samples"]
        },
        "opt_name": config.get("optimizer", {}).get("name"),
        "opt_base_learning_rate": rate.get("base"),
        "opt_learning_rate_warmup_epochs": rate.get("warmup_epochs"),
        "opt_weight_decay": config.get("optimizer", {}).get("weight_decay"),
        "number_of_ranks": len(run.ranks),
        "number_of_nodes": int(run.ranks["node"].nunique()),
        "algorithm": config.get("algorithm", {}).get("name"),
        "sync_period": config.get("algorithm", {}).get("sync_period"),
        "model": config.get("model", {}).get("name"),
        "data": config.get("data", {}).get("name"),
        "emulated": run.emulated or None,
    }
    if known["opt_name"] == "sgd":
        known |= {f"sgd_{name}": known[name] for name in ("opt_base_learning_rate", "opt_weight_decay")}
        known["sgd_opt_momentum"] = config.get("optimizer", {}).get("momentum")
    local, parts = run.provenance.get("local_batch_size"), config.get("accumulation_steps") or 1
    # BatchNorm looks at the samples of one pass.
    known["model_bn_span"] = int(local) // parts if local else None
    yield from ((key, value) for key, value in known.items() if value is not None)


def _text(line: Line, base: float, file: str) -> str:
    """The line as it is written; a value that is not finite is none of JSON, and becomes null."""
    value = None if isinstance(line.value, float) and not math.isfinite(line.value) else line.value
    said = {
        "namespace": "",
        "time_ms": round((base + line.seconds) * 1000),
        "event_type": line.kind,
        "key": line.key,
        "value": value,
        "metadata": {"file": file, "lineno": 0, **(line.metadata or {})},
    }
    return f"{TOKEN}{json.dumps(said, allow_nan=False)}\n"
