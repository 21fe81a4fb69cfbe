"""The verdict on runs in the wind tunnel with a planted cause each, and on logs that cannot say everything."""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcsgd.cli import main
from hpcsgd.record.reader import Run, load_run
from hpcsgd.scaling.causes import CAUSES
from hpcsgd.scaling.explain import Explanation, explain
from tests.explain.make import CASES, KEPT
from tests.single.analysis.fake_runs import FakeRun, constant
from tests.single.record.log_files import old_log
from tests.single.scaling.explain_cases import noisy

CAUSE = {
    "slow_data": "input",
    "slow_network": "network",
    "long_evaluation": "evaluation",
    "frequent_logging": "logging",
    "frequent_checkpoints": "checkpoint",
}
"""What is named, where it is not called as it was planted."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    directory = tmp_path_factory.mktemp("explain")
    for case in CASES:
        (directory / f"{case}.h5").write_bytes(lzma.decompress((KEPT / f"{case}.h5.xz").read_bytes()))
    return {case: load_run(directory / f"{case}.h5") for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_the_planted_cause_is_named_and_no_other(case: str, runs: Mapping[str, Run]) -> None:
    found = explain(runs[case])
    expected = [] if case == "healthy" else [CAUSE.get(case, case)]
    assert [finding.cause for finding in found.findings] == expected, found.lines
    assert {finding.cause for finding in found.findings} <= set(CAUSES)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert len(found.lines) <= 10
    assert all(any(letter.isdigit() for letter in line) for line in found.lines)


def test_whom_it_is_about(runs: Mapping[str, Run]) -> None:
    [rank], [node] = explain(runs["slow_rank"]).findings, explain(runs["slow_node"]).findings
    assert (rank.ranks, rank.node) == ((3,), "")
    assert (node.ranks, node.node) == ((2, 3), "emulated-1")
    assert "Rank 3 is slow" in rank.text and "Node emulated-1 (ranks 2, 3)" in node.text
    # 2 s, of which the usual batch is 2 s and the last of an epoch 1.1 s, and 0.3 of that more.
    assert rank.share == pytest.approx(0.3 / 1.3, abs=0.04)


def test_the_command_prints_the_lines(runs: Mapping[str, Run], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(runs["slow_rank"].path)]) == 0
    assert capsys.readouterr().out.splitlines() == list(explain(runs["slow_rank"]).lines)


def test_a_path_without_a_run_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(tmp_path)]) == 2
    assert "no run log here" in capsys.readouterr().err


def explained(directory: Path, compute: Any, actions: str = "gradient", **changes: Any) -> Explanation:
    spans = {"backward_seconds": compute, "gradient_allreduce_seconds": compute.max(1, keepdims=True) - compute + 1e-3}
    run = FakeRun(spans=spans, actions=[actions] * len(compute), **changes)
    return explain(load_run(run.write(directory)))


def test_statistics_over_ranks_tell_of_waiting_and_not_of_whom(tmp_path: Path) -> None:
    compute = noisy(0, 40, 8)
    compute[:, 3] *= 1.4
    ranks, statistics = explained(tmp_path / "a", compute), explained(tmp_path / "b", compute, labels="summary")
    assert [finding.cause for finding in ranks.findings] == ["slow_rank"]
    [finding] = statistics.findings
    assert finding.cause == "waiting" and finding.share == pytest.approx(ranks.shares["waiting"], rel=0.2)
    assert "log.ranks: all" in statistics.lines[-1]


def test_what_one_rank_a_short_run_and_a_timed_loop_cannot_say(tmp_path: Path) -> None:
    one = explained(tmp_path / "one", noisy(1, 40, 1))
    assert one.findings == () and "of 1 rank" in one.lines[-1]
    short = explained(tmp_path / "short", noisy(2, 4, 4), status="running", provenance={"total_steps": 100})
    assert "4 of 100 steps" in short.lines[0] and "running or killed" in short.lines[0]
    assert "4 synchronisations (it takes 6)" in short.lines[-1] and "4 steps" in short.lines[-1]
    timed = explained(tmp_path / "timed", noisy(3, 40, 4), "none", algorithm={"name": "none", "sync_period": 1})
    assert "the loop's own communication" in timed.lines[-1]
    part = explained(tmp_path / "part", noisy(4, 40, 4), labels=[0, 2])
    assert "the 2 of 4 that the log keeps" in part.lines[-1]


def test_a_run_without_a_step(tmp_path: Path) -> None:
    found = explain(load_run(FakeRun(spans={"data_seconds": constant(0.0, 0, 2)}, actions=[]).write(tmp_path / "run")))
    assert found.lines == ("Nothing can be said: no step was logged.",) and found.bound == ""


def test_a_log_of_an_older_schema_is_explained(tmp_path: Path) -> None:
    found = explain(load_run(old_log(2, tmp_path / "old")))
    assert "18 steps of 2 ranks" in found.lines[0] and sum(found.shares.values()) == pytest.approx(1)


def test_restarts_with_other_ranks_and_unknown_times(tmp_path: Path) -> None:
    compute = noisy(5, 40, 4)
    [finding] = explained(tmp_path / "unknown", compute, resumed=(20, 30)).findings
    assert finding.cause == "restart" and "2 restarts, at step 20, 30" in finding.text and finding.share == 0


def test_small_batches_of_a_gpu_that_is_idle_in_its_compute(tmp_path: Path) -> None:
    busy = explained(tmp_path / "busy", noisy(6, 40, 2), device="cuda:0 NVIDIA H200", utilisation=0.95)
    idle = explained(tmp_path / "idle", noisy(6, 40, 2), device="cuda:0 NVIDIA H200", utilisation=0.3)
    assert [finding.cause for finding in (*busy.findings, *idle.findings)] == ["small_batch"]
    assert np.isclose(idle.findings[0].share, idle.shares["compute"] - 0.3)
