"""The folder for Holistic Trace Analysis has what its parser asks for, and says what the log says."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcsgd.errors import UsageError
from hpcsgd.export import hta
from hpcsgd.export.excerpt import excerpt
from hpcsgd.record import load_run
from tests.single.analysis.fake_runs import FakeRun, constant

STEPS, RANKS = 5, 3
FORWARD, AVERAGING = 0.25, 0.5


def made_up() -> FakeRun:
    """Steps of 1 s on each rank: a quarter forward, a quarter update, half of it averaging; evaluated at the end."""
    spans = {
        "forward_seconds": constant(FORWARD, STEPS, RANKS),
        "update_seconds": constant(0.25, STEPS, RANKS),
        "averaging_seconds": constant(AVERAGING, STEPS, RANKS),
        "evaluation_seconds": np.array([[0.0]] * (STEPS - 1) + [[2.0]]) + np.zeros(RANKS),
    }
    return FakeRun(spans, ["global"] * STEPS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The traces of the first four steps."""
    selected = excerpt(load_run(made_up().write(tmp_path / "run")), (0, STEPS - 1))
    assert hta.write([selected], tmp_path / "traces") == [tmp_path / "traces"]
    return tmp_path / "traces"


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(file.read_bytes()))
    return found


def test_each_rank_has_a_trace_by_the_rules_of_the_parser(folder: Path) -> None:
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"rank_{rank}.json.gz" for rank in range(RANKS)]
    for rank, trace in enumerate(map(read, files)):
        first = re.search(r'"rank":\s+(\d+)', gzip.decompress(files[rank].read_bytes()).decode())
        assert first and int(first[1]) == rank, "HTA finds the rank by this"
        assert trace["distributedInfo"]["rank"] == rank and trace["distributedInfo"]["world_size"] == RANKS
        events = trace["traceEvents"]
        for event in events:
            assert {"ph", "name", "cat", "pid", "tid", "ts", "dur", "args"} == set(event) and event["ph"] == "X"
            assert isinstance(event["ts"], int) and isinstance(event["dur"], int) and event["dur"] >= 0
        steps = [event for event in events if event["name"].startswith("ProfilerStep#")]
        assert [event["name"] for event in steps] == [f"ProfilerStep#{step}" for step in range(STEPS - 1)]
        assert [event["dur"] for event in steps] == [1_000_000] * (STEPS - 1)
        kernels = [event for event in events if event["cat"] == "kernel"]
        launches = {e["args"]["correlation"]: e for e in events if e["cat"] == "cuda_runtime"}
        assert len(kernels) == len(launches) == 3 * (STEPS - 1)
        # The step of a kernel is that of its launch on the host, in whose step it lies.
        assert all(launches[kernel["args"]["correlation"]]["ts"] == kernel["ts"] for kernel in kernels)
        for stream, seconds in ((7, 0.5), (20, AVERAGING)):
            own = [e for e in kernels if e["args"]["stream"] == stream]
            assert sum(e["dur"] for e in own) == round(seconds * 1e6) * (STEPS - 1)
            assert all(e["name"].startswith("ncclKernel") == (stream == 20) for e in own)


def test_other_traces_in_the_folder_and_logs_without_ranks_are_refused(folder: Path, tmp_path: Path) -> None:
    selected = excerpt(load_run(tmp_path / "run"))
    hta.write([selected], folder)
    assert len(read(folder / "rank_0.json.gz")["traceEvents"]) > 0
    (folder / "rank_9.json.gz").touch()
    with pytest.raises(UsageError, match=r"rank_9\.json\.gz is there: give an empty one"):
        hta.write([selected], folder)
    summary = excerpt(load_run(replace(made_up(), labels="summary").write(tmp_path / "summary")))
    with pytest.raises(UsageError, match="--to hta needs a log of ranks"):
        hta.write([summary], tmp_path / "none")


@pytest.mark.tool
def test_the_tool_itself_tells_compute_from_communication(folder: Path) -> None:
    analysis = pytest.importorskip("hta.trace_analysis", reason="pip install HolisticTraceAnalysis")
    found = analysis.TraceAnalysis(trace_dir=str(folder)).get_temporal_breakdown(visualize=False)
    assert sorted(found["rank"]) == [*range(RANKS)]
    assert found["compute_time_pctg"].tolist() == pytest.approx([50.0] * RANKS, abs=1.0)
    assert found["non_compute_time_pctg"].tolist() == pytest.approx([50.0] * RANKS, abs=1.0)
