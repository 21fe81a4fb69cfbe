"""The summary of runs that are done, running, empty or kept as statistics."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcsgd.record.reader import load_run
from hpcsgd.record.schema import ITERATION_COLUMNS, RANK_COLUMNS, STATISTICS, TUNER_COLUMNS
from hpcsgd.record.summary import quantity, seconds, summarise
from hpcsgd.record.writer import RunLogWriter
from tests.single.analysis.fake_runs import FakeRun, constant
from tests.single.record import log_samples

PROVENANCE = {
    "argv": ["hpcsgd", "train", "jobs/demo_local_sgd.yaml", "--epochs", "2"],
    "config": {
        "epochs": 2,
        "model": {"name": "lenet"},
        "data": {"name": "mnist"},
        "algorithm": {"name": "local_sgd", "sync_period": 2, "local_start": None},
    },
    "local_batch_size": 32,
    "global_batch_size": 64,
    "total_steps": 8,
    "gradient_allreduce": "mpi",
}


SAMPLED = ("utilisation", "energy_joules", "node_energy_joules", "clock_hertz", "memory_bytes")


def make_writer(directory: Path, axis: Any = "rank", provenance: dict[str, Any] = PROVENANCE) -> RunLogWriter:
    ranks = log_samples.table_rows("ranks", 0, 2)
    for row in ranks:
        row.update(node="n1", device="cpu", peak_memory_bytes=np.nan)
    labels = [0, 1] if axis == "rank" else [0, 1, 2]
    return RunLogWriter(directory / "run.h5", ranks=ranks, rank_labels=labels, rank_axis=axis, provenance=provenance)


def append_steps(writer: RunLogWriter, num_steps: int, width: int) -> None:
    """Steps of 4 ms forward and 4 backward; every second has an averaging of 4 ms, of which rank 0 waits 1 ms."""
    synchronised = np.arange(num_steps) % 2 == 1
    shared = {c.name: np.zeros(num_steps, c.dtype) for c in ITERATION_COLUMNS}
    shared["action"][synchronised] = 3
    shared["sync_bytes"][synchronised] = 10**6
    per_rank = {c.name: np.zeros((num_steps, width), c.dtype) for c in RANK_COLUMNS}
    for name in SAMPLED:
        per_rank[name][:] = np.nan
    per_rank["num_samples"][:] = 32
    per_rank["forward_seconds"][:] = 0.004
    per_rank["backward_seconds"][:] = 0.004
    per_rank["averaging_seconds"][synchronised] = 0.004
    per_rank["sync_exit_seconds"][:] = np.where(synchronised, 0.004, np.nan)[:, None]
    per_rank["sync_enter_seconds"][:] = np.where(synchronised, 0.001, np.nan)[:, None]
    per_rank["sync_enter_seconds"][synchronised, 0] = 0.0
    writer.append_iterations(np.arange(num_steps), shared, per_rank)


def evaluation(step: int, epoch: float, **metrics: float) -> list[dict[str, Any]]:
    """The rows of an evaluation: of a loss of 0.5, and of what is given."""
    row = log_samples.table_rows("evaluations", 0, 1)[0] | {"step": step, "epoch_fraction": epoch, "split": "test"}
    return [row | {"metric": name, "value": value} for name, value in {"loss": 0.5, **metrics}.items()]


def epoch(number: int) -> dict[str, Any]:
    row = log_samples.table_rows("epochs", number, 1)[0]
    times = {"train_seconds": 0.04, "evaluation_seconds": 1.0, "checkpoint_seconds": 0.25, "logging_seconds": 0.5}
    return row | {"num_samples": 256, **times}


def lines_of(directory: Path) -> dict[str, str]:
    """By name; what stands below without a name is of the line above."""
    found: dict[str, str] = {}
    name = ""
    for line in summarise(load_run(directory)).splitlines():
        name = line.split("  ")[0] or name
        found[name] = "; ".join(text for text in (found.get(name, ""), line.split("  ", 1)[1].strip()) if text)
    return found


def test_a_run_that_is_done(tmp_path: Path) -> None:
    with make_writer(tmp_path) as writer:
        append_steps(writer, 8, 2)
        writer.append_epochs([epoch(0), epoch(1)])
        writer.append_evaluations([*evaluation(4, 1.0, accuracy=0.9), *evaluation(8, 2.0, accuracy=0.875)])
        writer.set_status("completed")
    lines = lines_of(tmp_path)
    assert lines.pop("file").endswith("MB, run.h5")
    assert lines == {
        "run": str(tmp_path),
        "status": "completed",
        "recipe": "demo_local_sgd: local_sgd, sync_period 2; lenet on mnist",
        "ranks": "2 ranks on 1 node; 2 on cpu; allreduce mpi",
        "batch": "32 a learner, 64 all together",
        "progress": "8 of 8 steps, 2 of 2 epochs",
        "test accuracy": "best 0.9000 at epoch 1, last 0.8750 (loss 0.5000) at epoch 2",
        "clocks": "training 0.1 s, evaluation 2.0 s, checkpoints 0.5 s, logging 1.0 s",
        "throughput": "6,400 samples/s of training time",
        "iteration": "median 10 ms of training time",
        "spans": f"forward            38.9 %  {12 * '█'}; backward           38.9 %  {12 * '█'}; "
        f"averaging          22.2 %  {7 * '█'}",
        "slowest rank": "0 on n1: its own work takes 0.0 % longer than the median; last to synchronise is most often 1 "
        "(100%)",
        "synchronisations": "4 global; global: median wait 500 µs, transfer 3 ms",
        "communicated": "4.0 MB a rank (payload)",
        "next": f"hpcsgd figures learning {tmp_path}",
    }


def test_on_a_screen_texts_go_on_below(tmp_path: Path) -> None:
    with make_writer(tmp_path) as writer:
        append_steps(writer, 8, 2)
        writer.set_status("failed")
    lines = summarise(load_run(tmp_path), 80).splitlines()
    assert max(map(len, lines)) <= 80
    place = next(number for number, line in enumerate(lines) if line.startswith("slowest rank"))
    assert lines[place + 1].startswith(" " * 18) and lines[place + 1].endswith("most often 1 (100%)")
    bars = [line for line in lines if "█" in line]
    assert [line.index("█") for line in bars] == [45] * 3


def test_a_run_says_what_it_drew_and_how_busy_it_was(tmp_path: Path) -> None:
    spans = {"forward_seconds": constant(0.5, 8, 2)}
    run = FakeRun(spans, ["none"] * 8, watts=64.0, utilisation=0.75, started="2026-01-02T03:04:05", status="preempted")
    lines = lines_of(run.write(tmp_path / "run"))
    # 32 samples in half a second, on one GPU as both ranks name it.
    assert lines["energy"] == "0.5 J a sample (GPUs)"
    assert lines["devices"] == "busy 75% of the time"
    assert lines["status"] == "preempted, 4 s long, begun 2026-01-02T03:04:05"
    assert lines["next"].startswith("go on with --resume auto, or hpcsgd figures timing ")


def test_a_run_that_was_tuned(tmp_path: Path) -> None:
    given = ["learners", "samples_per_second", "decision"]
    rest = dict.fromkeys((c.name for c in TUNER_COLUMNS), 0) | {"engine": "loop", "reason": ""}
    trials = [(1, 1000.0, "start"), (2, 1900.0, "taken"), (4, 1800.0, "refused")]
    rows = [rest | dict(zip(given, trial, strict=True)) for trial in trials]
    with make_writer(tmp_path, provenance={"learners_per_rank": 2}) as writer:
        writer.append_tuner(rows)
    assert lines_of(tmp_path)["tuner"] == "2 learners a rank, 1,900 samples/s; tried 1, 2, 4"


def test_a_run_on_gpus_says_the_most_memory_of_one(tmp_path: Path) -> None:
    with make_writer(tmp_path) as writer:
        writer.append_segment(log_samples.table_rows("segments", 0, 1)[0] | {"peak_memory_bytes": np.nan})
        assert "memory" not in lines_of(tmp_path)
        writer.set_peak_memory({0: 1e9, 1: 12.34e9})
    assert lines_of(tmp_path)["memory"] == "at most 12.3 GB of a GPU at once (rank 1)"
    run = load_run(tmp_path)
    assert run.ranks["peak_memory_bytes"].tolist() == [1e9, 12.34e9]
    assert run.segments["peak_memory_bytes"].tolist() == [12.34e9]


def test_a_run_that_was_killed_in_its_first_epoch(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    append_steps(writer, 3, 2)
    assert lines_of(tmp_path)["status"].startswith("running, last written ")
    written = time.time() - 300
    os.utime(tmp_path / "run.h5", (written, written))
    lines = lines_of(tmp_path)
    writer.close()
    assert lines["status"] == "running, or killed, last written 5 min ago"
    assert lines["next"] == f"hpcsgd watch {tmp_path}"
    assert lines["progress"] == "3 of 8 steps, 0 of 2 epochs"
    assert lines["clocks"].endswith("(no epoch is complete yet)")
    assert lines["throughput"] == "6,857 samples/s of training time"
    assert "test accuracy" not in lines


def test_a_run_without_an_iteration_or_much_provenance(tmp_path: Path) -> None:
    make_writer(tmp_path, provenance={}).close()
    lines = lines_of(tmp_path)
    assert lines["progress"] == "0 steps, 0 epochs"
    assert lines["recipe"].startswith("(unnamed): ?")
    assert "throughput" not in lines


def test_a_run_kept_as_statistics(tmp_path: Path) -> None:
    with make_writer(tmp_path, "statistic") as writer:
        append_steps(writer, 4, len(STATISTICS))
    lines = lines_of(tmp_path)
    assert lines["synchronisations"] == "2 global"
    assert lines["communicated"] == "2.0 MB a rank (payload)"


def test_an_evaluation_that_diverged(tmp_path: Path) -> None:
    with make_writer(tmp_path) as writer:
        writer.append_evaluations(evaluation(4, 1.0, accuracy=float("nan")))
        writer.set_status("diverged")
    assert lines_of(tmp_path)["test accuracy"] == "last nan (loss 0.5000) at epoch 1"


def test_metrics_other_than_accuracy_are_said_by_their_last_value(tmp_path: Path) -> None:
    with make_writer(tmp_path) as writer:
        writer.append_evaluations(
            [*evaluation(4, 1.0, iou=0.75, accuracy=0.5), *evaluation(8, 2.0, iou=0.5, accuracy=0.25)]
        )
    lines = lines_of(tmp_path)
    assert lines["test accuracy"] == "best 0.5000 at epoch 1, last 0.2500 (loss 0.5000) at epoch 2"
    assert lines["test iou"] == "last 0.5000 (loss 0.5000) at epoch 2"
    assert "test loss" not in lines


def test_where_there_is_no_other_metric_the_loss_is_said(tmp_path: Path) -> None:
    with make_writer(tmp_path) as writer:
        writer.append_evaluations([*evaluation(4, 1.0), *evaluation(8, 2.0)])
    assert lines_of(tmp_path)["test loss"] == "last 0.5000 at epoch 2"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0 µs"), (2.5e-6, "2.5 µs"), (0.0123, "12.3 ms"), (1.0, "1.00 s"), (75.0, "75.00 s")]
)
def test_durations(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e16, "30000.0 TB")]
)
def test_amounts(value: float, text: str) -> None:
    assert quantity(value) == text
