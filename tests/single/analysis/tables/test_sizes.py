"""Speed-up and efficiency over sizes, against values worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcsgd.record.reader import load_run
from runs.logs import Entry, entry
from tables.sizes import is_gpu, measure, not_in_a_series, size_table
from tests.single.analysis.fake_runs import FakeRun, constant

EFFICIENCY = [1, 0.8, 0.5]


def run_of(
    tmp_path: Path,
    name: str,
    ranks: int,
    seconds: float,
    local: int = 8,
    num_steps: int = 8,
    epoch: int = 8,
    **options: object,
) -> Entry:
    """A run whose every iteration takes ``seconds`` on every rank."""
    spans = {"forward_seconds": constant(seconds, num_steps, ranks)}
    run = FakeRun(spans, ["gradient"] * num_steps, local_batch_size=local, steps_per_epoch=epoch, **options)  # type: ignore[arg-type]
    return entry(load_run(run.write(tmp_path / name)), name)


def test_weak_scaling(tmp_path: Path) -> None:
    sizes = ((1, 1.0, 8), (2, 1.25, 4), (4, 2.0, 2))
    items = [run_of(tmp_path, f"k{k}", k, seconds, epoch=epoch) for k, seconds, epoch in sizes]
    table = size_table(items[::-1], 0)
    assert table["scaling"].tolist() == ["weak"] * 3
    assert table["series"].unique().tolist() == ["sync. SGD; local batch 8"]
    assert table["num_ranks"].tolist() == [1, 2, 4]
    assert table["global_batch_size"].tolist() == [8, 16, 32]
    assert table["iteration_seconds"].tolist() == [1, 1.25, 2]
    assert table["ideal_iteration_seconds"].tolist() == [1, 1, 1]
    assert table["epoch_seconds"].tolist() == [8, 5, 4]
    assert table["ideal_epoch_seconds"].tolist() == [8, 4, 2]
    assert table["samples_per_second"].tolist() == pytest.approx([8, 12.8, 16])
    assert table["speedup"].tolist() == pytest.approx([1, 1.6, 2])
    assert table["iteration_efficiency"].tolist() == pytest.approx(EFFICIENCY)
    assert table["epoch_efficiency"].tolist() == pytest.approx(EFFICIENCY)


def test_strong_scaling(tmp_path: Path) -> None:
    items = [run_of(tmp_path, f"k{k}", k, s, local=8 // k) for k, s in ((1, 1.0), (2, 0.625), (4, 0.5))]
    table = size_table(items, 0)
    assert table["series"].unique().tolist() == ["sync. SGD; global batch 8"]
    assert table["ideal_iteration_seconds"].tolist() == [1, 0.5, 0.25]
    assert table["iteration_efficiency"].tolist() == pytest.approx(EFFICIENCY)
    assert table["epoch_seconds"].tolist() == [8, 5, 4]
    assert table["epoch_efficiency"].tolist() == pytest.approx(EFFICIENCY)


def test_growing_batches_on_the_same_ranks(tmp_path: Path) -> None:
    items = [run_of(tmp_path, f"b{n}", 2, seconds, local=n) for n, seconds in ((8, 1.0), (16, 1.6))]
    table = size_table(items, 0)
    assert table["series"].unique().tolist() == ["sync. SGD; 2 ranks"]
    assert table["ideal_iteration_seconds"].tolist() == [1, 2]
    assert table["iteration_efficiency"].tolist() == pytest.approx([1, 1.25])


def test_batches_that_meet_in_other_series_make_none(tmp_path: Path) -> None:
    sizes = (("a", 1, 8), ("b", 2, 8), ("c", 1, 16), ("d", 2, 16))
    table = size_table([run_of(tmp_path, name, k, 1.0, local=n) for name, k, n in sizes], 0)
    assert set(table["scaling"]) == {"weak", "strong"}


def test_the_median_of_repeats_is_the_reference(tmp_path: Path) -> None:
    items = [run_of(tmp_path, f"r{i}", 1, seconds) for i, seconds in enumerate((1.0, 2.0, 9.0))]
    table = size_table([*items, run_of(tmp_path, "k2", 2, 4.0)], 0)
    assert table["ideal_iteration_seconds"].tolist() == [2, 2, 2, 2]
    assert table["iteration_efficiency"].tolist() == pytest.approx([2, 1, 2 / 9, 0.5])


def test_runs_that_differ_in_more_than_size_make_no_series(tmp_path: Path) -> None:
    sync = run_of(tmp_path, "sync", 1, 1.0)
    local = run_of(tmp_path, "local", 2, 1.0, algorithm={"name": "local_sgd", "sync_period": 8})
    table = size_table([sync, local], 0)
    assert table.empty
    assert "No two runs" in not_in_a_series([sync, local], table, 0)[0]


def test_a_setting_that_changes_the_work_parts_series_and_a_seed_does_not(tmp_path: Path) -> None:
    items = []
    for overlap in (False, True):
        for ranks in (1, 2):
            config = {"comm": {"allreduce": "mpi", "overlap": overlap}, "seed": ranks, "data": {"dir": f"/{ranks}"}}
            items.append(run_of(tmp_path, f"{overlap}{ranks}", ranks, 1.0, config=config))
    series = size_table(items, 0).groupby("series")["run"].apply(list).to_dict()
    assert series == {
        "sync. SGD; comm.overlap: False; local batch 8": ["False1", "False2"],
        "sync. SGD; comm.overlap: True; local batch 8": ["True1", "True2"],
    }


def test_what_may_change_the_time_of_a_step_parts_series_and_what_is_learned_does_not(tmp_path: Path) -> None:
    items = [run_of(tmp_path, f"k{k}", k, 1.0, config={"epochs": k, "label_smoothing": 0.1 * k}) for k in (1, 2)]
    items += [run_of(tmp_path, f"e{k}", k, 1.0, config={"engine": "fused"}) for k in (1, 2)]
    series = size_table(items, 0).groupby("series")["run"].apply(list).to_dict()
    assert series == {"sync. SGD; local batch 8": ["k1", "k2"], "sync. SGD; engine: fused; local batch 8": ["e1", "e2"]}


def test_series_are_named_by_what_differs(tmp_path: Path) -> None:
    config = {"model": {"name": "lenet"}}
    items = [run_of(tmp_path, f"f{k}", k, 1.0) for k in (1, 2)]
    items += [run_of(tmp_path, f"l{k}", k, 1.0, config=config) for k in (1, 2)]
    lone = run_of(tmp_path, "lone", 3, 1.0, local=5)
    table = size_table([*items, lone], 0)
    names = ["sync. SGD; fully_connected [16]; local batch 8", "sync. SGD; lenet; local batch 8"]
    assert table["series"].unique().tolist() == names
    assert not_in_a_series([*items, lone], table, 0)[0].startswith("lone: not in the figures over sizes")


def test_an_epoch_that_was_not_finished_is_estimated_and_says_so(tmp_path: Path) -> None:
    cut = run_of(tmp_path, "cut", 1, 0.5, num_steps=6, epoch=6, config={"max_steps": 6}, accuracies=[0.5])
    evaluations = cut.run.evaluations
    evaluations["epoch_fraction"] = 0.25
    found = measure(cut, 2)
    assert found["epoch_seconds"] == pytest.approx(24 * 0.5)
    assert found["epoch_source"] == "estimated from 4 iterations"
    unknown = measure(run_of(tmp_path, "early", 1, 0.5, num_steps=6, epoch=7), 2)
    assert np.isnan(unknown["epoch_seconds"])
    assert unknown["epoch_source"] == "no whole epoch"


def test_a_run_without_iterations_left_is_no_size(tmp_path: Path) -> None:
    items = [run_of(tmp_path, f"k{k}", k, 1.0, num_steps=8 if k < 3 else 4) for k in (1, 2, 4)]
    table = size_table(items, 5)
    assert table["run"].tolist() == ["k1", "k2"]
    assert not_in_a_series(items, table, 5) == [
        "k4: not in the figures over sizes: no whole synchronisation period is left after --skip 5."
    ]
    assert size_table(items, 8).empty


def test_gpus_are_told_from_cpus() -> None:
    assert is_gpu("NVIDIA H100 80GB HBM3 4c1e") and is_gpu("AMD Radeon Graphics 0")
    assert not is_gpu("cpu") and not is_gpu("")
