"""Speed-up, efficiency and the shares of communication, against closed forms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hpcsgd.record.reader import load_run
from runs.logs import Entry, entry
from tables.scaling import core_remarks, period_shares, run_table, scaling_table
from tests.single.analysis.fake_runs import FakeRun, constant

LOCAL_SGD = {"name": "local_sgd", "sync_period": 2}


def item_of(tmp_path: Path, name: str, run: FakeRun) -> Entry:
    return entry(load_run(run.write(tmp_path / name)), name)


def amdahl(
    tmp_path: Path, sizes: Sequence[int], serial: float, *, strong: bool, name: str = "k", steps: int = 8
) -> list[Entry]:
    """Runs whose compute is 1 s at one rank and falls with the local batch, and whose communication is ``serial`` s."""
    items = []
    for ranks in sizes:
        spans = {
            "forward_seconds": constant(1 / ranks if strong else 1, steps, ranks),
            "gradient_allreduce_seconds": constant(serial, steps, ranks),
        }
        local = 64 // ranks if strong else 64
        run = FakeRun(spans, ["gradient"] * steps, local_batch_size=local, steps_per_epoch=steps)
        items.append(item_of(tmp_path, f"{name}{ranks}", run))
    return items


def test_strong_scaling_is_amdahls_law(tmp_path: Path) -> None:
    sizes, serial = np.array([1, 2, 4, 8]), 0.25
    table = scaling_table(run_table(amdahl(tmp_path, sizes.tolist(), serial, strong=True), 0), "strong")
    speedup = (1 + serial) / (1 / sizes + serial)
    assert table["num_ranks"].tolist() == sizes.tolist()
    assert table["speedup"].to_numpy() == pytest.approx(speedup)
    assert table["iteration_efficiency"].to_numpy() == pytest.approx(speedup / sizes)
    assert table["exposed_share"].to_numpy() == pytest.approx(serial / (1 / sizes + serial))
    assert table["wait_share"].tolist() == [0, 0, 0, 0]
    assert table["global_batch_size"].tolist() == [64] * 4
    assert set(table["reference_ranks"]) == {1}
    assert "speedup_lowest" not in table


def test_joules_a_sample_stand_beside_the_speedup_where_a_log_has_them(tmp_path: Path) -> None:
    spans = {1: constant(1.0, 8, 1), 2: constant(0.5, 8, 2)}
    items = [
        item_of(
            tmp_path,
            f"k{ranks}",
            FakeRun(
                {"forward_seconds": span},
                ["gradient"] * 8,
                local_batch_size=64 // ranks,
                steps_per_epoch=8,
                watts=watts,
            ),
        )
        for (ranks, span), watts in zip(spans.items(), (320.0, float("nan")), strict=True)
    ]
    table = scaling_table(run_table(items, 0), "strong")
    assert table["joules_per_sample"].tolist() == pytest.approx([5.0, float("nan")], nan_ok=True)
    without = scaling_table(run_table(items[1:] + amdahl(tmp_path, [1], 0.25, strong=True, name="other"), 0), "strong")
    assert len(without) == 2 and "joules_per_sample" not in without


def test_weak_scaling_is_measured_in_samples(tmp_path: Path) -> None:
    runs = run_table(amdahl(tmp_path, [2, 4, 8], 0.25, strong=False), 0)
    assert set(runs["scaling"]) == {"weak"}
    table = scaling_table(runs, "weak")
    assert set(table["reference_ranks"]) == {2}
    assert table["ideal_speedup"].tolist() == [1, 2, 4]
    assert table["speedup"].tolist() == pytest.approx([1, 2, 4])
    assert table["iteration_efficiency"].tolist() == pytest.approx([1, 1, 1])
    assert scaling_table(runs, "strong").empty


def test_strong_and_weak_runs_are_kept_apart(tmp_path: Path) -> None:
    items = amdahl(tmp_path, [1, 2], 0.5, strong=True) + amdahl(tmp_path, [4, 8], 0.5, strong=False, name="w")
    runs = run_table(items, 0)
    # The local batch of 64 is that of k1 too: it is the smallest size of both.
    by_scaling = {kind: part["run"].tolist() for kind, part in runs.groupby("scaling")}
    assert by_scaling == {"strong": ["k1", "k2"], "weak": ["k1", "w4", "w8"]}


def test_whiskers_are_percentiles_over_iterations(tmp_path: Path) -> None:
    steady = {"forward_seconds": constant(2, 21, 1)}
    varied = {"forward_seconds": np.repeat(np.linspace(1.0, 3.0, 21)[:, None], 2, axis=1)}
    runs = [
        item_of(tmp_path, f"k{n}", FakeRun(spans, ["gradient"] * 21, local_batch_size=8 // n))
        for n, spans in ((1, steady), (2, varied))
    ]
    two = run_table(runs, 0).iloc[1]
    assert (two["iteration_p5_seconds"], two["iteration_p95_seconds"]) == pytest.approx((1.1, 2.9))
    assert (two["speedup_p5"], two["speedup"], two["speedup_p95"]) == pytest.approx((2 / 2.9, 1, 2 / 1.1))
    assert two["iteration_efficiency_p95"] == pytest.approx(1 / 1.1)


def test_repeats_are_the_spread_of_a_size(tmp_path: Path) -> None:
    runs = [*amdahl(tmp_path, [1], 0, strong=True)]
    for seed, seconds in enumerate((0.5, 1.0, 0.8)):
        run = FakeRun(
            {"forward_seconds": constant(seconds, 4, 2)}, ["gradient"] * 4, local_batch_size=32, config={"seed": seed}
        )
        runs.append(item_of(tmp_path, f"seed{seed}", run))
    two = scaling_table(run_table(runs, 0), "strong").iloc[1]
    assert two["num_runs"] == 3
    assert [two[f"speedup{end}"] for end in ("_lowest", "", "_highest")] == pytest.approx([1, 1.25, 2])
    assert [two[f"iteration{end}_seconds"] for end in ("_lowest", "", "_highest")] == [0.5, 0.8, 1]


def test_shares_of_local_sgd_are_over_whole_periods(tmp_path: Path) -> None:
    # Rank 0 trains 1 + 1 s and waits 2 s in an averaging of 1 s; rank 1 trains 1 + 3 s.
    spans = {
        "forward_seconds": np.array([[1.0, 1.0], [1.0, 3.0], [9.0, 9.0]]),
        "averaging_seconds": np.array([[0.0, 0.0], [3.0, 1.0], [0.0, 0.0]]),
    }
    item = item_of(tmp_path, "run", FakeRun(spans, ["none", "global", "none"], LOCAL_SGD))
    shares = period_shares(item, 0)
    assert shares.index.tolist() == [0, 1]
    assert shares["exposed_share"].tolist() == pytest.approx([2 / 5] * 2)
    assert shares["wait_share"].tolist() == pytest.approx([1 / 5] * 2)


def test_checkpoints_evaluation_and_logging_are_in_no_share(tmp_path: Path) -> None:
    spans = {
        name: constant(seconds, 3, 2)
        for name, seconds in (
            ("forward_seconds", 3.0),
            ("gradient_allreduce_seconds", 1.0),
            ("checkpoint_seconds", 50.0),
            ("evaluation_seconds", 20.0),
            ("logging_seconds", 10.0),
        )
    }
    shares = period_shares(item_of(tmp_path, "run", FakeRun(spans, ["gradient"] * 3, resumed=[1])), 0)
    assert shares["exposed_share"].tolist() == [0.25] * 3


def test_shares_from_statistics_and_from_one_rank_of_a_node(tmp_path: Path) -> None:
    spans = {
        "forward_seconds": np.array([[5.0, 4.0, 3.0]]),
        "gradient_allreduce_seconds": np.array([[1.0, 2.0, 3.0]]),
    }
    every, summary, one = (
        period_shares(item_of(tmp_path, f"{labels}", FakeRun(spans, ["gradient"], labels=labels)), 0).iloc[0]  # type: ignore[arg-type]
        for labels in (None, "summary", [1])
    )
    assert every.tolist() == pytest.approx([2 / 6, 1 / 6])
    assert summary.tolist() == pytest.approx([2 / 6, 1 / 6])
    assert one["exposed_share"] == pytest.approx(2 / 6)
    assert np.isnan(one["wait_share"]), "one rank tells no wait"


def test_shared_cores_and_uneven_threads_are_named(tmp_path: Path) -> None:
    spans = {n: {"forward_seconds": constant(1, 3, n)} for n in (1, 2, 4)}
    cores = dict.fromkeys(range(4), "0-1,3")
    items = [
        item_of(tmp_path, f"k{n}", FakeRun(spans[n], ["none"] * 3, local_batch_size=8, cores=cores, threads=threads))
        for n, threads in ((1, 2), (2, 1), (4, 1))
    ]
    lines = core_remarks(items, run_table(items, 0))
    assert lines == [
        "k4: its 4 ranks on n0 share 3 cores (4 threads): its times say nothing about as many devices.",
        "Threads of a rank differ, so speed-up is not over cores: k1 2, k2 1, k4 1.",
    ]
    own = [item_of(tmp_path, f"own{n}", FakeRun(spans[n], ["none"] * 3)) for n in (1, 2)]
    assert core_remarks(own, run_table(own, 0)) == []
    gpus = [item_of(tmp_path, f"g{n}", FakeRun(spans[n], ["none"] * 3, cores=cores, device="cuda")) for n in (1, 4)]
    assert core_remarks(gpus, run_table(gpus, 0)) == []
    waiting = {"cores": cores, "provenance": {"emulated": "compute (step_seconds 0.02)"}}
    some = [item_of(tmp_path, f"e{n}", FakeRun(spans[n], ["none"] * 3, **waiting)) for n in (1, 4)]  # type: ignore[arg-type]
    assert core_remarks(some, run_table(some, 0)) == []


def test_runs_of_one_size_have_no_table(tmp_path: Path) -> None:
    assert run_table(amdahl(tmp_path, [2], 0, strong=True), 0).empty
    growing = [
        item_of(tmp_path, f"b{n}", FakeRun({"forward_seconds": constant(1, 3, 2)}, ["none"] * 3, local_batch_size=n))
        for n in (4, 8)
    ]
    assert run_table(growing, 0).empty
