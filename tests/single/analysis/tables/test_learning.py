"""Loss and accuracy with their costs, against values worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpcsgd.record.reader import load_run
from runs import logs as run_logs
from runs.logs import Entry, entry
from tables.learning import costs_before, evaluation_table, missing_curves, result_table, training_loss_table
from tests.single.analysis.fake_runs import FakeRun, constant

SECONDS = np.array([[1.0, 3.0], [1.0, 0.0], [2.0, 0.0], [2.0, 5.0]])


def item_of(tmp_path: Path, name: str = "run", checkpoint: float = 0.0, **options: object) -> Entry:
    """4 steps of local SGD with H = 2, two epochs; a checkpoint before each step."""
    settings: dict[str, object] = {"steps_per_epoch": 2, "loss": [4.0, 3.0, 2.0, 1.0], "accuracies": [0.75, 0.5]}
    run = FakeRun(
        {"forward_seconds": SECONDS, "checkpoint_seconds": constant(checkpoint, 4, 2)},
        ["none", "global", "none", "global"],
        {"name": "local_sgd", "sync_period": 2},
        provenance={"steps_per_epoch": settings["steps_per_epoch"]} if "first_step" in options else {},
        **{**settings, **options},  # type: ignore[arg-type]
    )
    return entry(load_run(run.write(tmp_path / name)), name)


def test_costs_before_each_iteration(tmp_path: Path) -> None:
    costs = costs_before(item_of(tmp_path))
    assert costs["epoch"].tolist() == [0, 0.5, 1, 1.5]
    assert costs["step"].tolist() == [0, 1, 2, 3]
    assert costs["train_seconds"].tolist() == [0, 3, 3, 4]
    assert costs["sync_bytes"].tolist() == [0, 0, 1000, 1000]


def test_costs_go_on_over_a_resume_without_the_time_of_checkpoints(tmp_path: Path) -> None:
    whole, resumed = item_of(tmp_path), item_of(tmp_path, "resumed", resumed=[1, 3], checkpoint=5.0)
    assert resumed.run.iterations["checkpoint_seconds"].eq(5).all()
    pd.testing.assert_frame_equal(costs_before(whole), costs_before(resumed))
    tables = [evaluation_table([item]).drop(columns="run") for item in (whole, resumed)]
    pd.testing.assert_frame_equal(*tables)


def test_costs_of_a_log_that_begins_at_a_later_step(tmp_path: Path) -> None:
    costs = costs_before(item_of(tmp_path, first_step=2, accuracies=()))
    assert costs["step"].tolist() == [2, 3, 4, 5]
    assert costs["epoch"].tolist() == [1, 1.5, 2, 2.5]
    assert costs["train_seconds"].tolist() == [0, 3, 3, 4]


def test_the_clock_of_statistics_is_brought_to_the_clock_of_the_log(tmp_path: Path) -> None:
    costs = costs_before(item_of(tmp_path, labels="summary"))
    ratio = 8 / (3 + 1 + 2 + 5)
    assert costs["train_seconds"].tolist() == pytest.approx([0, 3 * ratio, 4 * ratio, 6 * ratio])
    early = costs_before(item_of(tmp_path, "early", labels="summary", accuracies=(), steps_per_epoch=5))
    assert early["train_seconds"].tolist() == [0, 3, 4, 6]


def test_training_loss_in_windows(tmp_path: Path) -> None:
    table = training_loss_table([item_of(tmp_path)], num_windows=2)
    assert table["loss"].tolist() == [3.5, 1.5]
    assert table["epoch"].tolist() == [0.25, 1.25]
    assert table["train_seconds"].tolist() == [1.5, 3.5]
    assert table["sync_bytes"].tolist() == [0, 1000]


def test_training_loss_weighs_samples_and_leaves_out_ranks_without(tmp_path: Path) -> None:
    item = item_of(tmp_path)
    held = item.run.columns.held
    for name, value, last in (("loss", 7.0, np.nan), ("num_samples", 96, 0)):
        held[name][:, 1] = value
        held[name][3, 1] = last
    table = training_loss_table([item], num_windows=4)
    assert table["loss"].tolist() == pytest.approx([(4 + 3 * 7) / 4, (3 + 3 * 7) / 4, (2 + 3 * 7) / 4, 1])


def test_evaluations_with_all_four_costs(tmp_path: Path) -> None:
    table = evaluation_table([item_of(tmp_path)])
    assert table["epoch"].tolist() == [1, 2]
    assert table["step"].tolist() == [2, 4]
    assert table["train_seconds"].tolist() == [3, 8]
    assert table["sync_bytes"].tolist() == [1000, 2000]
    assert table["accuracy"].tolist() == [0.75, 0.5]


def test_best_and_last(tmp_path: Path) -> None:
    found = result_table([item_of(tmp_path)]).iloc[0]
    assert (found["best_accuracy"], found["best_step"], found["best_train_seconds"]) == (0.75, 2, 3)
    assert (found["last_accuracy"], found["last_loss"], found["num_evaluations"]) == (0.5, 1.5, 2)


def test_a_whole_log_has_every_curve(tmp_path: Path) -> None:
    assert missing_curves([item_of(tmp_path)]) == []


def test_missing_curves_are_named(tmp_path: Path) -> None:
    early = item_of(tmp_path, "early", accuracies=(), steps_per_epoch=9, sync_bytes=0)
    notes = "\n".join(missing_curves([early]))
    assert "early: no evaluation yet" in notes
    assert "not drawn against epochs" in notes
    assert "early: communicated nothing (no synchronisation yet): not drawn against bytes" in notes
    assert training_loss_table([early])["epoch"].isna().all()


def test_what_stands_for_the_ranks_is_named(tmp_path: Path) -> None:
    assert "median over the ranks" in missing_curves([item_of(tmp_path, labels="summary")])[0]
    assert "1 of 2 ranks" in missing_curves([item_of(tmp_path, "node", labels=[0])])[0]


@pytest.mark.parametrize("labels", [None, "summary"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_no_number_and_is_said(tmp_path: Path, labels: str | None, bad: float) -> None:
    losses = [2.0, 1.0, bad, bad, 1.0, 1.0]
    run = FakeRun(
        {"forward_seconds": constant(0.01, 6, 2)}, ["gradient"] * 6, loss=losses, labels=labels, status="diverged"
    )
    item = run_logs.entry(load_run(run.write(tmp_path / "run")), "run")
    table = training_loss_table([item], num_windows=3)
    assert table["loss"].tolist() == pytest.approx([1.5, math.nan, 1.0], nan_ok=True)
    notes = run_logs.log_notes([item], [])
    where = " on rank 0" if labels is None else ""
    assert f"run: its loss is not finite from step 2{where} on: curves of the loss end there." in notes


def test_a_loop_that_is_only_timed_has_no_loss_and_nothing_wrong_with_it(tmp_path: Path) -> None:
    spans = {"forward_seconds": constant(0.01, 3, 2)}
    timed = FakeRun(spans, ["none"] * 3, algorithm={"name": "none"}, loss=[math.nan] * 3)
    item = run_logs.entry(load_run(timed.write(tmp_path / "run")), "run")
    notes = run_logs.log_notes([item], [])
    assert "run: its log has no loss: its loop was only timed, without run.backward." in notes
    assert not any("not finite" in note for note in notes)
