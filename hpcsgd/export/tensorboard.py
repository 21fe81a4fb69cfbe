"""Scalars for TensorBoard: a file of events, by the ``tensorboard`` package, without torch or TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from hpcsgd.errors import UsageError
from hpcsgd.export.course import began, per_step, segment_offsets
from hpcsgd.export.excerpt import Excerpt
from hpcsgd.files import whole

MARK = "tfevents"
"""TensorBoard looks for files with this in their names."""

Scalars = tuple[float, int, dict[str, float]]


def write(excerpts: list[Excerpt], path: Path) -> list[Path]:
    """Write the scalars of one run, in a directory that ``tensorboard --logdir`` is to be given.

    Raises:
        UsageError: TensorBoard would not find a file of this name.
        ModuleNotFoundError: tensorboard is not installed.
        OSError: it cannot be written.
    """
    (excerpt,) = excerpts
    if MARK not in path.name:
        raise UsageError(
            f"-o {path}: TensorBoard reads files with {MARK} in their name: say -o {path}/events.out.{MARK}"
        )
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    with whole(path) as unfinished, unfinished.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=began(excerpt.run), file_version="brain.Event:2").SerializeToString())
        for time, step, values in scalars(excerpt):
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
            writer.write(Event(wall_time=time, step=step, summary=summary).SerializeToString())
    return [path]


def scalars(excerpt: Excerpt) -> Iterator[Scalars]:
    """UNIX time, step, and values by tag, in order of the steps.

    Of each step the loss of the first rank that is exported (rank 0's, or the median where the log keeps statistics),
    the learning rate, and samples a second of training time of all ranks. Of each evaluation, at the step after which
    it came, its metrics as ``SPLIT/METRIC``. What is not finite is left out.
    """
    lead = excerpt.lead.set_index("step")
    table = per_step(excerpt).reindex(lead.index)
    whose = f"rank_{int(lead['rank'].iloc[0])}" if excerpt.has_ranks else "median"
    ends = (
        lead["start_seconds"] + lead["wall_seconds"] + lead["segment"].map(segment_offsets(excerpt.run)).astype(float)
    )
    evaluations = excerpt.run.evaluations
    evaluated: dict[int, dict[str, float]] = {}
    names = (evaluations[name].tolist() for name in ("step", "split", "metric", "value"))
    for step, split, metric, value in zip(*names, strict=True):
        evaluated.setdefault(step - 1, {})[f"{split}/{metric}"] = value
    columns = (lead["loss"], table["learning_rate"], table["samples_per_second"])
    tags = (f"loss/{whose}", "learning_rate", "samples_per_second")
    for step, end, *values in zip(lead.index.tolist(), ends.tolist(), *(c.tolist() for c in columns), strict=True):
        found = dict(zip(tags, values, strict=True)) | evaluated.get(step, {})
        yield began(excerpt.run) + end, step, {tag: float(v) for tag, v in found.items() if math.isfinite(v)}
