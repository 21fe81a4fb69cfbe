"""Spans are named ranges of a profiler while one runs, and nothing where none does."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd import profiler

from hpcsgd.config import AlgorithmConfig, DataConfig, ModelConfig, RunConfig
from hpcsgd.record import ranges
from hpcsgd.record.ranges import Range
from hpcsgd.record.timer import StepTimer
from hpcsgd.train import run


def profiled(path: Path, work: Any) -> list[str]:
    """The names of the annotations in torch's trace of some work, in order of time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        work()
    found.export_chrome_trace(str(path))
    events = json.loads(path.read_text())["traceEvents"]
    own = [event for event in events if event.get("cat") == "user_annotation"]
    return [event["name"] for event in sorted(own, key=lambda event: event["ts"])]


def test_a_profiled_run_shows_its_spans(tmp_path: Path) -> None:
    config = RunConfig(
        run_dir=str(tmp_path / "run"),
        data=DataConfig(name="synthetic", synthetic_train_samples=8, synthetic_test_samples=8),
        model=ModelConfig(widths=(4,)),
        algorithm=AlgorithmConfig(name="local_sgd", sync_period=2),
        local_batch_size=4,
        epochs=1,
        device="cpu",
        progress="none",
    )
    names = profiled(tmp_path / "trace.json", lambda: run(config))
    step = ["data", "forward", "backward", "update"]
    own = [name for name in names if name in (*step, "averaging", "evaluation")]
    assert own[:4] == step and own.count("forward") == 2 and own.count("averaging") == 1
    assert own[-1] == "evaluation"


def test_without_a_profiler_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiler, "record_function", None)
    timer = StepTimer(torch.device("cpu"), time.perf_counter())
    timer.begin(0)
    with timer.span("update"), Range("inside"):
        pass
    assert timer.finished or timer.current_step == 0


def test_a_tool_that_reads_nvtx_is_given_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(ranges, "has_nvtx", True)
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", seen.append)
    monkeypatch.setattr(torch.cuda.nvtx, "range_pop", lambda: seen.append("end"))
    with Range("outer"), pytest.raises(KeyError), Range("inner"):
        raise KeyError
    assert seen == ["outer", "inner", "end", "end"]
