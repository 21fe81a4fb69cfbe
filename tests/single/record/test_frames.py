"""Spans, wait and transfer, and throughput of tables made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpcsgd.record import frames
from hpcsgd.record.columns import PER_RANK, PER_STEP, Columns
from hpcsgd.record.reader import Run
from hpcsgd.record.schema import ACTIONS, ITERATION_COLUMNS, RANK_COLUMNS, SPANS, TABLES, TRAINING_SPANS

NAMES = [c.name for c in ITERATION_COLUMNS + RANK_COLUMNS]


def make_iterations(rows: list[dict[str, Any]], axis: str = "rank") -> pd.DataFrame:
    """A table of iterations; what a row does not give is 0, ``none`` or, for the synchronisation, NaN."""
    default = dict.fromkeys(NAMES, 0.0) | {"action": "none", "sync_enter_seconds": np.nan, "sync_exit_seconds": np.nan}
    return pd.DataFrame([default | row for row in rows], columns=["step", axis, *NAMES])


def make_run(iterations: pd.DataFrame, epochs: list[dict[str, Any]] | None = None, world_size: int = 2) -> Run:
    """A run of these tables."""
    tables = {name: pd.DataFrame(columns=[c.name for c in columns]) for name, columns in TABLES.items()}
    tables["ranks"] = pd.DataFrame({"rank": range(world_size)})
    if epochs:
        tables["epochs"] = pd.DataFrame(epochs)
    return Run(Path("run.h5"), {}, {}, "completed", make_columns(iterations), **tables)


def make_columns(iterations: pd.DataFrame) -> Columns:
    """The columns of a table that is whole."""
    axis: Any = "rank" if "rank" in iterations else "statistic"
    labels, steps = iterations[axis].unique(), iterations["step"].unique()
    shape = len(steps), len(labels)
    numbers = iterations.assign(action=iterations["action"].map(ACTIONS.index))
    held = {name: numbers[name].to_numpy().reshape(shape) for name in PER_RANK}
    held |= {name: numbers.drop_duplicates("step")[name].to_numpy() for name in PER_STEP}
    places = np.arange(len(labels)) if axis == "statistic" else labels
    return Columns(Path("run.h5"), axis, places, steps, held=held)


def sync(step: int, rank: int, action: str, enter: float, leave: float) -> dict[str, Any]:
    return {"step": step, "rank": rank, "action": action, "sync_enter_seconds": enter, "sync_exit_seconds": leave}


def test_the_last_to_enter_waits_for_no_one() -> None:
    table = make_iterations([sync(0, 0, "global", 1.0, 3.5), sync(0, 1, "global", 3.0, 3.5)])
    result = frames.wait_and_transfer(table)
    assert result["sync_seconds"].tolist() == [2.5, 0.5]
    assert result["wait_seconds"].tolist() == [2.0, 0.0]
    assert result["transfer_seconds"].tolist() == [0.5, 0.5]
    assert list(result.columns) == ["step", "rank", "action", "sync_seconds", "wait_seconds", "transfer_seconds"]


def test_every_step_is_a_call_of_its_own() -> None:
    table = make_iterations([sync(s, r, "gradient", 0.0, 1.0 + s + 2 * r) for s in range(3) for r in range(2)])
    result = frames.wait_and_transfer(table)
    assert result["transfer_seconds"].tolist() == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    assert result["wait_seconds"].tolist() == [0.0, 2.0] * 3


def test_ranks_of_a_block_wait_for_their_block_only() -> None:
    ranks = pd.DataFrame({"rank": [0, 1, 2, 3], "block": [0, 0, 1, 1]})
    lengths = {0: 3.0, 1: 2.0, 2: 9.0, 3: 7.0}
    rows = [sync(0, r, "block", 0.0, x) for r, x in lengths.items()]
    rows += [sync(1, r, "global", 0.0, x) for r, x in lengths.items()]
    result = frames.wait_and_transfer(make_iterations(rows), ranks)
    assert result["wait_seconds"].tolist() == [1.0, 0.0, 2.0, 0.0, 1.0, 0.0, 7.0, 5.0]
    with pytest.raises(AssertionError, match="block"):
        frames.wait_and_transfer(make_iterations(rows))


def test_iterations_without_a_synchronisation_are_left_out() -> None:
    table = make_iterations(
        [
            {"step": 0, "rank": 0},
            sync(1, 0, "global", 0.0, 1.0),
            {"step": 2, "rank": 0, "action": "gradient"},
        ]
    )
    result = frames.wait_and_transfer(table)
    assert result.index.tolist() == [1]
    assert frames.wait_and_transfer(table.iloc[:1]).empty
    assert frames.wait_and_transfer(table.iloc[:0]).empty


def test_statistics_have_no_waits() -> None:
    table = make_iterations([{"step": 0, "statistic": "min"}], "statistic")
    with pytest.raises(AssertionError, match="statistics"):
        frames.wait_and_transfer(table)


def test_training_time_is_without_evaluation_checkpoints_and_logging() -> None:
    row = {c.name: 2.0**i for i, c in enumerate(SPANS)}
    table = make_iterations([{"step": 0, "rank": 0, **row}, {"step": 0, "rank": 1}])
    result = frames.training_seconds(table)
    others = sum(row[f"{name}_seconds"] for name in ("evaluation", "checkpoint", "logging"))
    assert result.tolist() == [sum(row.values()) - others, 0.0]
    assert result.name == "train_seconds"


def test_spans_and_the_rest_make_the_wall_time() -> None:
    table = make_iterations(
        [{"step": 0, "rank": 0, "wall_seconds": 10.0, "forward_seconds": 4.0, "logging_seconds": 5.0}]
    )
    result = frames.iteration_spans(table)
    assert result["other_seconds"].tolist() == [1.0]
    assert list(result.columns) == ["step", "rank", *(c.name for c in SPANS), "other_seconds"]
    assert "other_seconds" not in table.columns


def evaluations(*rows: tuple[int, str, str, float]) -> pd.DataFrame:
    """A table of step, split, metric and value; the rest follows from the step."""
    beside = [{"epoch_fraction": s / 2, "num_samples": 10, "train_seconds": 0.5 * s, "sync_bytes": s} for s, *_ in rows]
    given = [dict(zip(("step", "split", "metric", "value"), row, strict=True)) for row in rows]
    columns = [c.name for c in TABLES["evaluations"]]
    return pd.DataFrame([g | b for g, b in zip(given, beside, strict=True)], columns=columns)


def test_evaluations_by_metric_have_a_column_each_in_the_order_of_the_log() -> None:
    table = frames.by_metric(
        evaluations(
            (2, "test", "loss", 3.0), (2, "test", "iou", 0.25), (2, "train", "loss", 1.0), (4, "test", "iou", 0.5)
        )
    )
    beside = ["step", "epoch_fraction", "split", "num_samples", "train_seconds", "sync_bytes"]
    assert list(table.columns) == [*beside, "loss", "iou"]
    assert table["step"].tolist() == [2, 2, 4] and table["split"].tolist() == ["test", "train", "test"]
    np.testing.assert_array_equal(table[["loss", "iou"]], [[3.0, 0.25], [1.0, np.nan], [np.nan, 0.5]])
    assert table["train_seconds"].tolist() == [1.0, 1.0, 2.0]


def test_a_value_that_is_not_known_stays_so_and_a_metric_asked_for_has_its_column() -> None:
    table = frames.by_metric(evaluations((2, "test", "loss", np.nan)), "accuracy")
    assert list(table.columns)[-2:] == ["accuracy", "loss"]
    assert table[["accuracy", "loss"]].isna().all(axis=None)
    empty = frames.by_metric(evaluations(), "loss")
    assert empty.empty and list(empty.columns)[-1] == "loss"


def test_an_evaluation_that_a_damaged_log_has_twice_is_two_rows() -> None:
    table = frames.by_metric(evaluations((2, "test", "loss", 3.0), (2, "test", "loss", 4.0)))
    assert table["loss"].tolist() == [3.0, 4.0]


def test_throughput_of_complete_epochs() -> None:
    epochs = [{"num_samples": 600, "train_seconds": 2.0}, {"num_samples": 400, "train_seconds": 3.0}]
    assert frames.throughput(make_run(make_iterations([]), epochs)) == 200.0


def test_throughput_before_the_first_epoch_ends() -> None:
    rows = [{"step": s, "rank": r, "num_samples": 8, "forward_seconds": 1.0 + r} for s in range(3) for r in range(2)]
    # The slower rank trains for 6 s; both together see 48 samples.
    assert frames.throughput(make_run(make_iterations(rows))) == 8.0
    # One rank of each node is logged, and stands for the others.
    assert frames.throughput(make_run(make_iterations(rows), world_size=4)) == 16.0


def test_throughput_of_statistics_takes_the_medians() -> None:
    rows = [
        {"step": s, "statistic": name, "num_samples": 10, "update_seconds": x}
        for s in range(2)
        for name, x in (("min", 1.0), ("median", 2.0), ("max", 8.0))
    ]
    assert frames.throughput(make_run(make_iterations(rows, "statistic"), world_size=4)) == 20.0


def test_throughput_of_nothing_is_unknown() -> None:
    assert np.isnan(frames.throughput(make_run(make_iterations([]))))
    assert np.isnan(frames.throughput(make_run(make_iterations([{"step": 0, "rank": 0}]))))


def test_shares_leave_out_the_first_iteration() -> None:
    rows = [
        {"step": 0, "rank": 0, "data_seconds": 100.0},
        {"step": 1, "rank": 0, "forward_seconds": 1.0, "averaging_seconds": 3.0, "evaluation_seconds": 50.0},
        {"step": 2, "rank": 0, "forward_seconds": 4.0},
    ]
    shares = frames.span_shares(make_columns(make_iterations(rows)))
    assert list(shares.index) == list(TRAINING_SPANS)
    assert shares["forward_seconds"] == 0.625
    assert shares["averaging_seconds"] == 0.375
    assert shares.sum() == 1.0
    assert frames.span_shares(make_columns(make_iterations(rows[:1])))["data_seconds"] == 1.0
    assert frames.span_shares(make_columns(make_iterations([]))).isna().all()
