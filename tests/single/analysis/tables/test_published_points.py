"""Published rows of many GPUs: which are fitted and tested, what teaches, and what is predicted of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hpcsgd.scaling.curve import Prior
from tables import published_points as rows

LEARNED = Prior(-1.36, 0.5, 0.19, 0.19, 0.22, 0.006, 0.049, 0.66)
"""As MLPerf v1.0 to v4.0 without v3.0 teach it (``published_scaling.py``)."""


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return rows.rows()


def test_rows_count_once_and_the_wrong_one_never(table: pd.DataFrame) -> None:
    once = table[table["row"] == table.index]
    assert not once.duplicated(["bench", "gpus", "gbs", "seconds", "minutes"]).any()
    assert not (table["gpus"] == 4216).any()
    (again,) = table.loc[table["gpus"] == 3584, "row"].unique()
    assert table.at[again, "round"] == "v3.0" and (table["row"] == again).sum() == 3


@pytest.mark.parametrize(
    ("system", "server"),
    [
        ("dgxa100_n128_ngc21.09_mxnet", "dgxa100_ngc21.09_mxnet"),
        ("16xXE8545x4A100-SXM-40GB", "XE8545xA100-SXM-40GB"),
        ("2R5500G5-Intelx8A100-SXM-80GB", "R5500G5-IntelxA100-SXM-80GB"),
        ("ipu-pod64-TF1", "ipu-pod-TF1"),
        ("eos_n316_ngc24.04_mxnet", "eos_ngc24.04_mxnet"),
    ],
)
def test_a_server_is_a_system_without_its_counts(system: str, server: str) -> None:
    assert rows.server(system) == server


def test_devices_are_told_apart() -> None:
    texts = ["NVIDIA A100-SXM4-80GB (400W)", "NVIDIA A100-PCIE-40GB (250W)", "A100-SXM-80GB", "NVIDIA H100 80GB HBM3"]
    assert [rows.device(text) for text in texts] == ["A100 80 GB", "A100 PCIe 40 GB", "A100 80 GB", "H100 80 GB"]


def test_small_sizes_are_fitted_and_larger_ones_tested(table: pd.DataFrame) -> None:
    tests = rows.tested(table)
    for _, system in tests.groupby("test"):
        assert system["fitted"].any() and not system["fitted"].all()
        assert system.loc[system["fitted"], "gpus"].max() < system.loc[~system["fitted"], "gpus"].max()
    assert (~tests["fitted"]).sum() == 59 and set(tests["bench"]) == {"resnet", "deepcam", "cosmoflow"}
    goal = rows.goal(table)
    sizes = goal[~goal["fitted"]].groupby("round")["gpus"].apply(lambda gpus: sorted(gpus.astype(int)))
    assert sizes.to_dict() == {
        "v1.1": [1024, 4320], "v2.0": [1024], "v3.0": [512, 768], "v3.1": [3584], "v4.0": [2528, 3584]
    }  # fmt: skip


def test_no_row_of_the_tested_round_teaches(table: pd.DataFrame) -> None:
    for name in ("v1.1", "v3.1", "v4.0", "hpc_v1.0"):
        rest = rows.others(table, name)
        assert name not in set(rest["round"]) and rest["row"].is_unique
        assert not set(rest["row"]) & set(table.loc[table["round"] == name, "row"])
    assert 3584 not in set(rows.others(table, "v3.1")["gpus"])


def test_the_curve_is_nearer_than_a_line(table: pd.DataFrame) -> None:
    """By a prior that is learned before; the script learns each round's own."""
    goal = rows.goal(table)
    names = goal["round"].unique()
    taught = {name: ({"resnet": LEARNED}, rows.others(table, name)) for name in names}
    found = rows.predictions(goal, taught)
    errors = rows.beside_others(found, goal)
    curve, line = (errors[f"{name} (%)"].abs() for name in ("curve", "line"))
    assert line.mean() == pytest.approx(2.7, abs=0.1) and line.max() == pytest.approx(5.1, abs=0.1)
    assert curve.mean() < line.mean() and curve.max() < line.max()
    assert "line 2.7 % and 5.1 %" in rows.summary(errors)
    assert rows.coverage(found) == "The 90 % intervals hold 8 of 8 rows (100%): resnet 8 of 8."


def test_goyals_sizes_are_predicted_within_three_percent() -> None:
    table = rows.goyal()
    both = table[table["fitted"].str.contains("and")]
    assert (both["error (%)"].abs() < 3).all() and list(both["gpus"]) == [352, 256]
    measured = table["measured_seconds"]
    assert np.all((table["low_seconds"] < measured) & (measured < table["high_seconds"]))
