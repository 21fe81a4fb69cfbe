"""Time per iteration: medians, percentiles and period means against values worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpcsgd.record.reader import load_run
from runs.logs import Entry, entry
from tables.iterations import (
    EVERY_ITERATION,
    PERIOD_MEAN,
    extremes,
    iteration_table,
    kept_iterations,
    many_ranks,
    period_means,
    quantiles,
    record_iterations,
    span_table,
    too_short,
)
from tests.single.analysis.fake_runs import FakeRun, constant

LOCAL_SGD = {"name": "local_sgd", "sync_period": 4}
STATISTICS = ["mean_seconds", "median_seconds", "p5_seconds", "p95_seconds"]


def rising(tmp_path: Path, **options: object) -> Entry:
    """10 steps of synchronous SGD: rank 0 computes 1, 2, ... 10 s, rank 1 always 5.5 s and waits 0.5 s."""
    forward = np.stack([np.arange(1.0, 11.0), np.full(10, 5.0)], axis=1)
    waiting = np.array([[0.0, 0.5]] * 10)
    run = FakeRun({"forward_seconds": forward, "gradient_allreduce_seconds": waiting}, ["gradient"] * 10, **options)  # type: ignore[arg-type]
    return entry(load_run(run.write(tmp_path / "rising")), "rising")


def periods(tmp_path: Path, **options: object) -> Entry:
    """Two periods of 4 steps and one step more, in which the ranks are slow in different steps."""
    seconds = np.array([[1, 3], [1, 0], [1, 0], [1, 0], [2, 0], [2, 0], [2, 0], [2, 12], [7, 7]], float)
    actions = ["none", "none", "none", "global"] * 2 + ["none"]
    run = FakeRun({"forward_seconds": seconds}, actions, LOCAL_SGD, **options)  # type: ignore[arg-type]
    return entry(load_run(run.write(tmp_path / "periods")), "periods")


def row(frame: pd.DataFrame, **values: object) -> pd.Series:
    """The one row with these values."""
    found = frame[np.all([frame[name] == value for name, value in values.items()], axis=0)]
    assert len(found) == 1, (values, frame)
    return found.iloc[0]


def test_percentiles_are_linear_between_neighbours() -> None:
    assert quantiles([6, 7, 8, 9, 10]) == pytest.approx(
        {"mean_seconds": 8, "median_seconds": 8, "p5_seconds": 6.2, "p95_seconds": 9.8}
    )


def test_nothing_has_no_median() -> None:
    assert all(np.isnan(value) for value in quantiles([]).values())


def test_the_extremes_of_each_stretch_are_kept() -> None:
    values = np.array([3.0, 1.0, 2.0, np.nan, 9.0, 9.0, 0.0, 5.0])
    assert extremes(values, 4).tolist() == [0, 1, 4, 6]
    assert extremes(np.full(6, np.nan), 2).tolist() == []


def test_of_many_ranks_none_that_stands_out_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = constant(1.0, 6, 9) + 0.01 * np.arange(9)
    seconds[:, 7] = 5.0
    item = entry(load_run(FakeRun({"forward_seconds": seconds}, ["none"] * 6).write(tmp_path / "many")), "many")
    whole = span_table([item], 1)
    monkeypatch.setattr("tables.iterations.MOST_RANKS", 6)
    assert many_ranks([item]) == [
        "many: of 9 ranks, each 3 neighbours are shown by the two with the least and the largest mean time."
    ]
    table = span_table([item], 1)
    assert list(dict.fromkeys(table["rank"])) == ["0", "2", "3", "5", "6", "7", "all", "max"]
    pd.testing.assert_frame_equal(table, whole[whole["rank"].isin(table["rank"])].reset_index(drop=True))
    assert row(table, rank="7", span="train")["mean_seconds"] == 5.0


def test_time_of_record_is_the_maximum_over_ranks(tmp_path: Path) -> None:
    seconds = record_iterations(rising(tmp_path))["seconds"]
    assert seconds.tolist() == [5.5, 5.5, 5.5, 5.5, 5.5, 6, 7, 8, 9, 10]


def test_first_iterations_are_left_out_and_counted(tmp_path: Path) -> None:
    item = rising(tmp_path)
    found = row(iteration_table([item], 5), iterations=EVERY_ITERATION)
    assert (found["num_iterations"], found["left_out_iterations"]) == (5, 5)
    assert found[STATISTICS].tolist() == pytest.approx([8, 8, 6.2, 9.8])
    everything = row(iteration_table([item], 0), iterations=EVERY_ITERATION)
    assert (everything["num_iterations"], everything["left_out_iterations"]) == (10, 0)
    assert everything["median_seconds"] == pytest.approx((5.5 + 6) / 2)


def test_spans_of_every_rank(tmp_path: Path) -> None:
    spans = span_table([rising(tmp_path)], 5)
    assert row(spans, rank="0", span="forward")[STATISTICS].tolist() == pytest.approx([8, 8, 6.2, 9.8])
    assert row(spans, rank="1", span="gradient_allreduce")["median_seconds"] == 0.5
    assert row(spans, rank="1", span="train")["mean_seconds"] == 5.5
    together = row(spans, rank="all", span="train")
    assert (together["num_values"], together["mean_seconds"]) == (10, pytest.approx((8 + 5.5) / 2))
    assert row(spans, rank="max", span="train")["median_seconds"] == 8
    assert not ((spans["span"] == "averaging") & (spans["mean_seconds"] > 0)).any()


def test_period_mean_is_the_slowest_sum_not_the_sum_of_the_slowest(tmp_path: Path) -> None:
    item = periods(tmp_path)
    means = period_means(item, record_iterations(item), 0)
    assert means.to_dict() == {0: 1, 1: 1, 2: 1, 3: 1, 4: 3, 5: 3, 6: 3, 7: 3}


def test_periods_are_left_out_whole(tmp_path: Path) -> None:
    item = periods(tmp_path)
    assert period_means(item, record_iterations(item), 1).to_dict() == {4: 3, 5: 3, 6: 3, 7: 3}
    found = row(iteration_table([item], 1), iterations=PERIOD_MEAN)
    assert (found["num_iterations"], found["left_out_iterations"]) == (4, 5)


def test_a_period_that_a_resume_fell_into_is_left_out_on_both_sides(tmp_path: Path) -> None:
    item = periods(tmp_path, resumed=[6])
    record = record_iterations(item)
    assert record["segment"].tolist() == [0] * 6 + [1] * 3
    assert record["skip_rank"].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert period_means(item, record, 0).to_dict() == {0: 1, 1: 1, 2: 1, 3: 1}


def test_a_resume_between_two_periods_tears_none_and_warms_up_anew(tmp_path: Path) -> None:
    item = periods(tmp_path, resumed=[4])
    record = record_iterations(item)
    assert period_means(item, record, 0).index.tolist() == list(range(8))
    assert period_means(item, record, 1).empty
    assert sorted(kept_iterations(item, 2)["step"].unique()) == [2, 3, 6, 7, 8]


def test_checkpoints_are_not_training_time_after_a_resume_either(tmp_path: Path) -> None:
    spans = {"forward_seconds": constant(1, 4, 2), "checkpoint_seconds": constant(7, 4, 2)}
    for labels in (None, "summary"):
        run = FakeRun(spans, ["gradient"] * 4, labels=labels, resumed=[2])
        item = entry(load_run(run.write(tmp_path / str(labels))), "x")
        assert record_iterations(item)["seconds"].tolist() == [1, 1, 1, 1]
        assert row(span_table([item], 0), rank="max", span="train")["median_seconds"] == 1
        assert (span_table([item], 0).query("span == 'checkpoint'")["mean_seconds"] == 7).all()


def test_iterations_with_and_without_averaging_stand_apart(tmp_path: Path) -> None:
    table = iteration_table([periods(tmp_path)], 0)
    assert row(table, iterations="with global averaging")["mean_seconds"] == pytest.approx((1 + 12) / 2)
    assert row(table, iterations="without synchronisation")["num_iterations"] == 7


def test_without_any_synchronisation_a_period_is_an_iteration(tmp_path: Path) -> None:
    run = FakeRun({"forward_seconds": np.array([[1.0], [2.0], [6.0]])}, ["none"] * 3)
    item = entry(load_run(run.write(tmp_path / "alone")), "alone")
    assert period_means(item, record_iterations(item), 1).to_dict() == {1: 2, 2: 6}


def test_a_period_ends_at_a_global_averaging_not_at_a_block_averaging(tmp_path: Path) -> None:
    spans = {"averaging_seconds": np.array([[1.0, 1.0], [4.0, 4.0]] * 2)}
    run = FakeRun(spans, ["block", "global"] * 2, {"name": "hierarchical_local_sgd", "sync_period": 1})
    item = entry(load_run(run.write(tmp_path / "blocks")), "blocks")
    assert period_means(item, record_iterations(item), 0).tolist() == [2.5] * 4


def test_a_run_that_skip_uses_up_is_named(tmp_path: Path) -> None:
    item = rising(tmp_path)
    assert too_short([item], 9) == []
    assert "10 iterations, none left after --skip 10" in too_short([item], 10)[0]
    assert span_table([item], 10).empty
    assert row(iteration_table([item], 10), iterations=EVERY_ITERATION)["left_out_iterations"] == 10


def test_log_of_one_rank_of_a_node(tmp_path: Path) -> None:
    item = rising(tmp_path, labels=[1])
    record = record_iterations(item)
    assert record["seconds"].tolist() == [5.5] * 10
    assert record["num_samples"].tolist() == [64.0] * 10


def test_log_of_statistics(tmp_path: Path) -> None:
    item = rising(tmp_path, labels="summary")
    record = record_iterations(item)
    assert record["seconds"].tolist() == [5.5, 5.5, 5.5, 5.5, 5.5, 6, 7, 8, 9, 10]
    assert record["num_samples"].tolist() == [64.0] * 10
    spans = span_table([item], 5)
    assert set(spans["rank"]) == {"median", "max"}
    assert row(spans, rank="median", span="gradient_allreduce")["mean_seconds"] == 0.25
    assert period_means(item, record, 5).tolist() == [6, 7, 8, 9, 10]


def test_evaluation_and_logging_are_not_training_time(tmp_path: Path) -> None:
    spans = {name: constant(1, 2, 1) for name in ("forward_seconds", "evaluation_seconds", "logging_seconds")}
    for labels in (None, "summary"):
        run = FakeRun(spans, ["none"] * 2, labels=labels)
        item = entry(load_run(run.write(tmp_path / str(labels))), "x")
        assert record_iterations(item)["seconds"].tolist() == [1, 1]
