"""Time along a run, per epoch and per synchronisation, against values worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpcsgd.record.reader import load_run
from runs.logs import Entry, entry
from tables.timing import epoch_table, steps_per_epoch, untold_waits, wait_table, window_table
from tests.single.analysis.fake_runs import FakeRun, constant

HIERARCHICAL = {"name": "hierarchical_local_sgd", "sync_period": 1, "block_sync_period": 2}


def item_of(tmp_path: Path, run: FakeRun, name: str = "run") -> Entry:
    return entry(load_run(run.write(tmp_path / name)), name)


def waits(frame: pd.DataFrame, kind: str, rank: str) -> list[float]:
    """Mean own duration, wait and transfer."""
    found = frame[(frame["synchronisation"] == kind) & (frame["rank"] == rank)]
    assert len(found) == 1
    return found[["sync_mean_seconds", "wait_mean_seconds", "transfer_mean_seconds"]].iloc[0].tolist()


def test_wait_is_own_duration_less_the_shortest(tmp_path: Path) -> None:
    durations = np.array([[3.0, 1.0, 2.0], [2.0, 5.0, 8.0]])
    item = item_of(tmp_path, FakeRun({"gradient_allreduce_seconds": durations}, ["gradient"] * 2))
    table = wait_table([item], 0)
    assert waits(table, "gradient", "0") == pytest.approx([2.5, 1.0, 1.5])
    assert waits(table, "gradient", "1") == pytest.approx([3.0, 1.5, 1.5])
    assert waits(table, "gradient", "2") == pytest.approx([5.0, 3.5, 1.5])
    third = table[table["rank"] == "2"].iloc[0]
    assert third["wait_median_seconds"] == pytest.approx((1 + 6) / 2)
    assert third["wait_p95_seconds"] == pytest.approx(1 + 0.95 * 5)
    assert third["num_synchronisations"] == 2


def test_skipped_iterations_are_not_in_the_waits(tmp_path: Path) -> None:
    durations = np.array([[3.0, 1.0], [2.0, 5.0]])
    item = item_of(tmp_path, FakeRun({"gradient_allreduce_seconds": durations}, ["gradient"] * 2))
    assert waits(wait_table([item], 1), "gradient", "1") == pytest.approx([5, 3, 2])


def test_gradients_and_averagings_never_share_a_row(tmp_path: Path) -> None:
    spans = {
        "gradient_allreduce_seconds": np.array([[1.0, 2.0], [0.0, 0.0]]),
        "averaging_seconds": np.array([[0.0, 0.0], [30.0, 20.0]]),
    }
    item = item_of(tmp_path, FakeRun(spans, ["gradient", "global"]))
    table = wait_table([item], 0)
    assert waits(table, "gradient", "1") == pytest.approx([2, 1, 1])
    assert waits(table, "global", "0") == pytest.approx([30, 10, 20])


def blocks(labels: object = None) -> FakeRun:
    """A block averaging of ranks {0, 1} and {2, 3}, then a global one."""
    spans = {"averaging_seconds": np.array([[4.0, 1.0, 10.0, 12.0], [4.0, 1.0, 10.0, 12.0]])}
    return FakeRun(spans, ["block", "global"], HIERARCHICAL, blocks=[0, 0, 1, 1], labels=labels)  # type: ignore[arg-type]


def test_ranks_of_a_block_averaging_are_those_of_the_block(tmp_path: Path) -> None:
    table = wait_table([item_of(tmp_path, blocks())], 0)
    assert waits(table, "block", "3") == pytest.approx([12, 2, 10])
    assert waits(table, "global", "3") == pytest.approx([12, 11, 1])


def test_one_rank_of_each_block_cannot_tell_waits_in_the_block(tmp_path: Path) -> None:
    item = item_of(tmp_path, blocks(labels=[0, 2]))
    assert "one rank of each block" in untold_waits([item])[0]
    assert set(wait_table([item], 0)["synchronisation"]) == {"global"}


def test_one_logged_rank_cannot_tell_any_wait(tmp_path: Path) -> None:
    item = item_of(tmp_path, blocks(labels=[0]))
    assert len(untold_waits([item])) == 2
    assert wait_table([item], 0).empty


def test_waits_from_statistics(tmp_path: Path) -> None:
    item = item_of(tmp_path, blocks(labels="summary"))
    table = wait_table([item], 0)
    assert table["rank"].tolist() == ["median", "max"]
    assert waits(table, "global", "median") == pytest.approx([7, 6, 1])
    assert waits(table, "global", "max") == pytest.approx([12, 11, 1])
    assert "no single ranks" in untold_waits([item])[0]


def test_all_ranks_logged_tell_all(tmp_path: Path) -> None:
    assert untold_waits([item_of(tmp_path, blocks())]) == []


def test_windows_are_whole_periods_and_cover_the_run(tmp_path: Path) -> None:
    seconds = np.array([[1.0, 3.0], [1.0, 0.0], [2.0, 0.0], [2.0, 12.0], [5.0, 4.0]])
    actions = ["none", "global", "none", "global", "none"]
    run = FakeRun({"forward_seconds": seconds}, actions, {"name": "local_sgd", "sync_period": 2})
    table = window_table([item_of(tmp_path, run)], num_windows=4)
    assert table[["first_step", "last_step"]].to_numpy().tolist() == [[0, 1], [2, 3], [4, 4]]
    assert table["train_seconds"].tolist() == [3, 12, 5]
    assert table["samples_per_second"].tolist() == pytest.approx([128 / 3, 128 / 12, 64 / 5])
    assert table["median_seconds"].tolist() == [2, 7, 5]


def test_windows_of_statistics_add_up_the_time_of_record(tmp_path: Path) -> None:
    run = FakeRun({"forward_seconds": np.array([[1.0, 3.0], [2.0, 1.0]])}, ["gradient"] * 2, labels="summary")
    table = window_table([item_of(tmp_path, run)], num_windows=1)
    assert table["train_seconds"].tolist() == [5]


def test_epochs_and_their_throughput(tmp_path: Path) -> None:
    spans = {"forward_seconds": constant(0.5, 6, 2), "evaluation_seconds": constant(1, 6, 2)}
    run = FakeRun(spans, ["gradient"] * 6, steps_per_epoch=3, accuracies=[0.5, 0.6])
    table = epoch_table([item_of(tmp_path, run)])
    assert table["num_steps"].tolist() == [3, 3]
    assert table["train_seconds"].tolist() == [1.5, 1.5]
    assert table["evaluation_seconds"].tolist() == [3, 3]
    assert table["samples_per_second"].tolist() == [128, 128]
    assert table["complete"].tolist() == [True, True]


def test_a_resume_changes_no_epoch_and_checkpoints_have_a_clock_of_their_own(tmp_path: Path) -> None:
    spans = {"forward_seconds": constant(0.5, 6, 2), "checkpoint_seconds": constant(3, 6, 2)}
    tables = []
    for name, resumed in (("whole", ()), ("resumed", (2, 4))):
        run = FakeRun(spans, ["gradient"] * 6, steps_per_epoch=3, resumed=resumed)
        tables.append(epoch_table([item_of(tmp_path, run, name)]).drop(columns="run"))
    pd.testing.assert_frame_equal(*tables)
    assert tables[1]["train_seconds"].tolist() == [1.5, 1.5]
    assert tables[1]["checkpoint_seconds"].tolist() == [9, 9]


def test_a_log_that_begins_within_an_epoch_has_a_part_of_it(tmp_path: Path) -> None:
    spans = {"forward_seconds": constant(0.5, 8, 2)}
    run = FakeRun(spans, ["gradient"] * 8, steps_per_epoch=5, first_step=2, provenance={"steps_per_epoch": 5})
    table = epoch_table([item_of(tmp_path, run)])
    assert table["epoch"].tolist() == [0, 1]
    assert table["num_steps"].tolist() == [3, 5]
    assert table["complete"].tolist() == [False, True]
    assert table["samples_per_second"].tolist() == [128, 128]


def test_windows_go_on_over_a_resume(tmp_path: Path) -> None:
    spans = {"forward_seconds": np.arange(1.0, 7.0)[:, None], "checkpoint_seconds": constant(9, 6, 1)}
    run = FakeRun(spans, ["gradient"] * 6, resumed=[3])
    table = window_table([item_of(tmp_path, run)], num_windows=3)
    assert table[["first_step", "last_step"]].to_numpy().tolist() == [[0, 1], [2, 3], [4, 5]]
    assert table["train_seconds"].tolist() == [3, 7, 11]


def test_steps_of_an_epoch_when_the_log_can_say(tmp_path: Path) -> None:
    spans = {"forward_seconds": constant(1, 6, 1)}
    written = FakeRun(spans, ["none"] * 6, steps_per_epoch=6, provenance={"steps_per_epoch": 24})
    assert steps_per_epoch(item_of(tmp_path, written, "written")) == 24
    said = FakeRun(spans, ["none"] * 6, steps_per_epoch=2, accuracies=[0.5])
    assert steps_per_epoch(item_of(tmp_path, said, "said")) == 2
    counted = FakeRun(spans, ["none"] * 6, steps_per_epoch=3)
    assert steps_per_epoch(item_of(tmp_path, counted, "counted")) == 3
    early = FakeRun(spans, ["none"] * 6, steps_per_epoch=7)
    assert steps_per_epoch(item_of(tmp_path, early, "early")) is None
    cut = FakeRun(spans, ["none"] * 6, steps_per_epoch=6, config={"max_steps": 6})
    assert steps_per_epoch(item_of(tmp_path, cut, "cut")) is None
