"""Which runs are compared as Lin 2020 does: workloads, A1 to A5, wires, and H as run."""

from __future__ import annotations

from pathlib import Path

import pytest

from runs.groups import same_setting
from runs.identity import wire
from runs.scenarios import find_workloads, first_local_step, periods, reference_batch, scenario, synchronisations
from runs.scenarios import variants as find_variants
from tests.single.analysis.lin_runs import CONSTANT, lin_entry


def test_scenarios_are_told_by_algorithm_and_batch(tmp_path: Path) -> None:
    runs = [
        lin_entry(tmp_path / "a1", "sync_sgd", learners=1, batch=4),
        lin_entry(tmp_path / "a2", "sync_sgd", learners=1, batch=16),
        lin_entry(tmp_path / "a3", "sync_sgd", learners=1, batch=64),
        lin_entry(tmp_path / "a4", period=4),
        lin_entry(tmp_path / "a5", "post_local_sgd", period=4, start=2),
        lin_entry(tmp_path / "two", "hierarchical_local_sgd", period=2, block_period=2),
        lin_entry(tmp_path / "few", period=4, learners=1),
    ]
    assert reference_batch(runs) == 32
    assert [scenario(item, 32) for item in runs] == ["A1", "A2", "A3", "A4", "A5", "", ""]
    assert reference_batch(runs[:3]) is None and scenario(runs[0], None) == ""


def test_a_workload_is_what_synchronous_and_local_sgd_share(tmp_path: Path) -> None:
    runs = [
        lin_entry(tmp_path / "local", period=4, learners=1),
        lin_entry(tmp_path / "sync", "sync_sgd", rate=0.4),
        lin_entry(tmp_path / "small", config={"data": {"name": "synthetic", "train_fraction": 0.1}}),
        lin_entry(tmp_path / "old", config={"data": {"name": "synthetic"}}),
        lin_entry(tmp_path / "alone", "sync_sgd", config={"epochs": 9}),
        lin_entry(tmp_path / "sma", "sma"),
    ]
    found = {name: [item.name for item in own] for name, own in find_workloads(runs).items()}
    # Runs of synchronous SGD alone, and of a central model, are no workload of it.
    assert list(found.values()) == [["local", "sync"], ["small"], ["old"]]
    assert list(found)[:2] == [f"fully_connected on synthetic, data.train_fraction: {part}" for part in (1.0, 0.1)]
    assert [item.name for own in find_workloads(runs[4:]).values() for item in own] == ["alone"]
    assert find_workloads(runs[5:]) == {}


def test_a_wire_is_a_fact_of_a_run_and_a_log_without_one_sent_all_bits(tmp_path: Path) -> None:
    plain = {"allreduce": "mpi"}
    whole = {**plain, "wire": "full", "gradient_wire": "full", "top_k_density": 0.01}
    sections = (
        plain,
        whole,
        {**whole, "wire": "ef_sign"},
        {**whole, "wire": "top_k"},
        {**whole, "gradient_wire": "bfloat16"},
    )
    runs = [lin_entry(tmp_path / str(place), config={"comm": own}) for place, own in enumerate(sections)]
    texts = ["full", "full", "ef_sign", "top_k, top_k_density 0.01", "full, gradient_wire bfloat16"]
    assert [wire(item.run.config) for item in runs] == texts
    assert same_setting(runs[0]) == same_setting(runs[1])
    assert len({same_setting(item) for item in runs}) == 4


def test_schedules_of_any_kind_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    power = {"period_schedule": {**CONSTANT["period_schedule"], "kind": "power"}}
    runs = [lin_entry(tmp_path / "s0", own={"outer_step": None}), lin_entry(tmp_path / "s1", own=power)]
    outer = lin_entry(tmp_path / "outer", own={"outer_step": "nesterov"})
    assert find_variants(runs) == {"s0": "kind constant", "s1": "kind power"}
    assert find_variants([*runs, outer])["outer"] == "outer_step nesterov, kind constant"


@pytest.mark.parametrize(
    ("arguments", "count", "gaps", "first"),
    [
        ({"algorithm": "sync_sgd"}, 96, [1] * 96, 96),
        ({"algorithm": "local_sgd", "period": 20}, 4, [20] * 4, 0),
        ({"algorithm": "post_local_sgd", "period": 32, "start": 2}, 34, [1] * 32 + [32] * 2, 32),
        # Averagings of blocks are rounds too, but no averaging of all.
        ({"algorithm": "hierarchical_local_sgd", "period": 8, "block_period": 3}, 12, [24] * 4, 0),
    ],
)
def test_periods_as_run(tmp_path: Path, arguments: dict[str, object], count: int, gaps: list[int], first: int) -> None:
    item = lin_entry(tmp_path / "run", **arguments)  # 96 steps
    assert len(synchronisations(item)) == count
    assert periods(item)["period"].tolist() == gaps
    assert first_local_step(item) == first
