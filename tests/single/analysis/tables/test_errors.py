"""Errors, curves and schedules by setting, against values worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from runs.groups import repeats, same_setting
from runs.settings import find_settings
from tables.errors import (
    curve_table,
    error_label,
    errors,
    last_error,
    remarks,
    run_table,
    schedule_table,
    setting_table,
    training_quantity,
)
from tests.single.analysis.goyal_runs import goyal_entry

SEVEN = [60.0, 50.0, 14.0, 13.0, 12.0, 10.0, 11.0]


def test_a_runs_error_is_the_median_over_its_last_five_epochs(tmp_path: Path) -> None:
    item = goyal_entry(tmp_path / "run", test=SEVEN, train=[9.0] * 7)
    assert last_error(item, "test") == (pytest.approx(12.0), 5)
    assert last_error(item, "train") == (pytest.approx(9.0), 5)
    assert errors(item, "test")["error"].tolist() == pytest.approx(SEVEN)
    assert errors(item, "test")["epoch"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert math.isnan(last_error(item, "val")[0]) and last_error(item, "val")[1] == 0


def test_fewer_or_rarer_evaluations_are_counted(tmp_path: Path) -> None:
    short = goyal_entry(tmp_path / "short", test=[20.0, 10.0])
    assert last_error(short, "test") == (pytest.approx(15.0), 2)
    rare = goyal_entry(tmp_path / "rare", test=SEVEN)
    rare.run.evaluations["epoch_fraction"] *= 2
    # Epochs 2, 4, ..., 14: those after 9 are 10, 12 and 14.
    assert last_error(rare, "test") == (pytest.approx(11.0), 3)


def test_a_settings_error_is_mean_and_standard_deviation_over_its_runs(tmp_path: Path) -> None:
    runs = [goyal_entry(tmp_path / str(seed), seed=seed, test=[10.0 + seed] * 5, train=[seed] * 5) for seed in range(3)]
    settings = find_settings(runs)
    row = setting_table(settings, run_table(settings)).iloc[0]
    assert row["error_percent"] == pytest.approx(11.0)
    assert row["error_std_percent"] == pytest.approx(1.0)
    assert row["train_error_percent"] == pytest.approx(1.0)
    assert (row["num_runs"], row["num_seeds"], row["num_diverged"], row["num_evaluations"]) == (3, 3, 0, 5)
    assert remarks(run_table(settings), setting_table(settings, run_table(settings))) == []


def test_what_diverged_or_did_not_end_is_counted_and_in_no_mean(tmp_path: Path) -> None:
    runs = [
        goyal_entry(tmp_path / "fine", seed=0, test=[10.0] * 5),
        goyal_entry(tmp_path / "lost", seed=1, test=[90.0] * 2, status="diverged"),
        goyal_entry(tmp_path / "going", seed=2, test=[50.0] * 2, status="running"),
        goyal_entry(tmp_path / "short", seed=3, test=[12.0] * 3),
        goyal_entry(tmp_path / "blind", seed=4, num_epochs=5),
    ]
    settings = find_settings(runs)
    table = run_table(settings).set_index("run")
    assert math.isnan(table.loc["lost", "error_percent"])
    assert table.loc["going", "error_percent"] == pytest.approx(50.0)
    summary = setting_table(settings, table.reset_index())
    row = summary.iloc[0]
    assert row["error_percent"] == pytest.approx(11.0)
    assert (row["num_runs"], row["num_seeds"], row["num_diverged"], row["num_unfinished"]) == (5, 5, 1, 1)
    lines = "\n".join(remarks(table.reset_index(), summary))
    assert "lost: diverged; it is counted beside the mean of its setting, not in it." in lines
    assert "going: still running, or killed; it is not in the mean of its setting." in lines
    assert "short: its error is the median of 3 evaluations, not of the last 5 epochs." in lines
    assert "blind: no evaluation of test or val: no error." in lines


def test_a_seed_that_was_trained_again_is_no_second_sample(tmp_path: Path) -> None:
    once = [goyal_entry(tmp_path / str(seed), seed=seed, test=[10.0 + seed] * 5) for seed in range(3)]
    again = goyal_entry(tmp_path / "z", seed=0, test=[10.0] * 5, config={"checkpoint": {"every_epochs": 1}})
    killed = goyal_entry(tmp_path / "zz", seed=0, test=[90.0] * 5, status="running")
    settings = find_settings([*once, again, killed])
    assert [item.name for item in settings[0].entries] == ["z", "1", "2"]
    tables = [setting_table(found, run_table(found)) for found in (find_settings(once), settings)]
    pd.testing.assert_frame_equal(*tables)
    assert repeats([*once, again, killed], same_setting) == [
        "zz: the same seed of the same setting as z, which alone counts.",
        "0: the same seed of the same setting as z, which alone counts.",
    ]


def test_a_single_run_is_said(tmp_path: Path) -> None:
    settings = find_settings([goyal_entry(tmp_path / "run", test=SEVEN)])
    table = setting_table(settings, run_table(settings))
    assert math.isnan(table["error_std_percent"].iloc[0])
    assert remarks(run_table(settings), table) == [f"{settings[0].name}: a single run: no standard deviation."]


def test_other_splits_stand_in_for_the_test_set_and_are_said(tmp_path: Path) -> None:
    test, other = (goyal_entry(tmp_path / name, seed=seed, test=[8.0] * 5) for seed, name in enumerate("ab"))
    other.run.evaluations["split"] = "val"
    settings = find_settings([test, other])
    runs = run_table(settings)
    assert runs["split"].tolist() == ["test", "val"]
    assert error_label(runs) == "Error (%)"
    assert [error_label(runs[runs["run"] == name]) for name in "ab"] == ["Test error (%)", "Validation error (%)"]
    assert "Errors are of different splits (test, val)" in remarks(runs, setting_table(settings, runs))[-1]


def test_curves_by_epoch(tmp_path: Path) -> None:
    settings = find_settings(
        [goyal_entry(tmp_path / "run", test=[30.0, 20.0], train=[15.0, 5.0], loss=[4.0] * 4 + [2.0] * 4)]
    )
    curves = curve_table(settings)
    assert curves["epoch"].tolist() == [1, 2]
    assert curves["error_percent"].tolist() == pytest.approx([30, 20])
    assert curves["train_error_percent"].tolist() == pytest.approx([15, 5])
    assert curves["train_loss"].tolist() == [4, 2]
    assert training_quantity(curves) == "train_error_percent"


def test_the_loss_stands_in_where_a_run_has_no_training_error(tmp_path: Path) -> None:
    runs = [goyal_entry(tmp_path / "a", test=[30.0], train=[15.0]), goyal_entry(tmp_path / "b", seed=1, test=[30.0])]
    assert training_quantity(curve_table(find_settings(runs))) == "train_loss"


def test_schedules_are_kept_at_their_corners(tmp_path: Path) -> None:
    rates = [0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.04, 0.04]
    table = schedule_table(find_settings([goyal_entry(tmp_path / "run", test=[9.0, 8.0], rates=rates)]))
    assert table["step"].tolist() == [0, 3, 5, 6, 7]
    assert table["learning_rate"].tolist() == [0.1, 0.4, 0.4, 0.04, 0.04]
    assert table["epoch"].tolist() == [0, 0.75, 1.25, 1.5, 1.75]
    back = np.interp(range(8), table["step"], table["learning_rate"])
    assert back == pytest.approx(rates)


def test_a_smooth_schedule_is_thinned_to_its_ends(tmp_path: Path) -> None:
    rates = np.cos(np.linspace(0, 1.5, 4000)).tolist()
    table = schedule_table(find_settings([goyal_entry(tmp_path / "run", num_epochs=1000, rates=rates)]))
    assert len(table) <= 400
    assert (table["step"].iloc[0], table["step"].iloc[-1]) == (0, 3999)
    assert np.interp(range(4000), table["step"], table["learning_rate"]) == pytest.approx(rates, abs=1e-5)
