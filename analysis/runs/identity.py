"""Which logs can be drawn at all, which are missing, and which are of one and the same run.

A run may be reached by several copies of its directory: they are one run, and count once.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpcsgd.errors import UsageError
from hpcsgd.files import Finder
from hpcsgd.record.reader import FILE_NAME, Run
from hpcsgd.record.study_file import find_studies

CONDUCT = (
    *("run_dir", "resume", "resume_other_size", "overwrite", "progress", "on_failure"),
    *("device", "share_gpu", "threads", "data.dir", "comm", "log", "checkpoint", "faults", "evaluate", "tuner"),
)
"""Keys and sections that say how a run is conducted, not what is trained; but for :func:`wire`."""
FULL = "full"
"""The wire that sends all bits, as runs did whose logs name none."""

NESTED = ("emulate",)
"""Sections of sections; a mapping within another section is a value."""


def why_not(run: Run) -> str:
    """Why nothing can be drawn of a log; empty where something can."""
    try:
        steps = run.per_step
    except UsageError as error:
        return str(error).removeprefix(f"{run.path}: ")
    if steps.empty:
        return f"no iteration in it yet ({run.status})"
    if (run.segments["world_size"] < 1).any():
        return f"a segment of {run.segments['world_size'].min()} ranks: the log is damaged"
    batches = [run.config.get(name) for name in ("local_batch_size", "global_batch_size")]
    if not any(batch is not None and batch > 0 for batch in batches):
        return "its recipe has no batch size"
    if not steps["is_finite"].all():
        return "its times are no numbers: the log is damaged"
    at = run.evaluations["epoch_fraction"]
    if not np.isfinite(at).all() or run.evaluations.duplicated(["split", "metric", "epoch_fraction"]).any():
        return "its evaluations are at no epoch, or twice at one: the log is damaged"
    return ""


def missing_logs(paths: Sequence[str]) -> list[str]:
    """One line for each run below ``paths`` that has left a recipe but no log, or that a study planned and has none."""
    lines = []
    for path in (Path(text) for text in dict.fromkeys(paths)):
        if not path.is_dir():
            continue
        known = [file.parent for file in Finder().files(path, {"recipe.yaml"})]
        studies, broken = find_studies(path)
        known += [study.run_dir(item) for study in studies for item in study.entries]
        lines += broken
        lines += [
            f"{directory}: no log: the run was not begun, or failed before its first iteration"
            for directory in sorted(set(known))
            if not (directory / FILE_NAME).exists()
        ]
    return list(dict.fromkeys(lines))


def dotted(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys of a configuration, ``section.key`` in sections, with their values."""
    for key, value in config.items():
        if key in NESTED and isinstance(value, dict):
            yield from ((f"{key}.{name}", own) for name, own in dotted(value))
        elif isinstance(value, dict):
            yield from ((f"{key}.{name}", own) for name, own in value.items())
        else:
            yield key, value


def is_in(key: str, names: Sequence[str]) -> bool:
    """Whether a dotted key is one of ``names`` or in one of these sections."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def wire(config: Mapping[str, Any]) -> str:
    """In which form ranks send parameters and gradients, in words: what of ``comm`` changes what is trained.

    The density of ``top_k`` is said where something is sent by it.
    """
    known = {key.removeprefix("comm."): value for key, value in dotted(config) if key.startswith("comm.")}
    sent = {key: value for key, value in known.items() if "wire" in key and value not in (None, FULL)}
    if "top_k" in sent.values():
        sent |= {key: value for key, value in known.items() if "top_k" in key}
    first = str(sent.pop("wire", FULL))
    return ", ".join([first, *(f"{key} {value}" for key, value in sent.items())])


def identity(run: Run) -> Hashable:
    """What all copies of a run have in common: recipe, host, when it began, and its first times; unknown: itself."""
    started = str(run.segments["started"].iloc[0]) if len(run.segments) else ""
    if not started:
        return run.path
    trained = tuple(sorted((key, str(value)) for key, value in dotted(run.config) if not is_in(key, CONDUCT)))
    first = run.columns.column("wall_seconds", slice(0, 1))
    times = tuple(0.0 if math.isnan(seconds) else seconds for seconds in first.reshape(-1).tolist())
    return started, str(run.provenance.get("host")), trained, times


def without_copies(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Each run once, by the copy that goes furthest, of equals the first; and one line for each other copy."""
    alike: dict[Hashable, list[Run]] = {}
    for run in runs:
        alike.setdefault(identity(run), []).append(run)
    chosen = {id(max(copies, key=lambda run: run.per_step["num_ranks"].sum())): copies for copies in alike.values()}
    kept = [run for run in runs if id(run) in chosen]
    lines = [
        f"{copy.path}: the same run as {run.path}, which counts once"
        for run in kept
        for copy in chosen[id(run)]
        if copy is not run
    ]
    return kept, lines
