"""What is reduced block by block is what pandas makes of the table of all rows: ranks are lost, blocks cut anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpcsgd.record import columns, frames, reduce
from hpcsgd.record.reader import Run, load_run
from hpcsgd.record.schema import ACTIONS, NOT_TRAINING, RANK_COLUMNS, SPANS
from tests.single.analysis.fake_runs import FakeRun

STEPS, RANKS = 23, 6
LOST_FROM = 9


class WithLoss(FakeRun):
    """Rank 4 is lost on the way."""

    def _per_rank(self) -> dict[str, np.ndarray]:
        found = super()._per_rank()
        for column in RANK_COLUMNS:
            values = found[column.name] = found[column.name].copy()
            values[LOST_FROM:, 4] = np.nan if column.dtype == "f8" else 0
        return found


@pytest.fixture(params=["at once", "in blocks"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Random spans, every kind of synchronisation; read at once, or in blocks of 5 rows."""
    rng = np.random.default_rng(0)
    spans = {column.name: rng.random((STEPS, RANKS)) for column in SPANS}
    actions = [ACTIONS[number] for number in rng.integers(0, len(ACTIONS), STEPS)]
    made = WithLoss(spans, actions, blocks=[0, 0, 0, 1, 1, 1], resumed=[LOST_FROM]).write(tmp_path / "run")
    if request.param == "in blocks":
        monkeypatch.setattr(columns, "HELD_BYTES", -1)
        real = columns.Columns.blocks
        monkeypatch.setattr(columns.Columns, "blocks", lambda self, names, rows=slice(None): real(self, names, rows, 1))
    found = load_run(made)
    object.__setattr__(found.columns, "chunk_rows", 5)
    return found


def test_numbers_of_a_step(run: Run) -> None:
    steps, frame = run.per_step, run.iterations
    of_step = frame.groupby("step")
    seconds = frames.training_seconds(frame).groupby(frame["step"])
    assert steps["num_ranks"].tolist() == of_step.size().tolist() == [6] * LOST_FROM + [5] * (STEPS - LOST_FROM)
    np.testing.assert_allclose(steps["slowest_seconds"], seconds.max(), rtol=1e-14)
    np.testing.assert_allclose(steps["mean_seconds"], seconds.mean(), rtol=1e-14)
    np.testing.assert_allclose(steps["mean_samples"], of_step["num_samples"].mean(), rtol=1e-14)
    assert steps["is_finite"].all() and steps["action"].tolist() == of_step["action"].first().tolist()
    assert reduce.logged_labels(run.columns, steps).tolist() == [*range(6)]
    assert reduce.logged_labels(run.columns, steps.iloc[LOST_FROM:]).tolist() == [0, 1, 2, 3, 5]


def test_sums_of_groups_and_the_clock_are_those_of_the_slowest_rank(run: Run) -> None:
    group = np.array([-1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, -1, -1, 3, 3, 4, 5, 5, 5, 5])
    frame = run.iterations
    seconds, of = frames.training_seconds(frame), pd.Series(group)[frame["step"]].to_numpy()
    sums = seconds.groupby([of, frame["rank"]]).sum().groupby(level=0).max()
    np.testing.assert_allclose(reduce.slowest_sums(run.columns, group), sums.loc[0:], rtol=1e-14)
    clock = seconds.groupby([frame["step"], frame["rank"]]).sum().unstack().cumsum().max(axis=1)
    np.testing.assert_allclose(reduce.slowest_clock(run.columns), clock, rtol=1e-14)


def test_waits_are_those_of_the_long_table(run: Run) -> None:
    expected = frames.wait_and_transfer(run.iterations, run.ranks)
    found = list(reduce.synchronisations(run.columns, run.ranks))
    steps = np.concatenate([calls.rows for calls in found])
    assert steps.tolist() == expected["step"].unique().tolist()
    for name in ("sync_seconds", "wait_seconds", "transfer_seconds"):
        values = np.concatenate([getattr(calls, name) for calls in found])
        np.testing.assert_allclose(values[~np.isnan(values)], expected[name], rtol=1e-14)
    kept = np.arange(STEPS) >= 7
    later = np.concatenate([calls.rows for calls in reduce.synchronisations(run.columns, run.ranks, kept)])
    assert later.tolist() == [step for step in steps.tolist() if step >= 7]


def test_a_column_of_some_steps_and_ranks(run: Run) -> None:
    steps, places = run.per_step.iloc[6:14], np.array([1, 4])
    whole = reduce.gathered(run.columns, "train_seconds", steps)
    np.testing.assert_array_equal(reduce.gathered(run.columns, "train_seconds", steps, places), whole[:, places])
    assert np.isnan(whole[:, 4]).tolist() == [False] * 3 + [True] * 5
    np.testing.assert_array_equal(reduce.gathered(run.columns, "loss", steps), run.columns.column("loss", slice(6, 14)))


def test_the_median_stands_for_the_mean_in_a_log_of_statistics(tmp_path: Path) -> None:
    spans = {column.name: np.arange(1.0, 13.0).reshape(4, 3) for column in SPANS}
    run = load_run(FakeRun(spans, ["gradient"] * 4, labels="summary").write(tmp_path / "run"))
    frame = run.iterations
    top, middle = (frame[frame["statistic"] == name].reset_index() for name in ("max", "median"))
    expected = top["wall_seconds"] - top[list(NOT_TRAINING)].sum(axis=1)
    np.testing.assert_allclose(run.per_step["slowest_seconds"], expected)
    np.testing.assert_allclose(run.per_step["mean_seconds"], frames.training_seconds(middle))
    assert run.per_step["mean_samples"].tolist() == middle["num_samples"].tolist()
