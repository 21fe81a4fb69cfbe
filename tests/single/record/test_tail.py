"""The end of a log, against values worked by hand, and that no more than the end is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hpcsgd.errors import UsageError
from hpcsgd.record.tail import NUM_ROWS, Follower, Tail
from tests.single.analysis.fake_runs import FakeRun, constant
from tests.single.record import log_samples
from tests.single.record.log_files import old_log

STEPS, RANKS = 250, 4
SPANS = {
    "forward_seconds": constant(0.1, STEPS, RANKS) * [1, 1, 1.5, 1],
    "gradient_allreduce_seconds": constant(0.1, STEPS, RANKS) * [1, 1, 0.5, 1],
    "evaluation_seconds": np.where(np.arange(STEPS) == STEPS - 1, 5.0, 0.0)[:, None] + np.zeros(RANKS),
}
PROVENANCE = {"total_steps": 500, "steps_per_epoch": 125, "learners_per_rank": 1}


def fake(**changes: Any) -> FakeRun:
    facts: dict[str, Any] = {"loss": np.linspace(2.0, 1.0, STEPS), "status": "running", "steps_per_epoch": 125}
    return FakeRun(SPANS, ["gradient"] * STEPS, provenance=PROVENANCE, accuracies=(0.5, 0.75), **(facts | changes))


def tail_of(directory: Path) -> Tail:
    tail = Follower(directory / "run.h5").look()
    assert tail is not None
    return tail


def test_the_end_says_how_a_run_goes_on(tmp_path: Path) -> None:
    tail = tail_of(fake().write(tmp_path / "run"))
    assert (tail.status, tail.num_ranks, tail.num_steps, tail.total_steps) == ("running", RANKS, 250, 500)
    assert (tail.epochs, tail.metric) == (2.0, "test accuracy 75.00 %")
    assert tail.samples_per_second == pytest.approx(RANKS * 32 / 0.2)
    assert tail.loss == 1.0
    assert tail.exposed_fraction == pytest.approx((3 * 0.5 + 0.25) / 4)
    assert tail.slowest_rank == 2 and tail.slowest_excess == pytest.approx(0.5)
    # The evaluation is a part of the pace.
    assert tail.seconds_left == pytest.approx(250 * (250 * 0.2 + 5.0) / 250)
    assert tail.flush_seconds == pytest.approx(100 * 0.22)
    assert tail.written == (tmp_path / "run" / "run.h5").stat().st_mtime


def test_a_log_of_statistics_has_no_slowest_rank(tmp_path: Path) -> None:
    tail = tail_of(fake(labels="summary").write(tmp_path / "run"))
    assert tail.slowest_rank is None
    assert tail.samples_per_second == pytest.approx(RANKS * 32 / 0.2)
    assert tail.exposed_fraction == pytest.approx(0.5)


def test_the_pace_is_that_of_the_present_segment(tmp_path: Path) -> None:
    slow = {"forward_seconds": np.where(np.arange(STEPS) < 200, 1.0, 0.1)[:, None] + np.zeros(RANKS)}
    run = FakeRun(slow, ["gradient"] * STEPS, provenance=PROVENANCE, resumed=(200,))
    assert tail_of(run.write(tmp_path / "run")).seconds_left == pytest.approx(250 * 0.1)
    begun = FakeRun(slow, ["gradient"] * STEPS, provenance=PROVENANCE, resumed=(STEPS,))
    assert tail_of(begun.write(tmp_path / "begun")).seconds_left is None


def test_a_loop_that_is_only_timed_has_no_loss_and_no_end(tmp_path: Path) -> None:
    run = FakeRun(SPANS, ["none"] * STEPS, loss=np.full(STEPS, math.nan), provenance={})
    tail = tail_of(run.write(tmp_path / "run"))
    assert math.isnan(tail.loss) and tail.seconds_left is None and tail.epochs is None


def test_nothing_is_read_but_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follower = Follower(fake().write(tmp_path / "run") / "run.h5")
    read = []
    plain = h5py.Dataset.__getitem__

    def counted(self: h5py.Dataset, args: Any, *rest: Any) -> Any:
        found = plain(self, args, *rest)
        read.append(np.size(found))
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    follower.look()
    assert max(read) <= max(NUM_ROWS * RANKS, 1024)
    read.clear()
    # It was not written since.
    follower.look()
    assert read == []


def test_a_log_that_is_being_written_grows_and_one_that_takes_its_place_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "run.h5"
    follower = Follower(file)
    assert follower.look() is None
    with log_samples.make_writer(file) as writer:
        empty = follower.look()
        assert empty is not None and empty.num_steps == 0 and math.isnan(empty.loss)
        for first in (0, 5):
            writer.append_iterations(*log_samples.iterations(first, 5, 2))
            grown = follower.look()
            assert grown is not None and grown.num_steps == first + 5
    file.unlink()
    assert follower.look() is None
    fake().write(tmp_path / "other")
    (tmp_path / "other" / "run.h5").rename(file)
    again = follower.look()
    assert again is not None and again.num_steps == STEPS


def test_rows_without_a_step_do_not_count(tmp_path: Path) -> None:
    """As a writer leaves them that was killed amid a flush."""
    file = fake().write(tmp_path / "run") / "run.h5"
    with h5py.File(file, "r+") as log:
        log["iterations/step"][200:] = -1
    tail = tail_of(file.parent)
    assert tail.num_steps == 200


def test_a_log_of_an_older_version_is_looked_at_too(tmp_path: Path) -> None:
    tail = tail_of(old_log(2, tmp_path))
    assert tail.num_steps == 18 and tail.samples_per_second > 0 and not math.isnan(tail.loss)


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.h5"
    with h5py.File(file, "w") as log:
        log.create_group("iterations")["step"] = [0]
    with pytest.raises(UsageError, match="not a run log of hpcsgd"):
        Follower(file).look()
