"""Run directories as training leaves them, made without training."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpcsgd.config.recipe import load_config, to_dict
from hpcsgd.record.schema import ITERATION_COLUMNS, RANK_COLUMNS, RANK_TABLE, TABLES, Column
from hpcsgd.record.writer import RunLogWriter


def make_run(
    directory: Path,
    status: str,
    recipe: str = "tiny.yaml",
    words: Sequence[str] = (),
    *,
    ranks: int = 2,
    steps: int = 3,
    jobs: Sequence[str] = ("",),
    accuracy: float | None = None,
    pid: int | None = None,
    host: str | None = None,
) -> Path:
    """A run's directory with its log.

    Args:
        directory: to make.
        status: what the log says.
        recipe, words: as for ``hpcsgd train``.
        ranks, steps: ranks, and steps done of 16.
        jobs: the job of each segment.
        accuracy: of the one evaluation on the test split.
        pid, host: of rank 0; unset, of this process.
    """
    directory.mkdir(parents=True)
    provenance = {
        "config": to_dict(load_config(recipe, list(words))),
        "argv": ["hpcsgd", "train", recipe],
        "total_steps": 16,
        "host": host if host is not None else platform.node(),
    }
    rows = [row(RANK_TABLE, rank=rank, pid=pid if pid is not None else os.getpid()) for rank in range(ranks)]
    with RunLogWriter(
        directory / "run.h5", ranks=rows, rank_labels=range(ranks), rank_axis="rank", provenance=provenance
    ) as log:
        for job in jobs:
            log.append_segment(row(TABLES["segments"], job=job, world_size=ranks))
        if steps:
            shared = {column.name: np.zeros(steps, column.dtype) for column in ITERATION_COLUMNS}
            per_rank = {column.name: np.zeros((steps, ranks), column.dtype) for column in RANK_COLUMNS}
            log.append_iterations(np.arange(steps), shared, per_rank)
        if accuracy is not None:
            log.append_evaluations([row(TABLES["evaluations"], split="test", metric="accuracy", value=accuracy)])
        log.set_status(status)
    return directory


def row(columns: Sequence[Column], **given: Any) -> dict[str, Any]:
    """A row of a table: 0 or an empty text, but for what is given."""
    return {c.name: given.get(c.name, "" if c.dtype.startswith("S") else 0) for c in columns}
