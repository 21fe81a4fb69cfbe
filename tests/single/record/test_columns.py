"""Columns that are read in blocks say what the table of all rows says, also while the log grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from hpcsgd.errors import UsageError
from hpcsgd.record import columns
from hpcsgd.record.columns import PER_RANK, PER_STEP
from hpcsgd.record.reader import Run, load_run
from hpcsgd.record.schema import ITERATION_COLUMNS, RANK_COLUMNS
from tests.single.record import log_samples
from tests.single.record.log_files import old_log

NAMES = [column.name for column in ITERATION_COLUMNS + RANK_COLUMNS]
STEPS, RANKS = 2500, 3


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of three chunks a column."""
    path = tmp_path_factory.mktemp("columns") / "run.h5"
    with log_samples.make_writer(path, RANKS) as writer:
        writer.append_iterations(*log_samples.iterations(0, STEPS, RANKS))
    return path


@pytest.fixture(autouse=True)
def no_log_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No column of the ranks is kept in memory."""
    monkeypatch.setattr(columns, "HELD_BYTES", -1)
    monkeypatch.setattr(columns, "PAUSE_SECONDS", 0.0)


def check(run: Run, names: list[str], rows: slice, num_bytes: int) -> int:
    """The blocks of some rows follow one another and are what was written; gives how many there are."""
    blocks = list(run.columns.blocks(names, rows, num_bytes))
    _, shared, per_rank = log_samples.iterations(0, STEPS, RANKS)
    expected = {**shared, **per_rank}
    assert [part.start for part, _ in blocks] == [rows.start, *(part.stop for part, _ in blocks[:-1])]
    for part, found in blocks:
        assert list(found) == names
        for name in names:
            np.testing.assert_array_equal(found[name], expected[name][part], err_msg=name)
    assert blocks[-1][0].stop == rows.stop
    return len(blocks)


def test_blocks_are_the_columns_cut_where_chunks_end(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run(log)
    assert not PER_RANK & set(run.columns.held) and run.columns.shape == (STEPS, RANKS)
    chunk = run.columns.chunk_rows
    assert 1 < chunk < STEPS
    assert check(run, NAMES, slice(0, STEPS), 1) == -(-STEPS // chunk)
    assert check(run, ["loss", "action"], slice(5, STEPS - 5), 2 * chunk * 8 * (RANKS + 1)) == -(-STEPS // chunk // 2)
    assert check(run, ["loss"], slice(0, STEPS), columns.BLOCK_BYTES) == 1
    assert list(run.columns.blocks(["loss"], slice(9, 9))) == []
    monkeypatch.setattr(columns, "HELD_BYTES", 2**30)
    small = load_run(log)
    assert PER_RANK <= set(small.columns.held)
    assert check(small, NAMES, slice(0, STEPS), 1) == -(-STEPS // chunk)
    pd.testing.assert_frame_equal(run.iterations, small.iterations, check_exact=True)


def test_rows_are_asked_for_by_place(log: Path) -> None:
    found = load_run(log).columns
    assert found.column("loss", slice(3, 5)).shape == (2, RANKS) and found.column("epoch", slice(-2, None)).shape == (
        2,
    )
    np.testing.assert_array_equal(found.column("loss")[3:5], found.column("loss", slice(3, 5)))
    assert found.labels.tolist() == [0, 1, 2] and found.steps.tolist() == [*range(STEPS)]
    assert PER_RANK | PER_STEP == set(NAMES)
    with pytest.raises(AssertionError):
        found.column("lost")


def test_a_column_that_a_version_does_not_have_is_nan(tmp_path: Path) -> None:
    run = load_run(old_log(2, tmp_path))
    (_, found), *rest = run.columns.blocks(["loss", "divergence", "hidden_seconds"], slice(2, 6))
    assert not rest and np.isfinite(found["loss"]).all()
    assert found["divergence"].shape == (4,) and found["hidden_seconds"].shape == (4, 2)
    assert np.isnan(found["divergence"]).all() and np.isnan(found["hidden_seconds"]).all()


def test_a_log_that_grows_meanwhile_keeps_the_rows_that_it_had(tmp_path: Path) -> None:
    with log_samples.make_writer(tmp_path / "run.h5") as writer:
        writer.append_iterations(*log_samples.iterations(0, 40, 2))
        run = load_run(tmp_path)
        blocks = []
        for rows, found in run.columns.blocks(["loss"], num_bytes=1):
            writer.append_iterations(*log_samples.iterations(40 + rows.start, 1, 2))
            blocks.append(found["loss"])
        np.testing.assert_array_equal(np.concatenate(blocks), log_samples.iterations(0, 40, 2)[2]["loss"])
        assert load_run(tmp_path).columns.shape[0] > 40


def test_a_read_that_fails_is_tried_again(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = columns.read_columns, [OSError("addr overflow"), KeyError("loss")]

    def read(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*arguments)

    found = load_run(log).columns
    monkeypatch.setattr(columns, "read_columns", read)
    assert found.column("loss").shape == (STEPS, RANKS) and not failures


def test_a_log_that_was_begun_anew_or_is_gone_is_told(tmp_path: Path) -> None:
    with log_samples.make_writer(tmp_path / "run.h5") as writer:
        writer.append_iterations(*log_samples.iterations(0, 9, 2))
    found = load_run(tmp_path).columns
    with log_samples.make_writer(tmp_path / "run.h5") as writer:
        writer.append_iterations(*log_samples.iterations(5, 6, 2))
    for rows in (slice(0, 6), slice(0, 9)):
        with pytest.raises(UsageError, match=r"run\.h5: .* other rows than when it was opened"):
            found.column("loss", rows)
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        del file["iterations"]
    with pytest.raises(UsageError, match=r"run\.h5: cannot be read as a run log"):
        found.column("loss")
