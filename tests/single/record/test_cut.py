"""A log that is gone on with: the rows before the checkpoint, of today's log and of older ones."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from hpcsgd.errors import UsageError
from hpcsgd.record import load_run
from hpcsgd.record.cut import continue_log
from hpcsgd.record.schema import TABLES
from hpcsgd.record.writer import RunLogWriter
from tests.single.record import log_samples
from tests.single.record.log_files import old_log

AT_STEP_12 = {"iterations": 12, "epochs": 2, "evaluations": 4, "segments": 1, "ranks": 2, "tuner": 0}
"""What a checkpoint of the kept log's run counted: an evaluation of a split was one row then."""


def go_on(directory: Path, num_rows: dict[str, int]) -> RunLogWriter:
    return continue_log(
        directory / "run.h5",
        num_rows,
        ranks=log_samples.table_rows("ranks", 0, 2),
        rank_labels=[0, 1],
        rank_axis="rank",
        provenance=log_samples.PROVENANCE,
    )


def test_a_log_of_version_2_is_gone_on_with_as_one_of_today(tmp_path: Path) -> None:
    old = load_run(old_log(2, tmp_path))
    with go_on(tmp_path, AT_STEP_12) as writer:
        assert writer.num_rows["evaluations"] == 8
        writer.append_evaluations([dict.fromkeys(c.name for c in TABLES["evaluations"]) | NEW])
    new = load_run(tmp_path)
    pd.testing.assert_frame_equal(new.iterations, old.iterations[old.iterations["step"] < 12])
    pd.testing.assert_frame_equal(new.evaluations[:8], old.evaluations[:8])
    assert new.evaluations["metric"].iloc[8] == "iou"
    pd.testing.assert_frame_equal(new.epochs, old.epochs[:2])
    assert len(new.segments) == 1


def test_a_crash_after_that_loses_no_evaluation(tmp_path: Path) -> None:
    """The checkpoint still counts rows as the old log had them."""
    old_log(2, tmp_path)
    go_on(tmp_path, AT_STEP_12).close()
    go_on(tmp_path, AT_STEP_12).close()
    run = load_run(tmp_path)
    assert run.evaluations["step"].tolist() == [6] * 4 + [12] * 4


def test_a_log_that_lost_rows_is_refused(tmp_path: Path) -> None:
    old_log(2, tmp_path)
    with pytest.raises(UsageError, match=r"evaluations/\w+ has lost rows: it has 6 of the checkpoint's 7"):
        go_on(tmp_path, AT_STEP_12 | {"evaluations": 7})


NEW = {
    "step": 18,
    "epoch_fraction": 3.0,
    "split": "test",
    "metric": "iou",
    "value": 0.5,
    "num_samples": 37,
    "train_seconds": 1.0,
    "sync_bytes": 1,
}
