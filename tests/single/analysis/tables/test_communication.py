"""The tables of Lin's figures against arithmetic: accuracies, rounds, bytes, speed-ups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from chapters.lin_study import Study
from runs import logs as run_logs
from tables import communication, scenarios
from tables import published as published_tables
from tests.single.analysis.lin_runs import lin_run, write_campaign


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The whole campaign of :mod:`tests.single.analysis.lin_runs`."""
    root = tmp_path_factory.mktemp("lin")
    write_campaign(root)
    entries, problems = run_logs.load([str(root)])
    assert not problems
    return Study("task", 0, entries, 0.75, 0)


def test_the_table_of_scenarios(study: Study) -> None:
    table = study.scenarios
    table = table[(table["variant"] == table["variant"].iloc[0]) | ~table["scenario"].isin(("A4",))]
    table = table[table["wire"] == "full"].set_index(["scenario", "sync_period"])
    whole = table.xs("A2")
    # 0.80 and 0.81; the rate of 0.4 has 0.5 and is not shown.
    assert whole["test_percent"].tolist() == pytest.approx([80.5])
    assert whole["test_std_percent"].tolist() == pytest.approx([0.5**0.5])
    assert whole["train_percent"].tolist() == pytest.approx([90.0])
    # kn = 8: 64 rounds an epoch; 32: 16; 128: 4, as local SGD with H = 4 has at 32.
    assert table.loc[("A1", 1.0), ["num_rounds", "parallelism", "rounds_percent"]].tolist() == [384, 1, 100]
    assert table.loc[("A2", 1.0), ["num_rounds", "parallelism", "rounds_percent"]].tolist() == [96, 4, 25]
    assert table.loc[("A3", 4.0), ["num_rounds", "parallelism", "rounds_percent"]].tolist() == [24, 16, 6.25]
    assert table.loc["A4"].loc[4.0, ["num_rounds", "parallelism", "rounds_percent"]].tolist() == [24, 4, 6.25]
    assert table.loc["A4"].loc[2.0, ["num_rounds", "sync_bytes"]].tolist() == [48, 48_000]
    # Gradients of 2 or 4 of 6 epochs of 16 steps, then 4 averagings an epoch.
    starts = table.loc["A5"].sort_values("num_rounds")["num_rounds"].tolist()
    assert starts == [2 * 16 + 4 * 4, 4 * 16 + 2 * 4]


def test_local_sgd_beside_mini_batches_of_as_many_samples(study: Study) -> None:
    pairs = study.pairs[(study.pairs["num_learners"] == 4) & (study.pairs["sync_period"] == 4)].set_index("wire")
    # 0.78 and 0.79, or by signs 0.77, against 0.74 and 0.75.
    assert pairs["minibatch_test_percent"].to_dict() == pytest.approx({"full": 74.5, "ef_sign": 74.5})
    assert pairs["difference_points"].to_dict() == pytest.approx({"full": 4.0, "ef_sign": 2.5})


def test_lines_over_periods_begin_at_synchronous_sgd(study: Study) -> None:
    table = study.sweeps["lin_period"]
    line = table[table["line"].str.contains("k = 4") & table["line"].str.contains("full")]
    line = line[~line["line"].str.contains("kind power")].sort_values("sync_period")
    assert line["sync_period"].tolist() == [1, 2, 4]
    assert line["final_accuracy"].tolist() == pytest.approx([0.805, 0.795, 0.785])


def test_lines_over_starts_have_both_ends(study: Study) -> None:
    line = study.sweeps["lin_switch"].sort_values("local_from_epoch")
    assert line["local_from_epoch"].tolist() == [0, 2, 4, 6]
    assert line["final_accuracy"].tolist() == pytest.approx([0.785, 0.815, 0.805, 0.805])


def test_speed_up_is_over_one_step_a_round_on_the_fewest_ranks() -> None:
    def row(line: str, ranks: int, seconds: float, worst: float) -> dict[str, Any]:
        times = {"seconds_to_target": seconds, "seconds_to_target_min": seconds, "seconds_to_target_max": worst}
        return {"line": line, "num_ranks": ranks, **times}

    rows = [row("H = 1", 1, 8, 8), row("H = 1", 4, 4, 5), row("H = 16", 1, 10, 10), row("H = 16", 4, 2, 2)]
    table = communication.speedups(pd.DataFrame(rows))
    assert table["speedup"].tolist() == [1, 2, 0.8, 4]
    assert table["speedup_min"].tolist() == [1, 1.6, 0.8, 4]
    assert table["ideal"].tolist() == [1, 4, 1, 4]
    assert set(table["speedup_base"]) == {"H = 1, 1 rank"}
    alone = communication.speedups(pd.DataFrame(rows[2:]))
    assert alone["speedup"].tolist() == [1, 5]


def test_the_grid_has_local_sgd_as_its_first_row(study: Study) -> None:
    grid = study.grid.set_index(["sync_period", "block_sync_period"])
    # 96 steps: 48 averagings every 2 steps, of which each second one is of all ranks.
    assert grid.loc[(2, 2), ["num_rounds", "num_global_rounds"]].tolist() == [48, 24]
    assert grid.loc[(4, 2), ["num_rounds", "num_global_rounds"]].tolist() == [24, 12]
    assert grid.loc[(4, 1), ["num_rounds", "num_global_rounds"]].tolist() == [24, 24]


def test_constant_periods_do_not_change_and_post_local_ones_do(study: Study) -> None:
    moving = communication.changing(study.schedules)
    assert moving and all(name.startswith("post-local SGD") for name in moving)


def test_published_scenarios_follow_the_recipe() -> None:
    table = published_tables.scenarios()
    own = table[table["task"] == "resnet20 on cifar10"].set_index(["scenario", "sync_period"])
    assert own["test_percent"].to_dict() == {("A1", 1): 92.63, ("A2", 1): 92.48, ("A5", 16): 92.80, ("A5", 32): 93.02}
    assert own["parallelism"].tolist() == [1, 8, 8, 8]
    # Half of the epochs by gradients, half of them by an averaging every 16 steps, at an eighth of A1's rounds.
    assert own.loc[("A5", 16), "rounds_percent"] == pytest.approx(12.5 * (0.5 + 0.5 / 16))
    assert len(table) == 22


def test_without_small_batches_nothing_is_relative(tmp_path: Path) -> None:
    lin_run(tmp_path / "a4", period=4)
    study = Study("task", 0, run_logs.load([str(tmp_path)])[0], None, 0)
    row = study.scenarios.iloc[0]
    assert row["num_rounds"] == 24 and pd.isna(row["parallelism"]) and pd.isna(row["rounds_percent"])
    assert scenarios.scenario_label(row) == "A4, H = 4"
