"""Throughput, epochs and time to an accuracy, utilisation and sweeps, against values worked by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcsgd.record.reader import load_run
from runs.logs import Entry, entry
from runs.tasks import LEARNERS, SPLIT, find_settings
from tables import targets as crossbow_tables
from tables.targets import (
    accuracies,
    bands,
    cost_of_target,
    curve_table,
    default_target,
    remarks,
    run_table,
    setting_table,
    spread,
    sweep_table,
    throughput,
    tuner_table,
    utilisation,
    utilisation_table,
    with_target,
)
from tests.single.analysis.crossbow_runs import UP, crossbow_entry
from tests.single.analysis.fake_runs import FakeRun, constant, trial


def runs_of(entries: list[Entry], target: float) -> Any:
    """The run table with a target."""
    return with_target(run_table(find_settings(entries), 0), entries, target)


def test_throughput_is_samples_over_the_training_clock(tmp_path: Path) -> None:
    """Ranks take turns to be slow: both take 8 s in 4 steps, though the slower of each step take 12 s in all."""
    turns = np.array([[1.0, 3.0], [3.0, 1.0]] * 2)
    spans = {"forward_seconds": turns, "evaluation_seconds": constant(5, 4, 2)}
    item = entry(load_run(FakeRun(spans, ["gradient"] * 4, local_batch_size=32).write(tmp_path / "turns")), "turns")
    assert throughput(item, 0) == pytest.approx(4 * 64 / 8)
    assert throughput(item, 1) == pytest.approx(3 * 64 / 7)
    assert math.isnan(throughput(item, 4))


def test_samples_of_all_learners_count(tmp_path: Path) -> None:
    item = crossbow_entry(tmp_path / "run", learners=4, ranks=2, batch=16, seconds=0.01)
    assert throughput(item, 5) == pytest.approx(4 * 2 * 16 / 0.01)


def test_a_target_is_reached_by_the_median_of_the_last_five(tmp_path: Path) -> None:
    item = crossbow_entry(tmp_path / "run", seconds=0.01)
    table = accuracies(item)
    assert table["accuracy"].tolist() == pytest.approx(UP)
    assert table["median_accuracy"].isna().tolist() == [True] * 4 + [False] * 3
    assert table["median_accuracy"].tolist()[4:] == pytest.approx([0.8, 0.85, 0.86])
    # Epochs of 4 steps of 10 ms.
    assert cost_of_target(item, 0.79) == {"epochs_to_target": 5, "seconds_to_target": pytest.approx(0.2)}
    assert cost_of_target(item, 0.85) == {"epochs_to_target": 6, "seconds_to_target": pytest.approx(0.24)}
    assert cost_of_target(item, 0.87) == {"epochs_to_target": math.inf, "seconds_to_target": math.inf}


@pytest.mark.parametrize(
    ("status", "num_epochs", "target", "expected"),
    [
        ("running", 7, 0.85, 6),
        ("running", 7, 0.9, math.nan),
        ("diverged", 2, 0.8, math.inf),
        ("completed", 4, 0.8, math.nan),
        ("completed", 7, math.nan, math.nan),
    ],
)
def test_not_reached_is_no_less_than_known(
    tmp_path: Path, status: str, num_epochs: int, target: float, expected: float
) -> None:
    item = crossbow_entry(tmp_path / "run", accuracies=UP[:num_epochs], status=status)
    assert cost_of_target(item, target)["epochs_to_target"] == pytest.approx(expected, nan_ok=True)


def test_utilisation_is_the_mean_over_what_was_sampled(tmp_path: Path) -> None:
    item = crossbow_entry(tmp_path / "run", utilisation=0.5)
    item.run.iterations.loc[item.run.iterations["step"] >= 14, "utilisation"] = 0.75
    assert utilisation(item, 0) == pytest.approx(0.625)
    assert utilisation(item, 14) == pytest.approx(0.75)
    item.run.iterations["utilisation"] = math.nan
    assert math.isnan(utilisation(item, 0))
    few = crossbow_entry(tmp_path / "few", utilisation=0.25, labels="summary")
    assert utilisation(few, 0) == pytest.approx(0.25)


def test_the_default_target_is_what_three_quarters_reach(tmp_path: Path) -> None:
    """Best medians 0.86, 0.86 - 0.012, ..., the third of four is 0.836."""
    entries = [
        crossbow_entry(tmp_path / str(m), learners=m, accuracies=[value - 0.012 * (m - 1) for value in UP])
        for m in (1, 2, 3, 4)
    ]
    settings = find_settings(entries)
    assert default_target(run_table(settings, 0), settings) == 0.835
    assert default_target(run_table(settings, 0), settings[:1]) == 0.86
    short = [crossbow_entry(tmp_path / "short", accuracies=UP[:3])]
    assert math.isnan(default_target(run_table(find_settings(short), 0), find_settings(short)))


def test_a_settings_spread_counts_what_was_not_reached_as_longest(tmp_path: Path) -> None:
    drops = (0.0, 0.01, 0.02)
    entries = [
        crossbow_entry(tmp_path / str(seed), seed=seed, accuracies=[value - drop for value in UP])
        for seed, drop in enumerate(drops)
    ]
    settings = find_settings(entries)
    (row,) = setting_table(settings, runs_of(entries, 0.85)).to_dict("records")
    assert (row["num_runs"], row["num_reached"], row["num_known"]) == (3, 2, 3)
    # Medians of 5: 0.85 at epoch 6; 0.85 at epoch 7; never.
    assert (row["epochs_to_target"], row["epochs_to_target_min"], row["epochs_to_target_max"]) == (7, 6, 7)
    assert row["final_accuracy"] == pytest.approx(0.85)
    assert (row["final_accuracy_min"], row["final_accuracy_max"]) == pytest.approx((0.84, 0.86))
    (hard,) = setting_table(settings, runs_of(entries, 0.86)).to_dict("records")
    assert (hard["epochs_to_target"], hard["num_reached"]) == (math.inf, 1)
    assert hard["epochs_to_target_max"] == 7


def test_what_did_not_end_has_no_final_accuracy(tmp_path: Path) -> None:
    entries = [
        crossbow_entry(tmp_path / "lost", accuracies=UP[:2], status="diverged"),
        crossbow_entry(tmp_path / "going", seed=1, status="running"),
        crossbow_entry(tmp_path / "short", seed=2, accuracies=UP[:3], config={"epochs": 7}),
        crossbow_entry(tmp_path / "sampled", seed=3, accuracies=(), utilisation=0.5, config={"epochs": 7}),
    ]
    entries.append(crossbow_entry(tmp_path / "alone", learners=2, utilisation=0.5, config={"epochs": 7}))
    runs = runs_of(entries, 0.8).set_index("run")
    assert runs.loc[["lost", "going"], "final_accuracy"].isna().all()
    assert runs.loc["short", "final_accuracy"] == pytest.approx(0.7)
    said = remarks(runs.reset_index())
    for line in (
        "lost: diverged; it has no final accuracy and does not reach the target.",
        "going: still running, or killed; it has no final accuracy.",
        "short: 3 evaluations; a time to accuracy needs 5.",
        "2 of 3 settings have a single run: no spread of seeds.",
        "Utilisation was not sampled of: lost, going, short.",
    ):
        assert line in said


def test_lines_over_learners(tmp_path: Path) -> None:
    entries = [
        crossbow_entry(tmp_path / f"m{m}-b{batch}", learners=m, batch=batch, seconds=0.01 * batch * m / 16)
        for batch in (8, 16)
        for m in (1, 2)
    ]
    entries.append(crossbow_entry(tmp_path / "alone", "ea_sgd", learners=2))
    runs = runs_of(entries, 0.85)
    table = sweep_table(runs, entries, "learners_per_rank", LEARNERS)
    assert table["line"].tolist() == ["SMA, b = 8"] * 2 + ["SMA, b = 16"] * 2
    assert table["learners_per_rank"].tolist() == [1, 2, 1, 2]
    assert table["samples_per_second"].tolist() == pytest.approx([3200.0] * 4)
    assert table["seconds_to_target"].tolist() == pytest.approx([0.12, 0.24, 0.24, 0.48])
    assert sweep_table(runs, entries, "sync_period", ("sync_period",)).empty


def test_splits_of_the_same_learners_are_one_point(tmp_path: Path) -> None:
    splits = ((1, 4), (2, 2), (2, 4))
    entries = [crossbow_entry(tmp_path / f"{r}x{m}", ranks=r, learners=m, engine=f"e{m}") for r, m in splits]
    table = sweep_table(runs_of(entries, 0.8), entries, "num_learners", SPLIT)
    assert table[["line", "num_learners", "num_runs", "epochs_to_target"]].values.tolist() == [
        ["SMA", 4, 2, 5],
        ["SMA", 8, 1, 5],
    ]


def test_utilisation_by_engine_learners_and_batch(tmp_path: Path) -> None:
    entries = [
        crossbow_entry(tmp_path / f"{engine}{batch}-{seed}", batch=batch, seed=seed, engine=engine, utilisation=busy)
        for engine, batch, seed, busy in (
            ("loop", 8, 0, 0.2),
            ("loop", 8, 1, 0.4),
            ("loop", 16, 0, 0.5),
            ("fused", 8, 2, 0.9),
            ("fused", 8, 3, math.nan),
        )
    ]
    table = utilisation_table(runs_of(entries, 0.8)).set_index(["line", "local_batch_size"])
    assert table["utilisation"].to_dict() == {
        ("fused, m = 1, 2 ranks", 8): pytest.approx(0.9),
        ("loop, m = 1, 2 ranks", 8): pytest.approx(0.3),
        ("loop, m = 1, 2 ranks", 16): pytest.approx(0.5),
    }
    assert table["num_runs"].tolist() == [1, 2, 1]


def test_bands_are_by_epoch(tmp_path: Path) -> None:
    entries = [
        crossbow_entry(tmp_path / "slow", accuracies=[0.2, 0.4], seconds=0.03),
        crossbow_entry(tmp_path / "fast", seed=1, accuracies=[0.4, 0.8], seconds=0.01),
        crossbow_entry(tmp_path / "lost", seed=2, accuracies=[0.1, 0.1], status="diverged"),
    ]
    settings = find_settings(entries)
    table = bands(curve_table(settings), settings[0].name)
    assert table["epoch"].tolist() == [1, 2]
    assert table["train_seconds"].tolist() == pytest.approx([0.08, 0.16])
    assert table[["median", "min", "max"]].to_numpy() == pytest.approx(np.array([[0.3, 0.2, 0.4], [0.6, 0.4, 0.8]]))


def test_the_last_number_that_was_taken_is_chosen(tmp_path: Path) -> None:
    trials = [trial(1, "start"), trial(2, "taken", 150.0), trial(4, "refused", 140.0), trial(8, "impossible")]
    run = crossbow_entry(tmp_path / "tuned", learners=2, tuner=trials)
    table = tuner_table([run, crossbow_entry(tmp_path / "other")])
    assert table["run"].tolist() == ["tuned"] * 4
    assert table["trial"].tolist() == [1, 2, 3, 4]
    assert table["chosen"].tolist() == [False, True, False, False]
    assert tuner_table([crossbow_entry(tmp_path / "third")]).empty


def test_runs_that_nothing_is_known_of_have_no_spread(tmp_path: Path) -> None:
    runs = runs_of([crossbow_entry(tmp_path / "blind", accuracies=())], 0.8)
    row = spread(runs)
    assert (row["num_runs"], row["num_known"], row["num_reached"]) == (1, 0, 0)
    assert math.isnan(row["epochs_to_target"]) and math.isnan(row["final_accuracy"])
    assert crossbow_tables.accuracy_label(runs) == "Accuracy (%)"
