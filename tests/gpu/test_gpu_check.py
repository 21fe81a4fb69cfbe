"""The GPU check rehearses on a CPU, keeps to its clock, and loses nothing by a stage that takes its process along."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.gpu.check import Check, Clock, Stage, of_one_process, run_stages
from tests.gpu.drive import Driver
from tests.gpu.report import LINES, Mark, Report, Row, as_table, card_of, read_entry
from tests.gpu.resnet50 import published_of_one_gpu
from tests.gpu.stages import STAGES
from tests.parallel.ranks import ROOT, run

SAMPLE = ("environment", "numbers", "resnet50", "averaging", "packs")


def entries(folder: Path) -> list[Any]:
    """All that a worker has kept."""
    return [read_entry(line) for line in (folder / LINES).read_text().splitlines()]


def go_through(folder: Path, stages: list[Stage], seconds: float = 100.0) -> list[Any]:
    """What is kept of a go through ``stages`` with so many seconds."""
    clock = Clock(time.monotonic() + seconds)
    run_stages(Check(torch.device("cpu"), True, False, clock, Report(folder)), stages)
    return entries(folder)


def test_a_sample_of_the_stages_rehearses_on_the_pretend_gpu(tmp_path: Path) -> None:
    words = ["--tiny", "--device", "pretend", "--out", str(tmp_path), "--only", *SAMPLE]
    done = run([sys.executable, "-m", "tests.gpu", *words])
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "Pretend_GPU.json").read_text())
    rows = [Row(**row) for row in content["rows"]]
    assert {row.stage for row in rows} == set(SAMPLE)
    equal = [row for row in rows if row.stage == "numbers" and "difference" in row.figures]
    assert equal and all(row.verdict == "ok" and row.figures["difference"] == 0 for row in equal)
    assert as_table(rows) in done.stdout and as_table(rows) in (tmp_path / "Pretend_GPU.md").read_text()


def test_a_stage_for_which_no_time_is_left_says_so(tmp_path: Path) -> None:
    done: list[str] = []
    stages = [Stage("long", 200, lambda _: done.append("long")), Stage("short", 1, lambda _: done.append("short"))]
    rows = [entry for entry in go_through(tmp_path, stages) if isinstance(entry, Row)]
    assert done == ["short"]
    assert [(row.stage, row.verdict) for row in rows] == [("long", "left out")] and "are left" in rows[0].note


def test_what_fails_is_a_row_and_the_next_stage_begins(tmp_path: Path) -> None:
    def fail(check: Check) -> None:
        check.row("before", number=1.0)
        raise SystemExit("no such\nthing")

    found = go_through(tmp_path, [Stage("bad", 1, fail), Stage("good", 1, lambda check: check.row("after", "ok"))])
    assert [entry.mark if isinstance(entry, Mark) else entry.verdict for entry in found] == [
        *("begin", "", "failed", "end"),
        *("begin", "ok", "end"),
    ]
    assert found[2].note == "SystemExit: no such thing"


def test_a_stage_that_wants_a_process_of_its_own_has_one() -> None:
    one, two = Stage("one", 1, lambda _: None), Stage("two", 1, lambda _: None)
    apart = Stage("apart", 1, lambda _: None, apart=True)
    assert list(of_one_process([one, two])) == [one, two]
    assert list(of_one_process([one, two, apart, two])) == [one, two]
    assert list(of_one_process([apart, two])) == [apart]


WORKER = """
import sys, time
from pathlib import Path
from tests.gpu.report import Mark, Report, Row
report = Report(Path({out!r}))
for name in ["first", "second", "third"][{first}:]:
    report.add(Mark("begin", name, {limit}))
    report.add(Row(name, "looked at", {{}}, "ok"))
    if name == "second":
        {what}
    report.add(Mark("end", name, 0.0))
"""


@pytest.mark.parametrize(
    ("what", "limit", "note"),
    [("import os; os.kill(os.getpid(), 9)", 100.0, "signal 9"), ("time.sleep(1000)", 0.3, "hung")],
)
def test_a_process_that_dies_or_hangs_costs_its_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, limit: float, note: str
) -> None:
    start = subprocess.Popen

    def instead(command: list[str], **options: Any) -> Any:
        first = 2 if "--after=second" in command else 0
        code = WORKER.format(out=str(tmp_path), first=first, limit=limit, what=what)
        return start([sys.executable, "-c", code], **options)

    monkeypatch.setattr(subprocess, "Popen", instead)
    driver = Driver(tmp_path, [], time.monotonic() + 100)
    assert driver.run() == 1
    assert [(row.stage, row.verdict) for row in driver.rows] == [
        ("first", "ok"),
        ("second", "ok"),
        ("second", "failed"),
        ("third", "ok"),
    ]
    assert note in driver.rows[2].note


def test_at_the_end_of_the_time_all_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen
    code = WORKER.format(out=str(tmp_path), first=0, limit=100.0, what="time.sleep(1000)")
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: start([sys.executable, "-c", code], **options))
    driver = Driver(tmp_path, [], time.monotonic() + 1)
    assert driver.run() == 0
    assert (driver.rows[-1].verdict, driver.rows[-1].note) == ("left out", "the time is over")


def test_names_of_stages_are_told_apart_and_all_are_explained() -> None:
    names = [stage.name for stage in STAGES]
    text = (ROOT / "tests/gpu/results/README.md").read_text()
    assert len(set(names)) == len(names) and all(f"| `{name}` |" in text for name in names)
    assert all(stage.function.__doc__ for stage in STAGES)


def test_published_numbers_are_those_of_one_gpu() -> None:
    found = {device: speed for device, _, speed in published_of_one_gpu()}
    assert found["H100 SXM5"] == 2790 and found["V100 16GB"] == 1200


def test_results_are_named_by_the_card() -> None:
    assert card_of([Row("environment", "device", {"card": "NVIDIA H100 80GB HBM3"})]) == "NVIDIA_H100_80GB_HBM3"
    assert card_of([]) == "unknown"
