"""A folder of traces, one a rank, for Holistic Trace Analysis (``hta.trace_analysis.TraceAnalysis(trace_dir=...)``).

It reads what torch's profiler writes of a GPU. The log has no kernels: a span stands for one. Forward, backward and
update are kernels of one stream, the allreduce of gradients and the averaging of another, with a name that it takes for
communication; data, evaluation, checkpoints and logging are the host's, and their device idle. An iteration is a
``ProfilerStep``. Spans are laid one after another, as :mod:`hpcsgd.export.chrome` says. HTA leaves the last step out.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcsgd.errors import UsageError
from hpcsgd.export.chrome import ORDER, check_ranks, laid, offset_rows
from hpcsgd.export.excerpt import Excerpt
from hpcsgd.files import whole

if TYPE_CHECKING:
    import pandas as pd

STREAMS = {"forward": 7, "backward": 7, "update": 7, "gradient_allreduce": 20, "averaging": 20}
"""The spans that stand for kernels, with their streams; the others are the host's."""

KERNELS = {name: f"ncclKernel_AllReduce ({name})" for name in ("gradient_allreduce", "averaging")}
"""By this beginning HTA tells communication from compute."""

HOST, DEVICE = 1, 0
Event = dict[str, Any]


def write(excerpts: list[Excerpt], path: Path) -> list[Path]:
    """Write ``rank_R.json.gz`` of each rank of one run in the folder ``path``.

    Raises:
        UsageError: the log keeps statistics over the ranks, or the folder has other traces.
        OSError: they cannot be written.
    """
    (excerpt,) = excerpts
    check_ranks(excerpt, "hta")
    path.mkdir(exist_ok=True)
    frame = offset_rows(excerpt)
    files = {path / f"rank_{rank}.json.gz": (int(rank), rows) for rank, rows in frame.groupby("rank")}
    others = sorted(file.name for file in path.iterdir() if file.suffix in (".gz", ".json") and file not in files)
    if others:
        raise UsageError(f"-o {path}: HTA reads every trace in a folder, and {others[0]} is there: give an empty one")
    for file, (rank, rows) in files.items():
        about = {"backend": "hpcsgd", "rank": rank, "world_size": len(excerpt.run.ranks)}
        document = {"schemaVersion": 1, "distributedInfo": about, "traceEvents": list(events(rank, rows))}
        # HTA looks for the rank in the text, before it reads it: with a space before the number.
        text = json.dumps(document, allow_nan=False)
        with whole(file) as unfinished:
            unfinished.write_bytes(gzip.compress(text.encode(), 5, mtime=0))
    return [path]


def events(rank: int, rows: pd.DataFrame) -> Iterator[Event]:
    """The events of one rank: of each iteration its step, its spans, and what on the host stands for their launch.

    Times are whole microseconds, to which HTA would cut them: ends are rounded, and lengths are what is between.
    """
    begins, walls, lengths = laid(rows)
    ends = np.rint((begins[:, None] + np.cumsum(lengths, axis=1)) / 1000).astype(np.int64)
    starts = np.concatenate([np.rint(begins[:, None] / 1000).astype(np.int64), ends[:, :-1]], axis=1)
    stops = np.rint((begins + walls) / 1000).astype(np.int64)
    correlation = 0
    for row, step in enumerate(rows["step"].tolist()):
        begin = int(starts[row, 0])
        yield _event(f"ProfilerStep#{step}", "user_annotation", HOST, begin, int(stops[row]) - begin)
        for name, start, end in zip(ORDER, starts[row].tolist(), ends[row].tolist(), strict=True):
            if end == start:
                continue
            if name not in STREAMS:
                yield _event(name, "cpu_op", HOST, start, end - start)
                continue
            correlation += 1
            yield _event(f"{name} begins", "cuda_runtime", HOST, start, 0, correlation=correlation)
            where = {"stream": STREAMS[name], "device": rank, "correlation": correlation}
            yield _event(KERNELS.get(name, name), "kernel", DEVICE, start, end - start, **where)


def _event(name: str, category: str, pid: int, begin: int, length: int, **args: int) -> Event:
    """A complete event, of microseconds."""
    tid = args.get("stream", HOST)
    return {"ph": "X", "name": name, "cat": category, "pid": pid, "tid": tid, "ts": begin, "dur": length, "args": args}
